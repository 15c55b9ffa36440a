"""Multivariate t rows: tails that a few far cells do not move."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxem.domains import Known, Positive
from jaxem.families.gaussian import COVARIANCES, Gaussian, GaussianParams
from jaxem.family import Family, Remark
from jaxem.kernels import dense
from jaxem.kernels.conditional import complete_draw, regress
from jaxem.kernels.linalg import HIGHEST, apply, cholesky, invert_lower, matmul, outer, transpose
from jaxem.kernels.moments import Frame, Moments, about, centre
from jaxem.kernels.quantiles import Tails, student_tails
from jaxem.kernels.student import log1p_minus, log_gamma_ratio, log_minus_digamma, solve_dof
from jaxem.priors import NormalInverseWishart
from jaxem.rows import Rows, Table

LEAST, MOST = 1e-3, 1e6  # between which dof is looked for; at MOST a row's log-density is the normal one to 1e-6 delta^2


class StudentTParams(NamedTuple):
    """Params of K states in the user's units."""

    mean: jax.Array  # (K, d) location; the mean where dof > 1
    scale: jax.Array  # full (K, d, d), tied (d, d), diagonal (K, d), spherical (K,); covariance is dof / (dof - 2) times that
    dof: jax.Array  # (K,) degrees of freedom; () where common or given


class TStatistics(NamedTuple):
    """Sums over rows, u being the row's precision factor, E[u] = (dof + d_observed) / (dof + squared distance)."""

    moments: Moments  # sums of r u, r u x, r u x x' (completed for missing cells), in the coordinates of a frame
    rows: jax.Array  # (K,) sum of r
    excess: jax.Array  # (K,) sum of r (E[log u] - E[u] + 1) <= 0, kept whole because its parts cancel for large dof


class _Bound(NamedTuple):
    whitened: dense.WhitenedBound
    dof: jax.Array  # (1, K)
    observed: jax.Array  # (P, 1) number of observed cells


class _Raw(NamedTuple):
    moments: Moments  # leaves (c, K, ...)
    rows: jax.Array  # (c, K)
    excess: jax.Array  # (c, K)


