"""Series with the periods of their regimes shaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.canvas import GREY, axes_or_new, check_drawable, colours, legend_below, short
from jaxem.sequences import read_sequences
from jaxem.view import view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADE = 0.22  # opacity of a period
LEVELS = ("mean", "variance", "dispersion")  # shown beside a regime's number, the first that there is


def plot_regimes(
    model: Any,
    params: Any,
    data: Any,
    ax: Axes | None = None,
    *,
    sequence: int = 0,
    column: int = 0,
    time: Any = None,
    names: Sequence[str] | None = None,
    paths: str = "smooth",
) -> Axes:
    """One series as a line over its steps, behind it each period in the colour of its likeliest regime.

    Below the series runs a band of the smoothed probabilities of all regimes, so that what is doubtful is seen to be. The regime
    that takes most steps is left white.

    Args:
        model: one with `smooth` and `viterbi`, for instance `MarkovSwitching`, `HiddenMarkov` or `HiddenSemiMarkov`.
        params: of a fit.
        data: raw data, one or several series.
        sequence: which series.
        column: which column of it is drawn.
        time: (T,) its times, numbers or dates; default a data frame's index, else the number of the step.
        names: of the columns.
        paths: "smooth", periods by the most probable regime of each step; or "viterbi", those of the likeliest path.

    Raises:
        TypeError: a model without a likeliest path. ValueError: another `paths`; times that are not as many as steps.
    """
    check_drawable(model, "viterbi", "likeliest path")
    if paths not in ("smooth", "viterbi"):
        raise ValueError(f"paths: found {paths!r}; give 'smooth' or 'viterbi'.")
    ax = axes_or_new(ax)
    whole, lengths = read_sequences(data)
    end = int(np.cumsum(lengths)[sequence])
    own = slice(end - int(lengths[sequence]), end)
    view = view_of(whole, names)
    y = view.y[own, column]
    at = _times(whole, own) if time is None else np.asarray(time)
    if len(at) != len(y):
        raise ValueError(f"time: found {len(at)} times for {len(y)} steps.")
    smooth = np.asarray(model.smooth(params, data))[own]
    path = smooth.argmax(axis=1) if paths == "smooth" else np.asarray(model.viterbi(params, data))[own]
    k = smooth.shape[1]
    common = int(np.bincount(path, minlength=k).argmax())
    edges = _edges(at)
    for regime, colour in enumerate(colours(k)):
        if regime != common:
            for begin, stop in _periods(path == regime):
                ax.axvspan(edges[begin], edges[stop], color=colour, alpha=SHADE, lw=0, zorder=0)
    ax.plot(at, y, color="#333333", lw=1, marker="." if np.isnan(y).any() else None, ms=3, zorder=2)
    ax.set(xlim=(edges[0], edges[-1]), ylabel=short(view.columns)[column], title=_title(paths))
    ax.set_xlabel("step" if (at == np.arange(len(y))).all() else "")
    band = ax.inset_axes((0, 0, 1, 0.12))
    heights = np.concatenate([np.zeros((len(y), 1)), np.cumsum(smooth, axis=1)], axis=1)
    steps = np.repeat(edges, 2)[1:-1]
    for regime, colour in enumerate(colours(k)):
        below, above = (np.repeat(heights[:, regime + i], 2) for i in (0, 1))
        band.fill_between(steps, below, above, lw=0, **_shade(regime == common, colour))
    band.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), yticks=[], xticks=[])
    low, high = np.nanmin(y), np.nanmax(y)
    room = high - low if high > low else 1.0
    ax.set_ylim(low - 0.25 * room, high + 0.06 * room)
    ax.set_yticks([tick for tick in ax.get_yticks() if low - 0.08 * room <= tick <= high + 0.06 * room])  # none beside the band
    for regime, colour in enumerate(colours(k)):
        label = f"regime {regime}{_level(model, params, regime)}"
        ax.fill_between([], [], [], label=label, **_shade(regime == common, colour))
    return legend_below(ax)


def _times(whole: Any, own: slice) -> np.ndarray:
    """The index of a series or frame where it is in order, else whole numbers."""
    index = np.asarray(whole.index)[own] if hasattr(whole, "iloc") else np.zeros(0)
    steps = np.arange(own.stop - own.start)
    ordered = index.dtype.kind in "iufM" and len(index) > 1 and bool((np.diff(index) > np.zeros(1, np.diff(index).dtype)).all())
    return index if ordered and own.start == 0 else steps


def _shade(common: bool, colour: Any) -> dict[str, Any]:
    return {"color": GREY, "alpha": 0.35} if common else {"color": colour, "alpha": 0.9}


def _title(paths: str) -> str:
    how = "most probable at each step" if paths == "smooth" else "on the likeliest path"
    return f"Regimes {how}; below, probabilities"


def _edges(at: np.ndarray) -> np.ndarray:
    """(T + 1,) middles between times, and as far out at both ends."""
    if len(at) == 1:
        step = np.timedelta64(1, "D") if np.issubdtype(at.dtype, np.datetime64) else 1
        return np.array([at[0], at[0] + step])
    gaps = np.diff(at) / 2
    return np.concatenate([[at[0] - gaps[0]], at[:-1] + gaps, [at[-1] + gaps[-1]]])


def _periods(inside: np.ndarray) -> list[tuple[int, int]]:
    """First steps of the periods in which `inside` holds, and the first steps after them."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]])))
    return list(zip(change[::2].tolist(), change[1::2].tolist(), strict=True))


def _level(model: Any, params: Any, regime: int) -> str:
    """A regime's mean or, where regimes share it, its variance."""
    levels = getattr(model, "levels", None)
    if levels is not None and np.ptp(np.asarray(levels(params))) > 0:
        return f" (mean {float(np.asarray(levels(params))[regime]):.3g})"
    holder = getattr(params, "emissions", params)
    for name in LEVELS:
        values = np.asarray(getattr(holder, name, np.nan), np.float64)
        if values.ndim and values.shape[0] > regime and values[regime].size == 1:
            return f" ({name} {values[regime].item():.3g})"
    return ""
