"""The noise schedule of a discrete diffusion, and DDIM steps along it, per element.

Sources: Ho et al., DDPM (arXiv:2006.11239), equation 4; Song et al., DDIM (arXiv:2010.02502),
equation 12 with eta 0. Betas are the square of a straight ramp between square roots ("linear" in
Rombach et al., arXiv:2112.10752). Tables are float64 until they are read.
"""

from __future__ import annotations

import torch


def linear_alpha_bar(steps: int, first: float = 1e-4, last: float = 2e-2) -> torch.Tensor:
    """abar_t = prod (1 - beta), [steps] float64, falling; `first` and `last` beta."""
    betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def corrupt(x0: torch.Tensor, eps: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) eps; `abar` must broadcast."""
    return abar.sqrt() * x0 + (1 - abar).sqrt() * eps


def eps_of(x: torch.Tensor, x0: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """The noise that `corrupt` added to x0 to give x."""
    return (x - abar.sqrt() * x0) / (1 - abar).sqrt()


def x0_of(x: torch.Tensor, eps: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """What `corrupt` added eps to to give x."""
    return (x - (1 - abar).sqrt() * eps) / abar.sqrt()


def ddim_step(
    x: torch.Tensor, x0_hat: torch.Tensor, abar: torch.Tensor, abar_prev: torch.Tensor
) -> torch.Tensor:
    """From noise level `abar` to `abar_prev`, both broadcast against x: each frame its own."""
    return corrupt(x0_hat, eps_of(x, x0_hat, abar), abar_prev)


def uniform_timesteps(steps: int, of: int, trailing: bool = False) -> torch.Tensor:
    """[steps] int64, rising: 1 + floor(i * of / steps), or `trailing`: ceil((i + 1) * of / steps)
    - 1, which begins at the last timestep, where all is noise (Lin et al., WACV 2024,
    arXiv:2305.08891, section 3.3). ValueError unless 1 <= steps < of.
    """
    if not 1 <= steps < of:
        raise ValueError(f"{steps} inference steps of {of}: between 1 and {of - 1} can be")
    i = torch.arange(steps)
    return -(-(i + 1) * of // steps) - 1 if trailing else 1 + i * of // steps
