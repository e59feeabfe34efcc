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
