"""Special functions that more than one family needs, or that lose their digits when written down as in the books."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from jaxem.checks import is_traced

SHIFT = 8  # Stirling's series is taken at arguments of at least this
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)  # of 1/x, 1/x^3, ...; 1e-14 at 8


def log_factorial(y: Any) -> Any:
    """log y! of whole numbers; in float64 where they can be looked at, since float32 is wrong by 1e-6 even at 0."""
    if is_traced(y):
        return gammaln(y + 1)
    values, place = np.unique(np.asarray(y), return_inverse=True)
    exact = np.array([math.lgamma(float(value) + 1) for value in values])
    return jnp.asarray(exact[place].reshape(np.shape(y)), np.asarray(y).dtype)


def polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """sum_i coefficients[i] x^i."""
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


def log_minus_digamma(x: jax.Array) -> jax.Array:
    """log x - digamma(x) for x > 0, to relative precision however large x is (it is about 1 / (2x))."""
    y = x + SHIFT
    inverse = 1 / y
    # digamma is the derivative of Stirling's series; down to x by digamma(x) = digamma(x + 1) - 1/x
    slope = tuple((2 * i + 1) * c for i, c in enumerate(STIRLING))
    far = inverse * (0.5 + inverse * polynomial(slope, inverse * inverse))
    # log x - log y + sum 1/(x + i), for large x the sum of terms 1/(x + i) - log(1 + 1/(x + i))
    near = sum(_log1p_defect(1 / (x + i)) for i in range(SHIFT))
    return far + near


def _log1p_defect(x: jax.Array) -> jax.Array:
    """x - log(1 + x)."""
    return x * x * log1p_remainder(x)


def log1p_remainder(x: jax.Array) -> jax.Array:
    """(x - log(1 + x)) / x^2 for x >= 0: 1/2 at 0, log(1 + x) = x - x^2 times it."""
    small = x < 1
    inside = jnp.where(small, x, 0)
    s = inside / (2 + inside)  # log(1 + x) = 2 artanh s
    near = (1 - 2 * s / (2 + inside) * polynomial(tuple(1 / (2 * i + 3) for i in range(17)), s * s)) / (2 + inside)
    outside = jnp.where(small, 1, x)
    return jnp.where(small, near, (1 - jnp.log1p(outside) / outside) / outside)


def solve_log_minus_digamma(s: jax.Array) -> jax.Array:
    """The a > 0 at which log a - digamma(a) = s, for s > 0.

    Newton's method for log a on the logarithm of both sides, which are nearly straight lines of each other; from Minka's
    start, good to 1.5 %, four steps leave rounding.
    """

    def log_left(t: jax.Array) -> jax.Array:
        return jnp.log(log_minus_digamma(jnp.exp(t)))

    start = (3 - s + jnp.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    t, target = jnp.log(start), jnp.log(s)
    for _ in range(4):
        value, slope = jax.jvp(log_left, (t,), (jnp.ones_like(t),))
        t = t - (value - target) / slope
    return jnp.exp(t)


def log_rising(y: jax.Array, a: jax.Array) -> jax.Array:
    """sum_{j < y} log(1 + a j) = lgamma(y + 1/a) - lgamma(1/a) + y log a, for whole y >= 0 and a >= 0; 0 and smooth at a = 0.

    All terms are written in a, not in 1/a: Stirling's series at 1/a + 8 and the eight factors below it.
    """
    b = a / (1 + SHIFT * a)  # 1 / (1/a + 8)
    by = b * y
    c = b / (1 + by)  # 1 / (1/a + 8 + y)
    far = -by * y * log1p_remainder(by) + (y - 0.5) * jnp.log1p(by) + _stirling(c) - _stirling(b)
    ratios = [(1 + i * a) / (1 + (y + i) * a) for i in range(SHIFT)]
    near = sum(jnp.log(ratios[i] * ratios[i + 1]) for i in range(0, SHIFT, 2))  # pairs do not underflow
    return near + y * jnp.log1p(SHIFT * a) + far


def _stirling(inverse: jax.Array) -> jax.Array:
    """lgamma(x) - (x - 1/2) log x + x - log(2 pi) / 2 of x = 1 / inverse."""
    return inverse * polynomial(STIRLING, inverse * inverse)
