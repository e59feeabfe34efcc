"""Pictures for training: who is in which split, what is rendered, what is said of it."""

from __future__ import annotations

from collections import Counter
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest

from engine.recipe import Job, RecipeError
from operators.nn.capture.captions import FRAMES
from operators.nn.capture.scene import KINDS, SUBKINDS
from operators.recipes.align import is_held_out, vocabulary
from operators.recipes.captures import (
    cut_square,
    plan_tasks,
    render_set,
    split_subjects,
)
from operators.recipes.faces import FaceImage, Sampling, read_faces
from tests.recipes.people import people

COUNTS = {"bonafide": 6, "print": 8, "replay": 8, "mask3d": 8}


def face_of(subject: str) -> FaceImage:
    points = np.array([(40, 40), (60, 40), (50, 50), (43, 62), (57, 62)], float)
    return FaceImage("office", subject, "1", np.zeros((100, 100, 3), np.uint8), points, 76)


FACES = [face_of(name) for name in "aaabbcde"]


def test_no_subject_is_in_two_splits_and_none_is_left_out() -> None:
    splits = split_subjects(FACES, {})
    of = {(face.subject, split) for face, split in zip(FACES, splits, strict=True)}
    assert len(of) == 5
    assert {split for _, split in of} == {"train", "development", "test"}


def test_subjects_that_are_named_go_where_they_are_asked_to() -> None:
    splits = split_subjects(FACES, {"development": ("a",), "test": ("c", "d")})
    assert splits == ["development"] * 3 + ["train"] * 2 + ["test", "test", "train"]


@pytest.mark.parametrize(
    ("faces", "asked", "told"),
    [
        (FACES, {"test": ("z",)}, "no subject z; there are a, b, c, d, e"),
        (FACES[:4], {}, "cannot be split three ways"),
        (FACES, {"test": ("a",)}, "cannot be split three ways"),
    ],
)
def test_splits_that_cannot_be_are_told(faces: list[FaceImage], asked: dict, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        split_subjects(faces, asked)


def test_every_subject_and_subkind_is_rendered_equally_often() -> None:
    tasks = plan_tasks(FACES, range(5), COUNTS, "train", 100)
    assert Counter(task.kind for task in tasks) == COUNTS
    for kind in KINDS:
        own = [task for task in tasks if task.kind == kind]
        people_in = Counter(FACES[task.face].subject for task in own)
        assert len(set(people_in.values())) == 1
        assert {task.subkind for task in own} == set(SUBKINDS[kind])
        assert len({task.seed for task in own}) == len(own)
    assert tasks == plan_tasks(FACES, range(5), COUNTS, "train", 100)


def test_only_training_faces_are_put_before_other_rooms() -> None:
    rooms = {task.room for task in plan_tasks(FACES, range(5), COUNTS, "train", 100, rooms=3)}
    assert rooms == {0, 1, 2}
    for split, many in (("train", 0), ("development", 3), ("test", 3)):
        assert {t.room for t in plan_tasks(FACES, range(5), COUNTS, split, 100, many)} == {-1}


@pytest.mark.slow
def test_pictures_are_the_same_however_many_processes_make_them(tmp_path: Path) -> None:
    faces = [face for *_, found in read_faces(people(tmp_path), Sampling(1)) for face in found]
    tasks = plan_tasks(faces, range(4), {"bonafide": 2, "mask3d": 2}, "test", 7)
    job = Job(None, tmp_path)
    one, two = (render_set(faces, tasks, 64, job, processes) for processes in (1, 2))
    resource_tracker._resource_tracker._stop()  # of `multiprocessing`: it would outlive the test
    assert one is not None
    assert two is not None
    assert one.images.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(one.images, two.images)
    assert [shot.kind for shot in one.shots] == [task.kind for task in tasks]
    assert one.where(kind="mask3d").sum() == 2
    job.stop.set()
    assert render_set(faces, tasks, 64, job, 1) is None


def test_squares_tremble_as_detectors_do_and_only_so() -> None:
    face = face_of("a")
    face.image[40:60, 40:60] = 255
    cuts = [cut_square(face.image, face.points, 32, np.random.default_rng(n)) for n in range(3)]
    assert cuts[0].shape == (32, 32, 3)
    assert any((cuts[0] != other).any() for other in cuts[1:])
    again = cut_square(face.image, face.points, 32, np.random.default_rng(0))
    np.testing.assert_array_equal(cuts[0], again)


def test_captions_cover_exactly_the_kinds_they_are_true_of() -> None:
    classes = sorted((kind, sub) for kind in KINDS for sub in SUBKINDS[kind])
    words = vocabulary(classes)
    assert len(set(words.texts)) == len(words.texts)
    covered = {
        text: {classes[n] for n in words.covers[number].nonzero()[:, 0].tolist()}
        for text, number in zip(words.texts, words.caption_class.tolist(), strict=True)
    }
    general = [text for text in words.texts if "a face printed on paper" in text]
    assert len(general) == len(FRAMES)
    for text in general:
        assert covered[text] == {("print", sub) for sub in SUBKINDS["print"]}
    particular = next(text for text in words.texts if "latex face mask" in text)
    assert covered[particular] == {("mask3d", "latex")}
    kept = [is_held_out(text) for text in words.texts]
    assert 0.1 < sum(kept) / len(kept) < 0.35
    for number in range(len(words.covers)):
        of_group = [
            k for k, n in zip(kept, words.caption_class.tolist(), strict=True) if n == number
        ]
        assert 0 < sum(of_group) < len(of_group), "every group is learned and measured"
