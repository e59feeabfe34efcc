"""Faces on a GPU: frames that lie there, to a network's input in one kernel, to compiled modules.

What comes back to the host is the network's output, a few kilobytes per frame; frames stay where
they are. The host waits for it once per batch: records are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine import CapsError, Frame
from engine.device.array import DeviceArray
from engine.device.staging import StagingRing
from operators.face.blazeface import VARIANTS, anchor_centres, decode
from operators.face.candidates import Candidates, blend_overlapping
from operators.face.network import (
    LARGEST_BATCH,
    blazeface_back,
    blazeface_full,
    blazeface_short,
)
from operators.kernels.planes import Fit, PlanesKernel
from operators.video.yuv import frame_size

if TYPE_CHECKING:
    from engine.contract import OnDevice
    from engine.device.networks import Network

F32 = npt.NDArray[np.float32]
NETWORKS = {"short": blazeface_short, "full": blazeface_full, "back": blazeface_back}
Kernel = Callable[[Any, Any, int], None]  # frame, picture, stream


class DeviceBlaze:
    """BlazeFace for frames on the node's GPU. One call at a time."""

    def __init__(
        self,
        name: str,
        gpu: OnDevice,
        *,
        kernel: Callable[[Fit, int], Kernel] | None = None,
        compiled: Callable[[Network, str], Any] | None = None,
    ) -> None:
        """`kernel` and `compiled` make what the defaults make, on another device: for tests."""
        import torch

        variant = VARIANTS[name]
        self.size_px = variant.size_px
        self._gpu = gpu
        self._kernel = kernel or PlanesKernel
        self._kernels: dict[Fit, Kernel] = {}
        self._ring = StagingRing(gpu.device)
        self._anchors = anchor_centres(variant)
        self._cat: Any = torch.cat
        self._net = (compiled or compiled_for)(NETWORKS[name](), gpu.device.name)

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


def compiled_for(network: Network, device: str) -> Any:
    """The fastest engine for a detector; half precision may be used."""
    from engine.device.compile import compile_module

    return compile_module(
        network.module, network.example, precision="fp16", dynamic=network.dynamic,
        device=device, tolerance=network.tolerance,
    )  # fmt: skip
