"""Linear regression with t errors: a few wild responses do not move it."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxem.domains import Positive, Real
from jaxem.families.linear_regression import LeastSquares, RegressionFrame, RegressionMoments
from jaxem.families.regression_family import Cells, plain_structure
from jaxem.families.student_t import StudentT
from jaxem.family import Remark
from jaxem.kernels.dense import LOG_2PI
from jaxem.kernels.design import Design
from jaxem.kernels.quantiles import Tails, student_tails
from jaxem.kernels.student import log1p_minus, log_gamma_ratio, log_minus_digamma
from jaxem.priors import NormalInverseGamma
from jaxem.rows import Rows


class TRegressionParams(NamedTuple):
    """Params of K states in the user's units."""

    coefficients: jax.Array  # (K, p)
    intercept: jax.Array  # (K,); (K, 0) without an intercept
    variance: jax.Array  # (K,) square of the errors' scale; their variance is dof / (dof - 2) times that
    dof: jax.Array  # (K,) degrees of freedom; () where common or given


class TRegressionStatistics(NamedTuple):
    """Sums over rows, u being the row's precision factor, E[u] = (dof + 1) / (dof + e^2 / variance)."""

    moments: RegressionMoments  # sums of r u, r u v v', r u e v, r u e^2
    rows: jax.Array  # (K,) sum of r
    excess: jax.Array  # (K,) sum of r (E[log u] - E[u] + 1) <= 0, kept whole because its parts cancel for large dof


class _Bound(NamedTuple):
    theta: jax.Array  # (1, K, q) working coefficients
    user: jax.Array  # (1, K, q) the user's
    variance: jax.Array  # (1, K)
    dof: jax.Array  # (1, K)


