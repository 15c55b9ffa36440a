"""Hidden Markov models: discrete states that follow one another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, initialize, reduce
from jaxem.assign import Assign, Assigned, assign_paths
from jaxem.checks import as_key, check_count
from jaxem.data import as_rows, rows_for
from jaxem.domains import Derived, Simplex
from jaxem.family import check_family, check_prior, spoken
from jaxem.inputs import Regression
from jaxem.kernels.chain import Chain
from jaxem.kernels.recursions import Recursions, check_recursion, keeps_checkpoints, recursions_of, runs_parallel
from jaxem.kernels.stationary import stationary
from jaxem.model import Expectation, Model, size_of
from jaxem.models.conjugate_models import ConjugateHiddenMarkov
from jaxem.models.markov_checks import check_initial, check_mask, shares
from jaxem.models.markov_readings import MarkovReadings, StillReadings
from jaxem.models.stationary_step import maximize_stationary
from jaxem.priors import dot_log
from jaxem.restrict import GIVEN, Restrictions, breaks_symmetry, paths_of, restrict, restrictions
from jaxem.restrict import m_step as restricted_m_step
from jaxem.rows import Rows
from jaxem.sequence_rows import prepare_sequence_batch, prepare_sequences
from jaxem.steps import emissions_in_lanes, first_states, fold_in_lanes, lane_weights, sequence_sums, to_rows
from jaxem.streamed import streamed


class HiddenMarkovParams(NamedTuple):
    """Params of K states."""

    initial: jax.Array  # (K,) probabilities of the first state
    transition: jax.Array  # (K, K) probabilities from row to column; rows sum to 1
    emissions: Any  # the family's params with a leading K axis


class HiddenMarkovStatistics(NamedTuple):
    """Sums over sequences."""

    initial: jax.Array  # (K,) expected number of sequences that begin in each state
    transition: jax.Array  # (K, K) expected number of steps between states, within sequences
    emissions: Any  # the family's statistics


class HiddenMarkovPrior(NamedTuple):
    """Dirichlet priors of the probabilities, and the family's own."""

    initial: Any = 1.0  # concentration, one number or (K,)
    transition: Any = 1.0  # one number or (K, K); a large diagonal makes states last
    emissions: Any = None


