"""Agglomerative hierarchical clustering by the classification likelihood, on the host.

Rows begin as clusters of their own; the pair whose merger costs a criterion least is merged, until one cluster is left. With
clusters of weight n_k, mean m_k and scatter W_k about it, d columns, and A = tr(W) / (n d) of all rows (Banfield and Raftery 1993,
Biometrics 49:803; Fraley 1998, SIAM J. Sci. Comput. 20:270):

    EII    sum_k tr(W_k)                                     Ward's criterion: spheres of one size
    VVV    sum_k n_k log(|W_k / n_k| + (tr(W_k) + A) / n_k)  any ellipsoids; the trace stands in where rows are too few

Distances are held for all pairs, and the nearest of each cluster, so that m rows take O(m^2) memory and about as many operations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CRITERIA = ("VVV", "EII")


class Clusters(NamedTuple):
    """Clusters along the last axis, so that all pairs with one of them are single operations on long vectors."""

    weight: np.ndarray  # (m,)
    size: np.ndarray  # (m,) rows
    mean: np.ndarray  # (d, m)
    scatter: np.ndarray  # (d, d, m) about the mean; (0, 0, m) where the criterion needs none
    own: np.ndarray  # (m,) the cluster's term of the criterion


def merge_order(points: np.ndarray, weights: np.ndarray, criterion: str = "VVV") -> np.ndarray:
    """(m - 1, 2) which clusters are merged, first to last: the second of a pair joins the first, whose number it is from then on.

    Args:
        points: (m, d) complete rows.
        weights: (m,) numbers > 0; their sum counts (VVV: rows as many as their weights say).
        criterion: one of `CRITERIA`.
    """
    m, d = points.shape
    alone = np.zeros((d, d, m)) if criterion == "VVV" else np.zeros((0, 0, m))
    clusters = Clusters(np.array(weights, np.float64), np.ones(m, int), points.T.astype(np.float64), alone, np.zeros(m))
    typical = _typical(points, weights)
    clusters.own[:] = _term(clusters, typical)
    costs = np.full((m, m), np.inf)
    for i in range(m - 1):
        costs[i, i + 1 :] = costs[i + 1 :, i] = _joined(clusters, i, np.arange(i + 1, m), typical)[1]
    nearest = costs.argmin(axis=1)
    least = costs[np.arange(m), nearest]
    alive, order = np.arange(m), np.empty((m - 1, 2), int)
    for step in range(m - 1):
        i = alive[least[alive].argmin()]
        i, j = sorted((i, nearest[i]))
        order[step] = i, j
        both, _ = _joined(clusters, i, np.array([j]), typical)
        for old, new in zip(clusters, both, strict=True):
            old[..., i] = new[..., 0]
        alive = alive[alive != j]
        costs[j], costs[:, j], least[j] = np.inf, np.inf, np.inf
        others = alive[alive != i]
        costs[i, others] = costs[others, i] = _joined(clusters, i, others, typical)[1]
        stale = alive[np.isin(nearest[alive], (i, j)) | (alive == i)]  # their nearest is another now, or nobody
        closer = others[costs[i, others] < least[others]]
        nearest[closer], least[closer] = i, costs[i, closer]
        nearest[stale] = costs[stale].argmin(axis=1)
        least[stale] = costs[stale, nearest[stale]]
    return order


def cut(order: np.ndarray, n_clusters: int) -> np.ndarray:
    """(m,) clusters 0, 1, ... of the rows where so many are left (m of them where there are fewer rows), by their first rows."""
    m = len(order) + 1
    label = np.arange(m)
    for i, j in order[: max(m - n_clusters, 0)]:
        label[label == j] = i
    return np.unique(label, return_inverse=True)[1]


def _typical(points: np.ndarray, weights: np.ndarray) -> float:
    """A: the variance of a column, on average; 1 where all rows are one point."""
    away = points - weights @ points / weights.sum()
    return float((weights @ np.square(away)).mean() / weights.sum()) or 1.0


def _joined(clusters: Clusters, i: int, others: np.ndarray, typical: float) -> tuple[Clusters, np.ndarray]:
    """Cluster i merged with each of the others, and what each merger costs the criterion."""
    weight = clusters.weight[i] + clusters.weight[others]
    share = clusters.weight[others] / weight
    away = clusters.mean[:, others] - clusters.mean[:, i, None]
    between = clusters.weight[i] * share
    size, mean = clusters.size[i] + clusters.size[others], clusters.mean[:, i, None] + share * away
    if not clusters.scatter.size:
        cost = between * np.square(away).sum(axis=0)
        return Clusters(weight, size, mean, clusters.scatter[..., others], clusters.own[i] + clusters.own[others] + cost), cost
    scatter = clusters.scatter[..., i, None] + clusters.scatter[..., others] + between * away * away[:, None]
    found = Clusters(weight, size, mean, scatter, np.zeros(len(others)))
    found.own[:] = _term(found, typical)
    return found, found.own - clusters.own[i] - clusters.own[others]


def _term(clusters: Clusters, typical: float) -> np.ndarray:
    """(m,) n log(|W / n| + (tr W + A) / n) of each cluster; 0 for Ward's criterion, whose clusters begin at 0."""
    if not clusters.scatter.size:
        return np.zeros(len(clusters.weight))
    d = len(clusters.mean)
    trace = np.einsum("jjm->m", clusters.scatter)
    known = np.log((trace + typical) / clusters.weight)
    whole = clusters.size > d  # others have no volume
    volume = log_determinant(clusters.scatter[..., whole]) - d * np.log(clusters.weight[whole])
    known[whole] = np.logaddexp(volume, known[whole])
    return clusters.weight * known


def log_determinant(matrices: np.ndarray) -> np.ndarray:
    """(m,) of symmetric positive semidefinite matrices (d, d, m); -inf where one is singular to rounding."""
    left, total = matrices, np.zeros(matrices.shape[-1])
    d = len(matrices)
    floor = d * np.finfo(np.float64).eps * np.einsum("jjm->jm", matrices)
    for j in range(d):
        pivot = left[0, 0]
        sound = pivot > floor[j]
        pivot = np.where(sound, pivot, 1.0)
        total += np.where(sound, np.log(pivot), -np.inf)
        row = left[0, 1:]
        left = left[1:, 1:] - row * (row / pivot)[:, None]
    return total
