"""Raw data of any kind as a person sees them: columns with names, holes, bounds and covariates, as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxem.checks import check_categories, check_matrix
from jaxem.inputs import Interval, Regression
from jaxem.rows import Rows
from jaxem.sequences import Sequences, read_sequences

INTERCEPT = "intercept"


@dataclasses.dataclass(frozen=True)
class View:
    """What reports and pictures read of n rows and d columns."""

    y: np.ndarray  # (n, d) numbers, codes where cells are labels; NaN where missing or known only to lie in an interval
    columns: tuple[str, ...]  # d names
    labels: tuple[tuple[str, ...] | None, ...] | None = None  # of each column's categories, where cells are labels
    lower: np.ndarray | None = None  # (n, d) ends of the intervals, where cells are intervals
    upper: np.ndarray | None = None
    entry: np.ndarray | None = None  # (n,) left truncation
    x: np.ndarray | None = None  # (n, p) covariates of a regression
    covariates: tuple[str, ...] = ()  # p names
    intercept: bool = False
    offset: np.ndarray | None = None  # (n,)
    gate: np.ndarray | None = None  # (n, g) covariates of the state probabilities
    gates: tuple[str, ...] = ()  # g names
    parts: tuple[str, ...] = ()  # of which group each column is, where the data are groups of columns

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.y)

    @property
    def d(self) -> int:
        """Columns of y."""
        return self.y.shape[1]

    @property
    def regression(self) -> bool:
        """Whether rows are responses with covariates."""
        return self.x is not None

    @property
    def censored(self) -> np.ndarray:
        """(n, d) bool: cells known only to lie in an interval that is not the whole line."""
        if self.lower is None or self.upper is None:
            return np.zeros(self.y.shape, bool)
        return (self.upper > self.lower) & ~(np.isneginf(self.lower) & np.isposinf(self.upper))

    @property
    def missing(self) -> np.ndarray:
        """(n, d) bool: cells of which nothing is known."""
        return np.isnan(self.y) & ~self.censored

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the columns of the design matrix."""
        return (*([INTERCEPT] if self.intercept else []), *self.covariates)

    def category(self, column: int, code: int) -> str:
        """Name of a category of a column."""
        names = None if self.labels is None else self.labels[column]
        return str(code) if names is None or code >= len(names) else names[code]


def view_of(data: Any, names: Sequence[str] | None = None, *, model: Any = None) -> View:
    """The view of raw data; `names` are those of the columns of y.

    A `model` whose family deals the columns of a data frame to groups says which column is whose; several sequences stand one
    after another.

    Raises:
        TypeError: prepared data, which no longer hold their columns. ValueError: another number of names than columns.
    """
    if isinstance(data, Sequences) or (getattr(model, "sequential", False) and not isinstance(data, (View, Rows))):
        data = read_sequences(data)[0]
    dealt = getattr(getattr(model, "family", None), "_groups", None)
    if dealt is not None and not isinstance(data, (Mapping, View, Rows)):
        data = dealt(data)
    view = _read(data)
    if names is None:
        return view
    if len(names) != view.d:
        raise ValueError(f"names: found {len(names)} for {view.d} columns; give one for each.")
    return dataclasses.replace(view, columns=tuple(map(str, names)))


def _read(data: Any) -> View:
    if isinstance(data, View):
        return data
    if isinstance(data, Rows):
        raise TypeError("data: are prepared, and no longer hold their columns; give the raw data.")
    if isinstance(data, Regression):
        inner = _read(data.y)
        columns = inner.columns if _named(data.y) else (("y",) if inner.d == 1 else tuple(f"y{j}" for j in range(inner.d)))
        x, covariates = _columns(data.x, inner.n, "x")
        gate, gates = (None, ()) if data.gate is None else _columns(data.gate, inner.n, "g")
        offset = None if data.offset is None else np.asarray(data.offset, np.float64)
        more: dict[str, Any] = {"x": x, "covariates": covariates, "intercept": data.intercept, "offset": offset}
        more |= {"gate": gate, "gates": gates}
        return dataclasses.replace(inner, columns=columns, **more)
    if isinstance(data, Interval):
        lower, names = _columns(data.lower, None, "t", infinite=True)
        upper, _ = _columns(data.upper, None, "t", infinite=True)
        if not _named(data.lower) and len(names) == 1:
            names = ("time",)
        unknown = np.isnan(lower) & np.isnan(upper)
        lower, upper = np.where(unknown, -np.inf, lower), np.where(unknown, np.inf, upper)
        entry = None if data.entry is None else np.asarray(data.entry, np.float64)
        return View(np.where(lower == upper, lower, np.nan), names, lower=lower, upper=upper, entry=entry)
    if isinstance(data, Mapping):
        return _join({str(group): _read(part) for group, part in data.items()})
    try:
        y, found = check_matrix(data)
        return View(np.asarray(y, np.float64), found or _series(data) or tuple(f"x{j}" for j in range(y.shape[1])))
    except TypeError:
        codes, labels, found = check_categories(data)
        return View(np.asarray(codes, np.float64), found or tuple(f"x{j}" for j in range(codes.shape[1])), labels)


def _join(groups: dict[str, View]) -> View:
    """Groups of columns beside each other; names that several groups have are told apart by the group."""
    every = [name for view in groups.values() for name in view.columns]
    columns = [
        f"{group} {name}" if every.count(name) > 1 else name for group, view in groups.items() for name in view.columns
    ]
    labels = tuple(names for view in groups.values() for names in (view.labels or (None,) * view.d))
    parts = tuple(group for group, view in groups.items() for _ in view.columns)
    y = np.concatenate([view.y for view in groups.values()], axis=1)
    return View(y, tuple(columns), labels if any(names is not None for names in labels) else None, parts=parts)


def _named(data: Any) -> bool:
    if isinstance(data, Interval):
        return _named(data.lower)
    return (hasattr(data, "columns") and hasattr(data, "to_numpy")) or _series(data) is not None


def _series(data: Any) -> tuple[str, ...] | None:
    name = getattr(data, "name", None) if hasattr(data, "to_numpy") and getattr(data, "ndim", 2) == 1 else None
    return None if name is None else (str(name),)


def _columns(data: Any, n: int | None, letter: str, infinite: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n, p) float64 and its names; None is no column."""
    if data is None:
        return np.zeros((n or 0, 0)), ()
    names = tuple(map(str, data.columns)) if hasattr(data, "columns") else _series(data)
    array = np.asarray(data, np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if not infinite and array.shape[1] == 0:
        return array, ()
    return array, names or ((letter,) if array.shape[1] == 1 else tuple(f"{letter}{j}" for j in range(array.shape[1])))
