"""Log-probabilities of intervals of standard distributions, with digits in both tails and for narrow intervals.

Functions of standardised values z: log-density, log P(Z <= z), log P(Z > z), and log P of an interval given by its middle and
width, since the difference of two ends has lost its digits where the interval is narrow. What is known to exceed a low end is
told by the hazard and its integral from there on, since far out the two survival probabilities of a ratio have no digits left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF_LOG_2PI = float(0.5 * np.log(2 * np.pi))

# (1 + x) M(x) for Mills' ratio M in powers of (x - 4.5) / (x + 4.5), by Chebyshev interpolation; relative error 2e-15 on [0, inf)
_MILLS = (
    1.169138192431175, -0.23676798255912646, 0.059765449641312696, 0.04743206622137347, -0.076143573790553379,
    0.05669068324863627, -0.026547913958386966, 0.0067960859668667129, 0.00029892963367093335, -0.00088484311572553003,
    0.00017785089156919728, 8.4807306992100187e-05, -3.7339956976903811e-05, -8.976570910636056e-06, 6.3959669960908066e-06,
    1.2986022376235227e-06, -1.074688094209973e-06, -2.4785612079834703e-07, 1.7462002624192743e-07, 4.4821805272836952e-08,
    -2.4165023382174343e-08, -4.723777984971289e-09, 2.0320354780515637e-09,
)  # fmt: skip

# positive nodes of the Gauss-Legendre rule with 8 points on [-1, 1], and their weights
_NODES = tuple(float(x) for x in np.polynomial.legendre.leggauss(8)[0][4:])
_SHARES = tuple(float(w) for w in np.polynomial.legendre.leggauss(8)[1][4:])


class Distribution(NamedTuple):
    """A standard distribution by its log-probabilities."""

    log_density: Callable[[jax.Array], jax.Array]
    log_below: Callable[[jax.Array], jax.Array]
    log_above: Callable[[jax.Array], jax.Array]
    log_between: Callable[[jax.Array, jax.Array], jax.Array]  # (middle, width)
    log_hazard: Callable[[jax.Array], jax.Array]  # log-density less log P(Z > z)
    log_survive: Callable[[jax.Array, jax.Array], jax.Array]  # (low, width > 0) -> log P(Z > low + width | Z > low)
    log_fail: Callable[[jax.Array, jax.Array], jax.Array]  # (low, width > 0) -> log P(Z <= low + width | Z > low)
    draw: Callable[..., jax.Array]  # (key, shape, dtype) -> standard draws


def log_expm1(w: jax.Array) -> jax.Array:
    """log(e^w - 1) for w > 0."""
    large = w > 1
    return jnp.where(large, w + jnp.log1p(-jnp.exp(-jnp.where(large, w, 1))), jnp.log(jnp.expm1(jnp.where(large, 1, w))))


# normal


def _mills(x: jax.Array) -> jax.Array:
    """P(Z > x) / density(x), for x >= 0."""
    t = (x - 4.5) / (x + 4.5)
    total = jnp.full_like(t, _MILLS[-1])
    for coefficient in _MILLS[-2::-1]:
        total = total * t + coefficient
    return total / (1 + x)


def _along(like: jax.Array, f: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Sum over the positive nodes, on an axis of their own, of their shares times f(node)."""
    nodes, shares = (jnp.asarray(part, like.dtype).reshape(-1, *[1] * like.ndim) for part in (_NODES, _SHARES))
    return (shares * f(nodes)).sum(0)


@jax.custom_jvp
def hazard(x: jax.Array) -> jax.Array:
    """density(x) / P(Z > x) of the standard normal, the inverse of Mills' ratio."""
    mills = _mills(jnp.abs(x))
    density = jnp.exp(_log_normal(jnp.minimum(x, 0)))
    return jnp.where(x > 0, 1, density) / jnp.where(x > 0, mills, 1 - density * mills)


@hazard.defjvp
def _hazard_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    value = hazard(x)
    return value, value * (value - x) * t


def _log_normal(z: jax.Array) -> jax.Array:
    return -0.5 * z * z - HALF_LOG_2PI


