"""Distributions of params under conjugate priors: what variational Bayes moves and Gibbs sampling draws from.

A distribution of params is a tree of the params' own structure with a `Distribution` in the place of a leaf, or of several that
depend on each other: `MixtureParams(Dirichlets(...), PoissonParams(Gammas(...)))`. A prior is such a tree, and so is what
statistics make of it. A family says by `conjugate` which distributions its prior stands for, by `update` what statistics do to
them, and by `under` what they expect of a row's log-density; all else follows here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, multigammaln

from jaxem.domains import PositiveDefinite
from jaxem.kernels.linalg import apply, cholesky, invert_lower, matmul, outer, transpose


class Distribution:
    """Independent distributions of one kind, batched like the params that they are of."""

    def mean(self) -> Any:
        """The params expected."""
        raise NotImplementedError

    def draw(self, key: jax.Array) -> Any:
        """Params at random."""
        raise NotImplementedError

    def divergence(self, prior: Any) -> jax.Array:
        """() Kullback and Leibler's divergence of this from `prior`, of the same kind."""
        raise NotImplementedError

    def flaw(self) -> str | None:
        """Why this is no distribution, or None. Host."""
        raise NotImplementedError

    def relabel(self, domain: Any, order: jax.Array) -> Any:
        """State order[k] at place k; `domain` is that of the params."""
        return jax.tree.map(lambda leaf: domain.relabel(leaf, order), self)


@dataclasses.dataclass(frozen=True)
class Dirichlets(Distribution):
    """Of probabilities along the last axis. Concentration 0 stands for what is impossible: it is and stays 0."""

    concentration: jax.Array  # (..., C)

    def mean(self) -> jax.Array:
        return self.concentration / self.concentration.sum(axis=-1, keepdims=True)

    def _logs(self) -> jax.Array:
        """E log p, where possible; else 0."""
        return jnp.where(self._possible, digamma(self._safe) - digamma(self.concentration.sum(axis=-1, keepdims=True)), 0)

    def flaw(self) -> str | None:
        found = np.asarray(self.concentration)
        return _unless_positive("concentration", np.where((found == 0) & found.any(-1, keepdims=True), 1, found))

    @property
    def _possible(self) -> jax.Array:
        return self.concentration > 0

    @property
    def _safe(self) -> jax.Array:
        return jnp.where(self._possible, self.concentration, 1)

    def expected(self) -> jax.Array:
        """exp E log p: probabilities that sum to less than 1."""
        return jnp.where(self._possible, jnp.exp(self._logs()), 0)

    def draw(self, key: jax.Array) -> jax.Array:
        logs = jnp.where(self._possible, jax.random.loggamma(key, self._safe), -jnp.inf)
        return jax.nn.softmax(logs, axis=-1)

    def divergence(self, prior: Dirichlets) -> jax.Array:
        own, other = self.concentration, prior.concentration
        whole = gammaln(own.sum(-1)) - gammaln(other.sum(-1))
        each = gammaln(prior._safe) - gammaln(self._safe) + (own - other) * self._logs()
        return whole.sum() + jnp.where(self._possible, each, 0).sum()


@dataclasses.dataclass(frozen=True)
class Betas(Distribution):
    """Of probabilities."""

    a: jax.Array
    b: jax.Array

    def mean(self) -> jax.Array:
        return self.a / (self.a + self.b)

    def draw(self, key: jax.Array) -> jax.Array:
        return self._pair().draw(key)[..., 0]

    def divergence(self, prior: Betas) -> jax.Array:
        return self._pair().divergence(prior._pair())

    def flaw(self) -> str | None:
        return _unless_positive("a", self.a) or _unless_positive("b", self.b)

    def logs(self) -> tuple[jax.Array, jax.Array]:
        """E log p and E log(1 - p)."""
        whole = digamma(self.a + self.b)
        return digamma(self.a) - whole, digamma(self.b) - whole

    def _pair(self) -> Dirichlets:
        return Dirichlets(jnp.stack([self.a, self.b], axis=-1))


@dataclasses.dataclass(frozen=True)
class Gammas(Distribution):
    """Of rates: density proportional to x^(shape - 1) e^(-rate x)."""

    shape: jax.Array
    rate: jax.Array

    def mean(self) -> jax.Array:
        return self.shape / self.rate

    def flaw(self) -> str | None:
        return _unless_positive("shape", self.shape) or _unless_positive("rate", self.rate)

    def log(self) -> jax.Array:
        """E log x."""
        return digamma(self.shape) - jnp.log(self.rate)

    def draw(self, key: jax.Array) -> jax.Array:
        return jnp.exp(jax.random.loggamma(key, self.shape) - jnp.log(self.rate))

    def divergence(self, prior: Gammas) -> jax.Array:
        out = (self.shape - prior.shape) * digamma(self.shape) - gammaln(self.shape) + gammaln(prior.shape)
        out = out + prior.shape * (jnp.log(self.rate) - jnp.log(prior.rate)) + self.shape * (prior.rate / self.rate - 1)
        return out.sum()


