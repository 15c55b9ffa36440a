"""States over the data in two columns: ellipses of their means and covariances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import GREY, axes_or_new, colours, number_places, sample, short
from jaxem.leaves import components_of
from jaxem.plots.densities import plot_densities
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.5, 0.95)  # probability inside the ellipses of a Gaussian component
FEW = 300  # rows up to which each is drawn large


def plot_components(
    model: Any,
    params: Any,
    y: Any,
    ax: Axes | None = None,
    *,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    weights: Any = None,
) -> Axes:
    """Components over the data in two columns: ellipses of their means and covariances, with their numbers.

    An ellipse holds 50 % or 95 % of a Gaussian component. More than eight components show only the inner ones. One column
    is drawn by `plot_densities`.

    Raises:
        TypeError: a family whose rows have no mean and covariance.
    """
    components = components_of(model, params)
    view = view_of(y, names, model=model)
    if view.d == 1:
        return plot_densities(model, params, view, ax, weights=weights)
    ax, array, names = axes_or_new(ax), view.y, short(view.columns)
    pair = array[:, columns][sample(len(array))]
    few = len(pair) <= FEW
    ax.scatter(pair[:, 0], pair[:, 1], s=12 if few else 6, color=GREY, alpha=0.7 if few else 0.35, linewidths=0)
    levels = LEVELS if len(components.weights) <= 8 else LEVELS[:1]
    for k, colour in enumerate(colours(len(components.weights))):
        covariance = components.covariance[k][np.ix_(columns, columns)]
        for level in levels:
            inner = level == LEVELS[0]
            outline = ellipse(components.mean[k, columns], covariance, level)
            ax.plot(*outline, color=colour, lw=2.0 if inner else 1.2, ls="-" if inner else "--")
    ax.margins(0.06)
    ax.locator_params(axis="x", nbins=5)
    a, b = (names[j] for j in columns)
    title = f"Components: {' and '.join(f'{100 * v:.0f} %' for v in levels)} ellipses"
    title = "Components: ellipses of the scale matrix" if components.scale else title
    ax.set(xlabel=a, ylabel=b, title=title)
    number_places(ax, components.mean[:, columns])
    return ax


def ellipse(mean: np.ndarray, covariance: np.ndarray, level: float) -> np.ndarray:
    """(2, 121) outline of the ellipse that holds probability `level` of N(mean, covariance), both of two columns.

    Points are mean + r L (cos, sin), with L the symmetric root of the covariance and r^2 = -2 log(1 - level).
    """
    values, vectors = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, 121)
    radius = np.sqrt(-2 * np.log1p(-level)) * np.sqrt(np.maximum(values, 0))
    return mean[:, None] + vectors @ (radius[:, None] * np.stack([np.cos(angle), np.sin(angle)]))
