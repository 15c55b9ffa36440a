"""The protocol of models, and the laws that everything obeys.

A *family* (`jaxem.family`) says what one row looks like given its discrete state. A *model* says how the states are tied
together. An algorithm (`jaxem.algorithms`) sees neither: it moves params by additive statistics,

    E-step:  s(y; theta) = sum_i w_i E[T(y_i, z_i) | y_i, theta],      M-step:  theta' = M(s).

Laws, each tested on every model of the test table: statistics and log-likelihood are additive over rows; a weight is a
repetition; the log-likelihood is the brute-force one; its gradient is that of `expected_log_joint` at the same params
(Fisher's identity); `m_step` maximises `expected_log_joint + log_prior`; a step never lowers `log_likelihood + log_prior`;
missing cells are marginalised exactly; relabelling the states relabels the result and nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from jaxem.assign import Assign, Assigned, Drawn
from jaxem.checks import as_key
from jaxem.coordinates import between
from jaxem.family import NOT_CONJUGATE, Params, Statistics
from jaxem.rows import Rows

NO_FACTORS = (
    "{} has no discrete latent states: what is latent is integrated over in closed form, and the score of its complete data is not "
    'formed. Take method="oakes" or "observed", which are the same numbers.'
)


class Expectation(NamedTuple):
    """What an E-step returns."""

    statistics: Statistics  # sums over rows
    log_likelihood: jax.Array  # () observed-data log-likelihood at the params given


@runtime_checkable
class Model(Protocol):
    """A latent-variable model: a frozen dataclass, registered as a pytree.

    Structure (number of states, covariance kind) is static; hyperparameters (prior strengths) are leaves. `data` is a raw
    array or what `prepare` returned.
    """

    @property
    def domains(self) -> Any:
        """Tree of `jaxem.domains.Domain`, parallel to params."""

    @property
    def n_states(self) -> int:
        """Number of discrete states."""

    @property
    def closed(self) -> bool:
        """Whether `m_step` is the maximiser; if not, it is a step towards it, and the algorithm guards it."""

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        """Params (as paths, "components.dof") that are better moved on the observed likelihood than by `m_step` (ECME)."""

    @property
    def needs_key(self) -> bool:
        """Whether `init` draws random numbers."""

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        """Checks and blocks the data, once."""

    def prepare_batch(self, datasets: Any, weights: Any = None) -> Rows:
        """The same for many data sets, in blocks of one shape: every leaf has a leading axis."""

    def init(self, key: Any, data: Any, way: Any = 0) -> Params:
        """Starting params; `way` (0, 1, 2, ...) varies how they are found, for restarts.

        A model with `start_points` also takes memberships (n_pilot, K) of the pilot rows as `way`.
        """

    def start_points(self, data: Rows) -> jax.Array:
        """(n_pilot, f) the pilot rows as points in which distance means unlikeness, NaN where missing: what starts cluster.

        Raises:
            TypeError: starts of this model are not from clusters of rows.
        """
        del data
        raise TypeError(f"{type(self).__name__} does not start from clusters of rows.")

    def settle(self, params: Params, data: Rows) -> Model:
        """The same model with choices that depend on the data made."""

    def localize(self, params: Params, data: Rows, shared: bool = False) -> Model:
        """The same model with statistics taken in coordinates in which sums at `params` keep their digits; with `shared`, in
        coordinates in which sums at any params can be added up."""

    def e_step(self, params: Params, data: Any) -> Expectation:
        """Expected sufficient statistics and log-likelihood at `params`."""

    @property
    def draws(self) -> int:
        """How many independent draws of what is latent `sample_statistics` averages over: 1, or 0 with nothing to draw."""
        return int(self.n_states > 1)

    def assign(self, how: Assign, params: Params, data: Any) -> Assigned:
        """Statistics with the discrete states assigned as `jaxem.assign` says, instead of averaged by their posterior.

        `attained` is what an M-step on these statistics never lowers, up to log prior: for `Soft(beta)` the tempered
        log-likelihood, sum_i w_i log(sum_z p(y_i, z)^beta) / beta (Ueda and Nakano 1998); for `Hardest()` its limit, the
        classification log-likelihood, sum_i w_i max_z log p(y_i, z); for `Drawn(key)`, where nothing is sure, the
        log-likelihood. In a model without discrete states all of them are `e_step`.
        """
        del how
        statistics, log_likelihood = self.e_step(params, data)
        return Assigned(statistics, log_likelihood, log_likelihood)

    def sample_statistics(self, key: Any, params: Params, data: Any) -> Expectation:
        """Statistics with discrete states drawn from their posterior at `params` instead of averaged: their mean over keys is
        that of `e_step`, and the log-likelihood is the exact one.

        What else is latent (missing cells, factor scores, a t's weights, censored cells, components of mixture emissions) stays
        integrated exactly given the drawn states, which leaves the mean as it is and takes from the variance (Rao-Blackwell).
        A model without discrete states (`Single`, factor analysis, `StateSpace`) has nothing to draw: then this is `e_step`, and
        stochastic algorithms are EM. Draws are the same under any blocking and sharding.
        """
        statistics, log_likelihood, _ = self.assign(Drawn(as_key(key)), params, data)
        return Expectation(statistics, log_likelihood)

    def m_step(self, params: Params, statistics: Statistics) -> Params:
        """Maximiser of Q + log prior; `params` serve where a state has no rows."""

    def m_step_expanded(self, params: Params, statistics: Statistics) -> Params:
        """The M-step of a parameter-expanded model (PX-EM), `m_step` where no expansion is known."""

    def between(self, a: Params, b: Params, fraction: jax.Array) -> Params:
        """Params on the way from a to b = `m_step(a, ...)`, and b itself at fraction 1: where a guarded step is halved."""
        return between(self.domains, a, b, fraction)

    def expected_log_joint(self, params: Params, statistics: Statistics) -> jax.Array:
        """Q(params; statistics), linear in the statistics."""

    def log_likelihood(self, params: Params, data: Any, per_row: bool = False) -> jax.Array:
        """Observed-data log-likelihood; (n,) unweighted in input order with per_row."""

    def log_prior(self, params: Params) -> jax.Array:
        """Log-density of the prior; 0 without one."""

    def factors(self, params: Params, data: Rows) -> Any:
        """Logs of the factors that p(y, z) is a product of, for discrete z: a tree of arrays, -inf where impossible.

        Raises:
            TypeError: nothing discrete is latent.
        """
        del params, data
        raise TypeError(NO_FACTORS.format(type(self).__name__))

    def evidence(self, factors: Any, data: Rows) -> jax.Array:
        """() what the factors sum up to, log sum_z exp(their sum): the log-likelihood where they are those of params."""
        del factors, data
        raise TypeError(NO_FACTORS.format(type(self).__name__))

    def conjugate(self, params: Params) -> Any:
        """The prior as a tree of `jaxem.conjugate.Distribution`s in the shapes of `params`.

        Raises:
            TypeError, ValueError: no prior, a part without one, or one that is not conjugate.
        """
        del params
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def update(self, distribution: Any, statistics: Statistics) -> Any:
        """What statistics make of a tree of distributions."""
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def under(self, distribution: Any) -> tuple[Any, Any]:
        """A model and its params whose log-density of a row and its states is that expected under the distributions."""
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def of_states(self, params: Any) -> Params:
        """Params of the model from params whose states are counted, as distributions have them."""
        return params

    def occupation(self, statistics: Statistics) -> jax.Array:
        """(K,) expected sums of weights of the rows in each state."""
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def to_unconstrained(self, params: Params) -> jax.Array:
        """Flat vector of free coordinates."""

    def from_unconstrained(self, vector: jax.Array, like: Params | None = None) -> Params:
        """Inverse of `to_unconstrained`."""

    def structure(self, size: Any) -> Any:
        """Tree of leaf shapes of params for prepared data, or for their `Rows.size` (often the number of columns)."""

    def n_parameters(self, size: Any) -> int:
        """Number of free parameters for prepared data, or for their `Rows.size`."""

    def degenerate(self, params: Params, data: Rows) -> jax.Array:
        """(K,) bool: which states have collapsed."""

    def magnitude(self, params: Params, data: Rows) -> jax.Array:
        """() size of the terms that a row's log-density is summed from: times eps, its rounding error."""

    def remarks(self, params: Params, data: Any) -> list[str]:
        """Sentences for a person on params that ended where they should not be taken at face value, as at a bound."""
        del params, data
        return []

    def canonical_order(self, params: Params) -> jax.Array:
        """(K,) permutation that puts the states in canonical order."""

    def relabel(self, params: Params, order: jax.Array) -> Params:
        """Params with state order[k] at place k."""

    def canonical(self, params: Params) -> Params:
        """Params of the same likelihood, the states where they are, in the family's canonical form."""
        return params

    def shown(self, params: Params) -> Params:
        """Params as reports and pictures show them, of the same structure. Host."""
        return params

    def details(self, params: Params) -> dict[str, Any]:
        """What follows from params and belongs in a written fit besides them: names to arrays, or to trees of them. Host."""
        del params
        return {}

    def posterior(self, params: Params, data: Any) -> jax.Array:
        """(n, K) posterior probabilities of the states, input order."""

    def sample(self, key: Any, params: Params, n: int) -> jax.Array:
        """n rows drawn from the model."""


def size_of(data: Any) -> Any:
    """The size of prepared data; a size itself stays."""
    return data.size if isinstance(data, Rows) else data
