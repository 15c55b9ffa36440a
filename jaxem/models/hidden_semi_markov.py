"""Hidden semi-Markov models: discrete states that follow one another, each for a duration of its own distribution."""

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
from jaxem.kernels import durations, structured_chain
from jaxem.kernels.duration_chain import DurationChain
from jaxem.kernels.durations import CategoricalDuration, NegativeBinomialDuration, PoissonDuration
from jaxem.model import Expectation, Model, size_of
from jaxem.models.markov_checks import check_initial, check_mask, shares
from jaxem.models.path_readings import PathReadings
from jaxem.priors import dot_log
from jaxem.rows import Rows
from jaxem.sequence_rows import prepare_sequence_batch, prepare_sequences
from jaxem.steps import emissions_in_lanes, lane_weights, sequence_sums, states_to_rows, step_weights, to_rows

FULL = 0.05  # share of durations at `max_duration` from which a fit is told to be cut short


class HiddenSemiMarkovParams(NamedTuple):
    """Params of K states."""

    initial: jax.Array  # (K,) probabilities of the first state
    transition: jax.Array  # (K, K) probabilities of the state that follows another; rows sum to 1, the diagonal is 0
    duration: Any  # PoissonDuration, NegativeBinomialDuration or CategoricalDuration
    emissions: Any  # the family's params with a leading K axis


class HiddenSemiMarkovStatistics(NamedTuple):
    """Sums over sequences."""

    initial: jax.Array  # (K,) expected number of sequences that begin in each state
    transition: jax.Array  # (K, K) expected number of steps to another state, within sequences
    duration: jax.Array  # (K, D) expected number of durations of each length
    emissions: Any  # the family's statistics


class HiddenSemiMarkovPrior(NamedTuple):
    """Dirichlet priors of the probabilities, and the family's own."""

    initial: Any = 1.0  # concentration, one number or (K,)
    transition: Any = 1.0  # one number or (K, K)
    duration: Any = 1.0  # one number, (D,) or (K, D); of categorical durations only
    emissions: Any = None


