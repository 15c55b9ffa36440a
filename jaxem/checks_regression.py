"""Checks of responses with covariates. Each raises before anything compiles, naming the argument, what was found, what to do."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxem.checks import _label, check_matrix, float_dtype, is_traced
from jaxem.inputs import Interval, Regression


class Checked(NamedTuple):
    """Responses and covariates of one float dtype: NumPy arrays where concrete, JAX ones where traced."""

    y: Any  # (n,), NaN where missing; or an Interval of such, with infinite ends
    x: Any  # (n, p)
    offset: Any  # (n,) or None
    intercept: bool
    columns: tuple[str, ...] | None  # names of the response and the covariates, where they have any
    traced: bool

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the covariates."""
        return None if self.columns is None else self.columns[1:]


def check_regression(data: Any, family: str, intervals: bool = False) -> Checked:
    """`Regression` data, checked.

    Args:
        data: what the user gave.
        family: its name, for messages.
        intervals: whether y may be an `Interval`; a plain y then becomes one of exact cells.

    Raises:
        TypeError: other data, cells that are no numbers. ValueError: wrong shapes, missing or infinite covariates, interval
            ends in the wrong order.
    """
    if not isinstance(data, Regression):
        hint = "" if isinstance(data, Interval) else " (for no covariates, Regression(y))"
        raise TypeError(f"y: found {type(data).__name__}; {family} takes Regression(y, x){hint}.")
    if not isinstance(data.intercept, (bool, np.bool_)):
        raise TypeError(f"intercept: found {data.intercept!r}; give True or False.")
    given = Interval(data.y, data.y) if intervals and not isinstance(data.y, Interval) else data.y
    if isinstance(given, Interval):
        if not intervals:
            raise TypeError(f"y: found Interval; {family} takes exact responses. CensoredRegression takes intervals.")
        parts = [_vector(given.lower, "y.lower", True), _vector(given.upper, "y.upper", True)]
        if given.entry is not None:
            parts.append(_vector(given.entry, "y.entry", True))
        first = "y.lower"
    else:
        parts, first = [_vector(given, "y", False)], "y"
    n = len(parts[0])
    for part, name in zip(parts[1:], ("y.upper", "y.entry"), strict=False):
        _same(part, n, name, first)
    x, names = _covariates(data.x, n)
    if len(x) != n:
        raise ValueError(f"x: found {len(x)} rows for {n} responses; give one row of covariates for each.")
    if x.shape[1] == 0 and not data.intercept:
        raise ValueError("x: found no covariates and no intercept, which leaves nothing to fit; give either.")
    dtype = np.result_type(*(part.dtype for part in parts), *([x.dtype] if x.shape[1] else []))
    offset = None
    if data.offset is not None:
        offset = _vector(data.offset, "offset", False)
        _same(offset, n, "offset", first)
        if not is_traced(offset) and np.isnan(offset).any():
            raise ValueError(f"offset: is missing in row {int(np.flatnonzero(np.isnan(offset))[0])}; give a number for every row.")
        offset = offset.astype(dtype)
    parts = [part.astype(dtype) for part in parts]
    traced = is_traced((parts, x, offset))
    y = parts[0] if not isinstance(given, Interval) else _ordered(Interval(*parts), traced)
    columns = (_name(data.y), *(names or tuple(map(str, range(x.shape[1])))))
    labelled = names is not None or columns[0] != "y"
    return Checked(y, x.astype(dtype), offset, bool(data.intercept), columns if labelled else None, traced)


def _name(y: Any) -> str:
    name = getattr(y.lower if isinstance(y, Interval) else y, "name", None)
    return "y" if name is None else str(name)


def _vector(values: Any, name: str, infinite: bool) -> Any:
    """(n,) of a float dtype."""
    if not infinite:
        array, _ = check_matrix(values, name)
        if array.shape[1] != 1:
            raise ValueError(f"{name}: found {array.shape[1]} columns; give one response a row, (n,).")
        return array[:, 0]
    if is_traced(values):
        array = jnp.asarray(values)
    else:
        try:
            array = np.asarray(values if not hasattr(values, "to_numpy") else values.to_numpy(np.float64, na_value=np.nan))
            array = array.astype(float_dtype(array.dtype) if array.dtype.kind in "biuf" else np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: found cells that are not numbers; give numbers, infinite where an end is open.") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.shape[0] == 0:
        raise ValueError(f"{name}: found shape {array.shape}; give one number a row, (n,), not empty.")
    return array.astype(float_dtype(array.dtype))


def _same(part: Any, n: int, name: str, first: str) -> None:
    if len(part) != n:
        raise ValueError(f"{name}: found {len(part)} rows where {first} has {n}; give one number for each row.")


def _covariates(x: Any, n: int) -> tuple[Any, tuple[str, ...] | None]:
    if x is None or (np.ndim(x) == 2 and np.shape(x)[1] == 0):
        if x is not None and len(x) != n:
            raise ValueError(f"x: found {len(x)} rows for {n} responses; give one row of covariates for each.")
        return np.zeros((n, 0), np.float32), None
    array, names = check_matrix(x, "x")
    if names is None and getattr(x, "name", None) is not None and not is_traced(x):
        names = (str(x.name),)
    if not is_traced(array) and np.isnan(array).any():
        row, column = np.argwhere(np.isnan(array))[0]
        found = f"column {_label(names, column)} is missing in {int(np.isnan(array[:, column]).sum())} rows, the first {row}"
        raise ValueError(f"x: {found}; a regression needs every covariate: drop these rows or fill them in.")
    return array, names


def _ordered(y: Interval, traced: bool) -> Interval:
    """Ends in order; NaN at both ends is no knowledge, (-inf, inf); NaN of `entry` is no truncation."""
    where = jnp.where if traced else np.where
    lower, upper, entry = y.lower, y.upper, y.entry
    if not traced:
        half = np.isnan(lower) != np.isnan(upper)
        if half.any():
            row = int(np.flatnonzero(half)[0])
            raise ValueError(f"y: one end is NaN in row {row}; give -inf or inf for an open end, NaN at both for a missing cell.")
        wrong = (lower > upper) | ((lower == upper) & np.isinf(lower))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            found = f"lower {lower[row]:g} and upper {upper[row]:g} in row {row}"
            raise ValueError(f"y: {int(wrong.sum())} intervals are not in order, the first with {found}; give lower <= upper.")
        late = np.zeros(len(lower), bool) if entry is None else entry >= np.where(np.isnan(upper), np.inf, upper)
        if late.any():
            row = int(np.flatnonzero(late)[0])
            found = f"entry {entry[row]:g} and upper {upper[row]:g} in row {row}"
            raise ValueError(f"y.entry: {int(late.sum())} cells end before they enter, the first with {found}; give entry < upper.")
    missing = lower != lower
    lower, upper = where(missing, -np.inf, lower), where(missing, np.inf, upper)
    if entry is not None:
        entry = where(entry != entry, -np.inf, entry).astype(lower.dtype)
    return Interval(lower.astype(y.lower.dtype), upper.astype(y.lower.dtype), entry)
