"""What `select` found: the models side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxem.parameters import text_table
from jaxem.result import Fit

LOWER = ("aic", "aicc", "bic", "sabic", "caic", "icl")  # lower is better
CRITERIA = (*LOWER, "cv_log_likelihood")
WIDE = 60  # characters of an error that the print-out shows


class Candidate(NamedTuple):
    """One model: a row of the table. NaN where there is no such number, as all criteria of a fit that failed."""

    model: str  # short name
    log_likelihood: float
    n_parameters: int  # 0 where the model could not be fitted
    aic: float
    aicc: float
    bic: float
    sabic: float
    caic: float
    icl: float
    entropy_r2: float  # 1 where every state is certain, 0 where the data say nothing of the states
    cv_log_likelihood: float  # of units held out; NaN without folds. Higher is better
    status: str  # name of the `Status`, or the error
    restarts_at_best: int  # restarts that ended at the value returned
    seconds: float  # of fit and cross-validation, compilation in


class SelectProgress(NamedTuple):
    """What a progress callback of `select` is told before each model (or several that are lanes of one program), and at the end."""

    done: int  # models that have been fitted, or have failed
    of: int  # models in all
    model: str | None  # short name of the one that begins; None at the end
    best: str | None  # the best so far by the criterion; None where no model has one yet
    best_value: float  # its criterion; NaN


@dataclass(frozen=True)
class Selection:
    """What `select` returns: `print` shows it best first, `jaxem.plot.plot_criteria` draws it."""

    table: tuple[Candidate, ...]  # one row a model, in the order given
    models: tuple[Any, ...]
    fits: tuple[Fit | None, ...]  # None where the model could not be fitted
    criterion: str
    n: float  # what the criteria count: independent units, weights summed
    unit: str  # "row", "sequence" or "step"
    folds: int | None
    best_index: int | None  # None where no model has a criterion

    @property
    def best(self) -> Any:
        """The model that the criterion chose.

        Raises:
            ValueError: no model has a finite criterion; the table says what became of each.
        """
        return self.models[self._chosen()]

    @property
    def best_fit(self) -> Fit:
        """Its fit."""
        found = self.fits[self._chosen()]
        assert found is not None
        return found

    def _chosen(self) -> int:
        if self.best_index is None:
            told = "; ".join(f"{row.model}: {row.status}" for row in self.table)
            raise ValueError(f"best: no model has a finite {self.criterion} ({told}).")
        return self.best_index

    @property
    def values(self) -> np.ndarray:
        """(M,) the criterion of every model, NaN where it has none."""
        return np.array([getattr(row, self.criterion) for row in self.table], np.float64)

    @property
    def order(self) -> np.ndarray:
        """(M,) models from best to worst; those without a criterion last."""
        return ranked(self.values, self.criterion)

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a model in the order given (pandas must be installed)."""
        import pandas as pd

        return pd.DataFrame(list(self.table), columns=list(Candidate._fields))

    def __str__(self) -> str:
        shown = list(dict.fromkeys([self.criterion, "bic", "icl", "aic"]))
        if self.folds is not None and "cv_log_likelihood" not in shown:
            shown.append("cv_log_likelihood")
        lines = []
        for place in self.order:
            row = self.table[place]
            numbers = [_number(getattr(row, name)) for name in shown]
            status = row.status if len(row.status) <= WIDE else f"{row.status[: WIDE - 1]}…"
            mark = "*" if place == self.best_index else " "
            lines.append([f"{mark} {row.model}", *numbers, _number(row.log_likelihood), str(row.n_parameters),
                          _number(row.entropy_r2, ".3f"), str(row.restarts_at_best), status])  # fmt: skip
        names = [name.replace("cv_log_likelihood", f"{self.folds}-fold") for name in shown]
        header = ["  model", *names, "log-likelihood", "p", "entropy R2", "at best", "status"]
        better = "Lower is better for every criterion"
        if "cv_log_likelihood" in shown:
            better += f", but higher for {self.folds}-fold, the log-likelihood of what was held out"
        counts = f"n = {self.n:.10g} {self.unit}{'s' * (self.n != 1)}"
        chosen = "no model has a finite criterion" if self.best_index is None else "* is chosen"
        note = f"{better}. By {self.criterion} {chosen}; {counts}."
        return "\n".join([text_table(header, lines), "", note, *self._remarks()])

    def _remarks(self) -> list[str]:
        if self.best_index is None:
            return []
        best = self.table[self.best_index]
        out = []
        if best.status != "CONVERGED":
            out.append(f"{best.model} has not converged ({best.status}): its criterion may still fall.")
        found = self.fits[self.best_index]
        tried = 1 if found is None else len(np.atleast_1d(np.asarray(found.restart_statuses)))
        if best.restarts_at_best == 1 and tried > 2:
            out.append(f"Only 1 of {tried} restarts of {best.model} reached its value; more restarts may find a higher one.")
        return out


def ranked(values: np.ndarray, criterion: str) -> np.ndarray:
    """Places from best to worst, NaN last, equal values in the order given."""
    signed = values if criterion in LOWER else -values
    return np.argsort(np.where(np.isnan(signed), np.inf, signed), kind="stable")


def _number(value: float, how: str = ".3f") -> str:
    return "-" if np.isnan(value) else format(value, how)
