"""Captured graphs beside single launches, for every network that comes along, in fp32.

Each network runs as its operator gives it work: fixed sizes, one stream. `BatchGraphs` copies the
batch in and the results out, and that is part of its time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from bench.common import significant
from bench.gpu.timing import device_ms
from bench.result import Bar
from engine.device.graphs import BatchGraphs
from engine.device.networks import Network, networks
from engine.device.opening import Devices
from engine.device.scope import DeviceScope


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    figures: dict[str, float] = {}
    with Devices().scope("cuda:0", 0) as scope, torch.inference_mode():
        for name, make in networks().items():
            eager_ms, replay_ms = both(scope, make())
            key = name.replace("-", "_")
            figures |= {f"{key}_eager_ms": eager_ms, f"{key}_replay_ms": replay_ms}
    return figures, ()


def both(scope: DeviceScope, network: Network) -> tuple[float, float]:
    """Milliseconds of a call, by single launches and by a captured graph."""
    (given,) = (x.cuda() for x in network.example)
    net: Any = network.module.cuda().eval()

    def model(pictures: Any) -> tuple[Any, ...]:
        return tuple(pytree.tree_leaves(net(pictures)))

    torch.cuda.synchronize()
    example = tuple(given.shape[1:]), "float32"
    with scope.stream.use():
        eager_ms = device_ms(lambda: model(given))
    graphs = BatchGraphs(scope.device, scope.stream, model, example, (given.shape[0],))
    with scope.stream.use():
        replay_ms = device_ms(lambda: graphs(given))
    return significant(eager_ms), significant(replay_ms)
