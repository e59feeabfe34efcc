"""The H.264 encoders of recordings: x264 on the processor, NVENC on a GPU, chosen by the node."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import Caps, Frame, OperatorError
from operators.video.yuv import yuv_matrix

if TYPE_CHECKING:
    from av import VideoFrame

    from operators.sinks._recording import Settings

# x264's names for effort, as NVENC numbers it.
EFFORT = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow")


TRIED_PX = 256  # NVENC refuses what is much smaller


class X264:
    """Frames in host memory: rgb24, bgr24, nv12 or yuv420p."""

    name = "libx264"
    pix_fmt = "yuv420p"

    def encode(self, codec: Any, picture: VideoFrame | None) -> list[Any]:
        """Packets, in decoding order; None ends the stream."""
        packets: list[Any] = codec.encode(picture)
        return packets

    def options(self, settings: Settings) -> dict[str, str]:
        return {"preset": settings.preset, "crf": str(settings.crf)}

    def picture(self, frame: Frame) -> VideoFrame:
        """The frame as the encoder takes it, of even size, limited range."""
        import av
        from av.video.reformatter import ColorRange, Colorspace

        caps = frame.caps
        if caps.pix_fmt == "yuv420p":
            return av.VideoFrame.from_numpy_buffer(frame.data, format="yuv420p")
        height, width = (caps.height or 0) & ~1, (caps.width or 0) & ~1
        data = frame.data if caps.pix_fmt == "nv12" else frame.data[:height, :width]
        bt709 = caps.colorspace == "bt709"
        return av.VideoFrame.from_ndarray(data, format=caps.pix_fmt or "rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709 if bt709 else Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
        )


class Nvenc:
    """Frames on a GPU, nv12, yuv420p or rgb24, encoded there: pixels never come down.

    Each is first copied, within the device, into memory that the encoder may hold for as long as it
    likes: a slot shared with another worker must go back at once.
    """

    name = "h264_nvenc"
    pix_fmt = "cuda"

    def try_out(self, device: str) -> None:
        """Encode one black picture on `device`: OperatorError where that cannot be done."""
        import av
        import torch

        codec: Any = av.CodecContext.create(self.name, "w")
        codec.width = codec.height = TRIED_PX
        codec.pix_fmt, codec.time_base = self.pix_fmt, Fraction(1, 25)
        black = torch.zeros((TRIED_PX, TRIED_PX, 3), dtype=torch.uint8, device=device)
        self.encode(codec, _as_frame(nv12_of(black, Caps())))
        self.encode(codec, None)

    def encode(self, codec: Any, picture: VideoFrame | None) -> list[Any]:
        """Packets, in decoding order; None ends the stream. OperatorError if NVENC fails."""
        from av.error import FFmpegError

        try:
            packets: list[Any] = codec.encode(picture)
        except FFmpegError as error:
            raise OperatorError(
                "ENCODER_FAILED",
                f"NVENC does not encode {codec.width}x{codec.height} here: {error.strerror}; "
                "some GPUs, H100 and H200 among them, have no such unit: see `frameloom doctor`. "
                "Put operators.video.transfer:ToHost before this node and run it on the cpu",
            ) from error
        return packets

    def options(self, settings: Settings) -> dict[str, str]:
        effort = f"p{EFFORT.index(settings.preset) + 1}"
        if settings.crf == 0:
            return {"preset": effort, "tune": "lossless"}
        return {"preset": effort, "rc": "vbr", "cq": str(settings.crf), "b": "0"}

    def picture(self, frame: Frame) -> VideoFrame:
        """The frame as the encoder takes it. OperatorError for layouts that it cannot take."""
        caps, pixels = frame.caps, frame.data.array
        height, width = (caps.height or 0) & ~1, (caps.width or 0) & ~1
        if caps.pix_fmt == "nv12":
            luma, chroma = pixels.clone().split((height, height // 2))
        elif caps.pix_fmt == "yuv420p":
            luma = pixels[:height].clone()
            planar = pixels[height:].view(2, height // 2, width // 2)
            chroma = planar.permute(1, 2, 0).contiguous()
        elif caps.pix_fmt == "rgb24":
            luma, chroma = nv12_of(pixels[:height, :width], caps)
        else:
            raise OperatorError(
                "UNSUPPORTED_FORMAT",
                f"NVENC takes nv12, yuv420p and rgb24, not {caps.pix_fmt}: convert before it",
            )
        return _as_frame((luma, chroma))


def try_nvenc(device: str) -> None:
    """OperatorError, or what PyAV raises, where `Nvenc` cannot be had on a device."""
    Nvenc().try_out(device)


def _as_frame(planes: tuple[Any, Any]) -> VideoFrame:
    import av
    import torch

    if planes[0].is_cuda:  # FFmpeg's context works on the legacy default stream
        torch.cuda.default_stream().wait_stream(torch.cuda.current_stream())
    return av.VideoFrame.from_dlpack(planes, format="nv12", primary_ctx=True)


def nv12_of(rgb: Any, caps: Caps) -> tuple[Any, Any]:
    """[H, W, 3] uint8 of even size -> luma [H, W], chroma [H/2, W/2, 2], uint8, limited range.

    Chroma is the mean of four pixels. By the matrix of the caps, Rec. 601 where they name none.
    """
    import torch

    to_rgb, offset = yuv_matrix(caps.colorspace or "bt601", "limited")
    to_yuv = np.linalg.inv(to_rgb)
    weights = torch.tensor(to_yuv.T, dtype=torch.float32, device=rgb.device)
    zero = torch.tensor(-to_yuv @ offset, dtype=torch.float32, device=rgb.device)
    height, width, _ = rgb.shape
    small = rgb.reshape(height // 2, 2, width // 2, 2, 3).float().mean((1, 3))
    luma = rgb.float() @ weights[:, 0] + zero[0]
    chroma = small @ weights[:, 1:] + zero[1:]
    return luma.round().to(torch.uint8), chroma.round().to(torch.uint8)
