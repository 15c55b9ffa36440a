"""The laws of `jaxem.model`, one function each: None where one holds, else a sentence on what was found and where to look.

The docstring of a law is what a report says where it holds. tests/test_laws.py has the same laws with bounds for known models;
here they must serve any model, and speak to who wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import coordinates, reduce
from jaxem.fit import fit
from jaxem.models import Latent
from jaxem.normalization import integral_one, mean_score
from jaxem.restrict import paths_of
from jaxem.result import Status, Stop
from jaxem.rounding import rounding
from jaxem.run import explain_history

STEPS = 12  # of EM
SLACK = 1e4  # times eps: how far sums in different orders may lie apart, relative to their size


class NotChecked(Exception):
    """Why a law says nothing about this model or these data."""


class Case(NamedTuple):
    """What every law looks at."""

    model: Any
    data: Any  # raw rows
    n: int
    params: Any
    rows: Any  # the same, prepared
    key: jax.Array

    @property
    def tolerance(self) -> float:
        """Relative distance of sums taken in different orders."""
        return SLACK * float(jnp.finfo(self.rows.dtype).eps)


def take(data: Any, index: Any) -> Any:
    """Rows `index` of raw data of any kind."""
    if hasattr(data, "iloc"):
        return data.iloc[index]
    return jax.tree.map(lambda leaf: leaf.iloc[index] if hasattr(leaf, "iloc") else np.asarray(leaf)[index], data)


def moved(model: Any, params: Any, key: jax.Array, size: float = 0.1) -> Any:
    """Params moved at random, by `size` in their free coordinates."""
    vector = model.to_unconstrained(params)
    inside = jnp.isfinite(vector)
    noise = size * jax.random.normal(key, vector.shape, vector.dtype)
    return model.from_unconstrained(jnp.where(inside, jnp.where(inside, vector, 0) + noise, vector), like=params)


def _shown(params: Any) -> str:
    leaves = zip(paths_of(params), jax.tree.leaves(params), strict=True)
    return ", ".join(f"{name or 'params'} = {np.array2string(np.asarray(leaf), precision=4, threshold=6)}" for name, leaf in leaves)


def _apart(case: Case, ours: Any, theirs: Any, size: Any = None) -> str | None:
    """The first leaf in which two trees differ by more than rounding; `size` holds the terms that were summed."""
    leaves = jax.tree_util.tree_flatten_with_path(ours)[0]
    sizes = jax.tree.leaves(theirs if size is None else size)
    for (path, a), b, c in zip(leaves, jax.tree.leaves(theirs), sizes, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = max(np.abs(part).max(initial=0) for part in (a, b, np.asarray(c, np.float64)))
        wrong = ~(np.abs(a - b) <= case.tolerance * scale) & ~(a == b)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            return f"{jax.tree_util.keystr(path)}{list(map(int, place)) if place else ''}: {a[place]:.8g} against {b[place]:.8g}"
    return None


def _coordinates(model: Any, params: Any) -> list[str]:
    """The name of the param that each unconstrained coordinate belongs to."""
    leaves = zip(paths_of(model.domains), jax.tree.leaves(model.domains), jax.tree.leaves(params), strict=True)
    return [name or "params" for name, domain, leaf in leaves for _ in range(domain.count(jnp.shape(leaf)))]


# the laws; the docstring is what a report says where one holds


def _finite(case: Case) -> str | None:
    """log-likelihood and statistics are finite, and every row's log-likelihood adds up to the whole"""
    found = case.model.e_step(case.params, case.rows)
    each = np.asarray(case.model.log_likelihood(case.params, case.rows, per_row=True), np.float64)
    bad = np.flatnonzero(~np.isfinite(each))
    if bad.size:
        return f"row {bad[0]} has log-likelihood {each[bad[0]]} at {_shown(case.params)}: can no state produce it?"
    for path, leaf in jax.tree_util.tree_flatten_with_path(found.statistics)[0]:
        if not np.isfinite(np.asarray(leaf)).all():
            return f"the statistic{jax.tree_util.keystr(path)} is not finite at {_shown(case.params)}."
    total = float(case.model.log_likelihood(case.params, case.rows))
    for name, value in (("log_likelihood", total), ("e_step's log-likelihood", float(found.log_likelihood))):
        if abs(value - each.sum()) > case.tolerance * np.abs(each).sum():
            return f"{name} is {value:.8g}, but the rows' log-likelihoods sum to {each.sum():.8g}."
    return None


