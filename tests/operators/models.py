"""Checkpoints with random weights, made once: what operators do must not need trained ones."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.compact_file import save_compact
from operators.nn.vlm.efficientnet import EfficientNetLite0

SIZE_PX, DIM = 64, 16


@cache
def random_compact() -> Path:
    """A compact model of 64 x 64 pixels and 16 numbers."""
    folder = Path(tempfile.mkdtemp(prefix="frameloom-test-"))
    atexit.register(shutil.rmtree, folder)
    torch.manual_seed(0)
    heads = CompactHeads(CompactConfig(size_px=SIZE_PX, dim=DIM, hidden=0))
    path = folder / "compact.safetensors"
    save_compact(path, CompactVlm(EfficientNetLite0().eval(), heads))
    return path
