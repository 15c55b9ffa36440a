"""How the restarts of a fit climbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, axes_or_new, legend_below
from jaxem.restarts import reached_best, returned_restart
from jaxem.result import Fit, Status
from jaxem.run import explain_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes


CROWD = 30  # restarts from which lines are drawn fainter


def plot_history(fit: Fit, ax: Axes | None = None) -> Axes:
    """How far below the maximum each restart was, against steps, on a log scale.

    The maximum is the value returned plus the estimate of what it had left to gain; the lower edge is what rounding lets one
    see. Restarts that failed are dotted, and where they rose above the maximum (a likelihood without bound) they leave the
    picture.
    """
    ax = axes_or_new(ax)
    known = np.isfinite(float(fit.gap))
    best = float(fit.objective) + (float(fit.gap) if known else 0.0)
    floor = max(32 * float(np.finfo(np.asarray(fit.objective).dtype).eps) * abs(best), 1e-12)
    reached = reached_best(fit)
    chosen = returned_restart(fit)
    seen: set[str] = set()
    faint = max(0.15, min(1.0, CROWD / len(reached)))  # many restarts are to leave one another visible
    ends = []
    for number, (values, stride) in enumerate(zip(fit.restart_histories, fit.restart_strides, strict=True)):
        steps, objective = explain_history(np.asarray(values), int(stride))
        ends.append(int(steps.max(initial=0)))
        gap = best - np.asarray(objective, np.float64)
        gap = np.where(gap < (-floor if known else floor), np.nan, np.maximum(gap, floor))
        label, style = _restart_style(Status(int(fit.restart_statuses[number])), bool(reached[number]), number == chosen)
        style["alpha"] = style.get("alpha", 1.0) * (1.0 if number == chosen else faint)
        ax.plot(steps, gap, label=None if label in seen else label, marker="." if np.isfinite(gap).sum() < 3 else None, **style)
        seen.add(label)
    ax.set_yscale("log")
    ax.set_ylim(floor / 2, None)
    what = "log-likelihood" if float(fit.log_likelihood) == float(fit.objective) else "log posterior"
    title = f"Restarts: {int(reached.sum())} of {len(reached)} reached the best"
    ax.set(xlabel="step", ylabel=f"{what} below the maximum", title=title)
    usual, longest = max(np.array(ends)[reached], default=0), max(ends)
    if longest > 3 * usual > 0:  # stragglers: linear as far as the good ones went, logarithmic beyond
        ax.set_xscale("symlog", linthresh=usual, linscale=2)
        ax.set_xticks([0, usual // 2, usual, longest], labels=[str(tick) for tick in (0, usual // 2, usual, longest)], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlim(-usual / 20, longest)
    else:
        ax.locator_params(axis="x", integer=True)
    return legend_below(ax)


def _restart_style(status: Status, reached: bool, chosen: bool) -> tuple[str, dict[str, Any]]:
    if chosen:
        return "the one returned", {"color": COLOURS[1], "lw": 2, "zorder": 3}
    if status not in (Status.CONVERGED, Status.MAX_STEPS):
        return "failed", {"color": "#000000", "lw": 1, "ls": ":"}
    if reached:
        return "reached the best", {"color": COLOURS[0], "lw": 0.8, "alpha": 0.6}
    return "other", {"color": GREY, "lw": 0.8, "ls": "--"}
