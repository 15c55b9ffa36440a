"""The t distribution on the host, in float64 whatever JAX computes in."""

from __future__ import annotations

import math
from statistics import NormalDist

NORMAL = 1e7  # degrees of freedom from which t is normal to seven digits, and gamma functions lose as many
TERMS = 10_000


def two_sided(t: float, dof: float) -> float:
    """P(|T| > t) of Student's t with `dof` degrees of freedom, infinite for the normal."""
    if dof > NORMAL:
        return math.erfc(abs(t) / math.sqrt(2))
    return _incomplete_beta(0.5 * dof, 0.5, dof, t * t)


def central_quantile(level: float, dof: float) -> float:
    """t with P(|T| <= t) = level."""
    low, high = 0.0, NormalDist().inv_cdf((1 + level) / 2)  # no t has thinner tails
    while two_sided(high, dof) > 1 - level and high < 1e150:
        low, high = high, 1.2 * high
    while high - low > 1e-13 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if two_sided(middle, dof) > 1 - level else (low, middle)
    return 0.5 * (low + high)


def _incomplete_beta(a: float, b: float, u: float, v: float) -> float:
    """I_x(a, b) at x = u / (u + v), by its continued fraction on the side where that converges fast (DLMF 8.17.22)."""
    x, rest = u / (u + v), v / (u + v)
    if rest == 0:
        return 1.0
    if x == 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, v, u)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    total = d
    for m in range(1, TERMS):  # Lentz (1976), two terms at a time
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 + term * d
            c = 1 + term / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            total *= c * d
        if abs(c * d - 1) < 3e-15:
            break
    return math.exp(log_front) * total / a