def _joint(case: Case) -> str | None:
    """a row's likelihood is the sum over states of exp(log_joint), and the posterior probabilities sum to 1"""
    posterior = np.asarray(case.model.posterior(case.params, case.rows), np.float64)
    if posterior.shape != (case.n, case.model.n_states):
        return f"posterior has shape {posterior.shape}; give (rows, states) = {(case.n, case.model.n_states)}."
    totals = posterior.sum(axis=1)
    if (posterior < 0).any() or (np.abs(totals - 1) > case.tolerance).any():
        return f"the posterior probabilities of a row sum to {totals[np.abs(totals - 1).argmax()]:.6g}, or some are negative."
    if isinstance(case.model, Latent) and not case.model.missing:
        each = case.model.log_likelihood(case.params, case.rows, per_row=True)
        tree = dict(case.data.items()) if hasattr(case.data, "columns") else case.data
        for i in range(min(case.n, 5)):
            row = jax.tree.map(lambda leaf, i=i: jnp.asarray(np.asarray(leaf)[i]), tree)
            joint = [float(case.model.log_joint(case.params, jnp.asarray(z), row)) for z in range(case.model.n_states)]
            if np.isfinite(each[i]) and abs(np.logaddexp.reduce(joint) - each[i]) > case.tolerance * (1 + abs(each[i])):
                return f"row {i}: the states' joint densities sum to {np.logaddexp.reduce(joint):.8g}, the row has {each[i]:.8g}."
    return None


def _additive(case: Case) -> str | None:
    """the statistics of two parts of the rows add up to those of all"""
    if case.n < 2:
        raise NotChecked("one row has no parts.")
    halves = [case.model.e_step(case.params, take(case.data, part)) for part in np.split(np.arange(case.n), 2)]
    size = jax.tree.map(lambda a, b: jnp.maximum(jnp.abs(a), jnp.abs(b)), *halves)
    found = _apart(case, jax.tree.map(jnp.add, *halves), case.model.e_step(case.params, case.rows), size)
    return found and (
        f"the statistics of two halves of the rows do not add up to those of all ({found}): every leaf must be a plain sum over "
        "rows; averages and other ratios belong into the M-step."
    )


