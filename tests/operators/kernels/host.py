"""A kernel's own source, compiled for the processor: launchers run it as if they had a GPU.

Every thread of the grid in turn, first to last or last to first: kernels whose threads touch one
place twice give different results. Arrays lie between margins, which must stay as they are.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.kernels import launching
from operators.kernels.launching import BLOCK, VARIANTS, On, source

SHIM = """
#include <math.h>
#include <string.h>
#define __device__
#define __global__
struct Three { int x, y, z; };
static Three blockIdx, blockDim, threadIdx;
static inline unsigned int __float_as_uint(float v) { unsigned int b; memcpy(&b, &v, 4); return b; }
static inline float __uint_as_float(unsigned int b) { float v; memcpy(&v, &b, 4); return v; }
static inline void __threadfence() {}
static inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value) {
    unsigned long long before = *at;
    *at += value;
    return before;
}
"""
LOOP = """
extern "C" void run_grid({parameters}, int gx, int gy, int gz, int backwards) {{
    long long count_ = (long long)gx * gy * gz * {bx} * {by};
    blockDim = {{{bx}, {by}, 1}};
    for (long long nth_ = 0; nth_ < count_; ++nth_) {{
        long long at_ = backwards ? count_ - 1 - nth_ : nth_;
        threadIdx = {{(int)(at_ % {bx}), (int)(at_ / {bx} % {by}), 0}};
        at_ /= {bx} * {by};
        blockIdx = {{(int)(at_ % gx), (int)(at_ / gx % gy), (int)(at_ / gx / gy)}};
        ::{name}({names});
    }}
}}
"""
COMPILER = shutil.which("g++") or shutil.which("clang++")
NVCC = shutil.which("nvcc")
MARGIN_BYTES, FILL = 4096, 0xA5
OURS = {"float32": np.float32, "float16": np.uint16, "bfloat16": np.uint16}


class Array:
    """A NumPy array that says that it lies on a device."""

    def __init__(self, given: np.ndarray[Any, Any], dtype: str = "") -> None:
        given = np.ascontiguousarray(given)
        self._all = np.full(given.nbytes + 2 * MARGIN_BYTES, FILL, np.uint8)
        held = self._all[MARGIN_BYTES : MARGIN_BYTES + given.nbytes]
        self.numbers = held.view(given.dtype).reshape(given.shape)
        self.numbers[...] = given
        self.shape, self.dtype = given.shape, dtype or given.dtype.name

    @property
    def is_cuda(self) -> bool:
        return True

    def is_contiguous(self) -> bool:
        return True

    def data_ptr(self) -> int:
        return self.numbers.ctypes.data

    def is_whole(self) -> bool:
        """Nobody wrote beside it."""
        margins = self._all[:MARGIN_BYTES], self._all[-MARGIN_BYTES:]
        return all((margin == FILL).all() for margin in margins)


def parameters_of(code: str, name: str) -> str:
    """What stands between the brackets of the kernel's declaration."""
    begin = code.index(f"void {name}(") + len(f"void {name}(")
    return code[begin : code.index(")", begin)]


@cache
def library(name: str, out: str) -> tuple[Any, tuple[str, ...]]:
    """The kernel as a shared library, kept for all tests of a session, and its parameters."""
    assert COMPILER, "the kernels' arithmetic is tested with a C++ compiler: install g++"
    code = source(name)
    parameters = parameters_of(code, name)
    each = tuple(" ".join(part.split()) for part in parameters.split(","))
    names = ", ".join(part.split()[-1].lstrip("*") for part in each)
    loop = LOOP.format(parameters=parameters, names=names, name=name, bx=BLOCK[0], by=BLOCK[1])
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{name}.so"
        subprocess.run(
            [COMPILER, "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++",
             "-o", str(made), "-"],
            input=f"#define OUT {VARIANTS[out]}\n{SHIM}\n{code}\n{loop}", text=True, check=True,
        )  # fmt: skip
        return ctypes.CDLL(str(made)), each


class Processor:
    """What stands in for a GPU."""

    def __init__(self) -> None:
        self.backwards = False
        self.launches: list[str] = []
        self._arrays: list[Array] = []

    def array(self, given: np.ndarray[Any, Any], dtype: str = "") -> Array:
        self._arrays.append(Array(given, dtype))
        return self._arrays[-1]

    def room(self, shape: tuple[int, ...], dtype: str, on: On | None = None) -> Array:
        """Room for what a kernel writes, full of something else."""
        return self.array(np.full(shape, 77, OURS.get(dtype, dtype)), dtype)

    def start(self, name: str, out: Any, on: On, grid: Any, values: Any) -> None:
        made, parameters = library(name, out)
        assert len(values) == len(parameters), (len(values), parameters)
        given = [_c_value(v, p) for v, p in zip(values, parameters, strict=True)]
        made.run_grid(*given, *grid, int(self.backwards))
        assert all(array.is_whole() for array in self._arrays), f"{name} wrote beside an array"
        self.launches.append(name)


@contextmanager
def processor() -> Iterator[Processor]:
    """Kernels are launched on the processor, with arrays that it gives."""
    gpu = Processor()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "_start", gpu.start)
        patch.setattr(launching, "_upload", lambda array, device, stream: gpu.array(array))
        patch.setattr(launching, "_empty", gpu.room)
        yield gpu


def _c_value(value: Any, parameter: str) -> Any:
    """CuPy hands over bytes and asks nobody for their type: here a wrong one is found."""
    if "*" in parameter:
        assert isinstance(value, np.uintp), parameter
        return ctypes.c_void_p(int(value))
    wanted = {"int": np.int32, "float": np.float32}[parameter.split()[0]]
    assert isinstance(value, wanted), (parameter, type(value))
    return ctypes.c_int(int(value)) if wanted is np.int32 else ctypes.c_float(float(value))


def as_float(array: Array) -> np.ndarray[Any, Any]:
    """What was stored, as float32."""
    if array.dtype == "float16":
        return array.numbers.view(np.float16).astype(np.float32)
    if array.dtype == "bfloat16":
        return (array.numbers.astype(np.uint32) << 16).view(np.float32)
    return array.numbers


def step_of(wanted: np.ndarray[Any, Any], out: str) -> Any:
    """The distance to the next number of a type, each."""
    if out == "float16":
        return np.spacing(np.abs(wanted).astype(np.float16)).astype(np.float32)
    return np.maximum(np.abs(wanted), 1e-3) * 2.0**-7 if out == "bfloat16" else 0.0
