"""ONNX Runtime on processors. It computes in fp32 only; the engine is the plain ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.device.backends.protocol import cpu_only, missing, versions_of
from engine.device.report import Precision

if TYPE_CHECKING:
    import torch

    from engine.device.backends.protocol import Run
    from engine.device.job import Job


class OnnxRuntime:
    name = "onnxruntime"
    keeps = True
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        absent = missing("onnx", "onnxscript", "onnxruntime", extra="compile")
        slow = None if precision == "fp32" else "it computes in fp32 only on processors"
        return cpu_only(device) or slow or absent

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("onnxruntime", "onnx", "onnxscript", "torch")

    def build(self, job: Job) -> bytes:
        return job.onnx()

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        import onnxruntime
        import torch

        runtime: Any = onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(
            bytes(payload), options, providers=["CPUExecutionProvider"]
        )
        names = [given.name for given in session.get_inputs()]

        def run(inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            arrays = {name: as_array(x) for name, x in zip(names, inputs, strict=True)}
            return [torch.from_numpy(y) for y in session.run(None, arrays)]

        return run


def as_array(tensor: torch.Tensor) -> Any:
    """The tensor's memory as a NumPy array."""
    return tensor.detach().numpy()


BACKEND = OnnxRuntime()
