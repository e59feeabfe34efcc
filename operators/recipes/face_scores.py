"""From files to scores: the largest face of each chosen frame, seen and judged as a graph does it.

Square, pixels and the limits of what is judged at all are those of `FaceEncode`, so that a figure
of `eval` is one of the running system. What cannot be scored keeps its place and its reason: it is
a non-response in the sense of ISO/IEC 30107-3, never a row that disappears (method notes, 7.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from engine import Batch, Frame, OperatorError
from engine.recipe import Job, RecipeError
from engine.testing import HarnessContext, make_frame
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.encode import SHIPPED, FaceEncodeConfig
from operators.face.records import Face
from operators.face.square import cut_out, face_square, share_inside
from operators.nn.pad.listing import KINDS, MediaItem
from operators.nn.pad.scoring import FrameResult, ScoredItem, VideoRule, score_items
from operators.nn.prompts.head import PadHead, open_head
from operators.nn.vlm.compact_file import open_compact
from operators.nn.vlm.interface import Vlm
from operators.nn.vlm.loading import load_clip
from operators.recipes.align import joined_features
from operators.recipes.faces import U8
from operators.recipes.media import decoded

F64 = npt.NDArray[np.float64]
F16 = npt.NDArray[np.float16]
BATCH = 64
LIMITS = FaceEncodeConfig()
NO_FACE, TOO_SMALL, OUTSIDE, NO_POINTS = "NO_FACE", "TOO_SMALL", "OUTSIDE", "NO_POINTS"
UNREADABLE = "UNREADABLE"


def open_backbone(path: Path | None, *, with_text: bool = False) -> Vlm:
    """A compact model or a folder of CLIP, None: the one that comes along. RecipeError if not."""
    place = path or SHIPPED
    try:
        if place.is_dir():
            return load_clip(place, with_text=with_text)
        return open_compact(place, with_text)
    except (OSError, ValueError) as error:
        message = f"{place}: {error}; name another backbone, or run: frameloom train vlm-compact"
        raise RecipeError(message) from error


def open_judge(path: Path, vlm: Vlm) -> PadHead:
    """The head of a file, which must have been trained on this backbone's features."""
    try:
        head = open_head(path)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: {error}; train one, or name another") from error
    if head.backbone_sha != vlm.backbone_sha:
        raise RecipeError(
            f"{path}: was trained on the features of backbone {head.backbone_sha[:12]}, this is "
            f"{vlm.name} {vlm.backbone_sha[:12]}; name the other with --set backbone=PATH"
        )
    return head


def score_features(head: PadHead, features: F16) -> F64:
    """[N, 1 + P, dim] as `joined_features` gives them -> [N] scores, higher = more bona fide."""
    found = [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(features), BATCH):
            some = torch.from_numpy(features[start : start + BATCH]).float()
            found.append(head(some).score_real.double().numpy())
    return np.concatenate(found)


class FileScorer:
    """Scores one file after the other; `score` is what `score_items` asks for."""

    def __init__(self, vlm: Vlm, head: PadHead, rule: VideoRule) -> None:
        self._vlm, self._head, self._rule = vlm, head, rule
        self._detector = FaceDetect(
            FaceDetectConfig(model="crowd", crowd_width_px=640, min_score=0.5, min_face_px=24)
        )
        self._ctx = HarnessContext()
        self._detector.open(self._ctx)

    def score(self, path: Path) -> list[FrameResult]:
        """Per chosen frame a score, or why there is none."""
        results: list[FrameResult] = []
        crops: list[U8] = []
        places: list[int] = []
        try:
            for frame in chosen_frames(path, self._rule):
                crop = self._crop(frame)
                if not isinstance(crop, str):
                    places.append(len(results))
                    crops.append(crop)
                results.append(crop if isinstance(crop, str) else "")
        except OperatorError:
            results.append(UNREADABLE)  # what came before counts, and so does the failure
        if crops:
            features = joined_features(self._vlm.image, np.stack(crops))
            for place, score in zip(places, score_features(self._head, features), strict=True):
                results[place] = float(score)
        return results

    def close(self) -> None:
        """Give back what the detector holds."""
        self._detector.close()
        self._ctx.exits.close()

    def _crop(self, frame: Frame) -> U8 | str:
        """The square of the largest face, or the reason why there is none to be judged."""
        (searched,) = self._detector.process(Batch((frame,))).frames
        faces = sorted(searched.of(Face), key=_width_px)
        if not faces:
            return NO_FACE
        face = faces[-1]
        if _width_px(face) < LIMITS.min_face_px:
            return TOO_SMALL
        square = face_square(face.points)
        if square is None:
            return NO_POINTS
        if share_inside(square, frame) < LIMITS.min_inside:
            return OUTSIDE
        return cut_out(frame, square, self._vlm.image.size_px)


@contextmanager
def file_scorer(vlm: Vlm, head: PadHead, rule: VideoRule) -> Iterator[FileScorer]:
    """A scorer that is closed at the end."""
    scorer = FileScorer(vlm, head, rule)
    try:
        yield scorer
    finally:
        scorer.close()


def score_all(
    items: Sequence[MediaItem], vlm: Vlm, head: PadHead, rule: VideoRule, job: Job
) -> list[ScoredItem]:
    """All items in their order; RecipeError when the job is to stop."""
    found: list[ScoredItem] = []
    with file_scorer(vlm, head, rule) as scorer:
        for done, scored in enumerate(score_items(items, scorer.score), 1):
            found.append(scored)
            job.tell("score", done, len(items))
            if job.stop.is_set():
                raise RecipeError(f"stopped after {done} of {len(items)} files: nothing is written")
    return found


def chosen_frames(path: Path, rule: VideoRule) -> Iterator[Frame]:
    """A picture's one frame, or those of a video that `rule` selects; decodes no further than it.

    OperatorError for a file that cannot be read (any more).
    """
    if KINDS.get(path.suffix.lower()) == "image":
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise OperatorError(UNREADABLE, f"{path}: is no picture that can be read")
        yield make_frame(image)
        return
    newest: list[Frame] = []

    def times() -> Iterator[int]:
        for frame in decoded(path):
            newest[:] = [frame]
            yield frame.stamp.pts_ns

    for _ in rule.select(times()):
        yield newest[0]


def _width_px(face: Face) -> float:
    return face.box[2] - face.box[0]
