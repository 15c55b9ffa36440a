"""How discrete states are assigned to rows: by posterior probability, tempered or not; to the likeliest; or to one drawn.

An E-step weighs the states of a row by p(z | y). What is here puts other weights in their place, so that every model has
stochastic, classification and annealed EM from one function, `Model.assign`. What is continuous and latent inside a row
(missing cells, factor scores, a t's weights, censored cells), and the components of a mixture emission, stay integrated exactly
given the states: by the theorem of Rao and Blackwell sums of a drawn state then vary less than with all of it drawn, about the
same mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.chain import choose
from jaxem.reduce import weighted_sum
from jaxem.rows import Rows
from jaxem.steps import lane_weights


class Soft(NamedTuple):
    """Probabilities proportional to p(y, z)^beta, beta > 0: 1 is the posterior, 0 would be all alike, infinity the likeliest."""

    beta: Any  # () number


class Hardest(NamedTuple):
    """All to the likeliest state of a row, or to the likeliest path of a sequence (Viterbi 1967)."""


class Drawn(NamedTuple):
    """All to a state drawn from p(z | y), or to a path so drawn, the last state first (Chib 1996).

    A row's randomness follows from the key and its number in the input alone, so that blocks, devices and padding change
    nothing. A row has one draw, whatever its weight.
    """

    key: jax.Array


Assign = Soft | Hardest | Drawn


class Assigned(NamedTuple):
    """Sums over rows under states assigned in some way."""

    statistics: Any  # as an E-step's
    log_likelihood: jax.Array  # () observed-data log-likelihood at the params, whatever the way
    attained: jax.Array  # () what the way maximises: see `Model.assign`


def uniforms(key: jax.Array, row: jax.Array, dtype: Any) -> jax.Array:
    """A number in [0, 1) for each row number, of any shape: the bits of the key folded with it."""
    words = jax.vmap(lambda own: jax.random.key_data(jax.random.fold_in(key, own))[:2])(row.reshape(-1).astype(jnp.uint32))
    high, low = words[:, 0].reshape(row.shape), words[:, 1].reshape(row.shape)
    if jnp.finfo(dtype).bits < 64:
        return (high >> 9).astype(dtype) * jnp.asarray(2.0**-23, dtype)
    return high.astype(dtype) * 2.0**-32 + (low >> 12).astype(dtype) * 2.0**-52


def assign_rows(how: Assign, joint: jax.Array, weights: jax.Array, row: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Responsibilities times weights (c, K, b), and log-likelihood and what is attained, from log p(y, z) (c, K, b).

    `weights` and `row` are (c, b). A row that no state can produce has 0 and -inf.
    """
    log_density, possible = _log_sum(joint)
    attained = log_density
    if isinstance(how, Soft):
        beta = jnp.asarray(how.beta, joint.dtype)
        total = _log_sum(beta * joint)[0]
        r = jnp.exp(beta * joint - jnp.where(possible, total, 0)[:, None])
        attained = total / beta
    else:
        if isinstance(how, Hardest):
            state, attained = joint.argmax(axis=1), joint.max(axis=1)
        else:
            state = choose(joint, uniforms(how.key, row, joint.dtype), axis=1)
        r = jax.nn.one_hot(state, joint.shape[1], axis=1, dtype=joint.dtype)
    r = jnp.where(possible[:, None], r, 0) * weights[:, None]
    return r, (weighted_sum(log_density, weights), weighted_sum(attained, weights))


def _log_sum(joint: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log sum exp over states, -inf where all are; whether any is possible."""
    top = joint.max(axis=1)
    possible = top > -jnp.inf
    top = jnp.where(possible, top, 0)
    total = jnp.exp(joint - top[:, None]).sum(axis=1)
    return jnp.where(possible, top + jnp.log(jnp.where(possible, total, 1)), -jnp.inf), possible


def assign_paths(how: Assign, recursions: Any, links: Any, rows: Rows) -> tuple[Any, jax.Array, jax.Array]:
    """What `recursions.smooth` tells of a chain, with states assigned; log-likelihood; what is attained.

    Tempering takes every factor of p(y, z) to the power beta: emissions, first states, transitions.
    """
    weights = lane_weights(rows)
    log_norm = recursions.log_norms(links)
    attained = log_norm
    if isinstance(how, Soft):
        beta = jnp.asarray(how.beta, log_norm.dtype)
        found = recursions.smooth(links.tempered(beta), weights)
        attained = found.log_norm / beta
    else:
        if isinstance(how, Hardest):
            path, attained = recursions.likeliest(links)
        else:
            path = recursions.draw(uniforms(how.key, rows.lanes.slot, log_norm.dtype), links)
        found = links.along(path, weights)
    return found, weighted_sum(log_norm, weights), weighted_sum(attained, weights)


def passes_of(model: Any) -> int:
    """E-step equivalents of an assignment by `Soft` or `Hardest`: over a chain the log-likelihood takes a recursion of its own."""
    return 2 if model.draws and getattr(model, "sequential", False) else 1
