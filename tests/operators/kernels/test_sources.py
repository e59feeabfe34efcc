"""The kernels' sources: CUDA's own compiler takes them for both architectures where it is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operators.kernels import launching
from operators.kernels.launching import (
    OUT_BYTES,
    VARIANTS,
    On,
    Out,
    launch,
    memory_of,
    rounded,
    source,
)
from tests.operators.kernels import host

KERNELS = ("colours", "crop", "overlay", "paste", "planes", "watermark")
FOLDER = Path(launching.__file__).parent
# Whoever is here to compile: a C++ compiler always, CUDA's own for each architecture where it is.
TOOLS = ("c++", *(("sm_80", "sm_90") if host.NVCC else ()))
TYPED = ("crop", "planes")  # these write what OUT says


def test_every_source_is_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.cu")) == sorted((*KERNELS, "common"))
    assert VARIANTS.keys() == OUT_BYTES.keys()


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_of_a_source_has_its_name(name: str) -> None:
    assert host.parameters_of(source(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_compilers_take_every_kernel(tool: str, tmp_path: Path) -> None:
    for name in KERNELS:
        for out, number in VARIANTS.items():
            if name not in TYPED and number:
                continue
            if tool == "c++":
                assert (
                    len(host.library(name, out)[1])
                    == host.parameters_of(source(name), name).count(",") + 1
                )
            else:
                _nvcc(tool, number, name, tmp_path)


def _nvcc(architecture: str, out: int, name: str, folder: Path) -> None:
    assert host.NVCC
    path, made = folder / f"{name}.cu", folder / f"{name}{out}.cubin"
    path.write_text(source(name))
    done = subprocess.run(
        [host.NVCC, f"-arch={architecture}", "-std=c++17", f"-DOUT={out}", "--cubin",
         "-Werror=all-warnings", "-diag-suppress=177",  # shared functions that it does not need
         "-o", str(made), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert made.stat().st_size > 1000


def test_rounding_is_that_of_the_types() -> None:
    values = np.array(
        [0, 1, -1.5, 1 / 3, 65519, 65520, 1e-7, 6e-8, 2.98e-8, 1e30, -1e-30], np.float32
    )
    with np.errstate(over="ignore"):
        assert (rounded(values, "float16") == values.astype(np.float16)).all()
    import torch

    wanted = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    assert (rounded(values, "bfloat16") == wanted).all()
    assert rounded(values, "float32") is values


@pytest.mark.parametrize("out", ["float16", "bfloat16"])
def test_bits_are_made_as_the_types_want(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of number, through the functions that all kernels store with."""
    code = source("watermark").split("extern")[0] + (
        'extern "C" __global__ void stored(const float* from, out_t* to, int n) {\n'
        "    int x = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "    if (x < n && blockIdx.y * blockDim.y + threadIdx.y == 0) to[x] = PUT(from[x]);\n}\n"
    )
    monkeypatch.setattr(host, "source", lambda name: code)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20_000, np.uint64).astype(np.uint32).view(np.float32)
    edges = np.array(
        [0.0, -0.0, 65504, 65519.99, 65520, 6e-5, 6.1e-5, 5.96e-8, 2.98e-8, 3e-8, np.inf, -np.inf],
        np.float32,
    )
    ordinary = rng.normal(0, 10, 20_000).astype(np.float32)
    values = np.concatenate(
        [bits[~np.isnan(bits)], edges, ordinary, np.array([np.nan], np.float32)]
    )
    with host.processor() as gpu:
        made = gpu.room(values.shape, out)
        launch("stored", (len(values), 1, 1), (gpu.array(values), made, len(values)), On(0), out)
    found, wanted = host.as_float(made), rounded(values, out)
    assert np.array_equal(found[:-1], wanted[:-1])
    assert np.isnan(found[-1])
    if out == "float16":
        with np.errstate(over="ignore"):
            own = values[:-1].astype(np.float16)
        assert np.array_equal(made.numbers.view(np.float16)[:-1], own)


class Spoken:
    """What another library's array says of itself."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.__cuda_array_interface__ = dict(array.__array_interface__) | {"version": 3}


def test_arrays_of_other_libraries_are_taken() -> None:
    array = np.zeros((3, 4), np.int16)
    seen = memory_of(Spoken(array))
    assert seen == (array.ctypes.data, (3, 4), "int16")
    packed = Spoken(array)
    packed.__cuda_array_interface__["strides"] = (8, 2)
    assert memory_of(packed) == seen
    assert memory_of(Spoken(np.zeros((), np.uint8))).shape == ()


def test_arrays_that_a_kernel_cannot_read_are_refused() -> None:
    import torch

    with pytest.raises(ValueError, match="an array on cpu"):
        memory_of(torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(4, 3\) that is not contiguous"):
        memory_of(Spoken(np.zeros((3, 4), np.int16).T))


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
def test_memory_on_a_gpu_is_what_its_library_says(dtype: str) -> None:
    import cupy
    import torch

    tensor = torch.zeros(2, 5, dtype=getattr(torch, dtype), device="cuda")
    assert memory_of(tensor) == (tensor.data_ptr(), (2, 5), dtype)
    with pytest.raises(ValueError, match="not contiguous"):
        memory_of(tensor.T)
    if dtype != "bfloat16":
        array = cupy.zeros((2, 5), dtype)
        assert memory_of(array) == (array.data.ptr, (2, 5), dtype)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", KERNELS)
def test_the_compiler_of_the_machine_takes_every_kernel(name: str) -> None:
    for out in VARIANTS if name in TYPED else ("float32",):
        assert launching._function(name, out, 0).max_threads_per_block >= 256


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_where_kernels_run_they_pass_the_test_of_doctor() -> None:
    launching.try_out("cuda:0")
