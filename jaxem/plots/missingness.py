"""Missing cells and what is made of them: patterns, overimputed cells, results over shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, TICKS, axes_or_new, legend_below, name_ticks, new_figure, short
from jaxem.missing.overimputation import Overimputation
from jaxem.missing.patterns import Missingness, missingness
from jaxem.missing.sensitivity import DeltaSensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PATTERNS = 30  # that are drawn


def plot_patterns(data: Any, ax: Axes | None = None) -> Axes:
    """The map of missing cells: patterns, one a line with its number of rows, the most frequent on top; under each column, its
    share.

    `data` are raw, or what `jaxem.missingness` made of them. At most 30 patterns are drawn. The cells that are there, over two
    columns, are drawn by `plot_missingness`.
    """
    from matplotlib.colors import ListedColormap

    found = data if isinstance(data, Missingness) else missingness(data)
    names, shares = short(found.columns), found.missing / int(found.counts.sum())
    upright = max(map(len, names)) * min(len(names), TICKS) > 40
    gap = " " if upright else "\n"
    told = [f"{name}{gap}{_percent(share)}" if share else name for name, share in zip(names, shares, strict=True)]
    deep = 0.09 * max(map(len, told)) if upright else 0.0  # inches: tick labels are 0.09 inches a letter, or two lines high
    ax = new_figure((5.5, 4.5 + deep)).add_subplot() if ax is None else ax
    shown = min(len(found.counts), PATTERNS)
    image = (~found.observed[:shown]).astype(float)
    ax.imshow(image, aspect="auto", interpolation="nearest", cmap=ListedColormap(["#d9d9d9", COLOURS[1]]), vmin=0, vmax=1)
    for line in np.arange(1, shown) - 0.5:
        ax.axhline(line, color="white", lw=1)
    if image.shape[1] <= 100:
        for line in np.arange(1, image.shape[1]) - 0.5:
            ax.axvline(line, color="white", lw=1)
    n = int(found.counts.sum())
    name_ticks(ax.xaxis, told)
    if upright:
        ax.tick_params(axis="x", labelrotation=90)
    name_ticks(ax.yaxis, [str(count) for count in found.counts[:shown]])
    left = len(found.counts) - shown
    rest = f"\n{left} more patterns of {int(found.counts[shown:].sum())} rows not drawn" if left else ""
    complete = int(found.counts[found.observed.all(axis=1)].sum())
    ax.set(ylabel="rows", title=f"Missing cells: {complete} of {n} rows complete{rest}")
    ax.scatter([], [], marker="s", s=60, color="#d9d9d9", label="observed")
    ax.scatter([], [], marker="s", s=60, color=COLOURS[1], label="missing")
    return legend_below(ax, 0.15 + deep if upright else 0.55)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def plot_overimputed(found: Overimputation, ax: Axes | None = None, *, column: Any = None) -> Axes:
    """Observed cells of one column against what is imputed for them, with intervals and the line where both agree.

    At most 400 cells are drawn; those outside of their intervals stand out.
    """
    ax = axes_or_new(ax)
    tried = np.unique(found.column)
    j = tried[0] if column is None else found.columns.index(column) if isinstance(column, str) else int(column)
    own = np.flatnonzero(found.column == j)
    if not own.size:
        raise ValueError(f"column: {found.columns[j]!r} was not overimputed.")
    drawn = own if own.size <= 400 else own[np.sort(np.random.default_rng(0).choice(own.size, 400, replace=False))]
    x, inside = found.observed, found.inside
    for state, colour, name in ((True, COLOURS[0], "inside"), (False, COLOURS[1], "outside")):
        each = drawn[inside[drawn] == state]
        label = f"{name} ({int((inside[own] == state).sum())})"
        ax.vlines(x[each], found.lower[each], found.upper[each], color=colour, lw=0.7, alpha=0.5)
        ax.scatter(x[each], found.mean[each], s=10, color=colour, marker="o" if state else "^", label=label, zorder=3)
    ends = np.array([x[own].min(), x[own].max()])
    ax.plot(ends, ends, color="black", lw=1)
    name = short(found.columns)[j]
    share = float(inside[own].mean())
    ax.set(xlabel=f"{name}, observed", ylabel=f"{name}, imputed: mean and {found.level:.0%} interval")
    ax.set_title(f"Overimputed: {share:.1%} of {own.size} cells inside {found.level:.0%} intervals")
    return legend_below(ax)


def plot_sensitivity(found: DeltaSensitivity, ax: Axes | None = None) -> Axes:
    """The pooled estimate and its interval over the shifts, with the null and the tipping points."""
    ax = axes_or_new(ax)
    name = short([found.column])[0]
    ax.fill_between(found.deltas, found.lower, found.upper, color=COLOURS[5], alpha=0.35, lw=0, label=f"{found.level:.0%} interval")
    ax.plot(found.deltas, found.estimate, color=COLOURS[0], lw=1.8, label="estimate")
    ax.axhline(found.null, color="black", lw=1, ls="--", label=f"null {found.null:g}")
    if found.deltas[0] <= 0 <= found.deltas[-1]:
        ax.axvline(0, color=GREY, lw=1)
        middle = float(np.interp(0, found.deltas, found.estimate))
        ax.plot([0], [middle], "o", color=COLOURS[0], label="missing at random")
    for i, place in enumerate(found.tipping):
        label = f"tipping point {place:.3g}" if len(found.tipping) == 1 else "tipping points" if i == 0 else None
        ax.axvline(place, color=COLOURS[1], lw=1.5, ls=":", label=label)
    ax.margins(x=0)
    ax.set(xlabel=f"shift of imputed {name}", ylabel="pooled estimate", title="If cells are not missing at random")
    return legend_below(ax)
