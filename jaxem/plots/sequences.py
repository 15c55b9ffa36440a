"""Sequences with the states behind them: over time, as probabilities, and as a graph of transitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import GREY, axes_or_new, check_drawable, colours, legend_below, name_ticks, short
from jaxem.rows import Rows
from jaxem.sequences import Sequences, read_sequences
from jaxem.states import average_transition
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DENSE = 400  # steps from which cells are dots
LONG = 2000  # steps from which means are levels
MANY = 8  # states of a graph; of more the transitions are a map
RIBBON = 0.06  # of the height
FAINT = 0.005  # probabilities below which no arrow is drawn
ROUND = 0.16  # radius of a state in the graph


def plot_series(
    model: Any,
    params: Any,
    data: Any,
    ax: Axes | None = None,
    *,
    column: int = 0,
    sequence: int = 0,
    names: Sequence[str] | None = None,
) -> Axes:
    """One column of one sequence over time, cells coloured by the likeliest path, which runs below as a ribbon.

    Lines are the states' means where the family says them. Times are the index of a data frame, else steps 0, 1, ...

    Raises:
        TypeError: a model without a likeliest path. ValueError: no such column or sequence.
    """
    check_drawable(model, "viterbi", "likeliest path")
    ax, view = axes_or_new(ax), view_of(data, names, model=model)
    own, when, told = _stretch(data, sequence)
    if not 0 <= column < view.d:
        raise ValueError(f"column: found {column} for {view.d} columns.")
    path = np.asarray(model.viterbi(params, data))[own]
    y = view.y[own, column]
    dense = len(y) > DENSE
    ax.plot(when, y, color=GREY, lw=0.6, alpha=0.5, zorder=1)
    palette = colours(model.n_states)
    level = _levels(model, params, column)
    for k, colour in enumerate(palette):
        here = path == k
        ax.plot(when[here], y[here], ls="", marker="." if dense else "o", ms=2.5 if dense else 4, color=colour, label=f"state {k}")
    if level is not None and len(y) <= LONG:
        ax.plot(when, level[path], color="#333333", lw=1, drawstyle="steps-mid", zorder=2)
    elif level is not None:  # a line that jumps so often would cover all else
        for k in np.unique(path):
            ax.axhline(level[k], color="#333333", lw=1, ls="--", zorder=2)
    finite = np.concatenate([y[np.isfinite(y)], [] if level is None else level[np.unique(path)]])
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    span = (high - low) or 1.0
    ax.set_ylim(low - 0.17 * span, high + 0.06 * span)
    edges = _edges(when)
    for begin, end in _runs(path):
        ax.axvspan(edges[begin], edges[end], ymax=RIBBON, color=palette[path[begin]], lw=0)
    ax.set(xlim=(edges[0], edges[-1]), xlabel=told, ylabel=short(view.columns)[column], title="Likeliest path")
    legend_below(ax)
    for handle in ax.get_legend().legend_handles:  # type: ignore[union-attr]
        handle.set_markersize(5)  # type: ignore[union-attr]
    return ax


def plot_smoothed(model: Any, params: Any, data: Any, ax: Axes | None = None, *, sequence: int = 0) -> Axes:
    """Smoothed probabilities of the states of one sequence, stacked over time.

    Raises:
        TypeError: a model without states that follow one another.
    """
    check_drawable(model, "viterbi", "sequence of states")
    ax = axes_or_new(ax)
    own, when, told = _stretch(data, sequence)
    state = np.asarray(model.smooth(params, data))[own]
    edges = _edges(when)
    filled = np.concatenate([state, state[-1:]]).T
    labels = [f"state {k}" for k in range(len(filled))]
    ax.stackplot(edges, *filled, colors=colours(len(filled)), labels=labels, step="post", lw=0)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), xlabel=told, ylabel="probability", title="Smoothed states")
    return legend_below(ax)


def plot_transitions(model: Any, params: Any, data: Any, ax: Axes | None = None) -> Axes:
    """States on a circle, as large as their share of the steps, with arrows as heavy as the probabilities of the moves.

    The number at a state is the probability of staying, that at an arrow of moving. Moves below 0.005 are left out. More than
    eight states are drawn as a map.

    Raises:
        TypeError: a model without states that follow one another.
    """
    check_drawable(model, "viterbi", "transitions")
    if model.n_states > MANY:
        return _draw_matrix(axes_or_new(ax), average_transition(model, params, data))
    from matplotlib.patches import Circle, FancyArrowPatch
    from matplotlib.patheffects import withStroke

    ax = axes_or_new(ax)
    transition = average_transition(model, params, data)
    share = np.asarray(model.smooth(params, data)).mean(axis=0)
    k = len(transition)
    angle = np.pi / 2 - 2 * np.pi * np.arange(k) / k
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) if k > 1 else np.zeros((1, 2))
    size = ROUND * min(1.0, 5 / k)
    radius = size * (0.8 + 0.6 * np.sqrt(share / share.max()))
    palette = colours(k)
    for j in range(k):
        for i in range(k):
            p = transition[j, i]
            if i == j or p < FAINT:
                continue
            way = (place[i] - place[j]) / np.linalg.norm(place[i] - place[j])
            begin, end = place[j] + radius[j] * way, place[i] - radius[i] * way
            bend = 0.22
            style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 11, "connectionstyle": f"arc3,rad={bend}"}
            ax.add_patch(FancyArrowPatch(tuple(begin), tuple(end), lw=0.8 + 4 * p, color=palette[j], alpha=0.9, **style))
            if k <= 6:
                # the top of the arc, to the right of the way
                side = np.array([way[1], -way[0]]) * np.linalg.norm(end - begin) * bend / 2
                halo = [withStroke(linewidth=3, foreground="white")]
                x, y = 0.5 * (begin + end) + side
                ax.text(x, y, f"{p:.2f}", ha="center", va="center", fontsize="small", path_effects=halo)
    for j in range(k):
        ax.add_patch(Circle(tuple(place[j]), radius[j], facecolor=palette[j], edgecolor="white", lw=1.5, zorder=3))
        text, (x, y) = f"{j}\n{transition[j, j]:.2f}", place[j]
        ax.text(x, y, text, ha="center", va="center", color="white", fontweight="bold", fontsize="small", zorder=4)
    reach = 1.15 + radius.max() if k > 1 else 0.5
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title="Transitions, and staying")
    ax.set_axis_off()
    return ax


def _draw_matrix(ax: Axes, transition: np.ndarray) -> Axes:
    image = ax.imshow(transition, interpolation="nearest", cmap="Greys", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="probability")
    names = [str(k) for k in range(len(transition))]
    name_ticks(ax.xaxis, names)
    name_ticks(ax.yaxis, names)
    ax.set(xlabel="to state", ylabel="from state", title="Transitions, and staying")
    return ax


def _stretch(data: Any, sequence: int) -> tuple[slice, np.ndarray, str]:
    """Rows of one sequence, their times, and what these are called."""
    if isinstance(data, Rows):
        raise TypeError("data: are prepared, and no longer hold their times; give the raw data.")
    lengths = read_sequences(data)[1]
    if not 0 <= sequence < len(lengths):
        raise ValueError(f"sequence: found {sequence}; there are {len(lengths)}, counted from 0.")
    begin = int(lengths[:sequence].sum())
    own = slice(begin, begin + int(lengths[sequence]))
    index = _index(data.y if isinstance(data, Sequences) else data)
    steps = np.arange(lengths[sequence], dtype=float)
    if index is None or len(index) != lengths.sum() or not np.issubdtype(np.asarray(index).dtype, np.number):
        return own, steps, "step"
    when = np.asarray(index, np.float64)[own]
    return (own, when, "time") if (np.diff(when) > 0).all() else (own, steps, "step")


def _index(data: Any) -> Any:
    """The index of a data frame that is more than row numbers."""
    while not hasattr(data, "index") and hasattr(data, "y"):
        data = data.y
    index = getattr(data, "index", None)
    return None if index is None or callable(index) or hasattr(index, "step") else index


def _levels(model: Any, params: Any, column: int) -> np.ndarray | None:
    """(K,) means of a column, where they do not depend on covariates."""
    try:
        return np.asarray(model.family.moments(params.emissions)[0], np.float64)[:, column]
    except (AttributeError, TypeError):
        return None


def _edges(when: np.ndarray) -> np.ndarray:
    """(T + 1,) ends of the steps, halfway between their times."""
    if len(when) == 1:
        return np.array([when[0] - 0.5, when[0] + 0.5])
    middle = (when[1:] + when[:-1]) / 2
    return np.concatenate([[when[0] - (middle[0] - when[0])], middle, [when[-1] + (when[-1] - middle[-1])]])


def _runs(path: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each stretch of one state."""
    cuts = np.flatnonzero(np.diff(path)) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), len(path)], strict=True))
