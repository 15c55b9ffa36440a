"""Split-and-merge moves for mixtures: what plain EM cannot do, take a component from where there are too many to where one lacks.

A mixture stuck in a local maximum often has two components in one group of rows and one component over two groups; no step that
raises the likelihood leads out. A move merges two components that share their rows and splits a third that fits its own badly
(Ueda, Nakano, Ghahramani and Hinton 2000, Neural Computation 12:2109).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxem import initialize, reduce
from jaxem.algorithms.algorithm import Algorithm
from jaxem.coordinates import settle
from jaxem.lanes import advance, begin, draw_starts, drive, join, lane_width, over_lanes, put, take, widest_for, worth
from jaxem.models.mixture import Mixture, MixtureParams, softmax
from jaxem.restrict import Restrictions
from jaxem.result import Status, Stop
from jaxem.rows import Rows
from jaxem.run import Run
from jaxem.shape_domains import Together

MARGIN = 1e-6  # of |objective| + 1 that a move must gain: less is a matter of when the runs ended


LOOK = 8  # steps of the candidates between two looks at how they are doing
CLEAR = 0.01  # posterior probability below which a row is not counted among a component's own


class Settings(NamedTuple):
    """Of `split_and_merge`."""

    starts: int
    candidates: int  # triples whose three components are fitted
    steps: int  # of that
    keep: int  # of them that go on with all components
    moves: int


def check(model: Any, params: Any) -> None:
    """Raises where there is nothing to merge and split."""
    del params
    if not isinstance(model, Mixture):
        found = type(model).__name__
        raise TypeError(f"search: split_and_merge moves components of a Mixture; found {found}; take successive_halving.")
    if model.n_components < 3:
        few = model.n_components
        raise ValueError(f"search: split_and_merge takes three components at a time; found {few}; take successive_halving.")


def explore(
    settings: Settings,
    model: Any,
    rows: Rows,
    key: jax.Array,
    params: Any,
    algorithm: Algorithm,
    stop: Stop,
    progress: Any,
) -> Run:
    """All lanes: the starts, then the candidates of each move; the best of them is where no candidate leads higher."""
    starts = settings.starts if params is None else 1
    lanes = begin(model, draw_starts(model, rows, key, params, starts), rows, key, algorithm, None)
    lanes = drive(model, lanes, rows, None, stop, algorithm, progress)
    lanes = put(lanes, jnp.arange(starts), lanes)
    best: int | None = int(np.argmax(worth(lanes)))
    if not np.isfinite(worth(lanes)[best]):
        return lanes
    k = model.n_components
    count = min(settings.candidates, k * (k - 1) * (k - 2) // 2)
    kept = min(settings.keep, count)
    looked = 1 + -(-3 * count * settings.steps // k)  # a look at all components, and E-steps of three of them
    for move in range(settings.moves):
        own = jax.random.fold_in(jax.random.fold_in(key, 3), move)
        here, level = jax.tree.map(lambda leaf, best=best: leaf[best], lanes.params), float(lanes.objective[best])
        points = _propose(model, here, rows, own, count, settings.steps, kept, lane_width(rows, model))
        tried = begin(model, points, rows, own, algorithm, None)
        tried = tried._replace(passes=tried.passes.at[0].add(looked))
        tried, winner = _follow(model, tried, rows, stop, algorithm, level + MARGIN * (1 + abs(level)), progress)
        before, lanes = len(lanes.status), join(lanes, tried)
        if winner is None:
            break
        best = before + winner
    return lanes


def _follow(
    model: Any, lanes: Run, rows: Rows, stop: Stop, algorithm: Algorithm, goal: float, progress: Any
) -> tuple[Run, int | None]:
    """Candidates side by side, until one has passed the goal and ended well, or none can any more; and which one.

    A candidate whose own estimate of its end lies below the goal is dropped.
    """
    count = len(lanes.status)
    alive, widest = np.arange(count), widest_for(rows, model, count)
    ended: list[tuple[int, Run]] = []
    winner = None
    while alive.size and winner is None:
        lanes = advance(model, lanes, rows, stop, algorithm, alive, LOOK, widest)
        for ahead in alive[np.argsort(-worth(lanes)[alive], kind="stable")]:
            if not worth(lanes)[ahead] > goal:
                break
            one = drive(model, take(lanes, jnp.asarray([ahead])), rows, None, stop, algorithm, progress)
            ended.append((int(ahead), one))
            alive = np.setdiff1d(alive, ahead)
            if worth(one)[0] > goal:
                winner = int(ahead)
                break  # else it rose only towards a collapse
        running = np.asarray(lanes.status) == Status.RUNNING
        hope = np.where(running, np.asarray(lanes.objective, np.float64) + np.asarray(lanes.gap, np.float64), -np.inf)
        alive = alive[hope[alive] > goal]
    lanes = put(lanes, jnp.arange(count), lanes)
    for number, one in ended:
        lanes = put(lanes, jnp.asarray([number]), one)
    return lanes, winner


# candidates


@partial(jax.jit, static_argnames=("count", "steps", "kept", "width"))
def _propose(
    model: Mixture, params: MixtureParams, rows: Rows, key: jax.Array, count: int, steps: int, kept: int, width: int
) -> MixtureParams:
    """Starts (leading axis `kept`): the best of `count` moves once their three components are fitted, the others held."""
    log_prob = reduce.map_rows(model.family, params.components, rows, _log_prob)
    joint = jnp.log(params.weights) + log_prob
    pilot = jnp.minimum(rows.pilot_index, rows.n - 1)
    possible = jnp.isfinite(joint[pilot]).any(axis=1, keepdims=True)
    r = jnp.where(possible, jax.nn.softmax(jnp.where(possible, joint[pilot], 0), axis=1), 0)
    triples = ranked_triples(r, log_prob[pilot], rows)[:count]

    def one(each: tuple[jax.Array, jax.Array]) -> tuple[MixtureParams, jax.Array]:
        triple, key = each
        return _fit_three(model, _move(model, params, rows, r, triple, key), triple, joint, rows, steps)

    points, reached = over_lanes(one, (triples, jax.random.split(key, count)), count, width)
    order = jnp.argsort(jnp.where(jnp.isnan(reached), jnp.inf, -reached), stable=True)[:kept]
    return jax.tree.map(lambda leaf: leaf[order], points)


def _log_prob(bound: Any, cells: Any, log_prob: jax.Array) -> jax.Array:
    del bound, cells
    return log_prob


def ranked_triples(r: jax.Array, log_prob: jax.Array, rows: Rows) -> jax.Array:
    """(T, 3) of components i, j to merge and k to split, the most promising first: by the product of two ranks.

    Pairs are ranked by the rows that they share, sum_n w_n r_ni r_nj; components to split by KL(f_k || p_k), f_k being the
    distribution of the pilot rows weighted by their posterior probability of k (equal rows are one point).
    """
    k = r.shape[1]
    weighted = r * rows.pilot_weights[:, None]
    first, second = np.triu_indices(k, 1)
    pair = _rank((weighted.T @ r)[first, second])
    split = _rank(_misfit(weighted, log_prob, rows.pilot))
    chosen = np.array([(number, c) for number in range(len(first)) for c in range(k) if c not in (first[number], second[number])])
    order = jnp.argsort((pair[chosen[:, 0]] + 1) * (split[chosen[:, 1]] + 1), stable=True)
    return jnp.stack([first[chosen[:, 0]], second[chosen[:, 0]], chosen[:, 1]], axis=1)[order]


def _rank(score: jax.Array) -> jax.Array:
    """0 for the highest."""
    return jnp.argsort(jnp.argsort(-score, stable=True))


def _misfit(weighted: jax.Array, log_prob: jax.Array, pilot: jax.Array) -> jax.Array:
    """(K,) KL(f_k || p_k); -inf for a component without rows."""
    total = weighted.sum(axis=0)
    mass = weighted / jnp.where(total > 0, total, 1)
    token = jnp.where(jnp.isnan(pilot), -0.5, pilot) @ jnp.cos(1 + jnp.arange(pilot.shape[1], dtype=pilot.dtype))
    order = jnp.argsort(token)
    group = jnp.cumsum(jnp.diff(token[order], prepend=token[order][:1]) > 0)
    at = jax.ops.segment_sum(mass[order], group, len(token))[group]
    terms = jnp.where(mass[order] > 0, mass[order] * (jnp.log(jnp.where(at > 0, at, 1)) - log_prob[order]), 0)
    return jnp.where(total > 0, terms.sum(axis=0), -jnp.inf)


def _move(
    model: Mixture, params: MixtureParams, rows: Rows, r: jax.Array, triple: jax.Array, key: jax.Array
) -> MixtureParams:
    """Components i and j become one at place i, k becomes two at places j and k: parted by k-means among its own rows."""
    i, j, k = triple
    weighted = r * rows.pilot_weights[:, None]
    own = jnp.where(r[:, k] > CLEAR, weighted[:, k], 0)
    parts = initialize.memberships(key, model.family.embed(rows), own, 2)
    r = weighted.at[:, i].add(weighted[:, j]).at[:, j].set(parts[:, 0]).at[:, k].set(parts[:, 1])
    share = jnp.clip(parts[:, 0].sum() / jnp.maximum(parts.sum(), jnp.finfo(r.dtype).tiny), 0.1, 0.9)
    weights = params.weights
    weights = weights.at[i].add(weights[j]).at[j].set(share * weights[k]).at[k].set((1 - share) * weights[k])
    parted = _of(model, model.family.init(rows, r), triple)
    return _with(model, MixtureParams(weights, params.components), triple, weights[triple], parted)


def _of(model: Mixture, components: Any, triple: jax.Array) -> Any:
    """Three of the components."""
    return jax.tree.map(lambda domain, leaf: leaf[triple] if domain.state_axes else leaf, model.family.domains, components)


def _with(model: Mixture, params: MixtureParams, triple: jax.Array, weights: jax.Array, components: Any) -> MixtureParams:
    """The three put back; what all components share stays."""

    def put_back(domain: Any, leaf: jax.Array, new: jax.Array) -> jax.Array:
        return leaf.at[triple].set(new) if domain.state_axes else leaf

    return MixtureParams(
        params.weights.at[triple].set(weights), jax.tree.map(put_back, model.family.domains, params.components, components)
    )


def _fit_three(
    model: Mixture, start: MixtureParams, triple: jax.Array, joint: jax.Array, rows: Rows, steps: int
) -> tuple[MixtureParams, jax.Array]:
    """Some steps of EM over three components and their shares of what they weigh together, and the objective before the last.

    What the others, whose log-joint densities (n, K) are known, leave of a row is theirs: each E-step costs 3 / K of a pass.
    """
    others = jax.nn.logsumexp(joint.at[:, triple].set(-jnp.inf), axis=1)
    others = jnp.concatenate([others, jnp.zeros(1, others.dtype)])
    together = start.weights[triple].sum()
    prior = model._prior(start)

    def step(_: int, carry: tuple[jax.Array, Any, jax.Array]) -> tuple[jax.Array, Any, jax.Array]:
        weights, components = carry[:2]
        family = model.family.localize(components, rows)
        respond = Partial(_respond_three, jnp.log(weights), others)
        found, (counts, reached) = reduce.fold(family, components, rows, respond, rowwise=True)
        moved = family.maximize(components, found, None if prior is None else prior.components)
        total = counts.sum()
        return jnp.where(total > 0, together * counts / jnp.where(total > 0, total, 1), weights), moved, reached

    begun = start.weights[triple], _of(model, start.components, triple), jnp.zeros((), rows.dtype)
    weights, components, reached = jax.lax.fori_loop(0, steps, step, begun)
    params = _with(model, start, triple, weights, components)
    coupled = any(isinstance(domain, Together) for domain in jax.tree.leaves(model.family.domains))
    if coupled or isinstance(model.fixed, Restrictions):  # what the three share with the others has moved for them alone
        params = settle(model.domains, params)
    return params, reached + model.log_prior(params)


def _respond_three(
    log_weights: jax.Array, others: jax.Array, log_prob: jax.Array, weights: jax.Array, row: jax.Array
) -> tuple[jax.Array, Any]:
    beside = others[row][:, None]
    known = jnp.concatenate([log_prob + log_weights[:, None], beside], axis=1)
    r, log_density = softmax(jnp.zeros((known.shape[1], 1), known.dtype), known)
    r = r[:, :-1] * weights[:, None]
    return r, (r.sum(axis=(0, 2)), reduce.weighted_sum(log_density, weights))
