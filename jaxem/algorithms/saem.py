r"""SAEM: stochastic approximation of the E-step.

Statistics of drawn states are averaged over steps, s <- s + gamma_k (S(z_k) - s), and params are M(s): one draw a step
suffices, since the noise of all steps before is averaged out (Delyon, Lavielle and Moulines 1999, Ann. Statist. 27:94). gamma
is 1 for `burn_in` steps, in which params find the neighbourhood of a maximum, and then (k - burn_in)^-exponent.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.algorithms.mixing import check_mixable, moved
from jaxem.algorithms.monte_carlo import complete_information, errors_of, missing_share, relabel_spread, score, solved
from jaxem.checks import check_count
from jaxem.kernels.linalg import matmul, transpose
from jaxem.reduce import zeros

WINDOW = 8  # steps of the first window of objectives; each is twice the one before


class SAEMDetail(NamedTuple):
    """What `saem` says of its result: `Fit.detail`."""

    error: Any  # like params: Monte Carlo standard deviation, what another key would change; NaN where it cannot be told
    steps: jax.Array  # () int32, steps after burn-in


class SAEMState(NamedTuple):
    """State of `saem`."""

    params: Any  # the model's params
    local: Any  # the model in the coordinates of the statistics: those of the start
    statistics: Any  # s
    key: jax.Array
    taken: jax.Array  # () int32, steps
    average: jax.Array  # (P,) mean of unconstrained coordinates after burn-in
    missing: jax.Array  # (P, P) mean of outer products of scores of draws
    window: jax.Array  # (3,) means of the objective over the last windows, the newest first
    running: jax.Array  # () sum of the objective over the window under way
    gap: jax.Array  # ()


@lru_cache
def saem(burn_in: int = 50, exponent: float = 0.7) -> Algorithm:
    """Stochastic-approximation EM: one draw of all rows a step, one pass; converges to a stationary point of the objective.

    Not monotone: it converges in the mean. For exponents below 1 the average of the params after burn-in is returned, which
    converges at the best rate whatever the exponent (Polyak and Juditsky 1992); for 1 the last params. The detail of a fit is a
    `SAEMDetail` with the Monte Carlo error that this leaves, I_o^-1 I_m I_o^-1 / steps (`jaxem.algorithms.monte_carlo`); it
    does not hold how far the start may still be felt.

    The gap, which the fit ends by, extrapolates mean objectives of three windows of steps, each twice as long as the one
    before: |L_3 - L_2| a / (1 - a), a = |L_3 - L_2| / |L_2 - L_1| between 2^-exponent and 0.9. It is known after 56 steps from
    burn-in on, and noise keeps it above some 1 / steps, so that Stop(tolerance=0.01) is apt, and 1e-8 is not reached: MAX_STEPS
    then is the normal end.

    In a model without discrete states it is EM. Statistics of different params are added, so it takes models whose M-step is the
    maximiser of sums (`model.closed`).

    Args:
        burn_in: steps with gamma 1.
        exponent: in (0.5, 1]; small ones forget sooner.

    Raises:
        ValueError: an exponent outside of (0.5, 1]; when a fit begins, a model whose statistics are an expansion.
    """
    if isinstance(exponent, bool) or not isinstance(exponent, (int, float)) or not 0.5 < exponent <= 1:
        raise ValueError(f"exponent: found {exponent!r}; give a number in (0.5, 1], for instance 0.7.")
    burn_in = check_count(burn_in, "burn_in")
    step = partial(_step, burn_in, float(exponent))
    conclude = partial(_conclude, burn_in, float(exponent))
    return Algorithm(_init, step, monotone=False, conclude=conclude, relabel=_relabel)


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> SAEMState:
    check_mixable(model, "saem")
    local = model.localize(params, data, shared=True)
    shapes = jax.eval_shape(lambda: local.e_step(params, data).statistics)
    u = model.to_unconstrained(params)
    none = jnp.zeros((u.size, u.size) if model.draws else (0, 0), data.dtype)
    zero, inf = jnp.zeros((), data.dtype), jnp.full((), jnp.inf, data.dtype)
    unknown = jnp.full(3, jnp.nan, data.dtype)
    return SAEMState(params, local, zeros(shapes), key, jnp.zeros((), jnp.int32), u, none, unknown, zero, inf)


def _step(burn_in: int, exponent: float, model: Any, state: SAEMState, data: Any) -> tuple[SAEMState, Info]:
    params, local, dtype = state.params, state.local, data.dtype
    found, log_likelihood = local.sample_statistics(jax.random.fold_in(state.key, state.taken), params, data)
    objective = (log_likelihood + model.log_prior(params)).astype(dtype)
    if not model.draws:
        moves = state._replace(params=moved(local, params, found, data), taken=state.taken + 1)
        return moves, Info(log_likelihood, objective, 1)
    count = state.taken - burn_in + 1  # k - burn_in
    settled = count > 0
    number = jnp.maximum(count, 1).astype(dtype)
    gain = number**-exponent
    statistics = jax.tree.map(lambda s, new: (s + gain * (new - s)).astype(s.dtype), state.statistics, found)
    u = model.to_unconstrained(params)
    own = score(local, u, params, found) + jnp.where(jnp.isfinite(u), jax.grad(_prior_of(model, params))(u), 0)
    missing = state.missing + (model.draws * jnp.outer(own, own) - state.missing) / number
    both = jnp.isfinite(u) & jnp.isfinite(state.average)
    average = jnp.where(both, state.average + (u - state.average) / number, u)  # a coordinate that is infinite has no average
    window, running, gap = _look_back(exponent, state, objective, count)
    target = moved(local, params, statistics, data)
    new = SAEMState(target, local, statistics, state.key, state.taken + 1, average, missing, window, running, gap)
    return new, Info(log_likelihood, objective, 1, jnp.where(settled, gap, jnp.inf))


def _prior_of(model: Any, params: Any) -> Any:
    return lambda v: model.log_prior(model.from_unconstrained(v, like=params))


def _look_back(exponent: float, state: SAEMState, objective: jax.Array, count: jax.Array) -> tuple[jax.Array, ...]:
    """Windows end at step WINDOW (2^j - 1) after burn-in."""
    running = jnp.where(count > 0, state.running + objective, 0)
    index = jnp.maximum(count, 0) // WINDOW + 1
    ends = (count > 0) & (count % WINDOW == 0) & ((index & (index - 1)) == 0)
    length = (index // 2 * WINDOW).astype(objective.dtype)
    window = jnp.where(ends, jnp.stack([running / jnp.maximum(length, 1), state.window[0], state.window[1]]), state.window)
    late, early = jnp.abs(window[0] - window[1]), jnp.abs(window[1] - window[2])
    ratio = jnp.clip(late / jnp.where(early > 0, early, 1), 2.0**-exponent, 0.9)
    gap = late * ratio / (1 - ratio)
    gap = jnp.where(jnp.isfinite(gap), gap, jnp.inf)
    return window, jnp.where(ends, 0, running), jnp.where(ends, gap, state.gap)


def _conclude(burn_in: int, exponent: float, model: Any, state: SAEMState, data: Any) -> Conclusion:
    params, steps = state.params, jnp.maximum(state.taken - burn_in, 0)
    if model.draws and exponent < 1:
        middle = model.from_unconstrained(state.average, like=params)
        params = jax.tree.map(lambda a, b: jnp.where(steps > 0, a, b), middle, params)
    log_likelihood = model.log_likelihood(params, data)
    worth = log_likelihood + model.log_prior(params)
    if not model.draws:
        return Conclusion(params, log_likelihood, worth, SAEMDetail(jax.tree.map(jnp.zeros_like, params), steps))
    u = model.to_unconstrained(params)
    share = missing_share(complete_information(state.local, u, params, state.statistics), state.missing)
    rest = jnp.eye(u.size, dtype=u.dtype) - share.matrix
    # with gain 1/k an error shrinks like k^-(1 - share), so that noise is averaged out for shares below a half only
    last = rest if exponent < 1 else rest - share.matrix
    covariance = solved(last, transpose(solved(rest, share.matrix)) if exponent < 1 else share.matrix)
    covariance = matmul(matmul(share.back, covariance), transpose(share.back)) / jnp.where(steps > 0, steps * model.draws, jnp.nan)
    return Conclusion(params, log_likelihood, worth, SAEMDetail(errors_of(model, u, params, covariance), steps))


def _relabel(model: Any, detail: SAEMDetail, order: jax.Array) -> SAEMDetail:
    return detail._replace(error=relabel_spread(model, detail.error, order))
