"""CLIP's two towers, as prompt methods need them: patch features, and text from embeddings.

Source: Radford et al., ICML 2021 (arXiv:2103.00020), section 2.4; blocks with the norm in front as
in Dosovitskiy et al., ICLR 2021 (arXiv:2010.11929), equations 1-4. Method specification, sections
1.1 and 1.2. The value path of patches follows MaskCLIP (Zhou et al., ECCV 2022, arXiv:2112.01071,
section 3.3) and LoCoOp (Miyai et al., NeurIPS 2023, arXiv:2306.01293).

Patch tokens of the last layer were never trained to agree with text, only the class token was. In
the last block the class token is a mixture of the patches' values; the value path therefore takes
each patch's own value in place of the mixture.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from operators.nn.vlm.clip_config import Activation, ClipConfig, TextConfig, VisionConfig
from operators.nn.vlm.interface import ImageFeatures

FIRST_LOG_SCALE = math.log(1 / 0.07)  # of untrained models, section 2.5


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """x sigmoid(1.702 x), any shape."""
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values come out of one matrix."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj = nn.Linear(width, 3 * width)  # rows: queries, then keys, then values
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, width] to the same. Causal: a token sees itself and those in front of it."""
        batch, length, width = x.shape
        split = self.in_proj(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, L, width / heads]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        y: torch.Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return y

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """out_proj(v_proj(x)), [B, L, width]: what each token says, mixed with no other."""
        width = x.shape[-1]
        v = functional.linear(x, self.in_proj.weight[2 * width :], self.in_proj.bias[2 * width :])
        y: torch.Tensor = self.out_proj(v)
        return y


