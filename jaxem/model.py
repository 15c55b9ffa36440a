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
import jax.numpy as jnp

from jaxem.assign import Assign, Assigned, Drawn
from jaxem.checks import as_key
from jaxem.coordinates import between
from jaxem.data import Rows, Table
from jaxem.kernels.quantiles import Tails
from jaxem.layout import WIDE

Params = Any  # a NamedTuple of arrays
Statistics = Any  # a NamedTuple of sums over rows

NOT_CONJUGATE = (
    "{} has no prior under which its posterior is known in closed form. Mixture, Single and HiddenMarkov have, of Gaussian, "
    "Poisson, Exponential, Bernoulli and Categorical rows and products of them, with a conjugate prior. Take jaxem.nuts, or em() "
    "for a maximum."
)


NO_FACTORS = (
    "{} has no discrete latent states: what is latent is integrated over in closed form, and the score of its complete data is not "
    'formed. Take method="oakes" or "observed", which are the same numbers.'
)


class Expectation(NamedTuple):
    """What an E-step returns."""

    statistics: Statistics  # sums over rows
    log_likelihood: jax.Array  # () observed-data log-likelihood at the params given


class Remark(NamedTuple):
    """A sentence for a person about one state of a family, or about all of them (None)."""

    state: int | None
    sentence: str


def spoken(remarks: list[Remark]) -> list[str]:
    """The sentences, each with the component that it is about."""
    return [each.sentence if each.state is None else f"component {each.state}: {each.sentence}" for each in remarks]


