"""ECME: EM for most parameters, the observed likelihood itself for some.

Where a parameter is slow under EM because much of what would tell it is missing, such as the degrees of freedom of a t, a step
that maximises the observed likelihood over it alone is faster and as monotone (Liu and Rubin 1994, Biometrika 81:633). A step
here is the (expanded) M-step for all else, then one Newton step for the named blocks with derivatives by autodiff, halved until
the objective does not fall below where the step began.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.model import Expectation
from jaxem.newton import damped_step
from jaxem.restrict import paths_of
from jaxem.rounding import rounding

HALVINGS = 6  # of the Newton step, after which the blocks stay; the M-step alone is monotone
REACH = 2.0  # the longest Newton step in a coordinate: a factor of e^2 of a positive parameter


class ECMEState(NamedTuple):
    """State of `ecme`."""

    params: Any  # the model's params
    known: Expectation  # the E-step at params


@lru_cache
def ecme(*blocks: str) -> Algorithm:
    """EM with the named blocks of params on the observed likelihood: monotone.

    A step costs one pass for each E-step tried, 2 for the gradient of the blocks' coordinates and 2 for each of the p columns of
    their Hessian: 3 + 2 p where the first trial is taken.

    Args:
        blocks: names of params, such as "components.dof" or "dof" (the last part suffices where it is the only one).

    Raises:
        ValueError: no block, or, when a fit begins, a name that the model does not have.
    """
    if not blocks:
        raise ValueError("blocks: found none; name the params to maximise, for instance ecme('components.dof'), or take em().")
    return Algorithm(partial(_init, blocks), partial(_step, blocks), opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 1


def _leaves_of(model: Any, blocks: tuple[str, ...]) -> list[int]:
    """Which leaves of the params the blocks name."""
    paths = paths_of(model.domains)
    chosen = []
    for block in blocks:
        found = [place for place, path in enumerate(paths) if path == block or path.rsplit(".", 1)[-1] == block]
        if len(found) != 1:
            raise ValueError(f"ecme: {block!r} is no parameter of this model; there are {', '.join(paths)}.")
        chosen.append(found[0])
    return chosen


def _init(blocks: tuple[str, ...], model: Any, params: Any, data: Any, key: jax.Array) -> ECMEState:
    del key
    _leaves_of(model, blocks)
    return ECMEState(params, model.localize(params, data).e_step(params, data))


def _step(blocks: tuple[str, ...], model: Any, state: ECMEState, data: Any) -> tuple[ECMEState, Info]:
    chosen = _leaves_of(model, blocks)
    domains = [jax.tree.leaves(model.domains)[place] for place in chosen]
    objective = state.known.log_likelihood + model.log_prior(state.params)
    old = jax.tree.leaves(state.params)
    target = model.localize(state.params, data).m_step_expanded(state.params, state.known.statistics)
    leaves: list[jax.Array]
    tree: Any
    leaves, tree = jax.tree.flatten(target)
    start = [domain.flatten(old[place]) for domain, place in zip(domains, chosen, strict=True)]
    sizes = [part.shape[0] for part in start]
    here = jnp.concatenate(start)

    def place_blocks(vector: jax.Array) -> Any:
        """The target with the blocks' coordinates at `vector`."""
        moved, begin = list(leaves), 0
        for domain, place, size in zip(domains, chosen, sizes, strict=True):
            moved[place] = domain.unflatten(vector[begin : begin + size], old[place].shape)
            begin += size
        return tree.unflatten(moved)

    def observed(vector: jax.Array) -> jax.Array:
        candidate = place_blocks(vector)
        return model.log_likelihood(candidate, data) + model.log_prior(candidate)

    gradient, hessian = jax.grad(observed)(here), jax.hessian(observed)(here)
    sound = jnp.isfinite(gradient).all() & jnp.isfinite(hessian).all()
    step = damped_step(jnp.where(sound, gradient, 0), jnp.where(sound, -hessian, jnp.eye(here.size, dtype=here.dtype)))
    step = step * jnp.minimum(1, REACH / jnp.maximum(jnp.abs(step).max(initial=0), REACH))

    def attempt(fraction: jax.Array) -> tuple[Any, Expectation]:
        candidate = place_blocks(here + fraction * step)
        return candidate, model.localize(candidate, data).e_step(candidate, data)

    slack = rounding(model, state.params, objective, data) / 4

    def rejected(carry: tuple[Any, Expectation, jax.Array]) -> jax.Array:
        candidate, known, tried = carry
        worth = known.log_likelihood + model.log_prior(candidate)
        return ~(worth >= objective - slack) & (tried <= HALVINGS)

    def halve(carry: tuple[Any, Expectation, jax.Array]) -> tuple[Any, Expectation, jax.Array]:
        tried = carry[2]
        fraction = jnp.where(tried < HALVINGS, 0.25 ** tried.astype(here.dtype), 0)
        return *attempt(fraction), tried + 1

    first = *attempt(jnp.ones((), here.dtype)), jnp.ones((), jnp.int32)
    params, known, tried = jax.lax.while_loop(rejected, halve, first)
    passes = tried + 2 + 2 * here.size
    return ECMEState(params, known), Info(state.known.log_likelihood, objective, passes)
