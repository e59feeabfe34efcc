"""`frameloom models`: what comes along, and what a checkpoint says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from engine.commands.console import CommandError
from engine.commands.models import models_command, shipped, told_by


def test_every_operator_with_a_checkpoint_is_listed() -> None:
    rows = {row["operator"]: row for row in shipped()}
    assert {"FaceEncode", "AntiSpoof", "Mask3d"} <= set(rows)
    assert rows["FaceEncode"]["path"].endswith("compact-vlm.safetensors")


def test_a_file_tells_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.safetensors"
    card = {"card": {"purpose": "a test"}}
    safetensors.torch.save_file(
        {"w": torch.zeros(2)}, path, {"made.by": json.dumps(card), "note": "no JSON {"}
    )
    assert told_by(path) == {"made.by": card, "note": "no JSON {"}
    models_command(path, as_json=True)
    assert json.loads(capsys.readouterr().out)["made.by"] == card
    models_command(path, as_json=False)
    assert '"purpose": "a test"' in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"short", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b"\0" * 9])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(data)
    with pytest.raises(CommandError, match=r"other\.bin: is no safetensors"):
        told_by(path)
    with pytest.raises(CommandError, match="No such file"):
        told_by(tmp_path / "none")
