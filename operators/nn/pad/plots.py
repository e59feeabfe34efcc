"""ROC and score histograms as PNG files. matplotlib is needed here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Floats, Presentations, auc, sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCH = (6.0, 4.5)
DOTS_PER_INCH = 120
BINS = 40
LINES = ("-", ":", "--", "-.")
LOWEST_RATE = 1e-3  # left edge of the logarithmic axis


def plot_roc(data: Mapping[str, Presentations], path: Path) -> None:
    """1 - BPCER over pooled APCER, one curve per name, APCER logarithmic from 0.1 %."""
    if not data:
        raise EvaluationError("no curve to plot")
    figure, axes = _axes()
    for name, presentations in data.items():
        counts = sweep(presentations)
        apcer, accepted = counts.apcer_pooled, 1 - counts.bpcer
        shown = np.maximum(apcer, LOWEST_RATE)
        axes.step(shown, accepted, where="pre", label=f"{name}, AUC {auc(counts):.3f}")
    chance = np.geomspace(LOWEST_RATE, 1.0, 100)
    axes.plot(chance, chance, color="grey", linestyle=":", label="chance")
    axes.set(xscale="log", xlim=(LOWEST_RATE, 1), ylim=(0, 1.02))
    axes.set_xlabel("APCER, all attacks (logarithmic; 0 is drawn at 0.1 %)")
    axes.set_ylabel("1 - BPCER")
    axes.legend(loc="lower right", fontsize="small")
    _save(figure, path)


def plot_histograms(data: Presentations, thresholds: Mapping[str, float], path: Path) -> None:
    """Density of the scores, bona fide and each PAI species, with named thresholds as lines."""
    rows = data.responded
    if not rows.any():
        raise EvaluationError("no presentation gave a response: nothing to plot")
    figure, axes = _axes()
    edges = _edges(data.score[rows])
    for name in np.unique(data.species[rows]):
        scores = data.score[rows & (data.species == name)]
        label = f"{name or 'bona fide'} (n={len(scores)})"
        if name:
            axes.hist(scores, edges, density=True, histtype="step", label=label)
        else:
            axes.hist(scores, edges, density=True, alpha=0.5, label=label)
    for line, (name, value) in zip(cycle(LINES), thresholds.items(), strict=False):
        axes.axvline(value, color="black", linestyle=line, label=f"{name}: {value:.4g}")
    axes.set_xlabel("score (higher = more bona fide)")
    axes.set_ylabel("density")
    axes.legend(fontsize="small")
    _save(figure, path)


def _edges(scores: Floats) -> list[float]:
    low, high = float(scores.min()), float(scores.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return [float(edge) for edge in np.linspace(low, high, BINS + 1)]


def _axes() -> tuple[Figure, Axes]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EvaluationError("plots need matplotlib, which is not installed") from error
    figure = Figure(figsize=SIZE_INCH, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """Without date and version, so that equal data gives equal files."""
    figure.savefig(path, format="png", metadata={"Software": None})
