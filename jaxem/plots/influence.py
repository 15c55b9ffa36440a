"""What single rows do to a fit, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxem.canvas import COLOURS, GREY, LABEL_INCHES, SHOWN, axes_or_new, legend_below, short
from jaxem.inference.influence import Influence
from jaxem.plots.profiles import name_across

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 5
GROUPS = 10  # up to so many all have a label on the axis
LINE = 0.055  # height of a name, in heights of the picture
LETTER = 0.019  # width of a letter, in widths


def plot_influence(found: Influence, ax: Axes | None = None, *, count: int = NAMED) -> Axes:
    """Cook's distance of each row, sequence or group, in the order of the data; the `count` largest stand out, with their labels;
    up to ten all have them on the axis.

    Distances sum to about 1 where weights are 1, so that the mean, a dashed line, is about 1 / n. Beyond 5,000 rows only the
    largest 5,000 are drawn.

    Raises:
        ValueError: distances that are not known, since the information is not positive definite.
    """
    distance = np.asarray(found.cooks_distance)
    if not np.isfinite(distance).any():
        raise ValueError(f"found: no distance is known; {' '.join(found.remarks) or 'there are no rows'}")
    ax = axes_or_new(ax)
    drawn = np.sort(found.most(SHOWN))
    named = found.most(min(count, len(distance)))
    rest = np.setdiff1d(drawn, named)
    for rows, colour, width in ((rest, COLOURS[0], 0.8), (named, COLOURS[1], 1.4)):
        ax.vlines(rows, 0, distance[rows], color=colour, lw=width)
        ax.plot(rows, distance[rows], "o", ms=3 if len(drawn) <= 300 else 1.5, color=colour)
    mean = float(np.nanmean(distance))
    ax.axhline(mean, color=GREY, ls="--", lw=1, label=f"mean {mean:.3g}")
    top = max(float(np.nanmax(distance)), 1e-12)
    edge = 0.03 * max(len(distance) - 1, 1) + 0.5
    ax.set(xlim=(-edge, len(distance) - 1 + edge), ylim=(0, 1.35 * top if len(named) and len(distance) > GROUPS else 1.08 * top))
    deep = 0.0
    if len(distance) <= GROUPS:
        deep = name_across(ax, short([str(label) for label in found.labels]))
    else:
        _name(ax, named, distance, [str(label) for label in found.labels[named]])
        ax.locator_params(axis="x", integer=True)
    left = len(distance) - len(drawn)
    title = "Influence" if not left else f"Influence: {left} smaller ones not drawn"
    ax.set(xlabel="row, sequence or group", ylabel="Cook's distance", title=title)
    return legend_below(ax, LABEL_INCHES + deep)


def _name(ax: Axes, rows: np.ndarray, distance: np.ndarray, labels: list[str]) -> None:
    """Each label above its row, moved up where it would cover one that stands already, with a line down to its row."""
    (left, right), (_, top) = ax.get_xlim(), ax.get_ylim()
    taken: list[tuple[float, float, float]] = []  # centre, height, half width, in parts of the picture
    for row, label in zip(rows, short(labels), strict=True):
        half = 0.5 * LETTER * len(label) + 0.01
        x = min(max((row - left) / (right - left), half), 1 - half)
        start = distance[row] / top + 0.02
        y = start
        while any(abs(x - other) < half + width and abs(y - height) < LINE for other, height, width in taken):
            y += 0.25 * LINE
        taken.append((x, y, half))
        if y > start:
            ax.plot([row, left + x * (right - left)], [distance[row], y * top], color=GREY, lw=0.6, zorder=0)
        ax.text(left + x * (right - left), y * top, label, ha="center", va="bottom", fontsize="small")
    highest = max((height for _, height, _ in taken), default=0.0) + LINE
    if highest > 1:
        ax.set_ylim(0, top * highest * 1.02)
