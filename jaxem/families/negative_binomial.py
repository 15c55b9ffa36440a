"""Negative binomial counts, independent across columns: Poisson counts whose rates vary."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.domains import NonNegative
from jaxem.families.exponential_family import Cells, ExponentialFamily
from jaxem.kernels import exponential
from jaxem.kernels.exponential import log_or_never
from jaxem.kernels.linalg import matmul
from jaxem.kernels.quantiles import Tails, negative_binomial_tails
from jaxem.kernels.special import log1p_remainder, log_factorial, log_rising
from jaxem.rows import Rows

NEWTON_STEPS = 40  # at most; five or six do


class NegativeBinomialParams(NamedTuple):
    """Params of K states."""

    mean: jax.Array  # (K, d)
    dispersion: jax.Array  # (K, d) alpha >= 0: the variance is mean + alpha mean^2; 0 is Poisson


class NegativeBinomialTotals(NamedTuple):
    """Sums over rows of r times the following, alpha the dispersion at which they are taken, R = sum_{i<y} log(1 + alpha i)."""

    weight: jax.Array  # (K, d) 1
    total: jax.Array  # (K, d) y
    pairs: jax.Array  # (K, d) y (y - 1)
    place: jax.Array  # (K, d) alpha
    rising: jax.Array  # (K, d) R - log y!
    slope: jax.Array  # (K, d) dR / d alpha
    curvature: jax.Array  # (K, d) d^2 R / d alpha^2


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(ExponentialFamily):
    r"""log p(y | k) = sum_j [ y log m - (y + 1/a) log(1 + a m) + sum_{i<y} log(1 + a i) - log y! ], m = mean_kj, a = dispersion_kj

    The variance is mean + dispersion mean^2 (the NB2 of Cameron and Trivedi 1986, as in statsmodels and glm.nb with
    theta = 1 / dispersion). Dispersion 0 is the Poisson distribution, exactly.

    Data: (n, d) whole numbers >= 0; missing (NaN) cells are left out.

    M-step: mean = sum r y / sum r, whatever the dispersion. In the dispersion only sum_i log(1 + a i) is not linear in
    statistics: it is replaced by A log(1 + a B), whose value, slope and curvature are its own at the current dispersion, and
    what results is maximised (`closed = False`: the algorithm guards the step, which converges as Newton's method does).
    Where sum r y (y - 1) / sum r <= mean^2, the counts of a state are not overdispersed and the maximum is at dispersion 0
    exactly (Levin and Reeds 1977, Ann. Statist. 5:79). A state that has seen no count keeps mean 0 and its dispersion.

    Raises:
        ValueError: negative or fractional counts.
    """

    closed = False
    discrete = True

    @property
    def domains(self) -> NegativeBinomialParams:
        return NegativeBinomialParams(NonNegative(event_ndim=1), NonNegative(event_ndim=1))  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> NegativeBinomialParams:
        return NegativeBinomialParams((n_states, size), (n_states, size))  # type: ignore[arg-type]

    def check(self, y: np.ndarray, columns: tuple[str, ...] | None) -> None:
        check_cells(y, columns, (y < 0) | (y != np.floor(y)), "are negative or fractional", "give whole counts >= 0")

    def phi(self, y: jax.Array, present: jax.Array | None) -> jax.Array:
        del present
        return -log_factorial(y)  # 0 where missing, as y is

    # E-step

    def log_prob(self, bound: NegativeBinomialParams, cells: Cells) -> jax.Array:
        mean, alpha = bound.mean[..., None], bound.dispersion[..., None]  # (1, K, d, 1)
        y = cells.value[:, None]
        each = log_rising(y, alpha) - y * jnp.log1p(alpha * mean) - _log1p_over(mean, alpha)
        if cells.present is not None:
            each = each * cells.present[:, None]
        seen = matmul(log_or_never(bound.mean), cells.value)
        total = seen + each.sum(axis=2) + cells.phi.sum(axis=1, keepdims=True)
        return jnp.where(seen < 1e-6 * exponential.NEVER, -jnp.inf, total)

    def sums(self, bound: NegativeBinomialParams, cells: Cells, r: jax.Array) -> Any:
        alpha = bound.dispersion[..., None]
        y = cells.value
        spread = jnp.broadcast_to(alpha, (y.shape[0], *alpha.shape[1:3], y.shape[-1]))
        one = jnp.ones_like(spread)

        def rising(a: jax.Array) -> jax.Array:
            return log_rising(y[:, None], a)

        def slope(a: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(rising, (a,), (one,))

        (value, first), (_, second) = jax.jvp(slope, (spread,), (one,))
        present = jnp.ones_like(y) if cells.present is None else cells.present
        weight = exponential.sums(present, r)

        def weigh(each: jax.Array) -> jax.Array:
            return (r[:, :, None] * each * present[:, None]).sum(axis=-1)

        return NegativeBinomialTotals(
            weight, exponential.sums(y, r), exponential.sums(y * (y - 1), r), weight * bound.dispersion,
            weigh(value + cells.phi[:, None]), weigh(first), weigh(second),
        )  # fmt: skip

    def expected_log_prob(self, params: NegativeBinomialParams, statistics: Any) -> jax.Array:
        """Q, with sum_i log(1 + a i) replaced as in the M-step: value, gradient and Hessian are right at the params at which the
        statistics were taken."""
        weight, total, *_, rising, _, _ = statistics
        mean, alpha = params
        count, reach, place = _expansion(statistics)
        risen = rising + count * (jnp.log1p(alpha * reach) - jnp.log1p(place * reach))
        q = (risen - total * jnp.log1p(alpha * mean) - weight * _log1p_over(mean, alpha)).sum()
        return q + exponential.dot(log_or_never(mean), total)

    # M-step

    def maximize(self, params: NegativeBinomialParams, statistics: NegativeBinomialTotals, prior: None) -> NegativeBinomialParams:
        del prior
        weight, total, pairs = statistics[:3]
        seen, counted = weight > 0, total > 0
        safe = jnp.where(seen, weight, 1)
        mean = jnp.where(seen, total / safe, params.mean)
        m = jnp.where(counted, mean, 1)
        count, reach, _ = _expansion(statistics)
        found = _dispersion(count / safe / m, reach / m) / m
        # a surrogate that falls everywhere although 0 is not the maximum: come closer
        found = jnp.where(found > 0, found, 0.25 * params.dispersion)
        dispersion = jnp.where(pairs > total * m, found, 0)
        return NegativeBinomialParams(mean, jnp.where(counted, dispersion, params.dispersion))

    # the rest

    def magnitude(self, params: NegativeBinomialParams, rows: Rows) -> jax.Array:
        """Sum of the sizes of log y! and y log m at a typical row."""
        size = jnp.where(params.mean > 0, jnp.abs(jnp.log(jnp.where(params.mean > 0, params.mean, 1))), 0)
        return (rows.typical + params.mean * (1 + size)).sum(axis=1).max() + rows.d

    def moments(self, params: NegativeBinomialParams) -> tuple[jax.Array, jax.Array]:
        return params.mean, params.mean * (1 + params.dispersion * params.mean)

    def tails(self, params: NegativeBinomialParams, y: jax.Array, x: None = None) -> Tails:
        del x
        return negative_binomial_tails(y[:, None], params.mean, params.dispersion)

    def sample(self, key: jax.Array, params: NegativeBinomialParams, states: jax.Array) -> jax.Array:
        mean, alpha = params.mean[states], params.dispersion[states]
        one, other = jax.random.split(key)
        varies = alpha > 0
        size = 1 / jnp.where(varies, alpha, 1)
        factor = jnp.where(varies, jax.random.gamma(one, size) / size, 1)
        return jax.random.poisson(other, mean * factor).astype(mean.dtype)

    def init(self, rows: Rows, r: jax.Array) -> NegativeBinomialParams:
        """Moments of the pilot rows, every state pulled towards the pooled ones by a few rows."""
        present = (~jnp.isnan(rows.pilot)).astype(rows.dtype)
        y = jnp.where(present > 0, rows.pilot, 0)
        totals = [matmul(r.T, each) for each in (present, y, y * (y - 1))]
        pull = 0.05 * r.sum(axis=0)[:, None] + 1
        mass = jnp.maximum(totals[0].sum(axis=0), 1)
        weight, total, pairs = (total + pull * total.sum(axis=0) / mass for total in totals)
        mean, pairs = total / weight, pairs / weight
        square = jnp.where(mean > 0, mean * mean, 1)
        return NegativeBinomialParams(mean, jnp.clip(jnp.where(mean > 0, pairs / square - 1, 1), 0.01, 10.0))


jax.tree_util.register_dataclass(NegativeBinomial, data_fields=(), meta_fields=())


def _log1p_over(mean: jax.Array, alpha: jax.Array) -> jax.Array:
    """log(1 + alpha mean) / alpha, which is mean at alpha = 0."""
    x = alpha * mean
    return mean * (1 - x * log1p_remainder(x))


def _expansion(statistics: NegativeBinomialTotals) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A, B and alpha0 such that A log(1 + alpha B) has the slope and curvature of the statistics at alpha0; 0 without pairs.

    With w_i = i / (1 + alpha0 i), slope = sum w_i and curvature = -sum w_i^2, so that B / (1 + alpha0 B) is a mean of the w_i,
    and B a mean of the i.
    """
    weight, _, pairs, place, _, slope, curvature = statistics
    alpha = place / jnp.where(weight > 0, weight, 1)
    some = (pairs > 0) & (slope > 0) & (curvature < 0)
    slope, curvature = jnp.where(some, slope, 1), jnp.where(some, curvature, -0.5)
    level = -curvature / slope
    left = jnp.maximum(1 - alpha * level, jnp.finfo(slope.dtype).eps)
    return jnp.where(some, slope / level, 0), jnp.where(some, level / left, 0), alpha


def _dispersion(a: jax.Array, b: jax.Array) -> jax.Array:
    """The x = alpha m that maximises a log(1 + x b) - (1 + 1/x) log(1 + x), 0 where that falls everywhere; a < 1.

    The derivative vanishes where 1 / phi(x) = (1 + b x) / (a b), phi(x) = (x - log(1 + x)) / x^2. The left side is concave and
    below 2 + x + sqrt(x), so that Newton's method from where that meets the right side comes down to the largest root.
    """
    possible = (a > 0) & (b > 0)
    a, b = jnp.where(possible, a, 0.5), jnp.where(possible, b, 1)
    eps = jnp.finfo(a.dtype).eps
    rest = jnp.maximum(1 / a - 1, eps)
    z = (1 + jnp.sqrt(jnp.maximum(1 + 4 * rest * (2 - 1 / (a * b)), 0))) / (2 * rest)

    def gap(x: jax.Array) -> jax.Array:
        return 1 / log1p_remainder(x) - (1 + b * x) / (a * b)

    def step(_: int, x: jax.Array) -> jax.Array:
        value, slope = jax.jvp(gap, (x,), (jnp.ones_like(x),))
        falling = slope < 0
        return jnp.where(falling, jnp.maximum(x - value / jnp.where(falling, slope, -1), 0), 0)

    return jnp.where(possible, jax.lax.fori_loop(0, NEWTON_STEPS, step, z * z), 0)
