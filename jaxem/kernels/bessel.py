"""Modified Bessel functions of the first kind in log space, for any order >= -1/2 and argument >= 0.

Olver's expansion, which holds uniformly in the argument (DLMF 10.41), is taken at an order raised by `RAISED`, where its
`TERMS` terms leave rounding, and brought down by the recurrence of the ratios I_{nu+1} / I_nu, which is stable downwards
(DLMF 10.29; Gautschi 1967). There is one path for all arguments, and all of it is smooth in q = x^2, at 0 too.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.kernels.special import STIRLING, polynomial

RAISED = 16
TERMS = 12


@jax.custom_jvp
def log_0f1(nu: Any, q: jax.Array) -> jax.Array:
    r"""log 0F1(; nu + 1; q / 4) = log [ Gamma(nu + 1) (2/x)^nu I_nu(x) ], q = x^2; 0 at q = 0.

    Args:
        nu: order >= -1/2, a number or an array that broadcasts; it is not differentiated.
        q: squared argument >= 0.

    Its derivative in q is `half_ratio(nu, q) / 2`.
    """
    found = _down(nu, q)
    return found.log + found.rise


@log_0f1.defjvp
def _(primals, tangents):
    nu, q = primals
    return log_0f1(nu, q), 0.5 * ratio_over(nu, q) * tangents[1]


def ratio_over(nu: Any, q: jax.Array) -> jax.Array:
    """I_{nu+1}(x) / (x I_nu(x)), q = x^2; 1 / (2 nu + 2) at q = 0."""
    return _down(nu, q).ratio


def bessel_ratio(nu: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A = I_{nu+1}(x) / I_nu(x) and 1 - A, both to relative precision, for x >= 0."""
    found = _down(nu, x * x)
    return x * found.ratio, found.complement


def log_bessel_ive(nu: Any, x: jax.Array) -> jax.Array:
    """log (e^-x I_nu(x)) for x > 0, and nu >= -1/2."""
    found = _down(nu, x * x)
    nu = jnp.asarray(nu, x.dtype)
    order = nu + RAISED
    s = jnp.sqrt(order * order + x * x)
    scaled = found.log - order * (found.rise + x) / (s + x)  # rise - x without the difference of large numbers
    return scaled + nu * jnp.log(0.5 * x) - jax.scipy.special.gammaln(nu + 1)


class _Found(NamedTuple):
    log: jax.Array  # log 0F1 - rise
    rise: jax.Array  # sqrt((nu + RAISED)^2 + q) - (nu + RAISED)
    ratio: jax.Array  # I_{nu+1} / (x I_nu)
    complement: jax.Array  # 1 - I_{nu+1} / I_nu


def _down(nu: Any, q: jax.Array) -> _Found:
    nu = jnp.asarray(nu, q.dtype)
    order = nu + RAISED
    s = jnp.sqrt(order * order + q)
    x = jnp.sqrt(q)
    rise = q / (s + order)
    inverse = 1 / order
    p = order / s
    series, defect = (_series(each, p, inverse) for each in _olver())
    # Gamma(nu + 1) by Stirling's series cancels all that is large
    log = -order * jnp.log1p(0.5 * rise * inverse) - 0.5 * jnp.log1p(rise * inverse)
    log = log + inverse * polynomial(STIRLING, inverse * inverse) + jnp.log(series)
    extra = defect / (series * s)
    ratio = 1 / (s + order) + extra
    complement = (order + order * order / (s + x)) / (s + order) - x * extra
    for i in range(RAISED, 0, -2):
        up = 1.0
        for j in (i, i - 1):
            twice = 2 * (nu + j)
            below = twice + q * ratio
            up = up * (below / twice)
            complement = (twice - x * complement) / below
            ratio = 1 / below
        log = log + jnp.log(up)
    return _Found(log, rise, ratio, complement)


def _series(polynomials: tuple[tuple[float, ...], ...], p: jax.Array, inverse: jax.Array) -> jax.Array:
    """sum_k (p / order)^k polynomial_k(p^2)."""
    square, step = p * p, p * inverse
    total = jnp.zeros_like(p)
    for coefficients in polynomials[::-1]:
        total = total * step + polynomial(coefficients, square)
    return total


@lru_cache
def _olver() -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]:
    """u_k(p) / p^k, and (v_k(p) - u_k(p)) / (p^k (1 - p^2)), as polynomials in p^2 (DLMF 10.41.9 to 10.41.11).

    u_{k+1} = p^2 (1 - p^2) u_k' / 2 + int_0^p (1 - 5 t^2) u_k dt / 8, v_{k+1} - u_{k+1} = -p (1 - p^2) (u_k / 2 + p u_k').
    """
    u: dict[int, Fraction] = {0: Fraction(1)}  # power -> coefficient
    first: list[tuple[float, ...]] = [(1.0,)]
    second: list[tuple[float, ...]] = [(0.0,)]
    for k in range(1, TERMS + 1):
        defect: dict[int, Fraction] = {}
        following: dict[int, Fraction] = {}
        for power, c in u.items():
            defect[power + 1] = defect.get(power + 1, Fraction(0)) - c * (Fraction(1, 2) + power)
            for shift, factor in (
                (1, Fraction(power, 2) + Fraction(1, 8 * (power + 1))),
                (3, -Fraction(power, 2) - Fraction(5, 8 * (power + 3))),
            ):
                following[power + shift] = following.get(power + shift, Fraction(0)) + c * factor
        u = following
        first.append(tuple(float(u.get(k + 2 * i, 0)) for i in range(k + 1)))
        second.append(tuple(float(defect.get(k + 2 * i, 0)) for i in range(k)))
    return tuple(first), tuple(second)
