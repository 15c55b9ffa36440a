"""How `Gaussian` reads cells that are known only to lie in an interval."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, check_weights, is_traced
from jaxem.data import moments_of
from jaxem.inputs import Interval
from jaxem.kernels.censored import Cells
from jaxem.kernels.rectangle import MOST
from jaxem.layout import Patterns, find_patterns
from jaxem.rows import Table


def read(data: Interval, weights: Any, missing: bool | None, cellwise: bool) -> Table | tuple[Any, tuple[str, ...] | None]:
    """The table of interval data; or, where no cell is censored, the exact cells, NaN where missing, and the columns' names.

    Raises:
        TypeError, ValueError: as `check_matrix`; ends of different shapes, crossed, infinite on the wrong side or half missing;
            left truncation; more than `MOST` censored cells in a row, and traced ends, unless `cellwise`.
    """
    if data.entry is not None:
        raise ValueError("entry: Gaussian has no left truncation; leave it out, or take a family of survival times.")
    lower, columns = _ends(data.lower, "lower", np.inf)
    upper, _ = _ends(data.upper, "upper", -np.inf)
    if lower.shape != upper.shape:
        raise ValueError(f"upper: found shape {upper.shape} beside lower of shape {lower.shape}; give the same shape.")
    dtype = np.result_type(lower.dtype, upper.dtype)
    lower, upper = lower.astype(dtype), upper.astype(dtype)
    if is_traced((lower, upper)):
        return _read_traced(lower, upper, weights, cellwise)
    _check_ends(lower, upper, columns)
    unknown = np.isnan(lower)
    lower, upper = np.where(unknown, -np.inf, lower), np.where(unknown, np.inf, upper)
    seen = np.isfinite(lower) | np.isfinite(upper)
    exact = seen & (lower == upper)
    if missing is None and not (seen & ~exact).any():
        return np.where(exact, lower, np.nan).astype(dtype), columns
    pilot = _middle(lower, upper, np)
    origin = moments_of(pilot, weights)[0].astype(dtype)
    censored = seen & ~exact
    n, d = lower.shape
    if cellwise:
        patterns, place = None, np.broadcast_to(np.arange(d), (n, d))
    else:
        most = int(censored.sum(axis=1).max())
        if most > MOST:
            row = int(np.argmax(censored.sum(axis=1)))
            raise ValueError(
                f"y: row {row} has {most} censored cells; a dense covariance takes up to {MOST} in one row. "
                'Give covariance="diagonal", or set all but the most telling cells of such rows to missing.'
            )
        width = min(d, MOST) if missing else max(most, 1)
        order = np.argsort(np.where(censored, np.arange(1, d + 1), 0), axis=1, kind="stable")
        patterns, place = _by_count(find_patterns(np.concatenate([seen, censored], axis=1))), order[:, d - width :]
    kept = np.take_along_axis(censored, place, axis=1)
    with np.errstate(invalid="ignore"):
        ends = [np.take_along_axis(part, place, axis=1) for part in (lower - origin, upper - origin, upper - lower)]
    parts: list[Any] = [np.where(exact, np.where(exact, lower, 0) - origin, 0).astype(dtype), seen.astype(dtype)]
    fills = (-np.inf, np.inf, np.inf)
    parts += [np.where(kept, part, fill).astype(dtype) for part, fill in zip(ends, fills, strict=True)]
    cells = Cells(*parts)
    return Table(cells, pilot - origin, origin, d, d, seen.any(axis=1), True, None, patterns, columns)


def _read_traced(lower: jax.Array, upper: jax.Array, weights: Any, cellwise: bool) -> Table:
    if not cellwise:
        raise ValueError("y: the ends of intervals are traced; which cells are censored cannot be looked at. Prepare them outside "
                         'of jit, or give covariance="diagonal".')  # fmt: skip
    n, d = lower.shape
    seen = jnp.isfinite(lower) | jnp.isfinite(upper)
    exact = seen & (lower == upper)
    censored = seen & ~exact
    pilot = _middle(lower, upper, jnp)
    mass = check_weights(weights, n, lower.dtype)[:, None] * ~jnp.isnan(pilot)
    origin = jax.lax.stop_gradient((mass * jnp.nan_to_num(pilot)).sum(0) / jnp.maximum(mass.sum(0), 1e-30))
    cells = Cells(
        jnp.where(exact, jnp.where(exact, lower, 0) - origin, 0),
        seen.astype(lower.dtype),
        jnp.where(censored, lower - origin, -jnp.inf),
        jnp.where(censored, upper - origin, jnp.inf),
        jnp.where(censored, upper - lower, jnp.inf),
    )
    return Table(cells, jnp.nan_to_num(pilot - origin), origin, d, d)


def _ends(end: Any, name: str, wrong: float) -> tuple[Any, tuple[str, ...] | None]:
    """One end as an (n, d) float array, infinite on its own side only, and the names of its columns."""
    if is_traced(end):
        return check_matrix(end, name)
    frame = hasattr(end, "columns") and hasattr(end, "to_numpy")
    array = np.asarray(end.to_numpy(dtype=np.float64, na_value=np.nan) if frame else end)
    infinite = np.isinf(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    if (array[infinite] == wrong).any():
        row = int(np.argwhere(infinite & (array == wrong))[0][0])
        own = "-inf" if wrong > 0 else "inf"
        raise ValueError(f"{name}: is {wrong} in row {row}; an end that is not known is {own} in {name}.")
    checked, _ = check_matrix(np.where(infinite, 0, array) if infinite.any() else array, name)
    checked = np.where(infinite.reshape(checked.shape), -wrong, checked).astype(checked.dtype)
    return checked, tuple(str(c) for c in end.columns) if frame else None


def _check_ends(lower: np.ndarray, upper: np.ndarray, columns: tuple[str, ...] | None) -> None:
    for bad, what in (
        (np.isnan(lower) != np.isnan(upper), "is missing at one end only; give -inf or inf there, or NaN at both ends"),
        (lower > upper, "has lower > upper; exchange them"),
    ):
        if bad.any():
            row, column = np.argwhere(bad)[0]
            label = str(column) if columns is None else repr(columns[column])
            found = f"[{lower[row, column]:g}, {upper[row, column]:g}] in row {row}, column {label}"
            raise ValueError(f"y: {int(bad.sum())} cells are no intervals, the first {found} {what}.")


def _middle(lower: Any, upper: Any, xp: Any) -> Any:
    """What starting values look at: the middle, or the one end there is; NaN where missing."""
    low, high = xp.isfinite(lower), xp.isfinite(upper)
    safe_low, safe_high = xp.where(low, lower, 0), xp.where(high, upper, 0)
    middle = safe_low + 0.5 * (safe_high - safe_low)
    return xp.where(low & high, middle, xp.where(low, safe_low, xp.where(high, safe_high, xp.nan)))


def _by_count(patterns: Patterns) -> Patterns:
    """Patterns in order of how many cells are censored, so that rows with many of them share blocks."""
    d = patterns.table.shape[1] // 2
    order = np.argsort(patterns.table[:, d:].sum(axis=1), kind="stable")
    place = np.argsort(order)
    return Patterns(patterns.table[order], place[patterns.of_row], patterns.counts[order])
