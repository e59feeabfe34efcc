"""A whole evaluation of a system with random weights: every table, picture and refusal."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.quality.features import ClipFeatures
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.recipes import ar_diffusion_eval
from operators.recipes.ar_diffusion_eval import EvalSettings, evaluate_system, evaluate_videos
from operators.recipes.footage import Footage
from operators.recipes.package_clips import CLIPS
from tests.recipes.small_systems import small_system

KINDS = ("bounce", "pan")
TINY = EvalSettings(
    frames=2, windows=2, most_frames=24, clips=6, real=6, lags=(0, 2, 4), long_clips=6, long_real=6,
    long_lags=(0, 2, 4), long_frames=12, throws=1, past=2, ahead=6, overlap=2, dims=2, draws=10,
    latest_start_s=0.2,
)  # fmt: skip


def features() -> ClipFeatures:
    torch.manual_seed(3)
    return ClipFeatures(EfficientNetLite0().fold(), "cd" * 32, size_px=32)


def evaluated(folder: Path, settings: EvalSettings = TINY) -> dict:
    return evaluate_system(small_system(), KINDS, features(), settings, Job(None, folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an evaluation has written all it writes."""
    place = tmp_path_factory.mktemp("evaluated")
    assert evaluated(place)["complete"]
    return place


def stored(folder: Path) -> dict:
    return msgspec.json.decode((folder / "report.json").read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(300)  # it runs all that `folder` needs, on whatever else the machine does
def test_a_report_has_every_table_and_picture(folder: Path) -> None:
    report = stored(folder)
    assert set(report["reconstruction"]) == {"validation", "test"}
    assert set(report["reconstruction"]["test"]) == set(KINDS)
    for length in ("8", "12"):
        rows = report["distances"][length]["rows"]
        assert [name for name in rows if name.startswith("s = ")] == ["s = 0", "s = 2", "s = 4"]
        assert len(rows) == 7
        assert min(row["distance"] for row in rows.values()) > 0
        assert rows["s = 4"]["calls_per_frame"] == 4
        assert rows["s = 2"]["calls_first"] == 4
        assert rows["s = 2"]["frame_ms"] > 0
    going_on = report["continuation"]["test"]
    assert going_on["clips"] == 1
    assert {"generated", "truth, auto-encoded"} < set(going_on["position_error_px"])
    assert set(report["bounces"]) == {"generated", "rendered", "rendered, auto-encoded"}
    assert list(report["real"]["reconstruction"]) == [clip.name for clip in CLIPS]
    assert report["real"]["windows"] == 2
    assert list(report["real"]["together"]["generated"]) == ["1", "2", "4"]
    assert len(report["pictures"]) == 7
    for name in report["pictures"]:
        assert (folder / name).stat().st_size > 500
    assert cv2.imread(str(folder / "bounce.png")) is not None
    assert report["text"] == (folder / "report.md").read_text()
    assert "beat" in report["text"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_settings_give_the_same_figures(folder: Path, tmp_path: Path) -> None:
    """Times aside, and whatever other lags are measured."""
    evaluated(tmp_path, msgspec.structs.replace(TINY, lags=(2,), long_lags=(2,)))
    one, other = stored(folder), stored(tmp_path)
    for name in (
        "reconstruction",
        "continuation",
        "real",
        "bounces",
        "features",
        "system",
        "pictures",
    ):
        assert one[name] == other[name], name
    for length, table in other["distances"].items():
        for name, row in table["rows"].items():
            same = {key: value for key, value in row.items() if not key.endswith("_ms")}
            assert same == {key: one["distances"][length]["rows"][name][key] for key in same}


@pytest.mark.slow
def test_a_stop_leaves_what_there_is(tmp_path: Path) -> None:
    job = Job(None, tmp_path)

    def tell(what: str, done: int, of: int) -> None:
        if what == "8 frames, s = 2":
            job.stop.set()

    job.tell = tell
    report = evaluate_system(small_system(), KINDS, features(), TINY, job)
    assert not report["complete"]
    assert "reconstruction" in report
    assert "distances" not in report
    assert "Stopped early" in (tmp_path / "report.md").read_text()


def test_without_the_packages_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ar_diffusion_eval, "installed", lambda: ((), ("film: install it",)))
    maker = ar_diffusion_eval.Maker(small_system(), 1.0, 2)
    work = ar_diffusion_eval.Evaluation(maker, KINDS, features(), TINY, Job(None, tmp_path))
    assert ar_diffusion_eval._package_clips(work)
    assert work.report == {"real": {"missing": ["film: install it"]}}
    assert not list(tmp_path.iterdir())


def test_a_users_videos_get_a_report(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(110, 140, (13, 32, 32, 3), np.uint8)
    names = ("street/1.mp4", "yard/1.mp4")
    held_out = Footage(frames, np.array([9, 4]), np.array([0, 1]), ("street", "yard"), "", names)
    told = {"vae_psnr_db": 12.5}
    report = evaluate_videos(small_system(), held_out, told, TINY, Job(tmp_path, tmp_path))
    assert report["complete"]
    assert stored(tmp_path)["real"] == report["real"]
    assert list(report["real"]["reconstruction"]) == list(names)
    assert list(report["real"]["continuation"]) == ["street/1.mp4"]
    assert report["system"]["classes"] == ("street", "yard")
    assert report["pictures"] == ["real.png"]
    assert cv2.imread(str(tmp_path / "real.png")) is not None
    text = (tmp_path / "report.md").read_text()
    assert "videos: street, yard" in text
    assert "| vae_psnr_db | 12.5000 |" in text
    stopped = Job(tmp_path, tmp_path)
    stopped.stop.set()
    assert not evaluate_videos(small_system(), held_out, told, TINY, stopped)["complete"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lags": (0, 9)}, "a lag of 9 cannot stream with 4 steps"),
        ({"clips": 5}, "fewer than 6 clips"),
        ({"past": 4}, "past \\+ ahead: 8 frames at most"),
        ({"dims": 0}, "a size is too small"),
        ({"long_frames": 8}, "more than the window"),
    ],
)
def test_settings_that_do_not_go_with_the_system(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        evaluated(tmp_path, msgspec.structs.replace(TINY, **changes))
    assert not list(tmp_path.iterdir())


def test_classes_and_kinds_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="2 classes, 1 kinds"):
        evaluate_system(small_system(), ("pan",), features(), TINY, Job(None, tmp_path))


def test_the_default_lags_are_those_that_can_be(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(TINY, lags=(), long_lags=())
    maker = ar_diffusion_eval.Maker(small_system(), 1.0, 2)
    job = Job(None, tmp_path)
    work = ar_diffusion_eval.Evaluation(maker, KINDS, features(), settings, job)
    assert ar_diffusion_eval.choose_lags(work) == ((0, 1, 2, 4), (0, 2, 4))
    assert [work.label(n) for n in range(4)] == [0, 1, 0, 1]


def test_sets_of_real_clips_differ_and_come_again(tmp_path: Path) -> None:
    maker = ar_diffusion_eval.Maker(small_system(), 1.0, 2)
    work = ar_diffusion_eval.Evaluation(maker, KINDS, features(), TINY, Job(None, tmp_path))
    one, again, other = (work.real(KINDS, "test", (2, 3), which) for which in (1, 1, 2))
    assert one is not None
    assert one.shape == (2, 3, 32, 32, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
