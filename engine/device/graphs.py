"""A model with fixed shapes as captured graphs, one per batch size; a batch is padded to the next.

A graph is one launch instead of hundreds (CUDA C++ Programming Guide, "CUDA Graphs"), but it reads
and writes the same memory every time. So a batch is copied in, and results are copied out before
the next replay may overwrite them: two copies within the device, in stream order, no wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.device.array import dtype_name
from engine.device.interface import Device, Replay, Stream

Outputs = tuple[Any, ...]


class BatchGraphs:
    """`model` captured for each of `sizes`; calls go to the smallest that holds the batch.

    `model` takes an array [B, *shape] of `dtype` and gives a tuple of arrays [B, ...] of its own,
    without a wait of the host. It is run once per size before capturing, so that libraries choose
    their kernels outside of the graph. Rows of padding hold what was there before: a model whose
    rows look at each other must not be used with it. One call at a time, on one stream.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        model: Callable[[Any], Outputs],
        example: tuple[tuple[int, ...], str],
        sizes: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"batch sizes start at 1, got {list(sizes)}")
        self.sizes = tuple(sorted(set(sizes)))
        self._device = device
        self._stream = stream
        shape, dtype = example
        self._graphs = {size: self._capture(model, (size, *shape), dtype) for size in self.sizes}

    def __call__(self, batch: Any) -> Outputs:
        """[B, ...] -> new arrays [B, ...], as work of the stream; B may exceed all sizes."""
        count = int(batch.shape[0])
        largest = self.sizes[-1]
        if count <= largest:
            return self._run(batch, count)
        parts = [self._run(batch[at : at + largest], min(largest, count - at))
                 for at in range(0, count, largest)]  # fmt: skip
        return tuple(self._joined(pieces, count) for pieces in zip(*parts, strict=True))

    def _capture(
        self, model: Callable[[Any], Outputs], shape: tuple[int, ...], dtype: str
    ) -> tuple[Any, Outputs, Replay]:
        given = self._device.empty(shape, dtype, self._stream)
        self._device.clear(given, self._stream)
        with self._stream.use():
            model(given)
        made, replay = self._device.capture(self._stream, lambda: model(given))
        return given, made, replay

    def _run(self, batch: Any, count: int) -> Outputs:
        given, made, replay = self._graphs[next(size for size in self.sizes if size >= count)]
        self._device.copy(batch, given[:count], self._stream)
        replay(self._stream)
        return tuple(self._copied(array[:count]) for array in made)

    def _copied(self, array: Any) -> Any:
        fresh = self._device.empty(tuple(array.shape), dtype_name(array), self._stream)
        self._device.copy(array, fresh, self._stream)
        return fresh

    def _joined(self, pieces: Sequence[Any], count: int) -> Any:
        shape = (count, *pieces[0].shape[1:])
        whole = self._device.empty(tuple(shape), dtype_name(pieces[0]), self._stream)
        at = 0
        for piece in pieces:
            rows = int(piece.shape[0])
            self._device.copy(piece, whole[at : at + rows], self._stream)
            at += rows
        return whole
