"""Linear regression with normal errors."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks_regression import Checked
from jaxem.domains import Positive, Real
from jaxem.families.regression_family import Cells, RegressionFamily, plain_structure
from jaxem.family import Remark
from jaxem.kernels.dense import LOG_2PI
from jaxem.kernels.design import Design, grams
from jaxem.kernels.linalg import HIGHEST, apply, matmul
from jaxem.kernels.quantiles import Tails, normal_tails
from jaxem.newton import damped_step
from jaxem.priors import NormalInverseGamma
from jaxem.rows import Rows


class LinearRegressionParams(NamedTuple):
    """Params of K states in the user's units."""

    coefficients: jax.Array  # (K, p)
    intercept: jax.Array  # (K,); (K, 0) without an intercept
    variance: jax.Array  # (K,) of the errors


class RegressionFrame(NamedTuple):
    """Coordinates of the statistics: residuals about theta, working covariates."""

    design: Design
    theta: jax.Array  # (K, q) working coefficients


class RegressionMoments(NamedTuple):
    """Sums over rows, with e = y - theta . v in the coordinates of a frame (the user's own, about 0, where there is none)."""

    weight: jax.Array  # (K,) sum of r
    gram: jax.Array  # (K, q, q) sum of r v v'
    cross: jax.Array  # (K, q) sum of r e v
    square: jax.Array  # (K,) sum of r e^2


class _Bound(NamedTuple):
    theta: jax.Array  # (1, K, q) working coefficients
    user: jax.Array  # (1, K, q) the user's
    variance: jax.Array  # (1, K)


class LeastSquares(RegressionFamily):
    """Weighted least squares. Params `coefficients`, `intercept`, `variance` (K,) and further leaves; `RegressionMoments`.

    A family of this kind is a frozen dataclass with a field `frame: RegressionFrame | None = None`.
    """

    prior_type = NormalInverseGamma
    frame: RegressionFrame | None

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        y = checked.y
        return (y if checked.traced else np.where(np.isnan(y), 0, y)), y, full

    def guess(self, cells: Cells) -> jax.Array:
        return cells.response[:, 0]

    # E-step

    def localize(self, params: Any, rows: Rows, shared: bool = False) -> Any:
        del shared  # sums are moved to the frame from wherever they were taken
        return dataclasses.replace(self, frame=RegressionFrame(rows.origin, self.working(params, rows.origin)))  # type: ignore[type-var]

    def bind(self, params: Any, mask: jax.Array, origin: Design) -> Any:
        del mask
        theta, user = self.working(params, origin), self.working(params, self.own_coordinates(params))
        return _Bound(theta[None], user[None], params.variance[None])

    def log_prob(self, bound: Any, cells: Cells) -> jax.Array:
        residual = self._residual(bound, cells)
        variance = bound.variance[..., None]
        out = -0.5 * (residual * residual / variance + (jnp.log(variance) + LOG_2PI))
        return out if cells.present is None else out * cells.present

    @staticmethod
    def _residual(bound: Any, cells: Cells) -> jax.Array:
        return cells.response - matmul(bound.theta, cells.design)

    def sums(self, bound: Any, cells: Cells, r: jax.Array) -> Any:
        r = r if cells.present is None else r * cells.present
        residual = self._residual(bound, cells)
        weighted = r * residual
        gram = grams(cells.design, r)
        cross = jnp.einsum("ckb,cqb->ckq", weighted, cells.design, precision=HIGHEST)
        return RegressionMoments(r.sum(-1), gram, cross, (weighted * residual).sum(-1))

    def finish(self, bound: Any, raw: Any, origin: Design) -> Any:
        weight, gram, cross, total = (leaf.sum(0) for leaf in raw)
        if self.frame is not None:
            return self._about(RegressionMoments(weight, gram, cross, total), self.frame.theta - bound.theta[0])
        gram = matmul(matmul(origin.lift.T, gram), origin.lift)
        return self._about(RegressionMoments(weight, gram, matmul(cross, origin.lift), total), -bound.user[0])

    @staticmethod
    def _about(moments: RegressionMoments, shift: jax.Array) -> RegressionMoments:
        """The moments of residuals about coefficients moved by `shift`."""
        weight, gram, cross, total = moments
        moved = apply(gram, shift)
        return RegressionMoments(weight, gram, cross - moved, total + ((moved - 2 * cross) * shift).sum(-1))

    def _coordinates(self, params: Any) -> tuple[Design, jax.Array]:
        """Where the statistics are taken."""
        if self.frame is not None:
            return self.frame.design, self.frame.theta
        design = self.own_coordinates(params)
        return design, jnp.zeros_like(params.coefficients, shape=(params.coefficients.shape[0], len(design.lift)))

    def complete(self, bound: Any, cells: Cells, origin: Design) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean = matmul(bound.theta, cells.design) + origin.centre
        present = jnp.ones_like(cells.response) if cells.present is None else cells.present
        mean = jnp.where(present > 0, cells.response + origin.centre, mean)
        variance = jnp.broadcast_to(bound.variance[..., None, None], (*mean.shape[:2], 1, 1))
        return mean[:, :, None], variance, present

    # M-step

    def maximize(self, params: Any, statistics: Any, prior: NormalInverseGamma | None) -> Any:
        return self.least_squares(params, statistics, prior, statistics.weight)

    def least_squares(self, params: Any, statistics: RegressionMoments, prior: NormalInverseGamma | None, count: jax.Array) -> Any:
        """The params with coefficients by the normal equations, and variance = residual sum of squares / `count` (K,)."""
        design, point = self._coordinates(params)
        theta = self.working(params, design)
        _, gram, cross, total = self._about(statistics, theta - point)
        extra: Any = 0.0
        if prior is not None:
            p = params.coefficients.shape[-1]
            to_user = design.drop[:p]
            precision = jnp.broadcast_to(prior.precision, (p,))
            off = params.coefficients - prior.mean
            gram = gram + matmul(to_user.T * precision, to_user)
            cross = cross - matmul(off * precision, to_user)
            total = total + (precision * off * off).sum(-1) + prior.scale
            extra = prior.dof + 2 + (precision > 0).sum()
        away = damped_step(cross, gram)
        left = total - ((2 * cross - apply(gram, away)) * away).sum(-1)
        # what rounding has eaten in a step that explains nearly all is found by the next one, whose residuals are its own
        left = jnp.maximum(left, 8 * jnp.finfo(left.dtype).eps * total)
        counted = count + extra
        variance = jnp.where(counted > 0, left / jnp.where(counted > 0, counted, 1), params.variance)
        coefficients, intercept = self.given(theta + away, design, params.intercept.ndim == 1)
        return params._replace(coefficients=coefficients, intercept=intercept, variance=variance)

    def expected_log_prob(self, params: Any, statistics: Any) -> jax.Array:
        design, point = self._coordinates(params)
        weight, _, _, total = self._about(statistics, self.working(params, design) - point)
        return -0.5 * (total / params.variance + weight * (jnp.log(params.variance) + LOG_2PI)).sum()

    def log_prior(self, params: Any, prior: NormalInverseGamma) -> jax.Array:
        """Log-density of the normal inverse gamma prior, up to a constant in the params."""
        off = params.coefficients - prior.mean
        precision = jnp.broadcast_to(prior.precision, off.shape[-1:])
        exponent = prior.dof + 2 + (precision > 0).sum()
        pulled = (precision * off * off).sum(-1) + prior.scale
        return -0.5 * (exponent * jnp.log(params.variance) + pulled / params.variance).sum()

    # the rest

    def degenerate(self, params: Any, rows: Rows) -> jax.Array:
        """A state has collapsed where its errors are lost in the rounding of the responses and of what predicts them."""
        return self._exact(params, rows, 8.0)

    def _exact(self, params: Any, rows: Rows, times: float) -> jax.Array:
        """(K,) bool: whether the errors are no more than so many times rounding."""
        size = jnp.square(self.reach(params, rows)) + jnp.square(rows.origin.centre)
        return ~(params.variance > (times * jnp.finfo(rows.dtype).eps) ** 2 * size)

    def remarks(self, params: Any, rows: Rows) -> list[Remark]:
        fitted = np.flatnonzero(np.asarray(self._exact(params, rows, 64.0)))
        return [Remark(int(k), "the responses are fitted exactly: the variance has no maximum above 0.") for k in fitted]

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        """1 + how many standard deviations the terms of a residual have."""
        return 1 + (self.reach(params, rows) / jnp.sqrt(params.variance)).max()


