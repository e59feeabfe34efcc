"""Sound: when it begins, how high, how loud, how long; and it does not depend on the clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.sound import sound
from operators.nn.worlds.spec import FLOOR, ClipSpec, Contact, ObjectTruth

RATE = 16_000
SILENT = make_clip(ClipSpec("pan", 0, width=16, height=16, fps=10, length=20)).truth


def struck(time_s: float = 0.5, material: str = "metal", size: float = 0.4, **more):
    """A truth with one contact of one object with the floor."""
    contact = Contact(time_s, 0, FLOOR, 20.0, 4.0, (0.0, 0.0), (material, "carpet"))
    known = ObjectTruth("disc", "dots", material, size, 5.0)
    return replace(SILENT, objects=(known,), contacts=(replace(contact, **more),))


def pitch(wave) -> float:
    spectrum = np.abs(np.fft.rfft(wave))
    return float(np.fft.rfftfreq(len(wave), 1 / RATE)[spectrum.argmax()])


@pytest.mark.parametrize("time_s", [0.0, 0.5, 0.50001, 1.23456])
@pytest.mark.parametrize("footstep", [False, True])
def test_a_contact_is_heard_from_its_own_sample_on(time_s, footstep):
    wave = sound(struck(time_s, footstep=footstep), RATE)
    assert wave.shape == (2 * RATE,)
    assert wave.dtype == np.float32
    first = int(np.ceil(time_s * RATE))
    assert np.all(wave[:first] == 0)
    assert wave[first] != 0
    assert np.abs(wave[first : first + 200]).max() > 0.01


@pytest.mark.parametrize("kind", ["bounce", "surveillance"])
def test_a_longer_clip_begins_with_the_same_sound(kind):
    short, long = (make_clip(ClipSpec(kind, 4, fps=10, length=n, width=64)).truth for n in (20, 40))
    one, other = sound(short, RATE, 0.3, 7), sound(long, RATE, 0.3, 7)
    assert len(short.contacts)
    assert np.array_equal(one, other[: len(one)])
    assert np.array_equal(one, sound(short, RATE, 0.3, 7))
    assert np.abs(sound(short, RATE)).max() > 0.02


def test_the_sound_of_a_clip_does_not_depend_on_its_pictures():
    spec = ClipSpec("bounce", 4, fps=10, length=20)
    other = replace(spec, fps=30, length=60, width=16, height=16)
    assert np.array_equal(sound(make_clip(spec).truth, RATE), sound(make_clip(other).truth, RATE))


def test_small_things_sound_higher_and_hard_ones_longer():
    low, high = (pitch(sound(struck(size=size), RATE)) for size in (0.44, 0.22))
    assert high == pytest.approx(2 * low, rel=0.01)
    assert low == pytest.approx(330 / 0.44, rel=0.01)
    late = {
        name: np.abs(sound(struck(material=name), RATE)[int(0.8 * RATE) :]).max()
        for name in ("metal", "glass", "wood", "rubber", "stone")
    }
    assert late["metal"] > late["glass"] > 30 * max(late["wood"], late["rubber"], late["stone"])


def test_a_harder_blow_is_louder_and_brighter():
    soft, loud = (sound(struck(impulse_ns=j), RATE) for j in (5.0, 50.0))
    assert np.abs(loud).max() > 2 * np.abs(soft).max()
    slow, fast = (np.abs(np.fft.rfft(sound(struck(speed=v), RATE))) for v in (0.5, 6.0))
    high = slice(3000, 10_000)  # bins of 0.5 Hz
    assert (fast[high] ** 2).sum() / (fast**2).sum() > 2 * (slow[high] ** 2).sum() / (slow**2).sum()


def test_two_objects_both_ring():
    both = replace(
        struck(other=1, materials=("metal", "glass")),
        objects=(
            ObjectTruth("disc", "dots", "metal", 0.4, 5.0),
            ObjectTruth("disc", "dots", "glass", 0.3, 2.0),
        ),
    )
    spectrum = np.abs(np.fft.rfft(sound(both, RATE)))
    for hz in (330 / 0.4, 620 / 0.3):
        near = spectrum[int(2 * hz) - 6 : int(2 * hz) + 6].max()
        assert near > 5 * np.median(spectrum)


def test_floors_change_the_sound_of_a_step():
    energy = {}
    for floor in ("wood", "stone", "carpet"):
        wave = sound(struck(footstep=True, materials=("rubber", floor)), RATE)
        spectrum = np.abs(np.fft.rfft(wave)) ** 2
        energy[floor] = spectrum[4000:].sum() / spectrum.sum()  # above 2 kHz
    assert energy["stone"] > energy["wood"] > energy["carpet"]


def test_rain_is_there_when_asked_and_as_loud_as_asked():
    assert np.all(sound(SILENT, RATE) == 0)
    weak, strong = (sound(SILENT, RATE, rain).std() for rain in (0.2, 1.0))
    assert strong == pytest.approx(5 * weak, rel=0.1)
    assert not np.array_equal(sound(SILENT, RATE, 0.5, 1), sound(SILENT, RATE, 0.5, 2))


def test_it_never_clips_and_refuses_a_telephone_below_8_khz():
    loud = sound(struck(impulse_ns=1e5), RATE)
    assert np.abs(loud).max() <= 1
    with pytest.raises(ValueError, match="8000"):
        sound(SILENT, 4000)
    assert sound(struck(), 8000).shape == (16_000,)
