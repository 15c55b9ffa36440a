"""Classification EM: every row belongs to its likeliest state.

An E-step, its hardening to the likeliest state of each row (of each sequence the likeliest path), an M-step as if these states
had been observed (Celeux and Govaert 1992, Comput. Stat. Data Anal. 14:315; for Markov chains segmental k-means, Juang and
Rabiner 1990). It maximises another thing than EM, the classification log-likelihood sum_i w_i max_z log p(y_i, z | params), and
so its estimates are biased where states overlap; it takes few steps, and ends exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info
from jaxem.algorithms.em import guarded
from jaxem.assign import Assigned, Hardest, passes_of


class ClassificationState(NamedTuple):
    """State of `classification_em`."""

    params: Any  # the model's params
    known: Assigned | None  # rows assigned at params, where steps are guarded


def classification_em() -> Algorithm:
    """EM for the classification log-likelihood: monotone in it, and it is the objective that a fit tells.

    A step costs one pass, two over Markov chains (the likeliest path, and the log-likelihood, which is told too but may fall), more
    where the M-step is a Newton step that has to be halved. In a model without discrete states it is EM.
    """
    return Algorithm(_init, _step, opening=_opening, conclude=_conclude)


def _opening(model: Any, params: Any) -> int:
    del params
    return 0 if model.closed else passes_of(model)


def _look(model: Any, params: Any, data: Any) -> tuple[Assigned, jax.Array]:
    known = model.localize(params, data).assign(Hardest(), params, data)
    return known, known.attained + model.log_prior(params)


def _init(model: Any, params: Any, data: Any, key: jax.Array) -> ClassificationState:
    del key
    return ClassificationState(params, None if model.closed else _look(model, params, data)[0])


def _step(model: Any, state: ClassificationState, data: Any) -> tuple[ClassificationState, Info]:
    local, known = model.localize(state.params, data), state.known
    if known is None:
        found, objective = _look(model, state.params, data)
        moved = ClassificationState(local.m_step(state.params, found.statistics), None)
        return moved, Info(found.log_likelihood, objective, passes_of(model))
    objective = known.attained + model.log_prior(state.params)
    target = local.m_step(state.params, known.statistics)
    params, found, tried = guarded(model, state.params, target, objective, data, _look)
    return ClassificationState(params, found), Info(known.log_likelihood, objective, passes_of(model) * tried)


def _conclude(model: Any, state: ClassificationState, data: Any) -> Conclusion:
    found, objective = _look(model, state.params, data)
    return Conclusion(state.params, found.log_likelihood, objective)