class Block(nn.Module):
    """x + attention(norm(x)), then x + net(norm(x))."""

    def __init__(self, config: VisionConfig | TextConfig, causal: bool) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.attention = Attention(config.width, config.heads, causal)
        self.norm_2 = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.widen = nn.Linear(config.width, config.inner)
        self.narrow = nn.Linear(config.inner, config.width)
        self.activation: Activation = config.activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, width] to the same."""
        return self._net(x + self.attention(self.norm_1(x)))

    def value_path(self, x: torch.Tensor) -> torch.Tensor:
        """[B, L, width] to the same, each token by itself: its value instead of attention."""
        return self._net(x + self.attention.value(self.norm_1(x)))

    def _net(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.widen(self.norm_2(x))
        active = quick_gelu(wide) if self.activation == "quick_gelu" else functional.gelu(wide)
        y: torch.Tensor = x + self.narrow(active)
        return y


class VisionTower(nn.Module):
    """Images to the joint space; an `ImageTower`."""

    def __init__(self, config: ClipConfig) -> None:
        """Random weights; `clip_weights` puts trained ones in."""
        super().__init__()
        self.config = vision = config.vision
        self.size_px = vision.size_px
        self.mean, self.std = config.mean, config.std
        self.patch_embedding = nn.Conv2d(
            3, vision.width, vision.patch_px, stride=vision.patch_px, bias=False
        )
        self.class_embedding = nn.Parameter(torch.empty(vision.width))
        self.positions = nn.Parameter(torch.empty(1 + vision.grid**2, vision.width))  # class first
        self.norm_pre = nn.LayerNorm(vision.width, eps=vision.norm_epsilon)
        self.blocks = nn.ModuleList(Block(vision, causal=False) for _ in range(vision.layers))
        self.norm_post = nn.LayerNorm(vision.width, eps=vision.norm_epsilon)
        self.projection = nn.Linear(vision.width, config.dim, bias=False)

    def forward(self, images: torch.Tensor, keep: torch.Tensor | None = None) -> ImageFeatures:
        """[B, 3, size_px, size_px] float32, normalised, to features of whole image and patches.

        Patches are in row order, N = (size_px / patch_px)^2. `keep` [B, n] int64 leaves only these
        patches in, for real removal (section 3.2, `prune`); N is then n. ValueError if the images
        have another size, or a kept patch does not exist.
        """
        x = self._tokens(images, keep)
        for block in self.blocks[:-1]:
            x = block(x)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        plain = self._joint(last(x))
        return ImageFeatures(plain[:, 0], plain[:, 1:], self._joint(last.value_path(x[:, 1:])))

    def _joint(self, x: torch.Tensor) -> torch.Tensor:
        joint: torch.Tensor = self.projection(self.norm_post(x))
        return joint

    def _tokens(self, images: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        wanted = (3, self.size_px, self.size_px)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(f"images {tuple(images.shape)} came, {('B', *wanted)} are needed")
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)  # [B, N, width]
        patches = patches + self.positions[1:]
        if keep is not None:
            _check_keep(keep, patches.shape[0], patches.shape[1])
            patches = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[2]))
        first = (self.class_embedding + self.positions[0]).expand(patches.shape[0], 1, -1)
        x: torch.Tensor = self.norm_pre(torch.cat([first, patches], dim=1))
        return x


class TextTower(nn.Module):
    """Token embeddings to the joint space; a `TextTower` of the interface."""

    def __init__(self, config: ClipConfig) -> None:
        """Random weights; `clip_weights` puts trained ones in."""
        super().__init__()
        self.config = text = config.text
        self.width = text.width
        self.context_length = text.context_length
        self.words = nn.Embedding(text.vocabulary, text.width)
        self.positions = nn.Parameter(torch.empty(text.context_length, text.width))
        self.blocks = nn.ModuleList(Block(text, causal=True) for _ in range(text.layers))
        self.norm_final = nn.LayerNorm(text.width, eps=text.norm_epsilon)
        self.projection = nn.Linear(text.width, config.dim, bias=False)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, L] int64 to [B, L, width], without positions; ValueError beyond the vocabulary."""
        if tokens.numel():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.config.vocabulary:
                raise ValueError(f"tokens {low} to {high}; there are {self.config.vocabulary}")
        vectors: torch.Tensor = self.words(tokens)
        return vectors

    def forward(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> torch.Tensor:
        """[B, L, width] and [B] int64, the place of each end token, to [B, dim].

        What comes behind the end token has no influence, not even if it is not finite.
        """
        self._check(embeddings, end_index)
        length = int(end_index.max()) + 1  # nobody's tokens stand further behind
        behind = torch.arange(length, device=embeddings.device) > end_index[:, None]  # [B, L]
        x = embeddings[:, :length].masked_fill(behind[:, :, None], 0) + self.positions[:length]
        for block in self.blocks:
            x = block(x)
        ends = x[torch.arange(len(x), device=x.device), end_index]
        joint: torch.Tensor = self.projection(self.norm_final(ends))
        return joint

    def _check(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> None:
        shape = tuple(embeddings.shape)
        if len(shape) != 3 or shape[0] == 0 or shape[2] != self.width:
            raise ValueError(f"embeddings {shape} came, ('B', 'L', {self.width}) are needed")
        if shape[1] > self.context_length:
            raise ValueError(f"a text of {shape[1]} tokens came, {self.context_length} are allowed")
        if tuple(end_index.shape) != shape[:1]:
            raise ValueError(f"{tuple(end_index.shape)} end tokens came for {shape[0]} texts")
        if int(end_index.min()) < 0 or int(end_index.max()) >= shape[1]:
            raise ValueError(f"end tokens at {end_index.tolist()} in texts of {shape[1]} tokens")


class Clip(nn.Module):
    """Both towers and the logarithm of the logit scale: what a weight file holds."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config)
        self.text = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Random weights, spread as CLIP's are before training; the same for the same seed."""
        random = torch.Generator().manual_seed(seed)
        for tower in (self.vision, self.text):
            for name, weight in tower.named_parameters():
                if name.endswith(".bias"):
                    weight.zero_()
                elif ".norm_" in f".{name}":
                    weight.fill_(1)
                else:
                    weight.normal_(0, _spread(name, weight, tower.config), generator=random)


def resize_positions(positions: torch.Tensor, grid: int) -> torch.Tensor:
    """[1 + n^2, width] for a square grid of n patches to [1 + grid^2, width], bilinear.

    The class token's, which comes first, is kept. The same grid gives the same numbers.
    """
    side = math.isqrt(len(positions) - 1)
    first, patches = positions[:1], positions[1:]
    square = patches.T.reshape(1, -1, side, side)
    resized = functional.interpolate(
        square, size=(grid, grid), mode="bilinear", align_corners=False
    )
    return torch.cat([first, resized.flatten(2)[0].T])


def _spread(name: str, weight: torch.Tensor, config: VisionConfig | TextConfig) -> float:
    """Standard deviation: 1 / sqrt(inputs), and less where `layers` sums add up."""
    if name in ("words.weight", "patch_embedding.weight"):
        return 0.02
    if name == "positions":
        return 0.01
    if name == "class_embedding":
        return float(config.width**-0.5)
    if name.endswith(("out_proj.weight", "narrow.weight")):
        return float((2 * config.layers * weight.shape[1]) ** -0.5)
    return float(weight.shape[1] ** -0.5)


def _check_keep(keep: torch.Tensor, batch: int, patches: int) -> None:
    if keep.ndim != 2 or len(keep) != batch:
        raise ValueError(f"patches to keep {tuple(keep.shape)} came for {batch} images")
    if keep.numel() and (int(keep.min()) < 0 or int(keep.max()) >= patches):
        raise ValueError(f"patches {int(keep.min())} to {int(keep.max())}; there are {patches}")
