"""Standard errors as a result: covariances, intervals, and a table as users of statsmodels know it."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from jaxem.inference.labels import Cells
from jaxem.inference.point import tree_of


@dataclasses.dataclass(frozen=True)
class Inference:
    """What `standard_errors` returns: NumPy, float64. N cells are all numbers of params, P are unconstrained coordinates.

    NaN stands where nothing can be said: for params on the edge of their domain, and everywhere where the information is not
    positive definite.
    """

    params: Any
    method: str
    level: float
    cells: Cells  # names and values of the cells
    errors: np.ndarray  # (N,) standard errors
    unconstrained_covariance: np.ndarray  # (P, P), zeros for coordinates on the edge
    natural: np.ndarray  # (N, P) derivative of the cells by the coordinates
    boundary: tuple[str, ...]  # params on the edge of their domain, left out
    eigenvalues: np.ndarray  # (p,) of the information of what is left, scaled to a unit diagonal, ascending
    rate: float  # the largest fraction of missing information, which is EM's rate of convergence; NaN where not known
    slowest: str  # the params that the direction of that fraction moves
    gradient_norm: float  # of the log-likelihood (plus log prior) in unconstrained coordinates
    distance: float  # standard errors that the maximum lies away from the params
    remarks: tuple[str, ...]  # what to beware of
    draws: np.ndarray | None = None  # (B, N) cells of the refits, of a bootstrap

    @property
    def names(self) -> tuple[str, ...]:
        """(N,) names of the cells."""
        return self.cells.names

    @cached_property
    def standard_errors(self) -> Any:
        """A tree like params."""
        return tree_of(self.params, self.errors)

    @cached_property
    def covariance(self) -> np.ndarray:
        """(N, N) covariance matrix of the cells: G V G', G their derivative by the coordinates (delta method); of a bootstrap,
        that of the refits."""
        if self.draws is not None:
            return np.cov(self.draws[np.isfinite(self.draws).all(axis=1)].T).reshape(len(self.errors), -1)
        return self.natural @ self.unconstrained_covariance @ self.natural.T

    def interval(self, level: float | None = None) -> Any:
        """Confidence limits (lower, upper), two trees like params.

        Symmetric, estimate -+ z error, on the scale on which a param has no bounds, and brought back: logarithms of positive
        numbers and of variances on a diagonal, log-odds of probabilities, all else as it is. Of a bootstrap, the percentiles
        of the refits.

        Raises:
            ValueError: level not between 0 and 1.
        """
        lower, upper = self.limits(level)
        return tree_of(self.params, lower), tree_of(self.params, upper)

    def limits(self, level: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same as two vectors (N,)."""
        level = check_level(self.level if level is None else level)
        if self.draws is not None:
            found = self.draws[np.isfinite(self.draws).all(axis=1)]
            if not len(found):  # every refit failed
                return np.full_like(self.errors, np.nan), np.full_like(self.errors, np.nan)
            lower, upper = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
            unknown = ~np.isfinite(self.errors)
            return np.where(unknown, np.nan, lower), np.where(unknown, np.nan, upper)
        reach = NormalDist().inv_cdf((1 + level) / 2) * self.errors
        x = self.cells.values
        kinds = np.array(self.cells.scales)
        lower, upper = x - reach, x + reach
        with np.errstate(all="ignore"):
            factor = np.exp(reach / x)
            odds = x / (1 - x)
            step = np.exp(reach / (x * (1 - x)))
            low, high = odds / step, odds * step
            logs, shares = kinds == "log", kinds == "logit"
            lower = np.select([logs, shares], [x / factor, low / (1 + low)], lower)
            upper = np.select([logs, shares], [x * factor, np.where(np.isinf(high), 1, high / (1 + high))], upper)
        return np.where(np.isnan(self.errors), np.nan, lower), np.where(np.isnan(self.errors), np.nan, upper)

    def records(self) -> list[dict[str, Any]]:
        """A dict a param: name, coef, std_err, z, p, lower, upper; the lower triangle of symmetric matrices.

        z = coef / std_err and its two-sided p under 0 are told for params that may be 0 inside their domain, None for others.
        """
        lower, upper = self.limits()
        out = []
        for i, name in enumerate(self.names):
            if self.cells.doubled[i]:
                continue
            z = self.cells.values[i] / self.errors[i] if self.cells.scales[i] == "plain" and self.errors[i] > 0 else None
            p = None if z is None else math.erfc(abs(z) / math.sqrt(2))
            ends = {"lower": float(lower[i]), "upper": float(upper[i])}
            known = {"name": name, "coef": float(self.cells.values[i]), "std_err": float(self.errors[i])}
            out.append(known | {"z": None if z is None else float(z), "p": p} | ends)
        return out

    def to_dataframe(self) -> Any:
        """`records` as a pandas DataFrame, a row a param. Needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.records()).set_index("name").astype(float)

    def summary(self) -> str:
        """The table of `records` as text in statsmodels' manner, with what was left out and what to beware of."""
        tail = 100 * (1 - self.level) / 2
        header = ["", "coef", "std err", "z", "P>|z|", f"[{tail:g}%", f"{100 - tail:g}%]"]
        lines = [header]
        for each in self.records():
            told = ["" if each["z"] is None else f"{each['z']:.3f}", "" if each["p"] is None else f"{each['p']:.3f}"]
            ends = [_short(each["lower"]), _short(each["upper"])]
            lines.append([each["name"], _short(each["coef"]), _short(each["std_err"]), *told, *ends])
        widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
        text = [
            "  ".join(cell.ljust(widths[0]) if j == 0 else cell.rjust(widths[j]) for j, cell in enumerate(line)) for line in lines
        ]
        ruler = "-" * len(text[0])
        out = [f"Standard errors: {self.method}", ruler, text[0], ruler, *text[1:], ruler]
        if np.isfinite(self.rate):
            slow = f", slowest along {self.slowest}" if self.slowest and self.rate > 0 else ""
            out.append(f"Largest fraction of missing information {self.rate:.4f}{slow}")
        if self.boundary:
            out.append(f"On the edge of their domain, left out: {', '.join(self.boundary)}")
        return "\n".join([*out, *(f"Note: {remark}" for remark in self.remarks)])

    def __str__(self) -> str:
        return self.summary()


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-" if math.isnan(value) else f"{value:g}"
    return f"{value:.4g}" if value != 0 and not 1e-3 <= abs(value) < 1e5 else f"{value:.4f}"


def check_level(level: Any) -> float:
    """`level` as a float between 0 and 1.

    Raises:
        ValueError: anything else.
    """
    if isinstance(level, bool) or not isinstance(level, (int, float, np.floating)) or not 0 < level < 1:
        raise ValueError(f"level: found {level!r}; give a number between 0 and 1, for instance 0.95.")
    return float(level)