@runtime_checkable
class Family(Protocol):
    """What one row looks like given its discrete state: a frozen dataclass, registered as a pytree.

    Params have a leading state axis K. A block holds c groups of b rows, feature-major: leaves (c, d, b); `r` (c, K, b) are
    responsibilities times row weights. All functions but `read`, `width` and `settle` are pure and traced. What has a body here
    is a default for families whose rows share no matrices and whose statistics need no coordinates.
    """

    closed: bool = True  # whether `maximize` is the maximiser; if not, it is a step towards it, and the algorithm guards it
    observed_blocks: tuple[str, ...] = ()  # params that are better moved on the observed likelihood than by `maximize` (ECME)
    prior_type: type | None = None  # of the conjugate prior, a NamedTuple; None where there is none
    discrete: bool = False  # whether cells are whole numbers, each of positive probability

    @property
    def domains(self) -> Any:
        """Tree of `jaxem.domains.Domain`, parallel to params."""

    def structure(self, n_states: int, size: Any) -> Any:
        """Tree of leaf shapes of params for data of this `Rows.size`."""

    def absent(self, n_states: int, size: Any) -> int:
        """Unconstrained coordinates that only pad the leaves of `structure`, and are no free parameters."""
        del n_states, size
        return 0

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        """Checks raw data, concrete or traced, and lays them out row by row. `missing=True` asks for the form with holes."""

    def width(self, size: Any) -> int:
        """Rows a block: as many as keep its features within the second-level cache."""
        del size
        return WIDE

    def embed(self, rows: Rows) -> jax.Array:
        """(n_pilot, f) the pilot rows as points in which distance means unlikeness, NaN where missing, for starting values."""
        return rows.pilot / jnp.sqrt(jnp.where(rows.spread > 0, rows.spread, 1))

    # E-step

    def settle(self, params: Params, rows: Rows) -> Any:
        """The family with choices that depend on the data (which kernel) made; statistics keep their coordinates."""
        del params, rows
        return self

    def localize(self, params: Params, rows: Rows, shared: bool = False) -> Any:
        """The family with statistics taken in coordinates in which sums at `params` keep their digits; with `shared`, in
        coordinates in which sums at any params can be added up."""
        del params, rows, shared
        return self

    def bind(self, params: Params, mask: jax.Array, origin: Any) -> Any:
        """Once per E-step: natural parameters for each pattern of observed cells, mask (P, d); leaves lead with P, or with
        1 where all patterns share them."""
        del mask, origin
        return jax.tree.map(lambda leaf: leaf[None], params)

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        """Log-density of the observed cells, (c, K, b)."""

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> Any:
        """Raw sums over the rows of each group; leaves lead with c."""

    def finish(self, bound: Any, raw: Any, origin: Any) -> Statistics:
        """Linear: raw sums per pattern -> completed statistics, summed over patterns."""
        del bound, origin
        return jax.tree.map(lambda leaf: leaf.sum(axis=0), raw)

    def complete(self, bound: Any, cells: Any, origin: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Conditional means (c, K, d, b) and covariances (c, K, d, d) of a row's cells given the observed ones, and which
        are observed, 1 or 0, (c, d, b) or (c, d, 1).

        Raises:
            TypeError: the family does not say.
        """
        raise TypeError(f"{type(self).__name__} does not fill in missing cells.")

    def moments(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Mean (K, d), and variance (K, d) or covariance (K, d, d), of a row's cells given its state: what pictures show.

        Raises:
            TypeError: the family does not say, or the moments depend on covariates.
        """
        raise TypeError(f"{type(self).__name__} has no moments.")

    def tails(self, params: Params, y: jax.Array, x: Any = None) -> Tails:
        """Log-probabilities (n, K, d) that a cell lies below, at and above y (n, d), column by column, in each state; `x` are
        the rows' covariates, as `sample` takes them.

        Raises:
            TypeError: the family does not say.
        """
        raise TypeError(f"{type(self).__name__} does not say its cumulative distribution.")

    # M-step

    def maximize(self, params: Params, statistics: Statistics, prior: Any) -> Params:
        """Maximiser of `expected_log_prob + log_prior` (or a step towards it, see `closed`) from the params at which the
        statistics were taken; a state without rows keeps its params."""

    def maximize_expanded(self, params: Params, statistics: Statistics, prior: Any) -> Params:
        """The M-step of a parameter-expanded model with the same observed likelihood (PX-EM, Liu, Rubin and Wu 1998):
        as monotone, with the same fixed points, in fewer steps. `maximize` where no expansion is known."""
        return self.maximize(params, statistics, prior)

    def expected_log_prob(self, params: Params, statistics: Statistics) -> jax.Array:
        """Q of the family: linear in the statistics. Where `closed` is False, its second-order expansion about the params
        at which the statistics were taken."""

    def log_prior(self, params: Params, prior: Any) -> jax.Array:
        """Log-density of the conjugate prior at params."""
        del params, prior
        raise TypeError(f"{type(self).__name__} has no conjugate prior.")

    # conjugate posteriors (`jaxem.conjugate`): variational Bayes and Gibbs sampling

    def conjugate(self, prior: Any, params: Params) -> Any:
        """The prior as a tree of `jaxem.conjugate.Distribution`s in the shapes of `params`.

        Raises:
            TypeError: the prior is none, or not conjugate to what a row is given its state.
        """
        del prior, params
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def update(self, distribution: Any, statistics: Statistics) -> Any:
        """What statistics make of a tree of distributions."""
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def under(self, distribution: Any) -> tuple[Any, Params]:
        """A family, and params of it, whose log-density of a row is E log p(y | k) under the distribution, and whose `update`
        takes its statistics: `jaxem.families.expected_family.shifted` for a family that is its own but for a constant."""
        raise TypeError(NOT_CONJUGATE.format(type(self).__name__))

    def seen(self, cells: Any) -> jax.Array | None:
        """(c, d, b) 1 where a cell is observed; None where all are."""
        return getattr(cells, "present", None)

    def integrates(self, rows: Rows) -> bool:
        """Whether statistics average over something that is latent inside a row, such as the cells missing from a full
        covariance; with states known, they are then not those of complete data."""
        del rows
        return False

    def drawing(self, key: jax.Array) -> Any:
        """The family with what `integrates` speaks of drawn; it reads rows by `jaxem.families.drawn_cells.numbered`.

        Raises:
            TypeError: the family cannot draw it.
        """
        del key
        raise TypeError(
            f"{type(self).__name__} averages over cells that are missing or censored, and does not draw them; take variational() "
            "or jaxem.nuts, or for missing cells diagonal covariances."
        )

    # what the driver asks

    def degenerate(self, params: Params, rows: Rows) -> jax.Array:
        """(K,) bool: which states have collapsed, relative to the spread of the data."""
        del params, rows
        return jnp.zeros(1, bool)

    def magnitude(self, params: Params, rows: Rows) -> jax.Array:
        """() size of the terms that a row's log-density is summed from: times eps, its rounding error."""
        del params
        return jnp.asarray(rows.d, rows.dtype)

    def remarks(self, params: Params, rows: Rows) -> list[Remark]:
        """Sentences for a person on params that ended where they should not be taken at face value, as at a bound. Host."""
        del params, rows
        return []

    def canonical(self, params: Params) -> Params:
        """Params of the same density in every state, in the form that is told: what data leave open, such as the rotation of
        factors, is settled."""
        return params

    def rank(self, params: Params) -> jax.Array:
        """(K, m) numbers that order the states canonically, first column first."""
        first = jax.tree.leaves(params)[0]
        return first.reshape(first.shape[0], -1)

    def sample(self, key: jax.Array, params: Params, states: jax.Array) -> Any:
        """One row per entry of `states` (n,): (n, d)."""

    def draw_missing(self, key: jax.Array, params: Params, states: jax.Array, y: Any, x: Any = None) -> Any:
        """Rows y (n, d) with their missing cells (NaN) drawn given the observed ones and the row's state (n,); `x` as for `sample`.

        As written here for cells that are independent given the state.
        """
        drawn = self.sample(key, params, states) if x is None else self.sample(key, params, states, x=x)  # type: ignore[call-arg]
        return jnp.where(jnp.isnan(y), drawn.reshape(y.shape), y)

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


def check_prior(family: Any, prior: Any) -> None:
    """Raises TypeError where `prior` is a prior of another family than `family`."""
    if not isinstance(prior, tuple):  # None, or a placeholder of JAX's
        return
    if family.prior_type is None:
        raise TypeError(f"prior: {type(family).__name__} has no conjugate prior; leave it out.")
    if not isinstance(prior, family.prior_type):
        raise TypeError(f"prior: found {type(prior).__name__}; {type(family).__name__} takes {family.prior_type.__name__}.")


def check_family(family: Any) -> None:
    """Raises TypeError where `family` is not a family, with the likely remedy."""
    if isinstance(family, type):
        raise TypeError(f"family: found the class {family.__name__}; give an instance, {family.__name__}().")
    if isinstance(family, (str, int, float)):
        raise TypeError(f"family: found {family!r}; give a family, for instance Gaussian().")