@jax.custom_jvp
def log_normal_above(x: jax.Array) -> jax.Array:
    """log P(Z > x) of the standard normal; its derivative is minus the hazard."""
    log_tail = _log_normal(x) + jnp.log(_mills(jnp.abs(x)))  # of the nearer tail
    return jnp.where(x > 0, log_tail, jnp.log1p(-jnp.exp(jnp.where(x > 0, -1, log_tail))))


@log_normal_above.defjvp
def _log_normal_above_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return log_normal_above(x), -hazard(x) * t


def log_normal_below(x: jax.Array) -> jax.Array:
    """log P(Z <= x) of the standard normal."""
    return log_normal_above(-x)


def log_normal_between(middle: jax.Array, width: jax.Array) -> jax.Array:
    """log P(|Z - middle| <= width / 2) of the standard normal.

    Narrow intervals by quadrature of density(z) / density(middle), whose logarithm is of order 1 there; wide ones in the
    upper tail by symmetry, where P(Z > end) differ by a factor.
    """
    x = jnp.where(middle < 0, -middle, middle)
    narrow = width * jnp.maximum(x, 1) < 2
    w = jnp.where(narrow, width, 1)
    m = jnp.where(narrow, x, 0)
    parts = _along(m, lambda node: jnp.cosh(0.5 * node * m * w) * jnp.exp(-0.125 * node * node * w * w))
    inside = jnp.log(w) + _log_normal(m) + jnp.log(parts)
    x, w = jnp.where(narrow, 2, x), jnp.where(narrow, 2, width)
    near, far = log_normal_above(x - 0.5 * w), log_normal_above(x + 0.5 * w)
    return jnp.where(narrow, inside, near + jnp.log1p(-jnp.exp(far - near)))


@jax.custom_jvp
def _log_normal_hazard(x: jax.Array) -> jax.Array:
    mills = _mills(jnp.abs(x))
    low = jnp.minimum(x, 0)
    near = _log_normal(low) - jnp.log1p(-jnp.exp(_log_normal(low)) * mills)
    return jnp.where(x > 0, -jnp.log(mills), near)


@_log_normal_hazard.defjvp
def _log_normal_hazard_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return _log_normal_hazard(x), (hazard(x) - x) * t


@jax.custom_jvp
def _log_tail(x: jax.Array, above: jax.Array) -> jax.Array:
    """log P(Z > x), less the log-density where `above` (then x >= 0)."""
    return jnp.where(above, jnp.log(_mills(jnp.abs(x))), log_normal_above(x))


@_log_tail.defjvp
def _log_tail_jvp(primals, tangents):
    (x, above), (t, _) = primals, tangents
    return _log_tail(x, above), (jnp.where(above, x, 0) - hazard(x)) * t


def _log_normal_survive(low: jax.Array, width: jax.Array) -> jax.Array:
    """log P(Z > low + width) - log P(Z > low); where low > 0 the densities' part of it is exact."""
    above = low > 0
    rest = _log_tail(low + width, above) - _log_tail(low, above)
    return rest - jnp.where(above, (low + 0.5 * width) * width, 0)


def _log_normal_fail(low: jax.Array, width: jax.Array) -> jax.Array:
    """The hazard at the low end times the integral of density(low + t) / density(low) where the interval is narrow."""
    narrow = width * jnp.maximum(jnp.abs(low), 1) < 1
    w, a = jnp.where(narrow, width, 1), jnp.where(narrow, low, 0)

    def ratio(t: jax.Array) -> jax.Array:
        return jnp.exp(-(a + 0.5 * t) * t)

    parts = _along(a, lambda node: ratio(0.5 * w * (1 - node)) + ratio(0.5 * w * (1 + node)))
    inside = jnp.log(w) + _log_normal_hazard(a) + jnp.log(0.5 * parts)
    w, a = jnp.where(narrow, 1, width), jnp.where(narrow, 0, low)
    left = a + w < 0  # then seen from the other side, P(Z > -high) less P(Z > -low)
    gone = -_log_normal_survive(jnp.where(left, -(a + w), a), w)
    side = jnp.where(left, log_normal_above(jnp.where(left, -(a + w), 0)) - log_normal_above(jnp.where(left, a, 0)), 0)
    return jnp.where(narrow, inside, side + log_expm1(gone) - gone)


