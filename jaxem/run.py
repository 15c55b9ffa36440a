"""One fit as a pure state machine: begin, advance, conclude. `fit` drives one or many of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms.algorithm import Algorithm
from jaxem.result import Status, Stop
from jaxem.rounding import aitken_gap, resolution, rounding
from jaxem.rows import Rows

HISTORY = 256  # entries kept; a longer run drops every second one and doubles the stride
TRUSTED = 0.1  # rounding of a row's log-density beyond which small changes of the objective mean nothing
STALLS = 3  # steps in a row that show no gain, after which nothing more can be measured


class Run(NamedTuple):
    """A fit under way."""

    state: Any  # the algorithm's, with the params to evaluate next
    params: Any  # the last sound params, with known
    log_likelihood: jax.Array  # () log-likelihood
    objective: jax.Array  # () and log-likelihood + log prior; -inf before the first step
    before: jax.Array  # () objective one step earlier, NaN where there is none
    gap: jax.Array  # () Aitken estimate of what is left to gain
    stalls: jax.Array  # () int32
    status: jax.Array  # () int32
    steps: jax.Array  # () int32
    passes: jax.Array  # () int32
    history: jax.Array  # (HISTORY,) objective before step 0, stride, ...
    stride: jax.Array  # () int32
    spent: jax.Array  # (HISTORY,) int32 passes that led to the params whose objective `history` holds
    degenerate: jax.Array  # (K,) bool
    detail: Any = None  # what the algorithm found besides params, once the run is concluded


def begin(model: Any, params: Any, rows: Rows, key: jax.Array, algorithm: Algorithm) -> Run:
    """A run at its start. A start that has collapsed already is DEGENERATE."""
    dtype = rows.dtype
    collapsed = model.degenerate(params, rows)
    status = jnp.where(collapsed.any(), Status.DEGENERATE, Status.RUNNING)
    nan, zero = jnp.full((), jnp.nan, dtype), jnp.zeros((), jnp.int32)
    return Run(
        state=algorithm.init(model, params, rows, key),
        params=params,
        log_likelihood=jnp.full((), -jnp.inf, dtype),
        objective=jnp.full((), -jnp.inf, dtype),
        before=nan,
        gap=jnp.full((), jnp.inf, dtype),
        stalls=zero,
        status=status.astype(jnp.int32),
        steps=zero,
        passes=zero + algorithm.opening(model, params),
        history=jnp.full(HISTORY, jnp.nan, dtype),
        stride=zero + 1,
        spent=jnp.zeros(HISTORY, jnp.int32),
        degenerate=collapsed,
    )


def advance(model: Any, run: Run, rows: Rows, stop: Stop, algorithm: Algorithm) -> Run:
    """One step, with the verdict on it."""
    old = run.state.params
    state, info = algorithm.step(model, run.state, rows)
    finite = jnp.isfinite(info.objective)
    noise = rounding(model, old, info.objective, rows)
    change = info.objective - run.objective
    fell = algorithm.monotone & (change < -noise)
    sound = finite & ~fell
    collapsed = model.degenerate(state.params, rows)

    first = run.steps == 0
    steps = run.steps + 1
    # a fall within rounding counts as standing still, unless rounding has eaten the likelihood, as beside a collapse
    slack = jnp.where(noise <= TRUSTED * rows.weights.sum(), noise, 0)
    quiet = ~first & (jnp.abs(change) <= resolution(info.objective, rows)) | ((change <= 0) & (change >= -slack))
    stalls = jnp.where(quiet, run.stalls + 1, 0)
    gap = aitken_gap(info.objective, run.objective, run.before) if info.gap is None else info.gap.astype(run.gap.dtype)
    met = ~first & ((stalls >= STALLS) | _met(model, stop, old, state.params, info.objective, change, gap, slack))
    if not algorithm.monotone and info.gap is not None:  # steps are random: one that changes nothing does not say that all do
        met = ~first & jnp.isfinite(gap) & (met | (gap < stop.tolerance))
    passes = run.passes + jnp.asarray(info.passes, jnp.int32)
    status = jnp.select(
        [~finite, fell, collapsed.any(), met, (steps >= stop.max_steps) | (passes >= stop.max_passes)],
        [Status.NONFINITE, Status.DECREASED, Status.DEGENERATE, Status.CONVERGED, Status.MAX_STEPS],
        Status.RUNNING,
    )
    history, spent, stride = _record(run, info.objective)
    return Run(
        state=state,
        params=_where(sound, old, run.params),
        log_likelihood=jnp.where(sound | first, info.log_likelihood, run.log_likelihood),
        objective=jnp.where(sound | first, info.objective, run.objective),
        before=jnp.where(first, jnp.nan, run.objective),
        gap=gap,
        stalls=stalls,
        status=status.astype(jnp.int32),
        steps=steps,
        passes=passes,
        history=history,
        stride=stride,
        spent=spent,
        degenerate=collapsed,
    )


def conclude(model: Any, run: Run, rows: Rows, algorithm: Algorithm) -> Run:
    """Evaluates what the algorithm ends on (one pass), and settles on it, or on the last good params if it is not sound."""
    ended_well = (run.status == Status.CONVERGED) | (run.status == Status.MAX_STEPS)
    end = algorithm.conclude(model, run.state._replace(params=_where(ended_well, run.state.params, run.params)), rows)
    sound = ended_well & jnp.isfinite(end.objective)
    if algorithm.monotone:
        sound = sound & (end.objective >= run.objective - rounding(model, end.params, end.objective, rows))
    history, spent, stride = _record(run, end.objective)
    # never advanced, as the start itself had collapsed; or ended badly where what was told is of other params than those kept
    kept = jax.tree.map(lambda new, old: (new == old).all(), end.params, run.params)
    here = jnp.stack(jax.tree.leaves(kept)).all()
    unknown = (run.steps == 0) | (~ended_well & here & (not algorithm.monotone))
    known = jnp.where(jnp.isnan(end.log_likelihood), -jnp.inf, end.log_likelihood)
    worth = jnp.where(jnp.isnan(end.objective), -jnp.inf, end.objective)
    gap = jnp.minimum(run.gap, aitken_gap(end.objective, run.objective, run.before)) if algorithm.monotone else run.gap
    return run._replace(
        params=_where(sound, end.params, run.params),
        log_likelihood=jnp.where(sound | unknown, known, run.log_likelihood),
        objective=jnp.where(sound | unknown, worth, run.objective),
        gap=jnp.where(sound, gap, jnp.inf),
        passes=run.passes + 1,
        history=jnp.where(sound, history, run.history),
        stride=jnp.where(sound, stride, run.stride),
        spent=jnp.where(sound, spent, run.spent),
        detail=end.detail,
    )


def _met(
    model: Any, stop: Stop, old: Any, new: Any, objective: jax.Array, change: jax.Array, gap: jax.Array, slack: jax.Array
) -> jax.Array:
    """Whether the stop rule holds. A change that is a fall within rounding counts as no change."""
    signed = change >= -slack
    if stop.rule == "aitken":
        return signed & (gap < stop.tolerance) | (signed & (gap == 0))
    if stop.rule == "absolute":
        return signed & (change <= stop.tolerance)
    if stop.rule == "relative":
        return signed & (change / (1 + jnp.abs(objective)) <= stop.tolerance)
    moved = jnp.abs(model.to_unconstrained(new) - model.to_unconstrained(old))
    return jnp.where(jnp.isnan(moved), 0, moved).max() <= stop.tolerance


def _record(run: Run, objective: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Notes the objective and the passes spent before this step; a full history first drops every second entry and doubles
    the stride."""
    full = run.steps // run.stride >= HISTORY
    stride = jnp.where(full, 2 * run.stride, run.stride)
    due = run.steps % stride == 0
    place = jnp.where(due, run.steps // stride, 0)

    def write(kept: jax.Array, value: jax.Array, blank: Any) -> jax.Array:
        thinned = jnp.concatenate([kept[::2], jnp.full(HISTORY - HISTORY // 2, blank, kept.dtype)])
        kept = jnp.where(full, thinned, kept)
        return kept.at[place].set(jnp.where(due, value, kept[place]))

    return write(run.history, objective, jnp.nan), write(run.spent, run.passes, 0), stride


def _where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def explain_history(history: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and objectives of a concrete history, NaN padding removed."""
    values = np.asarray(history)
    kept = ~np.isnan(values)
    return np.flatnonzero(kept) * int(stride), values[kept]
