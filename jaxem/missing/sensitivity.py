"""What becomes of a result if cells are not missing at random: imputations shifted by more and more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxem.missing.frames import check_raw, fill
from jaxem.missing.multiple import impute
from jaxem.missing.rubin import Pooled, pool
from jaxem.parameters import number, text_table

HALVINGS = 50


class DeltaSensitivity(NamedTuple):
    """One pooled quantity over a range of shifts; arrays (D,)."""

    column: str
    deltas: np.ndarray  # ascending
    estimate: np.ndarray
    standard_error: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p: np.ndarray  # two-sided, of the hypothesis `null`
    missing_information: np.ndarray
    tipping: tuple[float, ...]  # shifts within the range at which the interval begins or ceases to hold `null`, ascending
    null: float
    level: float
    draws: int

    def __str__(self) -> str:
        percent = f"{100 * self.level:g} %"
        header = [f"shift of {self.column}", "estimate", "std. error", f"{percent} from", "to", "p"]
        columns = (self.deltas, self.estimate, self.standard_error, self.lower, self.upper, self.p)
        text = text_table(header, [list(map(number, row)) for row in zip(*columns, strict=True)])
        return f"{text}\n{self.verdict}"

    @property
    def verdict(self) -> str:
        """What the range says, in a sentence."""
        ends = f"shifts from {number(self.deltas[0])} to {number(self.deltas[-1])}"
        if not self.tipping:
            holds = bool((self.lower[0] <= self.null) & (self.null <= self.upper[0]))
            which = "holds" if holds else "leaves out"
            return f"No tipping point: the interval {which} {self.null:g} at all {ends}."
        nearest = min(self.tipping, key=abs)
        rest = "" if len(self.tipping) == 1 else f" (there are {len(self.tipping)})"
        changes = f"whether the interval holds {self.null:g} changes at a shift of {number(nearest)}{rest}"
        return f"Tipping point: {changes}; tried: {ends}."

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a shift (pandas must be installed)."""
        import pandas as pd

        names = ("deltas", "estimate", "standard_error", "lower", "upper", "p", "missing_information")
        return pd.DataFrame({name.removesuffix("s") if name == "deltas" else name: getattr(self, name) for name in names})


