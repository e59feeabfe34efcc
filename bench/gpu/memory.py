"""Copies: within the device, and between it and page-locked or ordinary memory of the host."""

from __future__ import annotations

import torch

from bench.gpu.timing import copy_bandwidth, device_ms, gigabytes_per_second
from bench.result import Bar

NBYTES = 1920 * 1080 * 3 * 8  # eight frames


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    device = torch.empty(NBYTES, dtype=torch.uint8, device="cuda")
    figures = {"within_gbps": copy_bandwidth()}
    for name, locked in (("pinned", True), ("pageable", False)):
        host = torch.zeros(NBYTES, dtype=torch.uint8, pin_memory=locked)
        up_ms = device_ms(lambda host=host: device.copy_(host, non_blocking=True), 20)
        down_ms = device_ms(lambda host=host: host.copy_(device, non_blocking=True), 20)
        figures[f"up_{name}_gbps"] = gigabytes_per_second(NBYTES, up_ms)
        figures[f"down_{name}_gbps"] = gigabytes_per_second(NBYTES, down_ms)
    return {key: round(value, 1) for key, value in figures.items()}, ()
