"""Information criteria of a fit. Lower is better for every one of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxem.data import prepare
from jaxem.result import Fit
from jaxem.rows import Rows


class Criteria(NamedTuple):
    """What a fit costs in terms of its log-likelihood l, its p free parameters and n. Lower is better."""

    n_rows: int  # rows that say anything and have a weight above 0
    n: float  # sum of the weights of the independent units: rows, sequences, or the steps of a single sequence
    n_parameters: int  # p
    aic: float  # -2 l + 2 p (Akaike 1974)
    bic: float  # -2 l + p log n (Schwarz 1978)
    aicc: float  # aic + 2 p (p + 1) / (n - p - 1) (Hurvich and Tsai 1989); NaN where n <= p + 1
    sabic: float  # -2 l + p log((n + 2) / 24) (Sclove 1987)
    caic: float  # -2 l + p (log n + 1) (Bozdogan 1987)
    unit: str = "row"  # what n counts: "row", "sequence", or "step" of a single sequence

    def icl(self, entropy: float) -> float:
        """bic + 2 entropy, of `jaxem.selection.entropy.state_entropy` (Biernacki, Celeux and Govaert 2000): lower is better."""
        return self.bic + 2 * entropy


def criteria(model: Any, fit: Fit, data: Any, weights: Any = None) -> Criteria:
    """Information criteria of a fit to data, raw or prepared, under its weights.

    n counts independent units, whatever is missing in them: rows, or sequences of a model of time. One sequence alone, of which
    log n would be 0, is counted by its steps, as is usual for time series.
    """
    rows = prepare(model, data).weigh(weights) if isinstance(data, Rows) else model.prepare(data, weights)
    counted = np.asarray(rows.weights, np.float64)
    n, unit = units_of(rows, counted)
    p, deviance = model.n_parameters(rows), -2 * float(fit.log_likelihood)
    used = int((np.asarray(rows.informative) & (counted > 0)).sum())
    aic, room = deviance + 2 * p, n - p - 1
    return Criteria(
        used, n, p, aic, deviance + p * math.log(n), aic + 2 * p * (p + 1) / room if room > 0 else math.nan,
        deviance + p * math.log((n + 2) / 24), deviance + p * (math.log(n) + 1), unit,
    )  # fmt: skip


def units_of(rows: Rows, counted: np.ndarray) -> tuple[float, str]:
    """n, and what it counts."""
    if rows.lanes is None:
        return float(counted.sum()), "row"
    if len(rows.lanes.start) == 1:
        return float(counted.sum()), "step"
    return float(counted[np.asarray(rows.lanes.start)].sum()), "sequence"
