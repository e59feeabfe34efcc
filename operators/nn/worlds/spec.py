"""What a clip is made from, and what is known about it.

A world is a function of (kind, split, seed, aspect ratio). Size, frame rate and length only say how
it is looked at: every number about motion is in seconds and metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args
from zlib import crc32

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Kind = Literal["bounce", "surveillance", "pan"]
Split = Literal["train", "validation", "development", "test"]
AnomalyKind = Literal["appears", "wrong_way", "vanishes"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
ANOMALIES: tuple[AnomalyKind, ...] = get_args(AnomalyKind)

FLOOR, LEFT_WALL, RIGHT_WALL, CEILING = -1, -2, -3, -4  # what `Contact.other` says besides objects


@dataclass(frozen=True)
class Anomaly:
    """Something planted into `surveillance` that does not belong there."""

    kind: AnomalyKind
    time_s: float = 1.0  # when it begins


@dataclass(frozen=True)
class ClipSpec:
    """Which world, and how to look at it. Raises ValueError for what cannot be rendered."""

    kind: Kind
    seed: int  # >= 0; each split counts its own worlds
    split: Split = "train"
    width: int = 64  # px, >= 16
    height: int = 64
    fps: float = 15.0
    length: int = 16  # frames; `frames()` goes on without end
    anomaly: Anomaly | None = None  # `surveillance` only

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.split not in SPLITS:
            raise ValueError(f"no world {self.kind}/{self.split}; there are {KINDS} in {SPLITS}")
        if min(self.width, self.height) < 16 or not 0.5 <= self.aspect <= 4:
            raise ValueError(
                f"{self.width}x{self.height} px: at least 16 each, from 1 to 2 up to 4 to 1"
            )
        if self.seed < 0 or self.length < 1 or not 0 < self.fps <= 1000:
            raise ValueError(f"{self.seed = }, {self.length = }, {self.fps = }: out of range")
        if self.anomaly and (self.kind != "surveillance" or self.anomaly.kind not in ANOMALIES):
            raise ValueError(f"{self.kind} has no anomaly {self.anomaly.kind}")

    @property
    def aspect(self) -> float:
        return self.width / self.height

    def times_s(self) -> F64:
        """[length] seconds since the world began; frame n is at exactly n / fps."""
        return np.arange(self.length, dtype=np.float64) / self.fps

    def generator(self, stream: str) -> np.random.Generator:
        """Random numbers for one purpose, so that drawing more of one changes nothing else."""
        key = [crc32(f"{self.kind}/{self.split}/{stream}".encode()), self.seed]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@dataclass(frozen=True)
class ObjectTruth:
    """What one object is; it does not change while it lives."""

    kind: str  # disc, box, ..., walker, parcel
    texture: str
    material: str
    size_m: float  # radius of a disc, of the circle around a polygon, half the height of a walker
    mass_kg: float


@dataclass(frozen=True)
class Contact:
    """One impact or footstep, at its own time: hardly ever that of a frame."""

    time_s: float
    object: int
    other: int  # an object, or FLOOR, LEFT_WALL, RIGHT_WALL, CEILING
    impulse_ns: float  # N s, along the normal
    speed: float  # m/s at which they met, along the normal
    position: tuple[float, float]  # m, in the world
    materials: tuple[str, str]  # of object and other
    footstep: bool = False


@dataclass(frozen=True)
class Event:
    """Anything else: `kick`, `lamp_on`, `lamp_off`, `flicker` or an anomaly's kind."""

    time_s: float
    kind: str
    object: int  # -1 where none is concerned
    position_px: tuple[float, float] | None  # of the clip's frame, where there is a place


@dataclass(frozen=True)
class Truth:
    """All that is known about T frames and the N objects that lived until the last of them.

    Objects are counted in the order of their appearance, so that a longer clip only adds columns.
    Pixel coordinates are those of arrays: (0, 0) is the middle of the first pixel, y goes down.
    """

    fps: float
    times_s: F64  # [T]
    centre: F64  # [T, N, 2] m: x right and y up; `surveillance`: x right and depth on the floor
    centre_px: F64  # [T, N, 2]
    size_px: F64  # [T, N] like `ObjectTruth.size_m`
    velocity: F64  # [T, N, 2] m/s, as `centre`
    angle: F64  # [T, N] rad, counter-clockwise; phase of the gait for walkers
    visible: Flags  # [T, N] alive and at least partly inside the frame
    energy: F64  # [T, N] J/kg: motion, rotation and height above the floor
    objects: tuple[ObjectTruth, ...]
    scene: str
    contacts: tuple[Contact, ...]  # by time, all before the end of the last frame
    events: tuple[Event, ...]
    camera: F64  # [T, 2, 3] scene -> frame px; `pan` counts in heights of the scene, the rest is 1

    @property
    def duration_s(self) -> float:
        return len(self.times_s) / self.fps


@dataclass(frozen=True)
class Clip:
    """T frames and their truth."""

    spec: ClipSpec
    frames: U8  # [T, H, W, 3] sRGB
    truth: Truth
    masks: U8 | None = None  # [T, H, W]: 0 is the scene, k + 1 is object k


class World(Protocol):
    """What every kind of world can do. Times may be asked for in any order after `forget`'s."""

    def render(self, time_s: float, mask: U8 | None = None) -> U8:
        """[H, W, 3]; `mask` [H, W], all 0, takes the objects' numbers, object k as k + 1."""

    def truth(self, times_s: F64, end_s: float) -> Truth:
        """For these frames, with all contacts and events from the first of them to before end_s."""

    def forget(self, time_s: float) -> None:
        """Give back what only earlier frames need: an endless world has bounded memory."""
