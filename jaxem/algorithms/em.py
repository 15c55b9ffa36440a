"""Expectation-maximization, as it is.

One E-step, one M-step. Each step raises log-likelihood + log prior, or leaves a stationary point where it is (Dempster, Laird
and Rubin 1977, JRSS-B 39:1, theorem 1; Wu 1983). Near the maximum the error shrinks each step by the largest fraction of
missing information.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxem.algorithms.algorithm import Algorithm, Info


class EMState(NamedTuple):
    """State of `em`."""

    params: Any  # the model's params


def em() -> Algorithm:
    """Plain EM: monotone, no settings, one pass over the data a step."""
    return Algorithm(_init, _step)


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> EMState:
    del model, data, key
    return EMState(params)


def _step(model: Any, state: EMState, data: Any) -> tuple[EMState, Info]:
    local = model.localize(state.params, data)
    statistics, log_likelihood = local.e_step(state.params, data)
    objective = log_likelihood + model.log_prior(state.params)
    return EMState(local.m_step(state.params, statistics)), Info(log_likelihood, objective, 1)
