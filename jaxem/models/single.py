"""One state: the family itself as a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import coordinates, reduce
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, prepare_batch, prepare_rows, rows_for
from jaxem.family import check_family, check_prior
from jaxem.imputation import as_given, completed_rows
from jaxem.model import Expectation, Model, size_of
from jaxem.models.conjugate_models import ConjugateSingle
from jaxem.restrict import GIVEN, Restrictions, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows


@dataclasses.dataclass(frozen=True)
class Single(ConjugateSingle, Model):
    """p(y) = p(y | params) for any family; what is latent are the missing cells.

    `Single(Gaussian())` on data with holes is the multivariate normal by maximum likelihood under data missing at random.
    Params are the family's without the state axis; statistics keep one of length 1.

    Args:
        family: what a row looks like.
        prior: None, or the family's conjugate prior.
        fixed: params held at values: name -> number or array that broadcasts to the leaf, NaN where a cell stays free.
    """

    family: Any
    _: dataclasses.KW_ONLY
    prior: Any = None
    fixed: Any = None

    needs_key = False
    n_states = 1

    def __post_init__(self):
        check_family(self.family)
        check_prior(self.family, self.prior)

        if isinstance(self.fixed, GIVEN) and self.fixed is not None:
            chosen = restrictions(self.fixed, None, paths_of(self.free_domains))
            object.__setattr__(self, "fixed", chosen)

    @property
    def closed(self) -> bool:
        return self.family.closed

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return self.family.observed_blocks

    @property
    def domains(self) -> Any:
        return restrict(self.free_domains, self.fixed)

    @property
    def free_domains(self) -> Any:
        """The domains before anything is fixed."""
        return self.family.domains

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return prepare_rows(self.family, y, weights, 1, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets in blocks of one shape; every leaf has a leading axis."""
        return prepare_batch(self.family, datasets, weights, 1)

    def init(self, key: Any, data: Any, way: Any = 0) -> Any:
        """The weighted moments of the pilot rows; no random numbers are used."""
        del key, way
        return _init(self, as_rows(self, data))

    def settle(self, params: Any, data: Rows) -> Single:
        states = None if params is None else self._states(params)
        return dataclasses.replace(self, family=self.family.settle(states, data))

    def localize(self, params: Any, data: Rows, shared: bool = False) -> Single:
        return dataclasses.replace(self, family=self.family.localize(self._states(params), data, shared))

    def _states(self, params: Any) -> Any:
        return coordinates.add_state_axis(self.domains, params)

    # EM

    def e_step(self, params: Any, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def m_step(self, params: Any, statistics: Any) -> Any:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: Any, statistics: Any) -> Any:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: Any, statistics: Any, maximize: Any) -> Any:
        if isinstance(self.fixed, Restrictions):
            return restricted_m_step(self, params, statistics)
        return coordinates.drop_state_axis(self.domains, maximize(self._states(params), statistics, self._prior(params)))

    def _prior(self, params: Any) -> Any:
        """The prior in the dtype of the params."""
        return None if self.prior is None else coordinates.cast(self.prior, jax.tree.leaves(params)[0].dtype)

    def expected_log_joint(self, params: Any, statistics: Any) -> jax.Array:
        return self.family.expected_log_prob(self._states(params), statistics)

    def log_likelihood(self, params: Any, data: Any, per_row: bool = False) -> jax.Array:
        rows = rows_for(self, params, data)
        return (_log_likelihood_rows if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: Any) -> jax.Array:
        """Log-density of the prior, up to a constant in the params; 0 without one."""
        if self.prior is None:
            return jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        return self.family.log_prior(self._states(params), self._prior(params))

    # what follows from domains

    def structure(self, size: Any) -> Any:
        """Leaf shapes of params for prepared data, or for their `Rows.size` (often the number of columns)."""
        shapes: Any = self.family.structure(1, size_of(size))
        leaves: list[Any]
        tree: Any
        leaves, tree = jax.tree.flatten(self.domains)
        own = [s[1:] if domain.state_axes else s for domain, s in zip(leaves, tree.flatten_up_to(shapes), strict=True)]
        return tree.unflatten(own)

    def n_parameters(self, size: Any) -> int:
        """Number of free parameters for prepared data, or for their `Rows.size`."""
        return coordinates.count(self.domains, self.structure(size)) - self.family.absent(1, size_of(size))

    def to_unconstrained(self, params: Any) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: Any = None) -> Any:
        return coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)

    def canonical_order(self, params: Any) -> jax.Array:
        """One state has one order."""
        del params
        return jnp.zeros(1, jnp.int32)

    def relabel(self, params: Any, order: jax.Array) -> Any:
        del order
        return params

    def canonical(self, params: Any) -> Any:
        if isinstance(self.fixed, Restrictions):
            return params
        return coordinates.drop_state_axis(self.domains, self.family.canonical(self._states(params)))

    def degenerate(self, params: Any, data: Rows) -> jax.Array:
        """(1,) bool: whether the state has collapsed."""
        return self.family.degenerate(self._states(params), data)

    def magnitude(self, params: Any, data: Rows) -> jax.Array:
        return self.family.magnitude(self._states(params), data)

    def remarks(self, params: Any, data: Any) -> list[str]:
        return [sentence for _, sentence in self.family.remarks(self._states(params), rows_for(self, params, data))]

    # what is read off a fit

    def posterior(self, params: Any, data: Any) -> jax.Array:
        """(n, 1) ones: there is one state."""
        rows = rows_for(self, params, data)
        del params
        return jnp.ones((rows.n, 1), rows.dtype)

    def impute(self, params: Any, data: Any, covariance: bool = False) -> Any:
        """Conditional means (n, d) of the missing cells given the observed ones; with `covariance`, also (n, d, d)."""
        rows = rows_for(self, params, data)
        mean, spread = _impute(self.settle(params, rows), params, rows, covariance)
        mean = as_given(mean, data)
        return (mean, spread) if covariance else mean

    def sample(self, key: Any, params: Any, n: int, *, covariates: Any = None) -> jax.Array:
        """n rows (n, d), given `covariates` (n, p), or a `Regression` with an offset, where the family takes them."""
        coordinates.no_fit(params)
        given = {} if covariates is None else {"x": covariates}
        return self.family.sample(as_key(key), self._states(params), jnp.zeros(check_count(n, "n"), jnp.int32), **given)


