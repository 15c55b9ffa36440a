"""Numbers that the t distribution needs, with their digits kept from one degree of freedom to a million."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma

SHIFT = 8  # arguments are moved up by so many before an asymptotic series is used


def _stirling(x: jax.Array) -> jax.Array:
    """lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2 for x >= 8."""
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x


def log_gamma_ratio(x: jax.Array, a: jax.Array) -> jax.Array:
    """lgamma(x + a) - lgamma(x) - a log x for x > 0, a >= 0: small for large x, where the difference itself loses its digits."""
    high = x + SHIFT
    total = (high + a - 0.5) * jnp.log1p(a / high) - a + _stirling(high + a) - _stirling(high) + a * jnp.log1p(SHIFT / x)
    for step in range(SHIFT):
        total = total - jnp.log1p(a / (x + step))
    return total


def log_minus_digamma(x: jax.Array) -> jax.Array:
    """log x - digamma(x) > 0, falling from infinity to 0."""
    large = jnp.maximum(x, 10.0)
    y = 1 / (large * large)
    series = 0.5 / large + y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y / 240)))
    small = jnp.minimum(x, 10.0)
    return jnp.where(x > 10, series, jnp.log(small) - digamma(small))


def log1p_minus(t: jax.Array) -> jax.Array:
    """log(1 + t) - t, without cancellation near 0."""
    near = jnp.where(jnp.abs(t) < 0.1, t, 0.0)
    series = jnp.zeros_like(t)
    for order in range(12, 1, -1):
        series = near * series + (-1) ** (order + 1) / order
    far = jnp.where(jnp.abs(t) < 0.1, 1.0, t)
    return jnp.where(jnp.abs(t) < 0.1, series * near * near, jnp.log1p(far) - far)


def solve_dof(excess: jax.Array, low: float, high: float) -> jax.Array:
    """The nu in [low, high] at which log(nu/2) - digamma(nu/2) = excess, which falls with nu; the end that is nearer without one.

    Bisection on log nu, since the answer may lie anywhere over eight orders of magnitude.
    """
    bottom = jnp.full_like(excess, jnp.log(jnp.asarray(low)))
    top = jnp.full_like(excess, jnp.log(jnp.asarray(high)))

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        bottom, top = ends
        middle = 0.5 * (bottom + top)
        above = log_minus_digamma(0.5 * jnp.exp(middle)) > excess
        return jnp.where(above, middle, bottom), jnp.where(above, top, middle)

    bottom, top = jax.lax.fori_loop(0, 60, halve, (bottom, top))
    return jnp.clip(jnp.exp(0.5 * (bottom + top)), low, high)
