r"""Monte Carlo EM: the E-step is an average over draws, as many as it takes to see that a step goes up.

Q(params; s) with s the mean of M drawn statistics (Wei and Tanner 1990, JASA 85:699). With the rule "ascent" (Caffo, Jank and
Jones 2005, JRSS-B 67:235) a step is taken only if the lower confidence bound of its gain Delta Q is positive; else a third more
draws are added, and the step is found anew. Draws are summed in 8 groups, so that memory does not grow; the variance of Delta Q
between them gives its standard error.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.algorithms.cycle import select
from jaxem.algorithms.mixing import moved
from jaxem.algorithms.monte_carlo import complete_information, errors_of, missing_share, relabel_spread, score
from jaxem.checks import check_count
from jaxem.kernels.linalg import matmul, transpose

GROUPS = 8
BOUND = 1.415  # 90 % quantile of Student's t with GROUPS - 1 degrees of freedom
KEPT = 64  # sizes of steps that are remembered: the noise of those before is forgotten
MEMORY = 30  # steps that the missing information is averaged over
RULES = ("ascent", "fixed")


class MonteCarloDetail(NamedTuple):
    """What `monte_carlo_em` says of its result: `Fit.detail`."""

    error: Any  # like params: Monte Carlo standard deviation, what another key would change; NaN where it cannot be told
    draws: jax.Array  # () int32, draws of the last step
    total: jax.Array  # () draws of all steps


class MonteCarloState(NamedTuple):
    """State of `monte_carlo_em`."""

    params: Any  # the model's params
    key: jax.Array
    taken: jax.Array  # () int32, steps
    draws: jax.Array  # () int32, with how many a group the next step begins
    sizes: jax.Array  # (KEPT,) independent draws of the last steps, the newest first; 0 where there are none
    missing: jax.Array  # (P, P) information that is missing
    complete: jax.Array  # (P, P) complete information
    total: jax.Array  # () float: draws so far


class _Attempt(NamedTuple):
    """A step under way."""

    groups: Any  # sums of drawn statistics, leaves (GROUPS, ...)
    log_likelihood: jax.Array  # () sum of what draws tell of it: the same of each where it is exact
    size: jax.Array  # () int32, draws a group
    target: Any  # where the M-step leads
    gain: jax.Array  # () Delta Q
    error: jax.Array  # () its standard error


@lru_cache
def monte_carlo_em(draws: int = 16, rule: str = "ascent", most: int = 512) -> Algorithm:
    """EM by Monte Carlo: each draw of all rows is one pass.

    Not monotone: with the rule "ascent" a step goes up with probability 90 %, but for steps with as many draws as are allowed,
    which are taken whatever they promise, so that what is left is noise about the maximum. The gap, which the fit ends by, is
    the upper 90 % bound of Delta Q over the share of information that is observed in the worst direction (of a step's gain,
    what all steps to come gain). It falls like 1 / draws: Stop(tolerance=0.05), say, or a budget of max_passes is apt; with the
    default of 1e-8 the fit goes on to max_steps. In a model without discrete states it is EM.

    Args:
        draws: of all rows, at the start; rounded up to a multiple of 8. Steps begin with as many as the last one's gain asks for.
        rule: "ascent"; or "fixed", as many draws in every step.
        most: draws a step.

    The detail of a fit is a `MonteCarloDetail` with the Monte Carlo error of the params: what remains of the noise of all steps,
    sum_i J^i V_i J^i', with J by how much a step of EM shrinks an error.

    Raises:
        TypeError, ValueError: numbers of draws that are not whole, or below 8 or `draws`; an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule: found {rule!r}; give one of {', '.join(map(repr, RULES))}.")
    if check_count(most, "most") < check_count(draws, "draws"):
        raise ValueError(f"most: found {most}, fewer than the {draws} draws to begin with; give at least as many.")
    first, last = -(-draws // GROUPS), max(1, most // GROUPS)
    step = partial(_step, rule, last if rule == "ascent" else first)
    return Algorithm(partial(_init, first), step, monotone=False, conclude=_conclude, relabel=_relabel)


def _init(first: int, model: Any, params: Any, data: Any, key: jax.Array) -> MonteCarloState:
    size = model.to_unconstrained(params).size if model.draws else 0
    zero = jnp.zeros((), jnp.int32)
    none = jnp.zeros((size, size), data.dtype)
    sizes = jnp.zeros(KEPT, data.dtype)
    return MonteCarloState(params, key, zero, zero + first, sizes, none, none, jnp.zeros((), data.dtype))


def _step(rule: str, most: int, model: Any, state: MonteCarloState, data: Any) -> tuple[MonteCarloState, Info]:
    params, dtype = state.params, data.dtype
    local = model.localize(params, data)
    if not model.draws:
        statistics, log_likelihood = local.e_step(params, data)
        new = state._replace(params=moved(local, params, statistics, data), taken=state.taken + 1, total=state.total + 1)
        return new, Info(log_likelihood, log_likelihood + model.log_prior(params), 1)
    key = jax.random.fold_in(state.key, state.taken)

    def worth(candidate: Any, statistics: Any) -> jax.Array:
        return local.expected_log_joint(candidate, statistics).astype(dtype)

    def add(index: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        groups, known = carry
        drawn, log_likelihood = local.sample_statistics(jax.random.fold_in(key, index), params, data)
        groups = jax.tree.map(lambda total, new: total.at[index % GROUPS].add(new), groups, drawn)
        return groups, known + log_likelihood.astype(dtype)

    def attempt(before: _Attempt) -> _Attempt:
        more = jnp.where(before.size == 0, state.draws, -(-before.size // 3))
        count = jnp.minimum(before.size + more, most)
        groups, known = jax.lax.fori_loop(before.size * GROUPS, count * GROUPS, add, (before.groups, before.log_likelihood))
        each = jax.tree.map(lambda total: total / count.astype(total.dtype), groups)
        mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), each)
        target = moved(local, params, mean, data)
        gains = jax.vmap(lambda own: worth(target, own) - worth(params, own))(each)
        gains = gains + (model.log_prior(target) - model.log_prior(params)).astype(dtype)
        return _Attempt(groups, known, count, target, gains.mean(), gains.std(ddof=1) / GROUPS**0.5)

    def undecided(now: _Attempt) -> jax.Array:
        doubtful = ~(now.gain - BOUND * now.error > 0) & (now.size < most)
        return (now.size == 0) | (doubtful if rule == "ascent" else False)

    zero = jnp.zeros((), dtype)
    shapes = jax.eval_shape(lambda: local.sample_statistics(key, params, data).statistics)
    groups = jax.tree.map(lambda leaf: jnp.zeros((GROUPS, *leaf.shape), leaf.dtype), shapes)
    end = jax.lax.while_loop(undecided, attempt, _Attempt(groups, zero, jnp.zeros((), jnp.int32), params, zero, zero))

    size = end.size.astype(dtype)
    each = jax.tree.map(lambda total: total / size.astype(total.dtype), end.groups)
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), each)
    u = model.to_unconstrained(params)
    scores = jax.vmap(lambda own: score(local, u, params, own))(each)
    scores = scores - scores.mean(axis=0)
    found = size * model.draws * matmul(transpose(scores), scores) / (GROUPS - 1)
    remembered = jnp.minimum(state.taken + 1, MEMORY).astype(dtype)
    missing = state.missing + (found - state.missing) / remembered
    complete = complete_information(local, u, params, mean)
    share = missing_share(complete, missing)
    gap = jnp.maximum(end.gain + BOUND * end.error, 0) / (1 - share.slowest)
    total = size * GROUPS
    # with so many draws the same gain would be seen at first (Caffo, Jank and Jones 2005, sec. 3.3), a group
    asked = size * jnp.square(2 * BOUND * end.error / jnp.where(end.gain > 0, end.gain, 1))
    asked = jnp.clip(jnp.where(end.gain > 0, asked, most), 1, most).astype(jnp.int32)
    log_likelihood = end.log_likelihood / total
    new = MonteCarloState(
        end.target, state.key, state.taken + 1, jnp.maximum(state.draws, asked) if rule == "ascent" else state.draws,
        jnp.concatenate([model.draws * total[None], state.sizes[:-1]]), missing, complete, state.total + total,
    )  # fmt: skip
    gap = jnp.where(jnp.isfinite(gap), gap, jnp.inf)
    return new, Info(log_likelihood, log_likelihood + model.log_prior(params), end.size * GROUPS, gap)


