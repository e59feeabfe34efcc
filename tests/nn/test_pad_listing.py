"""The evaluation folder: what fits is typed and sorted, every mistake is told with its path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from operators.nn.pad.errors import FolderError
from operators.nn.pad.listing import read_folder

JPG, PNG, MP4 = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x20ftypisom"


def put(root: Path, name: str, head: bytes = JPG) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + name.encode())  # no two files alike
    return path


def good(root: Path) -> None:
    put(root, "lab/live/anna/1.jpg")
    put(root, "lab/live/anna/clip.mp4", MP4)
    put(root, "lab/spoof/print/anna/1.PNG", PNG)
    put(root, "lab/spoof/mask_resin/ben/x.jpeg")
    put(root, "street/live/anna/1.jpg")
    put(root, "README.md", b"where it is from")


def problems(root: Path) -> list[str]:
    with pytest.raises(FolderError) as caught:
        read_folder(root)
    return list(caught.value.problems)


def test_a_good_folder_is_typed_and_sorted(tmp_path):
    good(tmp_path)
    put(tmp_path, "lab/live/anna/.DS_Store", b"")
    listing = read_folder(tmp_path)
    rows = [(i.domain, i.species, i.subject, i.path.name, i.kind) for i in listing.items]
    assert rows == [
        ("lab", "", "anna", "1.jpg", "image"),
        ("lab", "", "anna", "clip.mp4", "video"),
        ("lab", "mask_resin", "ben", "x.jpeg", "image"),
        ("lab", "print", "anna", "1.PNG", "image"),
        ("street", "", "anna", "1.jpg", "image"),
    ]
    assert listing.domains == ("lab", "street")
    assert listing.species == ("mask_resin", "print")
    assert [item.is_live for item in listing.items] == [True, True, False, False, True]
    # One person live and attacked; the same name elsewhere is another person.
    assert listing.items[0].identity == listing.items[3].identity == "lab/anna"
    assert listing.items[4].identity == "street/anna"


@pytest.mark.parametrize(
    ("name", "head", "path", "problem"),
    [
        ("loose.jpg", JPG, "loose.jpg", "a file where a domain folder is expected"),
        ("lab/loose.jpg", JPG, "lab/loose.jpg", "only `live` and `spoof`"),
        ("lab/real/anna/2.jpg", JPG, "lab/real", "only `live` and `spoof` are known here"),
        ("lab/Live/anna/2.jpg", JPG, "lab/Live", "only `live` and `spoof` are known here"),
        ("lab/live/2.jpg", JPG, "lab/live/2.jpg", "a file where a subject's folder is expected"),
        ("lab/spoof/2.jpg", JPG, "lab/spoof/2.jpg", "a file where the folder of an attack type"),
        ("lab/spoof/print/2.jpg", JPG, "lab/spoof/print/2.jpg", "a file where a subject's folder"),
        ("lab/live/anna/deep/2.jpg", JPG, "lab/live/anna/deep", "a folder where a file"),
        ("lab/live/anna/2.bmp", b"BM", "lab/live/anna/2.bmp", "extension .bmp is not one of .jpg"),
        ("lab/live/anna/2", JPG, "lab/live/anna/2", "extension (none) is not one of"),
        ("lab/live/anna/2.jpg", PNG, "lab/live/anna/2.jpg", "not that of a .jpg file"),
        ("lab/live/anna/2.mp4", b"RIFF", "lab/live/anna/2.mp4", "not that of a .mp4 file"),
        ("lab/live/an\nna/2.jpg", JPG, "lab/live/an\\nna", "unprintable"),
        ("lab/live/anna/notes.txt", b"x", "lab/live/anna/notes.txt", "extension .txt"),
    ],
)
def test_a_mistake_is_told_with_its_path(tmp_path, name, head, path, problem):
    good(tmp_path)
    put(tmp_path, name, head)
    (told,) = problems(tmp_path)
    assert told.startswith(f"{path}: ")
    assert problem in told


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("empty", "empty: a domain without media"),
        ("lab/live/nobody", "lab/live/nobody: a subject without media"),
        ("lab/spoof/replay", "lab/spoof/replay: no subject folder"),
        ("street/spoof", "street/spoof: no attack type"),
    ],
)
def test_an_empty_folder_is_told(tmp_path, folder, problem):
    good(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    (told,) = problems(tmp_path)
    assert told.startswith(problem)


def test_an_empty_file_and_links_that_lead_nowhere_or_out(tmp_path):
    root = tmp_path / "data"
    good(root)
    (root / "lab/live/anna/0.jpg").touch()
    (root / "lab/live/anna/2.jpg").symlink_to(root / "gone.jpg")
    (root / "lab/live/anna/3.jpg").symlink_to(put(tmp_path, "outside/3.jpg"))
    (root / "lab/spoof/loop").symlink_to(root / "lab/spoof/loop")
    assert problems(root) == [
        "lab/live/anna/0.jpg: an empty file",
        "lab/live/anna/2.jpg: a link to nothing",
        "lab/live/anna/3.jpg: a link that leads out of the folder",
        "lab/spoof/loop: a link to nothing",
    ]


def test_one_picture_under_two_labels_or_people_is_told(tmp_path):
    good(tmp_path)
    copy = tmp_path / "lab/spoof/print/anna/2.jpg"
    copy.write_bytes((tmp_path / "lab/live/anna/1.jpg").read_bytes())
    (told,) = problems(tmp_path)
    assert told == "lab/spoof/print/anna/2.jpg: has the same content as lab/live/anna/1.jpg"


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    good(tmp_path)
    os.mkfifo(tmp_path / "lab/live/anna/pipe.jpg")  # opening it would wait for ever
    (told,) = problems(tmp_path)
    assert told == "lab/live/anna/pipe.jpg: no ordinary file where a file is expected"


def test_all_mistakes_are_told_at_once(tmp_path):
    good(tmp_path)
    for number in range(150):
        put(tmp_path, f"lab/live/anna/{number:03}.gif", b"GIF")
    put(tmp_path, "lab/odd/x.jpg")
    with pytest.raises(FolderError, match=r"151 problem\(s\)") as caught:
        read_folder(tmp_path)
    assert len(caught.value.problems) == 151
    assert str(caught.value).splitlines()[-1] == "  and 51 more"


def test_no_folder_and_an_empty_one(tmp_path):
    assert problems(tmp_path / "gone") == ["does not exist"]
    assert problems(put(tmp_path, "file.jpg")) == ["not a folder"]
    (tmp_path / "none").mkdir()
    (told,) = problems(tmp_path / "none")
    assert told.startswith("no media found; the layout is domain/")
