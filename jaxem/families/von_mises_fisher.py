"""Directions: unit vectors around a mean direction."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, is_traced
from jaxem.domains import NonNegative, Sphere
from jaxem.family import Family
from jaxem.kernels import exponential
from jaxem.kernels.bessel import bessel_ratio, log_0f1, ratio_over
from jaxem.kernels.linalg import matmul, outer
from jaxem.rows import Rows, Table

NORM = 1e-5  # how far the norm of a row may be from 1
NEWTON_STEPS = 6


class VonMisesFisherParams(NamedTuple):
    """Params of K states."""

    direction: jax.Array  # (K, d) of norm 1
    concentration: jax.Array  # (K,) >= 0, 0 for directions without preference


class Resultants(NamedTuple):
    """Sums over rows."""

    weight: jax.Array  # (K,) sum of r
    resultant: jax.Array  # (K, d) sum of r E[y | observed cells]


class Directions(NamedTuple):
    """What the family reads. c groups of b rows."""

    value: jax.Array  # (c, d, b), 0 where missing
    present: Any  # (c, d, b) 1 or 0; None where no cell is missing
    hidden: Any  # (c, 1, b) number m of missing cells, at least 1
    left: Any  # (c, 1, b) rho^2 = 1 - |observed cells|^2, 0 where none is missing
    base: Any  # (c, 1, b) log [rho^{m-2} area of the unit sphere in m dimensions], 0 where none is missing


@dataclasses.dataclass(frozen=True)
class VonMisesFisher(Family):
    r"""p(y | k) = C_d(kappa_k) exp(kappa_k mu_k . y),  C_d(kappa) = kappa^{d/2-1} / [(2 pi)^{d/2} I_{d/2-1}(kappa)]

    mu = direction, kappa = concentration; a density on the unit sphere in d >= 2 dimensions (on the circle, von Mises).

    Data: (n, d) rows of norm 1, to 1e-5; they are then brought to norm 1 exactly. Missing (NaN) cells are integrated out
    exactly: with m of them, observed cells O and rho^2 = 1 - |y_O|^2, x = kappa rho |mu_M|, the density of the observed cells is

        p(y_O) = C_d(kappa) e^{kappa mu_O . y_O} rho^{m-2} (2 pi)^{m/2} I_{m/2-1}(x) / x^{m/2-1},

    and E[y_M | y_O] = rho I_{m/2}(x) / I_{m/2-1}(x) mu_M / |mu_M|; for m = 1, cosh and tanh.

    M-step: the maximiser. mu is the direction of S = sum r E[y], kappa solves I_{d/2}(kappa) / I_{d/2-1}(kappa) = |S| / sum r,
    by Newton's method from the start of Banerjee et al. 2005 (JMLR 6:1345).

    The likelihood is unbounded where all directions of a state are equal (kappa to infinity): `degenerate` says so, and takes
    for equal what is so to rounding, 1 - |S| / sum r below 16 eps.

    Raises:
        ValueError: d < 2; a row whose norm is not 1; a row with missing cells whose observed ones have norm 1 already.
    """

    @property
    def domains(self) -> VonMisesFisherParams:
        return VonMisesFisherParams(Sphere(), NonNegative())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: int) -> VonMisesFisherParams:
        return VonMisesFisherParams((n_states, size), (n_states,))  # type: ignore[arg-type]

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        del weights
        y, columns = check_matrix(data)
        d = y.shape[1]
        if d < 2:
            raise ValueError("y: found one column; a direction has at least two.")
        origin: Any = np.zeros(1, y.dtype)
        if is_traced(y):
            return Table(Directions(y, None, None, None, None), y, jnp.asarray(origin), d, d)
        observed = ~np.isnan(y)
        hidden = d - observed.sum(axis=1)
        value: Any = np.where(observed, y, 0)
        square = np.square(value.astype(np.float64)).sum(axis=1)
        _check_norms(np.sqrt(square), hidden, d, np.finfo(y.dtype).eps)
        norm = np.where(hidden == 0, np.sqrt(square), 1)[:, None]
        value, pilot = (value / norm).astype(y.dtype), (y / norm).astype(y.dtype)
        if not (hidden.any() if missing is None else missing):
            return Table(Directions(value, None, None, None, None), pilot, origin, d, d, columns=columns)
        some = hidden > 0
        m = np.where(some, hidden, 1)
        left = np.where(some, 1 - square, 0)
        base = np.array([_log_area(int(each)) for each in m]) + 0.5 * (m - 2) * np.log(np.where(some, left, 1))
        columns_of = [each[:, None].astype(y.dtype) for each in (m, left, np.where(some, base, 0))]
        cells = Directions(value, observed.astype(y.dtype), *columns_of)
        return Table(cells, pilot, origin, d, d, observed.any(axis=1), bool(some.any()), columns=columns)

    def embed(self, rows: Rows) -> jax.Array:
        """The directions themselves."""
        return rows.pilot

    # E-step

    def log_prob(self, bound: VonMisesFisherParams, cells: Directions) -> jax.Array:
        direction, kappa = bound
        d = direction.shape[-1]
        normaliser = log_0f1(0.5 * d - 1, kappa * kappa) + _log_area(d)
        total = matmul(kappa[..., None] * direction, cells.value) - normaliser[..., None]
        if cells.present is None:
            return total
        total = total + cells.base + log_0f1(0.5 * cells.hidden - 1, self._argument(bound, cells))
        return jnp.where(cells.hidden < d, total, 0)  # a row that says nothing adds 0, not its rounding

    @staticmethod
    def _argument(bound: VonMisesFisherParams, cells: Directions) -> jax.Array:
        """x^2 = (kappa rho |mu_M|)^2, (c, K, b)."""
        hidden = 1 - cells.present
        return jnp.square(bound.concentration)[..., None] * cells.left * matmul(jnp.square(bound.direction), hidden)

    def sums(self, bound: VonMisesFisherParams, cells: Directions, r: jax.Array) -> Resultants:
        resultant = exponential.sums(cells.value, r)
        if cells.present is not None:
            pull = cells.left * ratio_over(0.5 * cells.hidden - 1, self._argument(bound, cells))
            resultant = resultant + bound.concentration[..., None] * bound.direction * exponential.sums(1 - cells.present, r * pull)
        return Resultants(r.sum(axis=-1), resultant)

    def expected_log_prob(self, params: VonMisesFisherParams, statistics: Resultants) -> jax.Array:
        direction, kappa = params
        d = direction.shape[-1]
        along = (direction * statistics.resultant).sum(axis=-1)
        return (kappa * along - statistics.weight * (log_0f1(0.5 * d - 1, kappa * kappa) + _log_area(d))).sum()

    def complete(self, bound: Any, cells: Directions, origin: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Conditional means, whose norm is below 1 where cells are missing, and covariances (c, K, b, d, d) row by row."""
        del origin
        shape = (cells.value.shape[0], *bound.direction.shape[1:], cells.value.shape[-1])
        if cells.present is None:
            flat = jnp.zeros((*shape[:2], shape[3], shape[2], shape[2]), cells.value.dtype)
            return jnp.broadcast_to(cells.value[:, None], shape), flat, jnp.ones_like(cells.value)
        q = self._argument(bound, cells)
        ratio = ratio_over(0.5 * cells.hidden - 1, q)  # (c, K, b)
        kappa = bound.concentration[..., None]
        gone = (1 - cells.present)[:, None]
        hidden = bound.direction[..., None] * gone
        mean = cells.value[:, None] + (cells.left * kappa * ratio)[:, :, None] * hidden
        bend = ratio * (ratio_over(0.5 * cells.hidden, q) - ratio) * kappa * kappa * cells.left
        at = jnp.moveaxis(hidden, 2, -1)  # (c, K, b, d)
        eye = jnp.eye(shape[2], dtype=at.dtype) * jnp.moveaxis(gone, 2, -1)[..., None]
        covariance = ratio[..., None, None] * eye + bend[..., None, None] * outer(at, at)
        return mean, cells.left[..., None, None] * covariance, cells.present

    # M-step

    def maximize(self, params: VonMisesFisherParams, statistics: Resultants, prior: None) -> VonMisesFisherParams:
        del prior
        weight, resultant = statistics
        scale = jnp.abs(resultant).max(axis=-1, keepdims=True)
        scale = jnp.where(scale > 0, scale, 1)
        length = scale[:, 0] * jnp.sqrt(jnp.square(resultant / scale).sum(axis=-1))
        some = length > 0
        direction = jnp.where(some[:, None], resultant / jnp.where(some, length, 1)[:, None], params.direction)
        seen = weight > 0
        safe = jnp.where(seen, weight, 1)
        # below this the difference is rounding; `degenerate` reports what it leads to
        slack = jnp.maximum((safe - length) / safe, 0.25 * _resolved(length.dtype))
        kappa = _concentration(jnp.where(some, length / safe, 0.5), slack, direction.shape[-1])
        return VonMisesFisherParams(direction, jnp.where(seen, jnp.where(some, kappa, 0), params.concentration))

    # the rest

    def degenerate(self, params: VonMisesFisherParams, rows: Rows) -> jax.Array:
        """A state has collapsed where 1 - |S| / sum r, which is about (d - 1) / (2 kappa), is lost in rounding."""
        order = 0.5 * params.direction.shape[-1] - 1
        return ~(bessel_ratio(order, params.concentration)[1] > _resolved(rows.dtype))

    def magnitude(self, params: VonMisesFisherParams, rows: Rows) -> jax.Array:
        """The concentration, which the normaliser takes back."""
        return 2 * params.concentration.max() + rows.d

    def moments(self, params: VonMisesFisherParams) -> tuple[jax.Array, jax.Array]:
        direction, kappa = params
        order, q = 0.5 * direction.shape[-1] - 1, kappa * kappa
        ratio = ratio_over(order, q)
        bend = q * ratio * (ratio_over(order + 1, q) - ratio)
        eye = jnp.eye(direction.shape[-1], dtype=direction.dtype)
        covariance = ratio[:, None, None] * eye + bend[:, None, None] * outer(direction, direction)
        return (kappa * ratio)[:, None] * direction, covariance

    def sample(self, key: jax.Array, params: VonMisesFisherParams, states: jax.Array) -> jax.Array:
        """By rejection of the cosine with the mean direction (Wood 1994, Commun. Statist. Simul. 23:157)."""
        direction, kappa = params.direction[states], params.concentration[states]
        one, other = jax.random.split(key)
        depth = _one_minus_cosine(one, kappa, direction.shape[-1])[:, None]
        noise = jax.random.normal(other, direction.shape, direction.dtype)
        aside = noise - (noise * direction).sum(axis=-1, keepdims=True) * direction
        aside = aside / jnp.sqrt((aside * aside).sum(axis=-1, keepdims=True))
        return (1 - depth) * direction + jnp.sqrt(depth * (2 - depth)) * aside

    def init(self, rows: Rows, r: jax.Array) -> VonMisesFisherParams:
        """The M-step from the pilot rows, missing cells as 0, every state pulled towards the pooled one by a few rows."""
        d, n_states = rows.d, r.shape[1]
        y = jnp.where(jnp.isnan(rows.pilot), 0, rows.pilot)
        weight, resultant = r.sum(axis=0), matmul(r.T, y)
        pull = 0.05 * weight + 1
        pooled = resultant.sum(axis=0) / jnp.maximum(weight.sum(), 1)
        neutral = VonMisesFisherParams(jnp.full((n_states, d), d**-0.5, y.dtype), jnp.ones(n_states, y.dtype))
        return self.maximize(neutral, Resultants(weight + pull, resultant + pull[:, None] * pooled), None)


