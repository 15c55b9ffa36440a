"""The protocol of families: what one row looks like given its discrete state."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxem.kernels.quantiles import Tails
from jaxem.layout import WIDE
from jaxem.rows import Rows, Table

Params = Any  # a NamedTuple of arrays
Statistics = Any  # a NamedTuple of sums over rows

NOT_CONJUGATE = (
    "{} has no prior under which its posterior is known in closed form. Mixture, Single and HiddenMarkov have, of Gaussian, "
    "Poisson, Exponential, Bernoulli and Categorical rows and products of them, with a conjugate prior. Take jaxem.nuts, or em() "
    "for a maximum."
)


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
