"""Faces as they reach a camera: real, printed, replayed, masked; rendered by the capture simulator.

Training, development and test share neither identities nor physical parameters. The square that a
detector would cut out is cut from each picture exactly as the running graph does it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.recipe import Job, RecipeError
from engine.testing import make_frame
from operators.face.square import cut_out, face_square
from operators.nn.capture.ranges import Split
from operators.nn.capture.scene import KINDS, SUBKINDS, Kind, render, sample
from operators.nn.capture.source import Source, vary
from operators.recipes.faces import U8, WIDER, FaceImage

JITTER = 0.03  # of the side: how far two detectors' squares differ
CHUNK = 8


@dataclass(frozen=True)
class Task:
    """One picture to be made."""

    face: int  # in the list of faces
    kind: Kind
    subkind: str
    seed: int
    split: Split
    other: int = -1  # face of a second person, whose features are mixed in; below 0: none
    room: int = -1  # in the list of rooms; below 0: where the face was filmed

    @property
    def varied(self) -> bool:
        """Sources are varied for training; development and test take them as they are."""
        return self.split == "train"


@dataclass(frozen=True)
class Shot:
    """One picture that was made, without its pixels."""

    kind: Kind
    subkind: str
    subject: str
    domain: str
    group: int = 0  # pictures of one face before one camera have the same


@dataclass(frozen=True)
class CaptureSet:
    """Pictures of one split, in the order of the tasks."""

    images: U8  # [N, S, S, 3]
    shots: tuple[Shot, ...]

    def where(self, **wanted: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[N] which shots have these values."""
        return np.array([all(getattr(s, k) == v for k, v in wanted.items()) for s in self.shots])


def split_subjects(faces: Sequence[FaceImage], asked: Mapping[Split, Sequence[str]]) -> list[Split]:
    """To which split each face belongs. Without `asked`, every fourth subject is for tests and the
    one after it for development, in the order of the names.
    """
    subjects = sorted({face.subject for face in faces})
    named = {subject: split for split, names in asked.items() for subject in names}
    unknown = sorted(set(named) - set(subjects))
    if unknown:
        raise RecipeError(f"no subject {', '.join(unknown)}; there are {', '.join(subjects)}")
    of: dict[str, Split] = {}
    for number, subject in enumerate(subjects):
        by_place: Split = {1: "test", 2: "development"}.get(number % 4, "train")  # type: ignore[assignment]
        of[subject] = named.get(subject, by_place if not named else "train")
    if set(of.values()) != {"train", "development", "test"}:
        raise RecipeError(f"{len(subjects)} subjects cannot be split three ways; bring more people")
    return [of[face.subject] for face in faces]


