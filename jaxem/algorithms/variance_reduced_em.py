r"""Stochastic EM with variance reduction: online EM whose batches are corrected by what they said at the start of the step.

A step looks at every part at theta~, the params it begins with, keeps the statistics s_B(theta~), and begins as EM does: s is
their sum, theta = M(s). Then for each of the N parts, in random order, s <- (1 - g) s + g (N s_B(theta) - N s_B(theta~) + sum of
s_B(theta~)) and theta = M(s) (sEM-vr: Chen, Zhu, Teh and Zhang 2018, NeurIPS 31; Karimi, Wai, Moulines and Lavielle 2019, NeurIPS
32). As theta settles, the correction takes away all that the choice of B adds, so that a constant gain g converges to a fixed point
of EM, and linearly near it.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem import parts
from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.cycle import select
from jaxem.algorithms.mixing import check_mixable, moved
from jaxem.checks import check_count
from jaxem.reduce import zeros


class VarianceReducedState(NamedTuple):
    """State of `variance_reduced_em`."""

    params: Any  # the model's params
    key: jax.Array  # of the orders to come


class _Settings(NamedTuple):
    n_blocks: int
    gain: float


def variance_reduced_em(n_blocks: int = 20, gain: float = 0.3) -> Algorithm:
    """Corrected batches: a step costs two passes, one at its start, which gives the objective, and one over the parts.

    Not monotone: it converges in the mean, to a fixed point of EM at which it stays. An M-step that would collapse a component or
    leave the params' domain is left out.

    Args:
        n_blocks: parts of even size, each from all over the data; as many sets of statistics are kept during a step.
        gain: g in (0, 1]: how much a corrected part moves the statistics.

    Raises:
        TypeError, ValueError: n_blocks not a whole number >= 1; gain not a number in (0, 1]; when a fit begins, more parts than
            rows or sequences, or a model whose statistics are an expansion about params.
    """
    if isinstance(gain, bool) or not isinstance(gain, (int, float)):
        raise TypeError(f"gain: found {type(gain).__name__}; give a number in (0, 1].")
    if not 0 < gain <= 1:
        raise ValueError(f"gain: found {gain}; give a number in (0, 1].")
    return _make(_Settings(check_count(n_blocks, "n_blocks"), float(gain)))


@lru_cache
def _make(settings: _Settings) -> Algorithm:
    return Algorithm(partial(_init, settings), partial(_step, settings), monotone=False)


def _init(settings: _Settings, model: Any, params: Any, data: Any, key: jax.Array) -> VarianceReducedState:
    check_mixable(model, "variance_reduced_em")
    parts.check_parts(data, settings.n_blocks, "n_blocks")
    return VarianceReducedState(params, key)


class _Visit(NamedTuple):
    """A step under way."""

    params: Any
    running: Any  # the statistics that params follow from
    known: Any  # of each part at the params that the step began with
    whole: Any  # their sum
    told: jax.Array  # () log-likelihood of the parts seen at those params


def _step(settings: _Settings, model: Any, state: VarianceReducedState, data: Any) -> tuple[VarianceReducedState, Info]:
    count, gain = settings.n_blocks, settings.gain
    local = model.localize(state.params, data, shared=True)
    key, own = jax.random.split(state.key)

    def visit(now: _Visit, given: tuple[jax.Array, jax.Array]) -> tuple[_Visit, None]:
        """The first `count` visits look at all parts where the step began, the others move; one loop, so that the E-step is
        compiled once."""
        number, index = given
        looking = number < count
        found, log_likelihood = local.e_step(now.params, parts.part(data, index, count))
        old = jax.tree.map(lambda leaf: leaf[index], now.known)
        known = jax.tree.map(lambda leaf, new: leaf.at[index].set(jnp.where(looking, new, leaf[index])), now.known, found)
        whole = jax.tree.map(lambda total, new: jnp.where(looking, total + new, total), now.whole, found)
        running = jax.tree.map(
            lambda s, new, old, all_old: jnp.where(looking, all_old, s + gain * (count * (new - old) + all_old - s)),
            now.running, found, old, whole,
        )  # fmt: skip
        params = select(number < count - 1, now.params, moved(local, now.params, running, data))
        told = now.told + jnp.where(looking, log_likelihood, 0).astype(data.dtype)
        return _Visit(params, running, known, whole, told), None

    shapes = jax.eval_shape(lambda: local.e_step(state.params, parts.part(data, 0, count)).statistics)
    many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), shapes)
    begin = _Visit(state.params, zeros(shapes), zeros(many), zeros(shapes), jnp.zeros((), data.dtype))
    order = jnp.concatenate([jnp.arange(count), jax.random.permutation(own, count)])
    end, _ = jax.lax.scan(visit, begin, (jnp.arange(2 * count), order))
    objective = end.told + model.log_prior(state.params)
    return VarianceReducedState(end.params, key), Info(end.told, objective, 2 * parts.passes(data, count))
