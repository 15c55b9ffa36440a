"""Natural-gradient ascent of the observed likelihood, in the metric of the complete data.

The direction is I_c^-1 score, with the score by Fisher's identity and I_c = -d2 (Q + log prior) at the params: both follow from the
statistics of one E-step, so that the metric costs no pass. That is the Fisher information of the complete data, which EM itself
follows: a step of length 1 in expectation parameters is an EM step (Sato 2000; Amari 2016, Information Geometry, ch. 8), and in any
coordinates has EM's rate (Lange 1995, JRSS-B 57:425). What is gained over EM is the length: after the first step it is that of
Barzilai and Borwein (1988, IMA J. Numer. Anal. 8:141) in the same metric, (s . I_c s) / (s . y) with s the last step and y what it
took off the score, and at least 1. The information of the observed data would be the metric of Amari's (1998) own method, but its
expectation has no closed form for latent variables, and its empirical form, a sum of squared scores of rows, costs a pass for every
coordinate, is singular with fewer rows than coordinates and misleads where the model is wrong.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.cycle import select
from jaxem.information import complete_given
from jaxem.model import Expectation
from jaxem.newton import damped_step
from jaxem.rounding import rounding

SHARE = 1e-4  # of the promised rise
TRIALS = 25
LONGEST = 1e4  # step length at most; EM's is 1
FARTHEST = 5.0  # no coordinate moves by more in a step


class NaturalState(NamedTuple):
    """State of `natural_gradient`."""

    params: Any
    known: Expectation  # the E-step at params
    score: jax.Array  # (P,) gradient of the objective at params, 0 along coordinates that are not finite
    direction: jax.Array  # (P,) I_c^-1 score
    length: jax.Array  # () to try first


@lru_cache
def natural_gradient() -> Algorithm:
    """Natural-gradient ascent with backtracking: monotone, one pass a trial; P^3 operations a step for P free coordinates."""
    return Algorithm(_init, _step, opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 1


def _look(model: Any, params: Any, data: Any) -> tuple[Any, Expectation, jax.Array, jax.Array]:
    """Params, the E-step there, score and direction: one pass."""
    local = model.localize(params, data)
    known = local.e_step(params, data)
    u = model.to_unconstrained(params)
    sound = jnp.isfinite(u)

    def expected(v: jax.Array) -> jax.Array:
        moved = model.from_unconstrained(v, like=params)
        return local.expected_log_joint(moved, known.statistics) + model.log_prior(moved)

    score = jax.grad(expected)(u)
    score = jnp.where(sound & jnp.isfinite(score), score, 0)
    information = complete_given(local, u, params, known.statistics)
    direction = damped_step(score, jnp.where(jnp.isfinite(information), information, 0))
    return params, known, score.astype(data.dtype), direction.astype(data.dtype)


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> NaturalState:
    del key
    return NaturalState(*_look(model, params, data), jnp.ones((), data.dtype))


def _step(model: Any, state: NaturalState, data: Any) -> tuple[NaturalState, Info]:
    here = (state.params, state.known, state.score, state.direction)
    u = model.to_unconstrained(state.params)
    objective = state.known.log_likelihood + model.log_prior(state.params)
    promised = state.score @ state.direction
    longest = jnp.abs(state.direction).max(initial=0)
    length = jnp.minimum(state.length, FARTHEST / jnp.where(longest > 0, longest, 1))
    slack = rounding(model, state.params, objective, data) / 4

    def again(carry: Any) -> jax.Array:
        return ~carry[2] & (carry[3] < TRIALS)

    def trial(carry: Any) -> Any:
        _, length, _, tried = carry
        length = jnp.where(tried > 0, jnp.where(length > 1, jnp.maximum(1, 0.25 * length), 0.5 * length), length)
        moved = model.from_unconstrained(jnp.where(jnp.isfinite(u), u + length * state.direction, u), like=state.params)
        there = _look(model, moved, data)
        worth = there[1].log_likelihood + model.log_prior(moved)
        good = worth >= objective + SHARE * length * promised - slack
        return there, length, good & ~model.degenerate(moved, data).any(), tried + 1

    begin = (here, length, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    there, length, good, tried = jax.lax.while_loop(again, trial, begin)
    params, known, score, direction = select(good, there, here)
    bent = promised - state.direction @ score  # what a step of the direction takes off the score, along it
    ideal = length * promised / jnp.where(bent > 0, bent, 1)
    following = jnp.where(bent > 0, jnp.clip(ideal, 1, LONGEST), jnp.minimum(2 * length, LONGEST))
    new = NaturalState(params, known, score, direction, jnp.where(good, following, 1).astype(data.dtype))
    return new, Info(state.known.log_likelihood, objective, tried)
