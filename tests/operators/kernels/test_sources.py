"""The kernels' sources: CUDA's own compiler takes them for both architectures where it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from operators.kernels import launching
from operators.kernels.launching import OUT_BYTES, VARIANTS, rounded, source
from tests.operators.kernels import host

KERNELS = ("crop", "overlay", "paste", "planes", "watermark")
FOLDER = Path(launching.__file__).parent
ARCHITECTURES = ("sm_80", "sm_90") if host.NVCC else ()


def test_every_source_is_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.cu")) == sorted((*KERNELS, "common"))
    assert VARIANTS.keys() == OUT_BYTES.keys()


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_of_a_source_has_its_name(name: str) -> None:
    assert host.parameters_of(source(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_takes_every_kernel(architecture: str, tmp_path: Path) -> None:
    assert host.NVCC
    for name in KERNELS:
        path = tmp_path / f"{name}.cu"
        path.write_text(source(name))
        done = subprocess.run(
            [host.NVCC, f"-arch={architecture}", "-std=c++17", "-DOUT=1", "--cubin",
             "-Werror=all-warnings", "-diag-suppress=177",  # shared functions that it does not need
             "-o", str(tmp_path / f"{name}.cubin"), str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{name}.cubin").stat().st_size > 1000


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
def test_bits_are_made_as_the_types_want(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
    made = host.stored(values.shape, out)
    host.run("stored", out, (len(values), 1, 1), values, made, len(values))
    found, wanted = host.as_float(made, out), rounded(values, out)  # type: ignore[arg-type]
    assert np.array_equal(found[:-1], wanted[:-1])
    assert np.isnan(found[-1])
    if out == "float16":
        with np.errstate(over="ignore"):
            own = values[:-1].astype(np.float16)
        assert np.array_equal(made.view(np.float16)[:-1], own)
