"""Which engine computes the image tower: what was asked, what was built before, else torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine import Batch, DeviceError
from engine.device.compile import compile_chosen, compile_module
from engine.testing import HarnessContext
from operators.face.encode import FaceEncode, FaceEncodeConfig, load_vlm
from operators.face.network import LARGEST_BATCH, tower_network
from tests.operators.faces import astronaut, picture, track
from tests.operators.models import random_compact


@pytest.fixture(autouse=True)
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No engines but those that a test builds."""
    monkeypatch.setenv("FRAMELOOM_ENGINES", str(tmp_path / "engines"))
    return tmp_path / "engines"


def features(engine: str, faces: int = 3) -> tuple[np.ndarray[Any, Any], list[tuple[str, str]]]:
    """What a node gives for some faces, and what it reported."""
    ctx = HarnessContext()
    config = FaceEncodeConfig(checkpoint=str(random_compact()), max_faces=32, engine=engine)  # type: ignore[arg-type]
    operator = FaceEncode(config)
    operator.open(ctx)
    tracks = [track(n, 225.0 + n % 5, 130.0 + n // 5, 110.0) for n in range(faces)]
    frame = picture(astronaut(), "yuv420p").with_records(*tracks)
    (made,) = operator.process(Batch((frame,))).frames
    return made.data.astype(np.float32), ctx.reports


def network() -> Any:
    return tower_network(load_vlm(str(random_compact()), HarnessContext()).image)


def test_nothing_built_is_torch_itself_and_takes_no_time(engines: Path) -> None:
    given, ((code, told),) = features("ready")
    assert code == "ENGINE", "what runs is always said"
    assert told.startswith("image tower by torch eager in fp32: no engine was built for this mach")
    assert not engines.exists()
    eager, said = features("eager")
    assert said == [("ENGINE", "image tower by torch eager in fp32")]
    assert np.array_equal(given, eager)


@pytest.mark.slow
def test_what_was_built_for_this_machine_is_taken(engines: Path) -> None:
    eager, _ = features("eager", LARGEST_BATCH + 3)
    chosen = network()
    options: dict[str, Any] = {"dynamic": chosen.dynamic}
    assert compile_chosen(chosen.module, chosen.example, **options) is None
    compiled = compile_module(chosen.module, chosen.example, **options)
    compiled.close()
    assert compile_chosen(chosen.module, chosen.example, **options) is not None
    given, told = features("ready", LARGEST_BATCH + 3)
    assert [code for code, _ in told] == ["ENGINE"]
    assert told[0][1].startswith(f"image tower by {compiled.report.backend} in fp32")
    assert np.abs(given - eager).max() < 5e-3 * np.abs(eager).max()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert compile_chosen(chosen.module, chosen.example, **options) is None, (
            "for as many threads only"
        )
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_by_name_is_taken_or_refused_never_another(engine: str) -> None:
    given, ((code, told),) = features(engine)
    assert (code, told) == ("ENGINE", f"image tower by {engine} in fp32")
    eager, _ = features("eager")
    assert np.abs(given - eager).max() < 5e-3 * np.abs(eager).max()


def test_the_shipped_tower_is_told_how_to_be_faster() -> None:
    ctx = HarnessContext()
    FaceEncode(FaceEncodeConfig()).open(ctx)
    ((_, told),) = ctx.reports
    assert told.endswith("`frameloom engines build compact-image-tower --threads 1` makes one")


def test_an_engine_that_cannot_be_had_is_the_nodes_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.device.backends import backend_named

    backend = type(backend_named("openvino"))
    monkeypatch.setattr(backend, "why_not", lambda *_: "it is not installed")
    with pytest.raises(DeviceError, match=r"openvino cannot be had .* it is not installed"):
        features("openvino")