def _conclude(model: Any, state: MonteCarloState, data: Any) -> Conclusion:
    params = state.params
    log_likelihood = model.log_likelihood(params, data)
    worth = log_likelihood + model.log_prior(params)
    last = (state.sizes[0] / max(model.draws, 1)).astype(jnp.int32)
    if not model.draws:
        return Conclusion(params, log_likelihood, worth, MonteCarloDetail(jax.tree.map(jnp.zeros_like, params), last, state.total))
    share = missing_share(state.complete, state.missing)

    def remember(index: jax.Array, covariance: jax.Array) -> jax.Array:
        """The noise of steps from the oldest to the newest."""
        size = state.sizes[KEPT - 1 - index]
        covariance = matmul(matmul(share.matrix, covariance), share.matrix)
        return covariance + select(size > 0, share.matrix / jnp.where(size > 0, size, 1), jnp.zeros_like(covariance))

    covariance = jax.lax.fori_loop(0, KEPT, remember, jnp.zeros_like(share.matrix))
    covariance = matmul(matmul(share.back, covariance), transpose(share.back))
    u = model.to_unconstrained(params)
    detail = MonteCarloDetail(errors_of(model, u, params, covariance), last, state.total)
    return Conclusion(params, log_likelihood, worth, detail)


def _relabel(model: Any, detail: MonteCarloDetail, order: jax.Array) -> MonteCarloDetail:
    return detail._replace(error=relabel_spread(model, detail.error, order))
