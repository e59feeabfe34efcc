"""Opening files and URLs through FFmpeg: every way it can fail has a code and a remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import OperatorError
from operators.sources._connection import redacted

if TYPE_CHECKING:
    from av.container import InputContainer

URL = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
ISO_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"styp", b"free"})


def shown(uri: str) -> str:
    """`uri` for messages: of an address neither user nor password nor what stands in its query."""
    return redacted(uri) if URL.match(uri) else uri


def open_media(uri: str, hwaccel: Any = None) -> InputContainer:
    """The opened container, with a video stream in it, decoded by `hwaccel` if given.

    Raises OperatorError.
    """
    import av

    target = uri if URL.match(uri) else _local(uri)
    try:
        container = av.open(target, hwaccel=hwaccel)
    except av.error.FFmpegError as error:
        raise _open_error(uri, error) from None  # FFmpeg's own words may repeat the address
    try:
        _require_video(shown(uri), container)
    except OperatorError:
        container.close()
        raise
    return container


def _local(uri: str) -> str:
    path = Path(uri)
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        message = f"{uri}: no such file; check the path (relative paths start at {Path.cwd()})"
        raise OperatorError("NOT_FOUND", message) from error
    except IsADirectoryError as error:
        message = f"{uri}: is a folder; name a file, or use ImageFolder for a folder of pictures"
        raise OperatorError("NOT_MEDIA", message) from error
    except PermissionError as error:
        message = f"{uri}: may not be read by this user; change its permissions"
        raise OperatorError("PERMISSION", message) from error
    if path.is_file() and size == 0:
        raise OperatorError("EMPTY_FILE", f"{uri}: has 0 bytes; copy or record it again")
    return f"file:{path}"


def _open_error(target: str, error: Exception) -> OperatorError:
    import av

    uri = shown(target)
    if isinstance(error, (av.error.ConnectionRefusedError, av.error.TimeoutError)):
        return OperatorError("REFUSED", f"{uri}: nobody answers there; check address and port")
    if isinstance(error, (av.error.FileNotFoundError, av.error.HTTPNotFoundError)):
        return OperatorError("NOT_FOUND", f"{uri}: not there; check the address")
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return OperatorError("AUTH_FAILED", f"{uri}: refused; check user and password")
    if isinstance(error, av.error.ProtocolNotFoundError):
        return OperatorError("NOT_MEDIA", f"{uri}: FFmpeg has no such protocol; use file or http")
    if _looks_like_mp4(target):
        return OperatorError(
            "TRUNCATED",
            f"{uri}: an MP4 without its index (moov), so it was cut off while being written; "
            "copy it again, or record fragmented MP4, which survives this",
        )
    return OperatorError(
        "NOT_MEDIA", f"{uri}: not a media file that FFmpeg can read ({_why(error)}); check the file"
    )


def _looks_like_mp4(uri: str) -> bool:
    path = Path(uri)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] in ISO_BOXES


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _require_video(uri: str, container: InputContainer) -> None:
    if not container.streams.video:
        raise OperatorError("NO_VIDEO", f"{uri}: holds no video stream; name a file with pictures")
    stream = container.streams.video[0]
    # PyAV leaves out the context of a stream that this FFmpeg has no decoder for.
    if getattr(stream, "codec_context", None) is None:
        raise OperatorError(
            "CODEC_UNSUPPORTED",
            f"{uri}: this FFmpeg cannot decode its video; convert it, e.g. "
            "ffmpeg -i IN -c:v libx264 OUT.mp4",
        )
