"""Algorithms side by side: how far below the best each was, for what it had cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, MARKERS, axes_or_new, legend_below, new_figure
from jaxem.compare import Comparison, Trial
from jaxem.result import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("-", "--", "-.", ":")
FLOOR = 1e-9  # gaps below stand at the lower edge


def plot_comparison(comparison: Comparison, ax: Axes | None = None, cost: str = "passes", legend: bool = True) -> Axes:
    """Gap to the best objective of all against cost, both on log scales, a line for each algorithm.

    A mark ends each line: filled where the run converged, open where it ran out of steps or passes, a cross where it failed.
    The dotted line is what counts as having come to the best. A run that was refused, or that has no finite point, is named in
    the legend all the same.

    Args:
        comparison: what `jaxem.compare` returned.
        ax: where to draw; default a figure of its own.
        cost: "passes" or "seconds".
        legend: whether to name the lines under the axes.

    Raises:
        ValueError: another cost.
    """
    if cost not in ("passes", "seconds"):
        raise ValueError(f"cost: found {cost!r}; give 'passes' or 'seconds'.")
    ax = axes_or_new(ax)
    for number, trial in enumerate(comparison.trials):
        path = comparison.path(trial.name)
        at = np.asarray(getattr(path, cost), np.float64)
        drawn = np.isfinite(path.gap) & np.isfinite(at)
        at, gap = at[drawn], np.maximum(path.gap[drawn], FLOOR)
        colour = COLOURS[number % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "ls": LINES[number // len(COLOURS) % len(LINES)], "lw": 1.4}
        label = _label(trial)
        ax.plot(at, gap, label=label, marker=_mark(trial, number), markevery=[-1] if at.size else None, markersize=7,
                markerfacecolor=colour if trial.status == "CONVERGED" else "none", **style)  # fmt: skip
    ax.axhline(comparison.within, color=GREY, ls=":", lw=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 2, None)
    what = "passes over the data" if cost == "passes" else "seconds, compilation apart"
    ax.set(xlabel=what, ylabel="log-likelihood below the best")
    return legend_below(ax) if legend else ax


def _label(trial: Trial) -> str:
    name = trial.name.replace("$", r"\$")
    ended = {"REFUSED": "refused", "MAX_STEPS": "not ended"}
    return name if trial.status == "CONVERGED" else f"{name} ({ended.get(trial.status, trial.status.lower())})"


def _mark(trial: Trial, number: int) -> str:
    failed = trial.status not in (Status.CONVERGED.name, Status.MAX_STEPS.name)
    return "x" if failed else MARKERS[number % len(MARKERS)].replace("X", "h").replace("P", "p")


def figure_comparison(comparison: Comparison) -> Figure:
    """Gap against passes and against seconds, side by side."""
    figure = new_figure((10.0, 4.8))
    left, right = figure.subplots(1, 2, sharey=True)
    plot_comparison(comparison, left, "passes", legend=False)
    plot_comparison(comparison, right, "seconds", legend=False)
    right.set_ylabel("")
    right.tick_params(labelleft=False)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize="small")
    return figure