@dataclasses.dataclass(frozen=True)
class LinearRegression(LeastSquares):
    r"""y = coefficients_k . x + intercept_k + e, e ~ N(0, variance_k).

    Data: `Regression(y, x)`, y (n,), NaN where missing; an offset is subtracted from y.
    Statistics: sums of r v v', r e v, r e^2 with working covariates v (Gram matrix the identity over all rows) and residuals e
    about the current params, so that digits stay whatever the units. M-step: weighted normal equations by Cholesky, variance =
    residual sum of squares / sum of r (De Veaux 1989, Comp. Stat. Data Anal. 8:227); with a `NormalInverseGamma` prior, the
    posterior mode. A state with fewer rows than coefficients fits them exactly, and is flagged as collapsed.

    Args:
        frame: coordinates of the statistics; None for the user's. Set by `localize`.
    """

    frame: RegressionFrame | None = None

    @property
    def domains(self) -> LinearRegressionParams:
        return LinearRegressionParams(Real(event_ndim=1), Real(), Positive())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> LinearRegressionParams:
        return LinearRegressionParams(*plain_structure(n_states, size), (n_states,))  # type: ignore[arg-type]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> LinearRegressionParams:
        return LinearRegressionParams(coefficients, intercept, variance)

    def tails(self, params: LinearRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        return normal_tails(y[:, None], self.predictors(params, len(y), x), jnp.sqrt(params.variance)[:, None])

    def sample(self, key: jax.Array, params: LinearRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses of rows with covariates x (n, p)."""
        eta = self.predicted(params, states, x)
        return eta + jnp.sqrt(params.variance[states]) * jax.random.normal(key, eta.shape, eta.dtype)


jax.tree_util.register_dataclass(LinearRegression, data_fields=("frame",), meta_fields=())
