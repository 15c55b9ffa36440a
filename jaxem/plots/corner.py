"""States over all pairs of a few columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import GREY, MARKERS, colours, new_figure, sample, short
from jaxem.leaves import Components, components_of
from jaxem.plots.components import FEW, LEVELS, ellipse
from jaxem.plots.densities import draw_curve, shares_of
from jaxem.plots.evaluate import column_densities, marginals
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 5  # columns that are chosen
SIDE = 2.0  # inches of a panel
LEAST = 4.6  # inches of the figure


def figure_corner(
    model: Any,
    params: Any,
    data: Any,
    *,
    columns: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    weights: Any = None,
) -> Figure:
    """Components over each pair of columns: ellipses of their means and covariances below the diagonal, densities on it.

    An ellipse holds 50 % or, dashed, 95 % of a Gaussian component; of more than eight components only the inner ones are
    drawn. At most 5000 rows are drawn.

    Args:
        model, params: as fitted.
        data: raw data.
        columns: names or places of the columns, in the order of the panels. Default: all up to five, else the five that tell
            the components best apart, by the share of variance that is between them; with one component, those that correlate
            most with others.
        names: d names of the columns.
        weights: (n,) row weights, for the histograms.

    Raises:
        TypeError: a family whose rows have no mean and covariance, or with covariates. ValueError: an unknown column.
    """
    components, view = components_of(model, params), view_of(data, names, model=model)
    chosen = _telling(components) if columns is None else [_place(column, view) for column in columns]
    if not chosen:
        raise ValueError("columns: found none; give names or places of at least one.")
    count = len(chosen)
    size = max(SIDE * count + 0.6, LEAST)
    figure = new_figure((size, size))
    places = figure.subplots(count, count, squeeze=False)
    labels, shares = short(view.columns), shares_of(model, params, data)
    curves: dict[int, Any] = {}
    for part in marginals(model, params, view):
        own = [j for j in dict.fromkeys(chosen) if j in part.columns]
        curves |= dict(zip(own, column_densities(part, view, own) if own else [], strict=True))
    for (down, across), ax in np.ndenumerate(places):
        if across > down:
            ax.set_axis_off()
            continue
        if across == down:
            draw_curve(ax, view, chosen[down], curves[chosen[down]], shares, weights)
            ax.set(title="", xlabel="", ylabel="density" if down == 0 else "")
            ax.set_yticks([])
        else:
            _draw_pair(ax, components, view.y, chosen[across], chosen[down])
        ax.set_xlabel(labels[chosen[across]] if down == count - 1 else "")
        if across != down:
            ax.set_ylabel(labels[chosen[down]] if across == 0 else "")
        ax.tick_params(labelsize="small", labelbottom=down == count - 1, labelleft=across == 0 and down > 0)
        for axis in ("x", "y") if across != down else ("x",):
            ax.locator_params(axis=axis, nbins=3)
    for across in range(count):  # all panels of a column, and of a line but the densities, have the same limits
        low, high = _limits(components, view.y[:, chosen[across]], chosen[across])
        for down in range(across, count):
            places[down, across].set_xlim(low, high)
            if down > across:
                continue
        for left in range(across):
            places[across, left].set_ylim(low, high)
    if len(components.weights) > 1:
        _legend(figure, places, components)
    return figure


def _telling(components: Components) -> list[int]:
    """Columns that are drawn where none are named."""
    mean, spread, shares = components.mean, components.covariance, components.weights / components.weights.sum()
    d = mean.shape[1]
    if d <= MOST:
        return list(range(d))
    within = np.einsum("k,kjj->j", shares, spread)
    if len(shares) == 1:
        scale = np.sqrt(np.where(within > 0, within, 1))
        score = np.square(spread[0] / np.outer(scale, scale)).sum(axis=0)
    else:
        between = shares @ np.square(mean - shares @ mean)
        score = between / np.where(between + within > 0, between + within, 1)
    return sorted(int(j) for j in np.argsort(-score, kind="stable")[:MOST])


def _place(column: Any, view: View) -> int:
    if isinstance(column, str):
        if column not in view.columns:
            raise ValueError(f"columns: there is none named {column!r}; there are {', '.join(view.columns)}.")
        return view.columns.index(column)
    if not 0 <= int(column) < view.d:
        raise ValueError(f"columns: found {column} of {view.d} columns; they are counted from 0.")
    return int(column)


def _draw_pair(ax: Axes, components: Components, y: np.ndarray, across: int, down: int) -> None:
    pair = y[:, [across, down]][sample(len(y))]
    few = len(pair) <= FEW
    ax.scatter(pair[:, 0], pair[:, 1], s=10 if few else 4, color=GREY, alpha=0.7 if few else 0.3, linewidths=0)
    levels = LEVELS if len(components.weights) <= 8 else LEVELS[:1]
    for k, colour in enumerate(colours(len(components.weights))):
        covariance = components.covariance[k][np.ix_([across, down], [across, down])]
        for level in levels:
            inner = level == LEVELS[0]
            outline = ellipse(components.mean[k, [across, down]], covariance, level)
            ax.plot(*outline, color=colour, lw=1.4 if inner else 0.9, ls="-" if inner else "--")
        mark = MARKERS[k % len(MARKERS)]
        ax.plot(*components.mean[k, [across, down]], mark, color=colour, ms=5, mec="white", mew=0.6, zorder=4)


def _limits(components: Components, x: np.ndarray, column: int) -> tuple[float, float]:
    """Room for the rows and for the ellipses of one column."""
    level = LEVELS[-1] if len(components.weights) <= 8 else LEVELS[0]
    reach = np.sqrt(-2 * np.log1p(-level) * components.covariance[:, column, column])
    ends = np.concatenate([components.mean[:, column] - reach, components.mean[:, column] + reach, x])
    ends = ends[np.isfinite(ends)]
    room = 0.05 * (float(np.ptp(ends)) or 1.0)
    return float(ends.min()) - room, float(ends.max()) + room


def _legend(figure: Figure, places: np.ndarray, components: Components) -> None:
    """Marks and colours of the components, with their shares, in the empty corner; under the panel where there is none."""
    from matplotlib.lines import Line2D

    shares = components.weights / components.weights.sum()
    handles = [
        Line2D([], [], color=colour, marker=MARKERS[k % len(MARKERS)], ms=5, mec="white", mew=0.6, label=f"{k}  ({shares[k]:.0%})")
        for k, colour in enumerate(colours(len(shares)))
    ]
    style: dict[str, Any] = {"frameon": False, "fontsize": "small", "title": "component (share)"}
    if len(places) == 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), **style)
    else:
        legend = places[0, -1].legend(handles=handles, loc="upper right", ncols=-(-len(handles) // 10), **style)
        legend.set_in_layout(False)  # it stands where there is nothing else