@dataclasses.dataclass(frozen=True)
class HiddenSemiMarkov(PathReadings, Model):
    r"""States z that last: a state is drawn from p(z_1) = initial, or from transition[z] after state z; it lasts u ~ p(u | z)
    steps, u = 1..D; and each of them shows y_t as the family says (Ferguson 1980; the review of Yu 2010, Artif. Intell. 174:215).

    p(u | z) is categorical; or that of u - 1 = Poisson or negative binomial counts, cut off at max_duration and brought to sum to
    1. The first duration begins with its sequence. The last one is cut off by the sequence's end: all that is known is that it
    lasts at least so long, and it counts with the survivor function P(u >= so long) (Guedon 2003, J. Comput. Graph. Statist.
    12:604), not as if it had ended there.

    E-step: forward-backward over (state, steps that it has lasted), in O(T K (K + D)) operations and O(T K D) memory, scaled or,
    where that would lose digits, on logarithms. M-step: shares of expected counts for first states, transitions and categorical
    durations; Newton's method for parametric durations (`jaxem.kernels.durations`), whose expected counts hold the durations that
    were cut off as they would have gone on; the family's own for the rest. With geometric durations it is a `HiddenMarkov`.

    Data: as for `HiddenMarkov`. Missing cells are integrated out; a step with nothing observed only lets time pass. Weights are one
    number a sequence.

    Args:
        family: what a step looks like given its state.
        n_states: K >= 2.
        duration: "poisson", "negative_binomial" or "categorical".
        max_duration: D, the longest that a state can last.
        initial: "free", or K probabilities to keep.
        transition: None, or a (K, K) mask, False where a state cannot follow another. No state follows itself.
        prior: None for maximum likelihood, or a `HiddenSemiMarkovPrior`.

    Raises:
        TypeError, ValueError: numbers that are not whole and large enough; another duration; initial of another kind, or not
            summing to 1; a mask of another shape, or with a state that no other can follow; a prior of another family.
    """

    family: Any
    n_states: int = 0  # has to be given; the protocol's property gives way to a plain attribute
    duration: str = "poisson"
    max_duration: int = 0  # has to be given
    _: dataclasses.KW_ONLY
    initial: Any = "free"
    transition: Any = None
    prior: HiddenSemiMarkovPrior | None = None

    def __post_init__(self):
        check_family(self.family)
        if check_count(self.n_states, "n_states") < 2:
            raise ValueError("n_states: found 1; give at least 2, since a state is followed by another, or take Single.")
        if self.duration not in durations.KINDS:
            raise ValueError(f"duration: found {self.duration!r}; give one of {', '.join(map(repr, durations.KINDS))}.")
        check_count(self.max_duration, "max_duration")
        if isinstance(self.prior, HiddenSemiMarkovPrior):
            check_prior(self.family, self.prior.emissions)
            if self.duration != "categorical" and np.any(np.asarray(self.prior.duration) != 1):
                raise TypeError(f"prior: {self.duration} durations have no conjugate prior; leave out duration=.")
        elif isinstance(self.prior, tuple):
            raise TypeError(f"prior: found {type(self.prior).__name__}; give HiddenSemiMarkovPrior(initial, transition, ...).")
        if self.initial == "stationary":
            raise ValueError("initial: 'stationary' is not known for durations; give 'free', or K probabilities.")
        object.__setattr__(self, "initial", check_initial(self.initial, self.n_states))
        mask = check_mask(self.transition, self.n_states)
        if mask is not None:
            mask = check_mask(np.array(mask).reshape(self.n_states, -1) & ~np.eye(self.n_states, dtype=bool), self.n_states)
        object.__setattr__(self, "transition", mask)

    needs_key = True

    @property
    def closed(self) -> bool:
        return self.family.closed

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return tuple(f"emissions.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> HiddenSemiMarkovParams:
        initial = Simplex() if self.initial == "free" else Derived()
        moves: Any = Simplex(state_axes=(0, 1))
        return HiddenSemiMarkovParams(initial, moves, durations.domains_of(self.duration), self.family.domains)  # type: ignore[arg-type]

    # data and starts

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return prepare_sequences(self.family, y, weights, self.n_states, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        """Many data sets, each of one or several sequences, in blocks and lanes of one shape; every leaf has a leading axis."""
        return prepare_sequence_batch(self.family, datasets, weights, self.n_states)

    def init(self, key: Any, data: Any, way: Any = 0) -> HiddenSemiMarkovParams:
        """Emissions as `Mixture.init` finds components; durations from how long these last in a row, longer in other ways."""
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def start_points(self, data: Rows) -> jax.Array:
        return self.family.embed(data)

    def settle(self, params: HiddenSemiMarkovParams | None, data: Rows) -> HiddenSemiMarkov:
        emissions = None if params is None else params.emissions
        return dataclasses.replace(self, family=self.family.settle(emissions, data))

    def localize(self, params: HiddenSemiMarkovParams, data: Rows, shared: bool = False) -> HiddenSemiMarkov:
        return dataclasses.replace(self, family=self.family.localize(params.emissions, data, shared))

    def _links(self, params: HiddenSemiMarkovParams, rows: Rows) -> DurationChain:
        """What the recursions run over."""
        density = emissions_in_lanes(self.family, params.emissions, rows)
        found = durations.ages(durations.log_probabilities(params.duration, self.max_duration))
        return DurationChain(density, rows.lanes.first, params.initial, params.transition, found.stay, found.leave)

    # EM

    def e_step(self, params: HiddenSemiMarkovParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def assign(self, how: Assign, params: HiddenSemiMarkovParams, data: Any) -> Assigned:
        rows = rows_for(self, params, data)
        return _assign(self.settle(params, rows), how, params, rows)

    def m_step(self, params: HiddenSemiMarkovParams, statistics: HiddenSemiMarkovStatistics) -> HiddenSemiMarkovParams:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: HiddenSemiMarkovParams, statistics: HiddenSemiMarkovStatistics) -> HiddenSemiMarkovParams:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: HiddenSemiMarkovParams, statistics: Any, maximize: Any) -> HiddenSemiMarkovParams:
        prior = self._prior(params)
        firsts, pairs, lasted = statistics.initial, statistics.transition, statistics.duration
        if prior is not None:
            firsts = jnp.maximum(firsts + prior.initial - 1, 0)
            pairs = jnp.where(self._allowed(), jnp.maximum(pairs + prior.transition - 1, 0), 0)
            lasted = jnp.maximum(lasted + prior.duration - 1, 0)
        return HiddenSemiMarkovParams(
            shares(firsts, params.initial) if self.initial == "free" else params.initial,
            shares(pairs, params.transition),
            durations.maximize(params.duration, lasted),
            maximize(params.emissions, statistics.emissions, None if prior is None else prior.emissions),
        )

    def _prior(self, params: HiddenSemiMarkovParams) -> HiddenSemiMarkovPrior | None:
        """The prior in the dtype of the params."""
        return None if self.prior is None else coordinates.cast(self.prior, params.transition.dtype)

    def _allowed(self) -> np.ndarray:
        """(K, K) bool: which state can follow which."""
        k = self.n_states
        return ~np.eye(k, dtype=bool) if self.transition is None else np.array(self.transition, bool).reshape(k, k)

    def expected_log_joint(self, params: HiddenSemiMarkovParams, statistics: HiddenSemiMarkovStatistics) -> jax.Array:
        chain_part = dot_log(statistics.initial, params.initial) + dot_log(statistics.transition, params.transition)
        chain_part = chain_part + durations.expected_log_prob(params.duration, statistics.duration)
        return chain_part + self.family.expected_log_prob(params.emissions, statistics.emissions)

    def log_likelihood(self, params: HiddenSemiMarkovParams, data: Any, per_row: bool = False) -> jax.Array:
        """Of all sequences together; (S,) unweighted, one a sequence, with per_row."""
        rows = rows_for(self, params, data)
        return (_log_likelihood_sequences if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: HiddenSemiMarkovParams) -> jax.Array:
        """Log-density of the prior, up to a constant in the params; 0 without one."""
        prior = self._prior(params)
        if prior is None:
            return jnp.zeros((), params.transition.dtype)
        out = dot_log(jnp.where(self._allowed(), prior.transition - 1, 0), params.transition)
        if self.initial == "free":
            out = out + dot_log(jnp.broadcast_to(prior.initial - 1, params.initial.shape), params.initial)
        if self.duration == "categorical":
            p = params.duration.probabilities
            out = out + dot_log(jnp.broadcast_to(prior.duration - 1, p.shape), p)
        return out + self.family.log_prior(params.emissions, prior.emissions)

    # what follows from domains

    def structure(self, size: Any) -> HiddenSemiMarkovParams:
        k = self.n_states
        lasting = durations.structure(self.duration, k, self.max_duration)
        return HiddenSemiMarkovParams((k,), (k, k), lasting, self.family.structure(k, size_of(size)))  # type: ignore[arg-type]

    def n_parameters(self, size: Any) -> int:
        found = coordinates.count(self.domains, self.structure(size)) - self.family.absent(self.n_states, size_of(size))
        return found - int((~self._allowed()).sum())

    def to_unconstrained(self, params: HiddenSemiMarkovParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: HiddenSemiMarkovParams | None = None) -> HiddenSemiMarkovParams:
        params = coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)
        return params if self.initial == "free" else params._replace(initial=jnp.asarray(self.initial, vector.dtype))

    def canonical_order(self, params: HiddenSemiMarkovParams) -> jax.Array:
        """Order of the states by the family's rank; as given where states differ by the mask or by given probabilities."""
        if isinstance(self.initial, tuple) or self.transition is not None:
            return jnp.arange(self.n_states)
        return jnp.lexsort(tuple(self.family.rank(params.emissions).T[::-1]))

    def relabel(self, params: HiddenSemiMarkovParams, order: jax.Array) -> HiddenSemiMarkovParams:
        return coordinates.relabel(self.domains, params, order)._replace(initial=jnp.take(params.initial, order))

    def canonical(self, params: HiddenSemiMarkovParams) -> HiddenSemiMarkovParams:
        return params._replace(emissions=self.family.canonical(params.emissions))

    def degenerate(self, params: HiddenSemiMarkovParams, data: Rows) -> jax.Array:
        return jnp.broadcast_to(self.family.degenerate(params.emissions, data), (self.n_states,))

    def magnitude(self, params: HiddenSemiMarkovParams, data: Rows) -> jax.Array:
        return self.family.magnitude(params.emissions, data)

    def remarks(self, params: Any, data: Any) -> list[str]:
        """The family's, and of durations that `max_duration` may cut short."""
        out = spoken(self.family.remarks(params.emissions, rows_for(self, params, data)))
        last = np.asarray(self.duration_probabilities(params))[:, -1]
        for k in np.flatnonzero(last > FULL) if self.max_duration > 1 else ():
            share = f"{100 * last[k]:.0f} % of its durations are max_duration = {self.max_duration} steps long"
            out.append(f"component {k}: {share}; a larger one may fit better.")
        return out

    # what is read off a fit

    def sample(self, key: Any, params: HiddenSemiMarkovParams, n: int, *, states: bool = False, covariates: Any = None) -> Any:
        """One sequence of n steps; with `states`, also its states (n,). `covariates` (n, p) where the family takes them."""
        coordinates.no_fit(params)
        params = jax.tree.map(jnp.asarray, params)
        move, draw = jax.random.split(as_key(key))
        path = _wander(move, self, params, check_count(n, "n"))
        given = {} if covariates is None else {"x": covariates}
        y = self.family.sample(draw, params.emissions, path, **given)
        return (y, path) if states else y

    def duration_probabilities(self, params: HiddenSemiMarkovParams) -> jax.Array:
        """(K, D) probabilities of durations 1..D."""
        return jnp.exp(durations.log_probabilities(jax.tree.map(jnp.asarray, params.duration), self.max_duration))

    def expected_durations(self, params: HiddenSemiMarkovParams) -> jax.Array:
        """(K,) mean number of steps that a state lasts."""
        p = self.duration_probabilities(params)
        return (p * jnp.arange(1, self.max_duration + 1, dtype=p.dtype)).sum(axis=1)


