"""A kernel's own source, compiled for the processor: every thread of the grid in turn."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from operators.kernels.launching import BLOCK, VARIANTS, source

SHIM = """
#include <math.h>
#include <string.h>
#define __device__
#define __global__
#define __restrict__
struct Three { int x, y, z; };
static Three blockIdx, blockDim, threadIdx;
static inline unsigned int __float_as_uint(float v) { unsigned int b; memcpy(&b, &v, 4); return b; }
static inline float __uint_as_float(unsigned int b) { float v; memcpy(&v, &b, 4); return v; }
"""
LOOP = """
extern "C" void run_grid({parameters}, int gx, int gy, int gz) {{
    blockDim = {{{bx}, {by}, 1}};
    for (int bz = 0; bz < gz; ++bz) for (int b = 0; b < gy; ++b) for (int a = 0; a < gx; ++a)
        for (int j = 0; j < {by}; ++j) for (int i = 0; i < {bx}; ++i) {{
            blockIdx = {{a, b, bz}};
            threadIdx = {{i, j, 0}};
            {name}({names});
        }}
}}
"""
COMPILER = shutil.which("g++") or shutil.which("clang++")
NVCC = shutil.which("nvcc")


def parameters_of(code: str, name: str) -> str:
    """What stands between the brackets of the kernel's declaration."""
    begin = code.index(f"void {name}(") + len(f"void {name}(")
    return code[begin : code.index(")", begin)]


@cache
def library(name: str, out: str) -> Any:
    """The kernel as a shared library. Kept by its source for all tests of a session."""
    assert COMPILER, "the kernels' arithmetic is tested with a C++ compiler: install g++"
    code = source(name)
    parameters = parameters_of(code, name)
    names = ", ".join(part.split()[-1].lstrip("*") for part in parameters.split(","))
    loop = LOOP.format(parameters=parameters, names=names, name=name, bx=BLOCK[0], by=BLOCK[1])
    text = f"#define OUT {VARIANTS[out]}\n{SHIM}\n{code}\n{loop}"
    stem = hashlib.sha256(text.encode()).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{stem}.so"
        subprocess.run(
            [COMPILER, "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++",
             "-o", str(made), "-"],
            input=text, text=True, check=True,
        )  # fmt: skip
        return ctypes.CDLL(str(made))


def run(name: str, out: str, size: tuple[int, int, int], *arguments: Any) -> None:
    """As `launch` does on a GPU. Arrays are given as they are."""
    grid = (-(-size[0] // BLOCK[0]), -(-size[1] // BLOCK[1]), size[2])
    values = [_argument(argument) for argument in (*arguments, *grid)]
    library(name, out).run_grid(*values)


def _argument(value: Any) -> Any:
    if isinstance(value, bool | int):
        return ctypes.c_int(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    assert value.flags.c_contiguous
    return ctypes.c_void_p(value.ctypes.data)


def stored(shape: tuple[int, ...], out: str) -> np.ndarray[Any, Any]:
    """Room for what a kernel writes."""
    return np.zeros(shape, np.float32 if out == "float32" else np.uint16)


def as_float(stored: np.ndarray[Any, Any], out: str) -> np.ndarray[Any, Any]:
    """What was stored, as float32."""
    if out == "float16":
        return stored.view(np.float16).astype(np.float32)
    if out == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored
