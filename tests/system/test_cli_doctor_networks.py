"""What `doctor` tells of networks that come along: the choices kept for this machine, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.commands import doctor_networks
from engine.commands.doctor_networks import network_findings
from engine.device.compile import compile_module
from engine.device.engines import EngineStore


class Named(nn.Module):
    """A network as doctor knows them: by its label."""

    label = "named"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


@pytest.mark.slow
def test_a_choice_is_told_with_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_networks, "network_names", lambda: ["named", "other"])
    store = EngineStore(tmp_path)
    assert [f.note for f in network_findings(store)] == [doctor_networks.NONE] * 2
    compiled = compile_module(Named(), torch.rand(2, 4), cache=tmp_path)
    compiled.close()
    chosen, other = network_findings(store)
    report = compiled.report
    assert chosen.what == "network named"
    assert chosen.note.startswith(f"{report.backend} in {report.precision} for {report.threads} th")
    assert " ms, eager " in chosen.note
    assert other.note == doctor_networks.NONE