jax.tree_util.register_dataclass(
    HiddenSemiMarkov,
    data_fields=("family", "prior"),
    meta_fields=("n_states", "duration", "max_duration", "initial", "transition"),
)


@jax.jit
def _init(model: HiddenSemiMarkov, key: jax.Array, rows: Rows, way: jax.Array) -> HiddenSemiMarkovParams:
    k, d, dtype = model.n_states, model.max_duration, rows.dtype
    r = initialize.memberships(key, model.family.embed(rows), rows.pilot_weights, k, way)
    way = initialize.number_of(way)
    often = (r.sum(axis=0) + 1) / (r.sum() + k)
    follows = jnp.asarray(model._allowed(), dtype) * often
    transition = follows / follows.sum(axis=1, keepdims=True)
    hard = jax.nn.one_hot(r.argmax(axis=1), k, dtype=dtype) * (r.sum(axis=1, keepdims=True) > 0)
    begun = 1 - jnp.concatenate([jnp.zeros(1, dtype), (hard[1:] * hard[:-1]).sum(axis=1)])
    runs = (hard.sum(axis=0) + 1) / ((hard * begun[:, None]).sum(axis=0) + 1)
    lasting = jnp.clip(runs * 2.0**way, 1.2, (d + 1) / 2 + 0.2).astype(dtype) - 1
    lasting = jnp.minimum(lasting, d - 1)
    ones = jnp.ones_like(lasting)
    duration: Any = NegativeBinomialDuration(lasting, 0.5 * ones)
    if model.duration == "poisson":
        duration = PoissonDuration(lasting)
    elif model.duration == "categorical":
        duration = CategoricalDuration(jnp.exp(durations.log_probabilities(NegativeBinomialDuration(lasting, ones), d)))
    initial = often if model.initial == "free" else jnp.asarray(model.initial, dtype)
    return HiddenSemiMarkovParams(initial, transition, duration, model.family.init(rows, r))


