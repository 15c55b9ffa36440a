"""Responses beside what each state expects of them, for any family of responses with covariates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, MARKERS, axes_or_new, colours, legend_below, number_places, sample, short
from jaxem.inputs import Regression
from jaxem.plots.evaluate import fitted_means
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHAPES = {"exact": "o", "left": "v", "right": "^", "interval": "_"}


def plot_regression(
    model: Any, params: Any, data: Regression, ax: Axes | None = None, *, names: Sequence[str] | None = None
) -> Axes:
    """Responses against the covariate with each state's mean, or with several covariates against the fitted mean.

    Rows are coloured by their most probable state. Censored responses are marked at the end that is known: triangles point
    the way in which the response lies; intervals are lines.

    Raises:
        TypeError: data without covariates.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    if not view.regression:
        raise TypeError(f"data: found {type(data).__name__}; give a Regression.")
    top = np.asarray(model.posterior(params, data)).argmax(axis=1)
    plain = view.x is not None and view.x.shape[1] == 1 and np.ptp(view.x[:, 0]) > 0 and (
        view.offset is None or np.ptp(view.offset) == 0
    )
    if plain:
        _draw_lines(ax, model, params, data, view, top)
    else:
        _draw_fitted(ax, model, params, data, view, top)
    ax.margins(0.06)
    ax.locator_params(axis="x", nbins=5)
    handles, _ = ax.get_legend_handles_labels()
    return legend_below(ax) if handles else ax


def _draw_lines(ax: Axes, model: Any, params: Any, data: Regression, view: View, top: np.ndarray) -> None:
    x = view.x[:, 0]  # type: ignore[index]
    lone = np.unique(x).size <= 2
    grid = np.unique(x) if lone else np.linspace(x.min(), x.max(), 120)
    gate = None if view.gate is None else np.repeat(view.gate.mean(axis=0)[None], len(grid), axis=0)
    offset = None if view.offset is None else np.full(len(grid), view.offset[0])
    along = dataclasses.replace(data, x=grid[:, None], y=np.zeros(len(grid)), offset=offset, gate=gate)
    means = fitted_means(model, params, along, view)
    _draw_rows(ax, x, view, top, means.shape[1])
    _draw_means(ax, grid, means)
    ax.set(xlabel=short(view.covariates)[0], ylabel=short(view.columns)[0])
    ax.set_title("Mean given the covariate" + (" in each component" if means.shape[1] > 1 else ""))


def _draw_means(ax: Axes, grid: np.ndarray, means: np.ndarray) -> None:
    ends = []
    for k, colour in enumerate(colours(means.shape[1])):
        ax.plot(grid, means[:, k], color="white", lw=3, alpha=0.7, zorder=3)
        ax.plot(grid, means[:, k], color=colour, lw=2, zorder=4)
        at = round((0.15 + 0.7 * (k + 0.5) / means.shape[1]) * (len(grid) - 1))
        ends.append((grid[at], means[at, k]))
    if means.shape[1] > 1:
        number_places(ax, np.array(ends))


def _draw_fitted(ax: Axes, model: Any, params: Any, data: Regression, view: View, top: np.ndarray) -> None:
    means = fitted_means(model, params, data, view)
    fitted = means[np.arange(len(means)), top]
    _draw_rows(ax, fitted, view, top, means.shape[1])
    low, high = float(fitted.min()), float(fitted.max())
    ax.plot([low, high], [low, high], color="#333333", lw=1, ls="--", zorder=4)
    several = means.shape[1] > 1
    ax.set(xlabel="fitted mean" + (" of the likeliest component" if several else ""), ylabel=short(view.columns)[0])
    ax.set_title("Observed against fitted")


def _draw_rows(ax: Axes, x: np.ndarray, view: View, top: np.ndarray, states: int) -> None:
    """The first response of each row over x."""
    y, cut = view.y[:, 0].copy(), view.censored[:, 0]
    shown = sample(len(x))
    kinds = np.full(len(x), "exact", dtype="<U8")
    if cut.any():
        lower, upper = view.lower[:, 0], view.upper[:, 0]  # type: ignore[index]
        left, right = cut & np.isneginf(lower), cut & np.isposinf(upper)
        kinds[left], kinds[right], kinds[cut & ~left & ~right] = "left", "right", "interval"
        y[left], y[right] = upper[left], lower[right]
    y = _apart(y, view)
    for k, colour in enumerate(colours(states)):
        for kind, marker in SHAPES.items():
            chosen = shown & (top == k) & (kinds == kind)
            if not chosen.any():
                continue
            if kind == "interval":
                ends = view.lower[chosen, 0], view.upper[chosen, 0]  # type: ignore[index]
                ax.vlines(x[chosen], *ends, color=colour, lw=1, alpha=0.5)
                continue
            own = MARKERS[k % len(MARKERS)] if kind == "exact" else marker
            style: dict[str, Any] = {"s": 14, "marker": own, "alpha": 0.55, "linewidths": 0 if kind == "exact" else 0.8}
            style |= {"color": colour} if kind == "exact" else {"facecolors": "none", "edgecolors": colour}
            ax.scatter(x[chosen], y[chosen], **style)
    if cut.any():
        for kind, marker in SHAPES.items():
            if (kinds == kind).any():
                words = {"exact": "exact", "left": "at most", "right": "at least", "interval": "within"}[kind]
                colour = COLOURS[0] if states == 1 else "#333333"
                style = {"marker": "|" if kind == "interval" else marker, "ls": "none", "color": colour}
                ax.plot([], [], label=f"{words} ({(kinds == kind).sum()})", mfc="none" if kind != "exact" else None, **style)


def _apart(y: np.ndarray, view: View) -> np.ndarray:
    """Yes-or-no responses pulled apart a little, so that rows do not hide each other."""
    known = y[~np.isnan(y)]
    if view.lower is not None or not np.isin(known, (0, 1)).all():
        return y
    return y + np.random.default_rng(0).uniform(-0.04, 0.04, len(y))
