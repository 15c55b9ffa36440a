"""What is read off models whose state at a step is that of a chain with more states: a regime with those before it, or its age."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxem import coordinates
from jaxem.assign import uniforms
from jaxem.checks import as_key
from jaxem.data import as_rows
from jaxem.factors import ChainFactors
from jaxem.kernels import chain, structured_chain
from jaxem.kernels.chain import Chain
from jaxem.kernels.structured_chain import LOGS
from jaxem.rows import Rows
from jaxem.steps import lane_weights, states_to_rows, to_rows


class PathReadings(ChainFactors):
    """Probabilities of the K states of a model that has `_links(params, rows)`, what recursions run over."""

    sequential = True  # raw data may be several sequences

    def posterior(self, params: Any, data: Any) -> jax.Array:
        """Smoothed probabilities p(z_t | the whole sequence), (n, K) in input order."""
        return self.smooth(params, data)

    def smooth(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..T) of each step, (n, K) in input order."""
        return _read(self, params, data, _smoothed)

    def filter(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..t) of each step, (n, K) in input order."""
        return _read(self, params, data, _filtered)

    def predict(self, params: Any, data: Any) -> jax.Array:
        """p(z_t | y_1..t-1) of each step, (n, K) in input order."""
        return _read(self, params, data, _predicted)

    def viterbi(self, params: Any, data: Any) -> jax.Array:
        """(n,) the likeliest path of each sequence (Viterbi 1967), input order."""
        return _read(self, params, data, _likeliest)

    def posterior_sample(self, key: Any, params: Any, data: Any) -> jax.Array:
        """(n,) a path of each sequence drawn from p(z | y), input order."""
        return _read(self, params, data, jax.tree_util.Partial(_drawn, as_key(key)))


def _read(model: Any, params: Any, data: Any, what: Any) -> jax.Array:
    rows = as_rows(model, data)
    return _read_rows(model.settle(params, rows), params, rows, jax.tree_util.Partial(what))


@jax.jit
def _read_rows(model: Any, params: Any, rows: Rows, what: Any) -> jax.Array:
    return what(model._links(coordinates.cast(params, rows.dtype), rows), rows)


def present(states: jax.Array, k: int) -> jax.Array:
    """(T, *states, B) -> (T, K, B): summed over all but the state of the step itself, which is the most significant."""
    return states.reshape(states.shape[0], k, -1, states.shape[-1]).sum(axis=2)


def _smoothed(links: Any, rows: Rows) -> jax.Array:
    weights = lane_weights(rows)
    found = chain.smooth(links, weights).state if isinstance(links, Chain) else structured_chain.smooth(links, weights).told
    return states_to_rows(present(found, len(links.initial)), rows)


def _filtered(links: Any, rows: Rows) -> jax.Array:
    found = chain.filtered(links).state if isinstance(links, Chain) else jnp.exp(structured_chain.log_filtered(links))
    return states_to_rows(present(found, len(links.initial)), rows)


def ahead(links: Any) -> jax.Array:
    """(T, *states, B) probabilities of all states of the chain at each step given the steps before it."""
    if isinstance(links, Chain):
        state, begin, push = chain.filtered(links).state, links.initial[:, None], partial(chain.across, links.transition)
    else:
        state, begin = structured_chain.log_filtered(links), links.begin(LOGS)
        push = partial(links.push, LOGS)
    moved = jax.lax.map(push, jnp.concatenate([state[:1], state[:-1]]))
    first = links.first.reshape(len(state), *(1 for _ in state.shape[1:-1]), -1)
    found = jnp.where(first, begin, moved)
    return found if isinstance(links, Chain) else jnp.exp(found)


def _predicted(links: Any, rows: Rows) -> jax.Array:
    return states_to_rows(present(ahead(links), len(links.initial)), rows)


def _likeliest(links: Any, rows: Rows) -> jax.Array:
    path = chain.likeliest(links)[0] if isinstance(links, Chain) else _own(links, structured_chain.likeliest(links)[0])
    return to_rows(path, rows)


def _drawn(key: jax.Array, links: Any, rows: Rows) -> jax.Array:
    chance = uniforms(key, rows.lanes.slot, rows.dtype)
    path = chain.draw(chance, links) if isinstance(links, Chain) else _own(links, structured_chain.draw(chance, links))
    return to_rows(path, rows)


def _own(links: Any, place: jax.Array) -> jax.Array:
    """The state of the step itself, from the flat index of all."""
    return place // (links.begin(structured_chain.SCALED).size // len(links.initial))
