"""Gaussian rows given some of their cells, each row with holes of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxem.kernels.linalg import apply, cholesky, invert_lower, transpose

ROWS = 2048  # that are worked on together, so that memory does not grow with the rows


def regress(covariance: jax.Array, states: jax.Array, deviation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """S_O' S_OO^-1 e_O for deviations e (n, d) with covariance S[state]: what observed cells say of all cells, (n, d).

    On observed cells that is e itself. Beside it the squared distance e_O' S_OO^-1 e_O, (n,).

    Args:
        covariance: (K, d, d).
        states: (n,) whole numbers.
        deviation: (n, d), NaN where a cell is missing.
    """

    def one(row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state, e = row
        seen, spread = ~jnp.isnan(e), covariance[state]
        e = jnp.where(seen, e, 0)
        block = jnp.where(seen[:, None] & seen, spread, 0) + jnp.diag(jnp.where(seen, 0, 1).astype(spread.dtype))
        whitener = invert_lower(cholesky(block))
        whitened = apply(whitener, e)
        said = apply(spread, jnp.where(seen, apply(transpose(whitener), whitened), 0))
        return jnp.where(seen, e, said), (whitened * whitened).sum()

    return jax.lax.map(one, (states, deviation), batch_size=ROWS)


def complete_draw(covariance: jax.Array, states: jax.Array, y: jax.Array, drawn: jax.Array) -> jax.Array:
    """Rows y (n, d) with missing cells (NaN) drawn given the observed ones, from unconditional draws (n, d) of whole rows.

    A draw plus what the observed cells say of its error has the conditional distribution (Matheron's rule; Hoffman and Ribak
    1991, Astrophys. J. 380:L5): no root of a conditional covariance is needed.
    """
    return jnp.where(jnp.isnan(y), drawn + regress(covariance, states, y - drawn)[0], y)