jax.tree_util.register_dataclass(Single, data_fields=("family", "prior", "fixed"), meta_fields=())


def _respond(log_prob: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    return weights[:, None], reduce.weighted_sum(log_prob[:, 0], weights)


def _respond_likelihood(log_prob: jax.Array, weights: jax.Array) -> jax.Array:
    return reduce.weighted_sum(log_prob[:, 0], weights)


def _bound_params(model: Single, params: Any, rows: Rows) -> Any:
    return coordinates.cast(model._states(params), rows.dtype)


@jax.jit
def _init(model: Single, rows: Rows) -> Any:
    start = coordinates.drop_state_axis(model.free_domains, model.family.init(rows, rows.pilot_weights[:, None]))
    return coordinates.settle(model.domains, start) if isinstance(model.fixed, Restrictions) else start


@jax.jit
def _e_step(model: Single, params: Any, rows: Rows) -> Expectation:
    return Expectation(*reduce.fold(model.family, _bound_params(model, params, rows), rows, jax.tree_util.Partial(_respond)))


@jax.jit
def _log_likelihood(model: Single, params: Any, rows: Rows) -> jax.Array:
    respond = jax.tree_util.Partial(_respond_likelihood)
    return reduce.tally(model.family, _bound_params(model, params, rows), rows, respond)


@jax.jit
def _log_likelihood_rows(model: Single, params: Any, rows: Rows) -> jax.Array:
    return reduce.map_rows(model.family, _bound_params(model, params, rows), rows, lambda _bound, _cells, log_prob: log_prob[:, 0])


@partial(jax.jit, static_argnames="covariance")
def _impute(model: Single, params: Any, rows: Rows, covariance: bool) -> Any:
    return completed_rows(model.family, _bound_params(model, params, rows), rows, jnp.ones_like, covariance)
