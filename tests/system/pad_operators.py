"""Anti-spoofing nodes that fail while they run, for the tests of what a door is told then."""

from __future__ import annotations

import time

from engine import Batch
from operators.face.antispoof import AntiSpoof
from operators.ports import Features, Verdicts

FAILS_FROM = 30  # seq
SLOW_S = 0.4


class FailingAntiSpoof(AntiSpoof):
    """Raises from one frame on, as a head with a fault would."""

    def process(self, features: Batch[Features]) -> Batch[Verdicts]:
        if features.frames[-1].stamp.seq >= FAILS_FROM:
            raise ArithmeticError("a fault of the head")
        return self.judge(features)


class SlowAntiSpoof(AntiSpoof):
    """Takes far longer than a frame lasts."""

    def process(self, features: Batch[Features]) -> Batch[Verdicts]:
        time.sleep(SLOW_S)
        return self.judge(features)