# logistic


def _log_logistic(z: jax.Array) -> jax.Array:
    return _log_logistic_below(z) + _log_logistic_below(-z)


def _log_logistic_below(z: jax.Array) -> jax.Array:
    return -jax.nn.softplus(-z)


def _log_logistic_above(z: jax.Array) -> jax.Array:
    return -jax.nn.softplus(z)


def _log_logistic_between(middle: jax.Array, width: jax.Array) -> jax.Array:
    """F(b) - F(a) = F(b) (1 - F(a)) (1 - e^(a - b))."""
    a, b = middle - 0.5 * width, middle + 0.5 * width
    return _log_logistic_below(b) + _log_logistic_above(a) + log_expm1(width) - width


def _logistic_odds(low: jax.Array, width: jax.Array) -> jax.Array:
    """Log-odds of Z <= low + width given Z > low: F(low) (e^width - 1)."""
    return _log_logistic_below(low) + log_expm1(width)


def _log_logistic_survive(low: jax.Array, width: jax.Array) -> jax.Array:
    return _log_logistic_above(_logistic_odds(low, width))


def _log_logistic_fail(low: jax.Array, width: jax.Array) -> jax.Array:
    return _log_logistic_below(_logistic_odds(low, width))


# smallest extreme value: the logarithm of a standard exponential


def _exp(z: jax.Array) -> jax.Array:
    """e^z; from where its square is near overflow its second-order expansion, as large as to make any probability 0.

    An infinite derivative times the 0 of a state that cannot have given a row would be NaN.
    """
    limit = 0.4 * float(np.log(float(jnp.finfo(z.dtype).max)))
    t = jnp.maximum(z - limit, 0)
    return jnp.exp(jnp.minimum(z, limit)) * (1 + t + 0.5 * t * t)


def _log_extreme(z: jax.Array) -> jax.Array:
    return z - _exp(z)


def _log_extreme_above(z: jax.Array) -> jax.Array:
    return -_exp(z)


def _log_extreme_below(z: jax.Array) -> jax.Array:
    """log(1 - exp(-e^z)): z + log((1 - e^-x) / x) with x = e^z where that is small; 0 where exp(-x) is below any number."""
    small, large = z < -10, z > 7
    series = jnp.exp(jnp.where(small, z, -10))
    x = jnp.exp(jnp.where(small | large, 0, z))
    some = x > 0.7
    middle = jnp.where(some, jnp.log1p(-jnp.exp(-x)), jnp.log(-jnp.expm1(-jnp.where(some, 0.5, x))))
    return jnp.where(small, z - 0.5 * series + series * series / 24, jnp.where(large, 0, middle))


def _log_extreme_between(middle: jax.Array, width: jax.Array) -> jax.Array:
    """P(Z > a) (1 - exp(-(e^b - e^a)))."""
    a = middle - 0.5 * width
    return _log_extreme_above(a) + _log_extreme_fail(a, width)


def _log_extreme_hazard(z: jax.Array) -> jax.Array:
    return z


def _log_extreme_survive(low: jax.Array, width: jax.Array) -> jax.Array:
    """e^a - e^b = -e^a (e^(b - a) - 1)."""
    return _log_extreme_above(low + log_expm1(width))


def _log_extreme_fail(low: jax.Array, width: jax.Array) -> jax.Array:
    return _log_extreme_below(low + log_expm1(width))


def _draw_extreme(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    return -jax.random.gumbel(key, shape, dtype)


NORMAL = Distribution(
    _log_normal, log_normal_below, log_normal_above, log_normal_between,
    _log_normal_hazard, _log_normal_survive, _log_normal_fail, jax.random.normal,
)  # fmt: skip
LOGISTIC = Distribution(
    _log_logistic, _log_logistic_below, _log_logistic_above, _log_logistic_between,
    _log_logistic_below, _log_logistic_survive, _log_logistic_fail, jax.random.logistic,
)  # fmt: skip
EXTREME = Distribution(
    _log_extreme, _log_extreme_below, _log_extreme_above, _log_extreme_between,
    _log_extreme_hazard, _log_extreme_survive, _log_extreme_fail, _draw_extreme,
)  # fmt: skip
