"""Follow faces over time: ByteTrack (Zhang et al. 2022, arXiv:2110.06864), with times in pts.

Association in two rounds, strong detections first, then the weak ones that explain a lost track
(the paper's Algorithm 1). Written here because the packages that hold it bring plotting, model hubs
or a second OpenCV, and count lost time in frames, which means nothing when frames are dropped.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator
from operators.face.kalman import BoxFilter
from operators.face.records import Box, Face, Point, Track, Unsearched
from operators.ports import AnyVideo

IMPOSSIBLE = 1e6  # cost of a pair that the gate forbids


class TrackConfig(Config, frozen=True):
    """When a detection belongs to a track, and how long a track is remembered."""

    strong_score: Annotated[
        float, Meta(ge=0, le=1, description="detections at least this sure are matched first")
    ] = 0.6
    new_score: Annotated[
        float, Meta(ge=0, le=1, description="an unmatched detection this sure begins a track")
    ] = 0.6
    min_iou: Annotated[
        float, Meta(gt=0, le=1, description="a pair that overlaps less is never matched")
    ] = 0.2
    min_hits: Annotated[
        int, Meta(ge=1, description="detections before a track is told; 1 tells it at once")
    ] = 3
    lost_ms: Annotated[
        int, Meta(ge=0, description="how long in pts a track outlives its last detection")
    ] = 1000


class FaceTrack:
    """One face being followed."""

    def __init__(self, track_id: int, face: Face, pts_ns: int) -> None:
        self.track_id = track_id
        self.hits = 1
        self.lost = False
        self.first_ns = self.seen_ns = pts_ns
        self.score = face.score
        self.points: tuple[Point, ...] = face.points
        self.filter = BoxFilter(np.array(face.box))

    def observe(self, face: Face, pts_ns: int) -> None:
        self.hits += 1
        self.lost = False
        self.seen_ns = pts_ns
        self.score = face.score
        self.points = face.points
        self.filter.update(np.array(face.box))

    def record(self, pts_ns: int, box: Box | None) -> Track:
        """As it stands; `box` is the detection's, None where there was none."""
        left, top, right, bottom = box or tuple(self.filter.box.round(2).tolist())
        return Track(
            track_id=self.track_id,
            box=(left, top, right, bottom),
            score=self.score,
            points=self.points,
            hits=self.hits,
            age_ms=(pts_ns - self.first_ns) // 1_000_000,
            predicted=box is None,
            lost=self.lost,
        )


class StreamTracks:
    """All tracks of one stream."""

    def __init__(self, config: TrackConfig) -> None:
        self._config = config
        self._tracks: list[FaceTrack] = []
        self._next_id = 1
        self._last_ns: int | None = None

    def follow(self, faces: list[Face], pts_ns: int) -> list[Track]:
        """Tracks seen or still expected at this moment, by id. Time must not run backwards."""
        config = self._config
        self._predict(pts_ns)
        strong = [face for face in faces if face.score >= config.strong_score]
        weak = [face for face in faces if face.score < config.strong_score]
        seen: dict[int, Box] = {}
        lost, fresh = self._match(self._tracks, strong, pts_ns, seen)
        lost, _ = self._match(lost, weak, pts_ns, seen)
        for face in fresh:
            if face.score >= config.new_score:
                track = FaceTrack(0, face, pts_ns)
                self._tracks.append(track)
                seen[id(track)] = face.box
        self._forget(lost, pts_ns)
        return self._told(seen, pts_ns)

    def coast(self, pts_ns: int) -> list[Track]:
        """Tracks expected at a moment that nobody searched: none begins, none is given up."""
        self._predict(pts_ns)
        return self._told({}, pts_ns)

    def _predict(self, pts_ns: int) -> None:
        seconds = 0.0 if self._last_ns is None else max(pts_ns - self._last_ns, 0) / 1e9
        self._last_ns = pts_ns
        for track in self._tracks:
            track.filter.predict(seconds)

    def _match(
        self, tracks: list[FaceTrack], faces: list[Face], pts_ns: int, seen: dict[int, Box]
    ) -> tuple[list[FaceTrack], list[Face]]:
        """The pairing with the largest overlap; what of both sides stays alone."""
        from scipy.optimize import linear_sum_assignment

        if not tracks or not faces:
            return list(tracks), faces
        overlap = pairwise_iou(
            np.array([track.filter.box for track in tracks]),
            np.array([face.box for face in faces]),
        )
        cost = np.where(overlap >= self._config.min_iou, 1 - overlap, IMPOSSIBLE)
        rows, columns = linear_sum_assignment(cost)
        pairs = {r: c for r, c in zip(rows, columns, strict=True) if cost[r, c] < IMPOSSIBLE}
        for row, column in pairs.items():
            tracks[row].observe(faces[column], pts_ns)
            seen[id(tracks[row])] = faces[column].box
        taken = set(pairs.values())
        return (
            [track for row, track in enumerate(tracks) if row not in pairs],
            [face for column, face in enumerate(faces) if column not in taken],
        )

    def _forget(self, lost: list[FaceTrack], pts_ns: int) -> None:
        patience_ns = self._config.lost_ms * 1_000_000
        for track in lost:
            track.lost = True
        gone = {
            id(track)
            for track in lost
            if track.track_id == 0 or pts_ns - track.seen_ns > patience_ns
        }
        self._tracks = [track for track in self._tracks if id(track) not in gone]

    def _told(self, seen: dict[int, Box], pts_ns: int) -> list[Track]:
        records = []
        for track in self._tracks:
            if track.track_id == 0 and track.hits >= self._config.min_hits:
                track.track_id = self._next_id
                self._next_id += 1
            if track.track_id:
                records.append(track.record(pts_ns, seen.get(id(track))))
        return sorted(records, key=lambda record: record.track_id)


class FaceTracker(Operator[TrackConfig]):
    """Adds one `Track` record per followed face. State per stream, forgotten with it."""

    preload = ("scipy.optimize",)
    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        self._streams = ctx.per_stream(lambda _: StreamTracks(self.config))

    def process(self, frames: AnyVideo) -> Annotated[Frame, Caps(media="video", like="frames")]:
        """The same frame with `Track` records, by id."""
        stream, pts_ns = self._streams[frames.stamp.stream_id], frames.stamp.pts_ns
        unsearched = frames.of(Unsearched)
        tracks = stream.coast(pts_ns) if unsearched else stream.follow(frames.of(Face), pts_ns)
        return frames.with_records(*tracks)


def pairwise_iou(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Intersection over union of [N, 4] with [M, 4] boxes -> [N, M]."""
    left_top = np.maximum(first[:, None, :2], second[None, :, :2])
    right_bottom = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    shared = sides.prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    result: npt.NDArray[np.float64] = shared / np.maximum(
        areas[0][:, None] + areas[1][None] - shared, 1e-9
    )
    return result
