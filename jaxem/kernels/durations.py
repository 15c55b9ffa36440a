"""Distributions of durations 1, 2, ..., D: their probabilities, and the params that make expected counts likeliest.

Parametric ones are those of duration - 1, cut off at D - 1 and brought to sum to 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates
from jaxem.domains import NonNegative, Simplex
from jaxem.kernels.exponential import NEVER
from jaxem.kernels.structured_chain import safe_log
from jaxem.newton import ascend

KINDS = ("poisson", "negative_binomial", "categorical")


class PoissonDuration(NamedTuple):
    """p(u) proportional to rate^(u - 1) / (u - 1)!."""

    rate: jax.Array  # (K,) the mean of duration - 1 if it were not cut off


class NegativeBinomialDuration(NamedTuple):
    """p(u) proportional to prod_{i < u-1} (1 + dispersion i) (mean / (1 + dispersion mean))^(u - 1) / (u - 1)!."""

    mean: jax.Array  # (K,) of duration - 1 if it were not cut off
    dispersion: jax.Array  # (K,) the variance would be mean + dispersion mean^2; 0 is Poisson


class CategoricalDuration(NamedTuple):
    """Any distribution."""

    probabilities: jax.Array  # (K, D) of durations 1..D


def domains_of(kind: str) -> Any:
    """Domains of the params."""
    if kind == "categorical":
        return CategoricalDuration(Simplex())  # type: ignore[arg-type]
    if kind == "poisson":
        return PoissonDuration(NonNegative())  # type: ignore[arg-type]
    return NegativeBinomialDuration(NonNegative(), NonNegative())  # type: ignore[arg-type]


def structure(kind: str, k: int, d: int) -> Any:
    """Leaf shapes of the params."""
    if kind == "categorical":
        return CategoricalDuration((k, d))  # type: ignore[arg-type]
    return PoissonDuration((k,)) if kind == "poisson" else NegativeBinomialDuration((k,), (k,))  # type: ignore[arg-type]


def log_probabilities(params: Any, d: int) -> jax.Array:
    """(K, D) log p(u), minus infinity where it is 0."""
    if isinstance(params, CategoricalDuration):
        return safe_log(params.probabilities)
    before = jnp.arange(d, dtype=params[0].dtype)  # u - 1
    if isinstance(params, PoissonDuration):
        log_ratio, rising = safe_log(params.rate), jnp.zeros(d, before.dtype)
    else:
        log_ratio = safe_log(params.mean) - jnp.log1p(params.dispersion * params.mean)
        steps = jnp.log1p(params.dispersion[:, None] * before[:-1])
        rising = jnp.concatenate([jnp.zeros_like(steps[:, :1]), jnp.cumsum(steps, axis=1)], axis=1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, d)))]).astype(before.dtype)
    possible = jnp.isfinite(log_ratio)[:, None]
    power = before * jnp.where(possible, log_ratio[:, None], 0)
    weight = jnp.where(possible | (before == 0), power + rising - log_factorial, -jnp.inf)
    top = jax.lax.stop_gradient(weight.max(axis=1, keepdims=True))
    total = jnp.exp(weight - top).sum(axis=1, keepdims=True)
    return weight - top - jnp.log(total)


class Ages(NamedTuple):
    """What becomes of a state that has lasted u = 1..D steps."""

    stay: jax.Array  # (K, D) P(duration > u | duration >= u)
    leave: jax.Array  # (K, D) P(duration = u | duration >= u)


def ages(log_p: jax.Array) -> Ages:
    """From (K, D) log-probabilities, exact far out in a tail; ages that are not reached have stay 0 and leave 1."""
    finite = jnp.maximum(log_p, NEVER)  # sums of minus infinities have no derivative
    survivor = jax.lax.cumlogsumexp(finite, axis=1, reverse=True)
    reached = survivor > 0.5 * NEVER
    later = jnp.concatenate([survivor[:, 1:], jnp.full_like(survivor[:, :1], NEVER)], axis=1)
    return Ages(jnp.where(reached, jnp.exp(later - survivor), 0), jnp.where(reached, jnp.exp(finite - survivor), 1))


def completed(found: Ages, ended: jax.Array, cut: jax.Array) -> jax.Array:
    """(K, D) expected durations: those that ended, and those cut off at age u as they would have gone on from there."""

    def step(alive: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        stay, leave, joined = now
        alive = alive + joined
        return alive * stay, alive * leave

    return ended + jax.lax.scan(step, jnp.zeros_like(cut[:, 0]), (found.stay.T, found.leave.T, cut.T))[1].T


def expected_log_prob(params: Any, counts: jax.Array) -> jax.Array:
    """sum counts log p."""
    log_p = log_probabilities(params, counts.shape[1])
    counted = counts != 0
    return jnp.where(counted, counts * jnp.where(counted, log_p, 0), 0).sum()


def maximize(params: Any, counts: jax.Array) -> Any:
    """The params that maximise sum counts log p, counts (K, D); a state without counts keeps its own.

    Categorical: the shares of the counts. Else Newton's method in the logarithms of the params, state by state, from the better
    of the current ones and those that would be right without the cut. The negative binomial's dispersion is 0 exactly where its
    score there is not positive and no other maximum is better.
    """
    total = counts.sum(axis=1)
    seen = total > 0
    shares = counts / jnp.where(seen, total, 1)[:, None]
    if isinstance(params, CategoricalDuration):
        return CategoricalDuration(jnp.where(seen[:, None], shares, params.probabilities))
    found = jax.vmap(_maximize_state)(params, shares)
    return jax.tree.map(lambda new, old: jnp.where(seen, new, old), found, params)


def _maximize_state(params: Any, shares: jax.Array) -> Any:
    """One state: params of shape (), shares (D,) that sum to 1, or to 0."""
    before = jnp.arange(len(shares), dtype=shares.dtype)
    mean = (shares * before).sum()

    def value(candidate: Any) -> jax.Array:
        return expected_log_prob(jax.tree.map(lambda leaf: leaf[None], candidate), shares[None])

    def climb(*starts: Any) -> Any:
        kind = domains_of("poisson" if isinstance(starts[0], PoissonDuration) else "negative_binomial")
        shapes = jax.tree.map(lambda _: (1,), kind)

        def build(vector: jax.Array) -> Any:
            return jax.tree.map(lambda leaf: leaf[0], coordinates.from_unconstrained(kind, shapes, vector))

        best = _better(value, *starts)
        vector = coordinates.to_unconstrained(kind, jax.tree.map(lambda leaf: leaf[None], best))
        return build(ascend(lambda u: value(build(u)), vector))

    if isinstance(params, PoissonDuration):
        found = climb(params, PoissonDuration(mean))
        return PoissonDuration(jnp.where(mean > 0, found.rate, 0))
    plain = climb(PoissonDuration(mean)).rate
    zero = jnp.zeros_like(plain)
    alone = NegativeBinomialDuration(plain, zero)
    # d/d dispersion of the log-density at 0, given log(mean / (1 + dispersion mean)), is (u - 1)(u - 2) / 2 up to a constant
    poisson = jnp.exp(log_probabilities(PoissonDuration(plain[None]), len(shares))[0])
    curved = ((shares - poisson) * before * (before - 1)).sum() > 0
    spread = (shares * (before - mean) ** 2).sum()
    safe = jnp.where(mean > 0, mean, 1)
    moments = NegativeBinomialDuration(safe, jnp.maximum((spread - mean) / (safe * safe), 0.1))
    current = NegativeBinomialDuration(
        jnp.where(params.mean > 0, params.mean, safe), jnp.where(params.dispersion > 0, params.dispersion, moments.dispersion)
    )
    free = climb(current, moments)
    keep = (value(alone) >= value(free)) & ~curved
    found = jax.tree.map(lambda a, b: jnp.where(keep, a, b), alone, free)
    return jax.tree.map(lambda leaf: jnp.where(mean > 0, leaf, 0), found)


def _better(value: Any, first: Any, *others: Any) -> Any:
    best = first
    for other in others:
        improved = value(other) > value(best)
        best = jax.tree.map(lambda new, old, improved=improved: jnp.where(improved, new, old), other, best)
    return best
