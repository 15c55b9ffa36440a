"""The one driver: restarts and batches are lanes of the same program, dropped as they finish."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import Algorithm, algorithm_for
from jaxem.checks import as_key, check_count, check_informative, is_traced
from jaxem.coordinates import cast, check_params, check_structure
from jaxem.data import prepare
from jaxem.implicit import WHEN, differentiable, still
from jaxem.lanes import (
    SEGMENT,
    Progress,
    Reweighted,
    begin,
    choose,
    choose_each,
    conclude,
    draw_starts,
    draw_starts_batch,
    drive,
    run_alone,
    select,
)
from jaxem.multi_start import Search, check_search
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows

BRIEF = 4  # steps between two looks at lanes that begin next to their ends


def fit(
    model: Any,
    data: Any,
    *,
    params: Any = None,
    key: Any = None,
    restarts: int = 1,
    search: Search | None = None,
    algorithm: Algorithm | None = None,
    stop: Stop | None = None,
    weights: Any = None,
    progress: Callable[[Progress], None] | None = None,
    derivatives: str = "converged",
) -> Fit:
    """Fits a model: moves params by `algorithm` from one or several starts until `stop`, and returns the best.

    Args:
        model: for instance `Mixture(Gaussian(), 3)`.
        data: raw rows, NaN where a cell is missing, or what `prepare` returned.
        params: a start; components then keep its labels. Without it, `model.init` makes `restarts` starts from `key`, and
            the components of the result are in canonical order.
        key: an int seed or a JAX key; needed where starts are random. The same seed gives the same result on a device.
        restarts: number of random starts. The best sound one is returned: a collapsed one only if all collapse.
        search: how starts are drawn and which go on, in place of `restarts`: see `jaxem.multi_start`.
        algorithm: default `em()`.
        stop: default `Stop()`, for each start.
        weights: (n,) numbers >= 0 in the rows' order, concrete or traced; default those of prepared data, or ones.
        progress: called between segments of steps with a `Progress`; not under tracing.
        derivatives: "converged" (NaN where the fit did not converge) or "always" (the same formula at any params).

    Returns:
        Fit. Trouble is a `Status` in it, never an exception: the last good params come with it.

    The function is pure. It can be jitted and vmapped over complete arrays, weights, starts, priors and keys; a traced array
    is taken as complete, so data with holes are prepared outside (`prepare(model, y, like=rows)` puts traced values in them).

    It can be differentiated, forward and reverse, by data, weights, priors and all other leaves of the model: params,
    log-likelihood and objective have the derivatives of the maximum that they are, by the implicit function theorem (see
    `jaxem.implicit`), whatever algorithm found it; a tight `stop` makes them as exact as the maximum. The rest of a Fit, and
    the start, have none.

    Raises:
        TypeError, ValueError: bad input, before anything compiles.
    """
    algorithm, stop = algorithm_for(model) if algorithm is None else algorithm, check_stop(stop)
    _check_algorithm(algorithm)
    if derivatives not in WHEN:
        raise ValueError(f"derivatives: found {derivatives!r}; use one of {', '.join(WHEN)}.")
    restarts = check_count(restarts, "restarts")
    rows = prepare(model, data).weigh(weights)
    check_informative(rows, model.n_states)
    traced = is_traced((model, rows, params, stop)) or isinstance(key, jax.core.Tracer)
    check_search(search, model, params, key, restarts, traced)
    key = _check_start(model, params, key, restarts, rows)
    given = params is not None
    if traced:
        found = _fit_traced(still(model), still(rows), still(params), key, still(stop), algorithm, restarts)
        return differentiable(model, rows, found, not given, derivatives)
    algorithm.check(model, rows)
    settled = model.settle(params, rows)
    if search is None:
        lanes = begin(settled, draw_starts(model, rows, key, params, restarts), rows, key, algorithm, None)
        lanes = drive(settled, lanes, rows, None, stop, algorithm, progress)
    else:
        lanes = search.explore(settled, rows, key, params, algorithm, stop, progress)
    fitted = choose(settled, lanes, not given, algorithm)
    again = model.settle(fitted.params, rows)
    finer = again.magnitude(fitted.params, rows) < settled.magnitude(fitted.params, rows)
    if bool(finer) and algorithm.monotone and int(fitted.status) != Status.DEGENERATE:
        # the components became too tight for the kernel that was chosen at the start; go on with the one that rounds less
        lanes = begin(again, jax.tree.map(lambda leaf: leaf[None], fitted.params), rows, key, algorithm, None)
        lanes = drive(again, lanes, rows, None, stop, algorithm, progress)
        more = choose(again, lanes, not given, algorithm)
        fitted = more._replace(
            steps=fitted.steps + more.steps,
            passes=fitted.passes + more.passes,
            history_passes=fitted.passes + more.history_passes,
            restart_log_likelihoods=fitted.restart_log_likelihoods,
            restart_statuses=fitted.restart_statuses,
            restart_histories=fitted.restart_histories,
            restart_strides=fitted.restart_strides,
        )
    return fitted


def fit_batch(
    model: Any,
    datasets: Sequence[Any],
    *,
    params: Any = None,
    key: Any = None,
    restarts: int = 1,
    algorithm: Algorithm | None = None,
    stop: Stop | None = None,
    weights: Sequence[Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fits one model to many data sets of different lengths and different holes, in one program.

    Args:
        datasets: a sequence of D raw data sets with the same columns.
        params: starts with a leading axis D, or None for `restarts` random starts of each.
        key: an int seed or a JAX key; every data set and restart gets its own from it.
        weights: a sequence of D weight vectors.

    The data sets are cut into blocks of one shape, padded with rows of weight 0; data sets times restarts are lanes that are
    dropped as they finish. For the other arguments see `fit`.

    Returns:
        Fit whose fields have a leading axis D.

    Raises:
        TypeError, ValueError: bad input, before anything compiles; names the data set.
    """
    algorithm, stop = algorithm_for(model) if algorithm is None else algorithm, check_stop(stop)
    _check_algorithm(algorithm)
    restarts = check_count(restarts, "restarts")
    if isinstance(datasets, Rows) or not hasattr(datasets, "__len__") or len(datasets) == 0:
        raise ValueError("datasets: give a sequence of at least one data set; fit() takes a single one.")
    if weights is not None and len(weights) != len(datasets):
        raise ValueError(f"weights: found {len(weights)} for {len(datasets)} data sets; give one vector for each.")
    rows = model.prepare_batch(datasets, weights)
    count = len(datasets)
    informative, empty = np.asarray(rows.informative), np.isnan(np.asarray(rows.spread))
    for number in range(count):
        one = dataclasses.replace(rows, informative=informative[number], spread=np.where(empty[number], np.nan, 1.0))
        check_informative(one, model.n_states, f"datasets[{number}]")
    algorithm.check(model, rows)
    if params is None:
        key = _check_start(model, None, key, restarts, jax.tree.map(lambda leaf: leaf[0], rows))
        starts = draw_starts_batch(model, rows, key, restarts)
    else:
        if restarts != 1:
            raise ValueError(f"restarts: found {restarts} beside params, which is one start a data set; set restarts=1.")
        check_structure(model.domains, params)
        starts = params
        for leaf in jax.tree.leaves(params):
            if np.ndim(leaf) == 0 or np.shape(leaf)[0] != count:
                raise ValueError(f"params: found a leaf of shape {np.shape(leaf)}; give starts with a leading axis of {count}.")
        shapes, first = model.structure(rows), jax.tree.map(lambda leaf: leaf[0], params)
        check_params(model.domains, shapes, first)
        starts = cast(params, rows.dtype)
        key = as_key(0 if key is None else key)
    settled = model.settle(None, rows)
    owner = jnp.repeat(jnp.arange(count), restarts)
    return _run_batch(settled, starts, rows, owner, key, stop, algorithm, progress, (count, restarts), params is None)


