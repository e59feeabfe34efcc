"""OpenVINO on processors, in fp32 or bf16. The engine is its compiled blob."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.device.backends.onnxruntime import as_array
from engine.device.backends.protocol import cpu_only, missing, versions_of
from engine.device.report import Precision

if TYPE_CHECKING:
    import torch

    from engine.device.backends.protocol import Run
    from engine.device.job import Job

TELEMETRY = "openvino_telemetry"
HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVino:
    name = "openvino"
    keeps = True
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        absent = missing("onnx", "onnxscript", "openvino", extra="compile")
        if cpu_only(device) or absent:
            return cpu_only(device) or absent
        able = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            return "this processor has no instructions for bfloat16; ask for fp32"
        return None

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("openvino", "onnx", "onnxscript", "torch")

    def build(self, job: Job) -> bytes:
        core = _core()
        # The fp32 graph: OpenVINO itself chooses which layers gain from the lower precision.
        model = core.read_model(job.onnx("fp32"))
        blob: bytes = core.compile_model(model, "CPU", _properties(job)).export_model().getvalue()
        return blob

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        import torch

        compiled = _core().import_model(bytes(payload), "CPU", _properties(job))
        request = compiled.create_infer_request()
        count = len(compiled.outputs)

        def run(inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            found = request.infer([as_array(x) for x in inputs], share_inputs=True)
            return [torch.from_numpy(found[index]) for index in range(count)]

        return run


@cache
def _core() -> Any:
    """OpenVINO's core, without the telemetry that its import would send to its maker."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import openvino
    finally:
        del sys.modules[TELEMETRY]
        if before is not None:
            sys.modules[TELEMETRY] = before
    library: Any = openvino
    return library.Core()


def _properties(job: Job) -> dict[str, str | int]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[job.precision],
        "INFERENCE_NUM_THREADS": job.threads,
        "PERFORMANCE_HINT": "LATENCY",
    }


BACKEND = OpenVino()
