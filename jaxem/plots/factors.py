"""Factors: loadings, what they explain of each column, and the scores of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, axes_or_new, draw_map, legend_below, name_ticks, sample, short
from jaxem.leaves import Leaf, components_of, leaves_of, states_of
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL_NAMES = 40  # columns that are all named beside their loadings
ANGLES = np.linspace(0, 2 * np.pi, 73)


def loading_leaf(leaves: list[Leaf]) -> Leaf | None:
    """The leaf of columns by factors."""
    return next((leaf for leaf in leaves if leaf.kinds == ("columns", "factors")), None)


def _loadings(model: Any, params: Any, view: Any) -> np.ndarray:
    """(K, d, q), in the rotation that the model shows."""
    leaf = loading_leaf(leaves_of(model, params, view))
    if leaf is None:
        raise TypeError(f"model: {type(model).__name__} has no loadings to draw.")
    return leaf.values


def plot_loadings(
    model: Any, params: Any, data: Any, ax: Axes | None = None, *, component: int = 0, names: Sequence[str] | None = None
) -> Axes:
    """Loadings (d, q) of the columns on the factors in one state, as a map; colours mean the same in every state.

    Raises:
        TypeError: params without loadings.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    values = _loadings(model, params, view)
    several = len(values) > 1
    ax.set(title="Loadings" + (f" of component {component}" if several else ""), xlabel="factor")
    limit = max(float(np.abs(values).max()), 1e-12)
    chosen, columns = values[component if several else 0], short(view.columns)
    draw_map(ax, chosen, limit, "loading", [str(i) for i in range(chosen.shape[1])], columns, digits=2)
    _name_all(ax, columns)
    if 12 < len(columns) <= 30 and chosen.shape[1] <= 6:  # more lines than `draw_map` writes numbers on
        for (i, j), value in np.ndenumerate(chosen):
            ink = "white" if abs(value) > 0.7 * limit else "black"
            ax.text(j, i, f"{round(value, 2) + 0:.2f}", ha="center", va="center", color=ink, fontsize=170 / len(columns))
    return ax


def plot_explained(
    model: Any, params: Any, data: Any, ax: Axes | None = None, *, component: int = 0, names: Sequence[str] | None = None
) -> Axes:
    """The share of each column's variance in one state that its factors explain, as bars; what is left is its uniqueness.

    Raises:
        TypeError: params without loadings.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    _loadings(model, params, view)
    loadings = np.asarray(states_of(model, params)[1].loadings, np.float64)[component]  # independent factors, whatever is shown
    variance = np.diagonal(components_of(model, params).covariance[component])
    share, place = np.square(loadings).sum(axis=1) / variance, np.arange(view.d)
    ax.barh(place, np.ones(view.d), color="#eeeeee", height=0.75)
    ax.barh(place, share, color=COLOURS[0], height=0.75)
    ax.set(xlim=(0, 1), ylim=(view.d - 0.4, -0.6), xlabel="share of the variance", title="Explained by the factors")
    _name_all(ax, short(view.columns))
    return ax


def plot_scores(model: Any, params: Any, data: Any, ax: Axes | None = None, *, factors: tuple[int, int] = (0, 1)) -> Axes:
    """Mean scores of the rows on two factors with the circle of one sd of a complete row; a histogram where there is one factor.

    Rows with missing cells are triangles, those with no observed cell are left out.

    Raises:
        TypeError: a model without scores.
    """
    if not hasattr(model, "scores"):
        raise TypeError(f"model: {type(model).__name__} has no scores of factors to draw.")
    ax, holes = axes_or_new(ax), view_of(data, model=model).missing
    mean, covariance = (np.asarray(leaf, np.float64) for leaf in model.scores(params, data))
    seen = ~holes.all(axis=1)
    ax.set(title="Scores of the factors")
    if mean.shape[1] == 1:
        ax.hist(mean[seen, 0], bins="auto", color=COLOURS[0], edgecolor="white", linewidth=0.5)
        ax.set(xlabel="factor 0", ylabel="rows")
        return ax
    filled, shown = holes.any(axis=1), seen & sample(len(mean))
    a, b = factors
    for marker, chosen, label in (("o", shown & ~filled, "complete rows"), ("^", shown & filled, "rows with missing cells")):
        if chosen.any():
            style: dict[str, Any] = {"s": 12, "color": COLOURS[0], "alpha": 0.6, "linewidths": 0}
            ax.scatter(mean[chosen, a], mean[chosen, b], marker=marker, label=label, **style)
    sharpest = covariance[np.argmin(np.trace(covariance, axis1=1, axis2=2))][np.ix_([a, b], [a, b])]
    ring = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
    corner = mean[seen][:, [a, b]].min(axis=0) + np.sqrt(np.diagonal(sharpest))
    ax.plot(*(corner[:, None] + np.linalg.cholesky(sharpest) @ ring), color=COLOURS[1], lw=1.2, label="1 sd about a row's score")
    ax.axhline(0, color=GREY, lw=0.8, zorder=0)
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    ax.set(xlabel=f"factor {a}", ylabel=f"factor {b}")
    return legend_below(ax)


def _name_all(ax: Axes, columns: Sequence[str]) -> None:
    """A name on every line where its text still fits, else on some."""
    if len(columns) <= ALL_NAMES:
        ax.set_yticks(range(len(columns)), columns, fontsize=min(10.0, 170 / len(columns)))
    else:
        name_ticks(ax.yaxis, columns)
