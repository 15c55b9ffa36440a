"""ECME: EM for most parameters, the observed likelihood itself for some.

Where a parameter is slow under EM because much of what would tell it is missing, such as the degrees of freedom of a t, a step
that maximises the observed likelihood over it alone is faster and as monotone (Liu and Rubin 1994, Biometrika 81:633). A step
here is the (expanded) M-step for all else, then one Newton step for the named blocks with derivatives by autodiff, halved until
the objective does not fall below where the step began; or, for one coordinate, a search for the root of the derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.algorithms.algorithm import Algorithm, Info
from jaxem.algorithms.cycle import select
from jaxem.algorithms.em import guarded
from jaxem.model import Expectation
from jaxem.newton import damped_step
from jaxem.restrict import paths_of
from jaxem.rounding import rounding

HALVINGS = 6  # of the Newton step, after which the blocks stay; the M-step alone is monotone
TRIALS, STRIDE = 40, 0.1  # of the search for a root: evaluations at most, and its first step
SMALL = 1e-3  # share of the derivative at the start that ends the search
REACH = 2.0  # the longest Newton step in a coordinate: a factor of e^2 of a positive parameter


class ECMEState(NamedTuple):
    """State of `ecme`."""

    params: Any  # the model's params
    known: Expectation  # the E-step at params


METHODS = ("newton", "root")


def ecme(*blocks: str, block: str | None = None, method: str = "newton") -> Algorithm:
    """EM with the named blocks of params on the observed likelihood: monotone.

    With "newton" a step costs one pass for each E-step tried, 2 for the gradient of the blocks' coordinates and 2 for each of the
    p columns of their Hessian: 3 + 2 p where the first trial is taken. "root" looks for the maximum over one coordinate: the root
    of the derivative is bracketed and closed in on (regula falsi, Illinois; Dowell and Jarratt 1971, BIT 11:168) until the
    derivative is a thousandth of what it was; one pass an evaluation, since by Fisher's identity an E-step gives it.

    Args:
        blocks: names of params, such as "components.dof" or "dof" (the last part suffices where it is the only one).
        block: one more name.
        method: "newton", or "root" for a block of one coordinate.

    Raises:
        ValueError: no block, an unknown method, or, when a fit begins, a name that the model does not have, or a block of several
            coordinates for "root".
    """
    blocks = blocks if block is None else (*blocks, block)
    if not blocks:
        raise ValueError("blocks: found none; name the params to maximise, for instance ecme('components.dof'), or take em().")
    if method not in METHODS:
        raise ValueError(f"method: unknown {method!r}; use one of {', '.join(METHODS)}.")
    return _make(blocks, method)


@lru_cache
def _make(blocks: tuple[str, ...], method: str) -> Algorithm:
    move = _newton if method == "newton" else _root
    return Algorithm(partial(_init, blocks, method), partial(_step, blocks, move), opening=_opening)


def _opening(model: Any, params: Any) -> int:
    del model, params
    return 1


def leaves_of(model: Any, blocks: tuple[str, ...], who: str = "ecme") -> list[int]:
    """Which leaves of the params the blocks name.

    Raises:
        ValueError: a name that no leaf has, or several have; lists the names there are.
    """
    paths = paths_of(model.domains)
    chosen = []
    for block in blocks:
        found = [place for place, path in enumerate(paths) if path == block or path.rsplit(".", 1)[-1] == block]
        if len(found) != 1:
            raise ValueError(f"{who}: {block!r} is no parameter of this model; there are {', '.join(paths)}.")
        chosen.append(found[0])
    return chosen


def spans_of(model: Any, params: Any) -> list[tuple[int, int]]:
    """Where the coordinates of each leaf begin and end within the flat vector."""
    spans, begin = [], 0
    for domain, leaf in zip(jax.tree.leaves(model.domains), jax.tree.leaves(params), strict=True):
        spans.append((begin, begin + domain.count(jnp.shape(leaf))))
        begin = spans[-1][1]
    return spans


def _init(blocks: tuple[str, ...], method: str, model: Any, params: Any, data: Any, key: jax.Array) -> ECMEState:
    del key
    spans = spans_of(model, params)
    size = sum(spans[place][1] - spans[place][0] for place in leaves_of(model, blocks))
    if method == "root" and size != 1:
        raise ValueError(
            f"method: 'root' closes in on one coordinate from both sides, and {', '.join(blocks)} has {size} here; take 'newton'."
        )
    return ECMEState(params, model.localize(params, data).e_step(params, data))


def _step(blocks: tuple[str, ...], move: Callable, model: Any, state: ECMEState, data: Any) -> tuple[ECMEState, Info]:
    chosen = leaves_of(model, blocks)
    domains = [jax.tree.leaves(model.domains)[place] for place in chosen]
    objective = state.known.log_likelihood + model.log_prior(state.params)
    old = jax.tree.leaves(state.params)
    target = model.localize(state.params, data).m_step_expanded(state.params, state.known.statistics)
    spent: Any = 0
    if not model.closed:
        target, _, spent = guarded(model, state.params, target, objective, data)
    leaves: list[jax.Array]
    tree: Any
    leaves, tree = jax.tree.flatten(target)
    start = [domain.flatten(old[place]) for domain, place in zip(domains, chosen, strict=True)]
    sizes = [part.shape[0] for part in start]

    def place_blocks(vector: jax.Array) -> Any:
        """The target with the blocks' coordinates at `vector`."""
        moved, begin = list(leaves), 0
        for domain, place, size in zip(domains, chosen, sizes, strict=True):
            moved[place] = domain.unflatten(vector[begin : begin + size], old[place].shape)
            begin += size
        return tree.unflatten(moved)

    params, known, passes = move(model, place_blocks, jnp.concatenate(start), state.params, objective, data)
    return ECMEState(params, known), Info(state.known.log_likelihood, objective, spent + passes)


