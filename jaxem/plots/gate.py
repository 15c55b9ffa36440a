"""How the shares of the components move with the covariates of a gate."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import axes_or_new, colours, number_places, short
from jaxem.inputs import Interval, Regression
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 100


def plot_gate(model: Any, params: Any, data: Regression, ax: Axes | None = None, *, covariate: int | None = None) -> Axes:
    """Shares of the components against one covariate of the gate, the others at their means.

    A share is the posterior of a row of which nothing is observed. Default is the covariate that moves the shares most.

    Raises:
        TypeError: data without a gate.
    """
    ax, view = axes_or_new(ax), view_of(data, model=model)
    if view.gate is None:
        raise TypeError("data: have no gate; give Regression(y, x, gate=...).")
    curves = {}
    for j in range(view.gate.shape[1]) if covariate is None else [covariate]:
        grid = np.linspace(view.gate[:, j].min(), view.gate[:, j].max(), POINTS)
        gate = np.repeat(view.gate.mean(axis=0)[None], POINTS, axis=0)
        gate[:, j] = grid
        curves[j] = (grid, np.asarray(model.posterior(params, _unseen(data, view, gate)))[-POINTS:])
    chosen = max(curves, key=lambda j: float(np.ptp(curves[j][1], axis=0).max()))
    grid, shares = curves[chosen]
    marks = []
    for k, colour in enumerate(colours(shares.shape[1])):
        ax.plot(grid, shares[:, k], color=colour, lw=2)
        at = int(np.clip(shares[:, k].argmax(), 0.05 * POINTS, 0.95 * POINTS))
        marks.append((grid[at], shares[at, k]))
    ax.plot(view.gate[:, chosen], np.full(view.n, 0.01), "|", color="#333333", alpha=0.4, ms=6, transform=ax.get_xaxis_transform())
    ax.set(ylim=(-0.03, 1.03), xlabel=short(view.gates)[chosen], ylabel="share of the component", title="Shares given the gate")
    ax.locator_params(axis="x", nbins=5)
    number_places(ax, np.array(marks))
    return ax


def _unseen(data: Regression, view: View, gate: np.ndarray) -> Regression:
    """The rows of the data (so that no covariate is constant), then those of `gate`, with nothing else known of any."""
    n = view.n + len(gate)

    def continued(rows: Any, more: Any = None) -> Any:
        if rows is None:
            return None
        return np.concatenate([rows, np.repeat(rows.mean(axis=0)[None], len(gate), axis=0) if more is None else more])

    nothing: Any = np.full(n, np.nan) if view.d == 1 else np.full((n, view.d), np.nan)
    if isinstance(data.y, Interval):
        nothing = Interval(np.full(n, -np.inf), np.full(n, np.inf))
    x = None if data.x is None else continued(view.x)
    return dataclasses.replace(data, y=nothing, x=x, offset=continued(view.offset), gate=continued(view.gate, gate))
