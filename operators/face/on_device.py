"""Faces on a GPU: frames that lie there, to a network's input in one kernel, to compiled modules.

What comes back to the host is the network's output, a few kilobytes per frame; frames stay where
they are. The host waits for it once per batch: records are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine import CapsError, Frame
from engine.device.array import DeviceArray
from engine.device.staging import StagingRing
from operators.engines import Run
from operators.face.blazeface import VARIANTS, anchor_centres, decode
from operators.face.candidates import Candidates, blend_overlapping
from operators.face.host_tower import LEAST_COLOUR, Encoded
from operators.face.network import (
    LARGEST_BATCH,
    blazeface_back,
    blazeface_full,
    blazeface_short,
)
from operators.face.square import face_square, square_matrix
from operators.kernels.crop import CropKernel, Squares
from operators.kernels.planes import Fit, PlanesKernel
from operators.video.yuv import frame_size

if TYPE_CHECKING:
    from engine.contract import OnDevice
    from operators.face.records import Track
    from operators.nn.vlm.interface import Vlm

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
NETWORKS = {"short": blazeface_short, "full": blazeface_full, "back": blazeface_back}
Kernel = Callable[[Any, Any, int], None]  # frame, picture, stream
CropKernelLike = Callable[[Any, Any, Any, int], None]  # frame, matrices, crops, stream


class DeviceBlaze:
    """BlazeFace for frames on the node's GPU. One call at a time."""

    def __init__(
        self,
        name: str,
        gpu: OnDevice,
        net: Run,
        *,
        kernel: Callable[[Fit, int], Kernel] | None = None,
    ) -> None:
        """`net` runs `NETWORKS[name]`; `kernel` makes a kernel for another device: for tests."""
        import torch

        variant = VARIANTS[name]
        self.size_px = variant.size_px
        self._gpu = gpu
        self._kernel = kernel or PlanesKernel
        self._kernels: dict[Fit, Kernel] = {}
        self._ring = StagingRing(gpu.device)
        self._anchors = anchor_centres(variant)
        self._cat: Any = torch.cat
        self._net = net

    def __call__(
        self, frames: Sequence[Frame], min_score: float, max_iou: float
    ) -> list[Candidates]:
        """For each frame one candidate per face, in its pixels, best first."""
        found: list[Candidates] = []
        for first in range(0, len(frames), LARGEST_BATCH):
            found += self._find(frames[first : first + LARGEST_BATCH], min_score, max_iou)
        return found

    def _find(self, frames: Sequence[Frame], min_score: float, max_iou: float) -> list[Candidates]:
        stream, device = self._gpu.stream, self._gpu.device
        shape = (len(frames), 3, self.size_px, self.size_px)
        pictures = device.empty(shape, "float32", stream)
        fits = [self._fit(frame) for frame in frames]
        for row, (frame, fit) in enumerate(zip(frames, fits, strict=True)):
            self._kernels[fit](frame.data.array, pictures[row], stream.handle)
        regressed, raw = self._net(pictures)
        joined = self._cat([regressed, raw], 2).contiguous()
        outputs = self._ring.download(
            DeviceArray(joined, stream.record(), device.name), stream, "float32"
        )
        return [self._decoded(values, fit, min_score, max_iou)
                for values, fit in zip(outputs, fits, strict=True)]  # fmt: skip

    def _decoded(self, values: F32, fit: Fit, min_score: float, max_iou: float) -> Candidates:
        found = decode(values[:, -1], values[:, :-1], self._anchors, min_score)
        left, top, _, _ = fit.box
        return blend_overlapping(found, max_iou).in_frame(fit.ratio, left, top)

    def _fit(self, frame: Frame) -> Fit:
        if not isinstance(frame.data, DeviceArray):
            raise CapsError(f"a frame in host memory, on a node on {self._gpu.device.name}")
        width, height = frame_size(frame)
        fit = Fit(
            width, height, (self.size_px, self.size_px), frame.caps.pix_fmt or "",
            frame.caps.colorspace, frame.caps.color_range,
            scale=(1 / 127.5,) * 3, shift=(-1.0,) * 3,
        )  # fmt: skip
        if fit not in self._kernels:
            self._kernels[fit] = self._kernel(fit, int(self._gpu.device.name.rpartition(":")[2]))
        return fit


