"""The part of `doctor` that tells which backend each network that comes along will use, and why."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.commands.finding import Finding
from engine.commands.probes import last_words, run_code
from engine.device.driver import Gpu, ask_driver
from engine.device.engine_file import DamagedError
from engine.device.engines import EngineStore, Entry
from engine.device.networks import asked_precision, network_entries, runs_by
from engine.device.report import Choice, EngineKey, Place
from engine.errors import DeviceError

PLACES = """
import msgspec
from engine.device.choice import place_of
print(msgspec.json.encode({{name: place_of(name) for name in {devices!r}}}).decode())
"""


def network_findings(store: EngineStore | None = None) -> list[Finding]:
    """A line per network: what runs it on this processor and on each GPU, and why that."""
    store = store or EngineStore()
    kept: dict[str, list[Entry]] = {}
    for entry in store.entries():
        if entry.header is not None and entry.header.key.backend == "auto":
            kept.setdefault(entry.header.label, []).append(entry)
    gpus = [f"cuda:{gpu.index}" for gpu in _gpus()]
    places, unknown = ask_places(["cpu", *gpus]) if kept else ({}, "")
    found = []
    for network in network_entries():
        name, mine = network.name, kept.get(network.name, [])
        try:
            runs = runs_by(network.load())
        except Exception as error:  # noqa: BLE001  of whatever package offers it
            found.append(Finding(f"network {name}", "missing", f"cannot be loaded: {error}"))
            continue
        if unknown and mine:
            note = f"what runs it cannot be told: {unknown}"
            found.append(Finding(f"network {name}", "missing", note))
            continue
        told = [f"{runs.cpu}, its file's own runtime"] if runs.cpu else []
        for device in (*(() if runs.cpu else ("cpu",)), *(gpus if runs.on_gpu else ())):
            told += _engines(store, mine, name, device, places.get(device))
        found.append(Finding(f"network {name}", "ok", "; ".join(told)))
    return found


def ask_places(devices: Sequence[str]) -> tuple[dict[str, Place], str]:
    """What a choice depends on, by device, as a node finds it when it opens; or why it cannot be
    told. In a process of its own: it needs torch.
    """
    works, said = run_code(PLACES.format(devices=list(devices)))
    if not works:
        return {}, last_words(said)
    return msgspec.json.decode(said, type=dict[str, Place]), ""


def _gpus() -> tuple[Gpu, ...]:
    try:
        return ask_driver().gpus
    except DeviceError:  # which the report says in its own line
        return ()


def _engines(
    store: EngineStore, entries: Sequence[Entry], name: str, device: str, place: Place | None
) -> list[str]:
    """What was chosen for this device, or why eager it is."""
    on, option = ("", "") if device == "cpu" else (f" on {device}", " --device cuda")
    told: list[str] = []
    passed: list[str] = []
    for entry in entries:
        key = _key(entry)
        if place is not None and key.device == device.partition(":")[0]:
            where = f"{key.threads} thread{'s' if key.threads > 1 else ''}" if not on else device
            why_not = _unlike(key, place, device)
            (passed if why_not else told).append(why_not or _said(store, entry, where))
    if told:
        return told
    because = f"engines in the cache are {passed[0]}" if passed else "no engine was built"
    build = f"`frameloom engines build {name}{option}` measures what is faster"
    return [f"torch eager{on}: {because}; {build}"]


def _key(entry: Entry) -> EngineKey:
    assert entry.header is not None
    return entry.header.key


def _unlike(key: EngineKey, place: Place, device: str) -> str:
    """Why a node on the device would not find this choice; empty if it would."""
    if key.machine != place.machine:
        alike = msgspec.structs.replace(key.machine, driver=place.machine.driver) == place.machine
        return f"made with driver {key.machine.driver}" if alike else "made on another computer"
    for name in sorted({*key.versions, *place.versions}):
        then, now = key.versions.get(name), place.versions.get(name)
        if then is None:
            return f"made without {name}, which is here now"
        if now != then:
            return f"made with {name} {then}" + ("" if now else ", which is not here any more")
    if key.precision != asked_precision(device):
        return f"in {key.precision}, for which no node asks"
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
