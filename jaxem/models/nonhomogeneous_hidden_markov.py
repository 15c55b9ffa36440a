"""Hidden Markov models whose transitions are moved by covariates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, initialize, reduce
from jaxem.assign import Assign, Assigned, assign_paths
from jaxem.checks import as_key, check_count, check_matrix
from jaxem.data import as_rows, rows_for
from jaxem.domains import Derived, Domain, Simplex
from jaxem.family import check_family, check_prior, spoken
from jaxem.kernels import moving_chain
from jaxem.kernels.gate import GateFrame, GateStatistics, expected_log_gate, gate_step, gate_sums, move_gate
from jaxem.kernels.moving_chain import MovingChain
from jaxem.model import Expectation, Model, size_of
from jaxem.models.markov_checks import check_initial, shares
from jaxem.models.markov_readings import MarkovReadings
from jaxem.models.mixture_of_experts import GateParams, own, read_gated
from jaxem.priors import dot_log
from jaxem.rows import Rows
from jaxem.sequence_rows import prepare_sequence_batch, prepare_sequences
from jaxem.steps import lane_weights, sequence_sums, states_to_rows, step_weights, to_lanes, to_rows


@dataclasses.dataclass(frozen=True)
class Moves(Domain):
    """Log-odds (K, K, ...) of a move from row to column against staying: 0 on the diagonal."""

    state_axes: tuple[int, ...] = (0, 1)
    says: str = "finite numbers, 0 where row and column are the same state"

    @property
    def elementwise(self):
        return False

    def count(self, shape):
        return shape[0] * (shape[0] - 1) * int(np.prod(shape[2:]))

    def flatten(self, x):
        k = x.shape[0]
        return against_staying(x)[~np.eye(k, dtype=bool)].reshape(-1)

    def unflatten(self, vector, shape):
        away = ~np.eye(shape[0], dtype=bool)
        return jnp.zeros(shape, vector.dtype).at[away].set(vector.reshape(-1, *shape[2:]))

    def log_volumes(self, vector, shape):
        return jnp.zeros((), vector.dtype)

    def holds(self, x):
        return bool(np.isfinite(x).all() and (x[np.eye(len(x), dtype=bool)] == 0).all())


def against_staying(x: jax.Array) -> jax.Array:
    """(K, K, ...) less its diagonal, row by row."""
    each = jnp.arange(x.shape[0])
    return x - x[each, each][:, None]


class NonhomogeneousParams(NamedTuple):
    """Params of K states."""

    initial: jax.Array  # (K,)
    gate: GateParams  # coefficients (K, K, g) and intercept (K, K): log-odds of moving from row to column against staying
    emissions: Any  # the family's params with a leading K axis


class NonhomogeneousStatistics(NamedTuple):
    """Sums over sequences."""

    initial: jax.Array  # (K,)
    gate: GateStatistics  # of each state that is left, leading (K,)
    emissions: Any


@dataclasses.dataclass(frozen=True)
class NonhomogeneousHiddenMarkov(MarkovReadings, Model):
    r"""A hidden Markov model with p(z_t = k | z_{t-1} = j, x_t) = softmax_k(intercept_jk + coefficients_jk . x_t), 0 at k = j.

    Data: `Regression(y, x, gate=z)` or a list of such; z (T, g) without missing cells, one row for each step: that of step t
    moves the transition into t (so that of a first step moves nothing). Under a family of plain rows x is left out.

    E-step: the forward-backward recursions on logarithms. M-step: the family's own; each row of the transitions by one
    Newton step on its multinomial logit with expected counts of moves as responses, which the algorithm halves until the
    likelihood does not fall (Hughes, Guttorp and Charles 1999, Applied Statistics 48:15; Diebold, Lee and Weinbach 1994).

    Args:
        family: what a step looks like given its state.
        n_states: K >= 1.
        initial: "free", or K probabilities to keep. (There is no stationary distribution.)
        prior: None, or the family's conjugate prior.

    Raises:
        TypeError, ValueError: as for `HiddenMarkov`; data without a gate; missing, constant or collinear covariates.
    """

    family: Any
    n_states: int = 0
    _: dataclasses.KW_ONLY
    initial: Any = "free"
    prior: Any = None
    frame: GateFrame | None = None  # coordinates of the gates' statistics; None for the user's, about 0. Set by `localize`

    closed = False
    _recursions = moving_chain

    def __post_init__(self):
        check_family(self.family)
        check_count(self.n_states, "n_states")
        check_prior(self.family, self.prior)
        if isinstance(self.initial, str) and self.initial == "stationary":
            raise ValueError("initial: transitions that change have no stationary distribution; give 'free' or probabilities.")
        object.__setattr__(self, "initial", check_initial(self.initial, self.n_states))

    @property
    def needs_key(self) -> bool:
        return self.n_states > 1

    @property
    def observed_blocks(self) -> tuple[str, ...]:
        return tuple(f"emissions.{name}" for name in self.family.observed_blocks)

    @property
    def domains(self) -> NonhomogeneousParams:
        initial = Simplex() if self.initial == "free" else Derived()
        return NonhomogeneousParams(initial, GateParams(Moves(), Moves()), self.family.domains)  # type: ignore[arg-type]

    # data and starts

    def width(self, size: Any) -> int:
        """Rows a block, as the family has it."""
        return self.family.width(size[0])

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Any:
        """The family's table, with the covariates of the transitions beside it, scaled."""
        return read_gated(self.family, data, weights, missing)

    def prepare(self, y: Any, weights: Any = None, sharding: Any = None) -> Rows:
        return prepare_sequences(self, y, weights, self.n_states, sharding)

    def prepare_batch(self, datasets: Sequence[Any], weights: Sequence[Any] | None = None) -> Rows:
        return prepare_sequence_batch(self, datasets, weights, self.n_states)

    def init(self, key: Any, data: Any, way: Any = 0) -> NonhomogeneousParams:
        """Emissions as `Mixture.init` finds components; transitions that last, whatever the covariates."""
        return _init(self, as_key(key), as_rows(self, data), jnp.asarray(way))

    def start_points(self, data: Rows) -> jax.Array:
        return self.family.embed(own(data))

    def settle(self, params: NonhomogeneousParams | None, data: Rows) -> NonhomogeneousHiddenMarkov:
        emissions = None if params is None else params.emissions
        return dataclasses.replace(self, family=self.family.settle(emissions, own(data)))

    def localize(self, params: NonhomogeneousParams, data: Rows, shared: bool = False) -> NonhomogeneousHiddenMarkov:
        settled = self.settle(params, data)
        frame = GateFrame(data.gate_origin, jax.vmap(move_gate, (0, None))(params.gate, data.gate_origin))
        return dataclasses.replace(settled, family=settled.family.localize(params.emissions, own(data), shared), frame=frame)

    # EM

    def _links(self, params: NonhomogeneousParams, rows: Rows) -> MovingChain:
        """What the recursions run over."""
        return _links(self, params, rows)[0]

    def e_step(self, params: NonhomogeneousParams, data: Any) -> Expectation:
        rows = rows_for(self, params, data)
        return _e_step(self.settle(params, rows), params, rows)

    def assign(self, how: Assign, params: NonhomogeneousParams, data: Any) -> Assigned:
        rows = rows_for(self, params, data)
        return _assign(self.settle(params, rows), how, params, rows)

    def m_step(self, params: NonhomogeneousParams, statistics: NonhomogeneousStatistics) -> NonhomogeneousParams:
        return self._m_step(params, statistics, self.family.maximize)

    def m_step_expanded(self, params: NonhomogeneousParams, statistics: NonhomogeneousStatistics) -> NonhomogeneousParams:
        return self._m_step(params, statistics, self.family.maximize_expanded)

    def _m_step(self, params: Any, statistics: Any, maximize: Any) -> NonhomogeneousParams:
        initial = shares(statistics.initial, params.initial) if self.initial == "free" else params.initial

        def one(gate: GateParams, own: GateStatistics, point: Any) -> GateParams:
            gate = jax.tree.map(lambda leaf: leaf - leaf[:1], gate)  # the step is one against state 0
            frame = None if self.frame is None else GateFrame(self.frame.origin, point)
            return GateParams(*gate_step(gate, own, frame))

        # an expansion about what the gate is now has the same shift
        stepped = jax.vmap(one)(params.gate, statistics.gate, None if self.frame is None else self.frame.point)
        gate = jax.tree.map(against_staying, stepped)
        return NonhomogeneousParams(initial, gate, maximize(params.emissions, statistics.emissions, self._prior(params)))

    def _prior(self, params: NonhomogeneousParams) -> Any:
        return None if self.prior is None else coordinates.cast(self.prior, params.initial.dtype)

    def expected_log_joint(self, params: NonhomogeneousParams, statistics: NonhomogeneousStatistics) -> jax.Array:
        def one(gate: GateParams, own: GateStatistics, point: Any) -> jax.Array:
            return expected_log_gate(gate, own, None if self.frame is None else GateFrame(self.frame.origin, point))

        moves = jax.vmap(one)(params.gate, statistics.gate, None if self.frame is None else self.frame.point).sum()
        chain_part = dot_log(statistics.initial, params.initial) + moves
        return chain_part + self.family.expected_log_prob(params.emissions, statistics.emissions)

    def log_likelihood(self, params: NonhomogeneousParams, data: Any, per_row: bool = False) -> jax.Array:
        """Of all sequences together; (S,) unweighted, one a sequence, with per_row."""
        rows = rows_for(self, params, data)
        return (_log_likelihood_sequences if per_row else _log_likelihood)(self.settle(params, rows), params, rows)

    def log_prior(self, params: NonhomogeneousParams) -> jax.Array:
        if self.prior is None:
            return jnp.zeros((), params.initial.dtype)
        return self.family.log_prior(params.emissions, self._prior(params))

    # what follows from domains

    def structure(self, size: Any) -> NonhomogeneousParams:
        (inner, g), k = size_of(size), self.n_states
        gate = GateParams((k, k, g), (k, k))  # type: ignore[arg-type]
        return NonhomogeneousParams((k,), gate, self.family.structure(k, inner))  # type: ignore[arg-type]

    def n_parameters(self, size: Any) -> int:
        return coordinates.count(self.domains, self.structure(size)) - self.family.absent(self.n_states, size_of(size)[0])

    def to_unconstrained(self, params: NonhomogeneousParams) -> jax.Array:
        return coordinates.to_unconstrained(self.domains, params)

    def from_unconstrained(self, vector: jax.Array, like: NonhomogeneousParams | None = None) -> NonhomogeneousParams:
        params = coordinates.from_unconstrained(self.domains, coordinates.shapes_for(self, vector, like), vector)
        return params if self.initial == "free" else params._replace(initial=jnp.asarray(self.initial, vector.dtype))

    def canonical_order(self, params: NonhomogeneousParams) -> jax.Array:
        if isinstance(self.initial, tuple):
            return jnp.arange(self.n_states)
        return jnp.lexsort(tuple(self.family.rank(params.emissions).T[::-1]))

    def relabel(self, params: NonhomogeneousParams, order: jax.Array) -> NonhomogeneousParams:
        return coordinates.relabel(self.domains, params, order)

    def canonical(self, params: NonhomogeneousParams) -> NonhomogeneousParams:
        return params._replace(emissions=self.family.canonical(params.emissions))

    def degenerate(self, params: NonhomogeneousParams, data: Rows) -> jax.Array:
        return jnp.broadcast_to(self.family.degenerate(params.emissions, own(data)), (self.n_states,))

    def magnitude(self, params: NonhomogeneousParams, data: Rows) -> jax.Array:
        return self.family.magnitude(params.emissions, own(data))

    def remarks(self, params: Any, data: Any) -> list[str]:
        return spoken(self.family.remarks(params.emissions, own(rows_for(self, params, data))))

    # what is read off a fit

    def transitions(self, params: NonhomogeneousParams, gate: Any) -> jax.Array:
        """(n, K, K) probabilities of the transitions into steps with covariates (n, g), from row to column."""
        z = jnp.asarray(check_matrix(gate, "gate")[0])
        logits = jnp.einsum("ng,jkg->njk", z, params.gate.coefficients) + params.gate.intercept
        return jax.nn.softmax(logits, axis=-1)

    def transitions_ahead(self, params: NonhomogeneousParams, steps: int, gate: Any) -> jax.Array:
        """(steps, K, K) of steps to come."""
        if gate is None or np.shape(gate)[0] != steps:
            raise ValueError(f"gate: transitions follow from their covariates; give gate= of shape ({steps}, g).")
        return self.transitions(params, gate)

    def sample(
        self, key: Any, params: NonhomogeneousParams, n: int, *, states: bool = False, gate: Any = None, covariates: Any = None
    ) -> Any:
        """One sequence of n steps drawn given the covariates (n, g) of its transitions; with `states`, also its states (n,)."""
        coordinates.no_fit(params)
        begin, move, draw = jax.random.split(as_key(key), 3)
        log_moves = jnp.log(self.transitions_ahead(params, check_count(n, "n"), gate))
        first = jax.random.categorical(begin, jnp.log(params.initial))
        noise = jax.random.gumbel(move, (n, self.n_states), log_moves.dtype)

        def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            state = (now[0][state] + now[1]).argmax()
            return state, state

        _, later = jax.lax.scan(step, first, (log_moves[1:], noise[1:]))
        path = jnp.concatenate([first[None], later])
        extra = {} if covariates is None else {"x": covariates}
        y = self.family.sample(draw, params.emissions, path, **extra)
        return (y, path) if states else y