def fit_weighted(
    model: Any,
    rows: Rows,
    weights: Any,
    params: Any,
    *,
    key: Any = None,
    algorithm: Algorithm | None = None,
    stop: Stop | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fits one prepared data set under each of B vectors of weights from the same start, in one program.

    The rows are there once, whatever B is: only weights have a leading axis. Components keep the labels of the start.

    Args:
        model: settled on the rows or not.
        rows: what `prepare` returned.
        weights: (B, n) numbers >= 0 in the rows' order, or (B, S) of sequences; none of the B vectors all zeros.
        params: the start.

    For the other arguments see `fit`.

    Returns:
        Fit whose fields have a leading axis B.

    Raises:
        TypeError, ValueError: bad input, before anything compiles.
    """
    algorithm, stop = algorithm_for(model) if algorithm is None else algorithm, check_stop(stop)
    _check_algorithm(algorithm)
    units = rows.n if rows.lanes is None else len(rows.lanes.start)
    if np.ndim(weights) != 2 or np.shape(weights)[1] != units:
        raise ValueError(f"weights: found shape {np.shape(weights)}; give (B, {units}), one vector for each fit.")
    check_params(model.domains, model.structure(rows), params)
    algorithm.check(model, rows)
    count = np.shape(weights)[0]
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), cast(params, rows.dtype))
    data = Reweighted(rows, jnp.asarray(weights, rows.dtype))
    settled = model.settle(params, rows)
    key = as_key(0 if key is None else key)
    return _run_batch(settled, starts, data, None, key, stop, algorithm, progress, (count, 1), False, BRIEF)


def _run_batch(
    model: Any,
    starts: Any,
    rows: Rows | Reweighted,
    owner: jax.Array | None,
    key: jax.Array,
    stop: Stop,
    algorithm: Algorithm,
    progress: Any,
    shape: tuple[int, int],
    reorder: bool,
    steps: int = SEGMENT,
) -> Fit:
    """The best of each data set's lanes, begun together and run to their ends; `shape` is (data sets, restarts)."""
    lanes = begin(model, starts, rows, key, algorithm, owner)
    lanes = drive(model, lanes, rows, owner, stop, algorithm, progress, steps)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), lanes)
    return choose_each(model, grouped, reorder, algorithm)


