"""Newton's method from a fit to the exact maximum beside it, with the information matrix of its standard errors."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import ascent, information
from jaxem.checks import is_traced
from jaxem.inference.labels import runs_away
from jaxem.inference.point import Point, look_at
from jaxem.result import Fit, Status
from jaxem.rounding import rounding
from jaxem.rows import Rows

STATIONARY = 1e-10  # gradient, each coordinate divided by the root of its information, that counts as none
STEPS = 30
HALVINGS = 20
FARTHEST = 5.0  # no coordinate moves by more in a step
SETTLED = 1e-12  # square of the standard errors that a maximum may lie away where polishing has succeeded
SUFFICIENT = 1e-4  # share of the gain promised by the slope that a step must bring (Armijo 1966)


def polish(model: Any, fit: Fit, data: Any, weights: Any = None) -> Fit:
    """A fit moved to the maximum beside it, to a gradient of 1e-10.

    Newton steps u + |I|^-1 g in unconstrained coordinates, I the observed information (`information.oakes`), halved until
    log-likelihood + log prior gains what the slope promises; where that is within rounding, until the gradient falls instead.
    |I| is I where that is positive definite, else its eigenvalues are taken by size, so that a step climbs away from a saddle,
    and directions without information stay. The gradient is measured with every coordinate divided by the root of its
    information, that is in standard errors of what the coordinate would have alone.

    The result is never worse than the fit by more than rounding. Params on the edge of their domain stay there, and so does
    an exact saddle, where the gradient says nothing: `jaxem.certificate` names it.

    Args:
        model: the model of the fit.
        fit: from `jaxem.fit`.
        data: the data of the fit: raw or prepared.
        weights: (n,) weights of the fit.

    Returns:
        Fit with `params`, `log_likelihood`, `objective`, `steps`, `passes` and `gap` brought up to date; CONVERGED if the fit
        had stopped before and is at a maximum now. History and restarts are as they were. A DEGENERATE fit comes back as it is,
        since the likelihood has no maximum beside it.

    Raises:
        TypeError: no single, concrete fit. ValueError: params that do not fit the model or the data.
    """
    check_fit(fit)
    if int(fit.status) == Status.DEGENERATE:
        return fit
    point = look_at(model, fit.params, data, weights)
    start, like, rows = point, point.params, point.rows
    log_likelihood, objective = fit.log_likelihood, fit.objective
    steps, passes = 0, len(point.u) + 1
    while steps < STEPS and scaled_size(point, point.gradient) > STATIONARY:  # not where it is NaN
        trial = _climb(point, float(objective))
        passes += trial.tried
        if trial.there is None:
            break  # rounding leaves nothing to gain
        there = trial.there
        log_likelihood, objective = there.log_likelihood, there.objective
        u, gradient = np.asarray(there.u, np.float64), np.asarray(there.gradient, np.float64)
        matrix = np.asarray(information.oakes(point.model, there.u, like, rows), np.float64)
        edge = point.edge | np.asarray(runs_away(point.model, there.params, u, gradient, matrix))
        point = dataclasses.replace(point, params=there.params, u=u, gradient=gradient, information=matrix, edge=edge)
        steps, passes = steps + 1, passes + len(u)
    decrement = point.distance(positive_inverse(point)) ** 2
    still = decrement < SETTLED and is_maximum(point)
    return fit._replace(
        params=fit.params if point is start else point.params,
        log_likelihood=log_likelihood,
        objective=objective,
        status=jnp.asarray(Status.CONVERGED if still else fit.status, jnp.int32),
        steps=fit.steps + steps,
        passes=fit.passes + passes,
        gap=jnp.asarray(0.5 * decrement if np.isfinite(decrement) else np.inf, rows.dtype),
    )


class _Trial(NamedTuple):
    """What a search along one Newton step came to."""

    there: ascent.Point | None  # None where nothing better was found
    tried: int  # passes


def _climb(point: Point, objective: float) -> _Trial:
    """The Newton step from a point, halved until it is sufficient."""
    kept = np.where(point.edge, 0, point.gradient)
    size = scaled_size(point, point.gradient)
    step = positive_inverse(point) @ kept
    step *= min(1.0, FARTHEST / max(np.abs(step).max(initial=0), 1e-300))
    for tried in range(1, HALVINGS + 1):
        u = jnp.asarray(point.u + np.where(point.edge, 0, step), point.rows.dtype)
        there, collapsed, noise = look(point.model, u, point.params, point.rows)
        gained, promised, slack = float(there.objective) - objective, float(kept @ step), float(noise)
        slope = np.asarray(there.gradient, np.float64)
        enough = gained >= SUFFICIENT * promised
        if promised <= slack:  # too little to see in the value
            enough = gained >= -slack and scaled_size(point, slope) < 0.9 * size
        if enough and np.isfinite(slope).all() and not bool(collapsed):
            return _Trial(there, tried)
        step = 0.5 * step
    return _Trial(None, HALVINGS)


@jax.jit
def look(model: Any, u: jax.Array, like: Any, rows: Rows) -> tuple[ascent.Point, jax.Array, jax.Array]:
    """The objective at u with its gradient, whether a component has collapsed there, and how much of a change is rounding."""
    here = ascent.look(model, u, like, rows)
    return here, model.degenerate(here.params, rows).any(), rounding(model, here.params, here.objective, rows)


def scaled_size(point: Point, gradient: np.ndarray) -> float:
    """The largest |g_i| / sqrt(I_ii) of the coordinates that are kept; NaN where the information is not finite."""
    own = np.abs(np.diag(point.information))
    scaled = np.abs(gradient) / np.sqrt(np.where(own == 0, 1, own))
    return float(np.where(point.edge, 0, scaled).max(initial=0))


def positive_inverse(point: Point) -> np.ndarray:
    """(P, P) inverse of the information with its eigenvalues taken by size, zeros on the edge and along flat directions.

    Eigenvalues are those of the information scaled to a unit diagonal. Where it is positive definite, this is its inverse;
    NaN where it is not finite.
    """
    out = np.zeros_like(point.information)
    values, vectors = point.spectrum()
    if not np.isfinite(values).all():
        return np.full_like(out, np.nan)
    seen = np.abs(values) > point.flat(values)
    half = point.scale[:, None] * vectors[:, seen] / np.sqrt(np.abs(values[seen]))
    out[np.ix_(~point.edge, ~point.edge)] = half @ half.T
    return out


def is_maximum(point: Point) -> bool:
    """Whether the information is positive definite beyond rounding, but for coordinates on the edge."""
    values = point.spectrum()[0]
    return bool((values > point.flat(values)).all())


def check_fit(fit: Any, name: str = "fit") -> None:
    """Raises TypeError where `fit` is not one concrete Fit."""
    if not isinstance(fit, Fit):
        raise TypeError(f"{name}: found {type(fit).__name__}; give what jaxem.fit returned.")
    if is_traced(fit):
        raise TypeError(f"{name}: is traced; call this outside of jit.")
    if np.ndim(fit.status) != 0:
        raise TypeError(f"{name}: holds {np.size(fit.status)} fits; take one, jax.tree.map(lambda x: x[i], fit).")