jax.tree_util.register_dataclass(
    NonhomogeneousHiddenMarkov, data_fields=("family", "prior", "frame"), meta_fields=("n_states", "initial")
)


def _links(model: Any, params: NonhomogeneousParams, rows: Rows) -> tuple[MovingChain, jax.Array, jax.Array, jax.Array]:
    """The chain; and by row the scaled covariates (n, g) and log-probabilities (n, K, K), and the gates' working form."""
    work = jax.vmap(move_gate, (0, None))(params.gate, rows.gate_origin)  # (K, K, g + 1)

    def visit(_bound: Any, _cells: Any, log_prob: jax.Array, gate: jax.Array) -> Any:
        return log_prob, gate

    log_prob, z = reduce.map_rows(model.family, params.emissions, rows, visit, gated=True)
    log_moves = jax.nn.log_softmax(jnp.einsum("ng,jkg->njk", z, work[..., :-1]) + work[..., -1], axis=-1)
    padded = jnp.concatenate([log_moves, jnp.zeros_like(log_moves[:1])])
    log_transition = jnp.moveaxis(padded[rows.lanes.slot], 1, -1)
    chain = MovingChain(to_lanes(log_prob, rows), rows.lanes.first, params.initial, log_transition)
    return chain, z, log_moves, work


@jax.jit
def _init(model: NonhomogeneousHiddenMarkov, key: jax.Array, rows: Rows, way: jax.Array) -> NonhomogeneousParams:
    k, dtype, inner = model.n_states, rows.dtype, own(rows)
    r = initialize.memberships(key, model.family.embed(inner), rows.pilot_weights, k, way)
    counts = r.sum(axis=0) + 1
    first = counts / counts.sum()
    transition = 0.5 * first + 0.5 * jnp.eye(k, dtype=dtype)
    gate = GateParams(jnp.zeros((k, k, rows.gate_origin.shape[-1]), dtype), against_staying(jnp.log(transition)))
    initial = first if model.initial == "free" else jnp.asarray(model.initial, dtype)
    return NonhomogeneousParams(initial, gate, model.family.init(inner, r))


