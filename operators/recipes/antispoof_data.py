"""What prompts are learned from and measured on: features of rendered faces.

For unknown-spoof prompts training and calibration see bona fide captures of one domain alone;
whatever is an attack is refused at the folder and again at the features (method notes, 2.3,
property 6). The test shows all kinds, held-out people of every domain, and physical parameters that
no other split has. Features are kept in the job's folder, so that a run that goes on, or a sweep,
renders nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
import torch

from engine.recipe import Job, RecipeError
from operators.face.encode import SHIPPED
from operators.nn.capture.ranges import Split
from operators.nn.capture.scene import Kind
from operators.nn.spoof_prompts.data import RealFaces
from operators.nn.vlm.compact_file import load_compact, write_whole
from operators.nn.vlm.interface import ImageTower
from operators.recipes.align import joined_features
from operators.recipes.captures import Shot, Task, plan_tasks, render_set, split_subjects
from operators.recipes.face_scores import F16
from operators.recipes.faces import U8, FaceImage
from operators.recipes.vlm_compact import SHARES, SPLIT_SEEDS, asked_splits

CHUNK = 64
TWIN_SEED = 25_000_000  # beyond every seed of a recipe: another capture of the same face
PROBED = 4  # pictures that are rendered again to see whether kept features are still those
_KEY = "frameloom.features"


@dataclass(frozen=True)
class Featured:
    """Features of one set of pictures."""

    data: F16  # [N, 1 + P, dim], as a head takes them; P 0 where patches were not asked for
    shots: tuple[Shot, ...]

    def unit(self) -> torch.Tensor:
        """[N, dim] float32, unit."""
        return torch.nn.functional.normalize(torch.from_numpy(self.data[:, 0]).float(), dim=1)


@dataclass(frozen=True)
class People:
    """Who is in which split, and which domain is learned from ("": all of them)."""

    faces: Sequence[FaceImage]
    splits: Sequence[Split]
    domain: str

    def chosen(self, split: Split) -> list[int]:
        """Faces of a split: of the one domain, for tests of all."""
        return [
            number
            for number, (face, of) in enumerate(zip(self.faces, self.splits, strict=True))
            if of == split and (split == "test" or self.domain in {"", face.domain})
        ]

    def subjects(self) -> dict[str, list[str]]:
        """`domain/subject` by split: for the card."""
        return {
            split: sorted({name_of(self.faces[number]) for number in self.chosen(split)})
            for split in SPLIT_SEEDS
        }


def name_of(face: FaceImage) -> str:
    """The person, as listings and cards spell it."""
    return f"{face.domain}/{face.subject}"


def backbone_subjects(path: Path | None) -> Mapping[str, Sequence[str]]:
    """Who the compact model learned from, by split; empty for other models."""
    place = path or SHIPPED
    if place.is_dir():
        return {}
    _, descriptor, _ = load_compact(place)
    subjects: Mapping[str, Sequence[str]] = descriptor.card.get("subjects", {})
    return subjects


def split_people(
    faces: Sequence[FaceImage],
    asked: tuple[Sequence[str], Sequence[str]],  # subjects for development and for tests
    backbone: Mapping[str, Sequence[str]],
    domain: str | None,
) -> People:
    """As asked; else as the backbone had it; else by the order of the names.

    `domain` "" takes the one with most training people, None all of them. RecipeError where nobody
    is left for a split, or the backbone learned from somebody who is to be measured or calibrated
    on here.
    """
    named = asked_splits(*asked)
    if backbone and not named:
        of: dict[str, Split] = {
            name: split for split in SPLIT_SEEDS for name in backbone.get(split, ())
        }
        splits = [of.get(name_of(face), "train") for face in faces]
    else:
        splits = split_subjects(faces, named)
    seen = set(backbone.get("train", ()))
    held = {name_of(f) for f, of in zip(faces, splits, strict=True) if of != "train"}
    if seen & held:
        raise RecipeError(
            f"the backbone learned from {', '.join(sorted(seen & held))}: they cannot be held out; "
            "leave development and test unset, or train another backbone"
        )
    chosen = "" if domain is None else domain or _richest(faces, splits)
    people = People(faces, splits, chosen)
    for split in SPLIT_SEEDS:
        if not people.chosen(split):
            domains = ", ".join(sorted({face.domain for face in faces}))
            raise RecipeError(
                f"domain {people.domain}: nobody for {split}; there are {domains}: choose another "
                "domain, or subjects with --set development=[..] --set test=[..]"
            )
    return people


def refuse_attacks(folder: Path, domain: str) -> None:
    """RecipeError if the domain to learn from holds any attack."""
    spoof = folder / domain / "spoof"
    if spoof.exists():
        raise RecipeError(
            f"{spoof}: training sees only real faces; move the attacks elsewhere, "
            "they are for frameloom eval"
        )


def tasks_of(
    people: People,
    split: Split,
    count: int,
    seed: int,
    shares: Mapping[Kind, float] | None = None,
) -> list[Task]:
    """Without `shares`, bona fide pictures for training and development, all kinds for tests."""
    if shares is None:
        shares = SHARES if split == "test" else {"bonafide": 1.0}
    counts = {kind: round(count * share) for kind, share in shares.items()}
    first = SPLIT_SEEDS[split] + seed * 100_000
    return plan_tasks(people.faces, people.chosen(split), counts, split, first)


def twins(tasks: Sequence[Task]) -> list[Task]:
    """Other captures of the same faces: the second view of each."""
    return [replace(task, seed=task.seed + TWIN_SEED) for task in tasks]


def real_faces(made: Featured, twin: Featured | None = None) -> RealFaces:
    """For training. `LeakError` if anything but bona fide captures of one domain is among them."""
    return RealFaces.of(
        torch.from_numpy(made.data[:, 0]).float(),
        [shot.kind for shot in made.shots],
        [shot.domain for shot in made.shots],
        None if twin is None else torch.from_numpy(twin.data[:, 0]).float(),
    )


@dataclass(frozen=True)
class Renderer:
    """Makes pictures and their features, and keeps the latter."""

    tower: ImageTower
    backbone_sha: str
    faces: Sequence[FaceImage]
    processes: int
    job: Job
    patches: bool = False  # also keep the features of patches

    def features(self, name: str, tasks: Sequence[Task]) -> Featured | None:
        """Of the tasks' pictures, from `out/features-NAME.safetensors` if they are there.

        None when the job is to stop.
        """
        probe = render_set(self.faces, tasks[:PROBED], self.tower.size_px, self.job, 1)
        if probe is None:
            return None
        path = self.job.out / f"features-{name}.safetensors"
        fingerprint = self._fingerprint(tasks, probe.images)
        kept = _kept(path, fingerprint)
        if kept is not None:
            return kept
        made = render_set(self.faces, tasks, self.tower.size_px, self.job, self.processes)
        data = None if made is None else self._encode(made.images, name)
        if made is None or data is None:
            return None
        _keep(path, fingerprint, Featured(data, made.shots))
        return Featured(data, made.shots)

    def _encode(self, images: U8, name: str) -> F16 | None:
        found = []
        for start in range(0, len(images), CHUNK):
            if self.job.stop.is_set():
                return None
            joined = joined_features(self.tower, images[start : start + CHUNK])
            found.append(joined if self.patches else joined[:, :1])
            self.job.tell(f"features {name}", min(start + CHUNK, len(images)), len(images))
        return np.concatenate(found)

    def _fingerprint(self, tasks: Sequence[Task], probe: U8) -> str:
        """Of people, tasks, backbone, and of what the simulator makes of the first of them."""
        digest = hashlib.sha256(
            msgspec.json.encode([self.backbone_sha, self.patches, [asdict(t) for t in tasks]])
        )
        for face in self.faces:
            digest.update(face.image.tobytes() + face.points.tobytes())
        return digest.hexdigest() + hashlib.sha256(probe.tobytes()).hexdigest()


def _keep(path: Path, fingerprint: str, made: Featured) -> None:
    told = {"fingerprint": fingerprint, "shots": [asdict(shot) for shot in made.shots]}
    data = safetensors.numpy.save(
        {"data": np.ascontiguousarray(made.data)}, {_KEY: msgspec.json.encode(told).decode()}
    )
    write_whole(path, data)


def _kept(path: Path, fingerprint: str) -> Featured | None:
    """None if there is no such file, or it is of something else."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "np") as file:
            told = msgspec.json.decode((file.metadata() or {}).get(_KEY, "{}"))
            if told.get("fingerprint") != fingerprint:
                return None
            data = file.get_tensor("data")
    except safetensors.SafetensorError:
        return None  # was cut short: made again
    return Featured(data, tuple(Shot(**shot) for shot in told["shots"]))


def _richest(faces: Sequence[FaceImage], splits: Sequence[Split]) -> str:
    """The domain with most training people; of equals the first by name."""
    people: dict[str, set[str]] = {face.domain: set() for face in faces}
    for face, split in zip(faces, splits, strict=True):
        if split == "train":
            people[face.domain].add(face.subject)
    return min(people, key=lambda domain: (-len(people[domain]), domain))
