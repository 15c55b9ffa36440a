"""What single rows do to a fit: derivatives of the params by their weights, leaving one out, Cook's distance."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem import information
from jaxem.inference.labels import Cells
from jaxem.inference.point import Point, look_at, tree_of
from jaxem.inference.standard_errors import check_groups, grouped


@dataclasses.dataclass(frozen=True)
class Influence:
    """What `influence` returns: NumPy, float64, one entry a row, a sequence, or a group of them, n in all; N cells of params.

    NaN everywhere where the information is not positive definite.
    """

    params: Any
    cells: Cells
    labels: np.ndarray  # (n,) rows 0, 1, ..., or the labels of the groups
    weights: np.ndarray  # (n,) of the rows; 1 for a group
    left: np.ndarray  # (n,) how much of the weight is left out: one repetition, min(w_i, 1); a group as a whole, 1
    derivative: np.ndarray  # (n, N) of each cell by each row's weight (by a factor on a group's weights): I^-1 s_i
    log_likelihood: np.ndarray  # (n,) log p(y_i) at the params, weighted and summed over a group
    leave_one_out: np.ndarray  # (n,) the same at the params without one such row: log p(y_i) - s_i' I^-1 s_i
    cooks_distance: np.ndarray  # (n,) s_i' I^-1 s_i / p, p params that are free
    boundary: tuple[str, ...]  # params on the edge of their domain, taken as known
    remarks: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """(N,) names of the cells."""
        return self.cells.names

    @property
    def leverage(self) -> np.ndarray:
        """(n,) s_i' I^-1 s_i: log-likelihood that a row owes to having been fitted to; they sum to about the number of params."""
        return self.log_likelihood - self.leave_one_out

    @property
    def total_leave_one_out(self) -> float:
        """sum_i w_i log p(y_i | the others): the log-likelihood of new rows like these, as by cross-validation."""
        return float(np.where(self.weights > 0, self.weights * self.leave_one_out, 0).sum())

    def without(self, number: int) -> Any:
        """Params without a row (sequence, group), to first order: params - d params / d w_i. A tree like params."""
        return tree_of(self.params, self.cells.values - self.left[number] * self.derivative[number])

    def most(self, count: int = 10) -> np.ndarray:
        """(count,) numbers of the rows of the largest Cook's distance, largest first."""
        return np.argsort(-np.nan_to_num(self.cooks_distance), kind="stable")[:count]

    def records(self, count: int = 10) -> list[dict[str, Any]]:
        """A dict each for the most influential rows: row, weight, log_likelihood, leave_one_out, cooks_distance, and the param
        that it moves the most for its size, with the change when the row is left out."""
        out = []
        size = np.sqrt(np.square(self.weights[:, None] * self.derivative).sum(axis=0))
        for i in self.most(count):
            change = -self.left[i] * self.derivative[i]
            told = np.where((size > 0) & ~self.cells.doubled, np.abs(change) / np.where(size > 0, size, 1), 0)
            moves = int(np.argmax(np.nan_to_num(told)))
            label = self.labels[i]
            row = {"row": label.item() if hasattr(label, "item") else label, "weight": float(self.weights[i])}
            values = {name: float(getattr(self, name)[i]) for name in ("log_likelihood", "leave_one_out", "cooks_distance")}
            out.append({**row, **values, "moves": self.names[moves], "change": float(change[moves])})
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists, for JSON."""
        return {
            "total_leave_one_out": self.total_leave_one_out,
            "most_influential": self.records(),
            "cooks_distance": [float(value) for value in self.cooks_distance],
            "leave_one_out": [float(value) for value in self.leave_one_out],
            "boundary": list(self.boundary),
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        fitted = float(np.where(self.weights > 0, self.weights * self.log_likelihood, 0).sum())
        lines = [f"Log-likelihood {fitted:.4f}, leaving one out {self.total_leave_one_out:.4f} (approximate)"]
        for each in self.records():
            moved = f"without it {each['moves']} changes by {each['change']:+.3g}"
            lines.append(f"{each['row']!s:>8}  Cook's distance {each['cooks_distance']:.4f}; {moved}")
        return "\n".join([*lines, *(f"Note: {remark}" for remark in self.remarks)])


def influence(model: Any, params: Any, data: Any, weights: Any = None, groups: Any = None) -> Influence:
    """Influence of each row (of each sequence, where rows are steps) on a maximum, without refits.

    By the implicit function theorem the maximum moves with the weight of row i by du/dw_i = I^-1 s_i, s_i the row's score and
    I the observed information in unconstrained coordinates (Cook 1986, JRSS-B 48:133; the infinitesimal jackknife of Giordano
    et al. 2019). From it, all to first order: the params without the row, log p(y_i) at those, and Cook's distance, twice the
    fall of the log-likelihood of all rows there over the number of params. Weights are repetitions: of a row of weight w one
    repetition is left out, of a group all.

    Args:
        model: the model.
        params: a maximum, `fit.params`.
        data: the data of the fit: raw or prepared.
        weights: (n,) weights of the fit.
        groups: (n,) labels of rows (or sequences) that are left out together.

    Returns:
        Influence.

    Warns:
        UserWarning: params that are no stationary point; information that is not positive definite.

    Raises:
        TypeError: traced values. ValueError: params that do not fit the model or the data; bad groups.
    """
    point = look_at(model, params, data, weights)
    units = np.asarray(information.unit_weights(point.rows), np.float64)
    numbers = None if groups is None else check_groups(groups, len(units))
    u = jnp.asarray(point.u, point.rows.dtype)
    scores = np.asarray(information.scores(point.model, u, point.params, point.rows), np.float64)
    each = np.asarray(point.model.log_likelihood(point.params, point.rows, per_row=True), np.float64)
    said = np.asarray(point.rows.informative) if point.rows.lanes is None else np.ones(len(units), bool)
    scores, each = np.where(point.edge | ~said[:, None], 0, scores), np.where(said, each, 0)
    labels: np.ndarray = np.arange(len(units))
    if numbers is not None:
        scores, each = grouped(units[:, None] * scores, numbers), grouped(units[:, None] * each[:, None], numbers)[:, 0]
        labels, units = np.unique(np.asarray(groups)), np.ones(len(scores))
    inverse = point.covariance()
    moved = scores @ inverse
    left = np.minimum(units, 1)
    leverage = left * (moved * scores).sum(axis=1)
    remarks = _remarks(point, inverse)
    for remark in remarks:
        warnings.warn(f"influence: {remark}", stacklevel=2)
    return Influence(
        params=point.params,
        cells=point.cells,
        labels=labels,
        weights=units,
        left=left,
        derivative=moved @ np.where(point.edge, 0, point.natural).T,
        log_likelihood=each,
        leave_one_out=each - leverage,
        cooks_distance=left * leverage / max(int((~point.edge).sum()), 1),
        boundary=point.boundary,
        remarks=tuple(remarks),
    )


def _remarks(point: Point, inverse: np.ndarray) -> list[str]:
    if not np.isfinite(inverse).all():
        values, directions = point.spectrum()
        where = f", along {point.told(directions[:, 0])}" if np.isfinite(values).all() else ""
        return [f"the information is not positive definite{where}: params do not move with weights in any known way."]
    return point.moves(inverse)