@jax.jit
def _e_step(model: NonhomogeneousHiddenMarkov, params: NonhomogeneousParams, rows: Rows) -> Expectation:
    params = coordinates.cast(params, rows.dtype)
    links, *gates = _links(model, params, rows)
    weights = lane_weights(rows)
    found = moving_chain.smooth(links, weights)
    return Expectation(_finished(model, params, rows, found, *gates), reduce.weighted_sum(found.log_norm, weights))


@jax.jit
def _assign(model: NonhomogeneousHiddenMarkov, how: Assign, params: NonhomogeneousParams, rows: Rows) -> Assigned:
    params = coordinates.cast(params, rows.dtype)
    links, *gates = _links(model, params, rows)
    found, *known = assign_paths(how, moving_chain, links, rows)
    return Assigned(_finished(model, params, rows, found, *gates), *known)


def _finished(
    model: NonhomogeneousHiddenMarkov, params: Any, rows: Rows, found: Any, z: jax.Array, log_moves: jax.Array, work: jax.Array
) -> NonhomogeneousStatistics:
    """Statistics from probabilities of states and pairs of states."""
    state, begin = states_to_rows(found.state, rows), rows.lanes.start
    steps = step_weights(rows)
    counted = steps.at[begin].get(mode="fill", fill_value=0)  # 0 for a sequence that only pads
    first = (state[begin] * counted[:, None]).sum(axis=0)
    pairs = to_rows(jnp.moveaxis(found.pairs, -1, 1), rows) * steps[:, None, None]  # (n, from, to)
    frame = GateFrame(rows.gate_origin, None) if model.frame is None else model.frame

    def one(log_pi: jax.Array, r: jax.Array, work: jax.Array, point: Any) -> GateStatistics:
        sums = gate_sums(log_pi.T[None], z.T[None], r.T[None], r.sum(axis=1)[None])
        return GateStatistics.about(sums, work, rows.gate_origin, GateFrame(frame.origin, point))

    gate = jax.vmap(one, (1, 1, 0, None if frame.point is None else 0))(log_moves, pairs, work, frame.point)
    emissions = reduce.fold_given(model.family, params.emissions, rows, state)
    return NonhomogeneousStatistics(first, gate, emissions)


@jax.jit
def _log_likelihood(model: NonhomogeneousHiddenMarkov, params: NonhomogeneousParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return reduce.weighted_sum(moving_chain.log_norms(_links(model, params, rows)[0]), lane_weights(rows))


@jax.jit
def _log_likelihood_sequences(model: NonhomogeneousHiddenMarkov, params: NonhomogeneousParams, rows: Rows) -> jax.Array:
    params = coordinates.cast(params, rows.dtype)
    return sequence_sums(to_rows(moving_chain.log_norms(_links(model, params, rows)[0]), rows), rows)
