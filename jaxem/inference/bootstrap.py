"""Refits to resampled data or to data drawn from the fit: bootstrap distributions of params."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import accelerated, algorithm_for
from jaxem.algorithms.algorithm import Algorithm
from jaxem.align import orders_towards
from jaxem.checks import as_key
from jaxem.fit import fit_batch, fit_weighted
from jaxem.inference.point import Point
from jaxem.inference.replicates import replicate, template_of
from jaxem.information import unit_weights
from jaxem.lanes import Progress
from jaxem.result import Fit, Status, Stop

CELLS = 1 << 24  # weights, or cells of drawn data, that are held at once: more draws go in turns
STOP = Stop(tolerance=1e-6, max_steps=5000)  # a refit then ends within about 1e-3 of its standard error of the maximum
SAME = 1e-6  # relative difference up to which the params are in canonical form


class Refits(NamedTuple):
    """B refits; NaN where one failed."""

    cells: np.ndarray  # (B, N) numbers of params, leaf after leaf
    free: np.ndarray  # (B, P) unconstrained coordinates
    remarks: tuple[str, ...]


def refit(
    point: Point, data: Any, method: str, key: Any, draws: int, groups: np.ndarray | None = None, progress: Any = None
) -> Refits:
    """Refits to `draws` samples, begun at the fit and with its labels (Efron 1979, Annals of Statistics 7:1).

    ``"bootstrap"``: units, which are rows or sequences, or `groups` of them, are drawn with replacement. A weight is a
    repetition: sum(w) units are drawn with probabilities w / sum(w). The samples are weights on the rows as they were prepared, and
    the refits lanes of one program. ``"parametric_bootstrap"``: data are drawn from the model at the fit, in the form of the
    data, with their covariates, lengths, holes and censoring (`jaxem.inference.censoring.record` has what is assumed of it).

    A refit begins at the fit, so that it stays at the maximum next to it: what is told is how that maximum varies, not which
    of several is the highest.

    Args:
        point: the fit.
        data: as given; raw for the parametric bootstrap.
        method: one of the two.
        key: an int seed or a JAX key.
        draws: B.
        groups: (units,) numbers 0..G-1 of groups that are drawn as one, for "bootstrap".
        progress: called with a `Progress` of all the refits, or None.

    Raises:
        TypeError, ValueError: fewer than two units; data that cannot be drawn; with what to use.
    """
    key = as_key(key)
    parametric = method == "parametric_bootstrap"
    units = np.asarray(unit_weights(point.rows), np.float64)
    size = len(units) if not parametric else point.rows.n * max(point.rows.d, 1)
    turns = -(-draws // max(1, CELLS // max(size, 1)))
    each = -(-draws // turns)
    run = _drawn(point, data, units) if parametric else _resampled(point, units, groups)
    found = [_aligned(point, run(jax.random.fold_in(key, turn), each, _of_all(progress, turn, turns))) for turn in range(turns)]
    cells, free, status = (np.concatenate(parts)[:draws] for parts in zip(*found, strict=True))
    failed = status != Status.CONVERGED
    cells[failed], free[failed] = np.nan, np.nan
    return Refits(cells, free, _remarks(status))


def _of_all(progress: Callable[[Progress], None] | None, turn: int, turns: int) -> Callable[[Progress], None] | None:
    """A callback for one turn of several that tells of all."""
    if progress is None or turns == 1:
        return progress
    return lambda now: progress(now._replace(finished=now.finished + turn * now.lanes, lanes=turns * now.lanes))


def _remarks(status: np.ndarray) -> tuple[str, ...]:
    failed = Counter(Status(int(each)).name for each in status if each != Status.CONVERGED)
    if not failed:
        return ()
    kinds = ", ".join(f"{count} {name}" for name, count in failed.most_common())
    what = f"{sum(failed.values())} of {len(status)} refits did not converge ({kinds})"
    return (f"{what} and are left out, which may bias what is told.",)


# the two kinds of samples


def _resampled(point: Point, units: np.ndarray, groups: np.ndarray | None) -> Any:
    """Fits of so many samples of the units, by their weights."""
    counted = units > 0
    kinds = np.flatnonzero(counted) if groups is None else np.unique(groups[counted])
    if len(kinds) < 2:
        what = "sequence" if point.rows.lanes is not None else "row"
        whole = f"one {what}" if groups is None else "one group"
        raise ValueError(
            f'method: "bootstrap" draws {what}s with replacement, and there is only {whole} that says something: all samples would '
            'be the same. Take "parametric_bootstrap", which draws new data from the model, or "oakes".'
        )

    def run(key: jax.Array, count: int, progress: Any) -> Fit:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        weights = draw_weights(rng, units, groups, count)
        return fit_weighted(
            point.model, point.rows, weights, point.params, algorithm=_algorithm(point.model), stop=STOP, progress=progress
        )

    return run


def draw_weights(rng: np.random.Generator, units: np.ndarray, groups: np.ndarray | None, count: int) -> np.ndarray:
    """(count, units) weights of samples with replacement of units of weights `units`, or of groups of them."""
    if groups is not None:
        kinds = np.unique(groups[units > 0])
        often = np.zeros((count, int(groups.max()) + 1))
        often[:, kinds] = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=count)
        return often[:, groups] * units
    total = units.sum()
    size = max(round(total), 1)
    return rng.multinomial(size, units / total, size=count) * (total / size)


def _drawn(point: Point, data: Any, units: np.ndarray) -> Any:
    """Fits of so many data sets drawn from the model."""
    template = template_of(data, point.rows, units)
    model = point.model

    def run(key: jax.Array, count: int, progress: Any) -> Fit:
        datasets = replicate(model, point.params, template, jax.random.split(key, count))
        starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), point.params)
        weights = [template.weights] * count
        return fit_batch(
            model, datasets, params=starts, weights=weights, algorithm=_algorithm(model), stop=STOP, progress=progress
        )

    return run


@lru_cache
def _accelerated(algorithm: Algorithm) -> Algorithm:
    return accelerated(algorithm)


def _algorithm(model: Any) -> Algorithm:
    return _accelerated(algorithm_for(model))


# what is told of them


def _aligned(point: Point, fits: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells (B, N), coordinates (B, P) and statuses of fits, with the labels of the point and in its form."""
    model = point.model
    order = orders_towards(model, jax.tree.map(np.asarray, fits.params), point.params)
    canonical = _flat(model.canonical(point.params)), _flat(point.params)
    same = bool(np.allclose(*canonical, rtol=SAME, atol=SAME))
    cells, free = _read(model, fits.params, jnp.asarray(order), same)
    return np.asarray(cells, np.float64), np.asarray(free, np.float64), np.asarray(fits.status)


def _flat(params: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])


@partial(jax.jit, static_argnames="canonical")
def _read(model: Any, params: Any, order: jax.Array, canonical: bool) -> tuple[jax.Array, jax.Array]:
    def one(params: Any, order: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = model.relabel(params, order) if model.n_states > 1 else params
        free = model.to_unconstrained(moved)
        # where the params are in no canonical form, loadings for instance, in that of their coordinates
        told = model.canonical(moved) if canonical else model.from_unconstrained(free, like=moved)
        return _flat(told), free

    return jax.vmap(one)(params, order)
