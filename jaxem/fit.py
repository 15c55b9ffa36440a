"""The one driver: restarts and batches are lanes of the same program, dropped as they finish."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import initialize
from jaxem import run as machine
from jaxem.algorithms import Algorithm, algorithm_for
from jaxem.checks import as_key, check_count, check_informative, is_traced
from jaxem.data import Rows, prepare
from jaxem.domains import cast, check_params
from jaxem.result import Fit, Status, Stop
from jaxem.run import Run

SEGMENT = 16  # steps between two looks at which lanes have finished
LANE_WORK = 1 << 21  # rows times states that the lanes of one program may hold together, on CPU
MAX_LANES = 256
NARROWER = 8  # lanes are compacted to a program narrower by this factor: each width is one compilation


class Progress(NamedTuple):
    """What a progress callback of `fit` is told between segments."""

    finished: int  # lanes that have ended
    lanes: int  # restarts, or data sets times restarts
    steps: int  # steps of the lane that is furthest
    objective: float  # best so far
    gap: float  # Aitken estimate of what that lane has left to gain


def fit(
    model: Any,
    data: Any,
    *,
    params: Any = None,
    key: Any = None,
    restarts: int = 1,
    algorithm: Algorithm | None = None,
    stop: Stop | None = None,
    weights: Any = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fits a model: moves params by `algorithm` from one or several starts until `stop`, and returns the best.

    Args:
        model: for instance `Mixture(Gaussian(), 3)`.
        data: raw rows, NaN where a cell is missing, or what `prepare` returned.
        params: a start; components then keep its labels. Without it, `model.init` makes `restarts` starts from `key`, and
            the components of the result are in canonical order.
        key: an int seed or a JAX key; needed where starts are random. The same seed gives the same result on a device.
        restarts: number of random starts. The best sound one is returned: a collapsed one only if all collapse.
        algorithm: default `em()`.
        stop: default `Stop()`.
        weights: (n,) numbers >= 0 in the rows' order, concrete or traced; default those of prepared data, or ones.
        progress: called between segments of steps with a `Progress`; not under tracing.

    Returns:
        Fit. Trouble is a `Status` in it, never an exception: the last good params come with it.

    The function is pure. It can be jitted and vmapped over complete arrays, weights, starts, priors and keys; a traced array
    is taken as complete, so data with holes are prepared outside.

    Raises:
        TypeError, ValueError: bad input, before anything compiles.
    """
    algorithm, stop = algorithm_for(model) if algorithm is None else algorithm, _check_stop(stop)
    _check_algorithm(algorithm)
    restarts = check_count(restarts, "restarts")
    rows = prepare(model, data).weigh(weights)
    check_informative(rows, model.n_states)
    key = _check_start(model, params, key, restarts, rows)
    given = params is not None
    if is_traced((model, rows, params, stop)) or isinstance(key, jax.core.Tracer):
        return _fit_traced(model, rows, params, key, stop, algorithm, restarts)
    algorithm.check(model, rows)
    starts = _start(model, rows, key, params, restarts)
    settled = model.settle(params if given else None, rows)
    lanes = _begin(settled, starts, rows, key, algorithm, None)
    lanes = _drive(settled, lanes, rows, None, stop, algorithm, progress)
    fitted = _choose(settled, lanes, not given, algorithm)
    again = model.settle(fitted.params, rows)
    finer = again.magnitude(fitted.params, rows) < settled.magnitude(fitted.params, rows)
    if bool(finer) and algorithm.monotone and int(fitted.status) != Status.DEGENERATE:
        # the components became too tight for the kernel that was chosen at the start; go on with the one that rounds less
        lanes = _begin(again, jax.tree.map(lambda leaf: leaf[None], fitted.params), rows, key, algorithm, None)
        lanes = _drive(again, lanes, rows, None, stop, algorithm, progress)
        more = _choose(again, lanes, not given, algorithm)
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
    algorithm, stop = algorithm_for(model) if algorithm is None else algorithm, _check_stop(stop)
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
        starts = _start_batch(model, rows, key, restarts)
    else:
        if restarts != 1:
            raise ValueError(f"restarts: found {restarts} beside params, which is one start a data set; set restarts=1.")
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
    lanes = _begin(settled, starts, rows, key, algorithm, owner)
    lanes = _drive(settled, lanes, rows, owner, stop, algorithm, progress)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(count, restarts, *leaf.shape[1:]), lanes)
    return _choose_each(settled, grouped, params is None, algorithm)


# checks


def _check_stop(stop: Any) -> Stop:
    stop = Stop() if stop is None else stop
    if not isinstance(stop, Stop):
        raise TypeError(f"stop: found {type(stop).__name__}; give a Stop, for instance Stop(tolerance=1e-8).")
    most = np.iinfo(np.int32).max if stop.max_passes is None else stop.max_passes
    return Stop(
        jnp.asarray(stop.tolerance, float), stop.rule, jnp.asarray(stop.max_steps, jnp.int32), jnp.asarray(most, jnp.int32)
    )


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