class DeviceTower:
    """Faces of frames on the node's GPU through the image tower. One call at a time."""

    def __init__(
        self,
        vlm: Vlm,
        gpu: OnDevice,
        net: Run,
        *,
        kernel: Callable[[Squares, int], CropKernelLike] | None = None,
    ) -> None:
        """`net` runs the model's image tower; `kernel` as for `DeviceBlaze`."""
        import torch

        self._torch: Any = torch
        self._gpu = gpu
        self._kernel = kernel or CropKernel
        self._kernels: dict[Squares, CropKernelLike] = {}
        self._ring = StagingRing(gpu.device)
        self.size_px = vlm.image.size_px
        self._scale, self._shift = normalisation(vlm.image.mean, vlm.image.std)
        self._net = net
        self._shape, place = self._features_of_nothing()
        # Made once: from host memory each would be a copy that the host waits for.
        self._levels = [
            torch.tensor(three, device=place)[:, None, None] for three in (self._scale, self._shift)
        ]

    def __call__(self, faces: Sequence[tuple[Frame, Track]]) -> Encoded:
        """As `operators.face.encode.HostTower`. CapsError for frames that are not on the GPU."""
        parts = [
            self._encode(faces[first : first + LARGEST_BATCH])
            for first in range(0, len(faces), LARGEST_BATCH)
        ]
        if not parts:
            return Encoded(np.zeros((0, *self._shape), np.float16), [])
        features = np.concatenate([part[0] for part in parts])
        colours = np.concatenate([part[1] for part in parts])
        kept = np.flatnonzero(colours >= LEAST_COLOUR)
        rows = [int(np.searchsorted(kept, n)) if n in kept else -1 for n in range(len(faces))]
        return Encoded(features[kept], rows)

    def _encode(self, faces: Sequence[tuple[Frame, Track]]) -> tuple[F16, F32]:
        """(features [n, 1 + N, dim], mean spread of the channels in levels [n])."""
        torch, stream, device = self._torch, self._gpu.stream, self._gpu.device
        crops = self._cut(faces)
        found = self._net(crops)
        joined = torch.cat([found.pooled[:, None], found.patches_value], 1)
        scale, shift = self._levels
        levels = (crops - shift) / scale
        spread = (levels.amax(1) - levels.amin(1)).mean(dim=(1, 2))
        told = torch.cat([joined.flatten(1), spread[:, None]], 1).contiguous()
        host = self._ring.download(
            DeviceArray(told, stream.record(), device.name), stream, "float32"
        )
        features = host[:, :-1].reshape(len(faces), *self._shape).astype(np.float16)
        return features, np.array(host[:, -1])

    def _cut(self, faces: Sequence[tuple[Frame, Track]]) -> Any:
        """[n, 3, S, S], normalised: a launch for all faces of a frame."""
        stream = self._gpu.stream
        shape = (len(faces), 3, self.size_px, self.size_px)
        crops = self._gpu.device.empty(shape, "float32", stream)
        row = 0
        for _, group in groupby(faces, key=lambda face: id(face[0])):
            own = list(group)
            frame, matrices = own[0][0], np.stack([self._matrix(track) for _, track in own])
            rows = crops[row : row + len(own)]
            self._kernel_for(frame)(frame.data.array, matrices, rows, stream.handle)
            row += len(own)
        return crops

    def _matrix(self, track: Track) -> npt.NDArray[np.float64]:
        """Frame pixels -> pixels of the face's square."""
        square = face_square(track.points)
        assert square is not None
        return square_matrix(square, self.size_px)

    def _features_of_nothing(self) -> tuple[tuple[int, int], Any]:
        """[1 + N, dim], and torch's device; the first face does not pay for warming up."""
        stream = self._gpu.stream
        black = self._gpu.device.empty((1, 3, self.size_px, self.size_px), "float32", stream)
        self._gpu.device.clear(black, stream)
        patches, dim = self._net(black).patches_value.shape[1:]
        return (1 + int(patches), int(dim)), black.device

    def _kernel_for(self, frame: Frame) -> CropKernelLike:
        if not isinstance(frame.data, DeviceArray):
            raise CapsError(f"a frame in host memory, on a node on {self._gpu.device.name}")
        width, height = frame_size(frame)
        squares = Squares(
            width, height, self.size_px, frame.caps.pix_fmt or "", frame.caps.colorspace,
            frame.caps.color_range, scale=self._scale, shift=self._shift,
        )  # fmt: skip
        if squares not in self._kernels:
            index = int(self._gpu.device.name.rpartition(":")[2])
            self._kernels[squares] = self._kernel(squares, index)
        return self._kernels[squares]


def normalisation(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(scale, shift) per channel that take levels 0 to 255 to (v / 255 - mean) / std."""
    red, green, blue = (1 / (255 * one) for one in std)
    r, g, b = (-middle / one for middle, one in zip(mean, std, strict=True))
    return (red, green, blue), (r, g, b)
