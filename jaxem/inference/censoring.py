"""Censored cells: what a recording that censored the given data would have made of other values."""

from __future__ import annotations

import numpy as np

from jaxem.inputs import Interval


def record(values: np.ndarray, given: Interval, rng: np.random.Generator) -> Interval:
    """Complete values (B, n, ...) recorded B times as the cells of `given` (n, ...) were, column by column.

    What is assumed. Cells missing in `given` are missing. Where the intervals of a column's censored cells do not overlap, and
    no exact cell lies inside one, the limits are common to all rows, as in a Tobit model or in answers by brackets: a value
    inside an interval is known to lie there; all others are exact or, where no cell of the column is exact, known to lie
    between the limits next to them. Otherwise limits are each row's own, and do not depend on its value: a censored row is
    looked at, at the ends of its interval, and right-censored ones are cut there. Of rows with an exact cell the limit is
    not known but that it lies beyond: it is drawn from the Kaplan-Meier estimate of the distribution of right limits, given
    that (Efron 1981, JASA 76:312; Davison and Hinkley 1997, algorithm 3.1).
    """
    lower, upper = np.asarray(given.lower, values.dtype), np.asarray(given.upper, values.dtype)
    n = lower.shape[0]
    flat = values.reshape(len(values), n, -1)
    low, up = np.empty_like(flat), np.empty_like(flat)
    for j, (a, b) in enumerate(zip(lower.reshape(n, -1).T, upper.reshape(n, -1).T, strict=True)):
        low[..., j], up[..., j] = _record_column(flat[..., j], a, b, rng)
    shape = (len(values), *lower.shape)
    entry = given.entry
    return Interval(low.reshape(shape), up.reshape(shape), entry)


def _record_column(y: np.ndarray, lower: np.ndarray, upper: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    missing = np.isnan(lower) | (np.isneginf(lower) & np.isposinf(upper))
    exact = ~missing & (lower == upper)
    cut = ~missing & ~exact
    shared = common_limits(lower[cut], upper[cut], lower[exact])
    if shared is not None:
        low, up = _between(y, shared, coarse=not exact.any())
    else:
        low, up = _own(y, lower, upper, exact, cut, rng)
    return np.where(missing, -np.inf, low), np.where(missing, np.inf, up)


def common_limits(lower: np.ndarray, upper: np.ndarray, exact: np.ndarray) -> np.ndarray | None:
    """(m, 2) the different intervals, ascending, if they do not overlap and no exact value lies inside one; else None."""
    intervals = np.unique(np.stack([lower, upper], axis=1), axis=0)
    apart = (intervals[1:, 0] >= intervals[:-1, 1]).all()
    inside = ((exact[:, None] > intervals[:, 0]) & (exact[:, None] < intervals[:, 1])).any()
    return intervals if apart and not inside else None


def _between(y: np.ndarray, intervals: np.ndarray, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values known to lie in the interval they fall in; with `coarse`, in the gap between two where they fall in none."""
    ends = np.unique(intervals[np.isfinite(intervals)])
    grid = np.concatenate([[-np.inf], ends, [np.inf]])
    place = np.searchsorted(ends, y)
    low, up = grid[place], grid[place + 1]
    if coarse:
        return low, up
    known = (intervals[:, 0] == low[..., None]) & (intervals[:, 1] == up[..., None])
    inside = known.any(axis=-1)
    return np.where(inside, low, y), np.where(inside, up, y)


def _own(
    y: np.ndarray, lower: np.ndarray, upper: np.ndarray, exact: np.ndarray, cut: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Values looked at where their own rows were."""
    right = cut & np.isposinf(upper)
    limit = np.broadcast_to(np.where(right, lower, np.inf), y.shape)
    if right.any() and exact.any():
        drawn = draw_limits(lower[right], lower[exact], rng, len(y))
        limit = np.where(exact, _scatter(drawn, exact), limit)
    first = np.where(cut & ~right, lower, np.nan)  # ends of intervals that are closed above
    last = np.where(cut & ~right, upper, np.nan)
    low = np.select([y > limit, y <= first, y <= last, y > last], [limit, np.full_like(y, -np.inf), first + 0 * y, last + 0 * y], y)
    up = np.select([y > limit, y <= first, y <= last, y > last], [np.full_like(y, np.inf), first + 0 * y, last + 0 * y, np.inf], y)
    return low, up


def _scatter(drawn: np.ndarray, where: np.ndarray) -> np.ndarray:
    out = np.full((len(drawn), len(where)), np.inf)
    out[:, where] = drawn
    return out


def draw_limits(censored: np.ndarray, exact: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, m) right limits for m exact values from the Kaplan-Meier estimate of limits, given that they lie beyond the values.

    Infinite with the probability that the estimate leaves beyond the last limit seen.
    """
    times, events = np.unique(censored, return_counts=True)
    # limits exceed values that are equal to them, so that those are no longer at risk
    risk = np.array([(censored >= t).sum() + (exact > t).sum() for t in times])
    stays = np.cumprod(1 - events / risk)
    passed = np.concatenate([[0.0], 1 - stays])  # probability of a limit up to each time
    known = passed[np.searchsorted(times, exact, side="right")]
    u = known + (1 - known) * rng.random((count, len(exact)))
    return np.concatenate([times, [np.inf]])[np.searchsorted(passed[1:], u)]
