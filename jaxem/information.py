"""Information matrices of any model in unconstrained coordinates, and the scores of its rows.

All are of l(u) = log-likelihood + log prior at params(u), P numbers u (`model.to_unconstrained`), minus the second derivative.
Coordinates that are infinite (a probability of 0) or held stay where they are: rows and columns of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.ascent import look
from jaxem.rows import Rows
from jaxem.steps import sequence_weights

TOGETHER = 8  # directions along which a pass over the data is differentiated at once


def along_coordinates(visit: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """(..., P) derivative of `visit` along each coordinate, forward, a few at a time so that memory does not grow with P."""
    size = u.shape[0]
    if size == 0:
        return jnp.zeros((*jax.eval_shape(visit, u).shape, 0), u.dtype)
    width = min(size, TOGETHER)
    count = -(-size // width)
    directions = jnp.eye(count * width, size, dtype=u.dtype).reshape(count, width, size)
    safe = jnp.where(jnp.isfinite(u), u, 0)

    def moved(v: jax.Array) -> jax.Array:
        return visit(jnp.where(jnp.isfinite(u), v, u))

    def some(own: jax.Array) -> jax.Array:
        return jax.vmap(lambda tangent: jax.jvp(moved, (safe,), (tangent,))[1])(own)

    found = jax.lax.map(some, directions)
    return jnp.moveaxis(found.reshape(count * width, *found.shape[2:])[:size], 0, -1)


def symmetric(matrix: jax.Array, u: jax.Array) -> jax.Array:
    """The symmetric part, with zeros along coordinates that are infinite."""
    kept = jnp.isfinite(u)
    matrix = jnp.where(kept[:, None] & kept, matrix, 0)
    return 0.5 * (matrix + matrix.T)


@jax.jit
def gradient(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P,) of log-likelihood + log prior, by Fisher's identity: one pass."""
    return look(model, u, like, rows).gradient


@jax.jit
def oakes(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) observed information -d11 Q - d12 Q (Oakes 1999, JRSS-B 61:479).

    By Fisher's identity d1 Q(u, s(u)) is the score, so that both terms are the derivative of one function, taken forward
    through the statistics: P derivatives of an E-step that streams over blocks and devices, with no tape.
    """
    return symmetric(-along_coordinates(lambda v: look(model, v, like, rows).gradient, u), u)


@jax.jit
def observed(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) observed information, minus the Hessian of the log-likelihood: reverse mode, then forward along each coordinate."""

    def objective(v: jax.Array) -> jax.Array:
        params = model.from_unconstrained(v, like=like)
        return model.log_likelihood(params, rows) + model.log_prior(params)

    return symmetric(-along_coordinates(jax.grad(objective), u), u)


@jax.jit
def complete(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) information of the complete data, -d11 (Q + log prior): one pass, and the curvature of Q."""
    params = model.from_unconstrained(u, like=like)
    local = model.localize(params, rows)
    return complete_given(local, u, like, local.e_step(params, rows).statistics)


def complete_given(local: Any, u: jax.Array, like: Any, statistics: Any) -> jax.Array:
    """The same from statistics in the coordinates of `local`, expected or drawn: no pass."""

    def objective(v: jax.Array) -> jax.Array:
        moved = local.from_unconstrained(v, like=like)
        return local.expected_log_joint(moved, statistics) + local.log_prior(moved)

    return symmetric(-along_coordinates(jax.grad(objective), u), u)


@jax.jit
def louis(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) observed information E[B] - E[S S'] + E[S] E[S]' given the data (Louis 1982, JRSS-B 44:226), unit by unit.

    The complete-data log-likelihood is a sum of factors, log p(z | u) + log p(y | z, u), over discrete states z: with F their
    logarithms, log p(y) = `model.evidence`(F). E[B] is minus the second derivative of sum_z p(z | y) F_z(u), p(z | y) held. The
    variance of the score S = dF/du given the data is the second derivative of its cumulant generating function, `evidence` of
    the factors moved along straight lines, F + (dF/du) v at v = 0. No statistics are used, so this is a route of its own.

    Raises:
        TypeError: a model without discrete states, whose complete-data score is integrated over in closed form.
    """
    finite = jnp.isfinite(u)
    safe = jnp.where(finite, u, 0)

    def factors(v: jax.Array) -> Any:
        return model.factors(model.from_unconstrained(jnp.where(finite, v, u), like=like), rows)

    here, slope = jax.linearize(factors, safe)
    share = jax.grad(lambda f: model.evidence(f, rows))(here)

    def mean(v: jax.Array) -> jax.Array:
        """E[log p(y, z | v) | y] with the states' probabilities held."""
        parts = jax.tree.map(lambda p, f: jnp.where(p != 0, p * jnp.where(p != 0, f, 0), 0).sum(), share, factors(v))
        return jax.tree.reduce(jnp.add, parts)

    def cumulants(v: jax.Array) -> jax.Array:
        return model.evidence(jax.tree.map(jnp.add, here, slope(v)), rows)

    def prior(v: jax.Array) -> jax.Array:
        return model.log_prior(model.from_unconstrained(jnp.where(finite, v, u), like=like))

    zero = jnp.zeros_like(u)
    seen = along_coordinates(jax.grad(mean), safe) + along_coordinates(jax.grad(prior), safe)
    return symmetric(-seen - along_coordinates(jax.grad(cumulants), zero), u)


