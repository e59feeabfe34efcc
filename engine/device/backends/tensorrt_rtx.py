"""TensorRT-RTX: an ONNX model into a plan that is finished for the GPU when it is loaded.

Building needs neither GPU nor driver; loading needs both. Networks are strongly typed: precision is
what the graph says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.device.backends.plan import load_plan, make_logger
from engine.device.backends.protocol import cuda_only, missing, versions_of
from engine.device.report import Precision

if TYPE_CHECKING:
    from engine.device.backends.protocol import Run
    from engine.device.job import Job

PACKAGES = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs")


class TensorRtRtx:
    name = "tensorrt_rtx"
    keeps = True
    needs_device = False

    def why_not(self, device: str, precision: Precision) -> str | None:
        absent = missing("onnx", "onnxscript", *PACKAGES, extra="tensorrt-rtx")
        return cuda_only(device) or absent or _unlisted(device)

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of(*PACKAGES, "onnx", "onnxscript", "torch")

    def build(self, job: Job) -> bytes:
        trt = _library()
        logger = make_logger(trt)
        builder = trt.Builder(logger)
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(job.onnx()):
            raise RuntimeError(f"the ONNX model is refused: {parser.get_error(0)}")
        settings = builder.create_builder_config()
        settings.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
        if job.dynamic:
            settings.add_optimization_profile(_profile(builder, network, job))
        plan = builder.build_serialized_network(network, settings)
        if plan is None:
            raise RuntimeError("; ".join(logger.errors) or "the builder gave no plan and no reason")
        return bytes(plan)

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        return load_plan(_library(), payload, job)


def _library() -> Any:
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings


def _unlisted(device: str) -> str | None:
    """Where this version does not know the GPU's generation; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    listed = sorted(re.findall(r"SM(\d+)", " ".join(dir(_library().ComputeCapability))), key=int)
    if f"{major}{minor}" in listed:
        return None
    known = ", ".join(f"{name[:-1]}.{name[-1]}" for name in listed)
    return f"it does not list compute capability {major}.{minor} (only {known})"


def _profile(builder: Any, network: Any, job: Job) -> Any:
    """Least, usual and most size of each input; the usual one is the example's."""
    profile = builder.create_optimization_profile()
    for index, (name, given) in enumerate(zip(job.names, job.example, strict=True)):
        ranges = job.dynamic.get(name, {})
        sizes = [
            tuple(ranges[at][end] if at in ranges else size for at, size in enumerate(given.shape))
            for end in (0, 1)
        ]
        profile.set_shape(network.get_input(index).name, sizes[0], tuple(given.shape), sizes[1])
    return profile


BACKEND = TensorRtRtx()