# lanes


def _drive(
    model: Any, lanes: Run, rows: Rows, owner: jax.Array | None, stop: Stop, algorithm: Algorithm, progress: Any
) -> Run:
    """Advances all lanes to their ends, a few at a time; the ones that finish make room for those that wait."""
    total = lanes.status.shape[0]
    widest = min(lane_width(rows, model), 1 << (total - 1).bit_length())
    while True:
        status = np.asarray(lanes.status)
        active = np.flatnonzero(status == Status.RUNNING)
        if progress is not None:
            progress(_progress(lanes, status))
        if active.size == 0:
            break
        width = widest
        while width > 1 and active.size <= width // NARROWER:
            width = max(1, width // NARROWER)
        alone = width == 1 and progress is None
        chosen = np.full(width, total, np.int32)
        chosen[: min(width, active.size)] = active[:width]
        limit = jnp.asarray(np.iinfo(np.int32).max if alone else SEGMENT, jnp.int32)
        lanes = _segment(model, lanes, jnp.asarray(chosen), rows, owner, stop, limit, algorithm)
    return _conclude(model, lanes, rows, owner, min(widest, total), algorithm)


def lane_width(rows: Rows, model: Any) -> int:
    """How many lanes run side by side: as many as keep the device busy, no more than memory allows."""
    work = max(1, rows.n * model.n_states)
    budget = LANE_WORK * (64 if jax.default_backend() != "cpu" else 1)
    width = max(1, min(MAX_LANES, budget // (8 * work)))
    return 1 << (width.bit_length() - 1)


def _progress(lanes: Run, status: np.ndarray) -> Progress:
    objective = np.asarray(lanes.objective, np.float64)
    best = int(np.argmax(np.where(np.isnan(objective), -np.inf, objective)))
    finished = int((status != Status.RUNNING).sum())
    return Progress(finished, len(status), int(np.asarray(lanes.steps).max()), float(objective[best]), float(lanes.gap[best]))


def _rows_of(rows: Rows, owner: jax.Array | None, lane: jax.Array) -> Rows:
    return rows if owner is None else jax.tree.map(lambda leaf: leaf[owner[lane]], rows)


@partial(jax.jit, static_argnames="algorithm")
def _segment(
    model: Any, lanes: Run, chosen: jax.Array, rows: Rows, owner: Any, stop: Stop, limit: jax.Array, algorithm: Algorithm
) -> Run:
    """Up to `limit` steps of the chosen lanes; places beyond the last lane are idle."""
    total = lanes.status.shape[0]
    safe = jnp.minimum(chosen, total - 1)
    picked = jax.tree.map(lambda leaf: leaf[safe], lanes)
    active = chosen < total
    if chosen.shape[0] == 1:
        only = jax.tree.map(lambda leaf: leaf[0], picked)
        one = _run(model, only, _rows_of(rows, owner, safe[0]), stop, limit, algorithm)
        picked = jax.tree.map(lambda leaf: leaf[None], one)
    else:
        own = _rows_of(rows, owner, safe)
        step = jax.vmap(lambda run, rows: machine.advance(model, run, rows, stop, algorithm), (0, None if owner is None else 0))

        def go(carry: tuple[Run, jax.Array]) -> jax.Array:
            return (carry[1] < limit) & (active & (carry[0].status == Status.RUNNING)).any()

        def body(carry: tuple[Run, jax.Array]) -> tuple[Run, jax.Array]:
            runs, taken = carry
            running = runs.status == Status.RUNNING
            moved = step(runs, own)
            return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(running, new, old), moved, runs), taken + 1

        picked, _ = jax.lax.while_loop(go, body, (picked, jnp.zeros((), jnp.int32)))
    return jax.tree.map(lambda leaf, new: leaf.at[chosen].set(new, mode="drop"), lanes, picked)


def _run(model: Any, run: Run, rows: Rows, stop: Stop, limit: jax.Array, algorithm: Algorithm) -> Run:
    """One lane to its end, or up to `limit` more steps."""

    def go(carry: tuple[Run, jax.Array]) -> jax.Array:
        return (carry[0].status == Status.RUNNING) & (carry[1] < limit)

    def body(carry: tuple[Run, jax.Array]) -> tuple[Run, jax.Array]:
        return machine.advance(model, carry[0], rows, stop, algorithm), carry[1] + 1

    return jax.lax.while_loop(go, body, (run, jnp.zeros((), jnp.int32)))[0]


@partial(jax.jit, static_argnames="algorithm")
def _begin(model: Any, starts: Any, rows: Rows, key: jax.Array, algorithm: Algorithm, owner: jax.Array | None) -> Run:
    count = jax.tree.leaves(starts)[0].shape[0]
    keys = jax.random.split(jax.random.fold_in(key, 1), count)

    def one(start: tuple[Any, jax.Array, jax.Array]) -> Run:
        params, key, lane = start
        return machine.begin(model, params, _rows_of(rows, owner, lane), key, algorithm)

    return jax.lax.map(one, (starts, keys, jnp.arange(count)))


@partial(jax.jit, static_argnames=("width", "algorithm"))
def _conclude(model: Any, lanes: Run, rows: Rows, owner: jax.Array | None, width: int, algorithm: Algorithm) -> Run:
    def one(lane: tuple[Run, jax.Array]) -> Run:
        return machine.conclude(model, lane[0], _rows_of(rows, owner, lane[1]), algorithm)

    each = (lanes, jnp.arange(lanes.status.shape[0]))
    return jax.lax.map(one, each) if width == 1 else _map(one, each, len(each[1]), width)


def _map(visit: Callable[[Any], Any], lanes: Any, count: int, most: int) -> Any:
    """`visit` on each of `count` lanes, up to `most` side by side. (`lax.map` with a batch size stumbles over empty leaves.)"""
    batch = _even(count, most)
    cut = jax.tree.map(lambda leaf: leaf.reshape(count // batch, batch, *leaf.shape[1:]), lanes)
    out = jax.lax.map(jax.vmap(visit), cut)
    return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), out)


def _even(count: int, most: int) -> int:
    """The largest divisor of count up to `most`: a remainder would be compiled as a second program."""
    return next(size for size in range(min(count, most), 0, -1) if count % size == 0)


# starts and choice


@partial(jax.jit, static_argnames="restarts")
def _start(model: Any, rows: Rows, key: jax.Array, params: Any, restarts: int) -> Any:
    """Starting params with a leading axis of restarts."""
    if params is not None:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, rows.dtype)[None], params)
    keys = jax.random.split(jax.random.fold_in(key, 0), restarts)
    ways = jnp.arange(restarts) % initialize.WAYS
    return _map(lambda start: model.init(start[0], rows, start[1]), (keys, ways), restarts, 16)


