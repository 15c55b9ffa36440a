"""Stochastic EM: every row's state is drawn from its posterior, once a step.

The M-step on drawn states makes the params a Markov chain that visits the neighbourhood of the maximum, and leaves saddles and
poor maxima behind; its mean is close to the maximum (Celeux and Diebolt 1985, Comput. Stat. Quarterly 2:73; Nielsen 2000,
Bernoulli 6:457).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.algorithms.cycle import select
from jaxem.algorithms.mixing import moved
from jaxem.algorithms.monte_carlo import relabel_spread
from jaxem.checks import check_count


class StochasticDetail(NamedTuple):
    """What `stochastic_em` has seen: `Fit.detail`."""

    spread: Any  # like params: standard deviation of each over the steps after burn-in; NaN for fewer than 2 of them
    steps: jax.Array  # () int32, how many these are
    best: Any  # params of the highest objective after burn-in, whatever is returned
    best_objective: jax.Array  # ()


class StochasticState(NamedTuple):
    """State of `stochastic_em`."""

    params: Any  # the model's params
    key: jax.Array
    taken: jax.Array  # () int32, steps
    average: jax.Array  # (P,) mean of unconstrained coordinates after burn-in
    mean: Any  # of params themselves
    squares: Any  # and the sum of squared deviations from it (Welford 1962)
    best: Any
    best_objective: jax.Array  # ()


@lru_cache
def stochastic_em(average: bool = True, burn_in: int = 50) -> Algorithm:
    """EM with drawn states: one draw of all rows a step, one pass.

    Not monotone, and it does not end by itself: MAX_STEPS is its normal end, so that `Stop(max_steps=...)` says how long it runs.
    Its result converges in the mean: the average of S steps varies like the spread times the root of a few / S, about a value that
    differs from the maximum by terms of order 1/n. States can swap numbers in a long run if little keeps them apart. A draw that
    would collapse a component is left out; a component or transition that no row is drawn for keeps probability 0 from then on,
    which few rows for many states make likely: take `saem` for such. In a model without discrete states it is EM.

    Args:
        average: return the average of the params after burn-in, taken in unconstrained coordinates; False: the best of them by
            objective.
        burn_in: steps before that. A run with fewer returns its last params.

    The detail of a fit is a `StochasticDetail`: spread of the params, and the best of them.
    """
    return Algorithm(
        _init, partial(_step, check_count(burn_in, "burn_in")), monotone=False, conclude=partial(_conclude, bool(average), burn_in),
        relabel=_relabel,
    )  # fmt: skip


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> StochasticState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    zero = jnp.zeros((), jnp.int32)
    worst = jnp.full((), -jnp.inf, data.dtype)
    return StochasticState(params, key, zero, model.to_unconstrained(params), zeros, zeros, params, worst)


def _step(burn_in: int, model: Any, state: StochasticState, data: Any) -> tuple[StochasticState, Info]:
    params = state.params
    local = model.localize(params, data)
    statistics, log_likelihood = local.sample_statistics(jax.random.fold_in(state.key, state.taken), params, data)
    objective = (log_likelihood + model.log_prior(params)).astype(data.dtype)
    count = state.taken - burn_in + 1  # params after burn-in, with these
    share = 1 / jnp.maximum(count, 1).astype(data.dtype)
    u = model.to_unconstrained(params)
    # a coordinate that is infinite, or was, has no average
    average = jnp.where(jnp.isfinite(u) & jnp.isfinite(state.average), state.average + share * (u - state.average), u)
    mean = jax.tree.map(lambda m, x: m + share * (x - m), state.mean, params)
    squares = jax.tree.map(lambda s, x, old, new: s + (x - old) * (x - new), state.squares, params, state.mean, mean)
    better = objective > state.best_objective
    counted = count > 0
    new = StochasticState(
        moved(local, params, statistics, data),
        state.key,
        state.taken + 1,
        jnp.where(counted, average, u),
        select(counted, mean, state.mean),
        select(counted, squares, state.squares),
        select(counted & better, params, state.best),
        jnp.where(counted & better, objective, state.best_objective),
    )
    gap = jnp.full((), jnp.inf, data.dtype) if model.draws else None
    return new, Info(log_likelihood, objective, 1, gap)


def _conclude(average: bool, burn_in: int, model: Any, state: StochasticState, data: Any) -> Conclusion:
    count = jnp.maximum(state.taken - burn_in, 0)
    params = state.params
    if model.draws:
        middle = model.from_unconstrained(state.average, like=params) if average else state.best
        params = select(count > 0, middle, params)
    log_likelihood = model.log_likelihood(params, data)
    variance = jnp.where(count > 1, 1 / jnp.maximum(count - 1, 1), jnp.nan)
    spread = jax.tree.map(lambda s: jnp.sqrt(s * variance.astype(s.dtype)), state.squares)
    detail = StochasticDetail(spread, count, state.best, state.best_objective)
    return Conclusion(params, log_likelihood, log_likelihood + model.log_prior(params), detail)


def _relabel(model: Any, detail: StochasticDetail, order: jax.Array) -> StochasticDetail:
    return detail._replace(spread=relabel_spread(model, detail.spread, order), best=model.relabel(detail.best, order))
