r"""Online EM: params move after every batch, on statistics that forget.

After batch B of b rows the running statistics of the n rows are s <- s + g_k (n/b s_B(theta) - s), g_k = k^-exponent, and theta
is M(s): stochastic approximation of the fixed point of EM in the space of statistics (Cappe and Moulines 2009, JRSS-B 71:593; Liang
and Klein 2009, NAACL). It converges to a stationary point of the likelihood for exponents in (0.5, 1]; the average of the params
does so at the best rate whatever the exponent (Polyak and Juditsky 1992, SIAM J. Control Optim. 30:838). Early params are forgotten
by weights that grow like k^3 (polynomial-decay averaging, Shamir and Zhang 2013, ICML): 94% of the average is the last half.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem import parts
from jaxem.algorithms.algorithm import Algorithm, Conclusion, Info, last
from jaxem.algorithms.cycle import select
from jaxem.algorithms.mixing import check_mixable, moved, sound
from jaxem.checks import check_count
from jaxem.reduce import zeros

DECAY = 3  # the power of k that weighs params in their average
ROWS_PER_PARAMETER = 2  # rows seen before the first M-step, for each free parameter


class OnlineState(NamedTuple):
    """State of `online_em`."""

    params: Any  # the model's params
    statistics: Any  # running, on the scale of all rows
    average: jax.Array  # (P,) unconstrained coordinates
    updates: jax.Array  # () int32, batches seen
    key: jax.Array  # of the order of the batches to come
    anchor: Any  # params in whose coordinates statistics are taken


class _Settings(NamedTuple):
    exponent: float
    batch_size: int | None
    average: bool


def online_em(exponent: float = 0.6, batch_size: int | None = None, average: bool = True) -> Algorithm:
    """EM that moves after every batch; one step is one visit to all batches in random order: one pass.

    Not monotone: it converges in the mean, and is for many rows, of which a few visits suffice. It does not stop by itself but at
    `Stop(max_steps=2)`, say. The objective told of a step is the log-likelihood of each batch at the params of its time, summed
    (prequential), plus log prior; what is returned is evaluated on all rows. An M-step that would collapse a component or leave the
    params' domain is left out; the first waits for 2 rows a parameter.

    Rows that are sorted by what they mean (all of one kind first) should be shuffled beforehand: batches take rows from all over
    the data, but those of one block of up to 1024 rows stay together.

    Args:
        exponent: of the gain k^-exponent, in (0.5, 1]; small ones forget sooner.
        batch_size: rows (sequences, for models of time) a batch, about: all batches have one size, of whole blocks or even shares
            of them. None for the root of n, or the number of parameters where that is more.
        average: whether to return the average of the params rather than the last.

    Raises:
        TypeError, ValueError: exponent not a number in (0.5, 1]; batch_size not a whole number >= 1; when a fit begins, a model
            whose statistics are an expansion about params, or a single sequence.
    """
    if isinstance(exponent, bool) or not isinstance(exponent, (int, float)):
        raise TypeError(f"exponent: found {type(exponent).__name__}; give a number in (0.5, 1].")
    if not 0.5 < exponent <= 1:
        raise ValueError(f"exponent: found {exponent}; give a number in (0.5, 1], or the gains do not add up or do not settle.")
    size = None if batch_size is None else check_count(batch_size, "batch_size")
    return _make(_Settings(float(exponent), size, bool(average)))


@lru_cache
def _make(settings: _Settings) -> Algorithm:
    conclude = partial(_conclude, settings) if settings.average else last
    return Algorithm(partial(_init, settings), partial(_step, settings), monotone=False, conclude=conclude)


def batches_of(size: int | None, model: Any, data: Any) -> int:
    """How many batches of that size there are.

    Raises:
        ValueError: a single sequence.
    """
    if data.lanes is not None and parts.most_parts(data) == 1:
        raise ValueError("data: a single sequence is not cut into batches; give several sequences, or take em().")
    if size is None:
        size = max(math.isqrt(parts.units(data)), 1 if data.lanes is not None else model.n_parameters(data))
    return parts.n_parts(data, size)


def _init(settings: _Settings, model: Any, params: Any, data: Any, key: jax.Array) -> OnlineState:
    check_mixable(model, "online_em")
    count = batches_of(settings.batch_size, model, data)
    local = model.localize(params, data, shared=True)
    found = jax.eval_shape(lambda: local.e_step(params, parts.part(data, 0, count)))
    u = model.to_unconstrained(params)
    return OnlineState(params, zeros(found.statistics), u, jnp.zeros((), jnp.int32), key, params)


def _step(settings: _Settings, model: Any, state: OnlineState, data: Any) -> tuple[OnlineState, Info]:
    count = batches_of(settings.batch_size, model, data)
    local = model.localize(state.anchor, data, shared=True)
    whole = parts.weight(data)
    wait = min(max(1, -(-ROWS_PER_PARAMETER * model.n_parameters(data) * count // data.n)), max(1, count // 2))
    key, own = jax.random.split(state.key)

    def visit(carry: tuple[OnlineState, jax.Array], index: jax.Array) -> tuple[tuple[OnlineState, jax.Array], None]:
        before, told = carry
        batch = parts.part(data, index, count)
        seen = parts.weight(batch)
        statistics, log_likelihood = local.e_step(before.params, batch)
        updates = before.updates + 1
        k = updates.astype(data.dtype)
        gain = jnp.where(updates <= wait, 1 / k, k**-settings.exponent).astype(data.dtype)
        scale = whole / jnp.where(seen > 0, seen, 1)
        running = jax.tree.map(lambda s, new: s + gain * (scale * new - s), before.statistics, statistics)
        params = select(updates >= wait, moved(local, before.params, running, data), before.params)
        u = model.to_unconstrained(params)
        share = (DECAY + 1) / (jnp.maximum(k - wait + 1, 1) + DECAY)
        average = jnp.where(updates <= wait, u, (1 - share) * before.average + share * u)
        after = OnlineState(params, running, average, updates, before.key, before.anchor)
        return (select(seen > 0, after, before), told + log_likelihood.astype(data.dtype)), None

    begin = state._replace(key=key), jnp.zeros((), data.dtype)
    (new, told), _ = jax.lax.scan(visit, begin, jax.random.permutation(own, count))
    gap = jnp.full((), jnp.inf, data.dtype)
    return new, Info(told, told + model.log_prior(state.params), parts.passes(data, count), gap)


def _conclude(settings: _Settings, model: Any, state: OnlineState, data: Any) -> Conclusion:
    del settings
    average = model.from_unconstrained(state.average, like=state.params)
    return last(model, state._replace(params=select(sound(model, average), average, state.params)), data)