@jax.jit
def _e_step(model: HiddenSemiMarkov, params: HiddenSemiMarkovParams, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    links = model._links(params, rows)
    weights = lane_weights(rows)
    found = structured_chain.smooth(links, weights)
    return Expectation(_finished(model, params, rows, links, found), reduce.weighted_sum(found.log_norm, weights))


@jax.jit
def _assign(model: HiddenSemiMarkov, how: Assign, params: HiddenSemiMarkovParams, rows: Rows) -> Assigned:
    params = coordinates.cast(params, rows.dtype)
    links = model._links(params, rows)
    found, *known = assign_paths(how, structured_chain, links, rows)
    return Assigned(_finished(model, params, rows, links, found), *known)


def _finished(model: HiddenSemiMarkov, params: Any, rows: Rows, links: DurationChain, found: Any) -> HiddenSemiMarkovStatistics:
    """Statistics from what the recursions tell; durations that were cut off go on as the params have it."""
    state = states_to_rows(found.told, rows)
    begin = rows.lanes.start
    counted = step_weights(rows).at[begin].get(mode="fill", fill_value=0)  # 0 for a sequence that only pads
    first = (state[begin] * counted[:, None]).sum(axis=0)
    pairs, ended, cut = found.tally
    lasted = durations.completed(durations.Ages(links.stay, links.leave), ended, cut)
    emissions = reduce.fold_given(model.family, params.emissions, rows, state)
    return HiddenSemiMarkovStatistics(first, pairs, lasted, emissions)


@jax.jit
def _log_likelihood(model: HiddenSemiMarkov, params: HiddenSemiMarkovParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return reduce.weighted_sum(structured_chain.log_norms(model._links(params, rows)), lane_weights(rows))


@jax.jit
def _log_likelihood_sequences(model: HiddenSemiMarkov, params: HiddenSemiMarkovParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return sequence_sums(to_rows(structured_chain.log_norms(model._links(params, rows)), rows), rows)


@partial(jax.jit, static_argnames="n")
def _wander(key: jax.Array, model: HiddenSemiMarkov, params: HiddenSemiMarkovParams, n: int) -> jax.Array:
    """(n,) states of a chain."""
    found = durations.ages(durations.log_probabilities(params.duration, model.max_duration))
    enter, leave = jax.random.split(key)
    noise = jax.random.gumbel(enter, (n, model.n_states), params.transition.dtype)
    uniform = jax.random.uniform(leave, (n,), params.transition.dtype)

    def step(place: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]) -> Any:
        state, age = place
        own, chance = now
        gone = chance < found.leave[state, age]
        other = (jnp.log(params.transition[state]) + own).argmax()
        place = jnp.where(gone, other, state), jnp.where(gone, 0, age + 1)
        return place, place[0]

    first = (jnp.log(params.initial) + noise[0]).argmax()
    _, later = jax.lax.scan(step, (first, jnp.zeros_like(first)), (noise[1:], uniform[1:]))
    return jnp.concatenate([first[None], later])
