"""What an algorithm is: a few pure functions that know no model, no loop and no stopping rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Info(NamedTuple):
    """What a step tells the driver."""

    log_likelihood: jax.Array  # () at the params before the step: the E-step gives it for nothing
    objective: jax.Array  # () log_likelihood + log prior, at the same params
    passes: jax.Array | int  # () E-step equivalents that the step cost
    gap: jax.Array | None = None  # () estimate of the objective still to gain; None: the driver's own, from three objectives


def nothing(model: Any, params: Any) -> int:
    """Passes of an `init` that does not look at the data."""
    del model, params
    return 0


class Conclusion(NamedTuple):
    """What a fit that has ended well returns."""

    params: Any
    log_likelihood: jax.Array  # () at params
    objective: jax.Array  # () what the algorithm maximises, at params
    detail: Any = None  # what the algorithm found besides params, a pytree; `Fit.detail`


def last(model: Any, state: Any, data: Any) -> Conclusion:
    """The newest params with log-likelihood and log-likelihood + log prior: one pass."""
    log_likelihood = model.log_likelihood(state.params, data)
    return Conclusion(state.params, log_likelihood, log_likelihood + model.log_prior(state.params))


def same(model: Any, detail: Any, order: jax.Array) -> Any:
    """A detail in which states have no places."""
    del model, order
    return detail


def suits(model: Any, data: Any) -> None:
    """The check of an algorithm that has nothing to look at."""
    del model, data


class Algorithm(NamedTuple):
    """`init(model, params, data, key) -> state`, `step(model, state, data) -> (state, Info)`.

    The state is a NamedTuple with a field `params`, the params to go on from. All functions are traced. What an algorithm cannot
    do for a model it says in `init`, by an error, before anything compiles. An algorithm is a static argument of compiled
    programs, so a factory should return equal objects for equal settings.
    """

    init: Callable
    step: Callable
    monotone: bool = True  # whether the objective can never fall by more than rounding
    opening: Callable[[Any, Any], int] = nothing  # (model, params) -> passes that `init` costs
    conclude: Callable[[Any, Any, Any], Conclusion] = last  # (model, state, data) -> what is returned: one pass
    relabel: Callable[[Any, Any, jax.Array], Any] = same  # (model, detail, order) -> the detail with states in that order
    check: Callable[[Any, Any], None] = suits  # (model, data), concrete: raises for values that do not suit
