"""Criteria of models against their number of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, MARKERS, axes_or_new, legend_below, name_ticks, short
from jaxem.selection.selection import CRITERIA, LOWER, Selection
from jaxem.settings import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("-", "--", ":")
NAMES = {"cv_log_likelihood": "held-out log-likelihood"}


def plot_criteria(selection: Selection, ax: Axes | None = None, criterion: str | None = None, legend: bool = True) -> Axes:
    """A criterion of every model against its number of components (or states), a line for each kind of model.

    Models of one kind differ in that number alone. The model that the criterion chooses is ringed and named in the title. A
    model without a criterion leaves a gap in its line, with a cross at the lower edge. Where every model has the same number of
    components, they stand one below another by their names.

    Args:
        selection: what `jaxem.select` returned.
        ax: where to draw; default a figure of its own.
        criterion: which one; default that of the selection.
        legend: whether to name the lines under the axes.

    Raises:
        ValueError: an unknown criterion.
    """
    criterion = selection.criterion if criterion is None else criterion
    if criterion not in CRITERIA:
        raise ValueError(f"criterion: found {criterion!r}; use one of {', '.join(CRITERIA)}.")
    ax = axes_or_new(ax)
    values = np.array([getattr(row, criterion) for row in selection.table], np.float64)
    sizes = np.array([model.n_states for model in selection.models])
    name = NAMES.get(criterion, criterion.upper() if criterion != "sabic" else "sample-size adjusted BIC")
    better = f"{name} ({'lower' if criterion in LOWER else 'higher'} is better)"
    known = np.isfinite(values)
    best = None
    if known.any():
        signed = np.where(known, values if criterion in LOWER else -values, np.inf)
        best = int(signed.argmin())
    ax.margins(0.1)
    level = len(set(sizes.tolist())) == 1
    if level:
        at = np.arange(len(values))
        ax.plot(values[known], at[known], "o", color=COLOURS[0])
        name_ticks(ax.yaxis, short([kind for kind, places in _kinds(selection).items() for _ in places]))
        ax.set(ylim=(len(values) - 0.5, -0.5), xlabel=better)
    else:
        at = sizes
        for number, (kind, places) in enumerate(_kinds(selection).items()):
            _draw_kind(ax, number, kind, sizes[places], values[places])
        low, high = int(sizes.min()), int(sizes.max())
        ax.set_xticks(range(low, high + 1, -(-(high - low + 1) // 16)))
        ax.set(xlim=(low - 0.4, high + 0.4), xlabel=_what(selection), ylabel=better)
    if (~known).any():
        edge = np.zeros((~known).sum())
        across = ax.get_yaxis_transform() if level else ax.get_xaxis_transform()
        place = (edge, at[~known]) if level else (at[~known], edge)
        ax.plot(*place, "x", color=GREY, transform=across, clip_on=False, label="failed")
    if best is None:
        ax.text(0.5, 0.5, f"no model has a finite {criterion}", ha="center", transform=ax.transAxes, color=GREY)
        return ax
    ring: dict[str, Any] = {"markersize": 15, "markerfacecolor": "none", "markeredgecolor": "black", "markeredgewidth": 1.8}
    ax.plot(*((values[best], at[best]) if level else (at[best], values[best])), "o", zorder=4, **ring)
    ax.set_title(f"chosen: {selection.table[best].model}".replace("$", r"\$"), fontsize="medium")
    return legend_below(ax) if legend and ax.get_legend_handles_labels()[1] else ax


def _what(selection: Selection) -> str:
    """What the models have several of."""
    words = {"components" if hasattr(model, "n_components") else "states" for model in selection.models}
    return " or ".join(sorted(words))


def _draw_kind(ax: Axes, number: int, kind: str, sizes: np.ndarray, values: np.ndarray) -> None:
    order = np.argsort(sizes, kind="stable")
    ax.plot(sizes[order], values[order], color=COLOURS[number % len(COLOURS)], ls=LINES[number // len(COLOURS) % len(LINES)],
            marker=MARKERS[number % len(MARKERS)], markersize=5, lw=1.3,
            label=kind.replace("$", r"\$"))  # fmt: skip


def _kinds(selection: Selection) -> dict[str, np.ndarray]:
    """Places of the models of each kind, which is a model's name without its number of components.

    Where all are of one class, a kind is named by what stands within the brackets.
    """
    found: dict[str, list[int]] = {}
    for place, (row, model) in enumerate(zip(selection.table, selection.models, strict=True)):
        name = short_name(model) + row.model.removeprefix(short_name(model))
        kind = name.replace(f", {model.n_states})", ")").replace(f"({model.n_states})", "")
        found.setdefault(kind, []).append(place)
    plain = _common(list(found))
    return {plain.get(kind, kind): np.array(places) for kind, places in found.items()}


def _common(kinds: list[str]) -> dict[str, str]:
    """Kinds without what they all begin and end with, brackets whole: "Mixture(Gaussian(EEE))" -> "EEE"."""
    if len(kinds) < 2:
        return {}
    first = kinds[0]
    begin = 0
    while all(kind[: begin + 1] == first[: begin + 1] for kind in kinds) and begin < len(first):
        begin += 1
    begin = first.rfind("(", 0, begin) + 1
    opened = first[:begin].count("(")

    def closes(kind: str) -> bool:
        own = kind[begin:]
        return kind.endswith(")" * opened) and own.count(")") - own.count("(") == opened

    if not begin or not all(map(closes, kinds)):
        return {}
    return {kind: kind[begin : len(kind) - opened] for kind in kinds}