# checks


def check_stop(stop: Any) -> Stop:
    """`stop`, or the usual one where None, with leaves that compile nothing anew; raises TypeError where it is no Stop."""
    stop = Stop() if stop is None else stop
    if not isinstance(stop, Stop):
        raise TypeError(f"stop: found {type(stop).__name__}; give a Stop, for instance Stop(tolerance=1e-8).")
    most = np.iinfo(np.int32).max if stop.max_passes is None else stop.max_passes
    return Stop(jnp.asarray(stop.tolerance, float), stop.rule, jnp.asarray(stop.max_steps, jnp.int32), jnp.asarray(most, jnp.int32))


def _check_algorithm(algorithm: Any) -> None:
    if not isinstance(algorithm, Algorithm):
        found = getattr(algorithm, "__name__", type(algorithm).__name__)
        raise TypeError(f"algorithm: found {found}; give an Algorithm, for instance em() (called).")


def _check_start(model: Any, params: Any, key: Any, restarts: int, rows: Rows) -> jax.Array:
    if params is None:
        if key is None and (model.needs_key or restarts > 1):
            raise ValueError("key: starts are drawn at random; give an int seed or a JAX key, or a start by params=.")
    else:
        if restarts != 1:
            raise ValueError(f"restarts: found {restarts} beside params, which is one start; drop params or set restarts=1.")
        check_params(model.domains, model.structure(rows), params)
    return as_key(0 if key is None else key)


def _fit_traced(model: Any, rows: Rows, params: Any, key: jax.Array, stop: Stop, algorithm: Algorithm, restarts: int) -> Fit:
    """The same fit where nothing can be looked at: all lanes run until the last has stopped."""
    settled = model.settle(None, rows)
    starts = draw_starts(settled, rows, key, params, restarts)
    lanes = begin(settled, starts, rows, key, algorithm, None)
    limit = jnp.asarray(np.iinfo(np.int32).max, jnp.int32)
    if restarts == 1:
        run = run_alone(settled, jax.tree.map(lambda leaf: leaf[0], lanes), rows, stop, limit, algorithm)
        lanes = jax.tree.map(lambda leaf: leaf[None], run)
    else:
        lanes = jax.vmap(lambda run: run_alone(settled, run, rows, stop, limit, algorithm))(lanes)
    lanes = conclude(settled, lanes, rows, None, 1, algorithm)
    return select(settled, lanes, params is None, algorithm)
