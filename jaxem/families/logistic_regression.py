"""Logistic regression of responses 0 and 1."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.checks import check_cells
from jaxem.checks_regression import Checked
from jaxem.domains import Real
from jaxem.families.predictor_family import PredictorFamily, PredictorFrame
from jaxem.families.regression_family import Cells, plain_structure
from jaxem.kernels.quantiles import Tails, two_valued_tails
from jaxem.priors import NormalPrior


class LogisticRegressionParams(NamedTuple):
    """Params of K states in the user's units."""

    coefficients: jax.Array  # (K, p) log-odds ratios
    intercept: jax.Array  # (K,); (K, 0) without an intercept


@dataclasses.dataclass(frozen=True)
class LogisticRegression(PredictorFamily):
    r"""P(y = 1) = 1 / (1 + e^-eta), eta = coefficients_k . x + intercept_k + offset.

    Data: `Regression(y, x, offset=)` with y 0 or 1 (or bool), NaN where missing. M-step: one Newton step, that of iteratively
    reweighted least squares. Where a hyperplane separates the responses, wholly or in part, the maximum is at infinity: the
    fit then ends as degenerate with params that are finite; a `NormalPrior` gives a maximum.

    Args:
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: responses other than 0 and 1.
    """

    frame: PredictorFrame | None = None

    centred = False
    escape = "a hyperplane separates the responses 0 and 1, wholly or in part, and the maximum is at infinity; give a NormalPrior"
    prior_type = NormalPrior
    discrete = True

    @property
    def domains(self) -> LogisticRegressionParams:
        return LogisticRegressionParams(Real(event_ndim=1), Real())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> LogisticRegressionParams:
        return LogisticRegressionParams(*plain_structure(n_states, size))  # type: ignore[arg-type]

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        y = checked.y
        if checked.traced:
            return y, y, full
        bad = ((y != 0) & (y != 1))[:, None]
        check_cells(y[:, None], (checked.columns or ("y",))[:1], bad, "are neither 0 nor 1", "code them so")
        return np.where(np.isnan(y), 0, y), y, full

    def guess(self, cells: Cells) -> jax.Array:
        """The working response of one step of reweighted least squares from probability one half."""
        guess = 4 * (cells.response[:, 0] - 0.5)
        return guess if cells.offset is None else guess - cells.offset[:, 0]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> LogisticRegressionParams:
        del variance
        return LogisticRegressionParams(coefficients, intercept)

    def log_density(self, eta: jax.Array, extras: tuple[jax.Array, ...], response: Any) -> jax.Array:
        return -jax.nn.softplus((1 - 2 * response) * eta)

    def mean_given(self, eta: jax.Array, extras: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        return jax.nn.sigmoid(eta), jax.nn.sigmoid(eta) * jax.nn.sigmoid(-eta)

    def tails(self, params: LogisticRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        eta = self.predictors(params, len(y), x)
        return two_valued_tails(y[:, None], jax.nn.log_sigmoid(eta), jax.nn.log_sigmoid(-eta))

    def sample(self, key: jax.Array, params: LogisticRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses 0 and 1 of rows with covariates x (n, p)."""
        eta = self.predicted(params, states, x)
        return jax.random.bernoulli(key, jax.nn.sigmoid(eta)).astype(eta.dtype)


jax.tree_util.register_dataclass(LogisticRegression, data_fields=("frame",), meta_fields=())
