"""Patterns finer than a pixel: halftone dots, stochastic dots and sub-pixels, as filtered tiles.

A tile holds one period of a pattern, convolved with the part of the lens that `geometry` calls the
prefilter (exactly: by the Fourier series of the period). A camera view then takes its samples from
the tile at the phase at which it meets the pattern: whatever moire there is comes from sampling.

Sources: Holladay, Proc. SID 21/2 (1980), and PostScript's round spot function cos u + cos v
(amplitude-modulated screens); Ulichney, Digital Halftoning (1987) and The void-and-cluster method,
Proc. SPIE 1913 (1993) (frequency-modulated ones); Sony and Samsung panel geometry as published:
RGB stripes of a third of a pixel, and RGBG diamonds with a green sub-pixel per pixel and red and
blue at every second.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from operators.nn.capture.light import F32, F64
from operators.nn.capture.pixels import as_f32

Bits = npt.NDArray[np.bool_]
Complex = npt.NDArray[np.complex64]
AM_PHASES, AM_LEVELS = 32, 96
FM_CELLS, FM_LEVELS = 32, 48  # dots along a side of the stochastic tile
FM_PHASES = 2 * FM_CELLS
PANEL_PHASES = 64
LAYOUTS = ("rgb_stripe", "bgr_stripe", "rgbg_diamond")
PANEL_SPAN = {"rgb_stripe": 1, "bgr_stripe": 1, "rgbg_diamond": 2}  # pixels along a tile's side


def am_table(sigma_periods: float) -> F32:
    """[AM_LEVELS, 32, 32] share of ink at each phase of a clustered dot, for coverage 0 to 1.

    `sigma_periods` is the prefilter's deviation in screen periods.
    """
    return _filtered(_am_levels(), sigma_periods)


def fm_table(sigma_dots: float) -> F32:
    """[FM_LEVELS, 64, 64] share of ink on a tile of 32 x 32 stochastic dots, for coverage 0 to 1.

    `sigma_dots` is the prefilter's deviation in dot pitches.
    """
    return _filtered(_fm_levels(), sigma_dots / FM_CELLS)


def screened(coverage: F32, table: F32, u: F32, v: F32) -> F32:
    """Ink at each point: `table` at the nearest level of `coverage` [H, W] and at phase (u, v).

    `u`, `v` [H, W] count tiles (float32, any sign).
    """
    levels, phases = table.shape[:2]
    last = np.float32(levels - 1)
    index = np.clip(coverage * last + np.float32(0.5), 0, last).astype(np.int32)
    for phase in (v, u):
        index *= phases
        index += np.floor(phase * np.float32(phases)).astype(np.int32) & (phases - 1)
    return as_f32(table.ravel().take(index))


def panel_tile(layout: str, fill: float, sigma_pixels: float) -> F32:
    """[64, 64, 3] light of a white panel over one period, each colour with mean 1.

    `fill` is the lit share of a sub-pixel's cell. ValueError for an unknown layout.
    """
    bare = _bare_tile(layout, fill)
    spectrum = np.fft.fft2(bare, axes=(0, 1))
    spectrum *= _gain(PANEL_PHASES, sigma_pixels / PANEL_SPAN[layout])[..., None]
    tile = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return as_f32(tile / tile.mean(axis=(0, 1)))


def tiled(tile: F32, u: F32, v: F32) -> F32:
    """[H, W, 3] of `tile` at phase (u, v), counted in tiles; between its samples linearly."""
    phases = tile.shape[0]
    column = (u - np.floor(u)) * np.float32(phases) - np.float32(0.5)
    row = (v - np.floor(v)) * np.float32(phases) - np.float32(0.5)
    return as_f32(cv2.remap(tile, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


@lru_cache(maxsize=1)
def blue_noise_ranks() -> F64:
    """[32, 32] order in which dots appear: void-and-cluster, seeded, periodic."""
    size = FM_CELLS
    offset = np.minimum(np.arange(size), size - np.arange(size))
    kernel = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    rolled = np.fft.fft2(kernel)
    start = np.random.default_rng(1993).random((size, size)) < 0.1
    while True:  # swap the tightest dot into the largest void until they are the same place
        energy = np.fft.ifft2(np.fft.fft2(start) * rolled).real
        tight = np.unravel_index(np.where(start, energy, -np.inf).argmax(), start.shape)
        start[tight] = False
        energy -= np.roll(kernel, tight, axis=(0, 1))
        void = np.unravel_index(np.where(start, np.inf, energy).argmin(), start.shape)
        start[void] = True
        if void == tight:
            break
    ranks = np.zeros((size, size))
    _rank_down(start, kernel, ranks)
    _rank_up(start, kernel, ranks)
    return ranks


def _rank_down(start: Bits, kernel: F64, ranks: F64) -> None:
    """Takes the tightest dot of the first pattern away, again and again."""
    dots = start.copy()
    energy = np.fft.ifft2(np.fft.fft2(dots) * np.fft.fft2(kernel)).real
    for rank in range(int(dots.sum()) - 1, -1, -1):
        spot = np.unravel_index(np.where(dots, energy, -np.inf).argmax(), dots.shape)
        dots[spot], ranks[spot] = False, rank
        energy -= np.roll(kernel, spot, axis=(0, 1))


def _rank_up(start: Bits, kernel: F64, ranks: F64) -> None:
    """Fills the largest void of the first pattern, again and again."""
    dots = start.copy()
    energy = np.fft.ifft2(np.fft.fft2(dots) * np.fft.fft2(kernel)).real
    for rank in range(int(dots.sum()), dots.size):
        spot = np.unravel_index(np.where(dots, np.inf, energy).argmin(), dots.shape)
        dots[spot], ranks[spot] = True, rank
        energy += np.roll(kernel, spot, axis=(0, 1))


@lru_cache(maxsize=1)
def _am_levels() -> Complex:
    """[L, P, P // 2 + 1] spectra of the dot at each level."""
    turn = 2 * math.pi * (np.arange(AM_PHASES) + 0.5) / AM_PHASES
    spot = np.cos(turn)[None] + np.cos(turn)[:, None] + 1e-4 * np.sin(3 * turn)[None]
    order = np.argsort(np.argsort(-spot.ravel())).reshape(spot.shape)
    return _spectra((order + 0.5) / order.size, AM_LEVELS)


@lru_cache(maxsize=1)
def _fm_levels() -> Complex:
    ranks = (blue_noise_ranks() + 0.5) / FM_CELLS**2
    return _spectra(np.asarray(np.kron(ranks, np.ones((2, 2))), np.float64), FM_LEVELS)


def _spectra(order: F64, levels: int) -> Complex:
    coverage = np.arange(levels) / (levels - 1)
    dots = order[None] < coverage[:, None, None]
    return np.fft.rfft2(dots.astype(np.float32), axes=(1, 2)).astype(np.complex64)


def _filtered(spectra: Complex, sigma_tiles: float) -> F32:
    phases = spectra.shape[1]
    gain = _gain(phases, sigma_tiles)[:, : phases // 2 + 1].astype(np.float32)
    table = np.fft.irfft2(spectra * gain, s=(phases, phases), axes=(1, 2))
    return np.clip(table, 0, 1).astype(np.float32)


def _gain(phases: int, sigma_tiles: float) -> F64:
    """[P, P] transfer of the prefilter at the harmonics of a tile."""
    harmonic = np.fft.fftfreq(phases, 1 / phases)
    line = np.exp(-2 * (math.pi * sigma_tiles * harmonic) ** 2)
    return np.asarray(line[:, None] * line[None])


@lru_cache(maxsize=64)
def _bare_tile(layout: str, fill: float) -> F64:
    if layout not in LAYOUTS:
        raise ValueError(f"layout {layout!r}: one of {LAYOUTS} is needed")
    if layout == "rgbg_diamond":
        return _diamonds(fill)
    side = math.sqrt(fill)
    tile = np.zeros((PANEL_PHASES, PANEL_PHASES, 3))
    rows = _bar(0.5, side)
    order = (0, 1, 2) if layout == "rgb_stripe" else (2, 1, 0)
    for place, colour in enumerate(order):
        tile[..., colour] = rows[:, None] * _bar((place + 0.5) / 3, side / 3)[None]
    return tile


def _bar(middle: float, width: float) -> F64:
    """[64] share of each phase's cell that a bar covers."""
    edges = np.arange(PANEL_PHASES + 1) / PANEL_PHASES
    low = np.clip(edges, middle - width / 2, middle + width / 2)
    return np.asarray(np.diff(low) * PANEL_PHASES)


def _diamonds(fill: float) -> F64:
    """Two by two pixels: green at every pixel, red and blue in turn between them."""
    at = (np.arange(PANEL_PHASES) + 0.5) / PANEL_PHASES * 2
    x, y = np.meshgrid(at, at)
    tile = np.zeros((PANEL_PHASES, PANEL_PHASES, 3))
    large, small = math.sqrt(fill) * 0.66, math.sqrt(fill) * 0.46
    places = {0: ((0.5, 0.5), (1.5, 1.5)), 2: ((1.5, 0.5), (0.5, 1.5))}
    greens = tuple((gx, gy) for gx in (0.0, 1.0) for gy in (0.0, 1.0))
    for colour, centres, reach in (
        (0, places[0], large),
        (1, greens, small),
        (2, places[2], large),
    ):
        for cx, cy in centres:
            dx = np.abs((x - cx + 1) % 2 - 1)
            dy = np.abs((y - cy + 1) % 2 - 1)
            tile[..., colour] += np.clip((reach - dx - dy) * PANEL_PHASES / 2 + 0.5, 0, 1)
    return tile