jax.tree_util.register_dataclass(VonMisesFisher, data_fields=(), meta_fields=())


def _check_norms(norm: np.ndarray, hidden: np.ndarray, d: int, eps: float) -> None:
    """Raises ValueError where a row is no direction, or cannot be one."""
    bad = np.where(hidden == 0, np.abs(norm - 1) > NORM, norm > 1 + NORM)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = f"{int(bad.sum())} rows do not have norm 1, the first is row {row} with norm {norm[row]:.6g}"
        raise ValueError(f"y: {found}; divide each row by its norm.")
    full = (hidden > 0) & (hidden < d) & (norm * norm > 1 - 16 * eps)
    if full.any():
        row = int(np.flatnonzero(full)[0])
        raise ValueError(f"y: the observed cells of row {row} have norm 1 already; write 0 for its missing cells.")


def _log_area(d: int) -> float:
    """Of the unit sphere in d dimensions: log [2 pi^{d/2} / Gamma(d/2)]."""
    return math.log(2) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)


def _resolved(dtype: Any) -> float:
    """The least 1 - |mean of directions| that rounding leaves."""
    return 16 * float(jnp.finfo(dtype).eps)


def _concentration(length: jax.Array, slack: jax.Array, d: int) -> jax.Array:
    """The kappa at which A = I_{d/2}(kappa) / I_{d/2-1}(kappa) equals `length`, `slack` being 1 - length to its own precision.

    Newton's method for log kappa on the log-odds of A, which is nearly a straight line of slope 1.
    """

    def log_odds(t: jax.Array) -> jax.Array:
        ratio, complement = bessel_ratio(0.5 * d - 1, jnp.exp(t))
        return jnp.log(ratio) - jnp.log(complement)

    target = jnp.log(length) - jnp.log(slack)
    t = jnp.log(length * (d - length * length) / (slack * (1 + length)))
    for _ in range(NEWTON_STEPS):
        value, slope = jax.jvp(log_odds, (t,), (jnp.ones_like(t),))
        t = t - (value - target) / jnp.clip(slope, 0.5, 2)
    return jnp.exp(t)


def _one_minus_cosine(key: jax.Array, kappa: jax.Array, d: int) -> jax.Array:
    """Draws of 1 - mu . y, (n,)."""
    b = (d - 1) / (2 * kappa + jnp.sqrt(4 * kappa * kappa + (d - 1) ** 2))
    mode = 2 * b / (1 + b)

    def again(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return ~state[2].all()

    def draw(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        key, depth, done = state
        key, one, other = jax.random.split(key, 3)
        z = jax.random.beta(one, 0.5 * (d - 1), 0.5 * (d - 1), kappa.shape, kappa.dtype)
        found = 2 * b * z / (1 - (1 - b) * z)
        tilt = (mode + found - mode * found) / (mode * (2 - mode))
        exponent = kappa * (mode - found) + (d - 1) * jnp.log(tilt)
        accepted = exponent >= jnp.log1p(-jax.random.uniform(other, kappa.shape, kappa.dtype))
        return key, jnp.where(done, depth, found), done | accepted

    return jax.lax.while_loop(again, draw, (key, jnp.zeros_like(kappa), jnp.zeros(kappa.shape, bool)))[1]
