"""Which source operator plays a URI: what `frameloom run GRAPH URI...` asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from engine import OperatorError

FILE = "operators.sources.file:FileSource"
RTSP = "operators.sources.rtsp:RtspSource"
FOLDER = "operators.sources.image_folder:ImageFolder"
CAMERA = "operators.sources.camera:CameraSource"
DEVICE = re.compile(r"/dev/video\d+")
WEB = ("http", "https")
Mode = Literal["file", "live"]


@dataclass(frozen=True)
class Source:
    """How to play one URI."""

    op: str  # module:Class
    config: dict[str, Any]  # what that operator needs to play this URI
    mode: Mode
    stream_id: str  # a proposal: letters, digits, `-` and `_`
    shown: str  # the URI without a password, for messages

    def count_frames(self) -> int | None:
        """How many frames will come, where the container says so; None when nobody knows."""
        return _frames_in(self.config["uri"]) if self.op == FILE else None


def source_for(uri: str, mode: Mode | None = None) -> Source:
    """The source for a file, a folder of pictures, a V4L2 device or a URL.

    OperatorError says what is wrong with it. `mode="live"` plays a file as if it were a camera:
    at its own pace.
    """
    if not uri.strip():
        raise OperatorError("NOT_FOUND", "an empty input: give a file, /dev/videoN or a URL")
    if DEVICE.fullmatch(uri):
        return Source(CAMERA, {"device": uri}, "live", Path(uri).name, uri)
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    try:
        urlsplit(uri)
    except ValueError as error:
        raise OperatorError("BAD_ADDRESS", f"no address that can be read: {error}") from error
    if scheme:
        uri = f"{scheme}://{uri.partition('://')[2]}"
    if scheme in ("rtsp", "rtsps"):
        return Source(RTSP, {"url": uri}, "live", _name_of_url(uri), _without_secrets(uri))
    if scheme in WEB:
        return _file(uri, mode, Path(urlsplit(uri).path).stem, _without_secrets(uri))
    if scheme and scheme != "file":
        known = ", ".join(("rtsp", "rtsps", *WEB, "file"))
        message = f"{scheme}:// is no input; give a file, /dev/videoN or a URL ({known})"
        raise OperatorError("UNKNOWN_SCHEME", message)
    path = Path(urlsplit(uri).path if scheme else uri)
    if not path.exists():
        raise OperatorError("NOT_FOUND", f"{path}: there is no such file; check the path")
    if path.is_dir():
        config = {"path": str(path), **_pace(mode)}
        return Source(FOLDER, config, mode or "file", _safe(path.resolve().name), str(path))
    return _file(str(path), mode, path.stem, str(path))


def _file(uri: str, mode: Mode | None, name: str, shown: str) -> Source:
    return Source(FILE, {"uri": uri, **_pace(mode)}, mode or "file", _safe(name), shown)


def _pace(mode: Mode | None) -> dict[str, bool]:
    return {"realtime": True} if mode == "live" else {}


def _name_of_url(uri: str) -> str:
    """Host and path: several cameras behind one recorder stay apart."""
    parts = urlsplit(uri)
    return _safe("-".join((parts.hostname or "", *filter(None, parts.path.split("/")))))


def _without_secrets(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _safe(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "stream"  # no dots: `--set` splits at them


def _frames_in(uri: str) -> int | None:
    import av

    try:
        with av.open(uri) as container:
            if not container.streams.video:
                return None
            video = container.streams.video[0]
            if video.frames:
                return int(video.frames)
            if container.duration and video.average_rate:
                return round(container.duration / 1_000_000 * video.average_rate)
    except (av.error.FFmpegError, OSError):  # the source itself will say what is wrong
        return None
    return None
