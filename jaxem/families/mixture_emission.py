"""A mixture within each state: Gaussian-mixture hidden Markov models, and mixtures of mixtures."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from jaxem import initialize
from jaxem.checks import check_count
from jaxem.domains import Simplex
from jaxem.families.gaussian import Gaussian
from jaxem.family import Family, Remark, check_family
from jaxem.kernels.linalg import HIGHEST, outer
from jaxem.kernels.quantiles import Tails
from jaxem.priors import MixturePrior, dot_log
from jaxem.rows import Rows, Table


class MixtureEmissionParams(NamedTuple):
    """Params of K states of M components each."""

    weights: jax.Array  # (K, M) sum to 1 along the last axis
    components: Any  # the inner family's params; leaves that differ by state lead with (K, M)


class MixtureEmissionStatistics(NamedTuple):
    """Sums over rows."""

    weights: jax.Array  # (K, M)
    components: Any  # the inner family's statistics of K M states


class _Bound(NamedTuple):
    inner: Any
    log_weights: jax.Array  # (1, K, M)


@dataclasses.dataclass(frozen=True)
class MixtureEmission(Family):
    r"""p(y | k) = sum_m weights_km p(y | components_km), a finite mixture of any family within each state.

    The inner component is one more latent variable: statistics are the inner family's under r_k times the responsibilities
    of the components within the state, and the M-step is a mixture's (Juang, Levinson and Sondhi 1986, IEEE Trans. Inf.
    Theory 32:307), so that EM stays monotone. Data are the inner family's. A prior is a `MixturePrior` of each state's mixture.

    Args:
        family: what a row looks like given its component.
        n_components: M >= 1 in every state.

    Raises:
        TypeError, ValueError: n_components not a whole number >= 1; something else than a family.
    """

    family: Any
    n_components: int = 0  # has to be given

    prior_type = MixturePrior

    def __post_init__(self):
        check_family(self.family)
        check_count(self.n_components, "n_components")

    @property
    def families(self) -> dict[str, Any]:
        """The inner family, for reports."""
        return {"components": self.family}

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return self.family.closed

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        return self.family.discrete

    @property
    def observed_blocks(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"components.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> MixtureEmissionParams:
        return MixtureEmissionParams(Simplex(), self.family.domains)  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> MixtureEmissionParams:
        m = self.n_components
        leaves: list[Any]
        tree: Any
        leaves, tree = jax.tree.flatten(self.family.domains)
        shapes = tree.flatten_up_to(self.family.structure(n_states * m, size))
        cut = [(n_states, m, *s[1:]) if domain.state_axes else s for domain, s in zip(leaves, shapes, strict=True)]
        return MixtureEmissionParams((n_states, m), tree.unflatten(cut))  # type: ignore[arg-type]

    def absent(self, n_states: int, size: Any) -> int:
        return self.family.absent(n_states * self.n_components, size)

    def _flat(self, components: Any) -> Any:
        """Inner params of K M states."""
        return jax.tree.map(
            lambda domain, leaf: leaf.reshape(-1, *leaf.shape[2:]) if domain.state_axes else leaf, self.family.domains, components
        )

    def _cut(self, components: Any) -> Any:
        """Inner params of K M states, state by state."""
        m = self.n_components
        return jax.tree.map(
            lambda domain, leaf: leaf.reshape(-1, m, *leaf.shape[1:]) if domain.state_axes else leaf,
            self.family.domains, components,
        )  # fmt: skip

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        return self.family.read(data, weights, missing)

    def width(self, size: Any) -> int:
        return self.family.width(size)

    def embed(self, rows: Rows) -> jax.Array:
        return self.family.embed(rows)

    def settle(self, params: MixtureEmissionParams | None, rows: Rows) -> Any:
        inner = None if params is None else self._flat(params.components)
        return dataclasses.replace(self, family=self.family.settle(inner, rows))

    def localize(self, params: MixtureEmissionParams, rows: Rows, shared: bool = False) -> Any:
        return dataclasses.replace(self, family=self.family.localize(self._flat(params.components), rows, shared))

    # E-step

    def bind(self, params: MixtureEmissionParams, mask: jax.Array, origin: Any) -> _Bound:
        weights = params.weights
        log_weights = jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)
        return _Bound(self.family.bind(self._flat(params.components), mask, origin), log_weights[None])

    def _joint(self, bound: _Bound, cells: Any) -> jax.Array:
        """(c, K, M, b) log of weight times density."""
        inner = self.family.log_prob(bound.inner, cells)
        return inner.reshape(inner.shape[0], -1, self.n_components, inner.shape[-1]) + bound.log_weights[..., None]

    def _within(self, bound: _Bound, cells: Any) -> jax.Array:
        """(c, K, M, b) responsibilities of the components within each state; 0 where none can produce the row."""
        joint = self._joint(bound, cells)
        top = joint.max(axis=2, keepdims=True)
        mass = jnp.exp(joint - jnp.where(jnp.isfinite(top), top, 0))
        total = mass.sum(axis=2, keepdims=True)
        return mass / jnp.where(total > 0, total, 1)

    def log_prob(self, bound: _Bound, cells: Any) -> jax.Array:
        joint = self._joint(bound, cells)
        top = joint.max(axis=2, keepdims=True)
        top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
        total = jnp.exp(joint - top).sum(axis=2)
        seen = total > 0
        return jnp.where(seen, jnp.log(jnp.where(seen, total, 1)) + top[:, :, 0], -jnp.inf)

    def sums(self, bound: _Bound, cells: Any, r: jax.Array) -> MixtureEmissionStatistics:
        own = r[:, :, None] * self._within(bound, cells)
        inner = self.family.sums(bound.inner, cells, own.reshape(own.shape[0], -1, own.shape[-1]))
        return MixtureEmissionStatistics(own.sum(axis=-1), inner)

    def finish(self, bound: _Bound, raw: MixtureEmissionStatistics, origin: Any) -> MixtureEmissionStatistics:
        return MixtureEmissionStatistics(raw.weights.sum(axis=0), self.family.finish(bound.inner, raw.components, origin))

    def complete(self, bound: _Bound, cells: Any, origin: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean, spread, observed = self.family.complete(bound.inner, cells, origin)
        q = self._within(bound, cells)  # (c, K, M, b)
        each = mean.reshape(*q.shape[:3], *mean.shape[2:])  # (c, K, M, d, b)
        middle = (q[:, :, :, None] * each).sum(axis=2)
        deviation = jnp.moveaxis(each - middle[:, :, None], 3, -1)  # (c, K, M, b, d)
        spread = spread if spread.ndim == 5 else spread[:, :, None]
        spread = spread.reshape(spread.shape[0], *q.shape[1:3], *spread.shape[2:])
        total = (q[..., None, None] * (outer(deviation, deviation) + spread)).sum(axis=2)
        missing = jnp.moveaxis(jnp.broadcast_to(1 - observed, middle[:, 0].shape), 1, -1)
        return middle, total * outer(missing, missing)[:, None], observed

    def moments(self, params: MixtureEmissionParams) -> tuple[jax.Array, jax.Array]:
        """By the law of total variance within each state."""
        k, m = params.weights.shape
        mean, spread = (leaf.reshape(k, m, *leaf.shape[1:]) for leaf in self.family.moments(self._flat(params.components)))
        if spread.ndim == 3:
            spread = spread[..., None] * jnp.eye(spread.shape[-1], dtype=spread.dtype)
        middle = jnp.einsum("km,kmd->kd", params.weights, mean, precision=HIGHEST)
        deviation = mean - middle[:, None]
        return middle, (params.weights[..., None, None] * (outer(deviation, deviation) + spread)).sum(axis=1)

    def tails(self, params: MixtureEmissionParams, y: jax.Array, x: Any = None) -> Tails:
        extra = {} if x is None else {"x": x}
        inner = self.family.tails(self._flat(params.components), y, **extra)
        log_weights = jnp.log(params.weights)[..., None]  # (K, M, 1)

        def mixed(leaf: jax.Array) -> jax.Array:
            return logsumexp(leaf.reshape(len(leaf), *params.weights.shape, -1) + log_weights, axis=2)

        return Tails(*map(mixed, inner))

    # M-step

    def maximize(self, params: MixtureEmissionParams, statistics: MixtureEmissionStatistics, prior: Any) -> MixtureEmissionParams:
        return self._maximize(params, statistics, prior, self.family.maximize)

    def maximize_expanded(self, params: Any, statistics: Any, prior: Any) -> MixtureEmissionParams:
        return self._maximize(params, statistics, prior, self.family.maximize_expanded)

    def _maximize(self, params: Any, statistics: Any, prior: MixturePrior | None, maximize: Any) -> MixtureEmissionParams:
        counts = statistics.weights
        if prior is not None:
            counts = jnp.maximum(counts + prior.concentration - 1, 0)
        total = counts.sum(axis=-1, keepdims=True)
        weights = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), params.weights)
        inner = maximize(self._flat(params.components), statistics.components, None if prior is None else prior.components)
        return MixtureEmissionParams(weights, self._cut(inner))

    def expected_log_prob(self, params: MixtureEmissionParams, statistics: MixtureEmissionStatistics) -> jax.Array:
        inner = self.family.expected_log_prob(self._flat(params.components), statistics.components)
        return dot_log(statistics.weights, params.weights) + inner

    def log_prior(self, params: MixtureEmissionParams, prior: MixturePrior) -> jax.Array:
        exponents = jnp.broadcast_to(prior.concentration - 1, params.weights.shape)
        out = dot_log(exponents, params.weights)
        if prior.components is None:
            return out
        return out + self.family.log_prior(self._flat(params.components), prior.components)

    # the rest

    def degenerate(self, params: MixtureEmissionParams, rows: Rows) -> jax.Array:
        k, m = params.weights.shape
        inner = self.family.degenerate(self._flat(params.components), rows)
        return jnp.broadcast_to(inner, (k * m,)).reshape(k, m).any(axis=1)

    def magnitude(self, params: MixtureEmissionParams, rows: Rows) -> jax.Array:
        return self.family.magnitude(self._flat(params.components), rows)

    def remarks(self, params: MixtureEmissionParams, rows: Rows) -> list[Remark]:
        m = self.n_components
        found = self.family.remarks(self._flat(params.components), rows)
        return [r if r.state is None else Remark(r.state // m, f"its component {r.state % m}: {r.sentence}") for r in found]

    def canonical(self, params: MixtureEmissionParams) -> MixtureEmissionParams:
        """Components within a state in the order of the inner family's rank."""
        inner = self.family.canonical(self._flat(params.components))
        rank = self.family.rank(inner)
        keys = jnp.moveaxis(rank.reshape(*params.weights.shape, -1), -1, 0)[::-1]
        order = jnp.lexsort(tuple(keys), axis=-1)  # (K, M)

        def sort(domain: Any, leaf: jax.Array) -> jax.Array:
            if not domain.state_axes:
                return leaf
            return jnp.take_along_axis(leaf, order.reshape(order.shape + (1,) * (leaf.ndim - 2)), axis=1)

        components = jax.tree.map(sort, self.family.domains, self._cut(inner))
        return MixtureEmissionParams(jnp.take_along_axis(params.weights, order, axis=1), components)

    def rank(self, params: MixtureEmissionParams) -> jax.Array:
        inner = self.family.rank(self._flat(params.components))
        return jnp.einsum("km,kmj->kj", params.weights, inner.reshape(*params.weights.shape, -1), precision=HIGHEST)

    def sample(self, key: jax.Array, params: MixtureEmissionParams, states: jax.Array, **covariates: Any) -> Any:
        choose, draw = jax.random.split(key)
        component = jax.random.categorical(choose, jnp.log(params.weights[states]), axis=-1)
        return self.family.sample(draw, self._flat(params.components), states * self.n_components + component, **covariates)

    def draw_missing(self, key: jax.Array, params: Any, states: jax.Array, y: Any, x: Any = None) -> Any:
        raise TypeError(
            "MixtureEmission: the component within a state is not drawn, and so no missing cells; take a model with more states."
        )

    def init(self, rows: Rows, r: jax.Array) -> MixtureEmissionParams:
        """Each state's pilot rows cut by k-means once more."""
        points, m, k = self.family.embed(rows), self.n_components, r.shape[1]
        keys = jax.random.split(jax.random.key(0), k)
        split = jax.vmap(lambda key, weights: initialize.memberships(key, points, weights, m))(keys, r.T)  # (K, n, M)
        inner = jnp.moveaxis(split, 1, 0).reshape(len(points), k * m)
        counts = split.sum(axis=1) + 1
        return MixtureEmissionParams(counts / counts.sum(axis=1, keepdims=True), self._cut(self.family.init(rows, inner)))


@dataclasses.dataclass(frozen=True, init=False)
class GaussianMixtureEmission(MixtureEmission):
    """p(y | k) = sum_m weights_km N(y; mean_km, covariance_km): a `MixtureEmission` of Gaussians, missing cells included.

    Args:
        n_components: M >= 1 in every state.
        covariance: "full", "tied" (one for all components of all states), "diagonal" or "spherical".
        family: the inner family, with its kernel chosen. Set by `settle`.
    """

    covariance: str = "full"

    def __init__(self, n_components: int, covariance: str = "full", *, family: Any = None):
        object.__setattr__(self, "family", Gaussian(covariance) if family is None else family)
        object.__setattr__(self, "n_components", n_components)
        object.__setattr__(self, "covariance", covariance)
        self.__post_init__()


jax.tree_util.register_dataclass(MixtureEmission, data_fields=("family",), meta_fields=("n_components",))
jax.tree_util.register_dataclass(GaussianMixtureEmission, data_fields=("family",), meta_fields=("n_components", "covariance"))
