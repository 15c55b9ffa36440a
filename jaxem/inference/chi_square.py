"""Tail of the chi-square distribution."""

from __future__ import annotations

import math


def chi_square_tail(statistic: float, df: int) -> float:
    """P(X > statistic), X chi-square with df degrees of freedom: the upper regularised gamma function, in float64.

    Recursions over df by twos from erfc (odd) or exp (even), all terms positive.
    """
    if not math.isfinite(statistic):
        return 0.0 if statistic > 0 else float("nan")
    half = max(statistic, 0.0) / 2
    if df % 2:
        total, log_term = math.erfc(math.sqrt(half)), 0.5 * math.log(half) - math.lgamma(1.5) if half > 0 else -math.inf
        order = 1.5
    else:
        total, log_term = math.exp(-half), math.log(half) if half > 0 else -math.inf
        order = 2.0
    while order <= df / 2 + 1e-9:
        total += math.exp(log_term - half)
        log_term += math.log(half) - math.log(order) if half > 0 else 0.0
        order += 1.0
    return min(total, 1.0)
