"""Little's test of whether cells are missing completely at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.scipy.special import gammaincc

from jaxem.families import Gaussian
from jaxem.fit import fit
from jaxem.missing.patterns import missingness
from jaxem.models import Single
from jaxem.result import Status, Stop
from jaxem.view import view_of


class LittleTest(NamedTuple):
    """Means of the patterns against those of one Gaussian."""

    statistic: float  # chi-squared with df degrees of freedom where cells are missing completely at random
    df: int
    p: float  # tail probability; NaN where df is 0
    n_patterns: int  # patterns with an observed cell

    def __str__(self) -> str:
        if self.df == 0:
            return "All rows have the same pattern: there is nothing to compare."
        text = f"chi-squared {self.statistic:.4f} on {self.df} degrees of freedom, p = {self.p:.4g}, {self.n_patterns} patterns"
        return f"{text} (small where cells are not missing completely at random)"


def little_mcar_test(data: Any) -> LittleTest:
    """Whether rows with different cells missing have the same means, as they have where cells are missing completely at random.

    d2 = sum over patterns p of n_p (ybar_p - mu_p)' S_p^-1 (ybar_p - mu_p), with the observed columns of each pattern, mu and S
    by maximum likelihood of one Gaussian; chi-squared with (sum of observed columns over patterns) - d
    degrees of freedom in many rows (Little 1988, JASA 83:1198). It compares means alone and takes them as normal, so that few
    rows a pattern or heavy tails mislead it. A large p does not show that cells are missing completely at random, and no test
    can tell missing at random from not missing at random.

    Args:
        data: (n, d) numbers, NaN where missing. Rows without an observed cell say nothing.

    Raises:
        TypeError, ValueError: cells that are no numbers; a column without an observed cell; collinear columns, whose covariance
            is singular.
    """
    view = view_of(data)
    if view.labels is not None:
        raise TypeError("data: found labels; the test compares means of numbers, so leave these columns out.")
    kept = ~np.isnan(view.y).all(axis=1)
    y = view.y[kept]
    if not kept.any() or np.isnan(y).all(axis=0).any():
        raise ValueError("data: a column has no observed cell; drop it.")
    centre, scale = np.nanmean(y, axis=0), np.nanstd(y, axis=0)
    scaled = (y - centre) / np.where(scale > 0, scale, 1)
    # the test does not depend on units, but a fit in float32 does
    found = fit(Single(Gaussian()), scaled, stop=Stop(tolerance=1e-9, max_steps=5000))
    mean, covariance = (np.asarray(leaf, np.float64) for leaf in found.params)
    if int(found.status) == Status.DEGENERATE:
        raise ValueError("data: the covariance is singular, some columns are combinations of others or constant; drop them.")
    table = missingness(scaled)
    statistic = 0.0
    for number, seen in enumerate(table.observed):
        own = scaled[table.pattern == number][:, seen]
        deviation = own.mean(axis=0) - mean[seen]
        statistic += len(own) * float(deviation @ np.linalg.solve(covariance[np.ix_(seen, seen)], deviation))
    df = int(table.observed.sum()) - y.shape[1]
    p = float(gammaincc(df / 2, statistic / 2)) if df > 0 else float("nan")
    return LittleTest(statistic, df, p, len(table.counts))
