"""Weights as a checkpoint keeps them: large matrices in int8, everything else in float16.

Source: symmetric quantisation with a scale per output row, Krishnamoorthi 2018 (arXiv:1806.08342),
section 2; a clip of least squared error, after Choukroun et al. 2019 (arXiv:1902.06822).
Inferred, ours: which tensors are packed, the bound, the candidates. A row is what makes one output:
Linear and convolution keep it in the first dimension. Scales are rounded towards zero, so that the
largest number of a row is always +-127: what is unpacked packs to the same bits again. Errors are
summed as integers, which gives the same sum in any order, by any number of threads.

AR-Diffusion compact against float16: 3.05 of 5.89 MB, PSNR +0.001 dB, x0_hat's RMS off 0.3-0.8 %.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch

SCALE = ":scale"  # behind a tensor's name: the scales of its rows; torch itself has only dots
MOST_ERROR = 0.03  # of a row's length: noise 30 dB below; a tensor with a worse row stays float16
LEAST_NUMBERS = 1024  # smaller matrices would save next to nothing
_ROW = range(8, 2**22)  # numbers in one: a scale takes two bytes; sums of squares fit int64
_FAINT = 1e-3  # of the longest row: a shorter one counts as that long, as dead channels are
# Of the row's largest number; equal ones: the first. Their gain is small, 1 to 3 % of the error: at
# 8 bits only rows of many thousand numbers have outliers worth cutting off.
_CLIPS = (1.0, 0.995, 0.99, 0.985, 0.98, 0.96)
_MOST = 127
_FINE = 2.0**20  # errors are counted in parts of the row's largest number


class _Rows(NamedTuple):
    """A matrix [rows, n] as int8."""

    q: torch.Tensor  # [rows, n] whole numbers -127..127
    scale: torch.Tensor  # [rows, 1] float16
    square: torch.Tensor  # [rows, 1] int64: the squared error


def pack(state: Mapping[str, torch.Tensor], exact: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """Weights by name, of any floating type, as what a file holds: on the CPU, no view of `state`.

    int8, with float16 scales [rows] beside it under the name and `SCALE`: what is named `*weight`,
    has two dimensions or more, is worth it, and keeps every row within `MOST_ERROR`. All else is
    float16: tables that are bare parameters, and what `exact` names, as embeddings should be.
    ValueError for other types, for what is not finite or beyond float16, and for unknown names.
    """
    unknown = sorted(set(exact) - state.keys())
    if unknown:
        raise ValueError(f"{unknown[0]} is to stay exact, but there is none")
    tensors = {}
    for name, value in state.items():
        if name.endswith(SCALE):
            raise ValueError(f"{name} cannot be saved: {SCALE} is for scales")
        if not value.is_floating_point():
            raise ValueError(f"{name} cannot be saved: it is {value.dtype}")
        weight = value.detach().cpu().float()
        half = weight.half().contiguous()
        if not bool(torch.isfinite(half).all()):
            raise ValueError(f"{name} cannot be saved: it is not finite, or beyond float16")
        rows = _as_int8(weight, half) if name not in exact and _is_worth(name, weight) else None
        if rows is None:
            tensors[name] = half.clone()
        else:
            tensors[name] = rows.q.to(torch.int8).view(weight.shape)
            tensors[name + SCALE] = rows.scale.flatten()
    return tensors


def unpack(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `pack` gave as float32 weights in their shapes, exact products of number and scale.

    ValueError for what `pack` cannot have given: other types, scales that are missing, left over,
    negative or of another shape, numbers that are not finite.
    """
    state = {}
    for name, value in tensors.items():
        if name.endswith(SCALE):
            scaled = tensors.get(name.removesuffix(SCALE))
            if scaled is None or scaled.dtype != torch.int8:
                raise ValueError(f"{name} scales nothing")
        elif value.dtype == torch.int8:
            state[name] = _product(name, value, tensors.get(name + SCALE))
        elif value.dtype != torch.float16:
            raise ValueError(f"{name} is {value.dtype}, only int8 and float16 can be read")
        elif not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds values that are not finite")
        else:
            state[name] = value.float()
    return state


def _product(name: str, q: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if scale is None:
        raise ValueError(f"{name} is int8, but {name}{SCALE} is missing")
    if q.ndim < 2 or scale.dtype != torch.float16 or scale.shape != q.shape[:1]:
        told = f"{list(q.shape)} with scales {scale.dtype} {list(scale.shape)}"
        raise ValueError(f"{name} is int8 {told}, not rows with a float16 scale each")
    if not bool((torch.isfinite(scale) & (scale >= 0)).all()) or bool((q < -_MOST).any()):
        raise ValueError(f"{name} holds scales or numbers that are never written")
    return q.float() * scale.float().view(-1, *[1] * (q.ndim - 1))


def _is_worth(name: str, weight: torch.Tensor) -> bool:
    matrix = name.endswith("weight") and weight.ndim >= 2 and weight.numel() >= LEAST_NUMBERS
    return matrix and weight[0].numel() in _ROW


def _as_int8(weight: torch.Tensor, half: torch.Tensor) -> _Rows | None:
    """None if float16 is better. That is asked of the float16 numbers, so that it is answered alike
    when they come back; what comes back from int8 has no error.
    """
    rows = _rows(weight.flatten(1))
    if bool(rows.square.any()) and _worst_error(half.float().flatten(1)) > MOST_ERROR:
        return None
    return rows


def _worst_error(matrix: torch.Tensor) -> float:
    """Of the worst row, by its length."""
    peak = _peak(matrix).double()
    error = _rows(matrix).square.double().sqrt() * peak
    length = _square(matrix, _peak(matrix)).double().sqrt() * peak
    least = max(_FAINT * float(length.amax()), torch.finfo(torch.float64).tiny)
    return float((error / length.clamp(min=least)).amax())


def _rows(matrix: torch.Tensor) -> _Rows:
    """Each row by the best of `_CLIPS`."""
    peak = _peak(matrix)
    best = _clipped(matrix, peak, _CLIPS[0])
    for share in _CLIPS[1:]:
        other = _clipped(matrix, peak, share)
        better = other.square < best.square
        best = _Rows(*(torch.where(better, new, old) for new, old in zip(other, best, strict=True)))
    return best


def _clipped(matrix: torch.Tensor, peak: torch.Tensor, share: float) -> _Rows:
    scale = _towards_zero(peak * share / _MOST)
    step = scale.float()
    q = (matrix / step.where(step > 0, 1.0)).round().clamp(-_MOST, _MOST)
    return _Rows(q, scale, _square(matrix - q * step, peak))


def _peak(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.abs().amax(dim=1, keepdim=True)


def _square(x: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
    parts = x / peak.where(peak > 0, 1.0) * _FINE
    return parts.round().long().square().sum(dim=1, keepdim=True)


def _towards_zero(x: torch.Tensor) -> torch.Tensor:
    """float32 from 0 on, as float16."""
    half = x.half()
    above = (half.float() > x).to(torch.int16)
    return (half.view(torch.int16) - above).view(torch.float16)
