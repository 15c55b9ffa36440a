"""Expectation-maximization, as it is.

One E-step, one M-step. Each step raises log-likelihood + log prior, or leaves a stationary point where it is (Dempster, Laird
and Rubin 1977, JRSS-B 39:1, theorem 1; Wu 1983). Near the maximum the error shrinks each step by the largest fraction of
missing information.

Where a model's M-step is only a Newton step towards the maximiser (`model.closed` is False), the step is halved until the
objective does not fall, so that the whole is a generalized EM; its rate near the maximum is that of EM with the exact M-step
(Lange 1995, JRSS-B 57:425).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.model import Expectation
from jaxem.rounding import rounding

HALVINGS = 30  # a step of 2^-30 that still lowers the objective is a matter of rounding


class EMState(NamedTuple):
    """State of `em`."""

    params: Any  # the model's params
    known: Expectation | None  # the E-step at params, where steps are guarded


@lru_cache
def em(expanded: bool = True) -> Algorithm:
    """Plain EM: monotone, one pass over the data a step (more where a guarded step is halved).

    Args:
        expanded: take the M-step of a parameter-expanded model where the model knows one (PX-EM, Liu, Rubin and Wu 1998,
            Biometrika 85:755): the same fixed points, as monotone, fewer steps. False for the plain EM map.
    """
    return by_statistics(partial(_maximize, expanded))


def _maximize(expanded: bool, model: Any, params: Any, statistics: Any, data: Any) -> Any:
    del data
    return (model.m_step_expanded if expanded else model.m_step)(params, statistics)


def anything(model: Any, params: Any) -> None:
    """The check of an algorithm that every model suits."""
    del model, params


def by_statistics(move: Callable, check: Callable[[Any, Any], None] = anything) -> Algorithm:
    """The generalized EM whose M-step is `move`: monotone if `move` never lowers Q + log prior, one pass a step.

    Args:
        move: (model, params, statistics, data) -> params, where `model` is local: its `expected_log_joint` takes the statistics,
            which are those at `params`. It may look at the data's weights, not at rows: that would be another pass.
        check: (model, params), raises where the model does not suit.
    """
    return Algorithm(partial(_init, check), partial(_step, move), opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del params
    return 0 if model.closed else 1


def _init(check: Callable, model: Any, params: Any, data: Any, key: jax.Array) -> EMState:
    del key
    check(model, params)
    return EMState(params, None if model.closed else model.localize(params, data).e_step(params, data))


def _step(move: Callable, model: Any, state: EMState, data: Any) -> tuple[EMState, Info]:
    local = model.localize(state.params, data)
    if state.known is None:
        statistics, log_likelihood = local.e_step(state.params, data)
        objective = log_likelihood + model.log_prior(state.params)
        return EMState(move(local, state.params, statistics, data), None), Info(log_likelihood, objective, 1)
    target = move(local, state.params, state.known.statistics, data)
    objective = state.known.log_likelihood + model.log_prior(state.params)
    params, known, tried = guarded(model, state.params, target, objective, data)
    return EMState(params, known), Info(state.known.log_likelihood, objective, tried)


def _look(model: Any, params: Any, data: Any) -> tuple[Expectation, jax.Array]:
    """The E-step, and the objective."""
    known = model.localize(params, data).e_step(params, data)
    return known, known.log_likelihood + model.log_prior(params)


def guarded(
    model: Any, params: Any, target: Any, objective: jax.Array, data: Any, look: Callable = _look
) -> tuple[Any, Any, jax.Array]:
    """The farthest point params + 2^-m (target - params) at which the objective has not fallen, its E-step, and the passes.

    After `HALVINGS` the last point is taken: it differs from `params` by rounding. `look(model, params, data)` gives an E-step of
    any kind and the objective that goes with it.
    """

    slack = rounding(model, params, objective, data) / 4  # a quarter of what the driver takes for a fall

    def attempt(fraction: jax.Array) -> tuple[Any, Any, jax.Array]:
        candidate = model.between(params, target, fraction)
        return candidate, *look(model, candidate, data)

    def wanted(carry: tuple[Any, Any, jax.Array, jax.Array]) -> jax.Array:
        _, _, worth, tried = carry
        return (tried == 0) | (~(worth >= objective - slack) & (tried <= HALVINGS))

    def halve(carry: tuple[Any, Any, jax.Array, jax.Array]) -> tuple[Any, Any, jax.Array, jax.Array]:
        tried = carry[3]
        return *attempt(0.5**tried.astype(objective.dtype)), tried + 1

    # the first attempt is the loop's too, so that the E-step is compiled once
    start = jax.tree.map(lambda found: jnp.zeros(found.shape, found.dtype), jax.eval_shape(attempt, jnp.ones((), objective.dtype)))
    candidate, known, _, tried = jax.lax.while_loop(wanted, halve, (*start, jnp.zeros((), jnp.int32)))
    return candidate, known, tried
