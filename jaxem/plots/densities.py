"""One column at a time: a histogram and what each state says of it, for any family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import axes_or_new, colours, number_places, short
from jaxem.leaves import states_of
from jaxem.plots.data import bins_of
from jaxem.plots.evaluate import Curve, column_densities, marginals
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 60  # most bars of a histogram of counts


def plot_densities(
    model: Any,
    params: Any,
    data: Any,
    ax: Axes | None = None,
    *,
    column: int = 0,
    names: Sequence[str] | None = None,
    weights: Any = None,
) -> Axes:
    """weights_k p(x | k) of one column and their sum over a histogram, whose bars `weights` (n,) weigh.

    The density is the family's own; other columns are taken as missing. A family of whole numbers is drawn by dots. Bars count
    cells known exactly, none that are censored.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    part = next(part for part in marginals(model, params, view) if column in part.columns)
    curve = column_densities(part, view, [column])[0]
    grid, density = draw_curve(ax, view, column, curve, shares_of(model, params, data), weights)
    if density.shape[1] > 1:
        _number(ax, grid, np.where(np.isfinite(density), density, 0).clip(max=ax.get_ylim()[1]))
    return ax


def shares_of(model: Any, params: Any, data: Any) -> np.ndarray:
    """(K,) weights of the states; where their probabilities change from row to row, their average."""
    shares, _ = states_of(model, params)
    return np.asarray(model.posterior(params, data)).mean(axis=0) if shares is None else shares


def draw_curve(
    ax: Axes, view: View, column: int, curve: Curve, shares: np.ndarray, weights: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The picture without the states' numbers: values (m,), and weights_k p(x | k) there (m, K)."""
    grid, whole, density = curve.grid, curve.whole, curve.density * shares
    x = view.y[:, column]
    observed = np.isfinite(x)
    mass = None if weights is None else np.asarray(weights, np.float64)[observed]
    if observed.any():
        _draw_bars(ax, x[observed], mass, whole)
    for k, colour in enumerate(colours(density.shape[1])):
        style: dict[str, Any] = {"marker": "o", "ms": 3.5, "lw": 1} if whole and len(grid) <= BARS else {"lw": 1.5}
        ax.plot(grid, density[:, k], color=colour, **style)
    several = density.shape[1] > 1
    if several:
        ax.plot(grid, density.sum(axis=1), color="#333333", lw=1, ls="--")
    what = "Components and their sum (dashed)" if several else "Data and fitted density" if observed.any() else "Fitted density"
    ax.set(xlabel=short(view.columns)[column], ylabel="probability" if whole else "density", title=what)
    ax.set_ylim(bottom=0)
    finite = np.isfinite(density)
    if not finite.all() or density.max() > 20 * _tallest(ax):  # a spike would flatten all else
        ax.set_ylim(0, 1.5 * _tallest(ax))
    return grid, density


def _draw_bars(ax: Axes, x: np.ndarray, mass: Any, whole: bool) -> None:
    edges: Any = bins_of(x)
    if whole:
        first, last = int(x.min()), int(x.max())
        every = max(1, -(-(last - first + 1) // BARS))
        edges = (np.arange(first, last + every + 1, every) - 0.5).tolist()
    ax.hist(x, bins=edges, weights=mass, density=True, color="#d9d9d9", edgecolor="white", linewidth=0.3)


def _tallest(ax: Axes) -> float:
    return max((patch.get_height() for patch in ax.patches), default=1.0)  # type: ignore[attr-defined]


def _number(ax: Axes, grid: np.ndarray, density: np.ndarray) -> None:
    """Each state's number at its highest point."""
    peak = density.argmax(axis=0)
    number_places(ax, np.stack([grid[peak], density[peak, np.arange(density.shape[1])]], axis=1))
