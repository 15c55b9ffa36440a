"""The distribution that the transitions of a Markov chain leave as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def stationary(transition: jax.Array) -> jax.Array:
    """(K,) p with p A = p, by state reduction without subtractions (Grassmann, Taksar and Heyman 1985, Oper. Res. 33:1107).

    Where several distributions stay (states that do not reach one another), one of them.
    """
    a = transition
    k = len(a)
    out = []
    for n in range(k - 1, 0, -1):
        left = a[n, :n].sum()
        # a state that is never left takes all
        out.append(a[:n, n] / jnp.maximum(left, jnp.finfo(a.dtype).tiny ** 0.5))
        a = a[:n, :n] + out[-1][:, None] * a[n, :n]
    p = jnp.ones(1, transition.dtype)
    for column in reversed(out):
        p = jnp.append(p, (p * column).sum())
        p = p / p.sum()
    return p
