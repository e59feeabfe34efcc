"""Which source plays a URI."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import OperatorError
from engine.catalog import load_operator
from operators.uris import source_for
from tests.operators.media import write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "front door.mp4", frames=7)


def test_a_file(clip: Path) -> None:
    source = source_for(str(clip))
    assert source.op == "operators.sources.file:FileSource"
    assert (source.mode, source.stream_id) == ("file", "front-door")
    assert source.config == {"uri": str(clip)}
    assert source.count_frames() == 7


def test_a_file_played_as_if_it_were_a_camera(clip: Path) -> None:
    source = source_for(str(clip), "live")
    assert (source.mode, source.config["realtime"]) == ("live", True)


def test_a_file_url(clip: Path) -> None:
    assert source_for(f"file://{clip}").config == {"uri": str(clip)}


def test_a_folder(tmp_path: Path) -> None:
    source = source_for(str(tmp_path))
    assert source.op == "operators.sources.image_folder:ImageFolder"
    assert source.mode == "file"
    assert source.count_frames() is None


def test_a_device() -> None:
    source = source_for("/dev/video2")
    assert source.op == "operators.sources.camera:CameraSource"
    assert (source.mode, source.stream_id) == ("live", "video2")
    assert source.count_frames() is None


def test_an_rtsp_camera_keeps_its_password_to_itself() -> None:
    source = source_for("rtsp://ann:geheim@10.0.0.5:554/door/main?token=geheim")
    assert source.op == "operators.sources.rtsp:RtspSource"
    assert (source.mode, source.stream_id) == ("live", "10-0-0-5-door-main")
    assert source.config["url"].startswith("rtsp://ann:geheim@")
    assert source.shown == "rtsp://10.0.0.5:554/door/main"


def test_a_file_on_the_web() -> None:
    source = source_for("https://example.com/films/a.mp4?key=1")
    assert (source.mode, source.stream_id) == ("file", "a")
    assert source.config == {"uri": "https://example.com/films/a.mp4?key=1"}


@pytest.mark.parametrize(
    "uri", ["rtsp://h/x", "/dev/video0", "https://example.com/a.mp4", "."], ids=str
)
@pytest.mark.parametrize("mode", [None, "live"])
def test_the_operator_takes_the_config(uri: str, mode: str | None) -> None:
    import msgspec

    source = source_for(uri, mode)  # type: ignore[arg-type]
    msgspec.convert(source.config, load_operator(source.op).config_type)


def test_a_missing_file() -> None:
    with pytest.raises(OperatorError, match=r"NOT_FOUND: gone\.mp4: there is no such file"):
        source_for("gone.mp4")


@pytest.mark.parametrize("uri", ["", "  "])
def test_an_empty_input(uri: str) -> None:
    with pytest.raises(OperatorError, match="an empty input"):
        source_for(uri)


def test_schemes_may_be_in_capitals() -> None:
    source = source_for("RTSP://camera/door")
    assert (source.op, source.config) == (
        "operators.sources.rtsp:RtspSource",
        {"url": "rtsp://camera/door"},
    )


def test_an_address_that_cannot_be_read() -> None:
    with pytest.raises(OperatorError, match="BAD_ADDRESS"):
        source_for("rtsp://[bad")


def test_an_unknown_scheme() -> None:
    with pytest.raises(OperatorError, match="UNKNOWN_SCHEME: gopher:// is no input"):
        source_for("gopher://h/x")


def test_an_unreadable_file_is_left_to_the_source(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no film")
    assert source_for(str(path)).count_frames() is None
