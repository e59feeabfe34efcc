"""Decoding where the node is: on the CPU as ever, on a GPU with frames that stay there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine.agreement import resolve_caps
from engine.check import check
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.device.simulated import SimulatedDevice
from engine.draft import draft_nodes
from engine.errors import GraphError, OperatorError
from engine.loader import load_graph
from engine.spec import GraphSpec, NodeSpec
from engine.testing import HarnessContext, run_operator
from operators.sources import _cuda
from operators.sources._av import FrameCopier
from operators.sources._cuda import CudaCopier, accelerator, copier_for
from operators.sources.file import FileSource, FileSourceConfig
from tests.conftest import cuda_device_count
from tests.operators.media import write_clip

FILE = "operators.sources.file:FileSource"


def on_gpu() -> HarnessContext:
    device = SimulatedDevice()
    ctx = HarnessContext()
    ctx.device, ctx.gpu = "cuda:0", DeviceScope(device, device.stream(0))
    return ctx


def test_on_the_processor_nothing_is_accelerated() -> None:
    ctx = HarnessContext()
    assert accelerator(ctx) is None
    assert isinstance(copier_for(ctx, "clip"), FrameCopier)


def test_on_a_gpu_there_is_no_way_back_to_the_processor() -> None:
    chosen = accelerator(on_gpu())
    assert chosen.is_hw_owned
    assert not chosen.allow_software_fallback
    assert isinstance(copier_for(on_gpu(), "clip"), CudaCopier)


def test_what_doctor_tries_is_a_clip_that_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no accelerator it goes through; with one, only where there is such a GPU."""
    if cuda_device_count() == 0:
        with pytest.raises((RuntimeError, OSError)):
            _cuda.try_out("cuda:0")
    monkeypatch.setattr(_cuda, "_on", lambda device: None)
    _cuda.try_out("cuda:0")


@pytest.mark.parametrize(
    ("layout", "told"),
    [(None, "yuv420p in host memory"), ("p010le", "p010le on the device")],
)
def test_frames_that_are_not_what_the_gpu_promised_are_refused(
    layout: str | None, told: str
) -> None:
    frame: Any = SimpleNamespace(
        sw_format=layout and SimpleNamespace(name=layout), format=SimpleNamespace(name="yuv420p")
    )
    with pytest.raises(OperatorError, match=f"clip: the GPU's decoder gives {told}") as caught:
        copier_for(on_gpu(), "clip").copy(frame)
    assert caught.value.code == "CODEC_UNSUPPORTED"


@pytest.mark.parametrize(
    ("device", "caps"), [("cpu", ("yuv420p", "cpu")), ("cuda:1", ("nv12", "cuda:1"))]
)
def test_check_knows_what_comes_out_where(device: str, caps: tuple[str, str]) -> None:
    spec = GraphSpec(
        graph="g", nodes={"camera": NodeSpec(op=FILE, config={"uri": "a.mp4"}, device=device)}
    )
    nodes = draft_nodes(spec, problems := [])
    assert problems == []
    found = resolve_caps(["camera"], nodes, [])["camera", "frames"]
    assert (found.pix_fmt, found.device or "cpu") == caps


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_gpu_decodes_what_the_processor_decodes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", size=(256, 160), noise=True)
    config = FileSourceConfig(uri=str(clip), audio=False)
    here = [media.frames for media in run_operator(FileSource(config))]
    with Devices().scope("cuda:0", 0) as scope:
        ctx = HarnessContext()
        ctx.device, ctx.gpu = "cuda:0", scope
        with scope.stream.use():
            there = [media.frames for media in run_operator(FileSource(config), ctx=ctx)]
            scope.device.synchronize()
            assert len(there) == len(here)
            for one, other in zip(here, there, strict=True):
                assert (other.caps.pix_fmt, other.caps.device) == ("nv12", "cuda:0")
                assert one.stamp.pts == other.stamp.pts
                height = one.caps.height or 0
                nv12 = other.data.cpu().numpy()
                planar = nv12[height:].reshape(height // 2, -1, 2).transpose(2, 0, 1)
                assert np.array_equal(nv12[:height], one.data[:height])
                assert np.array_equal(planar.reshape(height // 2, -1), one.data[height:])


ON_GPU = {"camera", "detect", "encode", "overlay", "video", "page"}


@pytest.mark.parametrize("left_behind", [None, *sorted(ON_GPU - {"camera"})])
def test_guards_pictures_stay_on_the_gpu_from_decoder_to_encoder(left_behind: str | None) -> None:
    spec = load_graph("guard")
    nodes = {
        name: replace(node, device="cuda:0") if name in ON_GPU - {left_behind} else node
        for name, node in spec.nodes.items()
    }
    spec = replace(spec, nodes=nodes)
    if left_behind is None:
        plan = check(spec)
        assert {name for name, node in plan.nodes.items() if node.device == "cuda:0"} == ON_GPU
    else:
        with pytest.raises(GraphError, match=f"{left_behind}\n.*put ToDevice or ToHost between"):
            check(spec)
