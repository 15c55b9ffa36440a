"""Derivatives of a fit by the implicit function theorem, whatever way the fit was found.

At a maximum u* of l(u; phi) = log-likelihood + log prior the score is 0 for any data, weights and priors phi, so that
du* = I^-1 (d2 l / du dphi) dphi with the observed information I. Nothing of the iterations is differentiated, and the cost does
not depend on how many there were: P derivatives of an E-step for I, and one mixed derivative. Forward and reverse mode, `jit` and
`vmap` follow from one linear rule; the rule itself can be differentiated again.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxem.inference.labels import runs_away
from jaxem.information import oakes
from jaxem.kernels.linalg import cholesky, invert_lower, matmul, transpose
from jaxem.result import Fit, Status
from jaxem.rows import Rows

WHEN = ("converged", "always")


def still(tree: Any) -> Any:
    """The same tree, seen as constant by derivatives."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if _is_float(leaf) else leaf, tree)


def differentiable(model: Any, rows: Rows, fitted: Fit, reorder: bool, when: str) -> Fit:
    """A fit whose params, log-likelihood and objective have derivatives by what `model` and `rows` hold.

    They are NaN where the fit did not converge, unless `when` is "always". With `reorder`, params are in the model's canonical
    form, which is differentiated as well.
    """
    trusted = (fitted.status == Status.CONVERGED) | (when == "always")
    params, log_likelihood, objective = _solution(
        still(fitted.params), still(fitted.log_likelihood), still(fitted.objective), trusted, model, rows
    )
    if reorder:
        params = model.canonical(params)
    return still(fitted)._replace(params=params, log_likelihood=log_likelihood, objective=objective)


@jax.custom_jvp
def _solution(
    params: Any, log_likelihood: jax.Array, objective: jax.Array, trusted: jax.Array, model: Any, rows: Rows
) -> tuple[Any, jax.Array, jax.Array]:
    """The first three, whose derivatives are those of the maximum that they are."""
    del trusted, model, rows
    return params, log_likelihood, objective


@_solution.defjvp
def _moved(primals: Any, tangents: Any) -> Any:
    out: Any = _solution(*primals)
    params: Any = out[0]
    trusted, model, rows = primals[3], primals[4], primals[5]
    given, changes = (model, rows), (tangents[4], tangents[5])
    u = model.to_unconstrained(params)
    inside = jnp.isfinite(u)

    def likelihood(v: jax.Array, given: Any) -> jax.Array:
        model, rows = given
        return model.log_likelihood(model.from_unconstrained(v, like=params), rows)

    def objective(v: jax.Array, given: Any) -> jax.Array:
        return likelihood(v, given) + given[0].log_prior(given[0].from_unconstrained(v, like=params))

    def score(given: Any) -> jax.Array:
        found = jax.grad(objective)(u, given)
        return jnp.where(inside & jnp.isfinite(found), found, 0)

    force = jax.jvp(score, (given,), (changes,))[1]
    local = model.settle(None, rows)
    information = oakes(local, u, params, rows)
    kept = ~runs_away(model, params, u, score(given), information)
    step = jnp.where(kept, matmul(_inverse(information, kept), jnp.where(kept, force, 0)[:, None])[:, 0], 0)

    safe = jnp.where(inside, u, 0)

    def along(v: jax.Array, given: Any) -> tuple[Any, jax.Array, jax.Array]:
        v = jnp.where(inside, v, u)
        return given[0].from_unconstrained(v, like=params), likelihood(v, given), objective(v, given)

    change = jax.jvp(along, (safe, given), (step, changes))[1]
    believed = jnp.where(trusted, 1, jnp.nan)  # a factor: a choice would be 0 in reverse mode
    return out, jax.tree.map(lambda known, moved: (believed * moved).astype(known.dtype), out, change)


def _inverse(information: jax.Array, kept: jax.Array) -> jax.Array:
    """(P, P) on the coordinates that are kept; NaN where the information is not positive definite there."""
    own = jnp.diagonal(information)
    scale = jnp.where(kept & (own > 0), own, 1) ** -0.5
    scaled = jnp.where(kept[:, None] & kept, information, 0) * scale[:, None] * scale
    root = invert_lower(cholesky(scaled + jnp.diag(jnp.where(kept, 0, 1).astype(scaled.dtype))))
    return matmul(transpose(root), root) * scale[:, None] * scale


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
