"""Restarts and data sets as lanes of one program: begun together, advanced side by side, dropped as they finish."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import initialize
from jaxem import run as machine
from jaxem.algorithms.algorithm import Algorithm
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows
from jaxem.run import Run

SOUND = (Status.RUNNING, Status.CONVERGED, Status.MAX_STEPS)
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


class Reweighted(NamedTuple):
    """One set of prepared rows under D vectors of weights: data sets of which lane i reads the i-th, or that of its owner."""

    rows: Rows
    weights: jax.Array  # (D, n), or (D, S) of sequences

    @property
    def n(self) -> int:
        """Rows of each."""
        return self.rows.n


class Variants(NamedTuple):
    """D models that differ in their leaves alone, in place of one: lane i runs the `owner[i]`-th."""

    each: Any  # the model, leaves with a leading axis D
    owner: jax.Array  # (lanes,)

    @property
    def n_states(self) -> int:
        """Of each."""
        return self.each.n_states


def drive(
    model: Any,
    lanes: Run,
    rows: Rows | Reweighted,
    owner: jax.Array | None,
    stop: Stop,
    algorithm: Algorithm,
    progress: Any,
    steps: int = SEGMENT,
) -> Run:
    """Advances all lanes to their ends, a few at a time; the ones that finish make room for those that wait every `steps`."""
    total = lanes.status.shape[0]
    widest = widest_for(rows, model, total)
    while True:
        status = np.asarray(lanes.status)
        active = np.flatnonzero(status == Status.RUNNING)
        if progress is not None:
            progress(_progress(lanes, status))
        if active.size == 0:
            break
        width = narrowed(widest, active.size)
        alone = width == 1 and progress is None
        limit = np.iinfo(np.int32).max if alone else steps
        lanes = segment(model, lanes, _places(active, width, total), rows, owner, stop, _count(limit), algorithm)
    return conclude(model, lanes, rows, owner, min(widest, total), algorithm)


def advance(
    model: Any, lanes: Run, rows: Rows, stop: Stop, algorithm: Algorithm, among: np.ndarray, steps: int, widest: int
) -> Run:
    """The lanes numbered in `among`, `steps` steps further, or to their ends where those come first."""
    total = lanes.status.shape[0]
    active = among[np.asarray(lanes.status)[among] == Status.RUNNING]
    while active.size:
        width = narrowed(widest, active.size)
        places = _places(active, width, total)
        lanes = segment(model, lanes, places, rows, None, stop, _count(steps), algorithm)
        active = active[width:]
    return lanes


def _places(active: np.ndarray, width: int, total: int) -> jax.Array:
    """(width,) the first of the active lanes; `total`, which is no lane, where there are fewer."""
    chosen = np.full(width, total, np.int32)
    chosen[: min(width, active.size)] = active[:width]
    return jnp.asarray(chosen)


def _count(steps: Any) -> jax.Array:
    return jnp.asarray(steps, jnp.int32)


def widest_for(rows: Rows | Reweighted, model: Any, count: int) -> int:
    """The width of the widest program that `count` lanes need."""
    return min(lane_width(rows, model), 1 << (count - 1).bit_length())


def narrowed(widest: int, active: int) -> int:
    """The width of the program for so many active lanes: the widest, or one narrower by powers of `NARROWER`."""
    width = widest
    while width > 1 and active <= width // NARROWER:
        width = max(1, width // NARROWER)
    return width


def lane_width(rows: Rows | Reweighted, model: Any) -> int:
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


def _rows_of(rows: Rows | Reweighted, owner: jax.Array | None, lane: jax.Array) -> Rows:
    """What one lane reads."""
    if isinstance(rows, Reweighted):
        return rows.rows.weigh(rows.weights[lane if owner is None else owner[lane]])
    return rows if owner is None else jax.tree.map(lambda leaf: leaf[owner[lane]], rows)


def _model_of(model: Any, lane: jax.Array) -> Any:
    """What one lane runs."""
    return jax.tree.map(lambda leaf: leaf[model.owner[lane]], model.each) if isinstance(model, Variants) else model


def _shares(rows: Rows | Reweighted, owner: jax.Array | None, lanes: jax.Array) -> tuple[Any, Callable[[Any], Rows]]:
    """What each of the lanes has to itself, leaves with a leading axis, and what makes its rows of that."""
    if isinstance(rows, Reweighted):
        shared = rows.rows

        def weights_of(lane: jax.Array) -> Any:
            own = _rows_of(rows, owner, lane)
            return own.weights, tuple(section.weights for section in own.sections)

        def whole(own: Any) -> Rows:
            sections = zip(shared.sections, own[1], strict=True)
            cut = tuple(section._replace(weights=weights) for section, weights in sections)
            return dataclasses.replace(shared, weights=own[0], sections=cut)

        return jax.vmap(weights_of)(lanes), whole
    return (None, lambda _: rows) if owner is None else (_rows_of(rows, owner, lanes), lambda own: own)


@partial(jax.jit, static_argnames="algorithm")
def segment(
    model: Any,
    lanes: Run,
    chosen: jax.Array,
    rows: Rows | Reweighted,
    owner: Any,
    stop: Stop,
    limit: jax.Array,
    algorithm: Algorithm,
) -> Run:
    """Up to `limit` steps of the chosen lanes; places beyond the last lane are idle."""
    total = lanes.status.shape[0]
    safe = jnp.minimum(chosen, total - 1)
    picked = jax.tree.map(lambda leaf: leaf[safe], lanes)
    active = chosen < total
    if chosen.shape[0] == 1:
        only = jax.tree.map(lambda leaf: leaf[0], picked)
        one = run_alone(_model_of(model, safe[0]), only, _rows_of(rows, owner, safe[0]), stop, limit, algorithm)
        picked = jax.tree.map(lambda leaf: leaf[None], one)
    else:
        own, whole = _shares(rows, owner, safe)
        step = jax.vmap(lambda lane, run, own: machine.advance(_model_of(model, lane), run, whole(own), stop, algorithm))

        def go(carry: tuple[Run, jax.Array]) -> jax.Array:
            return (carry[1] < limit) & (active & (carry[0].status == Status.RUNNING)).any()

        def body(carry: tuple[Run, jax.Array]) -> tuple[Run, jax.Array]:
            runs, taken = carry
            running = runs.status == Status.RUNNING
            moved = step(safe, runs, own)
            return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(running, new, old), moved, runs), taken + 1

        picked, _ = jax.lax.while_loop(go, body, (picked, jnp.zeros((), jnp.int32)))
    return jax.tree.map(lambda leaf, new: leaf.at[chosen].set(new, mode="drop"), lanes, picked)


def run_alone(model: Any, run: Run, rows: Rows, stop: Stop, limit: jax.Array, algorithm: Algorithm) -> Run:
    """One lane to its end, or up to `limit` more steps."""

    def go(carry: tuple[Run, jax.Array]) -> jax.Array:
        return (carry[0].status == Status.RUNNING) & (carry[1] < limit)

    def body(carry: tuple[Run, jax.Array]) -> tuple[Run, jax.Array]:
        return machine.advance(model, carry[0], rows, stop, algorithm), carry[1] + 1

    return jax.lax.while_loop(go, body, (run, jnp.zeros((), jnp.int32)))[0]


@partial(jax.jit, static_argnames="algorithm")
def begin(
    model: Any, starts: Any, rows: Rows | Reweighted, key: jax.Array, algorithm: Algorithm, owner: jax.Array | None
) -> Run:
    """Runs at their starts (leaves with a leading axis), each with a key of its own; lane i reads data set `owner[i]`."""
    count = jax.tree.leaves(starts)[0].shape[0]
    keys = jax.random.split(jax.random.fold_in(key, 1), count)

    def one(start: tuple[Any, jax.Array, jax.Array]) -> Run:
        params, key, lane = start
        return machine.begin(_model_of(model, lane), params, _rows_of(rows, owner, lane), key, algorithm)

    return jax.lax.map(one, (starts, keys, jnp.arange(count)))


@partial(jax.jit, static_argnames=("width", "algorithm"))
def conclude(
    model: Any, lanes: Run, rows: Rows | Reweighted, owner: jax.Array | None, width: int, algorithm: Algorithm
) -> Run:
    """All lanes with the params that they end on evaluated, `width` side by side."""

    def one(lane: tuple[Run, jax.Array]) -> Run:
        return machine.conclude(_model_of(model, lane[1]), lane[0], _rows_of(rows, owner, lane[1]), algorithm)

    each = (lanes, jnp.arange(lanes.status.shape[0]))
    return jax.lax.map(one, each) if width == 1 else over_lanes(one, each, len(each[1]), width)


@jax.jit
def take(lanes: Run, among: jax.Array) -> Run:
    """The lanes with these numbers."""
    return jax.tree.map(lambda leaf: leaf[among], lanes)


@jax.jit
def put(lanes: Run, among: jax.Array, ended: Run) -> Run:
    """Lanes with those numbered in `among` replaced, without the algorithms' states; a detail that a lane has not is zeros."""
    detail = lanes.detail
    if detail is None:
        total = lanes.status.shape[0]
        detail = jax.tree.map(lambda leaf: jnp.zeros((total, *leaf.shape[1:]), leaf.dtype), ended.detail)
    old, new = lanes._replace(state=None, detail=detail), ended._replace(state=None)
    return jax.tree.map(lambda leaf, own: leaf.at[among].set(own), old, new)


