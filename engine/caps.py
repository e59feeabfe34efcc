"""Caps: what a port carries or accepts, checked before a graph runs and at the first frame."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from engine.errors import CapsError

Media = Literal["video", "audio", "packet", "event", "features"]
NEGOTIATED = ("media", "pix_fmt", "dtype", "width", "height", "device")


class Caps(Struct, frozen=True, kw_only=True, gc=False):
    """A description of data, complete on a frame, partial on a port (`None` means any).

    On a port several values may be allowed: `pix_fmt="yuv420p|rgb24"`. `like="frames"` on an output
    says that whatever is still open is what arrives at input port `frames`. `label` marks content
    that policy speaks of (`raw-face`); `cleans` on an output takes such a label away.
    """

    media: Media | None = None
    pix_fmt: str | None = None  # yuv420p | nv12 | rgb24 | bgr24 | gray; one array layout each
    dtype: str | None = None  # numpy's name
    width: int | None = None  # pixels
    height: int | None = None  # pixels
    device: str | None = None  # cpu | cuda:N; ports: cuda or node is the node's own, any is either
    colorspace: str | None = None  # bt601 | bt709
    color_range: str | None = None  # limited | full
    codec: str | None = None  # packets: FFmpeg's codec name
    extradata: bytes | None = None  # packets: the codec's out-of-band header
    rate: int | None = None  # audio: samples per second
    layout: str | None = None  # audio: channel layout, FFmpeg's name
    like: str | None = None  # ports only
    label: str | None = None  # ports only
    cleans: str | None = None  # ports only

    def accepts(self, field: str, value: object) -> bool:
        """Whether `value` is one of those this caps allows for `field`."""
        mine = getattr(self, field)
        return mine is None or value is None or bool(_options(mine) & _options(value))

    def mismatches(self, other: Caps) -> list[str]:
        """The fields in which nothing satisfies both, as 'field: mine is not theirs'."""
        return [
            f"{field}: {getattr(other, field)} where {getattr(self, field)} is accepted"
            for field in NEGOTIATED
            if not self.accepts(field, getattr(other, field))
        ]

    def require(self, other: Caps, where: str) -> None:
        """Raise CapsError unless `other` fits."""
        wrong = self.mismatches(other)
        if wrong:
            raise CapsError(f"{where}: {'; '.join(wrong)}")

    def describe(self) -> str:
        """The set fields in one line."""
        size = f"{self.width}x{self.height}" if self.width and self.height else ""
        parts = (self.media, self.pix_fmt, self.codec, self.dtype, size, self.device)
        return " ".join(part for part in parts if part) or "any"


def _options(value: object) -> frozenset[str]:
    return frozenset(str(value).split("|"))
