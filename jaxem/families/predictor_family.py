"""Regressions without a closed M-step: Newton's method on statistics that are additive over rows.

A family gives the log-density of a row as a function of the linear predictor and a few numbers a state (`log_density`), in
coordinates theta = (working coefficients, extras), and the way between those and its params. Its statistics are value,
gradient and curvature of sum r log p about the current params; the M-step is a Newton step, damped where the curvature is not
positive definite, and the algorithm halves it until the likelihood does not fall (Lange 1995, JRSS-B 57:425).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.families.regression_family import Cells, RegressionFamily
from jaxem.family import Remark
from jaxem.kernels import predictor
from jaxem.kernels.design import Design
from jaxem.kernels.linalg import cholesky, invert_lower, matmul
from jaxem.kernels.predictor import Bound, Expansion, Raw
from jaxem.newton import damped_step
from jaxem.priors import NormalPrior
from jaxem.rows import Rows

FAR = 10.0  # contribution of a coefficient to the linear predictor from which it may be on its way to infinity
VAGUE = 0.2  # times its standard error, below which it is


class PredictorFrame(NamedTuple):
    """Where the expansions are taken."""

    design: Design
    theta: jax.Array  # (K, m)


class PredictorFamily(RegressionFamily):
    """Params `coefficients` (K, p), `intercept` (K,) or (K, 0), and further leaves; theta (K, m) as `coordinates` says.

    A family of this kind is a frozen dataclass with a field `frame: PredictorFrame | None = None`.
    """

    closed = False
    escape = "the likelihood has no maximum, and rises for ever along them"  # what a remark says of coefficients that run away
    frame: PredictorFrame | None

    # what a family gives

    def log_density(self, eta: jax.Array, extras: tuple[jax.Array, ...], response: Any) -> jax.Array:
        """Elementwise log-density; differentiable and finite wherever r > 0."""
        raise NotImplementedError

    def coordinates(self, params: Any, design: Design) -> jax.Array:
        """theta (K, m) at params; the working coefficients alone where nothing else is said."""
        return self.working(params, design)

    def params_at(self, theta: jax.Array, design: Design, like: Any) -> Any:
        """Params from theta (K, m)."""
        coefficients, intercept = self.given(theta, design, like.intercept.ndim == 1)
        return like._replace(coefficients=coefficients, intercept=intercept)

    def turn(self, design: Design, m: int) -> jax.Array:
        """(m, m) derivative of theta by theta in the user's coordinates."""
        q = len(design.lift)
        return jnp.eye(m, dtype=design.lift.dtype).at[:q, :q].set(design.lift)

    def admissible(self, theta: jax.Array, step: jax.Array, design: Design) -> jax.Array:
        """(K,) share of the step up to which theta stays in its domain."""
        return jnp.ones_like(theta[:, 0])

    def newton(self, curvature: jax.Array, gradient: jax.Array) -> jax.Array:
        """(K, m) Newton step."""
        return damped_step(gradient, curvature)

    # E-step

    def localize(self, params: Any, rows: Rows, shared: bool = False) -> Any:
        del shared  # sums are moved to the frame from wherever they were taken
        return dataclasses.replace(self, frame=PredictorFrame(rows.origin, self.coordinates(params, rows.origin)))  # type: ignore[type-var]

    def bind(self, params: Any, mask: jax.Array, origin: Design) -> Bound:
        del mask
        return Bound(self.coordinates(params, origin)[None], self.coordinates(params, self.own_coordinates(params))[None])

    def log_prob(self, bound: Bound, cells: Cells) -> jax.Array:
        theta, design = bound.theta, cells.design
        extras = predictor.extras_of(theta, design.shape[1])
        out = self.log_density(predictor.predictor(theta, design, cells.offset), extras, cells.response)
        return out if cells.present is None else jnp.where(cells.present > 0, out, 0)

    def sums(self, bound: Bound, cells: Cells, r: jax.Array) -> Raw:
        r = r if cells.present is None else r * cells.present

        return predictor.sums(self._density(cells), bound.theta, cells.design, cells.offset, r)

    def _density(self, cells: Cells) -> predictor.Elementwise:
        def density(eta: jax.Array, *extras: jax.Array) -> jax.Array:
            return self.log_density(eta, extras, cells.response)

        return density

    def finish(self, bound: Bound, raw: Raw, origin: Design) -> Expansion:
        expansion = predictor.collect(raw)
        if self.frame is not None:
            return predictor.move(expansion, self.frame.theta - bound.theta[0])
        turned = predictor.change(expansion, self.turn(origin, bound.theta.shape[-1]))
        return predictor.move(turned, -bound.user[0])

    # M-step

    def _shift(self, params: Any) -> tuple[Design, jax.Array, jax.Array]:
        """Coordinates of the statistics, theta there, and how far it is from their point."""
        design = self.own_coordinates(params) if self.frame is None else self.frame.design
        theta = self.coordinates(params, design)
        return design, theta, theta if self.frame is None else theta - self.frame.theta

    def maximize(self, params: Any, statistics: Expansion, prior: NormalPrior | None) -> Any:
        design, theta, shift = self._shift(params)
        _, gradient, curvature = predictor.move(statistics, shift)
        if prior is not None:
            q = len(design.lift)
            precision, off = _prior_terms(params, prior)
            gradient = gradient.at[:, :q].add(-matmul(precision * off, design.drop))
            curvature = curvature.at[:, :q, :q].add(matmul(design.drop.T * precision, design.drop))
        step = self.newton(curvature, gradient)
        share = self.admissible(theta, step, design)
        return self.params_at(theta + jnp.clip(share, 0, 1)[:, None] * step, design, params)

    def expected_log_prob(self, params: Any, statistics: Expansion) -> jax.Array:
        return predictor.evaluate(statistics, self._shift(params)[2])

    def log_prior(self, params: Any, prior: NormalPrior) -> jax.Array:
        """Log-density of the normal prior, up to a constant in the params."""
        precision, off = _prior_terms(params, prior)
        return -0.5 * (precision * off * off).sum()

    # the rest

    def runaway(self, params: Any, rows: Rows, sooner: float = 1.0) -> jax.Array:
        """(K,) bool: whether a coefficient is on its way to infinity, where the likelihood has no maximum.

        It then contributes much to the linear predictor, and the pilot rows say less and less about it: its standard error
        grows faster than it does (Hauck and Donner 1977, JASA 72:851). A factor `sooner` says so earlier on the way.
        """
        cells = jax.tree.map(lambda leaf: leaf.T[None], rows.pilot_cells)
        bound = self.bind(params, jnp.ones((1, 1), bool), rows.origin)
        seen = jnp.ones_like(rows.pilot_weights) if cells.present is None else cells.present[0, 0]
        weights = rows.pilot_weights * seen
        total = jnp.where(rows.informative, rows.weights, 0).sum()
        weights = weights * total / jnp.where(weights.sum() > 0, weights.sum(), 1)
        k, q = bound.theta.shape[1], cells.design.shape[1]
        r = jnp.broadcast_to(weights, (1, k, len(weights)))
        curvature = predictor.information(self._density(cells), bound.theta, cells.design, cells.offset, r)[0]
        diagonal = jnp.abs(jnp.diagonal(curvature, axis1=-2, axis2=-1))
        root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
        scaled = curvature / (root[:, :, None] * root[:, None, :])
        eps = jnp.finfo(curvature.dtype).eps
        inverse = invert_lower(cholesky(scaled + 8 * q * eps * jnp.eye(q, dtype=curvature.dtype)))
        error = jnp.sqrt((inverse * inverse).sum(-2)) / root
        error = jnp.where(jnp.isfinite(error) & (diagonal > 0), error, jnp.inf)
        size = jnp.abs(bound.theta[0, :, :q])
        far = size * jnp.abs(cells.design[0]).max(-1) > FAR / sooner
        return (far & (size < sooner * VAGUE * error)).any(-1)

    def degenerate(self, params: Any, rows: Rows) -> jax.Array:
        """States whose coefficients run away, as under separation."""
        return self.runaway(params, rows)

    def remarks(self, params: Any, rows: Rows) -> list[Remark]:
        sentence = f"coefficients run away: {self.escape}."
        away = np.asarray(self.runaway(params, rows, sooner=2.0))
        return [Remark(int(k), sentence) for k in np.flatnonzero(away)]

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        theta = self.coordinates(params, rows.origin)
        return 1 + jnp.sqrt((theta * theta).sum(-1)).max()

    def mean_given(self, eta: jax.Array, extras: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of a response, elementwise.

        Raises:
            TypeError: the family does not say.
        """
        raise TypeError(f"{type(self).__name__} does not fill in missing responses.")

    def complete(self, bound: Bound, cells: Cells, origin: Design) -> tuple[jax.Array, jax.Array, jax.Array]:
        eta = predictor.predictor(bound.theta, cells.design, cells.offset)
        mean, variance = self.mean_given(eta, predictor.extras_of(bound.theta, cells.design.shape[1]))
        response = jax.tree.leaves(cells.response)[0]
        present = jnp.ones_like(response) if cells.present is None else cells.present
        mean = jnp.where(present > 0, response, mean) + origin.centre
        return mean[:, :, None], jnp.broadcast_to(variance, mean.shape)[..., None, None], present


def _prior_terms(params: Any, prior: NormalPrior) -> tuple[jax.Array, jax.Array]:
    """Precisions (q,), and coefficients (K, q) less their prior means."""
    off = params.coefficients - prior.mean
    precision = jnp.broadcast_to(1 / jnp.square(prior.scale), off.shape[-1:])
    if params.intercept.ndim > 1:
        return precision, off
    whole = jnp.append(precision, 1 / jnp.square(prior.intercept_scale))
    return whole, jnp.concatenate([off, params.intercept[:, None]], axis=-1)
