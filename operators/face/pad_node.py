"""What both presentation-attack nodes share: from features to a verdict per track of one head.

Faces of all streams of a batch go through the head together; each score becomes log-odds by the
head's calibration and is one observation of its track's sequential test (method notes, 6.2).

A head that cannot judge never ends the stream and never opens a door: what is wrong travels as the
status of the verdict, and the decision makes `unsure` of it. Only a node that could never say
anything else refuses to start, for a door should rather say at once that it cannot work than stay
shut for an unknown reason: `required: true`, the default. With `required: false` a graph also runs
where no checkpoint is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Meta

from engine import Batch, Config, Frame, OpContext, Operator, OperatorError
from operators.events import event_frame
from operators.face.encode import EncodedFace
from operators.face.pad_head import CameraScale, load_head
from operators.face.verdicts import HeadVerdict, Profile, Status

if TYPE_CHECKING:
    from operators.nn.prompts.head import HeadScores, PadHead

SHIPPED = Path(__file__).parent / "checkpoints"
TOLD = 16  # different failures that are reported; each is on its verdicts in any case
WHY_NOT = {
    "TOO_SMALL": "the face is too small",
    "OUTSIDE": "the face is not wholly on the frame",
    "NOT_SEEN": "the face was not seen on this frame",
    "NO_POINTS": "the face has no usable points",
    "NO_COLOUR": "the picture has no colour",
    "LATER": "another frame's turn",
}


class PadConfig(Config, frozen=True):
    """Which head, and how sure its test must be."""

    checkpoint: Annotated[
        str, Meta(description="the head's .safetensors; empty: the one that comes along")
    ] = ""
    required: Annotated[
        bool,
        Meta(
            description="without a usable checkpoint: true does not start, false goes on and "
            "calls every face unsure"
        ),
    ] = True
    profile: Annotated[
        Profile, Meta(description="targets of the test; the decision's must be the same")
    ] = "balanced"


class Attempt(NamedTuple):
    """What came of a face on a frame."""

    status: Status
    reason: str = ""
    values: Mapping[str, Any] = {}  # fields of the record that only a scored face has
    log_odds: float = math.nan

    @property
    def failed(self) -> bool:
        return self.status not in ("scored", "skipped")


class PadNode(Operator[PadConfig]):
    """Base of `AntiSpoof` and `Mask3d`, which say which head they want."""

    preload = ("torch", "safetensors.torch")
    head_name: ClassVar[str]

    @classmethod
    def path_of(cls, config: PadConfig) -> Path:
        """Where the head is read from."""
        shipped = SHIPPED / f"{cls.head_name}.safetensors"
        return Path(config.checkpoint) if config.checkpoint else shipped

    @classmethod
    def checkpoints(cls, config: Any) -> Mapping[str, Path]:
        return {"checkpoint": cls.path_of(config)} if config.required else {}

    def open(self, ctx: OpContext) -> None:
        """Read the head; OperatorError where it is required and cannot be used."""
        from operators.nn.pad.decision import profile_named
        from operators.nn.pad.sequential import SequentialTest

        self._ctx = ctx
        self._told: set[str] = set()
        self._test = SequentialTest(profile_named(self.config.profile).sequential())
        self._last: dict[str, dict[int, Attempt]] = {}  # stream -> track -> its latest try
        self._scales: dict[str, CameraScale] = {}
        self._head: PadHead | None = None
        self._lack = Attempt("no_checkpoint")
        try:
            self._head = load_head(self.path_of(self.config), self.head_name, ctx)
        except OperatorError as error:
            if self.config.required:
                raise
            missing = error.code == "NO_CHECKPOINT"
            self._lack = Attempt("no_checkpoint" if missing else "error", error.message)
            ctx.report(error.code, f"{error.message}; every face will be unsure")

    def judge(self, features: Batch[Frame]) -> Batch[Frame]:
        """A frame of verdicts per frame of features, with its stamp: one for each track on it."""
        wanted = [
            (frame, face)
            for frame in features.frames
            for face in frame.of(EncodedFace)
            if face.row >= 0
        ]
        attempts = self._try_all(wanted)
        found: dict[tuple[int, int], Attempt] = {
            (id(frame), face.track_id): attempt
            for (frame, face), attempt in zip(wanted, attempts, strict=True)
        }
        return features.of(
            [event_frame(f.stamp, *self._verdicts(f, found)) for f in features.frames]
        )

    def reset(self, stream_id: str) -> None:
        self._test.reset(stream_id)
        self._last.pop(stream_id, None)
        self._scales.pop(stream_id, None)

    # ---- one pass of the head

    def _try_all(self, wanted: Sequence[tuple[Frame, EncodedFace]]) -> list[Attempt]:
        """An attempt for each, in order; those that are fit are scored in one pass."""
        if self._head is None:
            return [self._lack] * len(wanted)
        attempts = [self._unfit(self._head, frame, face) for frame, face in wanted]
        fit = [index for index, attempt in enumerate(attempts) if attempt is None]
        if fit:
            try:
                scored = self._score(self._head, [wanted[index] for index in fit])
            except (ValueError, RuntimeError, TypeError) as error:
                scored = [Attempt("error", f"{type(error).__name__}: {error}")] * len(fit)
            for index, attempt in zip(fit, scored, strict=True):
                attempts[index] = attempt
        made = [attempt for attempt in attempts if attempt is not None]
        for attempt in made:
            if attempt.failed:
                self._report(attempt)
        return made

    def _unfit(self, head: PadHead, frame: Frame, face: EncodedFace) -> Attempt | None:
        """Why a face cannot go through the head; None where it can."""
        if frame.stamp.synthetic:
            return Attempt("refused_synthetic")
        if face.backbone_sha != head.backbone_sha:
            told = f"features of weights {face.backbone_sha[:12]}, not {head.backbone_sha[:12]}"
            return Attempt("error", told)
        data = frame.data
        if data.ndim != 3 or data.shape[1] < 1 or data.shape[2] != head.dim:
            return Attempt("error", f"features of shape {data.shape}, not [n, 1 + N, {head.dim}]")
        if face.row >= len(data):
            return Attempt("error", f"features of {len(data)} faces have no row {face.row}")
        if not np.isfinite(data[face.row]).all():
            return Attempt("error", "the features are not finite")
        return None if 0 < face.quality <= 1 else Attempt("skipped", f"quality {face.quality:g}")

    def _score(self, head: PadHead, faces: Sequence[tuple[Frame, EncodedFace]]) -> list[Attempt]:
        import torch

        rows = np.stack([frame.data[face.row] for frame, face in faces]).astype(np.float32)
        with torch.inference_mode():
            scores = head(torch.from_numpy(rows))
        return [
            self._scored(head, frame.stamp.stream_id, scores, index)
            for index, (frame, _) in enumerate(faces)
        ]

    def _scored(self, head: PadHead, camera: str, scores: HeadScores, index: int) -> Attempt:
        score = float(scores.score_real[index])
        if not 0 <= score <= 1:
            return Attempt("error", f"the head's score is {score}")
        if camera not in self._scales:
            self._scales[camera] = CameraScale(head, camera)
        scale = self._scales[camera]
        log_odds = scale.log_odds(score)
        nearest = int(scores.nearest[index])
        values = {
            "score_real": score,
            "log_odds": log_odds,
            "p_value": scale.p_value(score),
            "nearest": head.elements[nearest] if 0 <= nearest < len(head.elements) else "",
            "nearest_cos": float(scores.nearest_cos[index]),
            **scale.threshold_fields,
        }
        return Attempt("scored", "", values, log_odds)

    # ---- one frame of verdicts

    def _verdicts(
        self, frame: Frame, found: Mapping[tuple[int, int], Attempt]
    ) -> list[HeadVerdict]:
        stamp = frame.stamp
        before = self._last.get(stamp.stream_id, {})
        now: dict[int, Attempt] = {}
        made = []
        for face in frame.of(EncodedFace):
            attempt = found.get((id(frame), face.track_id)) or self._not_tried(face, before)
            now[face.track_id] = attempt
            made.append(self._verdict(frame, face, attempt))
        self._last[stamp.stream_id] = now
        self._test.expire(stamp.stream_id, stamp.pts_ns)
        return made

    def _not_tried(self, face: EncodedFace, before: Mapping[int, Attempt]) -> Attempt:
        """Of a face without features: that it waits for its turn does not undo a failure."""
        if self._head is None:
            return self._lack
        if face.reason == "SYNTHETIC":
            return Attempt("refused_synthetic")
        last = before.get(face.track_id)
        if face.reason == "LATER" and last is not None and last.failed:
            return last
        return Attempt("skipped", WHY_NOT.get(face.reason, face.reason))

    def _verdict(self, frame: Frame, face: EncodedFace, attempt: Attempt) -> HeadVerdict:
        from operators.nn.pad.sequential import TrackKey

        key, pts_ns = TrackKey(frame.stamp.stream_id, face.track_id), frame.stamp.pts_ns
        if attempt.status == "scored":
            known = self._test.observe(key, pts_ns, attempt.log_odds, face.quality)
        else:
            known = self._test.skip(key, pts_ns)
        head = self._head
        return HeadVerdict(
            track_id=face.track_id,
            head=self.head_name,
            attack=head.attack if head else "",
            status=attempt.status,
            reason=attempt.reason,
            checkpoint=head.sha if head else "",
            backbone_sha=face.backbone_sha,
            profile=self.config.profile,
            **known._asdict(),
            **attempt.values,
        )

    def _report(self, attempt: Attempt) -> None:
        """Tell each failure once: it may come with every frame."""
        if self._head is None or attempt.reason in self._told or len(self._told) >= TOLD:
            return
        self._told.add(attempt.reason)
        self._ctx.report("NOT_JUDGED", f"{attempt.status}: {attempt.reason or 'synthetic frame'}")
