"""Rows of length 1: points on a circle or a sphere, and the directions of the states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import MARKERS, axes_or_new, colours, draw_map, number_places, sample, short
from jaxem.leaves import Leaf, leaves_of
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def direction_leaf(leaves: list[Leaf]) -> Leaf | None:
    """The leaf that holds a unit vector for each state."""
    for leaf in leaves:
        vector = leaf.kinds == ("columns",) and leaf.values.shape[1] > 1
        if vector and np.allclose(np.linalg.norm(leaf.values, axis=-1), 1, atol=1e-4):
            return leaf
    return None


def is_directional(view: View) -> bool:
    """Whether every row is a unit vector."""
    whole = ~np.isnan(view.y).any(axis=1)
    return view.d > 1 and bool(whole.any()) and bool(np.allclose(np.linalg.norm(view.y[whole], axis=1), 1, atol=1e-4))


def plot_directions(model: Any, params: Any, data: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """Two columns: rows on a circle with an arrow for each state. Three: longitude and latitude. More: a map of the arrows.

    Raises:
        TypeError: params without a unit vector for each state.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    leaf = direction_leaf(leaves_of(model, params, view))
    if leaf is None:
        raise TypeError(f"model: {type(model).__name__} has no directions to draw.")
    top = np.asarray(model.posterior(params, data)).argmax(axis=1)
    if view.d == 2:
        return _draw_circle(ax, view, leaf.values, top)
    if view.d == 3:
        return _draw_sphere(ax, view, leaf.values, top)
    ax.set(title="Mean directions", xlabel="component", ylabel="column")
    states = [str(k) for k in range(len(leaf.values))]
    return draw_map(ax, leaf.values.T, float(np.abs(leaf.values).max()), "coordinate", states, short(view.columns))


def _draw_circle(ax: Axes, view: View, mean: np.ndarray, top: np.ndarray) -> Axes:
    shown, rng = sample(view.n), np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(angle), np.sin(angle), color="#d9d9d9", lw=1, zorder=0)
    away = 1 + 0.12 * rng.random(view.n)  # so that rows of nearly one direction do not hide each other
    for k, colour in enumerate(colours(len(mean))):
        chosen = shown & (top == k)
        x, y = (view.y[chosen] * away[chosen, None]).T
        ax.scatter(x, y, s=10, color=colour, marker=MARKERS[k % len(MARKERS)], alpha=0.5, linewidths=0)
        ax.annotate("", xy=mean[k], xytext=(0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2})
    ax.plot([-1.25, 1.25], [-1.25, 1.25], alpha=0)  # the same limits, whatever the rows
    ax.set(xlabel=short(view.columns)[0], ylabel=short(view.columns)[1])
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title("Directions: rows, and means (arrows)")
    if len(mean) > 1:
        number_places(ax, 0.6 * mean)
    return ax


def _draw_sphere(ax: Axes, view: View, mean: np.ndarray, top: np.ndarray) -> Axes:
    shown = sample(view.n)
    for k, colour in enumerate(colours(len(mean))):
        at = _degrees(view.y[shown & (top == k)])
        ax.scatter(at[:, 0], at[:, 1], s=8, color=colour, marker=MARKERS[k % len(MARKERS)], alpha=0.5, linewidths=0)
    centre = _degrees(mean)
    ax.scatter(centre[:, 0], centre[:, 1], s=90, marker="P", color=colours(len(mean)), edgecolors="white", linewidths=1.2, zorder=4)
    ax.set(xlim=(-180, 180), ylim=(-90, 90), xlabel="longitude, degrees", ylabel="latitude, degrees")
    ax.set_xticks([-180, -90, 0, 90, 180])
    ax.set_yticks([-90, -45, 0, 45, 90])
    ax.set_title("Directions: rows, and means (crosses)")
    ax.grid(color="#eeeeee", lw=0.7)
    if len(mean) > 1:
        number_places(ax, centre + np.array([0.0, 9.0]))
    return ax


def _degrees(vectors: np.ndarray) -> np.ndarray:
    """(n, 2) longitude and latitude of unit vectors (n, 3)."""
    x, y, z = vectors.T
    return np.degrees(np.stack([np.arctan2(y, x), np.arcsin(np.clip(z, -1, 1))], axis=1))
