"""Faces to features of a vision-language model: one pass of its image tower for all who ask.

Anti-spoofing and mask detection both read these features, so the dear part is done once per face.
It runs beside the pictures, never in their way: which faces are encoded on a frame is decided by a
schedule in pts (new tracks first), and a frame without features says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Batch, Caps, Config, Frame, OpContext, Operator, OperatorError, Record
from operators.engines import ENGINE, Engine
from operators.face.host_tower import Encoded, HostTower
from operators.face.records import Box, Track
from operators.face.square import face_square, share_inside
from operators.kernels.launching import KERNELS
from operators.ports import Features, NodeVideo

if TYPE_CHECKING:
    from operators.nn.pad.schedule import VisibleTrack
    from operators.nn.pad.sequential import TrackKey
    from operators.nn.vlm.interface import Vlm

U8 = npt.NDArray[np.uint8]
F16 = npt.NDArray[np.float16]
SHIPPED = Path(__file__).parent / "checkpoints" / "compact-vlm.safetensors"
FEATURE_CAPS = Caps(media="features", dtype="float16", device="cpu")
FULL_QUALITY_PX = 112.0  # of a face's width: what recognition and the spoof papers take as enough


class EncodedFace(Record, frozen=True):
    """One track on a frame of features: where its features are, or why it has none."""

    track_id: int
    row: int  # in the frame's data; -1: not encoded now
    box: Box
    quality: float  # 0 to 1: how much the features can be trusted
    reason: str = ""  # TOO_SMALL | OUTSIDE | NOT_SEEN | NO_POINTS | NO_COLOUR | SYNTHETIC | LATER
    backbone_sha: str = ""  # of the weights the features come from


class FaceEncodeConfig(Config, frozen=True):
    """Which model, how often, and which faces are good enough."""

    checkpoint: Annotated[
        str,
        Meta(
            description="compact model (.safetensors) or folder of a CLIP model in "
            "transformers' layout; empty: the compact model that comes along"
        ),
    ] = ""
    every_ms: Annotated[
        int, Meta(ge=10, le=5000, description="a track is encoded this often in pts")
    ] = 100
    max_faces: Annotated[
        int,
        Meta(ge=1, le=64, description="encoded in one turn; the others have to wait for theirs"),
    ] = 4
    min_face_px: Annotated[
        float, Meta(ge=8, description="narrower faces are not judged: there is too little to see")
    ] = 48
    engine: Annotated[Engine, Meta(description=ENGINE)] = "ready"
    min_inside: Annotated[
        float, Meta(ge=0, le=1, description="least share of a face's square on the frame")
    ] = 0.55


class FaceEncode(Operator[FaceEncodeConfig]):
    """Frames with `Track` records in; as many frames of features out, with the same stamps.

    Data [n, 1 + N, dim] float16: of each encoded face the pooled feature, then its N patches by the
    value path. An `EncodedFace` record per track.
    """

    preload = ("torch", "safetensors.torch")
    devices = ("cpu", "cuda")
    gpu_needs: ClassVar = KERNELS

    @classmethod
    def checkpoints(cls, config: Any) -> Mapping[str, Path]:
        return {"checkpoint": Path(config.checkpoint) if config.checkpoint else SHIPPED}

    def open(self, ctx: OpContext) -> None:
        from operators.nn.pad.schedule import Schedule, ScheduleConfig

        config = self.config
        self._live = ctx.mode == "live"
        self._vlm = load_vlm(config.checkpoint, ctx)
        self._schedule = Schedule(ScheduleConfig(config.max_faces, config.every_ms * 1_000_000))
        self._tower = self._open_tower(ctx)

    def _open_tower(self, ctx: OpContext) -> Callable[[Sequence[tuple[Frame, Track]]], Encoded]:
        """CompileError for an engine that was named and cannot be had."""
        from operators.engines import open_engine
        from operators.face.network import LARGEST_BATCH, tower_network

        build = "`engine: auto` measures what is faster"
        if not self.config.checkpoint:
            option = f" --threads {ctx.threads}" if ctx.gpu is None else " --device cuda"
            build = f"`frameloom engines build compact-image-tower{option}` makes one"
        network = tower_network(self._vlm.image)
        net = open_engine(network, "image tower", self.config.engine, ctx, build)
        if ctx.gpu is None:
            return HostTower(self._vlm, net, LARGEST_BATCH)
        from operators.face.on_device import DeviceTower

        return DeviceTower(self._vlm, ctx.gpu, net)

    def process(self, frames: Batch[NodeVideo]) -> Batch[Features]:
        """All faces of a batch that are due go through the tower together."""
        from operators.nn.pad.schedule import VisibleTrack
        from operators.nn.pad.sequential import TrackKey

        reasons: list[dict[int, str]] = []
        visible: list[list[VisibleTrack]] = []
        for frame in frames.frames:
            stamp = frame.stamp
            told = {track.track_id: self._unfit(frame, track) for track in frame.of(Track)}
            reasons.append(told)
            keys = [TrackKey(stamp.stream_id, name) for name, reason in told.items() if not reason]
            visible.append([VisibleTrack(key, stamp.pts_ns) for key in keys])
        dues = self._choose(visible)
        picked = [self._picked(*given) for given in zip(frames.frames[::-1], reasons[::-1],
                                                        dues[::-1], strict=True)]  # fmt: skip
        faces = [
            (frame, track)
            for frame, tracks in zip(frames.frames[::-1], picked, strict=True)
            for track in tracks
        ]
        encoded = self._tower(faces)
        made: list[Frame] = []
        first = 0
        for frame, told, tracks in zip(frames.frames[::-1], reasons[::-1], picked, strict=True):
            rows = encoded.rows[first : first + len(tracks)]
            first += len(tracks)
            made.append(self._told(frame, told, dict(zip(tracks, rows, strict=True)), encoded))
        return frames.of(made[::-1])

    def reset(self, stream_id: str) -> None:
        self._schedule.reset(stream_id)

    def _choose(self, visible: Sequence[Sequence[VisibleTrack]]) -> list[set[TrackKey]]:
        """The tracks that are due, frame by frame.

        Live, a batch holds what came while the last one was encoded: its frames share one turn,
        and one set, so that each track is taken from the newest frame that shows it. In a file
        every frame has its turn, whatever the batches are.
        """
        if self._live:
            shared = set(self._schedule.choose([track for tracks in visible for track in tracks]))
            return [shared] * len(visible)
        return [set(self._schedule.choose(tracks)) for tracks in visible]

    def _picked(self, frame: Frame, reasons: Mapping[int, str], due: set[TrackKey]) -> list[Track]:
        """The tracks of a frame whose turn it is; each is picked once."""
        from operators.nn.pad.sequential import TrackKey

        found = []
        for track in frame.of(Track):
            key = TrackKey(frame.stamp.stream_id, track.track_id)
            if not reasons[track.track_id] and key in due:
                due.discard(key)
                found.append(track)
        return found

    def _told(
        self, frame: Frame, reasons: Mapping[int, str], rows: Mapping[Track, int], encoded: Encoded
    ) -> Frame:
        """The features of a frame, and a record per track."""
        own = [row for row in rows.values() if row >= 0]
        faces = []
        for track in frame.of(Track):
            reason = reasons[track.track_id] or ("" if track in rows else "LATER")
            row = rows.get(track, -1)
            if track in rows and row < 0:
                reason = "NO_COLOUR"
            quality = min(1.0, _width_px(track) / FULL_QUALITY_PX) * min(max(track.score, 0.0), 1.0)
            place = own.index(row) if row >= 0 else -1
            sha = self._vlm.backbone_sha
            faces.append(EncodedFace(track.track_id, place, track.box, quality, reason, sha))
        return Frame(encoded.features[own], FEATURE_CAPS, frame.stamp, tuple(faces))

    def _unfit(self, frame: Frame, track: Track) -> str:
        if frame.stamp.synthetic:
            return "SYNTHETIC"
        if track.predicted or track.lost:
            return "NOT_SEEN"
        if _width_px(track) < self.config.min_face_px:
            return "TOO_SMALL"
        square = face_square(track.points)
        if square is None:
            return "NO_POINTS"
        return "OUTSIDE" if share_inside(square, frame) < self.config.min_inside else ""


def _width_px(track: Track) -> float:
    return track.box[2] - track.box[0]


def load_vlm(checkpoint: str, ctx: OpContext) -> Vlm:
    """The model a config names; OperatorError says what is wrong with it."""
    try:
        import torch
    except ImportError as error:
        message = f"this node needs torch ({error}): pip install 'frameloom[models]'"
        raise OperatorError("MISSING_PACKAGE", message) from error
    from operators.nn.vlm.compact_file import open_compact
    from operators.nn.vlm.loading import load_clip

    torch.set_num_threads(ctx.threads)
    path = Path(checkpoint) if checkpoint else SHIPPED
    if not path.exists():
        message = f"{path}: there is no such checkpoint; name another in `checkpoint`"
        raise OperatorError("NO_CHECKPOINT", message)
    try:
        made: Any = load_clip(path) if path.is_dir() else open_compact(path)
    except (ValueError, OSError) as error:
        raise OperatorError("BAD_CHECKPOINT", f"{path}: {error}") from error
    vlm: Vlm = made
    return vlm
