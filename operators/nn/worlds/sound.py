"""What contacts sound like: damped modes of what was struck, footsteps as filtered noise, rain.

A struck body rings with modes f_k = pitch * ratio_k / size that fade as exp(-t / tau_k): modal
synthesis (van den Doel and Pai 1998). A harder, hence shorter, blow excites higher modes (Hertz;
here exp(-f / cutoff(speed))). Each contact starts at the first sample at or after its time, in the
phase that it has by then. Inferred, ours: all constants; nothing is normalised to the clip, so that
a longer clip begins with the same samples.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, lfilter

from operators.nn.worlds.materials import MATERIALS, Material
from operators.nn.worlds.spec import F32, F64, Contact, Truth

BLOW_GAIN, BLOW_POWER = 0.02, 0.7  # amplitude of (impulse / N s) ** power
CUTOFF_HZ, CUTOFF_HZ_PER_SPEED = 350.0, 700.0  # of the blow's spectrum, per m/s
PLANE_SIZE_M = 1.6  # floors and walls sound like something of this size
PHASE = np.pi / 4
FADE_TAUS = 7.0  # after so many decays a mode is over: 0.001
STEP_S, TOE_S, TOE_GAIN = 0.07, 0.085, 0.5  # length of a burst, when the toes follow, how loud
STEP_GAIN = 0.012  # per N s
STEP_TOP_HZ = {"wood": 1100.0, "stone": 2600.0, "carpet": 450.0}
DROPS_PER_S = 90.0
RAIN_BAND_HZ = (600.0, 5500.0)


def sound(truth: Truth, sample_rate: int = 16_000, rain: float = 0.0, seed: int = 0) -> F32:
    """[round(duration * sample_rate)] mono in (-1, 1): all contacts, and rain from 0 to 1.

    Raises ValueError for a rate below 8 kHz. `seed` belongs to the rain alone.
    """
    if sample_rate < 8000:
        raise ValueError(f"{sample_rate} samples per second: at least 8000 are needed")
    wave: F64 = np.zeros(round(truth.duration_s * sample_rate))
    for contact in truth.contacts:
        if contact.footstep:
            _add_step(wave, contact, sample_rate)
        else:
            _add_blow(wave, contact, truth, sample_rate)
    if rain:
        wave += rain * _rain(len(wave), sample_rate, seed)
    return np.tanh(wave).astype(np.float32)


def _add_blow(wave: F64, contact: Contact, truth: Truth, sample_rate: int) -> None:
    strength = BLOW_GAIN * contact.impulse_ns**BLOW_POWER
    one, other = (MATERIALS[name] for name in contact.materials)
    sizes = (
        truth.objects[contact.object].size_m,
        truth.objects[contact.other].size_m if contact.other >= 0 else PLANE_SIZE_M,
    )
    for material, size in zip((one, other), sizes, strict=True):
        _ring(wave, contact, (material, size), strength, sample_rate)


def _ring(
    wave: F64, contact: Contact, body: tuple[Material, float], strength: float, sample_rate: int
) -> None:
    """Add all modes of one body."""
    modes, first = body[0].sound, _first_sample(contact.time_s, sample_rate)
    cutoff = CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * contact.speed
    for ratio in modes.ratios:
        pitch, fade = modes.pitch_hz_m * ratio / body[1], modes.decay_s / ratio**modes.damping
        if pitch > 0.45 * sample_rate:
            break
        until = min(len(wave), first + int(FADE_TAUS * fade * sample_rate))
        t = np.arange(first, until) / sample_rate - contact.time_s
        level = strength * modes.loudness * np.exp(-pitch / cutoff)
        wave[first:until] += level * np.exp(-t / fade) * np.sin(2 * np.pi * pitch * t + PHASE)


def _add_step(wave: F64, contact: Contact, sample_rate: int) -> None:
    """Heel, then toes."""
    key = [round(contact.time_s * 1e6), contact.object]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    top = STEP_TOP_HZ[contact.materials[1]]
    b, a = butter(1, (70.0, top), "bandpass", fs=sample_rate)
    for delay, gain in ((0.0, 1.0), (TOE_S, TOE_GAIN)):
        first = _first_sample(contact.time_s + delay, sample_rate)
        t = np.arange(round(STEP_S * sample_rate)) / sample_rate
        burst = lfilter(b, a, rng.standard_normal(len(t))) * np.exp(-t / (STEP_S / 5))
        part = wave[first : first + len(t)]
        part += STEP_GAIN * contact.impulse_ns * gain * burst[: len(part)]


def _first_sample(time_s: float, sample_rate: int) -> int:
    return int(np.ceil(time_s * sample_rate))


def _rain(count: int, sample_rate: int, seed: int) -> F64:
    """[count] a hiss and drops; second by second, so that more of it changes nothing."""
    seconds = -(-count // sample_rate)
    hiss = np.empty(seconds * sample_rate)
    drops = np.zeros(seconds * sample_rate)
    for second in range(seconds):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, second])))
        part = slice(second * sample_rate, (second + 1) * sample_rate)
        hiss[part] = rng.standard_normal(sample_rate)
        places = rng.integers(0, sample_rate, rng.poisson(DROPS_PER_S))
        np.add.at(drops[part], places, rng.exponential(1.0, len(places)))
    band = (RAIN_BAND_HZ[0], min(RAIN_BAND_HZ[1], 0.45 * sample_rate))
    b, a = butter(2, band, "bandpass", fs=sample_rate)
    return np.asarray(0.05 * lfilter(b, a, hiss) + 0.4 * lfilter(b, a, drops))[:count]
