r"""Annealed EM: posterior probabilities raised to a power beta that ends at 1.

At small beta all states look alike and the objective has one maximum, which is followed as beta rises (Ueda and Nakano 1998,
Neural Networks 11:271). beta > 1 makes states harder than they are, which speeds up EM where they overlap in unequal shares
(Naim and Gildea 2012, ICML). At any beta a step raises the tempered log-likelihood sum_i w_i log(sum_z p(y_i, z)^beta) / beta +
log prior; the last beta is 1, and there it is EM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.em import guarded
from jaxem.assign import Assigned, Drawn, Soft, passes_of
from jaxem.checks import check_count
from jaxem.rounding import aitken_gap

SCHEDULE = (0.1, 0.15, 0.22, 0.33, 0.5, 0.75, 1.0)  # times 1.5
STIR = 0.1  # share of drawn states in the first step at each beta < 1: what has merged could not part again otherwise
MOST = 10.0  # the largest beta: beyond it probabilities underflow


class AnnealedState(NamedTuple):
    """State of `annealed_em`."""

    params: Any  # the model's params
    key: jax.Array  # of the drawn states
    taken: jax.Array  # () int32, steps
    previous: jax.Array  # () the objective one step earlier, NaN before beta is 1
    before: jax.Array  # () and two steps earlier


def annealed_em(schedule: Sequence[float] = SCHEDULE, steps: int = 10) -> Algorithm:
    """EM on tempered posteriors, `steps` steps at each beta of the schedule, and plain EM at the last one, 1, for good.

    The objective told is log-likelihood + log prior throughout, which may fall while beta changes, and rises from where beta is 1
    on; the fit cannot end before. At one beta < 1 all steps but the first raise the tempered objective: the first mixes 10 % of
    drawn states in, without which states that have merged at a small beta would stay so.

    A step costs one pass, two over Markov chains; one more for the first step at a beta < 1, and where the M-step is a Newton step,
    one more for each trial.

    Args:
        schedule: numbers in (0, 10], the last of them 1, for instance (0.1, 0.3, 1.0) or (1.2, 1.0).
        steps: at each beta.

    Raises:
        ValueError: a schedule that does not end at 1, or with numbers outside of (0, 10].
    """
    try:
        betas = tuple(float(beta) for beta in schedule)
    except (TypeError, ValueError) as error:
        raise TypeError(f"schedule: found {schedule!r}; give numbers, for instance (0.1, 0.3, 1.0).") from error
    for beta in betas:
        if not (0 < beta <= MOST and math.isfinite(beta)):
            raise ValueError(f"schedule: found beta = {beta:g}; give numbers in (0, {MOST:g}], the last of them 1.")
    if not betas or betas[-1] != 1:
        found = f"ends at beta = {betas[-1]:g}" if betas else "is empty"
        raise ValueError(f"schedule: {found}; let it end at 1, where it is EM, for instance {(*betas, 1.0)}.")
    return _make(betas, check_count(steps, "steps"))


@lru_cache
def _make(betas: tuple[float, ...], steps: int) -> Algorithm:
    return Algorithm(_init, partial(_step, betas, steps), monotone=False)


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> AnnealedState:
    del model
    nan = jnp.full((), jnp.nan, data.dtype)
    return AnnealedState(params, key, jnp.zeros((), jnp.int32), nan, nan)


def _step(betas: tuple[float, ...], steps: int, model: Any, state: AnnealedState, data: Any) -> tuple[AnnealedState, Info]:
    place = jnp.minimum(state.taken // steps, len(betas) - 1)
    beta = jnp.asarray(betas, data.dtype)[place]
    local = model.localize(state.params, data)
    found = local.assign(Soft(beta), state.params, data)
    statistics, passes = found.statistics, jnp.asarray(passes_of(model), jnp.int32)
    if model.draws and min(betas) < 1:
        stirred = (beta < 1) & (state.taken % steps == 0)

        def stir() -> Any:
            drawn = local.assign(Drawn(jax.random.fold_in(state.key, state.taken)), state.params, data).statistics
            return jax.tree.map(lambda a, b: ((1 - STIR) * a + STIR * b).astype(a.dtype), statistics, drawn)

        statistics = jax.lax.cond(stirred, stir, lambda: statistics)
        passes = passes + stirred
    params = local.m_step(state.params, statistics)
    if not model.closed:
        tempered = found.attained + model.log_prior(state.params)
        params, _, tried = guarded(model, state.params, params, tempered, data, partial(_look, beta))
        passes = passes + passes_of(model) * tried
    objective = (found.log_likelihood + model.log_prior(state.params)).astype(data.dtype)
    plain = place == len(betas) - 1
    gap = jnp.where(plain, aitken_gap(objective, state.previous, state.before), jnp.inf)
    nan = jnp.full((), jnp.nan, data.dtype)
    seen = jnp.where(plain, objective, nan), jnp.where(plain, state.previous, nan)
    return AnnealedState(params, state.key, state.taken + 1, *seen), Info(found.log_likelihood, objective, passes, gap)


def _look(beta: jax.Array, model: Any, params: Any, data: Any) -> tuple[Assigned, jax.Array]:
    known = model.localize(params, data).assign(Soft(beta), params, data)
    return known, known.attained + model.log_prior(params)
