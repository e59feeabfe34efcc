"""AOTInductor: torch's compiler, ahead of time, into a package that loads in milliseconds.

The package checks neither shapes nor strides of what it is called with; `Compiled` does.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.device.backends.eager import why_no_bf16
from engine.device.backends.inductor import why_no_compiler
from engine.device.backends.protocol import versions_of
from engine.device.noise import quiet
from engine.device.report import Precision

if TYPE_CHECKING:
    from engine.device.backends.protocol import Run
    from engine.device.job import Job


class Aot:
    name = "aot"
    keeps = True
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        return why_no_compiler(device) or why_no_bf16(device, precision)

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch")

    def build(self, job: Job) -> bytes:
        import torch

        with quiet():
            from torch._inductor import config

        program = job.exported()
        with (
            tempfile.TemporaryDirectory(prefix="frameloom-aot-") as folder,
            quiet(),
            config.patch(compile_threads=1),  # a pool of processes would outlive us
            torch.no_grad(),
        ):
            path = Path(folder) / "model.pt2"
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            return path.read_bytes()

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        import torch

        index = torch.device(job.place).index if job.place != "cpu" else None
        with quiet():
            model = torch._inductor.aoti_load_package(
                io.BytesIO(payload), device_index=-1 if index is None else index
            )
        return lambda inputs: model(*inputs)


BACKEND = Aot()
