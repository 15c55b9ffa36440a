"""How much of the information is missing, direction by direction."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import COLOURS, GREY, axes_or_new, legend_below
from jaxem.inference.convergence_rate import NOTHING, Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUMBERED = 12  # bars that carry their value
BEHIND: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
LEGEND = 60  # characters of a line of the legend


def plot_missing_information(found: Rate, ax: Axes | None = None) -> Axes:
    """Fractions of missing information, the eigenvalues of the derivative of the EM map, as bars, largest first.

    EM shrinks the error along each direction by its fraction at every step, so that the first bar is its rate; the params
    that its direction moves are named. A dashed line stands at 1, where nothing is known; bars beyond belong to a saddle.

    Raises:
        ValueError: fractions that are not known, or none.
    """
    fractions = np.asarray(found.eigenvalues, np.float64)
    if not len(fractions) or not np.isfinite(fractions).all():
        raise ValueError(f"found: no fraction is known. {' '.join(found.remarks)}".rstrip())
    ax = axes_or_new(ax)
    place = np.arange(1, len(fractions) + 1)
    nothing = found.radius <= NOTHING
    label = None if nothing else "\n".join(wrap(f"slowest along {found.slowest}", LEGEND)).replace("$", r"\$")
    style: dict[str, Any] = {"width": 0.8 if len(fractions) <= 60 else 1.0}
    ax.bar(place[:1], fractions[:1], color=COLOURS[1], label=label, **style)
    ax.bar(place[1:], fractions[1:], color=COLOURS[0], **style)
    ax.axhline(1, color=GREY, ls="--", lw=1)
    if len(fractions) <= NUMBERED:
        for x, value in zip(place, fractions, strict=True):
            told = f"{round(value, 3) + 0.0:.3f}"
            ax.text(float(x), max(value, 0) + 0.012, told, ha="center", va="bottom", fontsize="small", bbox=BEHIND)
    low, high = min(float(fractions.min()), 0.0), max(float(fractions.max()), 1.0)
    ax.set(xlim=(0.3, max(len(fractions), 3) + 0.7), ylim=(1.05 * low, high + 0.1))
    ax.locator_params(axis="x", integer=True, nbins=8)
    more = "" if found.dense else " (the largest)"
    title = "Nothing is missing: EM arrives in one step" if nothing else f"Rate of EM {found.radius:.4f}"
    ax.set(xlabel=f"direction{more}", ylabel="fraction of missing information", title=title)
    return ax if nothing else legend_below(ax)
