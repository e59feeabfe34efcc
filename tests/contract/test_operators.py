"""What every operator has to do, asked of every operator that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine import Batch, Config, Frame, NoConfig, Operator, OperatorError
from engine.catalog import known_operators, module_names
from engine.contract import UNSEEN
from engine.testing import HarnessContext, run_operator
from operators.face.records import Landmarks
from tests.operators.faces import FACE_BOX, PIX_FMTS, astronaut, face, picture, track
from tests.operators.models import certain_head, random_ar_diffusion, random_compact

HEAVY = ("torch", "av", "onnxruntime", "zmq", "ai_edge_litert", "tensorflow", "scipy", "starlette")
OPERATORS = known_operators()
# Those that know nothing but a GPU are run on a simulated one: tests/runtime/test_lane_on_gpu.py.
ON_CPU = {name: kind for name, kind in OPERATORS.items() if "cpu" in kind.devices}
# What the configs that have required fields need; everything else is made from its defaults.
REQUIRED: dict[str, dict[str, Any]] = {
    "FileSource": {"uri": "there-is-no-such-file.mp4"},
    "RtspSource": {"url": "rtsp://127.0.0.1:9/nothing"},
    "ImageFolder": {"path": "there-is-no-such-folder"},
    "CameraSource": {"device": "/dev/there-is-no-such-camera"},
    "Resize": {"width": 320, "height": 200},
    "Convert": {"pix_fmt": "bgr24"},
    "ZmqPush": {"endpoint": "tcp://127.0.0.1:0"},
    "ZmqPull": {"endpoint": "tcp://127.0.0.1:9"},
}


class RefusedError(Exception):
    """What a context says when its patience is over."""


class ImpatientContext(HarnessContext):
    """Serves an operator a few times, then refuses."""

    def __init__(self, services: int, output: Path) -> None:
        super().__init__(output=output)
        self.left = services

    def enter(self, manager: Any) -> Any:
        self._serve()
        return super().enter(manager)

    def per_stream(self, make: Any) -> Any:
        self._serve()
        return super().per_stream(make)

    def output_path(self, path: str) -> Path:
        self._serve()
        return super().output_path(path)

    def _serve(self) -> None:
        if self.left == 0:
            raise RefusedError
        self.left -= 1


def closings(operator: Operator[Any]) -> list[bool]:
    """A list that gets an entry whenever the operator was closed without an error."""
    closed: list[bool] = []
    close = operator.close
    operator.close = lambda: closed.append(close() is None)  # type: ignore[method-assign]
    return closed


def config_of(operator: type[Operator[Any]]) -> Config:
    settings = REQUIRED.get(operator.__name__, {})
    if operator.__name__ == "FaceEncode":
        settings = {"checkpoint": str(random_compact())}
    if operator.__name__ == "AntiSpoof":
        settings = {"checkpoint": str(certain_head(1.0))}
    if operator.__name__ in ("Dream", "DreamOn"):
        settings = {"checkpoint": str(random_ar_diffusion())}
    if operator.__name__ == "Mask3d":
        settings = {"required": False, "checkpoint": "there-is-no-such-head.safetensors"}
    return msgspec.convert(settings, operator.config_type)


def made(name: str) -> Operator[Any]:
    return OPERATORS[name](config_of(OPERATORS[name]))


def carries_video(name: str) -> bool:
    """One video input, and an output that is like it."""
    ports = OPERATORS[name].inputs, OPERATORS[name].outputs
    if [list(port) for port in ports] != [["frames"], ["out"]]:
        return False
    return ports[0]["frames"].caps.media == "video" and ports[1]["out"].caps.like == "frames"


CONSUMERS = sorted(name for name, operator in ON_CPU.items() if operator.inputs)
CARRIERS = sorted(filter(carries_video, ON_CPU))
BLIND = sorted(name for name in CONSUMERS if ON_CPU[name].pixels == "ignored")
BATCHED = [name for name in CARRIERS if OPERATORS[name].inputs["frames"].arrival == "batch"]


def seen(pix_fmt: str, count: int = 3) -> list[Frame]:
    """Frames with a face in the picture and every record that speaks of one."""
    x, y = (FACE_BOX[0] + FACE_BOX[2]) / 2, (FACE_BOX[1] + FACE_BOX[3]) / 2
    mesh = Landmarks(0, 1.0, tuple((x + n % 20, y + n % 23, 0.0) for n in range(468)))
    records = (face(x, y, 110), track(1, x, y, 110), mesh)
    return [picture(astronaut(), pix_fmt, seq=n).with_records(*records) for n in range(count)]


def same_frames(first: list[Frame], second: list[Frame]) -> bool:
    return len(first) == len(second) and all(
        (a.caps, a.stamp, a.records) == (b.caps, b.stamp, b.records)
        and np.array_equal(a.data, b.data)
        for a, b in zip(first, second, strict=True)
    )


def test_the_groups_are_what_they_are_meant_to_be() -> None:
    assert "operators.video.overlay:Overlay" in CARRIERS
    assert "operators.video.redact:Redact" in CARRIERS
    assert "operators.face.detect:FaceDetect" in BATCHED
    assert "operators.face.align:FaceAlign" not in CARRIERS
    blind = {OPERATORS[name].__name__ for name in BLIND}
    assert {"NullSink", "FaceEvents", "JsonlSink", "SqliteSink"} <= blind
    assert not {"Mp4Sink", "Preview", "ImageFolderSink", "ZmqPush", "Mark"} & blind
    only_gpu = {kind.__name__ for name, kind in OPERATORS.items() if name not in ON_CPU}
    assert only_gpu == {"ToDevice", "ToHost"}
    assert set(REQUIRED) <= {operator.__name__ for operator in OPERATORS.values()}


def test_importing_an_operator_imports_nothing_heavy() -> None:
    """In a fresh interpreter, so that what other tests imported does not hide anything."""
    code = (
        "import importlib, json, sys\n"
        "names, heavy = json.loads(sys.argv[1])\n"
        "culprits = []\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "    culprits += [(name, h) for h in heavy if sys.modules.pop(h, None)]\n"
        "print(json.dumps(culprits))\n"
    )
    names = json.dumps([sorted(module_names()), HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", code, names], capture_output=True, text=True, check=True, timeout=50
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", OPERATORS)
def test_the_config_can_be_made_and_written(name: str) -> None:
    config = config_of(OPERATORS[name])
    again = msgspec.convert(msgspec.to_builtins(config), type(config))
    assert again == config


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator_and_its_config_say_what_they_are_for(name: str) -> None:
    operator = OPERATORS[name]
    assert (operator.__doc__ or "").strip()
    assert operator.config_type is NoConfig or (operator.config_type.__doc__ or "").strip()


@pytest.mark.parametrize("name", OPERATORS)
def test_outputs_describe_themselves_from_the_config(name: str) -> None:
    operator = OPERATORS[name]
    for port, declared in operator.outputs.items():
        caps = operator.output_caps(config_of(operator), port)
        assert caps.media in {"video", "packet", "event", "features"}
        assert caps.like is None or caps.like in operator.inputs
        assert declared.caps.media == caps.media


@pytest.mark.parametrize("services", [0, 1])
@pytest.mark.parametrize("name", ON_CPU)
def test_an_open_that_fails_leaves_nothing_behind(name: str, services: int, tmp_path: Path) -> None:
    """No thread and no process (every test is checked for those), and nothing to close."""
    operator = made(name)
    closed = closings(operator)
    try:
        run_operator(operator, ctx=ImpatientContext(services, tmp_path), limit=0)
    except (RefusedError, OperatorError):
        opened = False
    else:
        opened = True
    assert closed == [True] * opened


@pytest.mark.parametrize("name", CONSUMERS)
def test_close_works_after_a_frame_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    operator = made(name)
    closed = closings(operator)
    good = picture(np.zeros((16, 16, 3), np.uint8))
    odd = good.with_data(good.data, msgspec.structs.replace(good.caps, pix_fmt="p010"))
    with suppress(ValueError, OperatorError):  # a CapsError is a ValueError
        run_operator(operator, {next(iter(operator.inputs)): [odd]}, output=tmp_path)
    assert closed == [True]


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
@pytest.mark.parametrize("name", CARRIERS)
def test_video_passes_with_its_stamps_and_read_only(name: str, pix_fmt: str) -> None:
    before = seen(pix_fmt)
    pixels = before[0].data.copy()
    after = run_operator(made(name), before)
    assert [frame.stamp for frame in after] == [frame.stamp for frame in before]
    for frame in after:
        assert not frame.data.flags.writeable
        assert frame.data.flags.c_contiguous
        assert (frame.caps.media, frame.caps.dtype, frame.caps.device) == ("video", "uint8", "cpu")
        assert (
            OPERATORS[name].output_caps(config_of(OPERATORS[name]), "out").mismatches(frame.caps)
            == []
        )
    assert np.array_equal(before[0].data, pixels)


class Unreadable:
    """Pixels that must not be looked at."""

    def __getattr__(self, name: str) -> Any:
        message = f"pixels were looked at: {name}"
        raise AssertionError(message)


@pytest.mark.parametrize("name", BLIND)
def test_who_ignores_pixels_looks_at_none_and_gives_them_on_untouched(
    name: str, tmp_path: Path
) -> None:
    operator = made(name)
    port = next(iter(operator.inputs))
    given = [frame.with_data(Unreadable()) for frame in seen("yuv420p")]
    after = run_operator(operator, {port: given}, output=tmp_path)
    pixels = [frame.data for frame in given]
    for frame in after:
        assert frame.caps.media in UNSEEN or any(frame.data is data for data in pixels)


@pytest.mark.parametrize("name", CARRIERS)
def test_the_same_frames_give_the_same_result(name: str) -> None:
    first, second = (run_operator(made(name), seen("yuv420p")) for _ in range(2))
    assert same_frames(first, second)


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_is_its_frames_one_by_one(name: str) -> None:
    frames = seen("yuv420p")
    single = run_operator(made(name), frames)
    operator, context = made(name), HarnessContext()
    with context.exits:
        operator.open(context)
        together = operator.process(Batch(tuple(frames)))
        operator.close()
    assert same_frames(list(together.frames), single)
