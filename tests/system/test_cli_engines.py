"""`frameloom engines`: list, build, clear, and what they say of damage and of use."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.commands import engines
from engine.commands.console import CommandError
from engine.commands.engines import BuildOptions, build_command, clear_command, list_command
from engine.device.engines import EngineStore
from engine.device.networks import Network, network_named, networks
from engine.errors import CompileError
from tests.device.modules import Tiny, images, key
from tests.system.cli import frameloom


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Network:
        return Network(Tiny(), (images(),), ("fp32", "fp16", "bf16"))

    monkeypatch.setattr(engines, "networks", lambda: {"tiny": make})


def options(
    folder: Path, backend: str, device: str | None = "cpu", as_json: bool = True
) -> BuildOptions:
    return BuildOptions(backend, device, 1, None, folder, as_json)


@pytest.mark.slow
def test_build_list_clear(
    tiny_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_command([], options(tmp_path, "onnxruntime")) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["network"], report["backend"], report["precision"]) == (
        "tiny", "onnxruntime", "fp32",
    )  # fmt: skip
    assert build_command([], options(tmp_path, "onnxruntime", as_json=False)) == 0
    assert "cache" in capsys.readouterr().out
    list_command(tmp_path, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)["engines"]
    assert told["key"] == report["key"]
    assert told["header"]["key"]["backend"] == "onnxruntime"
    list_command(tmp_path, as_json=False)
    assert "onnxruntime" in capsys.readouterr().out
    assert clear_command([report["key"][:8]], tmp_path, as_json=False) == 0
    assert capsys.readouterr().out == "removed 1\n"
    assert EngineStore(tmp_path).entries() == []


@pytest.mark.slow
def test_plans_are_built_in_every_precision(
    tiny_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_command([], options(tmp_path, "tensorrt-rtx", None)) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["precision"] for report in reports] == ["fp32", "fp16", "bf16"]
    assert len(EngineStore(tmp_path).entries()) == 3


def test_what_cannot_be_built_is_exit_code_1(
    tiny_network: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_command([], options(tmp_path, "tensorrt")) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "tiny: NO_BACKEND: tensorrt cannot be had for fp32 on cpu" in said.err
    assert "it makes engines for NVIDIA GPUs only: device cuda" in said.err
    assert build_command([], options(tmp_path, "tensorrt", as_json=False)) == 1
    assert capsys.readouterr().out == "", "no head of a table that is empty"


def test_engines_in_use_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = EngineStore(tmp_path).get(key(), "Tiny", lambda: b"payload")
    assert clear_command([], tmp_path, as_json=False) == 1
    assert capsys.readouterr().out == "removed 0; 1 in use or not to be deleted\n"
    held.close()
    assert clear_command([], tmp_path, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 1, "in_use": [], "swept": 0}


def test_clearing_all_sweeps_what_dead_builders_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    EngineStore(tmp_path).get(key(), "Tiny", lambda: b"payload").close()
    for name in ("a.lock", "a.1.tmp"):
        (tmp_path / name).write_bytes(b"")
    (path,) = tmp_path.glob("*.engine")
    assert clear_command([path.stem], tmp_path, as_json=False) == 0
    assert capsys.readouterr().out == "removed 1\n"
    assert clear_command([], tmp_path, as_json=False) == 0
    assert capsys.readouterr().out == "removed 0; swept 2 files that dead builders left\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_of_engines(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("")
    for command in (
        lambda folder: list_command(folder, as_json=False),
        lambda folder: clear_command([], folder, as_json=False),
        lambda folder: build_command([], options(folder, "eager")),
    ):
        with pytest.raises(CommandError, match="passwd is no folder"):
            command(tmp_path / "passwd")


def test_each_engine_is_told_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second is interrupted: what there is by then has been told."""

    def interrupted() -> Network:
        raise KeyboardInterrupt

    first = Network(Tiny(), (images(),))
    monkeypatch.setattr(engines, "networks", lambda: {"tiny": lambda: first, "next": interrupted})
    with pytest.raises(KeyboardInterrupt):
        build_command([], options(tmp_path, "eager"))
    assert "tiny: eager in fp32, built in " in capsys.readouterr().err


def test_choices_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = b'{"backend":"openvino","precision":"bf16","candidates":[]}'
    EngineStore(tmp_path).get(key("auto"), "Tiny", lambda: payload).close()
    EngineStore(tmp_path).get(key("auto", "x"), "Tiny", lambda: b"nonsense").close()
    list_command(tmp_path, as_json=False)
    told = capsys.readouterr().out
    assert "auto: openvino bf16" in told
    assert "auto: damaged" in told


def test_damage_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "abc.engine").write_bytes(b"nonsense")
    list_command(tmp_path, as_json=False)
    assert "is no engine of this version" in capsys.readouterr().out


def test_what_is_no_engine_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.engine").mkdir()
    EngineStore(tmp_path).get(key(), "Tiny", lambda: b"payload").close()
    list_command(tmp_path, as_json=True)
    assert len(json.loads(capsys.readouterr().out)["engines"]) == 1
    assert clear_command([], tmp_path, as_json=False) == 0
    assert (tmp_path / "x.engine").is_dir()


def test_anothers_engine_is_listed_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.engine").write_bytes(b"theirs")
    opened = os.open

    def refuse(path: Any, flags: int, *rest: Any) -> int:
        if str(path).endswith("theirs.engine"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    list_command(tmp_path, as_json=False)
    assert "cannot be read: Permission denied" in capsys.readouterr().out
    assert clear_command([], tmp_path, as_json=False) == 1
    assert capsys.readouterr().out == "removed 0; 1 in use or not to be deleted\n"


def test_names_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there is no engine abc"):
        clear_command(["abc"], tmp_path, as_json=False)
    with pytest.raises(CompileError, match="did you mean 'compact-image-tower'"):
        network_named("compact-image-towr")


@pytest.mark.slow
def test_the_networks_that_come_along_load() -> None:
    network = networks()["compact-image-tower"]()
    assert network.example[0].shape == (4, 3, 192, 192)
    assert "fp16" in network.precisions


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    done = frameloom("engines", "list", "--json", folder=tmp_path, env={"FRAMELOOM_ENGINES": "e"})
    assert done.data == {"folder": "e", "engines": []}
    wrong = frameloom("engines", "build", "nothing", folder=tmp_path)
    assert wrong.code == 2
    assert "there is no network 'nothing'" in wrong.err
