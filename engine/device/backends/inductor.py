"""torch.compile. On a GPU with static shapes it replays CUDA graphs.

Nothing of it is kept here: torch has a cache of its own for what inductor makes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.device.backends.eager import why_no_bf16
from engine.device.backends.protocol import versions_of
from engine.device.noise import quiet
from engine.device.report import Precision

if TYPE_CHECKING:
    import torch

    from engine.device.backends.protocol import Run
    from engine.device.job import Job


class Inductor:
    name = "inductor"
    keeps = False
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        return why_no_compiler(device) or why_no_bf16(device, precision)

    def why_not_auto(self, device: str) -> str | None:
        if device == "cpu":
            return "aot is the same compiler, and its code is kept"
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch")

    def build(self, job: Job) -> bytes:
        return b""

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        import torch

        graphs = job.place != "cpu" and not job.dynamic
        mode = "reduce-overhead" if graphs else "default"
        with quiet():
            from torch._inductor import config

            module = torch.compile(job.lowered(), mode=mode, dynamic=bool(job.dynamic))

        def run(inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            found: Sequence[torch.Tensor] = module(*inputs)
            return [y.clone() for y in found] if graphs else found  # replays write over them

        # Code is made at the first call of each kind: for tensors of inference mode and for others.
        with quiet(), config.patch(compile_threads=1), torch.inference_mode():
            run(job.inputs())
            run([x.clone() for x in job.inputs()])
        return run


def why_no_compiler(device: str) -> str | None:
    """What inductor misses for the device."""
    if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        return "it needs a C++ compiler: install g++, or name one in CXX"
    if device != "cpu" and importlib.util.find_spec("triton") is None:
        return "it needs triton, which comes with torch's builds for CUDA"
    return None


BACKEND = Inductor()
