"""Finite mixtures: independent discrete states."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jaxem import coordinates, initialize, reduce
from jaxem.assign import Assign, Assigned, assign_rows
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, prepare_batch, prepare_rows, rows_for
from jaxem.domains import Simplex
from jaxem.factors import row_evidence
from jaxem.family import check_family, check_prior, spoken
from jaxem.imputation import as_given, completed_rows
from jaxem.model import Expectation, Model, size_of
from jaxem.models.conjugate_models import ConjugateMixture
from jaxem.priors import MixturePrior, dot_log
from jaxem.restrict import GIVEN, Restrictions, breaks_symmetry, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows


class MixtureParams(NamedTuple):
    """Params of a mixture of K components."""

    weights: jax.Array  # (K,) sum to 1
    components: Any  # the family's params with a leading K axis


class MixtureStatistics(NamedTuple):
    """Sums over rows."""

    weights: jax.Array  # (K,) sum of responsibilities times row weights
    components: Any  # the family's statistics


@dataclasses.dataclass(frozen=True)
class Mixture(ConjugateMixture, Model):
    r"""p(y) = sum_k weights_k p(y | components_k), for any family.

    E-step: responsibilities r_ik = weights_k p(y_i | k) / sum_l weights_l p(y_i | l), fused with the family's sums block by
    block, so that nothing of size n x K is kept. M-step: weights_k = sum_i w_i r_ik / sum_i w_i, components by the family;
    with a `MixturePrior`, the posterior mode (weights plus concentration - 1).

    Args:
        family: what a row looks like given its component.
        n_components: K >= 1.
        prior: None for maximum likelihood, or a `MixturePrior` (see `weak_prior`).
        fixed: params held at values: name -> number or array that broadcasts to the leaf, NaN where a cell stays free, for
            instance `{"rate": [[2.0], [nan]]}`.
        tied: params that all components share: names, or name -> entries along the last axis, for instance
            `{"coefficients": [0]}`.

    Raises:
        TypeError, ValueError: n_components not a whole number >= 1, family or prior of another type.
    """

    family: Any
    n_components: int
    _: dataclasses.KW_ONLY
    prior: MixturePrior | None = None
    fixed: Any = None
    tied: Any = None

    def __post_init__(self):
        check_family(self.family)
        check_count(self.n_components, "n_components")
        if isinstance(self.prior, MixturePrior):
            check_prior(self.family, self.prior.components)
        elif isinstance(self.prior, tuple):
            raise TypeError(f"prior: found {type(self.prior).__name__}; give MixturePrior(concentration, components).")

        if (self.fixed is not None or self.tied is not None) and isinstance(self.fixed, GIVEN):
            chosen = restrictions(self.fixed, self.tied, paths_of(self.free_domains))
            object.__setattr__(self, "fixed", chosen)
            object.__setattr__(self, "tied", None)

    @property
    def n_states(self) -> int:
        return self.n_components

    @property
    def needs_key(self) -> bool:
        return self.n_components > 1

    @property
    def closed(self) -> bool:
        return self.family.closed

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return tuple(f"components.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> MixtureParams:
        return restrict(self.free_domains, self.fixed)

    @property
    def free_domains(self) -> MixtureParams:
        """The domains before anything is fixed or tied."""
        return MixtureParams(Simplex(), self.family.domains)  # type: ignore[arg-type]

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return prepare_rows(self.family, y, weights, self.n_components, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets in blocks of one shape; every leaf has a leading axis."""
        return prepare_batch(self.family, datasets, weights, self.n_components)

    def init(self, key: Any, data: Any, way: Any = 0) -> MixtureParams:
        """Components from memberships of a pilot sample of the rows, missing cells tolerated.

        `way` is one of `jaxem.initialize.WAYS`, taken in turn by restarts: 0, the default, is k-means from k-means++ seeds.
        """
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def start_points(self, data: Rows) -> jax.Array:
        return self.family.embed(data)

    def settle(self, params: MixtureParams | None, data: Rows) -> Mixture:
        components = None if params is None else params.components
        return dataclasses.replace(self, family=self.family.settle(components, data))

    def localize(self, params: MixtureParams, data: Rows, shared: bool = False) -> Mixture:
        return dataclasses.replace(self, family=self.family.localize(params.components, data, shared))

    # EM

    def e_step(self, params: MixtureParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def assign(self, how: Assign, params: MixtureParams, data: Any) -> Assigned:
        rows = rows_for(self, params, data)
        return _assign(self.settle(params, rows), how, params, rows)

    def m_step(self, params: MixtureParams, statistics: MixtureStatistics) -> MixtureParams:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: MixtureParams, statistics: MixtureStatistics) -> MixtureParams:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: MixtureParams, statistics: MixtureStatistics, maximize: Any) -> MixtureParams:
        held = isinstance(self.fixed, Restrictions)
        if held and not self._only_weights(params):
            return restricted_m_step(self, params, statistics)
        counts = statistics.weights
        prior = self._prior(params)
        if prior is not None:
            counts = jnp.maximum(counts + prior.concentration - 1, 0)
        total = counts.sum()
        weights = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), params.weights)
        if held:
            return MixtureParams(weights, params.components)
        components = None if prior is None else prior.components
        return MixtureParams(weights, maximize(params.components, statistics.components, components))

    def _only_weights(self, params: MixtureParams) -> bool:
        """Whether every param of the components is held, so that the weights alone move, in closed form."""
        weights, components = self.domains
        return isinstance(weights, Simplex) and coordinates.count(components, jax.tree.map(jnp.shape, params.components)) == 0

    def _prior(self, params: MixtureParams) -> MixturePrior | None:
        """The prior in the dtype of the params."""
        return None if self.prior is None else coordinates.cast(self.prior, params.weights.dtype)

    def expected_log_joint(self, params: MixtureParams, statistics: MixtureStatistics) -> jax.Array:
        return dot_log(statistics.weights, params.weights) + self.family.expected_log_prob(
            params.components, statistics.components
        )

    def log_likelihood(self, params: MixtureParams, data: Any, per_row: bool = False) -> jax.Array:
        rows = rows_for(self, params, data)
        return (_log_likelihood_rows if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: MixtureParams) -> jax.Array:
        """Log-density of the prior, up to a constant in the params; 0 without one."""
        prior = self._prior(params)
        if prior is None:
            return jnp.zeros((), params.weights.dtype)
        exponents = jnp.broadcast_to(prior.concentration - 1, params.weights.shape)
        return dot_log(exponents, params.weights) + self.family.log_prior(params.components, prior.components)

    def factors(self, params: MixtureParams, data: Rows) -> jax.Array:
        """(n, K) log weights_k + log p(y_i | k)."""
        params = coordinates.cast(params, data.dtype)
        return reduce.map_rows(self.family, params.components, data, partial(_joint, jnp.log(params.weights)))

    def evidence(self, factors: jax.Array, data: Rows) -> jax.Array:
        return row_evidence(factors, data)

    # what follows from domains

    def structure(self, size: Any) -> MixtureParams:
        """Leaf shapes of params for prepared data, or for their `Rows.size` (often the number of columns)."""
        shapes = self.family.structure(self.n_components, size_of(size))
        return MixtureParams((self.n_components,), shapes)  # type: ignore[arg-type]

    def n_parameters(self, size: Any) -> int:
        """Number of free parameters for prepared data, or for their `Rows.size`."""
        return coordinates.count(self.domains, self.structure(size)) - self.family.absent(self.n_components, size_of(size))

    def to_unconstrained(self, params: MixtureParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: MixtureParams | None = None) -> MixtureParams:
        return coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)

    def canonical_order(self, params: MixtureParams) -> jax.Array:
        """Order of the components by the family's rank, for instance the first column of the mean."""
        if breaks_symmetry(self.fixed, self.free_domains):  # labels mean something where values are held by component
            return jnp.arange(self.n_components)
        return jnp.lexsort(tuple(self.family.rank(params.components).T[::-1]))

    def relabel(self, params: MixtureParams, order: jax.Array) -> MixtureParams:
        return coordinates.relabel(self.free_domains, params, order)

    def canonical(self, params: MixtureParams) -> MixtureParams:
        if isinstance(self.fixed, Restrictions):
            return params
        return params._replace(components=self.family.canonical(params.components))

    def degenerate(self, params: MixtureParams, data: Rows) -> jax.Array:
        """(K,) bool: the family's collapsed components."""
        return jnp.broadcast_to(self.family.degenerate(params.components, data), (self.n_components,))

    def magnitude(self, params: MixtureParams, data: Rows) -> jax.Array:
        return self.family.magnitude(params.components, data)

    def remarks(self, params: Any, data: Any) -> list[str]:
        return spoken(self.family.remarks(params.components, rows_for(self, params, data)))

    # what is read off a fit

    def posterior(self, params: MixtureParams, data: Any) -> jax.Array:
        """Responsibilities (n, K) in input order; a row with nothing observed has the weights."""
        rows = rows_for(self, params, data)
        return _posterior(self.settle(params, rows), params, rows)

    def impute(self, params: MixtureParams, data: Any, covariance: bool = False) -> Any:
        """Conditional means of the missing cells given the observed ones: (n, d) in input order, observed cells as given.

        E[y_M | y_O] = sum_k r_k E[y_M | y_O, k]. With `covariance`, also the conditional covariances (n, d, d), zero on
        observed cells: sum_k r_k (C_k + m_k m_k') - m m'.
        """
        rows = rows_for(self, params, data)
        mean, spread = _impute(self.settle(params, rows), params, rows, covariance)
        mean = as_given(mean, data)
        return (mean, spread) if covariance else mean

    def sample(self, key: Any, params: MixtureParams, n: int, *, states: bool = False, covariates: Any = None) -> Any:
        """n rows (n, d) drawn from the mixture; with `states`, also their components (n,).

        `covariates` (n, p), or a `Regression` with an offset, are those of the rows, where the family takes them.
        """
        coordinates.no_fit(params)
        choose, draw = jax.random.split(as_key(key))
        chosen = jax.random.categorical(choose, jnp.log(params.weights), shape=(check_count(n, "n"),))
        given = {} if covariates is None else {"x": covariates}
        y = self.family.sample(draw, params.components, chosen, **given)
        return (y, chosen) if states else y


