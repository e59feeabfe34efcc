"""Running a TensorRT plan. TensorRT and TensorRT-RTX have the same Python interface for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import CompileError

if TYPE_CHECKING:
    import torch

    from engine.device.backends.protocol import Run
    from engine.device.job import Job

REMEDY = "`frameloom doctor` tells what the driver misses"


def make_logger(trt: Any) -> Any:
    """A logger that keeps errors in `.errors` and prints nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def load_plan(trt: Any, payload: bytes | memoryview, job: Job) -> Run:
    """A callable on the current CUDA stream; no synchronisation with the host.

    CompileError LOAD_FAILED with TensorRT's own words where the plan cannot be deserialised.
    """
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(bytes(payload))
    if engine is None:
        cause = logger.errors[0] if logger.errors else "no reason was given"
        raise CompileError("LOAD_FAILED", f"the plan cannot be loaded: {cause}; {REMEDY}")
    return _runner(trt, logger, engine, job)


def _runner(trt: Any, logger: Any, engine: Any, job: Job) -> Run:
    import torch

    context = engine.create_execution_context()
    if context is None:
        raise CompileError("LOAD_FAILED", f"the plan cannot be run: {logger.errors[-1:]}; {REMEDY}")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    ins = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outs = {name: _dtypes(trt)[engine.get_tensor_dtype(name)] for name in names if name not in ins}

    place = job.place  # not the job itself, which holds the weights

    def run(inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        for name, given in zip(ins, inputs, strict=True):
            context.set_input_shape(name, tuple(given.shape))
            context.set_tensor_address(name, given.data_ptr())
        found = []
        for name, dtype in outs.items():
            shape = tuple(context.get_tensor_shape(name))
            found.append(torch.empty(shape, dtype=dtype, device=place))
            context.set_tensor_address(name, found[-1].data_ptr())
        stream = torch.cuda.current_stream(place)
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"TensorRT could not run: {logger.errors[-1:]}")
        return found

    return run


def _dtypes(trt: Any) -> dict[Any, torch.dtype]:
    import torch

    kinds = trt.DataType
    return {
        kinds.FLOAT: torch.float32,
        kinds.HALF: torch.float16,
        kinds.BF16: torch.bfloat16,
        kinds.INT64: torch.int64,
        kinds.INT32: torch.int32,
        kinds.INT8: torch.int8,
        kinds.UINT8: torch.uint8,
        kinds.BOOL: torch.bool,
    }
