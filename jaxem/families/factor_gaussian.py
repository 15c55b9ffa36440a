"""Gaussian rows whose covariance comes from a few factors: factor analysis and probabilistic principal components."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_count
from jaxem.domains import Loadings, Positive, Real
from jaxem.families.gaussian import Gaussian, GaussianParams
from jaxem.family import Family, Remark
from jaxem.kernels import factor
from jaxem.kernels.conditional import complete_draw
from jaxem.kernels.linalg import apply, cholesky, invert_lower, lower_form, transpose
from jaxem.kernels.moments import Moments, centre
from jaxem.kernels.quantiles import Tails
from jaxem.rows import Rows, Table


class FactorGaussianParams(NamedTuple):
    """Params of K states."""

    mean: jax.Array  # (K, d)
    loadings: jax.Array  # (K, d, q), top q x q block lower triangular with a diagonal >= 0
    uniquenesses: jax.Array  # (K, d) variances of the columns given the factors


class IsotropicFactorParams(NamedTuple):
    """Params of K states of probabilistic principal components."""

    mean: jax.Array  # (K, d)
    loadings: jax.Array  # (K, d, q), top q x q block lower triangular with a diagonal >= 0
    variance: jax.Array  # (K,) of every column given the factors


@dataclasses.dataclass(frozen=True)
class FactorGaussian(Family):
    r"""N(y; mu_k, L_k L_k' + Psi_k): y = mu + L f + e with q factors f ~ N(0, I) and independent e ~ N(0, Psi).

    Psi is diagonal, the uniquenesses (factor analysis; Lawley 1940), or `variance` times the identity (probabilistic
    principal components; Tipping and Bishop 1999, JRSS-B 61:611). In a mixture: factor analysers (Ghahramani and Hinton 1996).

    Data: (n, d) numbers, NaN where missing; the missing cells, an `Interval` too, are treated as by `Gaussian`.
    Statistics: the `Moments` of a full Gaussian, so that an M-step costs nothing that grows with n.
    M-step: the mean, and the (L, Psi) of largest likelihood given the scatter: the factors are not imputed but integrated out,
    which takes fewer steps than EM with factors as missing data. Psi by Newton's method (`jaxem.kernels.factor`), the isotropic
    one in closed form.

    A uniqueness stays above 1e-6 of its column's variance in the state (3.5e-4 in float32). One that ends there is a Heywood
    case, which `remarks` names; with more than q of them a state's covariance is singular in the limit: it has collapsed.

    Args:
        q: factors, at most as many as the columns identify: (d - q)^2 >= d + q, or q < d where isotropic.
        isotropic: whether all columns share one variance.
        gaussian: the full `Gaussian` that does the E-step, for its `kernel`.

    Raises:
        TypeError, ValueError: q not a whole number >= 1, or more factors than the columns identify.
    """

    q: int
    isotropic: bool = False
    gaussian: Gaussian = dataclasses.field(default_factory=Gaussian, kw_only=True)

    def __post_init__(self):
        check_count(self.q, "q")
        if not isinstance(self.isotropic, bool):
            raise TypeError(f"isotropic: found {self.isotropic!r}; give True or False.")
        if isinstance(self.gaussian, Gaussian) and self.gaussian.covariance != "full":
            raise ValueError(f"gaussian: found covariance {self.gaussian.covariance!r}; give a full one.")

    @property
    def _params(self) -> type:
        return IsotropicFactorParams if self.isotropic else FactorGaussianParams

    @property
    def domains(self) -> Any:
        return self._params(Real(event_ndim=1), Loadings(), Positive(event_ndim=0 if self.isotropic else 1))

    def structure(self, n_states: int, size: int) -> Any:
        own = (n_states,) if self.isotropic else (n_states, size)
        return self._params((n_states, size), (n_states, size, self.q), own)

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        table = self.gaussian.read(data, weights, missing)
        most = factor.most_factors(table.d, self.isotropic)
        if self.q > most:
            why = "q < d" if self.isotropic else "(d - q)^2 >= d + q"
            advice = f"give q <= {most}" if most else "give more columns"
            raise ValueError(f"q: found {self.q} factors of {table.d} columns, which identify at most {most} ({why}); {advice}.")
        return table

    def width(self, size: int) -> int:
        return self.gaussian.width(size)

    # E-step: that of a Gaussian

    def dense(self, params: Any) -> GaussianParams:
        """The same rows as a full Gaussian."""
        return GaussianParams(params.mean, factor.covariance(params.loadings, self._uniquenesses(params)))

    @staticmethod
    def _uniquenesses(params: Any) -> jax.Array:
        """(K, d), or (K, 1) where isotropic."""
        return params.variance[..., None] if hasattr(params, "variance") else params.uniquenesses

    def settle(self, params: Any, rows: Rows) -> FactorGaussian:
        dense = None if params is None else self.dense(params)
        return dataclasses.replace(self, gaussian=self.gaussian.settle(dense, rows))

    def localize(self, params: Any, rows: Rows, shared: bool = False) -> FactorGaussian:
        return dataclasses.replace(self, gaussian=self.gaussian.localize(self.dense(params), rows, shared))

    def bind(self, params: Any, mask: jax.Array, origin: jax.Array) -> Any:
        return self.gaussian.bind(self.dense(params), mask, origin)

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        return self.gaussian.log_prob(bound, cells)

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> Any:
        return self.gaussian.sums(bound, cells, r)

    def finish(self, bound: Any, raw: Any, origin: jax.Array) -> Moments:
        return self.gaussian.finish(bound, raw, origin)

    def complete(self, bound: Any, cells: Any, origin: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return self.gaussian.complete(bound, cells, origin)

    # M-step

    def maximize(self, params: Any, statistics: Moments, prior: Any = None) -> Any:
        del prior
        weight, mean, scatter = centre(statistics, self.gaussian.frame)
        counted = (weight > 0)[:, None]
        dense = self.dense(params).covariance
        spread = jnp.where(counted[..., None], scatter / jnp.where(counted, weight[:, None], 1)[..., None], dense)
        before = jnp.diagonal(dense, axis1=-2, axis2=-1)
        found = self._decompose(0.5 * (spread + transpose(spread)), before, self._uniquenesses(params))
        found = self._params(mean, *found)
        return jax.tree.map(lambda new, old: jnp.where(counted.reshape(-1, *(1,) * (new.ndim - 1)), new, old), found, params)

    def _decompose(self, spread: jax.Array, before: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Loadings and uniquenesses of largest likelihood given covariances (K, d, d). Where a variance is lost in rounding,
        that `before` (K, d) says what small is."""
        diagonal = jnp.maximum(jnp.diagonal(spread, axis1=-2, axis2=-1), jnp.finfo(spread.dtype).eps ** 2 * before)
        if self.isotropic:
            loadings, own = factor.principal(spread, self.q, factor.least(spread.dtype) * diagonal.mean(-1))
        else:
            loadings, own = factor.factorize(spread, start, self.q, diagonal)
        return lower_form(loadings), own

    def expected_log_prob(self, params: Any, statistics: Moments) -> jax.Array:
        return self.gaussian.expected_log_prob(self.dense(params), statistics)

    # the rest

    def _at_bound(self, params: Any) -> jax.Array:
        """(K, d), or (K, 1) where isotropic: which uniquenesses are at their lower bound."""
        variance = jnp.diagonal(self.dense(params).covariance, axis1=-2, axis2=-1)
        own = self._uniquenesses(params)
        variance = variance.mean(-1, keepdims=True) if self.isotropic else variance
        return own <= 1.5 * factor.least(own.dtype) * variance

    def degenerate(self, params: Any, rows: Rows) -> jax.Array:
        bounds = self._at_bound(params)
        few = 0 if self.isotropic else self.q
        return self.gaussian.degenerate(self.dense(params), rows) | (bounds.sum(-1) > few)

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        return self.gaussian.magnitude(self.dense(params), rows)

    def remarks(self, params: Any, rows: Rows) -> list[Remark]:
        names = rows.columns or tuple(f"x{j}" for j in range(rows.d))
        bounds, eps = np.asarray(self._at_bound(params)), np.finfo(np.asarray(params.mean).dtype).eps
        variance = np.diagonal(np.asarray(self.dense(params).covariance, np.float64), axis1=-2, axis2=-1)
        loadings = np.asarray(params.loadings, np.float64) / np.sqrt(np.where(variance > 0, variance, 1))[..., None]
        out = []
        for k, at in enumerate(bounds):
            if self.isotropic and at.any():
                out.append(Remark(k, f"variance is at its lower bound: {self.q} factors explain all of the rows."))
            elif at.any():
                which = ", ".join(names[j] for j in np.flatnonzero(at))
                out.append(Remark(k, f"uniqueness of {which} is at its lower bound (a Heywood case)."))
            left, strength, _ = np.linalg.svd(loadings[k], full_matrices=False)
            used = int((strength > np.sqrt(eps)).sum())
            if used < self.q:
                out.append(Remark(k, f"only {used} of {self.q} factors have loadings: the others find nothing in the rows."))
            alone = np.square(left[:, :used]).sum(axis=1) > 1 - np.sqrt(eps)  # without the column there is one factor less
            if alone.any() and not self.isotropic:
                which = ", ".join(names[j] for j in np.flatnonzero(alone))
                out.append(Remark(k, f"a factor has loadings on {which} alone: its loading and uniqueness are not identified."))
        return out

    def moments(self, params: Any) -> tuple[jax.Array, jax.Array]:
        return self.dense(params)

    def canonical(self, params: Any) -> Any:
        """The rotation with L' Psi^-1 L diagonal, largest first (Lawley 1940); sums of columns >= 0."""
        return params._replace(loadings=factor.principal_axes(params.loadings, self._uniquenesses(params)))

    def tails(self, params: Any, y: jax.Array, x: None = None) -> Tails:
        return self.gaussian.tails(self.dense(params), y, x)

    def rank(self, params: Any) -> jax.Array:
        return params.mean

    def sample(self, key: jax.Array, params: Any, states: jax.Array) -> jax.Array:
        of_factors, of_columns = jax.random.split(key)
        dtype = params.mean.dtype
        factors = jax.random.normal(of_factors, (states.shape[0], self.q), dtype)
        noise = jax.random.normal(of_columns, (states.shape[0], params.mean.shape[1]), dtype)
        return params.mean[states] + apply(params.loadings[states], factors) + jnp.sqrt(self._uniquenesses(params))[states] * noise

    def draw_missing(self, key: jax.Array, params: Any, states: jax.Array, y: jax.Array, x: None = None) -> jax.Array:
        del x
        return complete_draw(self.dense(params).covariance, states, y, self.sample(key, params, states))

    def init(self, rows: Rows, r: jax.Array) -> Any:
        """Principal factors of each state's pilot rows, at uniquenesses of (1 - q / 2d) over the diagonal of the inverse
        covariance (Joereskog 1967)."""
        mean, spread = self.gaussian.init(rows, r)
        variance = jnp.diagonal(spread, axis1=-2, axis2=-1)
        if self.isotropic:
            return self._params(mean, *self._decompose(spread, variance, variance))
        root = invert_lower(cholesky(spread))
        guess = (1 - self.q / (2 * rows.d)) / (root * root).sum(-2)
        guess = jnp.where((guess > 0.005 * variance) & (guess < variance), guess, 0.5 * variance)
        loadings = factor.loadings_given(spread, jnp.where(guess > 0, guess, 1), self.q)  # 0 where a column is constant
        return self._params(mean, lower_form(loadings), guess)


jax.tree_util.register_dataclass(FactorGaussian, data_fields=("gaussian",), meta_fields=("q", "isotropic"))