def _weights(case: Case) -> str | None:
    """weight 2 is the row twice, and weight 0 its absence"""
    if case.n < 2:
        raise NotChecked("one row is too few.")
    weighted = case.model.e_step(case.params, case.model.prepare(case.data, np.tile([2.0, 0.0], case.n // 2)))
    repeated = case.model.e_step(case.params, take(case.data, np.repeat(np.arange(0, case.n, 2), 2)))
    found = _apart(case, weighted, repeated)
    if found is None:
        return None
    plain = case.model.e_step(case.params, case.rows)
    deaf = _apart(case, weighted, plain) is None
    why = "the weights are ignored" if deaf else "some sums are taken without the weights, or some more than once"
    return f"rows of weight 2 do not count as rows that are there twice ({found}): {why}."


def _order(case: Case) -> str | None:
    """the order of the rows does not matter"""
    turned = case.model.e_step(case.params, take(case.data, np.arange(case.n)[::-1]))
    found = _apart(case, turned, case.model.e_step(case.params, case.rows))
    return found and f"the rows in reverse order give other statistics ({found}): rows are taken as independent."


def _labels(case: Case) -> str | None:
    """states in another order give the same likelihood, and the M-step in that order"""
    if case.model.n_states == 1:
        raise NotChecked("there is one state.")
    order = jnp.roll(jnp.arange(case.model.n_states), 1)
    turned = case.model.relabel(case.params, order)
    if isinstance(case.model, Latent) and not case.model.exchangeable:
        raise NotChecked("the states of this model are not exchangeable.")
    ours, theirs = case.model.e_step(turned, case.rows), case.model.e_step(case.params, case.rows)
    if _apart(case, ours.log_likelihood, theirs.log_likelihood):
        return f"relabelled states have another log-likelihood, {ours.log_likelihood:.8g} against {theirs.log_likelihood:.8g}."
    back = case.model.relabel(case.model.m_step(case.params, theirs.statistics), order)
    found = _apart(case, case.model.m_step(turned, ours.statistics), back)
    return found and f"the M-step of relabelled states is not the relabelled M-step ({found}): do some leaves lack state_axes?"


def _fisher(case: Case) -> str | None:
    """the gradient of the log-likelihood is that of the expected log joint density (Fisher's identity)"""
    model, params = case.model, case.params
    statistics = model.e_step(params, case.rows).statistics
    vector = model.to_unconstrained(params)

    def at(u: jax.Array) -> Any:
        return model.from_unconstrained(u, like=params)

    q = np.asarray(jax.grad(lambda u: model.expected_log_joint(at(u), statistics))(vector))
    score = np.asarray(jax.grad(lambda u: model.log_likelihood(at(u), case.rows))(vector))
    if not (np.isfinite(q) & np.isfinite(score))[np.isfinite(vector)].all():
        bad = np.flatnonzero(np.isfinite(vector) & ~(np.isfinite(q) & np.isfinite(score)))[0]
        return (
            f"the gradient along {_coordinates(model, params)[bad]} is not finite at {_shown(params)}: a jnp.where around NaN or "
            "infinity still has a NaN gradient; change what goes in, not what comes out."
        )
    size = case.n + np.abs(score).max()
    wrong = np.flatnonzero(np.abs(q - score) > case.tolerance * size)
    if wrong.size:
        j = wrong[np.abs(q - score)[wrong].argmax()]
        return (
            f"along {_coordinates(model, params)[j]} the log-likelihood has slope {score[j]:.6g}, the expected log joint density "
            f"{q[j]:.6g}: the statistics, or the expected log joint made from them, belong to another density."
        )
    return None


def _expected(case: Case) -> Callable[[Any], jax.Array]:
    """params -> expected log joint density (+ log prior) given the posterior at the case's params."""
    model = case.model
    if isinstance(model, Latent) and model.closed:  # from log_joint itself, not from what was declared
        r = model.posterior(case.params, case.rows)

        def exact(params: Any) -> jax.Array:
            joint = reduce.map_rows(model, params, case.rows, lambda _bound, _cells, log_prob: log_prob)
            return jnp.where(r > 0, r * jnp.where(r > 0, joint, 0), 0).sum() + model.log_prior(params)

        return exact
    local = model.localize(case.params, case.rows)
    statistics = local.e_step(case.params, case.rows).statistics
    return lambda params: local.expected_log_joint(params, statistics) + model.log_prior(params)


def _m_step(case: Case) -> str | None:
    """the M-step maximises the expected log joint density plus log prior (or raises it, where it is not closed)"""
    model = case.model
    local = model.localize(case.params, case.rows)
    best = local.m_step(case.params, local.e_step(case.params, case.rows).statistics)
    found: Any = jax.tree.structure(best)
    if found != jax.tree.structure(case.params):
        return f"the M-step returns {found} for params {jax.tree.structure(case.params)}."
    q = jax.jit(_expected(case))
    before, after = float(q(case.params)), float(q(best))
    slack = case.tolerance * (abs(before) + case.n)
    if not after >= before - slack:
        return (
            f"the M-step lowered the expected log joint density from {before:.8g} to {after:.8g}, from {_shown(case.params)} to "
            f"{_shown(best)}: does it return the argmax?"
        )
    if not model.closed:
        return None
    for number, each in enumerate(jax.random.split(case.key, 16)):
        near = moved(model, best, each, 0.3 if number % 2 else 0.03)
        if float(q(near)) > after + slack:
            return (
                f"the expected log joint density is {after:.8g} after the M-step, at {_shown(best)}, but {float(q(near)):.8g} "
                f"nearby, at {_shown(near)}: does the M-step return the argmax?"
            )
    return None


def _monotone(case: Case) -> str | None:
    """no step of EM lowers log-likelihood plus log prior"""
    done = fit(case.model, case.rows, params=case.params, stop=Stop(tolerance=0.0, max_steps=STEPS))
    steps, values = explain_history(np.asarray(done.history, np.float64), int(done.history_stride))
    if int(done.status) == Status.NONFINITE:
        return f"after {int(done.steps)} steps the log-likelihood is infinite or no number; last sound at {_shown(done.params)}."
    noise = float(rounding(case.model, done.params, jnp.asarray(values[-1], case.rows.dtype), case.rows))
    fell = np.flatnonzero(np.diff(values) < -noise)
    if int(done.status) == Status.DECREASED or fell.size:
        at = int(steps[fell[0]]) if fell.size else int(done.steps)
        seen = f" from {values[fell[0]]:.8g} to {values[fell[0] + 1]:.8g}" if fell.size else f" below {values[-1]:.8g}"
        return (
            f"step {at} lowered log-likelihood plus log prior{seen}, near {_shown(done.params)}: is the M-step the argmax of the "
            "expected log joint density (plus log prior), and are the posterior probabilities those of this density?"
        )
    return None


def _domains(case: Case) -> str | None:
    """params go to free coordinates and back, and every point there is a sound param"""
    model, params = case.model, case.params
    vector = model.to_unconstrained(params)
    found = _apart(case, model.from_unconstrained(vector, like=params), params)
    if found:
        return f"params do not come back from their free coordinates ({found})."
    count, free = model.n_parameters(case.rows), int(np.isfinite(vector).sum())
    if count < free:
        return f"n_parameters says {count}, but there are {free} free coordinates."
    other = moved(model, params, case.key)
    try:
        coordinates.check_params(model.domains, model.structure(case.rows), other)
    except (TypeError, ValueError) as error:
        return f"params near the start are outside of their domain: {error}"
    return None


def _corners(case: Case) -> str | None:
    """far out, and with all weight on one row, nothing is NaN"""
    model = case.model
    vector = model.to_unconstrained(case.params)
    names = _coordinates(model, case.params)
    for j in range(min(len(names), 12)):
        for by in (-6.0, 6.0):
            far = model.from_unconstrained(vector.at[j].add(by), like=case.params)
            if np.isnan(np.asarray(model.log_likelihood(far, case.rows, per_row=True))).any():
                return f"a row's log-likelihood is NaN at {_shown(far)}; it may be small or -inf, but must be a number."
    for i in range(min(case.n, 3)):
        weights = np.zeros(case.n)
        weights[i] = 1
        rows = model.prepare(case.data, weights)
        local = model.localize(case.params, rows)
        best = local.m_step(case.params, local.e_step(case.params, rows).statistics)
        for name, leaf in zip(paths_of(best), jax.tree.leaves(best), strict=True):
            if np.isnan(np.asarray(leaf)).any():
                return (
                    f"with all weight on row {i} the M-step gives NaN in {name or 'params'}: a state that no row belongs to has "
                    "sums of 0; divide only where they are positive, and keep a finite value elsewhere."
                )
    return None


def _missing(case: Case) -> str | None:
    """a row with nothing observed adds nothing"""

    def emptied(leaf: Any) -> Any:
        leaf = np.array(leaf, np.float64 if np.asarray(leaf).dtype.kind in "biu" else None)
        leaf[:2] = np.nan
        return leaf

    if case.n < 4 or hasattr(case.data, "iloc"):
        raise NotChecked("needs an array of at least four rows.")
    data = jax.tree.map(emptied, case.data)
    try:
        rows = case.model.prepare(data)
    except (TypeError, ValueError) as error:
        raise NotChecked(f"missing cells are refused: {str(error).splitlines()[0]}") from error
    first = float(case.model.log_likelihood(case.params, rows, per_row=True)[0])
    if not abs(first) <= case.tolerance:
        return f"a row with nothing observed has log-likelihood {first:.6g}; it must be 0, the log of a sum of probabilities."
    found = _apart(case, case.model.e_step(case.params, rows), case.model.e_step(case.params, take(data, slice(1, None))))
    return found and f"a row with nothing observed changes the statistics ({found}); it must add nothing."


def _single(case: Case) -> str | None:
    """float32 data stay float32, with the same log-likelihood to its digits"""
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise NotChecked("JAX computes in float32 here; enable 64 bits to compare.")
    if hasattr(case.data, "iloc"):
        raise NotChecked("needs arrays.")

    def narrow(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf

    if not any(np.asarray(leaf).dtype.kind == "f" for leaf in jax.tree.leaves(case.data)):
        raise NotChecked("the data hold no floating point numbers.")
    rows = case.model.prepare(jax.tree.map(narrow, case.data))
    found = case.model.e_step(case.params, rows)
    wide = {str(leaf.dtype) for leaf in jax.tree.leaves(found)} - {"float32"}
    if wide:
        return f"statistics of float32 data are {', '.join(wide)}: does an array in the model have a dtype of its own?"
    exact = float(case.model.log_likelihood(case.params, case.rows))
    off = abs(float(found.log_likelihood) - exact)
    bound = SLACK * float(jnp.finfo(jnp.float32).eps) * (abs(exact) + case.n)
    if not off <= bound:
        return f"the log-likelihood is {float(found.log_likelihood):.8g} in float32 and {exact:.8g} in float64: digits cancel."
    return None


def _density(case: Case) -> str | None:
    """the density has integral 1"""
    found = integral_one(case.model, case.params, case.data)
    if found is not None and found[1]:
        return found[1]
    try:
        score, error, where = mean_score(case.model, case.params, case.data, case.key)
    except (TypeError, ValueError) as why:
        if found is not None:
            return None
        raise NotChecked(f"rows cannot be drawn: {str(why).splitlines()[0]}") from why
    if abs(score) > 6 * error:
        return (
            f"over rows drawn from the model the score along {_coordinates(case.model, case.params)[where]} has mean {score:.4g}, "
            f"standard error {error:.2g}, where it must be 0: the log-density lacks a term that depends on the params (its "
            "normalising constant), or sample draws from another distribution."
        )
    return None


LAWS: dict[str, Callable[[Case], str | None]] = {
    "finite": _finite,
    "states": _joint,
    "density": _density,
    "additive": _additive,
    "weights": _weights,
    "row order": _order,
    "labels": _labels,
    "gradient": _fisher,
    "M-step": _m_step,
    "monotone": _monotone,
    "domains": _domains,
    "corners": _corners,
    "missing": _missing,
    "float32": _single,
}