@jax.jit
def em_map(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P,) where one step of plain EM takes unconstrained coordinates; those that are infinite stay."""
    params = model.from_unconstrained(u, like=like)
    local = model.localize(params, rows)
    after = model.to_unconstrained(local.m_step(params, local.e_step(params, rows).statistics))
    return jnp.where(jnp.isfinite(u), after, u)


@jax.jit
def crossed(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) d12 Q: derivative of the gradient of Q at u by the params of the E-step, which at a maximum is missing information.

    At a fixed point u of EM the M-step solves d1 Q(M, v) + d log prior(M) = 0, so that the derivative of the EM map is DM =
    I_c^-1 d12 Q by the implicit function theorem, for an M-step that is iterated or a step towards the maximum as well.
    """
    here = jnp.where(jnp.isfinite(u), u, 0)

    def pull(v: jax.Array) -> jax.Array:
        params = model.from_unconstrained(v, like=like)
        local = model.localize(params, rows)
        statistics = local.e_step(params, rows).statistics

        def expected(w: jax.Array) -> jax.Array:
            moved = local.from_unconstrained(jnp.where(jnp.isfinite(u), w, u), like=like)
            return local.expected_log_joint(moved, statistics)

        return jax.grad(expected)(here)

    found = along_coordinates(pull, u)
    kept = jnp.isfinite(u)
    return jnp.where(kept[:, None] & kept, found, 0)


def em_jacobian(model: Any, u: jax.Array, like: Any, rows: Rows) -> np.ndarray:
    """(P, P) derivative of the EM map at its fixed point u, DM = I_c^-1 d12 Q; column j is along coordinate j."""
    known = np.asarray(complete(model, u, like, rows), np.float64)
    found = np.asarray(crossed(model, u, like, rows), np.float64)
    free, out = np.diag(known) != 0, np.zeros_like(known)
    out[np.ix_(free, free)] = np.linalg.solve(known[np.ix_(free, free)], found[np.ix_(free, free)])
    return out


@jax.jit
def scores(model: Any, u: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(units, P) derivative of the log-likelihood of each independent unit, a row or a sequence, in input order, unweighted."""

    def each(v: jax.Array) -> jax.Array:
        return model.log_likelihood(model.from_unconstrained(v, like=like), rows, per_row=True)

    found = along_coordinates(each, u)
    return jnp.where(jnp.isfinite(u), found, 0)


def unit_weights(rows: Rows) -> jax.Array:
    """(units,) weight of each independent unit, a row or a sequence; 0 for one that says nothing."""
    return jnp.where(rows.informative, rows.weights, 0) if rows.lanes is None else sequence_weights(rows)


@jax.jit
def _cross(scores: jax.Array, weights: jax.Array, group: jax.Array | None) -> jax.Array:
    if group is None:
        return scores.T @ (weights[:, None] * scores)
    summed = jax.ops.segment_sum(weights[:, None] * scores, group, len(weights))
    return summed.T @ summed


def empirical(model: Any, u: jax.Array, like: Any, rows: Rows, group: Any = None) -> jax.Array:
    """(P, P) sum of w_i s_i s_i' (Meilijson 1989, JRSS-B 51:127), weights being repetitions; of the sums over each group
    (units,) of whole numbers where units of a group depend on each other."""
    found = scores(model, u, like, rows)
    return _cross(found, unit_weights(rows), None if group is None else jnp.asarray(group, jnp.int32))


@jax.jit
def natural(model: Any, u: jax.Array, like: Any) -> jax.Array:
    """(N, P) derivative of the params in canonical form, all numbers of all leaves one after another, by the coordinates."""

    def flat(v: jax.Array) -> jax.Array:
        leaves = jax.tree.leaves(model.canonical(model.from_unconstrained(v, like=like)))
        return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])

    return along_coordinates(flat, u)