jax.tree_util.register_dataclass(Mixture, data_fields=("family", "prior", "fixed"), meta_fields=("n_components", "tied"))


def softmax(log_weights: jax.Array, log_prob: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Responsibilities (c, K, b) and log-densities (c, b) from log-probabilities of the states that broadcast to (c, K, b).

    A row that no component can produce has 0 and -inf.
    """
    joint = log_prob + log_weights
    top = joint.max(axis=1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
    mass = jnp.exp(joint - top)
    total = mass.sum(axis=1, keepdims=True)
    possible = total > 0
    safe = jnp.where(possible, total, 1)
    return mass / safe, jnp.where(possible, top + jnp.log(safe), -jnp.inf)[:, 0]


def _respond(log_weights: jax.Array, log_prob: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    responsibilities, log_density = softmax(log_weights[:, None], log_prob)
    r = responsibilities * weights[:, None]
    return r, (r.sum(axis=(0, 2)), reduce.weighted_sum(log_density, weights))


def _respond_by(how: Assign, log_weights: jax.Array, log_prob: jax.Array, weights: jax.Array, row: jax.Array) -> Any:
    r, known = assign_rows(how, log_prob + log_weights[:, None], weights, row)
    return r, (r.sum(axis=(0, 2)), known)


def _respond_likelihood(log_weights: jax.Array, log_prob: jax.Array, weights: jax.Array) -> jax.Array:
    return reduce.weighted_sum(softmax(log_weights[:, None], log_prob)[1], weights)


def _density(log_weights: jax.Array, _bound: Any, _cells: Any, log_prob: jax.Array) -> jax.Array:
    return softmax(log_weights[:, None], log_prob)[1]


def _joint(log_weights: jax.Array, _bound: Any, _cells: Any, log_prob: jax.Array) -> jax.Array:
    return log_prob + log_weights[:, None]


def _responsibilities(log_weights: jax.Array, _bound: Any, _cells: Any, log_prob: jax.Array) -> jax.Array:
    return softmax(log_weights[:, None], log_prob)[0]


@jax.jit
def _init(model: Mixture, key: jax.Array, rows: Rows, way: jax.Array) -> MixtureParams:
    r = initialize.memberships(key, model.family.embed(rows), rows.pilot_weights, model.n_components, way)
    counts = r.sum(axis=0) + 1  # a component that got no row still starts with a share
    start = MixtureParams(counts / counts.sum(), model.family.init(rows, r))
    return coordinates.settle(model.domains, start) if isinstance(model.fixed, Restrictions) else start


@jax.jit
def _e_step(model: Mixture, params: MixtureParams, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    respond = Partial(_respond, jnp.log(params.weights))
    components, (counts, log_likelihood) = reduce.fold(model.family, params.components, rows, respond)
    return Expectation(MixtureStatistics(counts, components), log_likelihood)


@jax.jit
def _assign(model: Mixture, how: Assign, params: MixtureParams, rows: Rows) -> Assigned:
    params = coordinates.cast(params, rows.dtype)
    respond = Partial(_respond_by, how, jnp.log(params.weights))
    components, (counts, known) = reduce.fold(model.family, params.components, rows, respond, rowwise=True)
    return Assigned(MixtureStatistics(counts, components), *known)


@jax.jit
def _log_likelihood(model: Mixture, params: MixtureParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return reduce.tally(model.family, params.components, rows, Partial(_respond_likelihood, jnp.log(params.weights)))


@jax.jit
def _log_likelihood_rows(model: Mixture, params: MixtureParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    log_weights = jnp.log(params.weights)
    return reduce.map_rows(model.family, params.components, rows, partial(_density, log_weights))


@jax.jit
def _posterior(model: Mixture, params: MixtureParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    log_weights = jnp.log(params.weights)
    return reduce.map_rows(model.family, params.components, rows, partial(_responsibilities, log_weights))


@partial(jax.jit, static_argnames="covariance")
def _impute(model: Mixture, params: MixtureParams, rows: Rows, covariance: bool) -> Any:
    params = coordinates.cast(params, rows.dtype)
    log_weights = jnp.log(params.weights)

    def respond(log_prob: jax.Array) -> jax.Array:
        return softmax(log_weights[:, None], log_prob)[0]

    return completed_rows(model.family, params.components, rows, respond, covariance)

