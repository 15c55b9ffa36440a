"""What is computed of a fit before its report is written: numbers alone, no words and no pictures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxem.inference import Certificate, Inference, certificate, standard_errors
from jaxem.missing import LittleTest, little_mcar_test
from jaxem.residuals import quantile_residuals
from jaxem.result import Fit, Status
from jaxem.selection import Selection
from jaxem.selection.criteria import Criteria, criteria
from jaxem.selection.entropy import share_known, state_entropy
from jaxem.view import View

COUNTED = 600  # free parameters up to which the information matrix is made
TESTED = 40  # columns up to which Little's test is made


@dataclass(frozen=True)
class Evidence:
    """A fit, and what is known of it. None stands for what the fit, the model or the data do not allow."""

    fit: Fit
    model: Any
    data: Any
    view: View
    weights: np.ndarray  # (n,) of the rows in input order
    measured: Criteria
    remarks: tuple[str, ...]  # of the model on its params
    certificate: Certificate | None
    inference: Inference | None
    selection: Selection | None
    posterior: np.ndarray | None  # (n, K) probabilities of the states, where there are several
    known: float  # entropy R2: 1 where every state is certain
    residuals: np.ndarray | None  # (n, d) quantile residuals, standard normal under the model; NaN where missing
    little: LittleTest | None

    @property
    def sound(self) -> bool:
        """Whether the params are an end of EM, and not where it broke off."""
        return int(self.fit.status) in (Status.CONVERGED, Status.MAX_STEPS)


def gather(
    fit: Fit,
    model: Any,
    data: Any,
    view: View,
    weights: Any = None,
    *,
    selection: Selection | None = None,
    inference: Inference | None = None,
    found: Certificate | None = None,
    key: Any = 0,
) -> Evidence:
    """All that a report tells of a fit; what was computed before may be given."""
    rows = model.prepare(data, weights)
    measured = criteria(model, fit, rows)
    sound = int(fit.status) in (Status.CONVERGED, Status.MAX_STEPS)
    if sound and measured.n_parameters <= COUNTED:
        if found is None:
            found = certificate(model, fit, data, weights)
        if inference is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # they are remarks of the result as well
                inference = standard_errors(model, fit.params, data, weights=weights)
    counted = np.asarray(rows.weights, np.float64)
    posterior, known = None, 1.0
    if sound and model.n_states > 1:
        posterior = np.asarray(model.posterior(fit.params, data), np.float64)
        known = share_known(state_entropy(model, fit.params, rows), model.n_states, float(counted.sum()))
    return Evidence(
        fit, model, data, view, counted, measured, tuple(model.remarks(fit.params, rows)), found, inference, selection,
        posterior, known, _residuals(model, fit.params, data, key) if sound else None, _little(view),
    )  # fmt: skip


def _residuals(model: Any, params: Any, data: Any, key: Any) -> np.ndarray | None:
    try:
        return np.asarray(quantile_residuals(model, params, data, key=key), np.float64)
    except TypeError:  # the model has none
        return None


def _little(view: View) -> LittleTest | None:
    """Of numbers with holes, where it can be made."""
    plain = view.labels is None and view.lower is None and not view.regression
    if not plain or not view.missing.any() or not 1 < view.d <= TESTED:
        return None
    try:
        found = little_mcar_test(view.y)
    except ValueError:  # a column without an observed cell, or collinear ones
        return None
    return found if found.df > 0 else None
