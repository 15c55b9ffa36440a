"""Observed cells imputed as if they were missing: does the model tell what is there?"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.checks import as_key, check_count
from jaxem.coordinates import cast, check_params
from jaxem.data import prepare
from jaxem.missing.drawing import check_draws, draw_cells
from jaxem.missing.frames import blank, check_raw
from jaxem.missing.multiple import check_method
from jaxem.missing.params_draws import draw_params
from jaxem.parameters import number, text_table

FOLDS = 10  # of steps of sequences that are blanked together, so that those about them stay


class Overimputation(NamedTuple):
    """Each observed cell beside what is imputed for it; arrays (c,) over cells."""

    columns: tuple[str, ...]
    row: np.ndarray
    column: np.ndarray  # place in `columns`
    observed: np.ndarray
    mean: np.ndarray  # of the imputations
    lower: np.ndarray  # of the interval that holds a share `level` of what is imputed
    upper: np.ndarray
    missing: np.ndarray  # cells of the row that are missing besides
    level: float
    draws: int
    remarks: tuple[str, ...] = ()

    @property
    def inside(self) -> np.ndarray:
        """(c,) bool: whether the observed value lies in its interval."""
        return (self.lower <= self.observed) & (self.observed <= self.upper)

    @property
    def coverage(self) -> np.ndarray:
        """(d,) share of the cells of each column that lie in their intervals: near `level` under a model that fits; NaN where a
        column was not tried."""
        counts = [self.inside[self.column == j] for j in range(len(self.columns))]
        return np.array([own.mean() if own.size else np.nan for own in counts])

    def __str__(self) -> str:
        error = [np.sqrt(np.square(self.observed - self.mean)[self.column == j].mean()) for j in np.unique(self.column)]
        lines = [
            [self.columns[j], str(int((self.column == j).sum())), number(self.coverage[j]), number(each)]
            for j, each in zip(np.unique(self.column), error, strict=True)
        ]
        text = text_table(["column", "cells", "coverage", "root mean square error"], lines)
        said = f"of intervals that should hold {self.level:.0%}, from {self.draws} imputations a cell"
        return "\n".join([text, said, *self.remarks])

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a cell (pandas must be installed)."""
        import pandas as pd

        named = {"row": self.row, "column": [self.columns[j] for j in self.column]}
        shown = {name: getattr(self, name) for name in ("observed", "mean", "lower", "upper", "inside", "missing")}
        return pd.DataFrame({**named, **shown})


def overimpute(
    model: Any, params: Any, data: Any, *, draws: int = 100, level: float = 0.9, method: str = "bootstrap", key: Any,
    weights: Any = None,
) -> Overimputation:  # fmt: skip
    """Every observed cell imputed `draws` times from the other cells of its row (in sequences, also from the steps about it), as
    if it were missing (Honaker, King and Blackwell 2011, J. Stat. Software 45(7)).

    Under a model that fits, intervals that hold a share `level` of the imputations hold that share of the observed cells: ends
    are quantiles k / (draws + 1) of the imputations, whose coverage is exact where the cell is one more draw. Params are those
    of fits that have seen the cell, so that coverage is a little too good where rows are few. It says nothing of whether cells are
    missing at random.

    Args:
        model, params, data, method, key, weights: as for `jaxem.impute`.
        draws: imputations of a cell.
        level: of the intervals.

    Raises:
        TypeError, ValueError: as `jaxem.impute`; level out of (0, 1); a level that needs more draws.
    """
    view = check_raw(data, model)
    draws = check_count(draws, "draws")
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}; give a number between 0 and 1, for instance 0.9.")
    if (draws + 1) * (1 - level) / 2 < 1:
        raise ValueError(f"draws: found {draws}; intervals of {level:g} need at least {int(np.ceil(2 / (1 - level) - 1))}.")
    check_method(method)
    check_draws(model)
    for_params, for_cells = jax.random.split(as_key(key))
    rows = prepare(model, data, weights)
    check_params(model.domains, model.structure(rows), params)
    drawn, remarks = draw_params(model, cast(params, rows.dtype), rows, draws, method, for_params)
    parts: list[list[np.ndarray]] = []
    labelled = view.labels or (None,) * view.d
    for j in range(view.d):
        seen = ~np.isnan(view.y[:, j])
        if labelled[j] is not None or not seen.any():
            continue
        for number_, fold in enumerate(_folds(rows, seen)):
            holes = view.y.copy()
            holes[fold, j] = np.nan
            hidden = dataclasses.replace(view, y=holes)
            own = prepare(model, blank(data, view, fold, j), weights)
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(for_cells, j), number_), draws)
            cells = draw_cells(model, drawn, own, hidden, keys)[:, fold, j]
            ends = np.quantile(cells, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull")
            place = np.flatnonzero(fold)
            besides = np.isnan(view.y[place]).sum(axis=1)
            parts.append([place, np.full(len(place), j), view.y[place, j], cells.mean(axis=0), *ends, besides])
    if not parts:
        raise TypeError("data: every column holds labels, which have no intervals.")
    names = ("row", "column", "observed", "mean", "lower", "upper", "missing")
    joined = {name: np.concatenate(leaf) for name, leaf in zip(names, zip(*parts, strict=True), strict=True)}
    return Overimputation(columns=view.columns, **joined, level=float(level), draws=draws, remarks=remarks)


def _folds(rows: Any, seen: np.ndarray) -> list[np.ndarray]:
    """Cells of a column that are blanked together: all where rows are independent, every tenth where they follow one another."""
    if rows.lanes is None:
        return [seen]
    folds = [seen & (np.arange(len(seen)) % FOLDS == fold) for fold in range(FOLDS)]
    return [fold for fold in folds if fold.any()]
