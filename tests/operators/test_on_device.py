"""Faces of frames on a GPU: the same as of frames in host memory, by twins of the kernels here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine import Batch, CapsError, DeviceError
from engine.testing import HarnessContext
from operators import engines as engine_of_node
from operators.face import on_device as module
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.encode import EncodedFace, FaceEncode, FaceEncodeConfig
from operators.face.on_device import LARGEST_BATCH, NETWORKS, DeviceBlaze
from operators.face.records import Face, Unsearched
from operators.kernels.crop import Squares, crop_twin
from operators.kernels.planes import Fit, planes_twin
from tests.operators.faces import (
    LEFT_EYE,
    RIGHT_EYE,
    astronaut,
    crowd_of,
    overlap,
    picture,
    track,
)
from tests.operators.models import random_compact
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
    monkeypatch.setattr(engine_of_node, "open_engine", eager)
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


def crop_kernel(squares: Squares, device: int) -> Any:
    def run(frame: torch.Tensor, matrices: Any, made: torch.Tensor, stream: int) -> None:
        made.copy_(torch.from_numpy(crop_twin(frame.numpy(), matrices, squares)))

    return run


def encoder(monkeypatch: pytest.MonkeyPatch, *, on_gpu: bool) -> FaceEncode:
    monkeypatch.setattr(module, "CropKernel", crop_kernel)
    if on_gpu:
        monkeypatch.setattr(engine_of_node, "open_engine", eager)
    ctx = HarnessContext()
    if on_gpu:
        ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    operator = FaceEncode(FaceEncodeConfig(checkpoint=str(random_compact()), max_faces=16))
    operator.open(ctx)
    return operator


def faces_on(frame: Any, count: int) -> Any:
    """Tracks of the astronaut's face, a little apart."""
    tracks = [
        track(n, *((RIGHT_EYE[0] + LEFT_EYE[0]) / 2 + n, 130.0 + n), 110.0) for n in range(count)
    ]
    return frame.with_records(*tracks)


def test_the_same_features_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = faces_on(picture(astronaut(), "yuv420p"), 11)
    (wanted,) = encoder(monkeypatch, on_gpu=False).process(Batch((frame,))).frames
    (found,) = encoder(monkeypatch, on_gpu=True).process(Batch((on_device(frame),))).frames
    assert found.of(EncodedFace) == wanted.of(EncodedFace)
    assert found.data.shape == wanted.data.shape
    assert len(found.data) == 11
    # Faces are cut out without rounding to whole levels in between; this model has random weights.
    off = np.abs(found.data.astype(np.float32) - wanted.data.astype(np.float32)).max()
    assert off < 0.08 * np.abs(wanted.data.astype(np.float32)).max()


def test_nothing_is_brought_over_from_the_host_but_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor made of numbers is a copy that the host waits for, on a GPU."""
    operator = encoder(monkeypatch, on_gpu=True)
    given = on_device(faces_on(picture(astronaut(), "yuv420p"), 2))
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("made in the hot path"))
    (made,) = operator.process(Batch((given,))).frames
    assert len(made.data) == 2


def test_grey_faces_have_no_features_there_either(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = picture(np.dstack([astronaut()[..., 1]] * 3), "yuv420p")
    both = [faces_on(grey, 2), faces_on(picture(astronaut(), "yuv420p", seq=1), 1)]
    operator = encoder(monkeypatch, on_gpu=True)
    made = operator.process(Batch(tuple(map(on_device, both)))).frames
    assert [face.reason for face in made[0].of(EncodedFace)] == ["NO_COLOUR"] * 2
    assert made[0].data.shape[0] == 0


def test_a_frame_without_faces_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = encoder(monkeypatch, on_gpu=True)
    (made,) = operator.process(Batch((on_device(picture(astronaut(), "yuv420p")),))).frames
    assert made.data.shape[0] == 0
    assert made.data.dtype == np.float16


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_gpu_finds_what_the_processor_finds() -> None:
    from engine.device.opening import Devices
    from engine.device.staging import StagingRing

    frame = picture(astronaut(), "yuv420p")
    (wanted,) = on_cpu(frame)
    with Devices().scope("cuda:0", 0) as scope:
        net = NETWORKS["full"]().module.to("cuda:0")
        finder = scope.call(lambda: DeviceBlaze("full", scope, net), [])
        data = StagingRing(scope.device).upload(frame.data, scope.stream)
        given = frame.with_data(data)
        (found,) = scope.call(lambda: finder([given], 0.5, 0.3), [given])
    assert len(found.scores) == 1
    assert overlap(tuple(found.boxes[0]), wanted.box) > 0.97
