"""Read an evaluation folder: `domain/{live,spoof/<type>}/subject/*.{jpg,jpeg,png,mp4}`.

A typed listing or every mistake with its path: a folder whose live files lie one level too high
would otherwise be measured without them; a picture that is both live and spoof has one label too
many. Names beginning with a dot are not data. Text files
(`.md`, `.txt`) may lie at the top. No media is decoded; the first bytes must fit the extension.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from operators.nn.pad.errors import FolderError

MediaKind = Literal["image", "video"]
KINDS: dict[str, MediaKind] = {
    ".jpg": "image",
    ".jpeg": "image",
    ".png": "image",
    ".mp4": "video",
}
MAGIC = {
    ".jpg": (0, b"\xff\xd8\xff"),
    ".jpeg": (0, b"\xff\xd8\xff"),
    ".png": (0, b"\x89PNG\r\n\x1a\n"),
    ".mp4": (4, b"ftyp"),
}
LAYOUT = "domain/{live,spoof/<type>}/subject/*.{jpg,jpeg,png,mp4}"


@dataclass(frozen=True, order=True)
class MediaItem:
    """One presentation: an image or a video. Items sort by domain, species, subject, path."""

    domain: str
    species: str  # PAI species, the folder under spoof/; "" for bona fide
    subject: str
    path: Path
    kind: MediaKind

    @property
    def is_live(self) -> bool:
        """Bona fide presentation."""
        return not self.species

    @property
    def identity(self) -> str:
        """The person. Equal subject names of two domains are taken for two people."""
        return f"{self.domain}/{self.subject}"


@dataclass(frozen=True)
class Listing:
    """The items of a folder, sorted; never empty."""

    root: Path
    items: tuple[MediaItem, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted({item.domain for item in self.items}))

    @property
    def species(self) -> tuple[str, ...]:
        """Sorted, over all domains."""
        return tuple(sorted({item.species for item in self.items if item.species}))


def read_folder(root: Path) -> Listing:
    """List `root`. Raises FolderError with all problems: nothing of it may be measured then."""
    if not root.is_dir():
        raise FolderError(str(root), ["not a folder" if root.exists() else "does not exist"])
    reader = _Reader(root)
    reader.domains()
    reader.copies()
    if not reader.items and not reader.problems:
        reader.problems.append(f"no media found; the layout is {LAYOUT}")
    if reader.problems:
        raise FolderError(str(root), sorted(reader.problems))
    return Listing(root, tuple(sorted(reader.items)))


class _Reader:
    """Walks the four levels and collects items and problems."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside = root.resolve()
        self.items: list[MediaItem] = []
        self.problems: list[str] = []

    def domains(self) -> None:
        for entry in self._entries(self.root):
            if entry.is_file() and entry.suffix.lower() in {".md", ".txt"}:
                continue
            if self._is_folder(entry, "a domain folder"):
                self._domain(entry)

    def _domain(self, domain: Path) -> None:
        before = len(self.items) + len(self.problems)
        for entry in self._entries(domain):
            if entry.name not in {"live", "spoof"}:
                self._tell(entry, "only `live` and `spoof` are known here")
            elif not self._is_folder(entry, "a folder"):
                continue
            elif entry.name == "live":
                self._subjects(entry, domain.name, "")
            else:
                self._types(entry, domain.name)
        if len(self.items) + len(self.problems) == before:
            self._tell(domain, "a domain without media")

    def _types(self, spoof: Path, domain: str) -> None:
        entries = list(self._entries(spoof))
        if not entries:
            self._tell(spoof, "no attack type; the layout is spoof/<type>/subject/file")
        for entry in entries:
            if self._is_folder(entry, "the folder of an attack type"):
                self._subjects(entry, domain, entry.name)

    def _subjects(self, above: Path, domain: str, species: str) -> None:
        entries = list(self._entries(above))
        if not entries:
            self._tell(above, "no subject folder")
        for entry in entries:
            if self._is_folder(entry, "a subject's folder"):
                self._media(entry, domain, species)

    def _media(self, subject: Path, domain: str, species: str) -> None:
        entries = list(self._entries(subject))
        if not entries:
            self._tell(subject, "a subject without media")
        for entry in entries:
            problem = _file_problem(entry)
            if problem:
                self._tell(entry, problem)
                continue
            kind = KINDS[entry.suffix.lower()]
            self.items.append(MediaItem(domain, species, subject.name, entry, kind))

    def copies(self) -> None:
        """Tell files of equal content under two labels or two people: one of the two is wrong."""
        by_size: defaultdict[int, list[MediaItem]] = defaultdict(list)
        for item in sorted(self.items):
            by_size[item.path.stat().st_size].append(item)
        for same_size in by_size.values():
            first: dict[bytes, MediaItem] = {}
            for item in same_size if len(same_size) > 1 else ():
                other = first.setdefault(_digest(item.path), item)
                if (other.species, other.identity) != (item.species, item.identity):
                    where = other.path.relative_to(self.root)
                    self._tell(item.path, f"has the same content as {where}")

    def _entries(self, folder: Path) -> Iterator[Path]:
        """Sorted entries that are data; what cannot be followed is told and left out."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self._tell(folder, f"cannot be read: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            problem = self._entry_problem(entry)
            if problem:
                self._tell(entry, problem)
            else:
                yield entry

    def _entry_problem(self, entry: Path) -> str:
        if not entry.name.isprintable():
            return "a name with unprintable characters"
        if not entry.exists():
            return "a link to nothing"
        if not entry.resolve().is_relative_to(self.inside):
            return "a link that leads out of the folder"
        return ""

    def _is_folder(self, entry: Path, what: str) -> bool:
        if not entry.is_dir():
            self._tell(entry, f"a file where {what} is expected")
        return entry.is_dir()

    def _tell(self, path: Path, problem: str) -> None:
        self.problems.append(f"{ascii(str(path.relative_to(self.root)))[1:-1]}: {problem}")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _file_problem(path: Path) -> str:
    """What is wrong with a file of a subject; "" if nothing."""
    suffix = path.suffix.lower()
    if not path.is_file():
        return f"{'a folder' if path.is_dir() else 'no ordinary file'} where a file is expected"
    if suffix not in KINDS:
        return f"extension {suffix or '(none)'} is not one of {', '.join(KINDS)}"
    place, magic = MAGIC[suffix]
    try:
        with path.open("rb") as file:
            head = file.read(place + len(magic))
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not size_bytes:
        return "an empty file"
    return "" if head[place:] == magic else f"the content is not that of a {suffix} file"
