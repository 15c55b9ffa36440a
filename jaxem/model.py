"""The two protocols that everything stands on, and the laws they obey.

A *family* says what one row looks like given its discrete state. A *model* says how the states are tied together. An
algorithm (`jaxem.algorithms`) sees neither: it moves params by additive statistics,

    E-step:  s(y; theta) = sum_i w_i E[T(y_i, z_i) | y_i, theta],      M-step:  theta' = M(s).

Laws, each tested on every model of the test table: statistics and log-likelihood are additive over rows; a weight is a
repetition; the log-likelihood is the brute-force one; its gradient is that of `expected_log_joint` at the same params
(Fisher's identity); `m_step` maximises `expected_log_joint + log_prior`; a step never lowers `log_likelihood + log_prior`;
missing cells are marginalised exactly; relabelling the states relabels the result and nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from jaxem.data import Rows

Params = Any  # a NamedTuple of arrays
Statistics = Any  # a NamedTuple of sums over rows


class Expectation(NamedTuple):
    """What an E-step returns."""

    statistics: Statistics  # sums over rows
    log_likelihood: jax.Array  # () observed-data log-likelihood at the params given


@runtime_checkable
class Family(Protocol):
    """What one row looks like given its discrete state: a frozen dataclass, registered as a pytree.

    Params have a leading state axis K. A block holds c groups of b rows, feature-major: (c, d, b); `r` (c, K, b) are
    responsibilities times row weights. All functions but `prepare` are pure and traced.
    """

    @property
    def domains(self) -> Any:
        """Tree of `jaxem.domains.Domain`, parallel to params."""

    def structure(self, n_states: int, d: int) -> Any:
        """Tree of leaf shapes of params for (n, d) data."""

    def prepare(self, y: Any, weights: Any, n_states: int, sharding: Any) -> Rows:
        """Host, once per data set: checks, missingness patterns, blocks."""

    def settle(self, params: Params, rows: Rows) -> Family:
        """The family with choices that depend on the data (which kernel) made; statistics keep their coordinates."""

    def prepare_batch(self, datasets: Any, weights: Any, n_states: int) -> Rows:
        """The same for many data sets, in blocks of one shape: every leaf has a leading axis."""

    def localize(self, params: Params, rows: Rows) -> Family:
        """The family with statistics taken in coordinates in which sums at `params` keep their digits."""

    def bind(self, params: Params, mask: jax.Array, origin: Any) -> Any:
        """Once per E-step: natural parameters for each pattern of observed cells, mask (P, d); leaves lead with P, or with
        1 where all patterns share them."""

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        """Log-density of the observed cells, (c, K, b)."""

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> Any:
        """Raw sums over the rows of each group; leaves lead with c."""

    def finish(self, bound: Any, raw: Any, origin: Any) -> Statistics:
        """Linear: raw sums per pattern -> completed statistics, summed over patterns."""

    def complete(self, bound: Any, cells: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Conditional means (c, K, d, b) and covariances (c, K, d, d) of a row's cells given the observed ones, and which
        are observed, 1 or 0, (c, d, b) or (c, d, 1)."""

    def maximize(self, params: Params, statistics: Statistics, prior: Any) -> Params:
        """Maximiser of `expected_log_prob + log_prior`; a state without rows keeps its params."""

    def expected_log_prob(self, params: Params, statistics: Statistics) -> jax.Array:
        """Q of the family: linear in the statistics."""

    def log_prior(self, params: Params, prior: Any) -> jax.Array:
        """Log-density of the conjugate prior at params."""

    def degenerate(self, params: Params, rows: Rows) -> jax.Array:
        """(K,) bool: which states have collapsed, relative to the spread of the data."""

    def magnitude(self, params: Params, rows: Rows) -> jax.Array:
        """() size of the terms that a row's log-density is summed from: times eps, its rounding error."""

    def rank(self, params: Params) -> jax.Array:
        """(K, m) numbers that order the states canonically, first column first."""

    def sample(self, key: jax.Array, params: Params, states: jax.Array) -> jax.Array:
        """One row per entry of `states` (n,): (n, d)."""

    def init(self, rows: Rows, r: jax.Array) -> Params:
        """Starting params from memberships r (n_pilot, K) of the pilot rows."""


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
    def needs_key(self) -> bool:
        """Whether `init` draws random numbers."""

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        """Checks and blocks the data, once."""

    def prepare_batch(self, datasets: Any, weights: Any = None) -> Rows:
        """The same for many data sets, in blocks of one shape: every leaf has a leading axis."""

    def init(self, key: Any, data: Any, way: Any = 0) -> Params:
        """Starting params; `way` (0, 1, 2, ...) varies how they are found, for restarts."""

    def settle(self, params: Params, data: Rows) -> Model:
        """The same model with choices that depend on the data made."""

    def localize(self, params: Params, data: Rows) -> Model:
        """The same model with statistics taken in coordinates in which sums at `params` keep their digits."""

    def e_step(self, params: Params, data: Any) -> Expectation:
        """Expected sufficient statistics and log-likelihood at `params`."""

    def m_step(self, params: Params, statistics: Statistics) -> Params:
        """Maximiser of Q + log prior; `params` serve where a state has no rows."""

    def expected_log_joint(self, params: Params, statistics: Statistics) -> jax.Array:
        """Q(params; statistics), linear in the statistics."""

    def log_likelihood(self, params: Params, data: Any, per_row: bool = False) -> jax.Array:
        """Observed-data log-likelihood; (n,) unweighted in input order with per_row."""

    def log_prior(self, params: Params) -> jax.Array:
        """Log-density of the prior; 0 without one."""

    def to_unconstrained(self, params: Params) -> jax.Array:
        """Flat vector of free coordinates."""

    def from_unconstrained(self, vector: jax.Array, like: Params | None = None) -> Params:
        """Inverse of `to_unconstrained`."""

    def structure(self, d: int) -> Any:
        """Tree of leaf shapes of params for d columns."""

    def n_parameters(self, d: int) -> int:
        """Number of free parameters for d columns."""

    def degenerate(self, params: Params, data: Rows) -> jax.Array:
        """(K,) bool: which states have collapsed."""

    def magnitude(self, params: Params, data: Rows) -> jax.Array:
        """() size of the terms that a row's log-density is summed from: times eps, its rounding error."""

    def canonical_order(self, params: Params) -> jax.Array:
        """(K,) permutation that puts the states in canonical order."""

    def relabel(self, params: Params, order: jax.Array) -> Params:
        """Params with state order[k] at place k."""

    def posterior(self, params: Params, data: Any) -> jax.Array:
        """(n, K) posterior probabilities of the states, input order."""

    def sample(self, key: Any, params: Params, n: int) -> jax.Array:
        """n rows drawn from the model."""


def check_family(family: Any) -> None:
    """Raises TypeError where `family` is not a family, with the likely remedy."""
    if isinstance(family, type):
        raise TypeError(f"family: found the class {family.__name__}; give an instance, {family.__name__}().")
    if isinstance(family, (str, int, float)):
        raise TypeError(f"family: found {family!r}; give a family, for instance Gaussian().")
