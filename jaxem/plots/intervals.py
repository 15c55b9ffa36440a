"""Confidence intervals of params, those of several methods side by side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxem.canvas import GREY, LABEL_INCHES, MARKERS, colours, legend_below, new_figure
from jaxem.inference.inference import Inference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 40  # params in a panel of `figure_intervals`; a leaf of more takes several
ACROSS = 3  # panels beside each other
TITLE, BELOW = 0.35, 0.6  # inches over a panel for its title, and under it for numbers and label
BODY, SIDE = 2.7, 0.2  # inches of its width, and right of it
MARGIN, LETTER = 0.3, 0.075  # inches left of it, and for each character of a name
WIDE = 26  # characters of a param's name that are shown
FAR = 8.0  # usual lengths of an interval beyond which ends leave the picture
EVERY = 20.0  # largest over smallest limit from which positive numbers are drawn on a log scale


class _Interval(NamedTuple):
    """One param by one method."""

    value: float
    lower: float
    upper: float


class _Line(NamedTuple):
    """One param by each method."""

    leaf: str
    name: str
    scale: str  # "log", "logit" or "plain"
    told: tuple[_Interval, ...]


def plot_intervals(
    found: Inference | Mapping[str, Inference], ax: Axes | None = None, *, leaf: str | None = None, level: float | None = None
) -> Axes:
    """Estimates and confidence intervals of the params of one leaf, a line each, the methods beside each other.

    Params on the edge of their domain, and those of which no error is known, are open marks without an interval. Where one
    interval is so long that it would hide the others it leaves the picture, with an arrow. Positive numbers of very different
    sizes are on a log scale.

    Args:
        found: of `jaxem.standard_errors`, or several of them by the name that each has in the legend.
        ax: where to draw; default a figure of its own, as high as it takes.
        leaf: name of the leaf, such as "mean"; not needed where there is only one. `figure_intervals` draws all.
        level: of the intervals; default that of the first.

    Raises:
        ValueError: nothing given, methods that are not of the same params, an unknown leaf.
    """
    methods, lines, level = _read(found, level)
    leaves = list(dict.fromkeys(line.leaf for line in lines))
    if leaf is None and len(leaves) > 1:
        raise ValueError(f"leaf: there are {', '.join(leaves)}; name one of them, or draw all by figure_intervals.")
    if leaf is not None and leaf not in leaves:
        raise ValueError(f"leaf: found {leaf!r}; there are {', '.join(leaves)}.")
    own = [line for line in lines if leaf in (None, line.leaf)]
    if ax is None:
        return _figure([(own[0].leaf, own)], methods, level).axes[0]
    _draw(ax, own, methods, own[0].leaf, level)
    return legend_below(ax, LABEL_INCHES + 0.05)


def figure_intervals(found: Inference | Mapping[str, Inference], *, level: float | None = None) -> Figure:
    """`plot_intervals` of all params, a panel for each leaf, since their scales differ; long leaves take several.

    Raises:
        ValueError: nothing given, methods that are not of the same params.
    """
    methods, lines, level = _read(found, level)
    panels = []
    for leaf in dict.fromkeys(line.leaf for line in lines):
        own = [line for line in lines if line.leaf == leaf]
        count = -(-len(own) // LINES)
        panels += [(leaf if count == 1 else f"{leaf} ({i} of {count})", part) for i, part in enumerate(_parts(own, count), 1)]
    return _figure(panels, methods, level)


def _parts(lines: list[_Line], count: int) -> list[list[_Line]]:
    """Lines in so many parts of about the same length."""
    cuts = np.linspace(0, len(lines), count + 1).round().astype(int)
    return [lines[a:b] for a, b in pairwise(cuts)]


def _figure(panels: list[tuple[str, list[_Line]]], methods: list[str], level: float) -> Figure:
    """Panels with their titles, as high as their lines take, in columns."""
    columns = _columns([TITLE + _height(len(part), len(methods)) + BELOW for _, part in panels])
    margins = [MARGIN + LETTER * max(len(_cut(line.name)) for i, _ in column for line in panels[i][1]) for column in columns]
    legend = 0.25 * -(-len(methods) // max(1, 2 * len(columns))) + 0.1
    high = max(sum(height for _, height in column) for column in columns) + legend
    wide = max(sum(margins) + (BODY + SIDE) * len(columns), 4.5)
    figure = new_figure((wide, high))
    figure.set_layout_engine(None)  # panels of different heights, placed by inches
    left = 0.0
    for column, margin in zip(columns, margins, strict=True):
        top = high
        for i, height in column:
            title, part = panels[i]
            body = height - TITLE - BELOW
            spot = (left + margin, top - TITLE - body, wide - margin - SIDE if len(columns) == 1 else BODY, body)
            ax = figure.add_axes((spot[0] / wide, spot[1] / high, spot[2] / wide, spot[3] / high))
            _draw(ax, part, methods, title, level)
            top -= height
        left += margin + BODY + SIDE
    handles, labels = figure.axes[0].get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "lower center", "ncols": min(len(labels), 2 * len(columns)), "borderaxespad": 0.2}
    figure.legend(handles, labels, frameon=False, fontsize="small", **place)
    return figure


def _columns(heights: list[float]) -> list[list[tuple[int, float]]]:
    """Panels by number, with their heights, in at most three columns of about the same height, in order."""
    across = min(ACROSS, len(heights))
    room = max(heights)
    while True:
        columns: list[list[tuple[int, float]]] = [[]]
        for i, height in enumerate(heights):
            if columns[-1] and sum(h for _, h in columns[-1]) + height > room + 1e-9:
                columns.append([])
            columns[-1].append((i, height))
        if len(columns) <= across:
            return columns
        room *= 1.05


def _height(lines: int, methods: int) -> float:
    """Inches."""
    return max(lines * (0.12 + 0.1 * methods), 0.8)


def _read(found: Any, level: float | None) -> tuple[list[str], list[_Line], float]:
    """Names of the methods, the lines of all params, and the level."""
    given = {found.method: found} if isinstance(found, Inference) else dict(found)
    if not given or not all(isinstance(each, Inference) for each in given.values()):
        raise ValueError("found: give what jaxem.standard_errors returned, or a mapping of names to several of them.")
    first = next(iter(given.values()))
    for name, each in given.items():
        if each.names != first.names:
            raise ValueError(
                f"found: {name!r} tells of other params than {next(iter(given))!r}; give methods for one model and data."
            )
    level = first.level if level is None else level
    limits = [each.limits(level) for each in given.values()]
    lines = []
    for i, name in enumerate(first.names):
        if first.cells.doubled[i]:
            continue
        leaf, _, place = name.partition("[")
        told = [
            _Interval(float(each.cells.values[i]), float(lower[i]), float(upper[i]))
            for each, (lower, upper) in zip(given.values(), limits, strict=True)
        ]
        lines.append(_Line(leaf, place.removesuffix("]") or leaf, first.cells.scales[i], tuple(told)))
    return list(given), lines, level


def _draw(ax: Axes, lines: list[_Line], methods: list[str], title: str, level: float) -> None:
    values, lower, upper = (np.array([[getattr(each, end) for each in line.told] for line in lines]) for end in _Interval._fields)
    known = np.isfinite(lower) & np.isfinite(upper)
    low, high, log = _range(values, np.where(known, lower, np.nan), np.where(known, upper, np.nan), {line.scale for line in lines})
    if log:
        ax.set_xscale("log")
    elif low < 0 < high:
        ax.axvline(0, color=GREY, lw=1, zorder=0)
    _separate(ax, lines)
    for m, colour in enumerate(colours(len(methods))):
        place = np.arange(len(lines)) + (0.7 * (m + 0.5) / len(methods) - 0.35)
        own = known[:, m]
        style: dict[str, Any] = {"color": colour, "zorder": 3}
        ends = np.clip(lower[own, m], low, high), np.clip(upper[own, m], low, high)
        ax.hlines(place[own], *ends, lw=1.4, **style)
        marker = MARKERS[m % len(MARKERS)]
        ax.plot(values[own, m], place[own], marker=marker, ls="none", ms=4, label=methods[m], **style)
        ax.plot(values[~own, m], place[~own], marker=marker, ls="none", ms=4, markerfacecolor="white", **style)
        for side, beyond, at in (("<", lower[own, m] < low, low), (">", upper[own, m] > high, high)):
            if beyond.any():
                ax.plot(np.full(int(beyond.sum()), at), place[own][beyond], marker=side, ls="none", ms=4, clip_on=False, **style)
    span = 0.03 * (np.log10(high / low) if log else high - low)
    ax.set_xlim((low / 10**span, high * 10**span) if log else (low - span, high + span))
    if not log:
        ax.locator_params(axis="x", nbins=5)
    ax.set_yticks(
        range(len(lines)), [_cut(line.name) for line in lines], fontsize="small" if len(lines) <= LINES // 2 else "x-small"
    )
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set(xlabel=f"{100 * level:g} % intervals", title=title)


def _range(values: np.ndarray, lower: np.ndarray, upper: np.ndarray, scales: set[str]) -> tuple[float, float, bool]:
    """What is shown, from where to where, and whether on a log scale."""
    everything = np.concatenate([each[np.isfinite(each)] for each in (values, lower, upper)])
    positive = scales == {"log"} and bool((everything > 0).all())
    lengths = (upper - lower)[np.isfinite(upper - lower)]
    spans = np.log(upper / lower)[np.isfinite(upper - lower)] if positive else lengths
    log = positive and everything.max() > EVERY * everything.min()
    move = np.log if log else np.asarray
    usual = float(np.median(spans if log else lengths)) if len(lengths) else 0.0
    inside = move(values[np.isfinite(values)])
    low = max(float(move(everything).min()), float(inside.min()) - FAR * usual)
    high = min(float(move(everything).max()), float(inside.max()) + FAR * usual)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    return (float(np.exp(low)), float(np.exp(high)), True) if log else (low, high, False)


def _separate(ax: Axes, lines: list[_Line]) -> None:
    """A line between params of one component and those of the next."""
    first = [line.name.split(", ")[0] if ", " in line.name else "" for line in lines]
    for i in range(1, len(lines)):
        ax.axhline(i - 0.5, color="#bbbbbb" if first[i] != first[i - 1] else "#eeeeee", lw=0.8, zorder=0)


def _cut(name: str) -> str:
    """A name that fits, each of its parts cut by as much as it takes, with no mark that Matplotlib would read as mathematics."""
    parts = name.split(", ")
    wide = WIDE
    while len(", ".join(_first(part, wide) for part in parts)) > WIDE and wide > 4:
        wide -= 1
    return ", ".join(_first(part, wide) for part in parts).replace("$", r"\$")


def _first(part: str, wide: int) -> str:
    """Its beginning and its end, which may be all that tells it from others."""
    end = wide // 3
    return part if len(part) <= wide else f"{part[: wide - 1 - end]}…{part[-end:]}"
