"""Networks are used only when they are the ones that were shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine import OperatorError
from engine.testing import run_operator
from operators.face import weights
from operators.face.detect import FaceDetect, FaceDetectConfig


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights, "files", lambda _: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(weights.SHA256))
def test_every_network_ships_and_is_itself(name: str) -> None:
    content = weights.load_weights(name)
    assert hashlib.sha256(content).hexdigest() == weights.SHA256[name]


def test_every_network_is_in_the_table_of_origins() -> None:
    folder = Path(weights.__file__).parent
    table = (folder / "README.md").read_text(encoding="utf-8")
    shipped = {path.name for path in folder.iterdir() if path.suffix in {".tflite", ".onnx"}}
    assert shipped == set(weights.SHA256)
    assert [name for name in shipped if f"| `{name}` |" not in table] == []


def test_a_changed_network_is_refused(elsewhere: Path) -> None:
    good = Path(weights.__file__).parent / "blazeface_full_range.tflite"
    bad = bytearray(good.read_bytes())
    bad[-1] ^= 1
    (elsewhere / good.name).write_bytes(bad)
    with pytest.raises(OperatorError, match=r"blazeface_full_range\.tflite has sha256") as caught:
        run_operator(FaceDetect(FaceDetectConfig(model="full")))
    assert caught.value.code == "WEIGHTS_CORRUPT"
    assert caught.value.permanent


def test_a_missing_network_is_told(elsewhere: Path) -> None:
    with pytest.raises(OperatorError, match="missing") as caught:
        weights.load_weights("blazeface_back.tflite")
    assert caught.value.code == "WEIGHTS_MISSING"
