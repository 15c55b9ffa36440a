"""A start from clusters of a sample of rows, merged one by one: see `jaxem.multi_start.hierarchical`. On the host."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms.algorithm import Algorithm
from jaxem.kernels.agglomeration import cut, merge_order
from jaxem.lanes import begin, drive
from jaxem.model import Model
from jaxem.result import Stop
from jaxem.rows import Rows
from jaxem.run import Run

NEIGHBOURS = 10  # rows whose mean stands in for a missing cell
DIRECTIONS = 10  # of the rows, at most, where determinants are taken


def check(model: Any, params: Any) -> None:
    """Raises where starts are not from clusters of rows, or there is one already."""
    if params is not None:
        raise ValueError("params: is one start, and this search finds its own; drop params=, or leave out search=.")
    if getattr(type(model), "start_points", Model.start_points) is Model.start_points:
        found = type(model).__name__
        raise TypeError(f"search: {found} does not start from clusters of rows; take restarts=, or a Mixture or HiddenMarkov.")


def explore(
    sample: int,
    criteria: tuple[str, ...],
    model: Any,
    rows: Rows,
    key: jax.Array,
    params: Any,
    algorithm: Algorithm,
    stop: Stop,
    progress: Any,
) -> Run:
    """A lane from the clusters by each criterion, run to its end."""
    del params
    points, weights = np.asarray(model.start_points(rows)), np.asarray(rows.pilot_weights)
    each = [memberships(points, weights, key, model.n_states, sample, criterion) for criterion in criteria]
    starts = [model.init(key, rows, jnp.asarray(r, rows.dtype)) for r in each]
    lanes = begin(model, jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), rows, key, algorithm, None)
    return drive(model, lanes, rows, None, stop, algorithm, progress)


def memberships(
    points: np.ndarray, weights: np.ndarray, key: jax.Array, n_states: int, sample: int, criterion: str
) -> np.ndarray:
    """(n, K) 1 where a row of the sample is in the cluster, else 0; the others are left to the first E-step."""
    chosen = np.flatnonzero(weights > 0)
    if len(chosen) > sample:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        chosen = np.sort(rng.choice(chosen, sample, replace=False))
    out = np.zeros((len(points), n_states))
    if chosen.size:  # else no row that starts look at counts
        own = np.asarray(weights[chosen], np.float64)
        own = own / own.mean()
        ready = fill(np.asarray(points[chosen], np.float64))
        ready = ready if criterion == "EII" else rescale(ready, own)
        out[chosen, cut(_order(ready.tobytes(), own.tobytes(), criterion), n_states)] = 1
    return out


@lru_cache(maxsize=4)
def _order(points: bytes, weights: bytes, criterion: str) -> np.ndarray:
    """The merges of these rows: found once for all numbers of clusters, and for all models that see the rows alike."""
    own = np.frombuffer(weights)
    return merge_order(np.frombuffer(points).reshape(len(own), -1), own, criterion)


def fill(points: np.ndarray) -> np.ndarray:
    """Missing cells as the mean of the `NEIGHBOURS` nearest rows that have them (Troyanskaya et al. 2001), near in the cells that
    both have (partial distance, Dixon 1979)."""
    seen = ~np.isnan(points)
    lacking = np.flatnonzero(~seen.all(axis=1))
    if not lacking.size:
        return points
    centre = np.where(seen, points, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    x, observed = np.where(seen, points - centre, 0), seen.astype(np.float64)
    here = x[lacking]
    apart = np.square(here) @ observed.T + observed[lacking] @ np.square(x).T - 2 * here @ x.T
    both = observed[lacking] @ observed.T
    apart = np.where(both > 0, apart / np.maximum(both, 1), np.inf)
    out = x.copy()
    for column in np.flatnonzero(~seen.all(axis=0)):
        own, givers = ~seen[lacking, column], np.flatnonzero(seen[:, column])
        if givers.size:
            nearest = np.argsort(apart[own][:, givers], axis=1, kind="stable")[:, :NEIGHBOURS]
            out[lacking[own], column] = x[givers, column][nearest].mean(axis=1)
    return out + centre


def rescale(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rows along their principal directions, each divided by the root of its deviation (Scrucca and Raftery 2015, Adv. Data
    Anal. Classif. 9:447); directions in which they do not differ are dropped."""
    away = points - weights @ points / weights.sum()
    root = np.sqrt(weights / weights.sum())[:, None]
    _, deviation, directions = np.linalg.svd(root * away, full_matrices=False)
    kept = np.flatnonzero(deviation > len(deviation) * 1e-8 * max(deviation[0], 1e-300))[:DIRECTIONS]
    if not kept.size:  # all rows are one point
        return away[:, :1]
    return away @ directions[kept].T / np.sqrt(deviation[kept])