@dataclasses.dataclass(frozen=True)
class HiddenMarkov(ConjugateHiddenMarkov, MarkovReadings, StillReadings, Model):
    r"""y_t given z_t as the family says, z a Markov chain: p(z_1) = initial, p(z_t | z_{t-1}) = transition[z_{t-1}, z_t].

    E-step: the forward-backward recursions (Baum, Petrie, Soules and Weiss 1970, Ann. Math. Stat. 41:164) in the scaled form
    (Rabiner 1989, Proc. IEEE 77:257), or on logarithms where that would underflow. M-step: expected counts of first states and
    of steps within sequences, brought to sum to 1, and the family's own; with a `HiddenMarkovPrior`, the posterior mode.

    Data: one sequence of rows as the family takes them, a list of sequences, a (B, T, d) array, or `Sequences(y, lengths)`.
    Missing cells are integrated out; a step with nothing observed only lets time pass. Weights are one number a sequence.

    Args:
        family: what a step looks like given its state.
        n_states: K >= 1.
        initial: "free"; "stationary", the distribution that the transitions leave as it is; or K probabilities to keep.
        transition: None, or a (K, K) mask, False where a step cannot go: such a probability is and stays 0.
        prior: None for maximum likelihood, or a `HiddenMarkovPrior`.
        fixed, tied: as for `Mixture`, of the emissions.
        recursion: "sequential", step by step, with all T x K filtered states kept; "checkpointed", the same in memory of some
            sqrt(T) x K, every step of the forward pass computed twice (where cells are missing under covariances that are not
            diagonal, what a step says of its state is kept all the same); "parallel", in log2(T) rounds with K times the work,
            for accelerators; or "auto". All give the same numbers.

    Raises:
        TypeError, ValueError: n_states not a whole number >= 1; initial of another kind, or not summing to 1; a mask of another
            shape, or with a state that can go nowhere; a prior of another family; no such recursion.
    """

    family: Any
    n_states: int = 0  # has to be given; the protocol's property gives way to a plain attribute
    _: dataclasses.KW_ONLY
    initial: Any = "free"
    transition: Any = None
    prior: HiddenMarkovPrior | None = None
    fixed: Any = None
    tied: Any = None
    recursion: str = "auto"

    def __post_init__(self):
        check_family(self.family)
        check_count(self.n_states, "n_states")
        check_recursion(self.recursion)
        if isinstance(self.prior, HiddenMarkovPrior):
            check_prior(self.family, self.prior.emissions)
        elif isinstance(self.prior, tuple):
            raise TypeError(f"prior: found {type(self.prior).__name__}; give HiddenMarkovPrior(initial, transition, emissions).")
        object.__setattr__(self, "initial", check_initial(self.initial, self.n_states))
        object.__setattr__(self, "transition", check_mask(self.transition, self.n_states))
        if (self.fixed is not None or self.tied is not None) and isinstance(self.fixed, GIVEN):
            chosen = restrictions(self.fixed, self.tied, paths_of(self.free_domains))
            object.__setattr__(self, "fixed", chosen)
            object.__setattr__(self, "tied", None)

    @property
    def needs_key(self) -> bool:
        return self.n_states > 1

    @property
    def closed(self) -> bool:
        return self.family.closed

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return tuple(f"emissions.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> HiddenMarkovParams:
        return restrict(self.free_domains, self.fixed)

    @property
    def free_domains(self) -> HiddenMarkovParams:
        """The domains before anything is fixed or tied."""
        initial = Simplex() if self.initial == "free" else Derived()
        return HiddenMarkovParams(initial, Simplex(state_axes=(0, 1)), self.family.domains)  # type: ignore[arg-type]

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        first = y[0] if isinstance(y, (list, tuple)) and len(y) else y
        if isinstance(first, Regression) and first.gate is not None:
            raise ValueError("y: has a gate, but these transitions are the same at every step; take NonhomogeneousHiddenMarkov.")
        return prepare_sequences(self.family, y, weights, self.n_states, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets, each of one or several sequences, in blocks and lanes of one shape; every leaf has a leading axis."""
        return prepare_sequence_batch(self.family, datasets, weights, self.n_states)

    def init(self, key: Any, data: Any, way: Any = 0) -> HiddenMarkovParams:
        """Emissions as `Mixture.init` finds components; transitions that last; first states with the states' shares.

        `way` 1 and 2 draw how long states last, and 2 finds emissions from stretches of time with a random state each. Where
        the mask only lets states move forward, way 0 cuts every sequence into K parts of equal length.
        """
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def start_points(self, data: Rows) -> jax.Array:
        return self.family.embed(data)

    def settle(self, params: HiddenMarkovParams | None, data: Rows) -> HiddenMarkov:
        emissions = None if params is None else params.emissions
        return dataclasses.replace(self, family=self.family.settle(emissions, data))

    def localize(self, params: HiddenMarkovParams, data: Rows, shared: bool = False) -> HiddenMarkov:
        return dataclasses.replace(self, family=self.family.localize(params.emissions, data, shared))

    @property
    def _recursions(self) -> Recursions:
        return recursions_of(self.recursion)

    def _links(self, params: HiddenMarkovParams, rows: Rows) -> Chain:
        """What the recursions run over."""
        emission = emissions_in_lanes(self.family, params.emissions, rows)
        return Chain(emission, rows.lanes.first, params.initial, params.transition)

    # EM

    def e_step(self, params: HiddenMarkovParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def assign(self, how: Assign, params: HiddenMarkovParams, data: Any) -> Assigned:
        rows = rows_for(self, params, data)
        return _assign(self.settle(params, rows), how, params, rows)

    def m_step(self, params: HiddenMarkovParams, statistics: HiddenMarkovStatistics) -> HiddenMarkovParams:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: HiddenMarkovParams, statistics: HiddenMarkovStatistics) -> HiddenMarkovParams:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: HiddenMarkovParams, statistics: HiddenMarkovStatistics, maximize: Any) -> HiddenMarkovParams:
        if isinstance(self.fixed, Restrictions):
            return restricted_m_step(self, params, statistics)
        prior = self._prior(params)
        firsts, pairs = statistics.initial, statistics.transition
        if prior is not None:
            firsts = jnp.maximum(firsts + prior.initial - 1, 0)
            pairs = jnp.where(self._allowed(), jnp.maximum(pairs + prior.transition - 1, 0), 0)
        transition = shares(pairs, params.transition)
        if self.initial == "stationary":
            at_old, at_new = (dot_log(pairs, a) + dot_log(firsts, stationary(a)) for a in (params.transition, transition))
            transition = maximize_stationary(pairs, firsts, jnp.where(at_new > at_old, transition, params.transition))
            initial = stationary(transition)
        else:
            initial = shares(firsts, params.initial) if self.initial == "free" else params.initial
        emissions = maximize(params.emissions, statistics.emissions, None if prior is None else prior.emissions)
        return HiddenMarkovParams(initial, transition, emissions)

    def _prior(self, params: HiddenMarkovParams) -> HiddenMarkovPrior | None:
        """The prior in the dtype of the params."""
        return None if self.prior is None else coordinates.cast(self.prior, params.transition.dtype)

    def _allowed(self) -> np.ndarray:
        """(K, K) bool: steps that the mask allows."""
        k = self.n_states
        return np.ones((k, k), bool) if self.transition is None else np.array(self.transition, bool).reshape(k, k)

    def expected_log_joint(self, params: HiddenMarkovParams, statistics: HiddenMarkovStatistics) -> jax.Array:
        chain_part = dot_log(statistics.initial, params.initial) + dot_log(statistics.transition, params.transition)
        return chain_part + self.family.expected_log_prob(params.emissions, statistics.emissions)

    def log_likelihood(self, params: HiddenMarkovParams, data: Any, per_row: bool = False) -> jax.Array:
        """Of all sequences together; (S,) unweighted, one a sequence, with per_row."""
        rows = rows_for(self, params, data)
        return (_log_likelihood_sequences if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: HiddenMarkovParams) -> jax.Array:
        """Log-density of the prior, up to a constant in the params; 0 without one."""
        prior = self._prior(params)
        if prior is None:
            return jnp.zeros((), params.transition.dtype)
        exponents = jnp.where(self._allowed(), prior.transition - 1, 0)
        out = dot_log(exponents, params.transition) + self.family.log_prior(params.emissions, prior.emissions)
        if self.initial in ("free", "stationary"):
            out = out + dot_log(jnp.broadcast_to(prior.initial - 1, params.initial.shape), params.initial)
        return out

    def transitions_ahead(self, params: HiddenMarkovParams, steps: int, gate: Any) -> jax.Array:
        """(steps, K, K) of steps to come."""
        if gate is not None:
            raise ValueError("gate: these transitions have no covariates; leave it out, or take NonhomogeneousHiddenMarkov.")
        return jnp.broadcast_to(params.transition, (steps, *params.transition.shape))

    def sample(self, key: Any, params: HiddenMarkovParams, n: int, *, states: bool = False, covariates: Any = None) -> Any:
        """One sequence of n steps; with `states`, also its states (n,). `covariates` (n, p) where the family takes them."""
        coordinates.no_fit(params)
        params = jax.tree.map(jnp.asarray, params)
        move, draw = jax.random.split(as_key(key))
        path = _wander(move, params.initial, params.transition, check_count(n, "n"))
        given = {} if covariates is None else {"x": covariates}
        y = self.family.sample(draw, params.emissions, path, **given)
        return (y, path) if states else y

    # what follows from domains

    def structure(self, size: Any) -> HiddenMarkovParams:
        k = self.n_states
        return HiddenMarkovParams((k,), (k, k), self.family.structure(k, size_of(size)))  # type: ignore[arg-type]

    def n_parameters(self, size: Any) -> int:
        found = coordinates.count(self.domains, self.structure(size)) - self.family.absent(self.n_states, size_of(size))
        return found - int((~self._allowed()).sum())

    def to_unconstrained(self, params: HiddenMarkovParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: HiddenMarkovParams | None = None) -> HiddenMarkovParams:
        params = coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)
        if self.initial == "free":
            return params
        known = stationary(params.transition) if self.initial == "stationary" else jnp.asarray(self.initial, vector.dtype)
        return params._replace(initial=known)

    def canonical_order(self, params: HiddenMarkovParams) -> jax.Array:
        """Order of the states by the family's rank, for instance the first column of the mean; as given where states differ
        by the mask or by given probabilities."""
        named = isinstance(self.initial, tuple) or self.transition is not None
        if named or breaks_symmetry(self.fixed, self.free_domains):
            return jnp.arange(self.n_states)
        return jnp.lexsort(tuple(self.family.rank(params.emissions).T[::-1]))

    def relabel(self, params: HiddenMarkovParams, order: jax.Array) -> HiddenMarkovParams:
        moved = coordinates.relabel(self.free_domains, params, order)
        return moved._replace(initial=jnp.take(params.initial, order))

    def canonical(self, params: HiddenMarkovParams) -> HiddenMarkovParams:
        if isinstance(self.fixed, Restrictions):
            return params
        return params._replace(emissions=self.family.canonical(params.emissions))

    def degenerate(self, params: HiddenMarkovParams, data: Rows) -> jax.Array:
        return jnp.broadcast_to(self.family.degenerate(params.emissions, data), (self.n_states,))

    def magnitude(self, params: HiddenMarkovParams, data: Rows) -> jax.Array:
        return self.family.magnitude(params.emissions, data)

    def remarks(self, params: Any, data: Any) -> list[str]:
        return spoken(self.family.remarks(params.emissions, rows_for(self, params, data)))


jax.tree_util.register_dataclass(
    HiddenMarkov, data_fields=("family", "prior", "fixed"), meta_fields=("n_states", "initial", "transition", "tied", "recursion")
)


@partial(jax.jit, static_argnames="n")
def _wander(key: jax.Array, initial: jax.Array, transition: jax.Array, n: int) -> jax.Array:
    """(n,) states of a chain."""
    noise = jax.random.gumbel(key, (n, len(initial)), transition.dtype)

    def step(state: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = (jnp.log(transition[state]) + own).argmax()
        return state, state

    first = (jnp.log(initial) + noise[0]).argmax()
    return jnp.concatenate([first[None], jax.lax.scan(step, first, noise[1:])[1]])


@jax.jit
def _init(model: HiddenMarkov, key: jax.Array, rows: Rows, way: jax.Array) -> HiddenMarkovParams:
    k, dtype = model.n_states, rows.dtype
    allowed = model._allowed()
    r = initialize.memberships(key, model.family.embed(rows), rows.pilot_weights, k, way)
    drawn_here, way = jnp.ndim(way) == 0, initialize.number_of(way)
    lanes, row = rows.lanes, jnp.minimum(rows.pilot_index, rows.n - 1)
    begin, end = lanes.start[lanes.sequence[row]], lanes.end[lanes.sequence[row]]
    uniform = jax.random.uniform(jax.random.fold_in(key, 1), (rows.n + k + 1,), dtype)
    # stretches of one length in time, each of a random state: rows of few values say nothing about states by themselves
    longest = jnp.log(((end - begin).max() + 1).astype(dtype) / k)
    length = jnp.exp(uniform[0] * jnp.maximum(longest, 1)).astype(jnp.int32) + 1
    drawn = (k * uniform[k + 1 :][begin + (row - begin) // length * length]).astype(jnp.int32)
    stretches = (0.8 * jax.nn.one_hot(drawn, k, dtype=dtype) + 0.2 / k) * rows.pilot_weights[:, None]
    r = jnp.where(way == 2, stretches, r)
    if (np.tril(allowed, -1) == 0).all() and k > 1 and drawn_here:
        part = ((row - begin) * k // (end - begin + 1)).clip(0, k - 1)
        r = jnp.where(way == 0, jax.nn.one_hot(part, k, dtype=dtype) * rows.pilot_weights[:, None], r)
    counts = r.sum(axis=0) + 1
    shares = counts / counts.sum()
    lasting = jnp.where(way == 0, 0.5, uniform[1 : k + 1])[:, None]
    weighed = jnp.asarray(allowed, dtype) * ((1 - lasting) * shares + lasting * jnp.eye(k, dtype=dtype))
    transition = weighed / weighed.sum(axis=1, keepdims=True)
    if model.initial == "free":
        initial = shares
    else:
        initial = stationary(transition) if model.initial == "stationary" else jnp.asarray(model.initial, dtype)
    start = HiddenMarkovParams(initial, transition, model.family.init(rows, r))
    return coordinates.settle(model.domains, start) if isinstance(model.fixed, Restrictions) else start


@jax.jit
def _e_step(model: HiddenMarkov, params: HiddenMarkovParams, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    lanes, sizes = rows.lanes, (len(rows.lanes.slot), model.n_states)
    if lanes.grid is not None and not runs_parallel(model.recursion, *sizes, lanes.slot.shape[1]):
        checkpoints = keeps_checkpoints(model.recursion, *sizes, lanes.grid[-1])
        found = streamed(model.family, params.emissions, rows, params.initial, params.transition, checkpoints)
        return Expectation(HiddenMarkovStatistics(*found[:3]), found.log_likelihood)
    weights = lane_weights(rows)
    smoothed = model._recursions.smooth(model._links(params, rows), weights)
    emissions = fold_in_lanes(model.family, params.emissions, rows, smoothed.state)
    statistics = HiddenMarkovStatistics(first_states(smoothed.state, rows), smoothed.pairs, emissions)
    return Expectation(statistics, reduce.weighted_sum(smoothed.log_norm, weights))


@jax.jit
def _assign(model: HiddenMarkov, how: Assign, params: HiddenMarkovParams, rows: Rows) -> Assigned:
    params = coordinates.cast(params, rows.dtype)
    found, *known = assign_paths(how, model._recursions, model._links(params, rows), rows)
    emissions = fold_in_lanes(model.family, params.emissions, rows, found.state)
    return Assigned(HiddenMarkovStatistics(first_states(found.state, rows), found.pairs, emissions), *known)


@jax.jit
def _log_likelihood(model: HiddenMarkov, params: HiddenMarkovParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return reduce.weighted_sum(model._recursions.log_norms(model._links(params, rows)), lane_weights(rows))


@jax.jit
def _log_likelihood_sequences(model: HiddenMarkov, params: HiddenMarkovParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return sequence_sums(to_rows(model._recursions.log_norms(model._links(params, rows)), rows), rows)
