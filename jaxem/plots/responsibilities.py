"""Which state each row belongs to, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, axes_or_new, legend_below, name_ticks, sample, short
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MANY = 2000  # rows from which dots are smaller


def plot_responsibilities(responsibilities: Any, ax: Axes | None = None) -> Axes:
    """Responsibilities (n, K) as a grey map, rows sorted by their most probable component; at most 5000 rows."""
    ax, r = axes_or_new(ax), np.asarray(responsibilities)
    r = r[sample(len(r))]
    top = r.argmax(axis=1)
    order = np.lexsort((-r.max(axis=1), top))
    image = ax.imshow(r[order].T, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="responsibility")
    ax.set(xlabel="row, sorted by component", ylabel="component", title="Responsibilities")
    name_ticks(ax.yaxis, [str(k) for k in range(r.shape[1])])
    return ax


def plot_uncertainty(
    responsibilities: Any,
    data: Any,
    ax: Axes | None = None,
    *,
    holes: Any = None,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
) -> Axes:
    """Where the classification of rows is uncertain: dots darker and larger with -sum_k r_k log r_k / log K, from 0 (certain) to 1.

    Args:
        responsibilities: (n, K).
        data: (n, d) rows, raw or completed by `model.impute`. A row without a value in one of the two columns is left out.
        holes: (n, d) bool, cells that were filled; such rows are drawn as triangles, and those with no observed cell not.
        columns: the two columns to draw; with d = 1 the second axis is the uncertainty. `plot_certainty` needs none.
    """
    view = view_of(data, names)
    ax, y, names = axes_or_new(ax), view.y, short(view.columns)
    holes = np.zeros(y.shape, bool) if holes is None else np.asarray(holes)
    doubt = uncertainty(responsibilities)
    there = ~np.isnan(y[:, columns] if y.shape[1] > 1 else y).any(axis=1)
    shown = sample(len(y)) & ~holes.all(axis=1) & there
    if y.shape[1] == 1:
        ax.scatter(y[shown, 0], doubt[shown], s=9, color=COLOURS[0], alpha=0.6, linewidths=0)
        ax.set(xlabel=names[0], ylabel="uncertainty", ylim=(-0.05, 1.05), title="Uncertainty of assignment")
        return ax
    image, filled = None, holes.any(axis=1)
    for marker, chosen, label in (("o", shown & ~filled, "complete rows"), ("^", shown & filled, "rows with filled cells")):
        chosen = np.flatnonzero(chosen)
        if chosen.size:
            chosen = chosen[np.argsort(doubt[chosen])]
            size = (8 + 24 * doubt[chosen]) * (1 if len(y) <= MANY else 0.5)
            style: dict[str, Any] = {"s": size, "marker": marker, "linewidths": 0.3, "edgecolors": "#555555"}
            x, z = y[chosen][:, columns].T
            image = ax.scatter(x, z, c=doubt[chosen], cmap="cividis_r", vmin=0, vmax=1, label=label, **style)
    if image is not None:
        ax.figure.colorbar(image, ax=ax, label="entropy / log K")
    a, b = (names[j] for j in columns)
    ax.margins(0.06)
    ax.locator_params(axis="x", nbins=5)
    ax.set(xlabel=a, ylabel=b, title="Uncertainty of assignment")
    return legend_below(ax) if filled.any() else ax


def uncertainty(responsibilities: Any) -> np.ndarray:
    """(n,) entropy of responsibilities (n, K) over its largest value, log K; 0 where K = 1."""
    r = np.asarray(responsibilities, np.float64)
    entropy = -(r * np.log(np.where(r > 0, r, 1))).sum(axis=1)
    return np.maximum(entropy, 0) / np.log(max(r.shape[1], 2))


def plot_certainty(responsibilities: Any, ax: Axes | None = None, *, weights: Any = None) -> Axes:
    """How many rows are how uncertain: a histogram of entropy over log K, from 0 (certain) to 1 (no idea)."""
    ax, doubt = axes_or_new(ax), uncertainty(responsibilities)
    mass = None if weights is None else np.asarray(weights, np.float64)
    ax.hist(doubt, bins=np.linspace(0, 1, 21).tolist(), weights=mass, color=COLOURS[0], edgecolor="white", linewidth=0.5)
    middle = float(np.average(doubt, weights=mass))
    ax.axvline(middle, color=COLOURS[1], lw=1.5, ls="--", label=f"mean {middle:.3f}")
    ax.set(xlabel="uncertainty (entropy / log K)", ylabel="rows", xlim=(-0.02, 1.02), title="Uncertainty of assignment")
    return legend_below(ax)
