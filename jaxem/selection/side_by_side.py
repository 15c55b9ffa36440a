"""Models of one structure that differ in numbers alone, such as the strength of a prior: fitted as lanes of one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import algorithm_for
from jaxem.checks import check_informative
from jaxem.fit import check_stop, fit
from jaxem.lanes import Variants, begin, choose_each, draw_starts, drive
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows


def alike(models: Sequence[Any], prepared: Sequence[Rows]) -> list[list[int]]:
    """The places of the models, those together that have the same structure, shapes of leaves and rows."""
    groups: list[list[int]] = []
    for place, model in enumerate(models):
        for group in groups:
            first = group[0]
            if _outline(model) == _outline(models[first]) and _same(prepared[place], prepared[first]):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _outline(model: Any) -> Any:
    leaves, structure = jax.tree.flatten(model)
    return structure, [np.shape(leaf) for leaf in leaves]


def _same(a: Rows, b: Rows) -> bool:
    kind: Any = jax.tree.structure(a)
    if kind != jax.tree.structure(b):
        return False
    each = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in each)


def fit_side_by_side(models: Sequence[Any], rows: Rows, key: jax.Array, restarts: int, stop: Stop | None) -> list[Fit]:
    """What `fit` makes of each of several models that are `alike`, from the same starts, to rounding.

    Raises:
        TypeError, ValueError: as `fit`.
    """
    stop, count = check_stop(stop), len(models)
    check_informative(rows, models[0].n_states)
    algorithm = algorithm_for(models[0])
    algorithm.check(models[0], rows)
    settled = [model.settle(None, rows) for model in models]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *settled)
    variants = Variants(stacked, jnp.repeat(jnp.arange(count), restarts))
    drawn = [draw_starts(model, rows, key, None, restarts) for model in models]
    starts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *drawn)
    lanes = begin(variants, starts, rows, key, algorithm, None)
    lanes = drive(variants, lanes, rows, None, stop, algorithm, None)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(count, restarts, *leaf.shape[1:]), lanes)
    together = choose_each(variants, grouped, True, algorithm)
    found = [jax.tree.map(lambda leaf, place=place: leaf[place], together) for place in range(count)]
    return [
        fit(model, rows, key=key, restarts=restarts, stop=stop) if _rounds(own, model, one, rows) else one
        for model, own, one in zip(models, settled, found, strict=True)
    ]


def _rounds(settled: Any, model: Any, found: Fit, rows: Rows) -> bool:
    """Whether components became too tight for the kernel that was chosen at the start, so that `fit` goes on with another."""
    finer = model.settle(found.params, rows).magnitude(found.params, rows) < settled.magnitude(found.params, rows)
    return bool(finer) and int(found.status) != Status.DEGENERATE