@partial(jax.jit, static_argnames="restarts")
def _start_batch(model: Any, rows: Rows, key: jax.Array, restarts: int) -> Any:
    count = rows.position.shape[0]
    keys = jax.random.split(jax.random.fold_in(key, 0), count * restarts)

    ways = jnp.tile(jnp.arange(restarts) % initialize.WAYS, count)

    def one(lane: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        key, owner, way = lane
        return model.init(key, jax.tree.map(lambda leaf: leaf[owner], rows), way)

    return _map(one, (keys, jnp.repeat(jnp.arange(count), restarts), ways), count * restarts, 64)


def _select(model: Any, lanes: Run, reorder: bool, algorithm: Algorithm) -> Fit:
    """The best sound lane; if none is sound, the best of the others."""
    sound = (lanes.status == Status.CONVERGED) | (lanes.status == Status.MAX_STEPS)
    worth = jnp.where(jnp.isnan(lanes.objective), -jnp.inf, lanes.objective)
    best = jnp.argmax(jnp.where(sound.any() & ~sound, -jnp.inf, worth))
    run = jax.tree.map(lambda leaf: leaf[best], lanes)
    params, degenerate, detail = run.params, run.degenerate & (run.status == Status.DEGENERATE), run.detail
    if reorder:
        order = model.canonical_order(params)
        params, degenerate = model.canonical(model.relabel(params, order)), degenerate[order]
        detail = algorithm.relabel(model, detail, order)
    return Fit(
        params=params,
        log_likelihood=run.log_likelihood,
        objective=run.objective,
        status=run.status,
        steps=run.steps,
        passes=lanes.passes.sum(),
        history=run.history,
        history_stride=run.stride,
        history_passes=run.spent,
        gap=run.gap,
        degenerate=degenerate,
        restart_log_likelihoods=lanes.log_likelihood,
        restart_statuses=lanes.status,
        restart_histories=lanes.history,
        restart_strides=lanes.stride,
        detail=detail,
    )


_choose = partial(jax.jit, static_argnums=(2, 3))(_select)


@partial(jax.jit, static_argnums=(2, 3))
def _choose_each(model: Any, grouped: Run, reorder: bool, algorithm: Algorithm) -> Fit:
    return jax.vmap(lambda lanes: _select(model, lanes, reorder, algorithm))(grouped)


def _fit_traced(
    model: Any, rows: Rows, params: Any, key: jax.Array, stop: Stop, algorithm: Algorithm, restarts: int
) -> Fit:
    """The same fit where nothing can be looked at: all lanes run until the last has stopped."""
    settled = model.settle(None, rows)
    starts = _start(settled, rows, key, params, restarts)
    lanes = _begin(settled, starts, rows, key, algorithm, None)
    limit = jnp.asarray(np.iinfo(np.int32).max, jnp.int32)
    if restarts == 1:
        run = _run(settled, jax.tree.map(lambda leaf: leaf[0], lanes), rows, stop, limit, algorithm)
        lanes = jax.tree.map(lambda leaf: leaf[None], run)
    else:
        lanes = jax.vmap(lambda run: _run(settled, run, rows, stop, limit, algorithm))(lanes)
    lanes = _conclude(settled, lanes, rows, None, 1, algorithm)
    return _select(settled, lanes, params is None, algorithm)
