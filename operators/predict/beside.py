"""Predictions made beside the pictures, on a thread of their own: nobody waits for them.

A network takes longer than a frame time, and pictures must go out on time. In a file graph there is
no time, and every run must give the same: there predictions are made at once.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from operators.predict.ahead import Predicted, Predictor
from operators.predict.flow import U8


class Beside:
    """One prediction after the other, in the order they were asked for. Left, the thread ends."""

    def __init__(self, predictor: Predictor, *, at_once: bool) -> None:
        self.predictor = predictor
        self._thread = None if at_once else ThreadPoolExecutor(1, "predict")

    def ask(self, past: U8) -> Future[Predicted]:
        """As many pictures as it can foretell from `past` [K, S, S, 3]. What it raises is kept."""
        ahead = self.predictor.most
        if self._thread is not None:
            return self._thread.submit(self.predictor.predict, past, ahead)
        done: Future[Predicted] = Future()
        try:
            done.set_result(self.predictor.predict(past, ahead))
        except Exception as error:  # noqa: BLE001  told by whoever looks, as from the thread
            done.set_exception(error)
        return done

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
