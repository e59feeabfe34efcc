"""SSIM is that of the evaluation, and has a gradient."""

from __future__ import annotations

import pytest
import torch

from operators.nn.blocks.distance import mean_ssim
from operators.nn.quality.image import ssim


def test_ssim_is_that_of_the_evaluation() -> None:
    ours, real = torch.rand(2, 3, 20, 24), torch.rand(2, 3, 20, 24)
    ours = 0.3 * ours + 0.7 * real
    wanted = ssim(ours.movedim(1, -1).numpy(), real.movedim(1, -1).numpy()).mean()
    assert mean_ssim(ours, real).item() == pytest.approx(wanted, abs=1e-4)
    assert mean_ssim(real, real).item() == pytest.approx(1)


def test_ssim_rises_along_its_gradient() -> None:
    ours, real = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16)
    before = mean_ssim(ours, real)
    (slope,) = torch.autograd.grad(before, ours)
    assert mean_ssim(ours + slope, real) > before
    with pytest.raises(ValueError, match="smaller than 11 px"):
        mean_ssim(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16))