@dataclasses.dataclass(frozen=True)
class NormalInverseWisharts(Distribution):
    r"""Of means and covariances: mu | S ~ N(mean, S / shrinkage), S ~ inverse Wishart(dof, scale).

    With `cellwise`, of means and variances: inverse gamma(dof / 2, scale / 2), the same in one dimension. `mean()` gives
    scale / dof for S, which exists for every dof: the inverse of the expected precision, as scikit-learn reports it.
    """

    location: jax.Array  # (K, d)
    shrinkage: jax.Array  # (K,), or (K, d) where cellwise
    dof: jax.Array  # full (K,), tied (), diagonal (K, d), spherical (K,)
    scale: jax.Array  # in the form of the covariance
    cellwise: bool
    form: Any  # NamedTuple of mean and covariance

    @classmethod
    def at(cls, params: Any, cellwise: bool, prior: Any) -> NormalInverseWisharts:
        """A prior (mean, shrinkage, dof, scale in the form of the covariance) for params of this shape."""
        mean, covariance = params
        return cls(
            location=jnp.broadcast_to(prior.mean, mean.shape),
            shrinkage=jnp.broadcast_to(prior.shrinkage, mean.shape if cellwise else mean.shape[:1]),
            dof=jnp.broadcast_to(prior.dof, covariance.shape if cellwise else covariance.shape[:-2]),
            scale=jnp.broadcast_to(prior.scale, covariance.shape),
            cellwise=cellwise,
            form=type(params),
        )

    def update(self, weight: jax.Array, mean: jax.Array, scatter: jax.Array) -> NormalInverseWisharts:
        """What rows of this weight, mean and scatter about it make of it, state by state; dof and scale that states or columns
        share gather theirs."""
        shrinkage = self.shrinkage + weight
        share = weight / jnp.where(shrinkage > 0, shrinkage, 1)
        if self.cellwise:
            deviation = jnp.where(weight > 0, mean - self.location, 0)
            scatter, step = scatter + self.shrinkage * share * deviation * deviation, share * deviation
        else:
            deviation = jnp.where(weight[:, None] > 0, mean - self.location, 0)
            scatter = scatter + (self.shrinkage * share)[:, None, None] * outer(deviation, deviation)
            scatter, step = 0.5 * (scatter + transpose(scatter)), share[:, None] * deviation
        if self.dof.ndim < weight.ndim:
            shared = 0 if self.dof.ndim == 0 else 1  # by states where tied, by columns where spherical
            weight, scatter = weight.sum(shared), scatter.sum(shared)
        return dataclasses.replace(
            self, location=self.location + step, shrinkage=shrinkage, dof=self.dof + weight, scale=self.scale + scatter
        )

    def mean(self) -> Any:
        return self.form(self.location, self.scale / self._wide(self.dof))

    def _wide(self, numbers: jax.Array) -> jax.Array:
        """Numbers of each covariance, to multiply it by."""
        return numbers if self.cellwise else numbers[..., None, None]

    def _per_cell(self, numbers: jax.Array) -> jax.Array:
        """Numbers of each variance, one for each cell (K, d)."""
        return numbers[:, None] if numbers.ndim < self.location.ndim else numbers

    @property
    def _d(self) -> int:
        """Dimensions of a covariance."""
        return 1 if self.cellwise else self.location.shape[-1]

    def _digamma(self) -> jax.Array:
        """The multivariate digamma function at dof / 2."""
        return sum((digamma(0.5 * (self.dof - i)) for i in range(self._d)), jnp.zeros_like(self.dof))

    def shift(self) -> jax.Array:
        """What E log N(y; mu, S) has beside log N(y; mean()): (K,) for a row, or (K, d) for each cell where cellwise."""
        spread = 0.5 * (self._digamma() + self._d * (math.log(2) - jnp.log(self.dof)))
        return (self._per_cell(spread) if self.cellwise else spread) - 0.5 * self._d / self.shrinkage

    def draw(self, key: jax.Array) -> Any:
        for_scale, for_beside, for_mean = jax.random.split(key, 3)
        noise = jax.random.normal(for_mean, self.location.shape, self.location.dtype)
        if self.cellwise:
            variance = 0.5 * self.scale * jnp.exp(-jax.random.loggamma(for_scale, 0.5 * self.dof))
            return self.form(self.location + jnp.sqrt(self._per_cell(variance) / self.shrinkage) * noise, variance)
        d = self._d
        # Bartlett (1933): a standard Wishart matrix is A A', A lower triangular
        roots = jnp.exp(0.5 * jax.random.loggamma(for_scale, 0.5 * (self.dof[..., None] - jnp.arange(d))))
        below = jnp.tril(jax.random.normal(for_beside, self.scale.shape, self.scale.dtype), -1)
        triangle = below + math.sqrt(2) * roots[..., None] * jnp.eye(d, dtype=below.dtype)
        root = matmul(cholesky(self.scale), transpose(invert_lower(triangle)))
        covariance = matmul(root, transpose(root))
        mean = self.location + apply(root, noise) / jnp.sqrt(self.shrinkage)[:, None]
        return self.form(mean, 0.5 * (covariance + transpose(covariance)))

    def divergence(self, prior: NormalInverseWisharts) -> jax.Array:
        deviation = self.location - prior.location
        if self.cellwise:
            ratio = prior.scale / self.scale
            log_ratio = -jnp.log(ratio)
            trace, squares = ratio, deviation * deviation * self._per_cell(self.dof / self.scale)
        else:
            root, old = cholesky(self.scale), cholesky(prior.scale)
            whitener = invert_lower(root)
            log_ratio = 2 * (_log_diagonal(root) - _log_diagonal(old))
            trace = jnp.square(matmul(whitener, old)).sum((-2, -1))
            squares = self.dof * jnp.square(apply(whitener, deviation)).sum(-1)
        ratio_of_means = prior.shrinkage / self.shrinkage
        means = 0.5 * (self._d * (ratio_of_means - 1 - jnp.log(ratio_of_means)) + prior.shrinkage * squares)
        spread = 0.5 * (prior.dof * log_ratio + self.dof * (trace - self._d))
        spread = spread + multigammaln(0.5 * prior.dof, self._d) - multigammaln(0.5 * self.dof, self._d)
        return means.sum() + (spread + 0.5 * (self.dof - prior.dof) * self._digamma()).sum()

    def flaw(self) -> str | None:
        if not (np.asarray(self.dof) > self._d - 1).all():
            return f"dof of {np.asarray(self.dof).min():g}; give one above d - 1 = {self._d - 1}"
        if not self.cellwise and not PositiveDefinite().holds(np.asarray(self.scale)):
            return "a scale that is not positive definite"
        return _unless_positive("scale", self.scale, not self.cellwise) or _unless_positive("shrinkage", self.shrinkage)

    def relabel(self, domain: Any, order: jax.Array) -> NormalInverseWisharts:
        of_mean, of_spread = domain
        return dataclasses.replace(
            self,
            location=of_mean.relabel(self.location, order),
            shrinkage=of_mean.relabel(self.shrinkage, order),
            dof=of_spread.relabel(self.dof, order),
            scale=of_spread.relabel(self.scale, order),
        )


