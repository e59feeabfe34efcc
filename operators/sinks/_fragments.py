"""Files of fragmented MP4: complete writes, and a file that plays up to its last whole fragment."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any


class WholeWrites(io.FileIO):
    """A file whose writes are complete or raise. FFmpeg's own files lose the last error."""

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while left:
            left = left[super().write(left) or 0 :]
        return len(data)


def keep_whole_fragments(path: Path) -> None:
    """Cut the file behind its header or its last fragment that is there in full."""
    whole = position = 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            position += max(length, 8)
            if position <= size and kind in (b"moov", b"mdat"):
                whole = position
        file.truncate(whole)
