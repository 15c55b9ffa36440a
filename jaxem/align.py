"""Labels of latent states are arbitrary: bring them to a reference."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxem.checks import is_traced
from jaxem.coordinates import named, no_fit


def align(params: Any, reference: Any, *, model: Any = None) -> Any:
    """`params` with states relabelled to match `reference` (Hungarian assignment).

    The cost of a pair is the squared distance of all its component params, each number scaled by its spread over the
    states of both; leaves that all states share, and those that tie states together, play no part.

    Args:
        params: of a model with K states.
        reference: of the same model and shapes.
        model: the model that both belong to, whose domains say which axes run over states. Without it, `params` are those of
            a mixture, and a leaf runs over the states if its first axis is K long.

    Raises:
        ValueError: different structure or shapes, or traced params.
    """
    if is_traced((params, reference)):
        raise ValueError("params: are traced; align concrete params, outside of jit.")
    no_fit(params)
    no_fit(reference, "reference")
    found: Any = jax.tree.structure(params)
    if found != jax.tree.structure(reference):
        raise ValueError(f"reference: found {named(reference)} for params {named(params)}.")
    pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(reference), strict=True))
    for ours, theirs in pairs:
        if np.shape(ours) != np.shape(theirs):
            raise ValueError(f"reference: found a leaf of shape {np.shape(theirs)} for one of shape {np.shape(ours)}.")
    if model is not None:
        return params if model.n_states == 1 else model.relabel(params, order_towards(model, params, reference))
    n_states = params.weights.shape[0]
    inner = list(zip(jax.tree.leaves(params.components), jax.tree.leaves(reference.components), strict=True))
    order = _match([pair for pair in inner if _by_state(*pair, n_states)], n_states)
    components = jax.tree.map(
        lambda ours, theirs: ours[order] if _by_state(ours, theirs, n_states) else ours, params.components, reference.components
    )
    return params._replace(weights=params.weights[order], components=components)


def order_towards(model: Any, params: Any, reference: Any) -> np.ndarray:
    """(K,) order of the states of `params`, of `model`, that brings them next to those of `reference`, as `align` does."""
    return orders_towards(model, jax.tree.map(lambda leaf: np.asarray(leaf)[None], params), reference)[0]


def orders_towards(model: Any, params: Any, reference: Any) -> np.ndarray:
    """(B, K) the same for params whose leaves have a leading axis B; the order as it is where params are not finite."""
    count, k = len(jax.tree.leaves(params)[0]), model.n_states
    order = np.broadcast_to(np.arange(k), (count, k)).copy()
    if k == 1:
        return order
    pairs = list(zip(jax.tree.leaves(params), (np.asarray(leaf)[None] for leaf in jax.tree.leaves(reference)), strict=True))
    cost = _costs(_by_domain(model, pairs), k)
    finite = np.isfinite(cost).all((1, 2))
    settled = (cost.argmin(axis=2) == np.arange(k)).all(axis=1)  # each state is nearest to its own: no order is better
    for i in np.flatnonzero(finite & ~settled):
        order[i] = assign(cost[i])
    return order


def _by_domain(model: Any, pairs: list[Any]) -> list[Any]:
    """Leaves of the family that run over the states; where the family has none, all that do."""
    domains = jax.tree_util.tree_flatten_with_path(getattr(model, "free_domains", model.domains))[0]
    running = [(path, pair) for (path, domain), pair in zip(domains, pairs, strict=True) if domain.state_axes == (0,)]
    inner = [pair for path, pair in running if len(path) > 1]
    return inner or [pair for _, pair in running]


def _match(pairs: list[Any], n_states: int) -> np.ndarray:
    """Order of the states of the first of each pair that brings them next to the second."""
    return assign(_costs([(np.asarray(ours)[None], np.asarray(theirs)[None]) for ours, theirs in pairs], n_states)[0])


def _costs(pairs: list[Any], n_states: int) -> np.ndarray:
    """(B, K, K) squared distances of each state of the second of pairs (1, K, ...) from those of the first (B, K, ...)."""
    cost: Any = np.zeros((len(pairs[0][0]) if pairs else 1, n_states, n_states))
    for ours, theirs in pairs:
        if ours.size == 0:  # what a model does without, such as an intercept
            continue
        a, b = (np.asarray(leaf, np.float64).reshape(len(leaf), n_states, -1) for leaf in (ours, theirs))
        scale = np.concatenate([a, np.broadcast_to(b, a.shape)], axis=1).std(axis=1)
        scale = np.where(scale > 0, scale, 1)[:, None, None]
        cost = cost + np.square((b[:, :, None] - a[:, None]) / scale).mean(axis=-1)
    return cost


def _by_state(ours: jax.Array, theirs: jax.Array, n_states: int) -> bool:
    """Whether a leaf runs over the states. A symmetric K x K matrix is a covariance that they share, where d = K."""
    if ours.ndim == 0 or ours.shape[0] != n_states:
        return False
    square = ours.ndim == 2 and ours.shape[0] == ours.shape[1] > 1
    return not (square and np.array_equal(ours, ours.T) and np.array_equal(theirs, theirs.T))


def assign(cost: np.ndarray) -> np.ndarray:
    """Column for each row of a square cost matrix, least total cost: shortest augmenting paths (Jonker and Volgenant 1987)."""
    n = cost.shape[0]
    row_of = np.full(n + 1, -1)  # row matched to each column; the last column is the root of the search
    potential_row, potential_column = np.zeros(n), np.zeros(n + 1)
    for row in range(n):
        row_of[n], column = row, n
        shortest, way = np.full(n, np.inf), np.full(n, n)
        visited = np.zeros(n + 1, bool)
        while row_of[column] >= 0:
            visited[column] = True
            current = row_of[column]
            reduced = cost[current] - potential_row[current] - potential_column[:n]
            better = ~visited[:n] & (reduced < shortest)
            shortest[better], way[better] = reduced[better], column
            nearest = int(np.argmin(np.where(visited[:n], np.inf, shortest)))
            step = shortest[nearest]
            seen = np.flatnonzero(visited)
            potential_row[row_of[seen]] += step
            potential_column[seen] -= step
            shortest[~visited[:n]] -= step
            column = nearest
        while column != n:
            previous = way[column]
            row_of[column] = row_of[previous]
            column = previous
    order = np.empty(n, int)
    order[row_of[:n]] = np.arange(n)
    return order