@dataclasses.dataclass(frozen=True)
class Held(Distribution):
    """Params that are known."""

    value: jax.Array

    def mean(self) -> jax.Array:
        return self.value

    def expected(self) -> jax.Array:
        """The value itself."""
        return self.value

    def flaw(self) -> str | None:
        return None

    def draw(self, key: jax.Array) -> jax.Array:
        del key
        return self.value

    def divergence(self, prior: Held) -> jax.Array:
        del prior
        return jnp.zeros((), self.value.dtype)


for _kind in (Dirichlets, Betas, Gammas, Held):
    jax.tree_util.register_dataclass(_kind, data_fields=[field.name for field in dataclasses.fields(_kind)], meta_fields=[])
jax.tree_util.register_dataclass(
    NormalInverseWisharts, data_fields=["location", "shrinkage", "dof", "scale"], meta_fields=["cellwise", "form"]
)


def _log_diagonal(root: jax.Array) -> jax.Array:
    return jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)


def _unless_positive(name: str, values: Any, exempt: Any = False) -> str | None:
    found = np.asarray(values)
    bad = ~np.asarray(exempt) & ~((found > 0) & np.isfinite(found))
    return f"{name} of {found[bad].flat[0]:g}; give finite numbers > 0" if bad.any() else None


def check_proper(model: Any, rows: Any) -> None:
    """Raises where a model has no proper conjugate prior. Host.

    Raises:
        TypeError, ValueError: as `model.conjugate`; a prior that is no distribution, under which there may be no posterior.
    """
    like = jax.tree.map(lambda shape: np.ones(shape, rows.dtype), model.structure(rows), is_leaf=lambda shape: type(shape) is tuple)
    for part in jax.tree.leaves(model.conjugate(like), is_leaf=is_distribution):
        flaw = part.flaw()
        if flaw is not None:
            raise ValueError(f"prior: is improper, with {flaw}; a posterior needs a proper one.")


def is_distribution(part: Any) -> bool:
    """Whether a part of a tree is a distribution."""
    return isinstance(part, Distribution)


def mean_of(distribution: Any) -> Any:
    """The params expected under a tree of distributions."""
    return jax.tree.map(lambda own: own.mean(), distribution, is_leaf=is_distribution)


def draw_from(key: jax.Array, distribution: Any) -> Any:
    """Params drawn from a tree of distributions."""
    parts, tree = jax.tree.flatten(distribution, is_leaf=is_distribution)
    keys = jax.random.split(key, len(parts))
    return jax.tree.unflatten(tree, [own.draw(each) for own, each in zip(parts, keys, strict=True)])


def divergence_of(distribution: Any, prior: Any) -> jax.Array:
    """() divergence of a tree of distributions from another."""
    parts = jax.tree.map(lambda own, other: own.divergence(other), distribution, prior, is_leaf=is_distribution)
    return jnp.stack(jax.tree.leaves(parts)).sum()


def relabel_distribution(domains: Any, distribution: Any, order: jax.Array) -> Any:
    """A tree of distributions with state order[k] at place k."""
    return jax.tree.map(lambda own, domain: own.relabel(domain, order), distribution, domains, is_leaf=is_distribution)
