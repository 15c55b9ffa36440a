"""The rows as they came: which cells are there, and how single columns are spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, axes_or_new, legend_below, sample, short
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_missingness(
    y: Any, ax: Axes | None = None, *, columns: tuple[int, int] = (0, 1), names: Sequence[str] | None = None
) -> Axes:
    """The rows of y (n, d) over two columns, and what is missing beside them: a row with one of the two observed is a mark at
    that column's axis.

    One column is drawn as a histogram. At most 5000 rows are drawn. The map of missing cells over all columns is `plot_patterns`.
    """
    view = view_of(y, names)
    ax, array, names = axes_or_new(ax), view.y, short(view.columns)
    if array.shape[1] == 1:
        observed = array[~np.isnan(array)]
        ax.hist(observed, bins=bins_of(observed), color=COLOURS[5], edgecolor="white", linewidth=0.3)
        ax.set(xlabel=names[0], ylabel="rows", title=f"Data: {array.size - observed.size} of {array.size} rows missing")
        return ax
    pair = array[:, columns]
    here = ~np.isnan(pair)
    both, first, second = here.all(axis=1), here[:, 0] & ~here[:, 1], here[:, 1] & ~here[:, 0]
    drawn = sample(len(pair))
    a, b = (names[j] for j in columns)
    x, z = pair.T
    dots = both & drawn
    ax.scatter(x[dots], z[dots], s=9, color=COLOURS[0], alpha=0.6, linewidths=0, label=f"both ({both.sum()})")
    marks: dict[str, Any] = {"linestyle": "none", "markersize": 7, "alpha": 0.8}
    if first.any():
        at = x[first & drawn]
        edge = ax.get_xaxis_transform()
        ax.plot(at, np.full_like(at, 0.02), "|", color=COLOURS[1], transform=edge, label=f"only {a} ({first.sum()})", **marks)
    if second.any():
        at = z[second & drawn]
        edge = ax.get_yaxis_transform()
        ax.plot(np.full_like(at, 0.015), at, "_", color=COLOURS[2], transform=edge, label=f"only {b} ({second.sum()})", **marks)
    ax.margins(0.1)
    ax.locator_params(axis="x", nbins=5)
    neither = int((~here).all(axis=1).sum())
    ax.set(xlabel=a, ylabel=b, title="Data: complete" if both.all() else f"Data: {neither} of {len(pair)} rows show neither")
    return ax if both.all() else legend_below(ax)


def bins_of(x: np.ndarray) -> int:
    """Bars of a histogram: the square root of n, within bounds that an outlier cannot move."""
    return int(np.clip(np.sqrt(x.size), 5, 60))
