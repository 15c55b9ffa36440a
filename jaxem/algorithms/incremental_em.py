r"""Incremental EM: the statistics of every part of the data are kept, and the M-step follows each part's E-step.

With q the conditional distribution of what is latent, EM climbs F(q, theta) = E_q log p(y, z; theta) + entropy of q by turns, and F
may as well be climbed part by part: the E-step of part B replaces its term in the sum of statistics, and theta moves at once (Neal
and Hinton 1998, in Learning in Graphical Models, 355). F never falls, never exceeds log-likelihood + log prior, and equals it at a
fixed point. Part B's share of the entropy is log p(y_B; theta_B) - Q(theta_B; s_B), known from the E-step in which s_B was found.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem import parts
from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.mixing import check_mixable
from jaxem.checks import check_count


class IncrementalState(NamedTuple):
    """State of `incremental_em`."""

    params: Any  # the model's params
    statistics: Any  # of each part, leaves lead with n_blocks
    entropy: jax.Array  # (n_blocks,) what F has of each part besides Q
    anchor: Any  # params in whose coordinates statistics are taken
    spent: jax.Array  # () int32, passes of the opening that have not been told yet


def incremental_em(n_blocks: int = 20) -> Algorithm:
    """EM part by part: a step is an E-step and an M-step for each part in turn, one pass; a pass more opens it.

    Monotone in F, which is the objective told of each step: a lower bound of log-likelihood + log prior that is exact at a fixed
    point. What is returned is evaluated on all rows. The log-likelihood itself may fall from step to step. Where the data are many,
    some twenty parts need a fraction of the passes of `em()`, since params move as often as there are parts.

    Args:
        n_blocks: parts of even size, each from all over the data; as many sets of statistics are kept.

    Raises:
        TypeError, ValueError: n_blocks not a whole number >= 1; when a fit begins, more parts than rows or sequences, or a model
            whose statistics are an expansion about params.
    """
    return _make(check_count(n_blocks, "n_blocks"))


@lru_cache
def _make(n_blocks: int) -> Algorithm:
    return Algorithm(partial(_init, n_blocks), partial(_step, n_blocks))


def _init(n_blocks: int, model: Any, params: Any, data: Any, key: jax.Array) -> IncrementalState:
    del key
    check_mixable(model, "incremental_em")
    count = parts.check_parts(data, n_blocks, "n_blocks")
    local = model.localize(params, data, shared=True)

    def one(index: jax.Array) -> tuple[Any, jax.Array]:
        return _look(local, params, parts.part(data, index, count))

    statistics, entropy = jax.lax.map(one, jnp.arange(count))
    return IncrementalState(params, statistics, entropy, params, jnp.asarray(parts.passes(data, count), jnp.int32))


def _look(local: Any, params: Any, rows: Any) -> tuple[Any, jax.Array]:
    """Statistics of a part, and its share of the entropy."""
    statistics, log_likelihood = local.e_step(params, rows)
    return statistics, (log_likelihood - local.expected_log_joint(params, statistics)).astype(rows.dtype)


def free_energy(local: Any, state: IncrementalState) -> jax.Array:
    """() F, without the log prior, of a model localized at the anchor."""
    return local.expected_log_joint(state.params, total(state.statistics)) + state.entropy.sum()


def total(statistics: Any) -> Any:
    """Sums over parts."""
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), statistics)


def _step(n_blocks: int, model: Any, state: IncrementalState, data: Any) -> tuple[IncrementalState, Info]:
    local = model.localize(state.anchor, data, shared=True)
    bound = free_energy(local, state).astype(data.dtype)
    whole = total(state.statistics)

    def visit(carry: tuple[Any, Any], given: tuple[jax.Array, Any]) -> tuple[tuple[Any, Any], Any]:
        params, whole = carry
        index, known = given
        found, entropy = _look(local, params, parts.part(data, index, n_blocks))
        whole = jax.tree.map(lambda s, new, old: s + (new - old), whole, found, known)
        return (local.m_step(params, whole), whole), (found, entropy)

    begin = local.m_step(state.params, whole), whole
    (params, _), (statistics, entropy) = jax.lax.scan(visit, begin, (jnp.arange(n_blocks), state.statistics))
    cost = parts.passes(data, n_blocks) + state.spent
    new = IncrementalState(params, statistics, entropy, state.anchor, jnp.zeros_like(state.spent))
    return new, Info(bound, bound + model.log_prior(state.params), cost)