@jax.jit
def join(lanes: Run, more: Run) -> Run:
    """The lanes of two that were `put`, one after another."""
    if lanes.detail is not None and more.detail is None:
        total = more.status.shape[0]
        more = more._replace(detail=jax.tree.map(lambda leaf: jnp.zeros((total, *leaf.shape[1:]), leaf.dtype), lanes.detail))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), lanes, more)


def worth(lanes: Run) -> np.ndarray:
    """What lanes are ranked by: the objective, and -inf for those that are not numbers or have collapsed."""
    objective = np.asarray(lanes.objective, np.float64)
    return np.where(np.isin(np.asarray(lanes.status), SOUND) & ~np.isnan(objective), objective, -np.inf)


def over_lanes(visit: Callable[[Any], Any], lanes: Any, count: int, most: int) -> Any:
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
def draw_starts(model: Any, rows: Rows, key: jax.Array, params: Any, restarts: int) -> Any:
    """Starting params with a leading axis of restarts."""
    if params is not None:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, rows.dtype)[None], params)
    keys = jax.random.split(jax.random.fold_in(key, 0), restarts)
    ways = jnp.arange(restarts) % initialize.WAYS
    return over_lanes(lambda start: model.init(start[0], rows, start[1]), (keys, ways), restarts, 16)


