"""Poisson regression of counts, with exposures."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.checks_regression import Checked
from jaxem.domains import Real
from jaxem.families.predictor_family import PredictorFamily, PredictorFrame
from jaxem.families.regression_family import Cells, plain_structure
from jaxem.kernels.quantiles import Tails, poisson_tails
from jaxem.kernels.special import log_factorial
from jaxem.priors import NormalPrior
from jaxem.rows import Rows


class PoissonRegressionParams(NamedTuple):
    """Params of K states in the user's units."""

    coefficients: jax.Array  # (K, p) log rate ratios
    intercept: jax.Array  # (K,); (K, 0) without an intercept


class Counts(NamedTuple):
    """Responses."""

    y: Any
    log_factorial: Any


@dataclasses.dataclass(frozen=True)
class PoissonRegression(PredictorFamily):
    r"""y ~ Poisson(e^eta), eta = coefficients_k . x + intercept_k + offset; the offset is the log of an exposure.

    Data: `Regression(y, x, offset=)` with whole y >= 0, NaN where missing. M-step: one Newton step, that of iteratively
    reweighted least squares; a `NormalPrior` pulls the coefficients. Where counts of 0 leave a coefficient no finite maximum
    the fit ends as degenerate, with params that are finite.

    Args:
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: negative or fractional responses.
    """

    frame: PredictorFrame | None = None

    centred = False
    escape = "all counts beyond some value of the covariates are 0, and the maximum is at infinity; give a NormalPrior"
    prior_type = NormalPrior
    discrete = True

    @property
    def domains(self) -> PoissonRegressionParams:
        return PoissonRegressionParams(Real(event_ndim=1), Real())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> PoissonRegressionParams:
        return PoissonRegressionParams(*plain_structure(n_states, size))  # type: ignore[arg-type]

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        y = checked.y
        if checked.traced:
            return Counts(y, log_factorial(y)), y, full
        bad = ((y < 0) | (y != np.floor(y)))[:, None]
        check_cells(y[:, None], (checked.columns or ("y",))[:1], bad, "are negative or fractional", "give whole counts >= 0")
        counts = np.where(np.isnan(y), 0, y)
        return Counts(counts, np.asarray(log_factorial(counts))), y, full

    def guess(self, cells: Cells) -> jax.Array:
        guess = jnp.log(cells.response.y[:, 0] + 0.5)
        return guess if cells.offset is None else guess - cells.offset[:, 0]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> PoissonRegressionParams:
        del variance
        return PoissonRegressionParams(coefficients, intercept)

    def log_density(self, eta: jax.Array, extras: tuple[jax.Array, ...], response: Counts) -> jax.Array:
        return response.y * eta - jnp.exp(eta) - response.log_factorial

    def magnitude(self, params: PoissonRegressionParams, rows: Rows) -> jax.Array:
        return super().magnitude(params, rows) * (1 + rows.typical[0])

    def mean_given(self, eta: jax.Array, extras: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        return jnp.exp(eta), jnp.exp(eta)

    def tails(self, params: PoissonRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        return poisson_tails(y[:, None], jnp.exp(self.predictors(params, len(y), x)))

    def sample(self, key: jax.Array, params: PoissonRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) counts of rows with covariates x (n, p), or a `Regression` with an offset."""
        eta = self.predicted(params, states, x)
        return jax.random.poisson(key, jnp.exp(eta)).astype(eta.dtype)


jax.tree_util.register_dataclass(PoissonRegression, data_fields=("frame",), meta_fields=())
