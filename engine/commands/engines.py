"""`frameloom engines`: what the cache of compiled models holds, filling it, emptying it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.commands.console import (
    EXIT_FAILED,
    EXIT_OK,
    CommandError,
    print_error,
    print_json,
    stderr,
    stdout,
)
from engine.commands.tables import make_table
from engine.device.engine_file import DamagedError
from engine.device.engines import EngineStore, Entry
from engine.device.networks import Network, network_named, networks
from engine.device.report import Candidate, Precision, Report
from engine.errors import CompileError


@dataclass(frozen=True)
class BuildOptions:
    """What the command line says."""

    backend: str
    device: str | None  # None: the processor, or cuda where the backend knows nothing else
    threads: int  # of the processor, for one call
    precision: Precision | None  # None: every one that a network stands and the backend has
    folder: Path | None
    as_json: bool


def list_command(folder: Path | None, *, as_json: bool) -> None:
    """Every engine in the cache, the last used first."""
    store = _store(folder)
    entries = store.entries()
    if as_json:
        print_json({"folder": str(store.folder), "engines": [_entry(entry) for entry in entries]})
        return
    table = make_table("key", "network", "backend", "precision", "for", "inputs", ">MiB", ">used")
    for entry in entries:
        table.add_row(entry.path.stem[:12], *_cells(store, entry), _ago(entry.used_ago_s))
    stdout().print(table)
    total = sum(entry.size_bytes for entry in entries) / 2**20
    told = f"{len(entries)} engines, {total:.1f} of {store.max_bytes >> 20} MiB in {store.folder}"
    stdout().print(told, markup=False, highlight=False, soft_wrap=True)


def clear_command(keys: list[str], folder: Path | None, *, as_json: bool) -> int:
    """Delete all engines and what dead builders left, or those whose keys begin so; the exit
    code.
    """
    store = _store(folder)
    entries = store.entries()
    for key in keys:
        if not any(entry.path.stem.startswith(key) for entry in entries):
            raise CommandError(f"there is no engine {key}: see `frameloom engines list`")
    chosen = [
        entry.path
        for entry in entries
        if not keys or any(entry.path.stem.startswith(key) for key in keys)
    ]
    held = [path for path in chosen if not store.remove(path)]
    swept = 0 if keys else store.sweep()
    if as_json:
        in_use = [path.stem for path in held]
        print_json({"removed": len(chosen) - len(held), "in_use": in_use, "swept": swept})
    else:
        told = f"removed {len(chosen) - len(held)}"
        told += f"; {len(held)} in use or not to be deleted" if held else ""
        told += f"; swept {swept} files that dead builders left" if swept else ""
        stdout().print(told, highlight=False)
    return EXIT_FAILED if held else EXIT_OK


def build_command(names: list[str], options: BuildOptions) -> int:
    """Build engines for networks that come along, all or those named; the exit code.

    Each is told on standard error as it comes, so that one who interrupts knows what there is.
    """
    _store(options.folder)
    device = options.device or _device_of(options.backend)
    if device == "cpu":
        import torch

        torch.set_num_threads(options.threads)
    makers = {name: network_named(name) for name in names} or networks()
    if not makers:
        raise CommandError("no installed package offers a network")
    rows: list[tuple[str, Report]] = []
    code = EXIT_OK
    for name, make in makers.items():
        stderr().print(f"{name} ...", markup=False, highlight=False)
        try:
            for report in _built(make(), options, device):
                stderr().print(_line(name, report), markup=False, highlight=False, soft_wrap=True)
                rows.append((name, report))
        except CompileError as error:  # the next network may do
            print_error(CommandError(f"{name}: {error}"))
            code = EXIT_FAILED
    if options.as_json:
        print_json([{"network": name} | msgspec.to_builtins(report) for name, report in rows])
    elif rows:
        _print_built(rows)
    return code


def _store(folder: Path | None) -> EngineStore:
    """CommandError for what is there and no folder; one that is not there is empty."""
    store = EngineStore(folder)
    if store.folder.exists() and not store.folder.is_dir():
        raise CommandError(f"{store.folder} is no folder: engines lie in one")
    return store


def _device_of(backend: str) -> str:
    """Where no device was named."""
    from engine.device.backends import backend_named
    from engine.device.backends.protocol import CUDA_ONLY
    from engine.device.choice import AUTO

    only = backend != AUTO and backend_named(backend).why_not("cpu", "fp32") == CUDA_ONLY
    return "cuda" if only else "cpu"


def _built(network: Network, options: BuildOptions, device: str) -> Iterator[Report]:
    from engine.device.backends import backend_named
    from engine.device.choice import AUTO
    from engine.device.compile import build_engine, compile_module
    from engine.device.machine import why_no_cuda

    common: dict[str, Any] = {
        "dynamic": network.dynamic,
        "device": device,
        "cache": options.folder,
    }
    backend = None if options.backend == AUTO else backend_named(options.backend)
    only_build = backend is not None and not backend.needs_device and why_no_cuda() is not None
    for precision in _precisions(network, options, device):
        common["precision"] = precision
        if only_build:
            yield build_engine(network.module, network.example, backend=options.backend, **common)
            continue
        compiled = compile_module(
            network.module,
            network.example,
            backend=options.backend,
            tolerance=network.tolerance,
            **common,
        )
        compiled.close()
        yield compiled.report


def _precisions(network: Network, options: BuildOptions, device: str) -> tuple[Precision, ...]:
    """The asked one; else all that the network stands and the backend has on the device."""
    from engine.device.backends import backend_named
    from engine.device.choice import AUTO

    if options.precision:
        return (options.precision,)
    known = network.precisions
    if device == "cpu":
        known = tuple(name for name in known if name != "fp16") or known
    if options.backend == AUTO:
        return known
    backend = backend_named(options.backend)
    able = tuple(name for name in known if backend.why_not(device, name) is None)
    return able or known[:1]  # which then says why not


def _line(name: str, report: Report) -> str:
    how = "from the cache" if report.from_cache else "built"
    return f"{name}: {report.backend} in {report.precision}, {how} in {report.seconds:.1f} s"


def _print_built(rows: Iterable[tuple[str, Report]]) -> None:
    """A line per engine; where `auto` chose, a line per candidate."""
    table = make_table(
        "network", "backend", "precision", ">seconds", ">ms", ">deviation", "outcome"
    )
    notes: dict[str, None] = {}
    for name, report in rows:
        for one in report.candidates or (_candidate(report),):
            table.add_row(
                name,
                one.backend,
                one.precision,
                _number(one.seconds, ".3f"),
                _number(one.ms, ".2f"),
                _number(one.relative_deviation, ".2g"),
                one.why_not or ("from the cache" if report.from_cache else "built"),
            )
        notes |= dict.fromkeys(f"{name}: {note}" for note in report.notes)
    stdout().print(table)
    for note in notes:
        stdout().print(note, markup=False, highlight=False, soft_wrap=True)


def _candidate(report: Report) -> Candidate:
    off = None if report.deviation is None else report.deviation.relative
    return Candidate(report.backend, report.precision, None, off, report.seconds)


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.path.stem,
        "header": msgspec.to_builtins(entry.header, str_keys=True),
        "bytes": entry.size_bytes,
        "used_ago_s": entry.used_ago_s,
        "problem": entry.problem,
    }


def _cells(store: EngineStore, entry: Entry) -> tuple[str, ...]:
    size = f"{entry.size_bytes / 2**20:.1f}"
    if entry.header is None:
        return "-", entry.problem, "-", "-", "-", size
    key = entry.header.key
    return (
        entry.header.label,
        _choice(store, entry) if key.backend == "auto" else key.backend,
        key.precision,
        f"{key.machine.name} x{key.threads}" if key.threads else key.machine.name,
        " ".join(key.inputs),
        size,
    )


def _choice(store: EngineStore, entry: Entry) -> str:
    try:
        chosen = store.choice(entry)
    except (DamagedError, OSError):
        return "auto: damaged"
    return f"auto: {chosen.backend} {chosen.precision}"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def _number(value: float | None, spelled: str) -> str:
    return "-" if value is None else format(value, spelled)
