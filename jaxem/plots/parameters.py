"""Params as maps, dots and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.align import align
from jaxem.canvas import GREY, MARKERS, axes_or_new, colours, draw_map, legend_below, name_ticks, short
from jaxem.leaves import Leaf, components_of, leaves_of
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_parameters(
    model: Any, truth: Any, params: Any, ax: Axes | None = None, *, data: Any = None, label: str = "generating"
) -> Axes:
    """Estimated params against others of the same model (aligned to them first), with the line where both agree.

    Raises:
        ValueError: other shapes.
    """
    ax = axes_or_new(ax)
    params = align(params, truth, model=model)
    view = View(np.zeros((1, 0)), ()) if data is None else view_of(data)
    pairs = list(zip(leaves_of(model, truth, view), leaves_of(model, params, view), strict=True))
    everything = np.concatenate([leaf.values.ravel() for pair in pairs for leaf in pair])
    ends = np.array([everything.min(), everything.max()])
    ax.plot(ends, ends, color=GREY, lw=1)
    for (theirs, ours), marker in zip(pairs, MARKERS * len(pairs), strict=False):
        ax.scatter([], [], marker=marker, s=30, facecolors="none", edgecolors="#333333", label=plural(ours.name))
        lower = np.tril_indices(ours.values.shape[-1]) if ours.covariance else None
        for k, colour in enumerate(colours(len(ours.values))):
            x, z = (leaf.values[k][lower] if lower else leaf.values[k].ravel() for leaf in (theirs, ours))
            shade = "#333333" if ours.shared else colour
            ax.scatter(x, z, marker=marker, s=30, facecolors="none", edgecolors=shade, linewidths=1.3)
    ax.margins(0.08)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=label, ylabel="estimated", title=f"Estimated against {label}")
    return legend_below(ax)


def plural(name: str) -> str:
    """ "mean" -> "means", "covariance" -> "covariances", "dof" and plurals as they are."""
    plain = name.replace("_", " ")
    return plain if plain.endswith("s") or plain == "dof" else f"{plain}s"


def plot_means(model: Any, params: Any, y: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """Means (K, d) as a map, in standard deviations of each column of y from the column's mean.

    Raises:
        TypeError: a family whose rows have no mean.
    """
    mean, view = components_of(model, params).mean, view_of(y, names, model=model)
    ax, array, names = axes_or_new(ax), view.y, short(view.columns)
    spread = np.nanstd(array, axis=0)
    scaled = (mean - np.nanmean(array, axis=0)) / np.where(spread > 0, spread, 1)
    ax.set(xlabel="component", ylabel="column", title="Means of the components")
    limit = max(float(np.abs(scaled).max()), 0.1)
    return draw_map(ax, scaled.T, limit, "mean, in sd of the column", [str(k) for k in range(len(mean))], names)


def plot_correlations(
    model: Any, params: Any, ax: Axes | None = None, *, component: int = 0, names: Sequence[str] | None = None
) -> Axes:
    """Correlations (d, d) within one component as a map.

    Raises:
        TypeError: a family whose rows have no covariance.
    """
    covariance = components_of(model, params).covariance[component]
    ax, names = axes_or_new(ax), short(names or [f"x{j}" for j in range(len(covariance))])
    scale = np.sqrt(np.diagonal(covariance))
    ax.set(title="Correlations", xlabel="column, in the same order")
    return draw_map(ax, covariance / np.outer(scale, scale), 1.0, "correlation", [""] * len(names), names)


def plot_coefficients(model: Any, params: Any, data: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """Coefficients of each state as dots, times the standard deviation of their covariate, so that they can be compared.

    Raises:
        TypeError: params without coefficients of covariates.
    """
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    leaf = coefficient_leaf(leaves_of(model, params, view))
    if leaf is None or view.x is None:
        raise TypeError(f"model: {type(model).__name__} has no coefficients to draw.")
    place = leaf.kinds.index("coefficients")
    kept = [i for i, name in enumerate(leaf.axes[place].names) if name in view.covariates]
    scale = np.array([view.x[:, view.covariates.index(leaf.axes[place].names[i])].std() for i in kept])
    values = np.moveaxis(leaf.values, place + 1, 1).reshape(len(leaf.values), leaf.values.shape[place + 1], -1)[:, kept, 0] * scale
    return draw_dots(
        ax, values, short([leaf.axes[place].names[i] for i in kept]), "coefficient times sd of its covariate", "Coefficients"
    )


def coefficient_leaf(leaves: list[Leaf]) -> Leaf | None:
    """The leaf that holds the coefficients of covariates."""
    return next((leaf for leaf in leaves if "coefficients" in leaf.kinds and leaf.values.size), None)


DOTS = 7  # states that are drawn as dots


def draw_dots(ax: Axes, values: np.ndarray, names: Sequence[str], label: str, title: str) -> Axes:
    """Values (K, m) as dots, one line a name, the states beside each other; beyond seven states as a map.

    Positive values of very different sizes are on a log scale. The map shows each line in units of its largest size.
    """
    states, count = values.shape
    if states > DOTS:
        largest = np.abs(values).max(axis=0)
        ax.set(title=title, xlabel="component")
        scaled = (values / np.where(largest > 0, largest, 1)).T
        return draw_map(ax, scaled, 1.0, "in units of the line's largest", [str(k) for k in range(states)], names)
    if values.min() > 0 and values.max() > 100 * values.min():
        ax.set_xscale("log")
    else:
        ax.axvline(0, color=GREY, lw=1, zorder=0)
        ax.locator_params(axis="x", nbins=5)
    for k, colour in enumerate(colours(states)):
        place = np.arange(count) + (0.6 * (k + 0.5) / states - 0.3)
        style: dict[str, Any] = {"marker": MARKERS[k % len(MARKERS)], "ls": "none", "ms": 6, "color": colour}
        ax.plot(values[k], place, label=f"component {k}" if states > 1 else None, zorder=3, **style)
    for line in range(count - 1):
        ax.axhline(line + 0.5, color="#eeeeee", lw=0.8, zorder=0)
    name_ticks(ax.yaxis, names)
    ax.margins(x=0.1)
    ax.set(ylim=(count - 0.4, -0.6), xlabel=label, title=title)
    return legend_below(ax) if states > 1 else ax


def plot_numbers(model: Any, params: Any, data: Any, ax: Axes | None = None, *, names: Sequence[str] | None = None) -> Axes:
    """The mean of each column in each state, as dots; where the family does not say it, its first leaf of such numbers.

    Raises:
        TypeError: params without such a leaf.
    """
    view = view_of(data, names, model=model)
    try:
        mean = components_of(model, params).mean
    except TypeError:
        mean = np.zeros((0, 0))
    if mean.shape[1:] == (view.d,):
        return draw_dots(axes_or_new(ax), mean, short(view.columns), "mean", "Means")
    leaf = number_leaf(leaves_of(model, params, view))
    if leaf is None:
        raise TypeError(f"model: {type(model).__name__} has no params by column to draw.")
    values = leaf.values.reshape(len(leaf.values), -1)
    kept = short(leaf.axes[0].names) if leaf.axes else [leaf.title]
    return draw_dots(axes_or_new(ax), values, kept, leaf.title, plural(leaf.title).capitalize())


def number_leaf(leaves: list[Leaf]) -> Leaf | None:
    """The first leaf with one number for each state and column, or for each state."""
    rest = [leaf for leaf in leaves if leaf.values.size and "gate" not in leaf.path]
    inner = [leaf for leaf in rest if not (len(leaf.path) == 1 and leaf.name == "weights")]
    by_column = [leaf for leaf in inner if leaf.kinds in (("columns",), ("numbers",))]
    alone = [leaf for leaf in inner if leaf.kinds == ()]
    return next(iter(by_column + alone), None)