@dataclasses.dataclass(frozen=True)
class TRegression(LeastSquares):
    r"""y = coefficients_k . x + intercept_k + e, e / sqrt(variance_k) ~ t(dof_k).

    Data: `Regression(y, x)`, y (n,), NaN where missing; an offset is subtracted from y.
    An error is normal with variance / u, u ~ gamma(dof/2, dof/2): rows far off count less. M-step: least squares with weights
    r E[u], variance = sum r u e^2 / sum r (Lange, Little and Taylor 1989, JASA 84:881). `fit` divides by sum r u instead, the
    M-step of the expanded model (Liu, Rubin and Wu 1998, Biometrika 85:755), and moves dof on the observed likelihood (ECME,
    Liu and Rubin 1995, Statistica Sinica 5:19). With a `NormalInverseGamma` prior, the posterior mode, unexpanded.

    Where dof is small the likelihood may have several maxima, and it grows without bound where rows in number above
    (coefficients) (1 + 1 / dof) are fitted exactly: such a state is flagged as collapsed. M-steps look for dof between 0.001
    and 1,000,000; an estimate at an end is said so by `remarks`.

    Args:
        dof: "free" (one for each state), "common" (one for all), or a number > 0 that is given.
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: dof is none of these.
    """

    dof: str | float = "free"
    frame: RegressionFrame | None = None

    def __post_init__(self):
        given = isinstance(self.dof, numbers.Real) and not isinstance(self.dof, bool)
        if not (self.dof in ("free", "common") or (given and 0 < self.dof < np.inf)):  # type: ignore[operator]
            found = f"dof: found {self.dof!r}"
            raise ValueError(f"{found}; give 'free', 'common' or a number > 0 (for infinity take LinearRegression).")

    @property
    def _tails(self) -> StudentT:
        """The family of rows with the same dof."""
        return StudentT("spherical", self.dof)

    @property
    def observed_blocks(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._tails.observed_blocks

    @property
    def domains(self) -> TRegressionParams:
        return TRegressionParams(Real(event_ndim=1), Real(), Positive(), self._tails.domains.dof)  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> TRegressionParams:
        dof = (n_states,) if self.dof == "free" else ()
        return TRegressionParams(*plain_structure(n_states, size), (n_states,), dof)  # type: ignore[arg-type]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> TRegressionParams:
        """Least squares, with 8 degrees of freedom and a scale of the same spread."""
        start = jnp.asarray(8.0 if isinstance(self.dof, str) else self.dof, variance.dtype)
        shrink = jnp.where(start > 2, (start - 2) / start, 0.5)
        dof = jnp.broadcast_to(start, variance.shape) if self.dof == "free" else start
        return TRegressionParams(coefficients, intercept, shrink * variance, dof)

    # E-step

    def bind(self, params: TRegressionParams, mask: jax.Array, origin: Design) -> _Bound:
        dof = jnp.broadcast_to(params.dof, params.variance.shape)
        theta, user, variance = super().bind(params, mask, origin)
        return _Bound(theta, user, variance, dof[None])

    def _distance(self, bound: _Bound, cells: Cells) -> tuple[jax.Array, jax.Array]:
        """Residuals and their squares in units of the variance."""
        residual = self._residual(bound, cells)  # type: ignore[arg-type]
        return residual, residual * residual / bound.variance[..., None]

    def log_prob(self, bound: _Bound, cells: Cells) -> jax.Array:
        _, distance = self._distance(bound, cells)
        nu = bound.dof[..., None]
        constant = log_gamma_ratio(0.5 * nu, jnp.asarray(0.5, nu.dtype)) - 0.5 * (LOG_2PI + jnp.log(bound.variance[..., None]))
        out = constant - 0.5 * (nu + 1) * jnp.log1p(distance / nu)
        return out if cells.present is None else out * cells.present

    def sums(self, bound: _Bound, cells: Cells, r: jax.Array) -> TRegressionStatistics:
        r = r if cells.present is None else r * cells.present
        _, distance = self._distance(bound, cells)
        nu = bound.dof[..., None]
        t = (1 - distance) / (nu + distance)  # u - 1
        excess = log1p_minus(t) - log_minus_digamma(0.5 * (nu + 1))
        bare = cells._replace(present=None)
        return TRegressionStatistics(super().sums(bound, bare, r * (1 + t)), r.sum(-1), (r * excess).sum(-1))

    def finish(self, bound: _Bound, raw: TRegressionStatistics, origin: Design) -> TRegressionStatistics:
        return TRegressionStatistics(super().finish(bound, raw.moments, origin), raw.rows.sum(0), raw.excess.sum(0))

    def complete(self, bound: _Bound, cells: Cells, origin: Design) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean, scale, present = super().complete(bound, cells, origin)  # type: ignore[arg-type]
        nu = bound.dof[..., None, None]
        return mean, jnp.where(nu > 2, scale * nu / jnp.where(nu > 2, nu - 2, 1), jnp.inf), present

    # M-step

    def maximize(
        self, params: TRegressionParams, statistics: TRegressionStatistics, prior: NormalInverseGamma | None
    ) -> TRegressionParams:
        moved = self.least_squares(params, statistics.moments, prior, statistics.rows)
        fitted: Any = self._tails._with_dof(moved, statistics.rows, statistics.excess)  # type: ignore[arg-type]
        return fitted

    def maximize_expanded(
        self, params: TRegressionParams, statistics: TRegressionStatistics, prior: NormalInverseGamma | None
    ) -> TRegressionParams:
        if prior is not None:  # the prior of the variance does not expand with it
            return self.maximize(params, statistics, prior)
        weight = statistics.moments.weight
        moved = self.least_squares(params, statistics.moments, None, weight)
        # in the expanded model u is a gamma variable times a free factor, whose estimate is the mean of u
        over = (weight - statistics.rows) / jnp.where(statistics.rows > 0, statistics.rows, 1)
        fitted: Any = self._tails._with_dof(moved, statistics.rows, statistics.excess - statistics.rows * log1p_minus(over))  # type: ignore[arg-type]
        return fitted

    def expected_log_prob(self, params: TRegressionParams, statistics: TRegressionStatistics) -> jax.Array:
        moments, count, excess = statistics
        design, point = self._coordinates(params)  # type: ignore[arg-type]
        squared = self._about(moments, self.working(params, design) - point).square / params.variance
        log_u = excess + moments.weight - count  # sum of r E[log u]
        normal = -0.5 * (squared + count * (jnp.log(params.variance) + LOG_2PI) - log_u)
        half = 0.5 * jnp.broadcast_to(params.dof, count.shape)
        # half log half - lgamma(half) + (half - 1) E[log u] - half E[u]
        gamma = count * (half * jnp.log(half) - gammaln(half) - half) + half * excess - log_u
        return (normal + gamma).sum()

    # the rest

    def remarks(self, params: TRegressionParams, rows: Rows) -> list[Remark]:
        return super().remarks(params, rows) + self._tails.remarks(params, rows)  # type: ignore[arg-type]

    def tails(self, params: TRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        scale, dof = jnp.sqrt(params.variance), jnp.broadcast_to(params.dof, params.variance.shape)
        return student_tails(y[:, None], self.predictors(params, len(y), x), scale[:, None], dof[:, None])

    def sample(self, key: jax.Array, params: TRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses of rows with covariates x (n, p)."""
        eta = self.predicted(params, states, x)
        normal, gamma = jax.random.split(key)
        half = 0.5 * jnp.broadcast_to(params.dof, params.variance.shape)[states]
        u = jax.random.gamma(gamma, half, dtype=eta.dtype) / half
        return eta + jnp.sqrt(params.variance[states] / u) * jax.random.normal(normal, eta.shape, eta.dtype)


jax.tree_util.register_dataclass(TRegression, data_fields=("frame",), meta_fields=("dof",))
