"""Results of several completed data sets put together by Rubin's rules."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxem.missing.student import central_quantile, two_sided
from jaxem.parameters import number, text_table


class Pooled(NamedTuple):
    """Estimates of p quantities from m completed data sets; arrays (p,)."""

    names: tuple[str, ...]
    estimate: np.ndarray  # mean of the m estimates
    standard_error: np.ndarray  # root of the total variance
    lower: np.ndarray  # of the interval
    upper: np.ndarray
    dof: np.ndarray  # degrees of freedom of its t distribution
    missing_information: np.ndarray  # fraction of what complete data would tell that the missing cells take
    relative_increase: np.ndarray  # of the variance by the missing cells, (1 + 1/m) between / within
    within: np.ndarray  # mean of the m variances
    between: np.ndarray  # variance of the m estimates
    draws: int  # m
    level: float  # of the interval

    def p_value(self, null: float = 0.0) -> np.ndarray:
        """(p,) two-sided, of the hypothesis that each quantity is `null`."""
        pairs = zip(self.estimate, self.standard_error, self.dof, strict=True)
        return np.array([two_sided((value - null) / error, dof) if error > 0 else math.nan for value, error, dof in pairs])

    def __str__(self) -> str:
        percent = f"{100 * self.level:g} %"
        header = ["", "estimate", "std. error", f"{percent} from", "to", "dof", "missing information"]
        columns = (self.estimate, self.standard_error, self.lower, self.upper, self.dof, self.missing_information)
        lines = [[name, *map(number, row)] for name, *row in zip(self.names, *columns, strict=True)]
        return f"{text_table(header, lines)}\n{self.draws} completed data sets"

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a quantity (pandas must be installed)."""
        import pandas as pd

        shown = self._asdict()
        columns = {name: shown[name] for name in self._fields[1:-2]}
        return pd.DataFrame(columns, index=list(self.names))


def pool(estimates: Any, variances: Any, *, dof: float = math.inf, level: float = 0.95) -> Pooled:
    """Rubin's rules for m estimates of the same quantities, each with its variance as if its data were complete.

    With Q the mean of the estimates, U that of the variances and B the variance of the estimates, the total variance is
    T = U + (1 + 1/m) B (Rubin 1987). Intervals are Q +- t sqrt(T), t of Barnard and Rubin's (1999, Biometrika 86:948) degrees of
    freedom: 1 / (1 / nu_m + 1 / nu_obs), nu_m = (m - 1) / lambda^2, nu_obs = (nu + 1) / (nu + 3) nu (1 - lambda),
    lambda = (1 + 1/m) B / T. The fraction of missing information is (r + 2 / (dof + 3)) / (r + 1), r = (1 + 1/m) B / U.

    Args:
        estimates: (m, p), or (m,) for one quantity; a data frame, or a list of pandas series, names them.
        variances: squares of the standard errors, in the same shape.
        dof: nu, degrees of freedom of the analysis of complete data, for instance n - p of a regression; infinite for large n.
        level: of the intervals.

    Raises:
        TypeError: no numbers. ValueError: fewer than two data sets; other shapes; variances that are negative or not finite; dof
            or level out of range.
    """
    q, names = _numbers(estimates, "estimates")
    u, _ = _numbers(variances, "variances")
    m = len(q)
    if m < 2:
        raise ValueError(f"estimates: found {m} data set; at least 2 are needed to see what differs between them.")
    if u.shape != q.shape:
        raise ValueError(f"variances: found {_shape(u)} where estimates are {_shape(q)}; give one variance for each estimate.")
    if (u < 0).any():
        row, place = np.argwhere(u < 0)[0]
        raise ValueError(f"variances: found {u[row, place]:g} in data set {row}; give squares of standard errors.")
    if not dof > 0:
        raise ValueError(f"dof: found {dof}; give a number > 0, those of the analysis of complete data.")
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}; give a number between 0 and 1, for instance 0.95.")
    middle, within, between = q.mean(axis=0), u.mean(axis=0), q.var(axis=0, ddof=1)
    extra = (1 + 1 / m) * between
    total = within + extra
    share = np.divide(extra, total, out=np.zeros_like(extra), where=total > 0)
    degrees = np.array([_degrees(each, m, dof) for each in share])
    increase = np.divide(extra, within, out=np.full_like(extra, np.inf), where=within > 0)
    rest = 2 / (degrees + 3)
    missing = np.where(np.isinf(increase), 1.0, (np.where(np.isinf(increase), 0, increase) + rest) / (1 + increase))
    missing = np.where(between > 0, missing, 0.0)
    reach = np.array([central_quantile(level, each) for each in degrees]) * np.sqrt(total)
    named = names or (("estimate",) if q.shape[1] == 1 else tuple(f"q{j}" for j in range(q.shape[1])))
    return Pooled(
        named, middle, np.sqrt(total), middle - reach, middle + reach, degrees, missing, increase, within, between, m, float(level)
    )  # fmt: skip


def _degrees(share: float, m: int, dof: float) -> float:
    """Barnard and Rubin's degrees of freedom for lambda = `share`."""
    old = (m - 1) / share**2 if share > 0 else math.inf
    seen = dof if math.isinf(dof) and share < 1 else (dof + 1) / (dof + 3) * dof * (1 - share)
    if math.isinf(old) or math.isinf(seen):
        return min(old, seen)
    return old * seen / (old + seen) if seen > 0 else max(seen, 1e-3)


def _numbers(values: Any, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(m, p) float64 and names of the p quantities."""
    names = None
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        names = tuple(map(str, values.columns))
    elif isinstance(values, (list, tuple)) and len(values) and hasattr(values[0], "index") and hasattr(values[0], "to_numpy"):
        names = tuple(map(str, values[0].index))
    if isinstance(values, (list, tuple)):
        lengths = {np.shape(each) for each in values}
        if len(lengths) > 1:
            raise ValueError(f"{name}: found {len(lengths)} shapes, {sorted(lengths)}; give the same quantities of each data set.")
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: found values that are not numbers; give (data sets, quantities).") from error
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name}: found shape {array.shape}; give (data sets, quantities).")
    if not np.isfinite(array).all():
        row, place = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name}: found {array[row, place]} in data set {row}; an analysis that failed cannot be pooled.")
    return array, names


def _shape(values: np.ndarray) -> str:
    return f"{len(values)} data sets of {values.shape[1]} quantities"
