"""The module itself, in the asked precision: always there; the others are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.device.backends.protocol import versions_of
from engine.device.machine import has_bf16
from engine.device.report import Precision

if TYPE_CHECKING:
    from engine.device.backends.protocol import Run
    from engine.device.job import Job


class Eager:
    name = "eager"
    keeps = False
    needs_device = True

    def why_not(self, device: str, precision: Precision) -> str | None:
        return None

    def why_not_auto(self, device: str) -> str | None:
        return None

    def versions(self) -> Mapping[str, str]:
        return versions_of("torch")

    def build(self, job: Job) -> bytes:
        return b""

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        module = job.lowered()
        return lambda inputs: module(*inputs)


def why_no_bf16(device: str, precision: Precision) -> str | None:
    """Where torch computes bfloat16 in software, which takes longer than fp32."""
    if device != "cpu" or precision == "fp32" or has_bf16():
        return None
    return "this processor has no instructions for bfloat16; ask for fp32"


BACKEND = Eager()
