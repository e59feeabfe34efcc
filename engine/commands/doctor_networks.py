"""The part of `doctor` that tells which backend each network that comes along will use, and why."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from engine.commands.finding import Finding
from engine.device.driver import Gpu, ask_driver
from engine.device.engine_file import DamagedError
from engine.device.engines import EngineStore, Entry
from engine.device.machine import machine_of
from engine.device.networks import network_entries, runs_by
from engine.device.report import Choice, EngineKey
from engine.errors import DeviceError


def network_findings(store: EngineStore | None = None) -> list[Finding]:
    """A line per network: what runs it on this processor and on each GPU, and why that."""
    store = store or EngineStore()
    kept: dict[str, list[Entry]] = {}
    for entry in store.entries():
        if entry.header is not None and entry.header.key.backend == "auto":
            kept.setdefault(entry.header.label, []).append(entry)
    gpus = _gpus()
    found = []
    for network in network_entries():
        name, mine = network.name, kept.get(network.name, [])
        try:
            runs = runs_by(network.load())
        except Exception as error:  # noqa: BLE001  of whatever package offers it
            found.append(Finding(f"network {name}", "missing", f"cannot be loaded: {error}"))
            continue
        told = [f"{runs.cpu}, its file's own runtime"] if runs.cpu else _engines(store, mine, name)
        if runs.on_gpu:
            told += [_on_gpu(store, mine, name, gpu) for gpu in gpus]
        found.append(Finding(f"network {name}", "ok", "; ".join(told)))
    return found


def _gpus() -> tuple[Gpu, ...]:
    try:
        return ask_driver().gpus
    except DeviceError:  # which the report says in its own line
        return ()


def _engines(store: EngineStore, entries: Sequence[Entry], name: str) -> list[str]:
    """What was chosen for this processor, or why eager it is."""
    here = machine_of("cpu")
    told: list[str] = []
    passed: list[str] = []
    for entry in entries:
        key = _key(entry)
        if key.device == "cpu":
            where = f"{key.threads} thread{'s' if key.threads > 1 else ''}"
            why_not = "made on another computer" if key.machine != here else _outdated(key)
            (passed if why_not else told).append(why_not or _said(store, entry, where))
    if told:
        return told
    because = f"engines in the cache are {passed[0]}" if passed else "no engine was built"
    return [f"torch eager: {because}; `frameloom engines build {name}` measures what is faster"]


def _on_gpu(store: EngineStore, entries: Sequence[Entry], name: str, gpu: Gpu) -> str:
    capability = ".".join(map(str, gpu.capability))
    for entry in entries:
        machine = _key(entry).machine
        is_here = (machine.name, machine.capability) == (gpu.name, capability)
        if is_here and not _outdated(_key(entry)):
            return _said(store, entry, f"cuda:{gpu.index}")
    return f"torch eager on cuda:{gpu.index} until `frameloom engines build {name} --device cuda`"


def _key(entry: Entry) -> EngineKey:
    assert entry.header is not None
    return entry.header.key


def _outdated(key: EngineKey) -> str:
    """Empty if all packages are still those that it was measured with."""
    for name, version in key.versions.items():
        try:
            if metadata.version(name) == version:
                continue
        except metadata.PackageNotFoundError:
            return f"made with {name}, which is not here any more"
        return f"made with {name} {version}"
    return ""


def _said(store: EngineStore, entry: Entry, where: str) -> str:
    try:
        chosen: Choice = store.choice(entry)
    except (DamagedError, OSError) as problem:
        return f"the choice for {where} is measured again: its file {problem}"
    times = {(one.backend, one.precision): one.ms for one in chosen.candidates}
    mine = times.get((chosen.backend, chosen.precision))
    eager = times.get(("eager", "fp32"))
    speed = f": {mine:.1f} ms, eager {eager:.1f}" if mine and eager else ""
    return f"{chosen.backend} in {chosen.precision} for {where}{speed}"
