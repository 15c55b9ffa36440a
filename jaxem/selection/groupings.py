"""How well groups of rows are parted, how sure they are, and how two groupings agree."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxem.align import assign
from jaxem.checks import check_matrix, check_weights
from jaxem.parameters import number, text_table

PAIRS = 1 << 22  # distances that are held at once


def silhouette(data: Any, labels: Any) -> np.ndarray:
    """(n,) silhouette widths s_i = (b_i - a_i) / max(a_i, b_i) of rows in groups (Rousseeuw 1987, J. Comput. Appl. Math. 20:53).

    a_i is the mean distance to the other rows of its group, b_i the least mean distance to those of another group: near 1 where
    a row lies well within its group, below 0 where it lies nearer to another. The mean tells the whole. A row alone in its
    group has 0. Distances are Euclidean in the units of the data; with missing cells they are taken over the cells that both
    rows have, scaled up to all of them (Dixon 1979), and a row that shares no cell with a group has NaN.

    Args:
        data: (n, d) numbers, NaN where missing; (n,) is one column.
        labels: (n,) the group of each row, numbers or texts, for instance `model.posterior(params, data).argmax(axis=1)`.

    Raises:
        TypeError, ValueError: other shapes; fewer than two groups, or as many as rows.
    """
    y = np.asarray(check_matrix(data, "data")[0], np.float64)
    names, group = _labels(labels, "labels", len(y))
    if not 1 < len(names) < len(y):
        raise ValueError(f"labels: found {len(names)} groups of {len(y)} rows; silhouettes need from 2 to {len(y) - 1} groups.")
    present = ~np.isnan(y)
    y = np.where(present, y - np.where(present, y, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1), 0)
    member = np.eye(len(names))[group]
    counts = np.bincount(group)
    step = max(1, PAIRS // len(y))
    out = np.empty(len(y))
    for begin in range(0, len(y), step):
        part = slice(begin, begin + step)
        distance, known = _distances(y, present, part)
        mass = known @ member
        own = np.arange(len(mass)), group[part]
        mass[own] -= known[np.arange(len(mass)), np.arange(len(y))[part]]  # not to itself, at distance 0
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (distance @ member) / mass
            a = mean[own].copy()
            mean[own] = np.inf
            b = mean.min(axis=1)
            found = (b - a) / np.maximum(a, b)
        found = np.where((a == 0) & (b == 0), 0, found)
        out[part] = np.where(counts[group[part]] == 1, 0, found)
    return out


def _distances(y: np.ndarray, present: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """(c, n) distances from some rows to all, 0 where unknown, and whether they are known, 1 or 0."""
    d = y.shape[1]
    if present.all():
        squared = np.zeros((len(y[part]), len(y)))
        for column in y.T:  # differences first: nothing cancels
            squared += np.square(column[part, None] - column)
        return np.sqrt(squared), np.ones_like(squared)
    squared, shared = np.zeros((len(y[part]), len(y))), np.zeros((len(y[part]), len(y)))
    for column, seen in zip(y.T, present.T, strict=True):
        both = seen[part, None] & seen
        squared += np.where(both, np.square(column[part, None] - column), 0)
        shared += both
    known = shared > 0
    return np.sqrt(np.where(known, squared * d / np.where(known, shared, 1), 0)), known.astype(np.float64)


class ClassificationTable(NamedTuple):
    """What `classification_table` returns."""

    counts: np.ndarray  # (G, K) sum of weights of the rows of a group times the probability of a component
    rows: tuple[str, ...]  # (G,) names of the groups
    columns: tuple[str, ...]  # (K,) names of the components
    error: float  # share of the weights off the pairs of groups and components that agree best

    def __str__(self) -> str:
        lines = [[name, *(f"{value:.2f}" for value in row), f"{row.sum():.2f}"]
                 for name, row in zip(self.rows, self.counts, strict=True)]  # fmt: skip
        total = ["total", *(f"{value:.2f}" for value in self.counts.sum(axis=0)), f"{self.counts.sum():.2f}"]
        return text_table(["", *self.columns, "total"], [*lines, total]) + f"\nclassification error {number(self.error)}"

    def to_dataframe(self) -> Any:
        """A pandas data frame of the counts (pandas must be installed)."""
        import pandas as pd

        return pd.DataFrame(self.counts, index=list(self.rows), columns=list(self.columns))


def classification_table(found: Any, labels: Any = None, weights: Any = None) -> ClassificationTable:
    """Rows by group and component, and the share that is classified wrongly.

    Without labels, rows are grouped by their likeliest component, and the error is what one expects of that assignment,
    1 - sum_i w_i max_k r_ik / sum_i w_i. With labels, each group goes with one component at most such that the error is least
    (by the Hungarian algorithm).

    Args:
        found: responsibilities (n, K) of a fit, or labels (n,) of another grouping.
        labels: (n,) known groups, numbers or texts; None for the likeliest component.
        weights: (n,) numbers >= 0.

    Raises:
        TypeError, ValueError: other shapes; numbers that are no probabilities; bad weights.
    """
    if np.ndim(found) == 2 and not hasattr(found, "columns"):
        r = np.asarray(found, np.float64)
        if r.size == 0 or not (np.isfinite(r).all() and (r >= 0).all() and np.allclose(r.sum(axis=1), 1, atol=1e-4)):
            raise ValueError("found: is (n, K) and no responsibilities; give rows of probabilities that sum to 1, or labels (n,).")
        columns = tuple(str(k) for k in range(r.shape[1]))
    else:
        columns, group = _labels(found, "found")
        if labels is None:
            raise ValueError("labels: are needed beside labels; without them give responsibilities (n, K) of a fit.")
        r = np.eye(len(columns))[group]
    w = np.asarray(check_weights(weights, len(r), np.float64), np.float64)
    rows, own = (columns, r.argmax(axis=1)) if labels is None else _labels(labels, "labels", len(r))
    counts = np.zeros((len(rows), len(columns)))
    np.add.at(counts, own, w[:, None] * r)
    if labels is None:
        return ClassificationTable(counts, rows, columns, float(max(0.0, 1 - np.trace(counts) / w.sum())))
    size = max(counts.shape)
    square = np.zeros((size, size))
    square[: counts.shape[0], : counts.shape[1]] = counts
    agreed = square[np.arange(size), assign(-square)].sum()
    return ClassificationTable(counts, rows, columns, float(max(0.0, 1 - agreed / w.sum())))


def adjusted_rand_index(first: Any, second: Any) -> float:
    """Agreement of two groupings, corrected for chance (Hubert and Arabie 1985, J. Classification 2:193).

    With n_ij rows in group i of the first and j of the second, and C(m) = m (m - 1) / 2 pairs among m,

        (sum_ij C(n_ij) - e) / ((sum_i C(n_i.) + sum_j C(n_.j)) / 2 - e),   e = sum_i C(n_i.) sum_j C(n_.j) / C(n):

    1 where they are the same but for names, 0 on average where they have nothing to do with each other. Two groupings
    without any pair to agree on (all rows in one group, or each alone, in both) have 1.

    Args:
        first, second: (n,) groups, numbers or texts.

    Raises:
        TypeError, ValueError: no labels, or different lengths.
    """
    _, a = _labels(first, "first")
    _, b = _labels(second, "second", len(a))
    cells, places = np.unique(np.stack([a, b]), axis=1, return_inverse=True)
    del cells

    def pairs(group: np.ndarray) -> int:
        return sum(math.comb(int(count), 2) for count in np.bincount(group))  # whole numbers: exact

    both, ours, theirs, every = pairs(places.ravel()), pairs(a), pairs(b), math.comb(len(a), 2)
    # above and below times 2 C(n)
    above, below = 2 * (both * every - ours * theirs), (ours + theirs) * every - 2 * ours * theirs
    return 1.0 if below == 0 else above / below


def _labels(labels: Any, name: str, n: int | None = None) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the groups in order, and (n,) which group each row is in."""
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: found shape {array.shape}; give labels (n,), one for each row.")
    if n is not None and len(array) != n:
        raise ValueError(f"{name}: found {len(array)} labels for {n} rows; give one for each.")
    objects = array.dtype.kind == "O" and any(each is None or each != each for each in array)
    if objects or (array.dtype.kind == "f" and np.isnan(array).any()):
        raise ValueError(f"{name}: some are missing; leave these rows out, or give them a group of their own.")
    array = array if array.dtype.kind in "biufUS" else np.array([str(each) for each in array])
    names, group = np.unique(array, return_inverse=True)
    return tuple(str(each) for each in names.tolist()), group.ravel()
