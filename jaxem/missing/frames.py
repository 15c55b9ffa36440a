"""Filled cells back into what they came in: arrays, data frames, groups of columns, regressions, sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxem.checks import is_traced
from jaxem.inputs import Interval, Regression
from jaxem.rows import Rows
from jaxem.sequences import Sequences
from jaxem.view import View, view_of


def check_raw(data: Any, model: Any) -> View:
    """The cells of raw data as they stand in the model.

    Raises:
        TypeError: prepared or traced data, and intervals, whose cells no draw here stays within.
    """
    if is_traced(data):
        raise TypeError("data: are traced; missing cells are filled in concrete data, outside of jit.")
    if isinstance(data, Rows):
        raise TypeError("data: are prepared, and no longer hold their cells; give the raw data.")
    view = view_of(data, model=model)
    if view.lower is not None:
        raise TypeError("data: found an Interval; cells known only to lie in an interval are not drawn. Give exact cells or NaN.")
    return view


def fill(data: Any, view: View, values: np.ndarray) -> Any:
    """A copy of `data` with the missing cells of its `view` replaced by `values` (n, d): labels where cells are labels.

    Observed cells stay as they were given, and so does the kind of container: a data frame is answered by a data frame, with
    its index, its other columns and its order of columns.
    """
    if isinstance(data, Sequences):
        return dataclasses.replace(data, y=_fill_sequences(data, view, values))
    if isinstance(data, (list, tuple)) and not _is_row(data):
        cuts = np.cumsum([len(_leaf(part)) for part in data])[:-1]
        parts = zip(data, np.split(values, cuts), np.split(view.y, cuts), strict=True)
        return type(data)([fill(part, dataclasses.replace(view, y=y), own) for part, own, y in parts])  # type: ignore[arg-type]
    if isinstance(data, Regression):
        return dataclasses.replace(data, y=fill(data.y, view, values))
    if isinstance(data, Mapping):
        out = {}
        for name, part in data.items():
            own = [j for j, group in enumerate(view.parts) if group == str(name)]
            labels = None if view.labels is None else tuple(view.labels[j] for j in own)
            columns = tuple(view.columns[j].removeprefix(f"{name} ") for j in own)
            inner = View(view.y[:, own], columns, labels)
            out[name] = fill(part, inner, values[:, own])
        return out
    if isinstance(data, Interval):  # refused by `check_raw`
        raise TypeError("data: found an Interval.")
    if hasattr(data, "iloc"):
        return _fill_pandas(data, view, values)
    return _fill_array(data, view, values)


def _is_row(data: Any) -> bool:
    """Whether a list is one array of numbers and no list of sequences."""
    return len(data) == 0 or np.isscalar(data[0]) or (isinstance(data[0], (list, tuple)) and np.isscalar(data[0][0]))


def _leaf(part: Any) -> Any:
    """An array as long as the rows of one sequence."""
    if isinstance(part, Regression):
        return _leaf(part.y)
    return _leaf(next(iter(part.values()))) if isinstance(part, Mapping) else part


def _fill_sequences(data: Sequences, view: View, values: np.ndarray) -> Any:
    if isinstance(data.y, (Regression, Mapping)) or hasattr(data.y, "iloc") or np.ndim(data.y) < 3:
        return fill(data.y, view, values)
    out = np.array(data.y, copy=True)  # padded: rows of a sequence from its start
    kept = np.arange(out.shape[1]) < np.asarray(data.lengths)[:, None]
    out[kept] = _fill_array(out[kept], view, values)
    return out


def _fill_pandas(data: Any, view: View, values: np.ndarray) -> Any:
    out = data.copy()
    if out.ndim == 1:
        return _filled_column(out, view, values, 0)
    place = {str(name): name for name in out.columns}
    for j, name in enumerate(view.columns):
        if np.isnan(view.y[:, j]).any():
            out[place[name]] = _filled_column(out[place[name]], view, values, j)
    return out


def _filled_column(column: Any, view: View, values: np.ndarray, j: int) -> Any:
    """A pandas series with its missing cells filled; whole numbers become floats where they have to hold a fraction."""
    gone = np.isnan(view.y[:, j])
    if not gone.any():
        return column
    new = _cells(view, values[gone, j], j)
    if not hasattr(column, "cat") and column.dtype.kind in "iufb" and not isinstance(column.dtype, np.dtype):
        column = column.astype("Float64")  # pandas' own whole numbers cannot hold a fraction
    column = column.copy()
    column.iloc[np.flatnonzero(gone)] = new
    return column


def _fill_array(data: Any, view: View, values: np.ndarray) -> np.ndarray:
    out = np.array(data, copy=True)
    flat = out.reshape(len(view.y), -1)
    if out.dtype.kind in "biu":
        return out
    for j in range(flat.shape[1]):
        gone = np.isnan(view.y[:, j])
        if gone.any():
            flat[gone, j] = _cells(view, values[gone, j], j)
    return flat.reshape(out.shape)


def _cells(view: View, numbers: np.ndarray, j: int) -> Any:
    """Numbers as they are, codes as the labels that they stand for."""
    names = None if view.labels is None else view.labels[j]
    return numbers if names is None else [names[int(code)] for code in numbers]


def blank(data: Any, view: View, rows: np.ndarray, column: int) -> Any:
    """A copy of `data` in which the cells of `column` in `rows` (n,) bool are missing."""
    gone = np.full(view.y.shape, 0.0)
    gone[rows, column] = np.nan
    return fill(data, dataclasses.replace(view, y=np.where(np.isnan(gone), np.nan, 0.0), labels=None), gone)
