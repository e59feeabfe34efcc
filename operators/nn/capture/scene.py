"""One capture from its physical parameters: what stands before the camera, then the camera.

`sample` draws parameters, `render` makes the picture. The same seed and split give every kind the
same camera, light and framing; what differs between kinds is the physics of the attack alone. Real
faces too are sampled anew through the optics. Bona fide, presentation attack instrument: the words
of ISO/IEC 30107-1. Inferred, ours: exposure is metered on the face (so that brightness does not
tell the kind), and the source picture stands for the face itself, its own optics included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np

from operators.nn.capture import light as lighting
from operators.nn.capture import mask3d, screen
from operators.nn.capture import print as prints
from operators.nn.capture.camera import CameraParameters, develop, resample, sense
from operators.nn.capture.geometry import OVERSAMPLING, Face, FramingParameters, View, locate
from operators.nn.capture.light import F32, F64, REC709, U8, LightParameters
from operators.nn.capture.mask3d import MaskParameters
from operators.nn.capture.pixels import as_f32
from operators.nn.capture.print import PrintParameters
from operators.nn.capture.ranges import SPLITS, Drawn, Split, draw, spreads
from operators.nn.capture.screen import ScreenParameters
from operators.nn.capture.surround import Layers

Kind = Literal["bonafide", "print", "replay", "mask3d"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SUBKINDS: Mapping[Kind, tuple[str, ...]] = {
    "bonafide": ("face",),
    "print": prints.SUBKINDS,
    "replay": screen.SUBKINDS,
    "mask3d": mask3d.SUBKINDS,
}
Attack = PrintParameters | ScreenParameters | MaskParameters
ATTACKS: Mapping[str, tuple[type[Attack], Mapping[str, Mapping[str, Drawn]]]] = {
    "print": (PrintParameters, prints.NARROWED),
    "replay": (ScreenParameters, screen.NARROWED),
    "mask3d": (MaskParameters, mask3d.NARROWED),
}
METERED_EYES = 0.9  # half side of what is metered, in eye distances
METER_LIMITS = (0.2, 8.0)  # what automatic exposure can make up for
MIN_SIZE_PX, MAX_SIZE_PX = 16, 1024


@dataclass(frozen=True)
class Capture:
    """All physical parameters of one picture; units and sources are with each class's fields."""

    kind: Kind
    subkind: str
    split: Split
    seed: int  # of noise as well: the same capture gives the same pixels
    camera: CameraParameters
    light: LightParameters
    framing: FramingParameters
    attack: Attack | None  # None for bona fide


class Rendered(NamedTuple):
    """A picture and what it shows."""

    image: U8  # [size_px, size_px, 3] sRGB
    points: F64  # [5, 2] pixels of the picture: where the face's five points came to lie
    description: dict[str, Any]  # kind, subkind, split, seed, and every parameter by group


