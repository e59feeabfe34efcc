"""The sizes of MOSO: `PUBLISHED` as in the public configs, `PAPER` one of them, `COMPACT` ours.

Source: Sun et al., MOSO, CVPR 2023 (arXiv:2303.03684); method notes, MOSO 2b.

Inferred, ours, in `COMPACT`: everything in front of a 16x16 grid is one rearrangement of pixels,
4x4 of them to one place, in place of two down blocks: at 64x64 these cost more than all the rest.
Scene and object see a few frames made of the clip's in place of all T (`stacking`), and there is a
way past the networks that begins with what is best among linear ones (`straight`). No batch norms:
their statistics follow neither first weights nor a stream of one scene, and tokens of a clip
would depend on whether it is learned from.
Groups of motion attention end where the given frames end, so tokens of given frames never depend on
what comes after; and no difference looks past the last given frame or past the clip (`closed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_MOST = 65_536  # no file may ask for all memory


def _check(config: object, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(config, name)
        if not bound <= value <= _MOST:
            raise ValueError(f"{name} must be {bound}..{_MOST}, not {value}")


@dataclass(frozen=True)
class ClipLayout:
    """A clip as tokens: one scene map, one object map, and a motion map for each frame."""

    frames: int  # T
    condition: int  # K: frames given in prediction, 0 where nothing is predicted
    scene_side: int  # places along one side of the scene's map, and so on
    object_side: int
    motion_side: int
    codes: int  # entries of the codebook that all tokens index

    def __post_init__(self) -> None:
        least = "frames scene_side object_side motion_side codes"
        _check(self, condition=0, **dict.fromkeys(least.split(), 1))
        if self.condition >= self.frames:
            raise ValueError(f"{self.condition} given frames leave none to predict: {self}")

    @property
    def scene_tokens(self) -> int:
        """Of a clip."""
        return self.scene_side**2

    @property
    def object_tokens(self) -> int:
        """Of a clip."""
        return self.object_side**2

    @property
    def motion_tokens(self) -> int:
        """Of one frame."""
        return self.motion_side**2

    @property
    def tokens(self) -> int:
        """Of a clip, all together."""
        return self.scene_tokens + self.object_tokens + self.frames * self.motion_tokens


Stacking = Literal["conv", "mean", "order"]


@dataclass(frozen=True)
class VqvaeConfig:
    """MOSO-VQVAE. A side of a map is the frame's divided by a power of two."""

    layout: ClipLayout
    size_px: int
    time_head: int  # frames that attend to each other in the motion encoder
    width: int  # H, channels of all features
    residual_width: int  # channels inside a residual unit
    residual_units: int  # in one stack of an encoder
    code_width: int  # numbers in one entry of the codebook
    heads: int  # of the attention over time
    decoder_units: int  # residual units of the decoder
    last_width: int  # channels in front of RGB, where the decoder doubles anything
    dropout: float = 0.1  # of the attention over time, while learning
    # How T maps become one: a convolution over all, their mean; or there is but one map, of four
    # frames made of the clip's, see `orders`.
    stacking: Stacking = "conv"
    temporal_decoder: bool = False  # attention over all T frames behind the merge
    patch_px: int = 1  # pixels along a side that are one place before the first convolution
    fixed_reference: bool = True  # the frame before the clip; False: each frame's own last one
    low: float = 0.1  # a pixel is object where its difference lies between these
    high: float = 0.9
    closed: bool = False  # differences of the last given and the last frame do not look ahead
    straight: bool = False  # a linear way past the networks, see `straight`
    is_normed: bool = True  # batch norms; without, residual branches begin silent

    def __post_init__(self) -> None:
        least = ("size_px time_head width residual_width residual_units code_width heads "
                 "last_width patch_px")  # fmt: skip
        _check(self, decoder_units=0, **dict.fromkeys(least.split(), 1))
        self._check_sides()
        layout = self.layout
        if layout.frames % self.time_head:
            raise ValueError(f"groups of {self.time_head} do not divide the frames: {self}")
        if self.closed and layout.condition % self.time_head:
            raise ValueError(f"a group reaches from given frames into later ones: {self}")
        if self.width % self.heads:
            raise ValueError(f"heads do not divide the width: {self}")
        if self.stacking not in ("conv", "mean", "order"):
            raise ValueError(f"stacking must be conv, mean or order, not {self.stacking}")
        if not (0 <= self.low <= self.high <= 2 and 0 <= self.dropout < 1):
            raise ValueError(f"low <= high or dropout out of range: {self}")

    def _check_sides(self) -> None:
        layout = self.layout
        sides = layout.scene_side, layout.object_side, layout.motion_side
        for side in sides:
            if self.size_px % self.patch_px or not _is_power_of_two(self.first_side / side):
                raise ValueError(f"no number of halvings leads to {side} places: {self}")
        if layout.scene_side < max(sides) or layout.scene_side < 4:
            raise ValueError(f"the scene's map must be the finest, and 4 or more a side: {self}")
        if self.straight and not layout.scene_side == layout.object_side == self.first_side:
            raise ValueError(f"the straight way has no down blocks for scene and object: {self}")
        if self.straight and (self.stacking != "order" or not self.fixed_reference):
            raise ValueError(f"the straight way needs orders and a fixed reference: {self}")
        if self.straight and not 3 <= self.width <= 3 * self.code_width:
            raise ValueError(f"the straight way shares out 3 to 3 code_width channels: {self}")

    @property
    def first_side(self) -> int:
        """Places along a side in front of the first convolution."""
        return self.size_px // self.patch_px

    def downs(self, side: int) -> int:
        """Halvings from there to a map of this side."""
        return (self.first_side // side).bit_length() - 1


def _is_power_of_two(ratio: float) -> bool:
    return ratio >= 1 and ratio.is_integer() and int(ratio) & (int(ratio) - 1) == 0


def _published(
    size_px: int, layout: ClipLayout, time_head: int, temporal_decoder: bool = False
) -> VqvaeConfig:
    return VqvaeConfig(
        layout, size_px, time_head, width=256, residual_width=128, residual_units=4,
        code_width=256, heads=4, decoder_units=(size_px // layout.scene_side).bit_length() - 1,
        last_width=128, temporal_decoder=temporal_decoder,
    )  # fmt: skip


PUBLISHED = {
    "bair-64": _published(64, ClipLayout(16, 1, 16, 16, 8, 16384), 16),
    "robonet-64": _published(64, ClipLayout(16, 2, 16, 16, 8, 16384), 16),
    "kth-64": _published(64, ClipLayout(20, 10, 16, 16, 8, 16384), 10),
    "kitti-64": _published(64, ClipLayout(20, 5, 16, 16, 8, 16384), 5),
    "kth-128": _published(128, ClipLayout(20, 10, 32, 16, 8, 16384), 10, True),
    "kitti-256": _published(256, ClipLayout(20, 5, 32, 16, 8, 16384), 5, True),
    "robonet-256": _published(256, ClipLayout(12, 2, 32, 16, 8, 16384), 2, True),
    "ucf-256": _published(256, ClipLayout(16, 0, 32, 16, 8, 16384), 4),
    "face-256": _published(256, ClipLayout(16, 0, 32, 16, 8, 24576), 16),
    "sky-128": _published(128, ClipLayout(16, 0, 16, 16, 8, 16384), 16),
}

PAPER_VQVAE = PUBLISHED["ucf-256"]

COMPACT_VQVAE = VqvaeConfig(
    ClipLayout(frames=15, condition=5, scene_side=16, object_side=16, motion_side=8, codes=1024),
    size_px=64, time_head=5, width=96, residual_width=48, residual_units=2, code_width=64,
    heads=4, decoder_units=3, last_width=96, dropout=0.0, stacking="order", patch_px=4,
    closed=True, straight=True, is_normed=False,
)  # fmt: skip


Places = Literal["published", "learned"]


@dataclass(frozen=True)
class TransformerConfig:
    """MOSO-Transformer, over the tokens of `layout`. What is False in `published` is ours."""

    layout: ClipLayout
    width: int
    heads: int
    content_depth: int  # layers over scene, object and guidance
    motion_depth: int  # layers over the motion of all frames
    embed_width: int  # numbers that a token is first
    ratio: float = 2.0  # width inside a layer's MLP, in widths
    dropout: float = 0.0  # behind the embedding, while learning
    first_std: float = 0.02  # of the truncated normal of first weights; 0: Xavier's
    places: Places = "published"
    tied: bool = False  # logits go back through the embedding that tokens came in by
    grounded: bool = False  # motion tokens hear the content at their own place too
    held: bool = False  # hidden motion begins as that of the last given frame
    prefix: bool = False  # given frames do not see later ones: they are computed once, not S times

    def __post_init__(self) -> None:
        least = "width heads content_depth motion_depth embed_width"
        _check(self, **dict.fromkeys(least.split(), 1))
        if self.width % 4 or self.width % self.heads:
            raise ValueError(f"4 or the heads do not divide the width: {self}")
        if not (0 < self.ratio <= 16 and 0 <= self.dropout < 1 and 0 <= self.first_std < 1):
            raise ValueError(f"ratio, dropout or first_std out of range: {self}")
        if self.places not in ("published", "learned"):
            raise ValueError(f"places must be published or learned, not {self.places}")
        layout = self.layout
        if self.places == "published" and layout.object_tokens > layout.scene_tokens:
            raise ValueError(f"objects have no places in the table of scenes: {self}")
        if self.grounded and (
            layout.scene_side % layout.motion_side or layout.object_side % layout.motion_side
        ):
            raise ValueError(f"a place of motion has no places of scene and object: {self}")


@dataclass(frozen=True)
class SystemConfig:
    """All of it, and the sampler's defaults: S calls of the motion stack and its temperature."""

    name: str
    vqvae: VqvaeConfig
    transformer: TransformerConfig
    steps: int
    temperature: float = 0.0  # of the confidence's noise
    sharpness: float = 1.0  # of what tokens are drawn from

    def __post_init__(self) -> None:
        if self.vqvae.layout != self.transformer.layout:
            raise ValueError(f"tokens differ: {self.vqvae.layout}, {self.transformer.layout}")
        if self.transformer.tied and self.vqvae.code_width != self.transformer.embed_width:
            raise ValueError(f"tied tokens are as wide as the codebook's entries: {self}")
        if self.steps < 1 or not (0 <= self.temperature < 1e3 and self.sharpness > 0):
            raise ValueError(f"steps, temperature or sharpness out of range: {self}")


_DEPTHS = {"kth-64": (8, 16), "face-256": (8, 8)}  # content, motion; all others (16, 8)
_TEMPERATURES = {"bair-64": 3.0, "robonet-64": 3.0, "face-256": 4.5, "ucf-256": 0.3}  # others 0


def _published_system(name: str, vqvae: VqvaeConfig) -> SystemConfig:
    content_depth, motion_depth = _DEPTHS.get(name, (16, 8))
    transformer = TransformerConfig(
        vqvae.layout, width=1024, heads=8, content_depth=content_depth, motion_depth=motion_depth,
        embed_width=758, dropout=0.1,
    )  # fmt: skip
    return SystemConfig(name, vqvae, transformer, 16, _TEMPERATURES.get(name, 0.0))


PUBLISHED_SYSTEMS = {name: _published_system(name, vqvae) for name, vqvae in PUBLISHED.items()}

PAPER = PUBLISHED_SYSTEMS["ucf-256"]

COMPACT = SystemConfig(
    name="compact",
    vqvae=COMPACT_VQVAE,
    transformer=TransformerConfig(
        COMPACT_VQVAE.layout, width=192, heads=6, content_depth=4, motion_depth=2,
        embed_width=COMPACT_VQVAE.code_width, first_std=0.0, places="learned", tied=True,
        grounded=True, held=True, prefix=True,
    ),
    steps=8,
    sharpness=4.0,
)  # fmt: skip
