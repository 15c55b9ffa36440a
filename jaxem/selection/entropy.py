"""How uncertain the latent states are, given the data and a fit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.rows import Rows


def entropy(responsibilities: Any, weights: Any = None) -> float:
    """-sum_i w_i sum_k r_ik log r_ik of responsibilities (n, K) under weights (n,); 0 log 0 is 0."""
    r = np.asarray(responsibilities, np.float64)
    each = -(r * np.log(np.where(r > 0, r, 1))).sum(axis=1)
    return float(each.sum() if weights is None else np.asarray(weights, np.float64) @ each)


def entropy_r2(responsibilities: Any, weights: Any = None) -> float:
    """1 - sum_i w_i sum_k (-r_ik log r_ik) / (sum_i w_i log K), of responsibilities (n, K); 1 for one class."""
    r = np.asarray(responsibilities)
    return share_known(entropy(r, weights), r.shape[1], float(len(r) if weights is None else np.sum(weights)))


def share_known(uncertain: float, n_states: int, n: float) -> float:
    """1 - entropy / (n log K), between 0 (the data say nothing of the states) and 1 (every state is certain); 1 for K = 1."""
    return 1.0 if n_states == 1 else 1 - uncertain / (n * float(np.log(n_states)))


def state_entropy(model: Any, params: Any, rows: Rows) -> float:
    """Entropy of the discrete latent states given prepared data under their weights: 0 where there is one state.

    In independent rows -sum_i w_i sum_k r_ik log r_ik. In sequences that of the whole path, -sum_z p(z | y) log p(z | y), which
    is less than the sum over the steps, as neighbours tell of each other (Celeux and Durand 2008). With log F_z the sum of the
    factors that p(y, z) is a product of, it is log p(y) - E[log F_z | y], whose expectation is the factors times the
    derivatives of log p(y) by them. NaN where a model does not say its factors.
    """
    if model.n_states == 1:
        return 0.0
    if rows.lanes is None:
        return entropy(model.posterior(params, rows), rows.weights)
    try:
        return float(_path_entropy(model.settle(params, rows), params, rows))
    except TypeError:  # the states are not the model's own discrete ones
        return float("nan")


@jax.jit
def _path_entropy(model: Any, params: Any, rows: Rows) -> jax.Array:
    factors = model.factors(params, rows)
    known, slope = jax.value_and_grad(lambda factors: model.evidence(factors, rows))(factors)

    def expected(slope: jax.Array, factor: jax.Array) -> jax.Array:
        possible = jnp.isfinite(factor) & (slope != 0)
        return jnp.where(possible, slope * jnp.where(possible, factor, 0), 0).sum()

    return known - sum(jax.tree.leaves(jax.tree.map(expected, slope, factors)))
