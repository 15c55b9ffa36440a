"""The profile likelihood of a param beside the quadratic that Wald's interval takes it for."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from jaxem.canvas import COLOURS, GREY, axes_or_new, legend_below, number
from jaxem.inference.profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEEP = 2.2  # times the fall at the limits: how far down the picture goes

SCALES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda x: x,
    np.log,
    lambda x: np.log(x) - np.log1p(-x),
)


def plot_profile(found: Profile, ax: Axes | None = None) -> Axes:
    """How far the log-likelihood falls when a param is held at other values, with the limits that `jaxem.profile` found.

    The dashed curve is the quadratic, on the scale of the param (its logarithm, its log-odds or itself), from which Wald's
    interval is read: where both agree, standard errors say all that there is to say. The level at which limits are read is
    half the chi-square quantile. A limit that is open, at the edge of the domain or infinite, is not drawn.

    Raises:
        ValueError: a profile without points.
    """
    if not len(found.values):
        raise ValueError("found: has no points; call jaxem.profile with points=21, for instance.")
    ax = axes_or_new(ax)
    z = NormalDist().inv_cdf((1 + found.level) / 2)
    fall = -0.5 * z * z
    x, curve = found.values, found.log_likelihoods - found.highest
    ax.axhline(fall, color=GREY, lw=1, zorder=0)
    dense = np.linspace(x.min(), x.max(), 401)
    ax.plot(dense, quadratic(found, dense), color=COLOURS[1], ls="--", lw=1.4, label=f"Wald {_told(*found.wald)}")
    sound = np.isfinite(curve)
    ax.plot(x[sound], curve[sound], color=COLOURS[0], lw=1.8, marker=".", ms=5, label=f"profile {_told(*found.interval)}")
    ax.plot([found.estimate], [0], "o", color="black", ms=6, zorder=4, label=f"estimate {number(found.estimate)}")
    for ends, colour, style in ((found.wald, COLOURS[1], "--"), (found.interval, COLOURS[0], "-")):
        for end in ends:
            if np.isfinite(end) and x.min() <= end <= x.max():
                ax.plot([end, end], [fall, DEEP * fall], color=colour, ls=style, lw=1)
    ax.margins(x=0.02)
    ax.set_ylim(DEEP * fall, -0.08 * fall)
    ax.locator_params(axis="x", nbins=5)
    name = found.name if len(found.name) <= 48 else f"{found.name[:47]}…"
    ax.set(xlabel=name.replace("$", r"\$"), ylabel="log-likelihood below its maximum")
    ax.set_title(f"Profile likelihood, {100 * found.level:g} % limits")
    return legend_below(ax)


def quadratic(found: Profile, x: np.ndarray) -> np.ndarray:
    """-((t(x) - t(estimate)) / se)^2 / 2 on the scale t on which Wald's limits are symmetric."""
    z = NormalDist().inv_cdf((1 + found.level) / 2)
    with np.errstate(all="ignore"):
        moved = [scale(np.array([found.wald[0], found.estimate, found.wald[1]])) for scale in SCALES]
        skew = [abs((t[2] - t[1]) - (t[1] - t[0])) / (t[2] - t[0]) for t in moved]
        best = int(np.nanargmin(skew))
        t, scale = moved[best], SCALES[best]
        return -0.5 * np.square(z * (scale(np.asarray(x, np.float64)) - t[1]) / (0.5 * (t[2] - t[0])))


def _told(lower: float, upper: float) -> str:
    return f"{number(lower)} to {number(upper)}"