@dataclasses.dataclass(frozen=True)
class StudentT(Family):
    r"""t(y; mean_k, scale_k, dof_k), missing (NaN) cells marginalised exactly: what is observed is a t of the same dof.

    A row is normal with covariance scale / u, u ~ gamma(dof/2, dof/2). M-step: mean = sum r u y / sum r u, scale = sum r u (y -
    mean)(y - mean)' / sum r, completed for missing cells by their conditional mean and the conditional scale. `fit` divides the
    scale by sum r u instead, the M-step of the expanded model in which u has a free scale (Liu, Rubin and Wu 1998, Biometrika
    85:755), and moves dof on the observed likelihood (ECME, Liu and Rubin 1995, Statistica Sinica 5:19). With a
    `NormalInverseWishart` prior on mean and scale, the posterior mode, unexpanded.

    M-steps look for dof between 0.001 and 1,000,000; an estimate at an end, or beyond, is said so by `remarks`.

    Args:
        covariance: form of the scale matrix: "full", "tied", "diagonal" or "spherical".
        dof: "free" (one for each state), "common" (one for all), or a number > 0 that is given.
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: unknown covariance or dof.
    """

    covariance: str = "full"
    dof: str | float = "free"
    frame: Frame | None = None

    prior_type = NormalInverseWishart

    def __post_init__(self):
        if not isinstance(self.covariance, str) or self.covariance not in COVARIANCES:
            raise ValueError(f"covariance: unknown kind {self.covariance!r}; use one of {', '.join(COVARIANCES)}.")
        given = isinstance(self.dof, numbers.Real) and not isinstance(self.dof, bool)
        if not (self.dof in ("free", "common") or (given and 0 < self.dof < np.inf)):  # type: ignore[operator]
            raise ValueError(f"dof: found {self.dof!r}; give 'free', 'common' or a number > 0 (for infinity take Gaussian).")

    @property
    def observed_blocks(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("dof",) if isinstance(self.dof, str) else ()

    @property
    def _shape(self) -> Gaussian:
        """The Gaussian whose covariance has the form of our scale."""
        return Gaussian(self.covariance, kernel="whitened")

    @property
    def domains(self) -> StudentTParams:
        mean, scale = self._shape.domains
        if isinstance(self.dof, str):
            dof: Any = Positive() if self.dof == "free" else Positive(state_axes=())
        else:
            dof = Known(value=float(self.dof))
        return StudentTParams(mean, scale, dof)  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> StudentTParams:
        mean, scale = self._shape.structure(n_states, size)
        return StudentTParams(mean, scale, (n_states,) if self.dof == "free" else ())  # type: ignore[arg-type]

    # data: cells hang together through u, so rows are grouped by pattern whatever the form of the scale

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        return Gaussian().read(data, weights, missing)

    def width(self, size: int) -> int:
        return Gaussian().width(size)

    # E-step

    def localize(self, params: StudentTParams, rows: Rows, shared: bool = False) -> StudentT:
        frame = Frame(rows.origin, None) if shared else Frame(params.mean, cholesky(self._matrices(params)))
        return dataclasses.replace(self, frame=frame)

    def _matrices(self, params: StudentTParams) -> jax.Array:
        """Scale matrices (K, d, d)."""
        n_states, d = params.mean.shape
        if self.covariance in ("full", "tied"):
            return jnp.broadcast_to(params.scale, (n_states, d, d))
        variance = params.scale if self.covariance == "diagonal" else params.scale[:, None]
        return jnp.broadcast_to(variance[..., None] * jnp.eye(d, dtype=variance.dtype), (n_states, d, d))

    def bind(self, params: StudentTParams, mask: jax.Array, origin: jax.Array) -> _Bound:
        whitened = dense.bind_whitened(params.mean, self._matrices(params), mask, origin)
        dof = jnp.broadcast_to(params.dof, params.mean.shape[:1])
        return _Bound(whitened, dof[None], mask.astype(dof.dtype).sum(-1, keepdims=True))

    def log_prob(self, bound: _Bound, cells: jax.Array) -> jax.Array:
        distance = self._distance(bound, cells)
        nu, p = bound.dof[..., None], bound.observed[..., None]
        constant = bound.whitened.marginal.log_normalizer[..., None] + log_gamma_ratio(0.5 * nu, 0.5 * p)
        return constant - 0.5 * (nu + p) * jnp.log1p(distance / nu)

    @staticmethod
    def _distance(bound: _Bound, cells: jax.Array) -> jax.Array:
        z = dense.whiten(bound.whitened, cells)
        return (z * z).sum(axis=2)

    def sums(self, bound: _Bound, cells: jax.Array, r: jax.Array) -> _Raw:
        z = dense.whiten(bound.whitened, cells)
        distance = (z * z).sum(axis=2)
        nu, p = bound.dof[..., None], bound.observed[..., None]
        t = (p - distance) / (nu + distance)  # u - 1
        weighted = r * (1 + t)
        first = z * weighted[:, :, None]
        moments = Moments(weighted.sum(-1), first.sum(-1), jnp.einsum("ckib,ckjb->ckij", first, z, precision=HIGHEST))
        excess = log1p_minus(t) - log_minus_digamma(0.5 * (nu + p))
        return _Raw(moments, r.sum(-1), (r * excess).sum(-1))

    def finish(self, bound: _Bound, raw: _Raw, origin: jax.Array) -> TStatistics:
        frame = Frame(jnp.zeros_like(origin), None) if self.frame is None else self.frame
        moments = dense.finish_whitened(bound.whitened, raw.moments, origin, frame, raw.rows)
        return TStatistics(moments, raw.rows.sum(0), raw.excess.sum(0))

    def complete(self, bound: _Bound, cells: jax.Array, origin: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The conditional covariance of a row's missing cells is (dof + distance) / (dof + observed - 2) times the conditional
        scale, infinite where that denominator is not positive."""
        mean, covariance, observed = dense.complete(bound.whitened, cells)
        nu, p = bound.dof[..., None], bound.observed[..., None]
        free = nu + p - 2
        stretch = jnp.where(free > 0, (nu + self._distance(bound, cells)) / jnp.where(free > 0, free, 1), jnp.inf)
        spread = covariance[:, :, None]
        return mean + origin[:, None], jnp.where(spread == 0, 0, stretch[..., None, None] * spread), observed

    # M-step

    def maximize(self, params: StudentTParams, statistics: TStatistics, prior: NormalInverseWishart | None) -> StudentTParams:
        moved = self._location(params, statistics, prior, statistics.rows)
        return self._with_dof(moved, statistics.rows, statistics.excess)

    def _with_dof(self, params: StudentTParams, count: jax.Array, excess: jax.Array) -> StudentTParams:
        """The dof that maximise Q, for sums (K,) over rows of r and of r (E[log u] - E[u] + 1)."""
        if not isinstance(self.dof, str):
            return params
        if self.dof == "common":
            count, excess = count.sum(), excess.sum()
        # dQ/dnu = (count (log(nu/2) - digamma(nu/2)) + excess) / 2
        dof = solve_dof(-excess / jnp.where(count > 0, count, 1), LEAST, MOST)
        return params._replace(dof=jnp.where(count > 0, dof, params.dof))

    def maximize_expanded(
        self, params: StudentTParams, statistics: TStatistics, prior: NormalInverseWishart | None
    ) -> StudentTParams:
        if prior is not None:  # the prior of the scale does not expand with it
            return self.maximize(params, statistics, prior)
        moved = self._location(params, statistics, None, statistics.moments.weight)
        # in the expanded model u is a gamma variable times a free factor, whose estimate is the mean of u; one for all states
        # where they share a scale
        weight, rows = statistics.moments.weight, statistics.rows
        both = jnp.stack([weight, rows])
        mass, count = jnp.broadcast_to(both.sum(axis=1, keepdims=True), both.shape) if self.covariance == "tied" else both
        over = (mass - count) / jnp.where(count > 0, count, 1)
        factor = jnp.where(over > -1, 1 + over, 1)
        apart = (weight - rows * factor) * over / factor if self.covariance == "tied" else 0
        return self._with_dof(moved, rows, statistics.excess - rows * log1p_minus(over) + apart)

    def _location(self, params: StudentTParams, statistics: TStatistics, prior: Any, divisor: jax.Array) -> StudentTParams:
        """Mean, and scale with `divisor` (K,) under its sum of squares."""
        weight, mean, scatter = centre(statistics.moments, self.frame)
        n_states, d = mean.shape
        counted = weight[:, None]
        extra: Any = 0.0
        if prior is not None:
            shrinkage = jnp.asarray(prior.shrinkage, mean.dtype)
            total = jnp.where(counted + shrinkage > 0, counted + shrinkage, 1)
            deviation = jnp.where(counted > 0, mean - prior.mean, 0)
            scatter = scatter + (shrinkage * counted / total)[..., None] * outer(deviation, deviation)
            mean = jnp.where(counted > 0, mean, prior.mean) - shrinkage / total * deviation
            extra = self._shape.prior_exponent(prior, n_states, d)
        else:
            mean = jnp.where(counted > 0, mean, params.mean)
        scatter, mass = self._pool(scatter, divisor)
        own = self._shape.prior_scale(prior) if prior is not None else 0.0
        below = jnp.where(mass + extra > 0, mass + extra, 1)
        below = below[..., None, None] if self.covariance in ("full", "tied") else below
        scale = jnp.where(jnp.asarray(mass + extra > 0).reshape(below.shape), (scatter + own) / below, params.scale)
        if self.covariance in ("full", "tied"):
            scale = 0.5 * (scale + transpose(scale))
        return StudentTParams(mean, scale, params.dof)

    def _pool(self, scatter: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scatter (K, d, d) and divisor (K,) in the shape of the scale."""
        if self.covariance == "full":
            return scatter, weight
        if self.covariance == "tied":
            return scatter.sum(0), weight.sum(0)
        diagonal = jnp.diagonal(scatter, axis1=-2, axis2=-1)
        if self.covariance == "diagonal":
            return diagonal, weight[:, None]
        return diagonal.sum(-1), weight * scatter.shape[-1]

    def expected_log_prob(self, params: StudentTParams, statistics: TStatistics) -> jax.Array:
        matrices, d = self._matrices(params), params.mean.shape[1]
        moments, count, excess = statistics
        deviations = about(moments, self.frame, params.mean)
        root = cholesky(matrices)
        whitener = invert_lower(root)
        if self.frame is not None and self.frame.factor is not None:
            whitener = matmul(whitener, self.frame.factor)
        squared = (matmul(whitener, deviations) * whitener).sum((-2, -1))
        log_determinant = 2 * jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        log_u = excess + moments.weight - count  # sum of r E[log u]
        normal = -0.5 * (squared + count * (log_determinant + d * dense.LOG_2PI) - d * log_u)
        half = 0.5 * jnp.broadcast_to(params.dof, count.shape)
        # half log half - lgamma(half) + (half - 1) E[log u] - half E[u]
        gamma = count * (half * jnp.log(half) - gammaln(half) - half) + half * excess - log_u
        return (normal + gamma).sum()

    def log_prior(self, params: StudentTParams, prior: NormalInverseWishart) -> jax.Array:
        return self._shape.log_prior(GaussianParams(params.mean, params.scale), prior)

    # the rest

    def degenerate(self, params: StudentTParams, rows: Rows) -> jax.Array:
        return self._shape.degenerate(GaussianParams(params.mean, params.scale), rows)

    def magnitude(self, params: StudentTParams, rows: Rows) -> jax.Array:
        return self._shape.magnitude(GaussianParams(params.mean, params.scale), rows)

    def remarks(self, params: StudentTParams, rows: Rows) -> list[Remark]:
        del rows
        out = []
        if isinstance(self.dof, str):
            for k, dof in enumerate(np.atleast_1d(np.asarray(params.dof))):
                whose = None if self.dof == "common" else k
                if dof >= 0.99 * MOST:
                    out.append(Remark(whose, f"dof of {MOST:g} or more are in effect infinite: the tails are a normal's."))
                elif dof <= 1.01 * LEAST:
                    out.append(Remark(whose, f"dof are {LEAST:g} or less: the likelihood may have no maximum."))
        return out

    def moments(self, params: StudentTParams) -> tuple[jax.Array, jax.Array]:
        """Mean and variance (K, d) of each cell: the location where dof <= 1, infinite variances where dof <= 2."""
        dof = jnp.broadcast_to(params.dof, params.mean.shape[:1])[:, None]
        variance = jnp.diagonal(self._matrices(params), axis1=-2, axis2=-1)
        return params.mean, jnp.where(dof > 2, variance * dof / jnp.where(dof > 2, dof - 2, 1), jnp.inf)

    def tails(self, params: StudentTParams, y: jax.Array, x: None = None) -> Tails:
        del x
        scale = jnp.sqrt(jnp.diagonal(self._matrices(params), axis1=-2, axis2=-1))
        return student_tails(y[:, None], params.mean, scale, jnp.broadcast_to(params.dof, params.mean.shape[:1])[:, None])

    def rank(self, params: StudentTParams) -> jax.Array:
        return params.mean

    def sample(self, key: jax.Array, params: StudentTParams, states: jax.Array) -> jax.Array:
        normal, gamma = jax.random.split(key)
        noise = jax.random.normal(normal, (states.shape[0], params.mean.shape[1]), params.mean.dtype)
        half = 0.5 * jnp.broadcast_to(params.dof, params.mean.shape[:1])[states]
        u = jax.random.gamma(gamma, half) / half
        root = cholesky(self._matrices(params))
        return params.mean[states] + apply(root[states], noise) / jnp.sqrt(u)[:, None]

    def draw_missing(self, key: jax.Array, params: StudentTParams, states: jax.Array, y: jax.Array, x: None = None) -> jax.Array:
        """The row's weight u is drawn given its observed cells, the missing ones given both."""
        del x
        normal, gamma = jax.random.split(key)
        matrices, mean = self._matrices(params), params.mean[states]
        dof = jnp.broadcast_to(params.dof, params.mean.shape[:1])[states]
        distance = regress(matrices, states, y - mean)[1]
        u = jax.random.gamma(gamma, 0.5 * (dof + (~jnp.isnan(y)).sum(axis=1))) / (0.5 * (dof + distance))
        noise = jax.random.normal(normal, y.shape, mean.dtype)
        drawn = mean + apply(cholesky(matrices)[states], noise) / jnp.sqrt(u)[:, None]
        return complete_draw(matrices, states, y, drawn)

    def init(self, rows: Rows, r: jax.Array) -> StudentTParams:
        """The Gaussian start, with 8 degrees of freedom and a scale of the same spread."""
        mean, covariance = self._shape.init(rows, r)
        start = jnp.asarray(8.0 if isinstance(self.dof, str) else self.dof, mean.dtype)
        shrink = jnp.where(start > 2, (start - 2) / start, 0.5)
        dof = jnp.broadcast_to(start, (r.shape[1],)) if self.dof == "free" else start
        return StudentTParams(mean, shrink * covariance, dof)


jax.tree_util.register_dataclass(StudentT, data_fields=("frame",), meta_fields=("covariance", "dof"))
