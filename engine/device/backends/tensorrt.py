"""TensorRT by way of torch-tensorrt's dynamo front end: the exported graph into one plan.

Written after its documentation (docs.pytorch.org/TensorRT, "Extracting a raw TensorRT engine") and
the signatures of 2.11 and 2.13, where the graph's own types say which precision. Operators that
TensorRT does not know make the build fail rather than run elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.device.backends.plan import load_plan
from engine.device.backends.protocol import cuda_only, missing, versions_of
from engine.device.noise import quiet
from engine.device.report import Precision

if TYPE_CHECKING:
    from engine.device.backends.protocol import Run
    from engine.device.job import Job


class TensorRt:
    name = "tensorrt"
    keeps = True
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        return (
            cuda_only(device)
            or missing("torch-tensorrt", "tensorrt", extra="tensorrt")
            or _why_broken()
        )

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch-tensorrt", "tensorrt", "torch")

    def build(self, job: Job) -> bytes:
        import torch_tensorrt

        with quiet():
            plan: bytes = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                job.exported(),
                arg_inputs=_inputs(torch_tensorrt, job),
                disable_tf32=True,  # fp32 means fp32
                device=job.place,
            )
        return plan

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        import tensorrt

        return load_plan(tensorrt, payload, job)


def _why_broken() -> str | None:
    try:
        import torch_tensorrt  # noqa: F401
    except Exception as error:  # noqa: BLE001  it raises a bare Exception without its libraries
        return f"torch-tensorrt cannot be imported: {error}"
    return None


def _inputs(torch_tensorrt: Any, job: Job) -> list[Any]:
    """The example, or for ranges the least, usual and most shape."""
    found: list[Any] = []
    for name, given in zip(job.names, job.inputs(), strict=True):
        ranges = job.dynamic.get(name)
        if not ranges:
            found.append(given)
            continue
        least, most = (
            tuple(ranges[at][end] if at in ranges else size for at, size in enumerate(given.shape))
            for end in (0, 1)
        )
        shapes = {"min_shape": least, "opt_shape": tuple(given.shape), "max_shape": most}
        found.append(torch_tensorrt.Input(dtype=given.dtype, **shapes))
    return found


BACKEND = TensorRt()