def plan_tasks(
    faces: Sequence[FaceImage],
    chosen: Sequence[int],
    counts: Mapping[Kind, int],
    split: Split,
    seed: int,
    rooms: int = 0,
) -> list[Task]:
    """So many pictures of each kind; every subject and sub-kind equally often.

    The n-th pictures of all kinds show the same face with the same seed, hence before the same
    camera, in the same light: they differ by the attack alone. `rooms`: how many there are to put
    training faces in.
    """
    by_subject: dict[str, list[int]] = {}
    for index in chosen:
        by_subject.setdefault(faces[index].subject, []).append(index)
    if not by_subject:
        raise RecipeError(f"there is no face for {split}")
    groups = [by_subject[name] for name in sorted(by_subject)]
    tasks = []
    for number in range(max(counts.values())):
        group = groups[number % len(groups)]
        rng = np.random.default_rng([seed, number])
        face = group[int(rng.integers(len(group)))]
        strangers = [other for other in groups if other is not group]
        other = room = -1
        if split == "train" and strangers:
            second = strangers[int(rng.integers(len(strangers)))]
            other = second[int(rng.integers(len(second)))]
        if split == "train" and rooms:
            room = int(rng.integers(rooms))
        for kind in KINDS:
            if number < counts.get(kind, 0):
                subkind = SUBKINDS[kind][number // len(groups) % len(SUBKINDS[kind])]
                tasks.append(Task(face, kind, subkind, seed + number, split, other, room))
    return tasks


def render_set(
    faces: Sequence[FaceImage],
    tasks: Sequence[Task],
    size_px: int,
    job: Job,
    processes: int,
    rooms: Sequence[U8] = (),
) -> CaptureSet | None:
    """The pictures of the tasks; None when the job is to stop."""
    images = np.empty((len(tasks), size_px, size_px, 3), np.uint8)
    what = f"render {tasks[0].split}" if tasks else "render"
    with _renderers((list(faces), list(rooms), size_px), processes) as render_chunks:
        for done, (index, image) in enumerate(_results(render_chunks, tasks), 1):
            images[index] = image
            if done % 50 == 0 or done == len(tasks):
                job.tell(what, done, len(tasks))
            if job.stop.is_set():
                return None
    return CaptureSet(images, tuple(_shot(faces[task.face], task) for task in tasks))


def cut_square(
    image: U8, points: np.ndarray[Any, Any], size_px: int, rng: np.random.Generator
) -> U8:
    """The square that a detector of some tremble would have cut, at `size_px`."""
    square = face_square(tuple((float(x), float(y)) for x, y in points))
    if square is None:
        message = "the points of a rendered face lie on each other"
        raise ValueError(message)
    x, y, side = square
    x, y = (value + side * rng.uniform(-JITTER, JITTER) for value in (x, y))
    side *= 1 + rng.uniform(-JITTER, JITTER)
    return cut_out(make_frame(image), (x, y, side), size_px)


Sources = tuple[list[FaceImage], list[U8], int]  # faces, rooms, and the size of pictures, px
_sources: Sources = ([], [], 0)
Numbered = list[tuple[int, Task]]
Chunks = Callable[[list[Numbered]], Iterable[list[tuple[int, U8]]]]


def _keep(*sources: Any) -> None:
    global _sources
    _sources = sources


@contextmanager
def _renderers(sources: Sources, processes: int) -> Iterator[Chunks]:
    """Something that renders chunks in order: this process alone, or several of its own."""
    if processes == 1:
        _keep(*sources)
        yield lambda chunks: map(_render_chunk, chunks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
    with ProcessPoolExecutor(processes, context, _keep, sources) as pool:
        yield lambda chunks: pool.map(_render_chunk, chunks)
        pool.shutdown(cancel_futures=True)


def _results(render_chunks: Chunks, tasks: Sequence[Task]) -> Iterator[tuple[int, U8]]:
    numbered = list(enumerate(tasks))
    chunks = [numbered[start : start + CHUNK] for start in range(0, len(numbered), CHUNK)]
    for made in render_chunks(chunks):
        yield from made


def _render_chunk(numbered: Numbered) -> list[tuple[int, U8]]:
    return [(index, _render_one(task)) for index, task in numbered]


def _render_one(task: Task) -> U8:
    faces, rooms, size_px = _sources
    face = faces[task.face]
    image, points = face.image, face.points
    if task.varied:
        rng = np.random.default_rng([task.seed, 78])
        other = _source(faces[task.other]) if task.other >= 0 else None
        room = rooms[task.room] if task.room >= 0 else None
        image, points, _ = vary(_source(face), rng, other, room)
    capture = sample(task.kind, task.seed, task.split, task.subkind)
    made = render(image, points, capture, round(size_px * WIDER))
    return cut_square(made.image, made.points, size_px, np.random.default_rng([task.seed, 77]))


def _source(face: FaceImage) -> Source:
    return Source(face.image, face.points, face.native_px * WIDER)


def _shot(face: FaceImage, task: Task) -> Shot:
    return Shot(task.kind, task.subkind, face.subject, face.domain, task.seed)
