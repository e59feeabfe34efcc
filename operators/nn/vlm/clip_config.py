"""Sizes of CLIP towers, the presets, and the activation, which weights cannot tell.

Source: Radford et al., ICML 2021 (arXiv:2103.00020), tables 19 and 20; method specification,
section 1.1. Weights of OpenAI were trained with QuickGELU, those of LAION with GELU. A wrong pick
fits in every shape and degrades silently, so each tower's descriptor names its activation and no
loader guesses it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from operators.nn.vlm.errors import CheckpointError

Activation: TypeAlias = Literal["quick_gelu", "gelu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

# CLIP's own statistics of RGB in [0, 1]: with a frozen tower no others will do.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_LIMITS = {  # no file may ask for all memory
    "size_px": 2048,
    "patch_px": 512,
    "vocabulary": 1_000_000,
    "context_length": 4096,
    "layers": 128,
    "width": 8192,
    "heads": 256,
    "inner": 65536,
}


@dataclass(frozen=True)
class VisionConfig:
    """The image tower. CheckpointError if the sizes do not go together."""

    size_px: int  # height and width of an image; a multiple of `patch_px`
    patch_px: int
    layers: int
    width: int  # of a token; a multiple of `heads`
    heads: int
    inner: int  # width of the two-layer net in each block
    activation: Activation
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_limits(self, "size_px", "patch_px")
        _check_tower(self)
        if self.size_px % self.patch_px:
            down = self.size_px // self.patch_px * self.patch_px
            raise CheckpointError(
                f"images of {self.size_px} px cannot be cut into patches of {self.patch_px} px; "
                f"{down or self.patch_px} or {down + self.patch_px} px would do"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.size_px // self.patch_px


@dataclass(frozen=True)
class TextConfig:
    """The text tower. CheckpointError if the sizes do not go together."""

    vocabulary: int
    context_length: int  # tokens at most, begin and end included
    layers: int
    width: int
    heads: int
    inner: int
    activation: Activation
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_limits(self, "vocabulary", "context_length")
        _check_tower(self)


@dataclass(frozen=True)
class ClipConfig:
    """Both towers, their joint space, and what images are normalised with."""

    vision: VisionConfig
    text: TextConfig
    dim: int  # of the joint space
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= _LIMITS["width"]:
            raise CheckpointError(f"the joint space has {self.dim} numbers; 1 to 8192 are allowed")
        if not all(spread > 0 for spread in self.std):
            raise CheckpointError(f"std is {self.std}; it must be above 0")

    def with_size(self, size_px: int) -> ClipConfig:
        """The same for images of another size; CheckpointError if patches do not tile it."""
        return replace(self, vision=replace(self.vision, size_px=size_px))


def preset(name: str, activation: Activation = "quick_gelu") -> ClipConfig:
    """Sizes by name, one of `PRESETS`. The default activation is that of OpenAI's weights.

    `clip-tiny-test` is no published model: small enough to run in every test.
    """
    if name not in PRESETS:
        raise CheckpointError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    size_px, patch_px, vision, vocabulary, text, dim = PRESETS[name]
    return ClipConfig(
        VisionConfig(size_px, patch_px, *vision, 4 * vision[1], activation),
        TextConfig(vocabulary, 77, *text, 4 * text[1], activation),
        dim,
    )


_Tower: TypeAlias = tuple[int, int, int]  # layers, width, heads

# image size, patch size, image tower, vocabulary, text tower, joint dimension
PRESETS: dict[str, tuple[int, int, _Tower, int, _Tower, int]] = {
    "clip-vit-b32": (224, 32, (12, 768, 12), 49408, (12, 512, 8), 512),
    "clip-vit-b16": (224, 16, (12, 768, 12), 49408, (12, 512, 8), 512),
    "clip-vit-l14-336": (336, 14, (24, 1024, 16), 49408, (12, 768, 12), 768),
    "clip-tiny-test": (32, 8, (2, 64, 2), 512, (2, 64, 2), 32),
}


def _check_tower(config: VisionConfig | TextConfig) -> None:
    _check_limits(config, "layers", "width", "heads", "inner")
    if config.width % config.heads:
        raise CheckpointError(f"width {config.width} is no multiple of {config.heads} heads")
    if config.activation not in ACTIVATIONS:
        raise CheckpointError(
            f"activation {config.activation!r} is unknown; known are {', '.join(ACTIVATIONS)}"
        )
    if not 0 < config.norm_epsilon < 1:
        raise CheckpointError(f"norm_epsilon is {config.norm_epsilon}; it lies between 0 and 1")


def _check_limits(config: VisionConfig | TextConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 1 <= value <= _LIMITS[name]:
            raise CheckpointError(f"{name} is {value}; 1 to {_LIMITS[name]} are allowed")
