"""Faces of frames on a GPU: the same as of frames in host memory, by twins of the kernels here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine import Batch, CapsError, DeviceError
from engine.testing import HarnessContext
from operators.face import on_device as module
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.on_device import LARGEST_BATCH, DeviceBlaze
from operators.face.records import Face, Unsearched
from operators.kernels.planes import Fit, planes_twin
from tests.operators.faces import astronaut, crowd_of, overlap, picture
from tests.operators.pretended import eager, on_device, pretended_gpu


def twin_kernel(fit: Fit, device: int) -> Any:
    """The kernel's twin, on tensors."""
    assert device == 0

    def run(frame: torch.Tensor, made: torch.Tensor, stream: int) -> None:
        assert stream == 7
        made.copy_(torch.from_numpy(planes_twin(frame.numpy(), fit)))

    return run


def nv12(frame: Any) -> Any:
    """The same picture with its chroma side by side."""
    from msgspec.structs import replace

    height = frame.caps.height
    planes = frame.data[height:].reshape(2, -1)
    chroma = np.ascontiguousarray(planes.T).reshape(frame.data[height:].shape)
    return frame.with_data(
        np.concatenate([frame.data[:height], chroma]), replace(frame.caps, pix_fmt="nv12")
    )


def detector(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> FaceDetect:
    """A node on a pretended GPU, open."""
    monkeypatch.setattr(module, "PlanesKernel", twin_kernel)
    monkeypatch.setattr(module, "compiled_for", eager)
    ctx = HarnessContext()
    ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    operator = FaceDetect(FaceDetectConfig(**settings))
    operator.open(ctx)
    return operator


def on_cpu(frame: Any, **settings: Any) -> list[Face]:
    operator = FaceDetect(FaceDetectConfig(**settings))
    operator.open(HarnessContext())
    (made,) = operator.process(Batch((frame,))).frames
    return made.of(Face)


@pytest.mark.parametrize("model", ["short", "full", "back"])
@pytest.mark.parametrize("layout", ["yuv420p", "nv12"])
def test_the_same_faces_are_found(model: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = picture(astronaut(), "yuv420p")
    (wanted,) = on_cpu(frame, model=model)
    given = on_device(nv12(frame) if layout == "nv12" else frame)
    (made,) = detector(monkeypatch, model=model).process(Batch((given,))).frames
    (found,) = made.of(Face)
    assert overlap(found.box, wanted.box) > 0.97
    assert abs(found.score - wanted.score) < 0.02
    assert np.abs(np.subtract(found.points, wanted.points)).max() < 2.0
    assert made.data is given.data, "the pixels stay where they are"


def test_a_batch_beyond_the_largest_goes_in_parts_and_sizes_may_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = picture(astronaut(), "yuv420p"), picture(crowd_of(2), "yuv420p")
    frames = [on_device(two if n % 3 == 0 else one) for n in range(LARGEST_BATCH + 2)]
    made = detector(monkeypatch, model="full").process(Batch(tuple(frames)))
    counts = [len(frame.of(Face)) for frame in made.frames]
    assert counts == [2 if n % 3 == 0 else 1 for n in range(LARGEST_BATCH + 2)]


def test_frames_that_are_passed_over_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = detector(monkeypatch, every_n=2)
    frames = [on_device(picture(astronaut(), "yuv420p", seq=n)) for n in range(4)]
    made = operator.process(Batch(tuple(frames))).frames
    assert [len(frame.of(Unsearched)) for frame in made] == [0, 1, 0, 1]
    assert [len(frame.of(Face)) for frame in made] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("settings", "told"), [({"model": "crowd"}, "model crowd"), ({"runtime": "native"}, "native")]
)
def test_what_knows_the_processor_only_is_refused_there(
    settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=f"{told} runs on the CPU only; cuda:0 was asked for"):
        detector(monkeypatch, **settings)


def test_a_frame_in_host_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = detector(monkeypatch)
    with pytest.raises(CapsError, match="host memory"):
        operator.process(Batch((picture(astronaut(), "yuv420p"),)))


def test_other_layouts_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = detector(monkeypatch)
    with pytest.raises(ValueError, match="frames of rgb24; yuv420p and nv12 can be read"):
        operator.process(Batch((on_device(picture(astronaut())),)))


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_gpu_finds_what_the_processor_finds() -> None:
    from engine.device.opening import Devices
    from engine.device.staging import StagingRing

    frame = picture(astronaut(), "yuv420p")
    (wanted,) = on_cpu(frame)
    with Devices().scope("cuda:0", 0) as scope:
        finder = scope.call(lambda: DeviceBlaze("full", scope, compiled=_eager), [])
        data = StagingRing(scope.device).upload(frame.data, scope.stream)
        given = frame.with_data(data)
        (found,) = scope.call(lambda: finder([given], 0.5, 0.3), [given])
    assert len(found.scores) == 1
    assert overlap(tuple(found.boxes[0]), wanted.box) > 0.97


def _eager(network: Any, device: str) -> Any:
    net = network.module.to(device)
    return lambda pictures: net(pictures)
