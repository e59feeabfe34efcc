"""Decoding on a GPU: FFmpeg's CUDA decoder, whose frames never leave the device.

The decoder lends its surfaces and has few of them, so each frame is copied, within the device, into
memory of the stream's own; the surface goes back at once. Decoders of different GPUs give NV12 for
8-bit 4:2:0; nothing else is taken.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from engine import Caps, OpContext, OperatorError
from engine.contract import OnDevice
from operators.sources._av import FrameCopier, frame_caps

if TYPE_CHECKING:
    from av import VideoFrame

USE_PRIMARY_CONTEXT = 1  # AV_CUDA_USE_PRIMARY_CONTEXT: the one that torch uses too
ON_GPU = Caps(pix_fmt="nv12", device="cuda")
DECODER = {"NVDEC": "operators.sources._cuda:try_out"}  # what sources need on a GPU
TRIED_PX, TRIED_FRAMES = 256, 4


def accelerator(ctx: OpContext) -> Any:
    """PyAV's setting for the node's device: None on the CPU, and no way back to it on a GPU."""
    return None if ctx.gpu is None else _on(ctx.device)


def _on(device: str) -> Any:
    from av.codec.hwaccel import HWAccel

    return HWAccel(
        "cuda",
        device=device.partition(":")[2],
        allow_software_fallback=False,
        flags=USE_PRIMARY_CONTEXT,
        is_hw_owned=True,
    )


def try_out(device: str) -> None:
    """Decode a few black pictures of H.264 on a device; what PyAV raises comes through."""
    import av

    clip = io.BytesIO()
    with av.open(clip, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", 25)
        stream.width = stream.height = TRIED_PX
        for number in range(TRIED_FRAMES):
            black = av.VideoFrame.from_ndarray(np.zeros((TRIED_PX, TRIED_PX, 3), np.uint8))
            black.pts = number
            container.mux(stream.encode(black))
        container.mux(stream.encode())
    clip.seek(0)
    with av.open(clip, "r", hwaccel=_on(device)) as decoder:
        next(decoder.decode(video=0))


def copier_for(ctx: OpContext, name: str) -> FrameCopier | CudaCopier:
    """What brings decoded frames to where the node is."""
    return FrameCopier(name) if ctx.gpu is None else CudaCopier(name, ctx.device, ctx.gpu)


class CudaCopier:
    """Decoded surfaces into tensors of NV12, upright. Odd sizes lose their last row or column."""

    def __init__(self, name: str, device: str, gpu: OnDevice) -> None:
        self._name = name
        self._device = device
        self._gpu = gpu

    def copy(self, frame: VideoFrame) -> tuple[Any, Caps]:
        """([H*3/2, W] uint8 on the device, complete caps), as work of the node's stream.

        OperatorError for frames that are not on the device, or not 8-bit 4:2:0.
        """
        import torch
        from torch.utils import dlpack

        layout = frame.sw_format.name if frame.sw_format is not None else None
        if layout != "nv12":
            found = f"{layout} on the device" if layout else f"{frame.format.name} in host memory"
            raise OperatorError(
                "CODEC_UNSUPPORTED",
                f"{self._name}: the GPU's decoder gives {found}, nv12 is needed;"
                " decode it with device: cpu",
            )
        turns = round(frame.rotation / 90) % 4
        caps = frame_caps(frame, self._name, lying=turns % 2 == 1, keeps_range=True)
        height, width = caps.height or 0, caps.width or 0
        # FFmpeg's context works on the legacy default stream, which ours do not wait for.
        torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        luma, chroma = (dlpack.from_dlpack(plane) for plane in frame.planes)
        chroma = chroma.reshape(chroma.shape[0], -1, 2)
        if turns:
            luma, chroma = torch.rot90(luma, turns), torch.rot90(chroma, turns)
        made = self._gpu.device.empty((height * 3 // 2, width), "uint8", self._gpu.stream)
        made[:height].copy_(luma[:height, :width])
        made[height:].view(height // 2, width // 2, 2).copy_(chroma[: height // 2, : width // 2])
        # The surface goes back to the decoder, which writes there on its stream: after this copy.
        torch.cuda.default_stream().wait_stream(torch.cuda.current_stream())
        return made, replace(caps, pix_fmt="nv12", device=self._device)