def sample(kind: Kind, seed: int, split: Split, subkind: str | None = None) -> Capture:
    """Parameters of one capture, drawn from the intervals that belong to `split`.

    `subkind` fixes one of SUBKINDS[kind]; else each is as likely. ValueError for unknown names or
    a negative seed.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: one of {KINDS} is needed")
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: one of {SPLITS} is needed")
    if subkind is not None and subkind not in SUBKINDS[kind]:
        raise ValueError(f"{kind} {subkind!r}: one of {SUBKINDS[kind]} is needed")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative")
    common = np.random.default_rng([seed, SPLITS.index(split), 0])
    camera = draw(CameraParameters, common, split)
    light = draw(LightParameters, common, split)
    framing = draw(FramingParameters, common, split)
    own = np.random.default_rng([seed, SPLITS.index(split), 1 + KINDS.index(kind)])
    chosen = subkind or SUBKINDS[kind][int(own.integers(len(SUBKINDS[kind])))]
    attack: Attack | None = None
    if kind != "bonafide":
        parameters, narrowed = ATTACKS[kind]
        attack = draw(parameters, own, split, narrowed[chosen], subkind=chosen)
    return Capture(kind, chosen, split, seed, camera, light, framing, attack)


def render(image: U8, points: F64, capture: Capture, size_px: int = 224) -> Rendered:
    """The face crop as `capture` shows it.

    `image` [H, W, 3] uint8 sRGB, `points` [5, 2] px: right eye, left eye, nose tip, right and left
    mouth corner (the person's own right and left). ValueError for what is no such face.
    """
    if not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise ValueError(f"size_px {size_px}: {MIN_SIZE_PX} to {MAX_SIZE_PX} are possible")
    face = Face.of(image, points)
    view = View.of(face, capture.framing, capture.camera.sensor_px)
    rng = np.random.default_rng([capture.seed, SPLITS.index(capture.split), 9])
    layers, spots = _scene(face, view, capture, rng)
    lit = _lit(layers, capture)
    middle = _middle(face, view)
    gains = lighting.balance(_illuminant(layers, lit, middle, capture), capture.light.awb)
    lit *= _exposure(lit[middle] * gains, face, capture)
    photo = develop(sense(lit, capture.camera, rng), gains, capture.camera)
    picture = resample(photo, size_px, capture.camera.kernel)
    placed = (spots + 0.5) * size_px / view.count - 0.5
    return Rendered(picture, placed, describe(capture))


def describe(capture: Capture) -> dict[str, Any]:
    """Kind, subkind, split, seed and all parameters by group, as plain values."""
    return asdict(capture)


@cache
def held_out(kind: Kind, subkind: str) -> dict[str, Drawn]:
    """What each parameter of a kind is drawn from, by `group.name`: the card's table of splits."""
    groups: dict[str, dict[str, Drawn]] = {
        "camera": spreads(CameraParameters),
        "light": spreads(LightParameters),
        "framing": spreads(FramingParameters),
    }
    if kind != "bonafide":
        parameters, narrowed = ATTACKS[kind]
        groups["attack"] = spreads(parameters, narrowed[subkind])
    return {
        f"{group}.{name}": item for group, all_ in groups.items() for name, item in all_.items()
    }


def _scene(
    face: Face, view: View, capture: Capture, rng: np.random.Generator
) -> tuple[Layers, F64]:
    """Radiance before the camera, and where in the view the five points lie."""
    spots = view.place(face.points)
    attack = capture.attack
    if attack is None:
        return Layers(view.look(face.linear), None), spots
    if isinstance(attack, MaskParameters):
        return mask3d.render(face, view, attack, capture.light, rng), spots
    if isinstance(attack, PrintParameters):
        layers, sheet = prints.render(face, view, attack, capture.light, rng)
    else:
        layers, sheet = screen.render(face, view, attack, capture.camera)
    x, y = sheet.source_xy(face)
    return layers, locate(x, y, face.points, spots, view.matrix)


def _lit(layers: Layers, capture: Capture) -> F32:
    """[n, n, 3] radiance: the lamp on what reflects, and what shines by itself. In place."""
    camera, light = capture.camera, capture.light
    count = layers.reflected.shape[0]
    lamp = lighting.lamp_field(light, count, camera.readout_ms, camera.exposure_ms)
    seen = layers.reflected
    cv2.multiply(seen, cv2.merge([lamp * part for part in lighting.kelvin_rgb(light.kelvin)]), seen)
    return seen if layers.emitted is None else as_f32(cv2.add(seen, layers.emitted, seen))


def _middle(face: Face, view: View) -> tuple[slice, slice]:
    """Rows and columns of the view that show the face, every fourth: what the camera meters."""
    middle, reach = view.place(face.centre[None])[0], METERED_EYES * face.eye_px
    reach *= OVERSAMPLING / view.source_per_sensor
    low = np.clip(np.rint(middle - reach), 0, view.count - 8).astype(int)
    high = np.clip(np.rint(middle + reach), low + 8, view.count).astype(int)
    return slice(low[1], high[1], 4), slice(low[0], high[0], 4)


def _exposure(seen: F32, face: Face, capture: Capture) -> np.float32:
    """Gain that makes the face as bright as in the source, `exposure_ev` more or less."""
    (x, y), reach = face.centre, METERED_EYES * face.eye_px
    rows = slice(max(int(y - reach), 0), int(y + reach) + 1)
    columns = slice(max(int(x - reach), 0), int(x + reach) + 1)
    wanted = float(face.linear[rows, columns].mean(axis=(0, 1)) @ REC709)
    have = float(seen.mean(axis=(0, 1)) @ REC709)
    gain = np.clip(wanted / max(have, 1e-4), *METER_LIMITS)
    return np.float32(gain * 2**capture.camera.exposure_ev)


def _illuminant(layers: Layers, lit: F32, middle: tuple[slice, slice], capture: Capture) -> F32:
    """[3] colour of the light that white balance finds: the lamp's, and a panel's by its share."""
    lamp = lighting.kelvin_rgb(capture.light.kelvin)
    if layers.emitted is None or not isinstance(capture.attack, ScreenParameters):
        return lamp
    share = layers.emitted[middle].mean() / max(float(lit[middle].mean()), 1e-6)
    panel = lighting.kelvin_rgb(capture.attack.white_kelvin)
    return lamp + np.float32(min(float(share), 1.0)) * (panel - lamp)
