"""Gibbs sampling by data augmentation: states drawn given params, params drawn given states.

Given states, sums over rows tell all of the params, and under conjugate priors their posterior is known in closed form: s drawn
by `sample_statistics`, then params from p(params | s) (Tanner and Wong 1987, JASA 82:528; Diebolt and Robert 1994, JRSS-B 56:363).
What is missing inside a row, where sums would average over it, is drawn as well. The draws' distribution tends to the posterior.
Several chains run side by side; only their agreement (R-hat) tells whether they have.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import initialize
from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.checks import check_count
from jaxem.conjugate import check_proper, draw_from, relabel_distribution
from jaxem.draws import Draws, draws_of, over_entries, r_hat
from jaxem.families.drawn_cells import numbered

PARTS = 50  # steps that make all draws: a step is a fiftieth of them


class GibbsState(NamedTuple):
    """State of `gibbs`."""

    params: Any  # of the first chain
    chains: Any  # params of all, leaves (chains, ...)
    prior: Any  # a tree of distributions
    key: jax.Array
    kept: Any  # params drawn, leaves (chains, draws, ...): place i % draws holds draw i
    log_joint: jax.Array  # (chains, draws) of them
    latest: jax.Array  # (chains,) log-likelihood + log prior before the last sweep
    sweeps: jax.Array  # () how many have been made, burning in included


def gibbs(draws: int = 1000, burn_in: int = 500, chains: int = 4, mixed: float = 1.05) -> Algorithm:
    """Draws from the posterior of `Mixture`, `Single` and `HiddenMarkov` under proper conjugate priors. Not monotone.

    A step makes a fiftieth of the draws of every chain; a sweep of a chain costs one pass. The fit ends when `draws` have been
    made after `burn_in` and no parameter's R-hat is above `mixed`; where one is, as many again are made and those before dropped,
    until `Stop` ends it as MAX_STEPS. The first chain starts at the start of the fit, the others at starts of their own.

    `Fit.params` are the draws' means, with their log-likelihood; `Fit.detail` is `jaxem.Draws`. Where the prior treats states
    alike, their labels mean nothing and chains may swap them: each draw's states are brought to canonical order, which bends the
    posterior of states that overlap in what they are ordered by (Stephens 2000, JRSS-B 62:795). Where it does not, labels stay.

    Args:
        draws: kept of each chain, >= 8.
        burn_in: sweeps that are dropped, >= 0.
        chains: >= 1; R-hat compares halves of one, and of several also each with the others.
        mixed: largest R-hat that ends the fit.

    Raises:
        TypeError, ValueError: settings out of range; when a fit begins, no prior, one that is not conjugate or not proper,
            params that are fixed or tied, censored cells, or weights other than 0 and 1: a state is drawn for each row.
    """
    if check_count(draws, "draws") < 8:
        raise ValueError(f"draws: found {draws}; give at least 8, or R-hat has nothing to compare.")
    if burn_in != 0:
        check_count(burn_in, "burn_in")
    if not mixed > 1:
        raise ValueError(f"mixed: found {mixed}; give a number above 1, the R-hat of chains that agree.")
    return _make(int(draws), int(burn_in), check_count(chains, "chains"), float(mixed))


@lru_cache
def _make(draws: int, burn_in: int, chains: int, mixed: float) -> Algorithm:
    step = partial(_step, -(-draws // PARTS), burn_in, mixed)
    init = partial(_init, draws, chains)
    return Algorithm(init, step, monotone=False, conclude=partial(_conclude, burn_in), relabel=_relabel, check=_check)


def _check(model: Any, data: Any) -> None:
    check_proper(model, data)
    weights = np.asarray(data.weights)
    if model.n_states > 1 and not np.isin(weights, (0, 1)).all():
        raise ValueError(
            f"weights: found {weights[~np.isin(weights, (0, 1))][0]:g}; a state is drawn for each row, and a weight repeats rows "
            "whose states may differ. Repeat such rows, or take variational() or jaxem.nuts."
        )


def _init(draws: int, chains: int, model: Any, params: Any, data: Any, key: jax.Array) -> GibbsState:
    prior = model.conjugate(params)
    keys = jax.random.split(key, chains)
    if chains > 1:
        ways = jnp.arange(1, chains) % initialize.WAYS
        others = jax.lax.map(lambda own: model.init(own[0], data, own[1]), (keys[1:], ways))
        starts = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest.astype(first.dtype)]), params, others)
    else:
        starts = jax.tree.map(lambda first: first[None], params)
    kept = jax.tree.map(lambda leaf: jnp.full((chains, draws, *leaf.shape[1:]), jnp.nan, leaf.dtype), starts)
    empty = jnp.full((chains, draws), jnp.nan, data.dtype)
    return GibbsState(params, starts, prior, keys[0], kept, empty, empty[:, 0], jnp.zeros((), jnp.int32))


def _sweep(model: Any, prior: Any, data: Any, key: jax.Array, params: Any) -> tuple[Any, jax.Array]:
    """Params drawn given states drawn given `params`, and log-likelihood + log prior at `params`."""
    for_states, for_cells, for_params = jax.random.split(key, 3)
    local, rows = model, data
    if model.family.integrates(data):
        local = dataclasses.replace(model, family=model.family.drawing(for_cells))
        rows = numbered(data)
    local = local.localize(params, rows)
    statistics, log_likelihood = local.sample_statistics(for_states, params, rows)
    new = local.of_states(draw_from(for_params, local.update(prior, statistics)))
    return new, log_likelihood + model.log_prior(params)


def _alike(model: Any, prior: Any) -> jax.Array:
    """Whether the prior is the same for all states, so that their labels mean nothing: relabelling leaves it as it is."""
    swap = jnp.arange(model.n_states).at[:2].set(jnp.array([1, 0]))
    turn = jnp.roll(jnp.arange(model.n_states), 1)
    same = []
    for order in (swap, turn):
        moved = relabel_distribution(model.free_domains, prior, order)
        same += jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), moved, prior))
    return jnp.stack(same).all()


def _step(many: int, burn_in: int, mixed: float, model: Any, state: GibbsState, data: Any) -> tuple[GibbsState, Info]:
    count, places = state.log_joint.shape
    order_of = partial(_canonical, model, _alike(model, state.prior)) if model.n_states > 1 else lambda params: params

    def sweep(number: jax.Array, now: GibbsState) -> GibbsState:
        del number
        keys = jax.random.split(jax.random.fold_in(now.key, now.sweeps), count)
        moved, log_joint = jax.vmap(partial(_sweep, model, now.prior, data))(keys, now.chains)
        log_joint = log_joint.astype(now.latest.dtype)
        drawn = now.sweeps - burn_in
        place = jnp.where(drawn >= 0, drawn % places, places)  # beyond the last: dropped
        new = (jax.vmap(order_of)(now.chains), log_joint)
        kept, joints = jax.tree.map(lambda old, own: old.at[:, place].set(own, mode="drop"), (now.kept, now.log_joint), new)
        first = jax.tree.map(lambda leaf: leaf[0], moved)
        return GibbsState(first, moved, now.prior, now.key, kept, joints, log_joint, now.sweeps + 1)

    new = jax.lax.fori_loop(0, many, sweep, state)
    full = _made(new, burn_in) // places > _made(state, burn_in) // places
    largest = jax.lax.cond(full, lambda: _largest(_in_order(new, burn_in)[0]), lambda: jnp.full((), jnp.inf, data.dtype))
    gap = jnp.where(largest <= mixed, 0, jnp.inf).astype(data.dtype)
    log_joint = new.latest.mean()
    return new, Info(log_joint, log_joint, many * count, gap)


def _canonical(model: Any, alike: jax.Array, params: Any) -> Any:
    order = jnp.where(alike, model.canonical_order(params), jnp.arange(model.n_states))
    return model.relabel(params, order)


def _made(state: GibbsState, burn_in: int) -> jax.Array:
    """How many draws have been made after burning in."""
    return jnp.maximum(state.sweeps - burn_in, 0)


def _in_order(state: GibbsState, burn_in: int) -> tuple[Any, jax.Array]:
    """The draws kept and their log-likelihoods + log priors, the oldest first."""
    made, places = _made(state, burn_in), state.log_joint.shape[1]
    turn = jnp.where(made >= places, made % places, 0)
    return jax.tree.map(lambda leaf: jnp.roll(leaf, -turn, axis=1), (state.kept, state.log_joint))


def _largest(params: Any) -> jax.Array:
    """The largest R-hat of any entry that moves."""
    each = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(over_entries(r_hat, params))])
    return jnp.where(jnp.isnan(each), 1, each).max()


def _conclude(burn_in: int, model: Any, state: GibbsState, data: Any) -> Conclusion:
    params, log_joint = _in_order(state, burn_in)
    made = jnp.arange(log_joint.shape[1]) < _made(state, burn_in)

    def average(leaf: jax.Array, last: jax.Array) -> jax.Array:
        there = made.reshape(1, -1, *(1,) * (leaf.ndim - 2))
        total = jnp.where(there, leaf, 0).sum((0, 1)) / (leaf.shape[0] * jnp.maximum(made.sum(), 1))
        return jnp.where(made.any(), total, last).astype(leaf.dtype)

    mean = jax.tree.map(average, params, state.params)
    log_likelihood = model.log_likelihood(mean, data)
    return Conclusion(mean, log_likelihood, log_likelihood + model.log_prior(mean), draws_of(params, log_joint))


def _relabel(model: Any, detail: Draws, order: jax.Array) -> Draws:
    def moved(tree: Any) -> Any:
        return model.relabel(tree, order)

    diagnosed = {name: moved(getattr(detail, name)) for name in ("r_hat", "ess_bulk", "ess_tail")}
    return detail._replace(params=jax.vmap(jax.vmap(moved))(detail.params), **diagnosed)