def delta_sensitivity(
    model: Any, params: Any, data: Any, column: Any, deltas: Sequence[float], estimate: Callable[[Any], tuple[float, float]], *,
    null: float = 0.0, where: Any = None, draws: int = 20, method: str = "bootstrap", key: Any, dof: float = math.inf,
    level: float = 0.95, weights: Any = None,
) -> DeltaSensitivity:  # fmt: skip
    """Pooled results where every imputed cell of a column is delta more than it would be if missing at random.

    A pattern-mixture model: cells that are missing are distributed as those that are seen, given the others, but for a shift
    that no data tell and that is therefore tried over a range (Rubin 1977, JASA 72:538; Little 1993, JASA 88:125). At 0 the
    result is the one under missing at random; the tipping point is the shift at which the conclusion changes. The same draws
    serve every shift, so that results move with delta alone.

    Args:
        model, params, data, draws, method, key, weights: as for `jaxem.impute`.
        column: name of the column that is shifted, or its number.
        deltas: shifts, in units of the column; at least two.
        estimate: completed data set -> (estimate, its variance), numbers, as `jaxem.pool` takes them.
        null: value whose being in the interval is what matters.
        where: (n,) bool, rows whose imputations are shifted, for instance one arm of a trial; default all.
        dof, level: as for `jaxem.pool`.

    Raises:
        TypeError, ValueError: as `jaxem.impute` and `jaxem.pool`; a column that is not there, holds labels, or has no missing cell;
            fewer than two shifts; `where` of another length; `estimate` that gives something else than two numbers.
    """
    view = check_raw(data, model)
    j = _place(view, column)
    shifts = _shifts(deltas)
    if not callable(estimate):
        raise TypeError(f"estimate: found {type(estimate).__name__}; give a function: data set -> (estimate, variance).")
    moved = np.isnan(view.y[:, j])
    if where is not None:
        chosen = np.asarray(where)
        if chosen.shape != moved.shape or chosen.dtype != bool:
            raise ValueError(f"where: found shape {chosen.shape} of {chosen.dtype}; give {view.n} booleans, one a row.")
        moved = moved & chosen
    if not moved.any():
        rows = " in these rows" if where is not None else ""
        raise ValueError(f"column: no cell of {view.columns[j]!r} is missing{rows}.")
    if draws == 1:
        raise ValueError("draws: found 1; at least 2 are needed to pool.")
    found = impute(model, params, data, draws=draws, method=method, key=key, weights=weights)
    cells = [check_raw(each, model).y for each in found]

    def at(delta: float) -> Pooled:
        shifted = [values + delta * _indicator(values.shape, moved, j) for values in cells]
        return pool(*_estimates(estimate, [fill(data, view, values) for values in shifted]), dof=dof, level=level)

    pooled = [at(float(delta)) for delta in shifts]
    values = {
        name: np.array([float(getattr(each, name)[0]) for each in pooled])
        for name in ("estimate", "standard_error", "lower", "upper")
    }
    tipping = []
    for name in ("lower", "upper"):
        above = values[name] > null
        for i in np.flatnonzero(above[:-1] != above[1:]):
            tipping.append(_cross(lambda d: float(getattr(at(d), name)[0]) - null, shifts[i], shifts[i + 1]))  # noqa: B023
    p = np.array([float(each.p_value(null)[0]) for each in pooled])
    missing = np.array([float(each.missing_information[0]) for each in pooled])
    return DeltaSensitivity(
        column=view.columns[j], deltas=shifts, **values, p=p, missing_information=missing, tipping=tuple(sorted(tipping)),
        null=float(null), level=float(level), draws=len(found),
    )  # fmt: skip


def _indicator(shape: tuple[int, ...], rows: np.ndarray, column: int) -> np.ndarray:
    out = np.zeros(shape)
    out[rows, column] = 1
    return out


def _cross(value: Callable[[float], float], low: float, high: float) -> float:
    """Where `value` changes its sign between two shifts, by bisection."""
    above = value(low) > 0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        low, high = (middle, high) if (value(middle) > 0) == above else (low, middle)
    return 0.5 * (low + high)


def _place(view: Any, column: Any) -> int:
    if isinstance(column, str):
        if column not in view.columns:
            raise ValueError(f"column: found {column!r}; there are {', '.join(map(repr, view.columns))}.")
        j = view.columns.index(column)
    elif isinstance(column, (int, np.integer)) and not isinstance(column, bool) and 0 <= column < view.d:
        j = int(column)
    else:
        raise ValueError(f"column: found {column!r}; give a name, or a number from 0 to {view.d - 1}.")
    if view.labels is not None and view.labels[j] is not None:
        raise TypeError(f"column: {view.columns[j]!r} holds labels, which cannot be shifted.")
    return j


def _shifts(deltas: Any) -> np.ndarray:
    try:
        out = np.unique(np.asarray(deltas, np.float64))
    except (TypeError, ValueError) as error:
        raise TypeError("deltas: found values that are not numbers; give shifts in units of the column.") from error
    if out.size < 2 or not np.isfinite(out).all():
        raise ValueError(f"deltas: found {out.size} different finite shifts; give at least two, as np.linspace(-2, 2, 9).")
    return out


def _estimates(estimate: Any, datasets: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [estimate(each) for each in datasets]
    for each in pairs:
        if not (isinstance(each, (tuple, list, np.ndarray)) and len(each) == 2 and all(np.ndim(part) == 0 for part in each)):
            raise TypeError(f"estimate: returned {each!r}; return two numbers, (estimate, variance).")
    array = np.array(pairs, np.float64)
    return array[:, 0], array[:, 1]