@partial(jax.jit, static_argnames="restarts")
def draw_starts_batch(model: Any, rows: Rows | Reweighted, key: jax.Array, restarts: int) -> Any:
    """The same for many data sets: `restarts` starts of each, one after another."""
    count = rows.weights.shape[0]
    keys = jax.random.split(jax.random.fold_in(key, 0), count * restarts)
    owner = jnp.arange(count)
    ways = jnp.tile(jnp.arange(restarts) % initialize.WAYS, count)

    def one(lane: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        key, own, way = lane
        return model.init(key, _rows_of(rows, owner, own), way)

    return over_lanes(one, (keys, jnp.repeat(owner, restarts), ways), count * restarts, 64)


def select(model: Any, lanes: Run, reorder: bool, algorithm: Algorithm) -> Fit:
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


choose = partial(jax.jit, static_argnums=(2, 3))(select)


@partial(jax.jit, static_argnums=(2, 3))
def choose_each(model: Any, grouped: Run, reorder: bool, algorithm: Algorithm) -> Fit:
    """`select` for each data set, or each model; lanes have axes (data sets, restarts)."""
    if isinstance(model, Variants):
        return jax.vmap(lambda own, lanes: select(own, lanes, reorder, algorithm))(model.each, grouped)
    return jax.vmap(lambda lanes: select(model, lanes, reorder, algorithm))(grouped)
