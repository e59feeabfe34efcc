"""The sentence that says whether asynchronous beats both ends; tables that hold their figures."""

from __future__ import annotations

import pytest

from operators.recipes.ar_diffusion_report import ends_beaten, markdown


def table(**rows: tuple[float, float, float]) -> dict:
    """Rows by lag: distance, low, high."""
    named = {
        f"s = {lag[1:]}": {"distance": one[0], "low": one[1], "high": one[2]}
        for lag, one in rows.items()
    }
    return {"rows": named | {"real": {"distance": 0.0, "low": 0.0, "high": 0.1}}}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"s0": (2, 1.9, 2.1), "s2": (1, 0.9, 1.1), "s10": (3, 2.5, 3.5)}, "intervals apart"),
        ({"s0": (2, 1.0, 3.0), "s2": (1, 0.5, 1.5), "s10": (3, 2, 4)}, "intervals overlap"),
        ({"s0": (1, 1, 1), "s2": (1, 1, 1), "s10": (3, 2, 4)}, "does not beat both ends: s = 0 is"),
        ({"s0": (0, 0, 0), "s2": (1, 1, 1), "s10": (0, 0, 0)}, "s = 0 and s = 10"),
        ({"s0": (0, 0, 0), "s2": (1, 1, 1)}, "not all measured"),
        ({"s0": (0, 0, 0), "s10": (1, 1, 1)}, "not all measured"),
        ({"s1": (0, 0, 0), "s2": (1, 1, 1), "s5": (1, 1, 1)}, "not all measured"),
    ],
)
def test_it_is_said_plainly(rows: dict[str, tuple[float, float, float]], told: str) -> None:
    assert told in ends_beaten(table(**rows), 2, 10)


def test_a_stopped_report_says_so() -> None:
    report = {
        "system": {"name": "compact", "sha": "c0ffee" * 8, "steps": 10, "lag": 2, "kinds": ["pan"]},
        "complete": False,
        "seconds": 3.2,
        "reconstruction": {"test": {"pan": {"psnr_db": 24.51, "ssim": 0.81234, "frames": 8}}},
    }
    text = markdown(report)
    assert "Stopped early" in text
    assert "| test | pan | 24.51 | 0.8123 | 8 |" in text
    assert "Stopped" not in markdown(report | {"complete": True})


def real(*names: str) -> dict:
    """Found in so many videos: 20 dB from one generator, 12 dB from the other."""
    ways = {
        "generated": {"1": {"psnr_db": 20.0, "ssim": 0.5}, "2": {"psnr_db": 19.0, "ssim": 0.4}},
        "copy": {"1": {"psnr_db": 12.0, "ssim": 0.25}, "2": {"psnr_db": 11.0, "ssim": 0.2}},
    }
    return {
        "origin": "films of mine",
        "reconstruction": {
            name: {"psnr_db": 20.0 + n, "ssim": 0.5, "frames": 3} for n, name in enumerate(names)
        },
        "windows": 2 * len(names),
        "together": ways,
        "continuation": {name: {"windows": 2, **ways} for name in names},
    }


def with_real(found: dict) -> str:
    return markdown(
        {
            "system": {
                "name": "compact",
                "sha": "c0" * 32,
                "steps": 10,
                "lag": 2,
                "kinds": ["pan"],
            },
            "complete": True,
            "seconds": 3.2,
            "real": found,
            "settings": {"past": 4, "ahead": 12},
        }
    )


def test_real_video_is_told_by_clip_while_there_are_few() -> None:
    text = with_real(real("a", "b"))
    assert "Clips: films of mine." in text
    assert "| b | 21.00 | 0.5000 | 3 |" in text
    assert "| all, 4 times | generated | 20.00 (0.500) | 19.00 (0.400) |" in text
    assert "| b, 2 times | generated | 20.00 (0.500) | 19.00 (0.400) |" in text
    assert "|  | copy | 12.00 (0.250) | 11.00 (0.200) |" in text
    assert "ahead of 4 known ones" in text
    many = with_real(real(*"abcdefghi"))
    assert "| mean of 9, each in report.json | 24.00 | 0.5000 | 27 |" in many
    assert "| all, 18 times |" in many
    assert "| b, 2 times" not in many


def test_what_of_real_video_is_not_measured_is_said() -> None:
    text = with_real({"missing": ["film: install it"]})
    assert "Not there, not measured: film: install it." in text
    short = {
        name: value for name, value in real("a").items() if name in ("origin", "reconstruction")
    }
    text = with_real({**short, "missing": [], "windows": 0})
    assert "Not there" not in text
    assert "No clip has 16 frames without a cut" in text