def _newton(
    model: Any, place_blocks: Callable, here: jax.Array, params: Any, objective: jax.Array, data: Any
) -> tuple[Any, Expectation, jax.Array]:
    """New params after one Newton step of the blocks from `here`, the E-step there, and the passes."""

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

    slack = rounding(model, params, objective, data) / 4

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
    return params, known, tried + 2 + 2 * here.size


class _Search(NamedTuple):
    """The search for a root of the derivative along one coordinate."""

    best: tuple[Any, Expectation, jax.Array]  # params, E-step and objective of the highest point seen
    near: tuple[jax.Array, jax.Array]  # () coordinate and derivative of the end that was seen last
    far: tuple[jax.Array, jax.Array]  # and of the other: derivatives of opposite signs once the root is bracketed
    bracketed: jax.Array  # () bool
    stride: jax.Array  # () how far the next point outside lies
    passes: jax.Array
    done: jax.Array


def _root(
    model: Any, place_blocks: Callable, here: jax.Array, params: Any, objective: jax.Array, data: Any
) -> tuple[Any, Expectation, jax.Array]:
    """The same for the maximum over the one coordinate of the blocks."""
    slack = rounding(model, params, objective, data) / 4

    def look(x: jax.Array) -> tuple[tuple[Any, Expectation, jax.Array], jax.Array]:
        """The point with coordinate x, and the derivative there."""
        candidate = place_blocks(x[None])
        local = model.localize(candidate, data)
        known = local.e_step(candidate, data)

        def expected(x: jax.Array) -> jax.Array:
            moved = place_blocks(x[None])
            return local.expected_log_joint(moved, known.statistics) + model.log_prior(moved)

        return (candidate, known, known.log_likelihood + model.log_prior(candidate)), jax.grad(expected)(x)

    def go(search: _Search) -> jax.Array:
        return ~search.done & (search.passes < TRIALS)

    def visit(search: _Search) -> _Search:
        (x, g), (y, h) = search.near, search.far
        cut = jnp.where(g != h, (x * h - y * g) / jnp.where(g != h, h - g, 1), 0.5 * (x + y))
        within = (cut > jnp.minimum(x, y)) & (cut < jnp.maximum(x, y))
        cut = jnp.where(within, cut, 0.5 * (x + y))
        new = jnp.where(search.bracketed, cut, x + jnp.sign(g) * search.stride)
        point, slope = look(new)
        better = point[2] >= search.best[2]
        crosses = slope * g < 0
        # where the new point is on the near end's side the far derivative is halved, so that both ends close in
        far = select(crosses | ~search.bracketed, (x, g), (y, 0.5 * h))
        small = (jnp.abs(slope) <= SMALL * jnp.abs(first_slope)) | (jnp.abs(slope * (new - x)) <= slack)
        lost = ~jnp.isfinite(point[2]) | ~jnp.isfinite(slope)
        return _Search(
            select(better, point, search.best),
            (new, slope),
            far,
            search.bracketed | crosses,
            2 * search.stride,
            search.passes + 1,
            small | lost,
        )

    start, first_slope = look(here[0])
    stride = jnp.full((), STRIDE, here.dtype)
    ends = (here[0], first_slope)
    flat = ~(jnp.abs(first_slope) > 0)
    zero = jnp.zeros((), bool)
    begin = _Search(start, ends, ends, zero, stride, jnp.ones((), jnp.int32), flat)
    end = jax.lax.while_loop(go, visit, begin)
    return end.best[0], end.best[1], end.passes
