"""The mask node is the anti-spoofing node with another head: only what differs is asked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Batch, OperatorError
from engine.testing import HarnessContext
from operators.face.mask3d import Mask3d
from operators.face.pad_node import SHIPPED, PadConfig
from operators.face.verdicts import HeadVerdict
from operators.nn.pad.calibration import LabelledCalibration
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts import head as heads
from operators.nn.prompts.head import HeadScores
from tests.operators.models import DIM, backbone_sha, certain_head
from tests.operators.test_antispoof import encoded, frame


class PatchHead:
    """A mask head that goes by the patches, which anti-spoofing does not look at."""

    name = "mask3d"
    attack = "mask"
    dim = DIM
    sha = "a" * 64
    elements = ("mask has hard rim", "mask has no pores")
    calibration = LabelledCalibration(4.0, 0.0, "logit")

    def __init__(self) -> None:
        self.backbone_sha = backbone_sha()
        self.thresholds: dict[str, Threshold] = {}
        self.card: dict[str, Any] = {}

    def __call__(self, features: torch.Tensor) -> HeadScores:
        level = features[:, 1:].mean(dim=(1, 2))
        return HeadScores(torch.sigmoid(level), torch.ones(len(level), dtype=torch.int64), level)


@pytest.mark.parametrize(("level", "state"), [(2.0, "live"), (-2.0, "attack")])
def test_it_judges_by_pooled_feature_and_patches(
    level: float, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "open_head", lambda path: PatchHead())
    operator = Mask3d(PadConfig())
    operator.open(HarnessContext())
    data = torch.zeros(1, 5, DIM)
    data[:, 1:] = level
    for n in range(12):
        (made,) = operator.process(Batch((frame(encoded(3), ms=100 * n, data=data),))).frames
    (verdict,) = made.of(HeadVerdict)
    assert (verdict.head, verdict.attack, verdict.state) == ("mask3d", "mask", state)
    assert verdict.nearest == "mask has no pores"


def test_it_takes_no_head_of_another_kind() -> None:
    operator = Mask3d(PadConfig(checkpoint=str(certain_head(4.0))))
    with pytest.raises(OperatorError, match="checkpoint of antispoof, and this node is mask3d"):
        operator.open(HarnessContext())


def test_it_has_a_checkpoint_of_its_own() -> None:
    assert Mask3d.checkpoints(PadConfig()) == {"checkpoint": SHIPPED / "mask3d.safetensors"}
    assert Mask3d.path_of(PadConfig(checkpoint="x.safetensors")) == Path("x.safetensors")
