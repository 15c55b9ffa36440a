"""How well a model foretells what it has not seen."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import algorithm_for
from jaxem.checks import as_key, check_count, check_informative
from jaxem.data import prepare
from jaxem.fit import check_stop
from jaxem.information import unit_weights
from jaxem.lanes import Reweighted, begin, choose_each, draw_starts_batch, drive
from jaxem.result import Status, Stop
from jaxem.rows import Rows


class CrossValidation(NamedTuple):
    """What `cross_validate` returns."""

    log_likelihood: float  # sum over units of weight times held-out log-likelihood; NaN where a fold failed. Higher is better
    standard_error: float  # of it, by the spread over units
    per_unit: np.ndarray  # (units,) held-out log-likelihood of each row or sequence, unweighted; NaN for one that does not count
    fold: np.ndarray  # (units,) which fold it was held out in; -1 for one that does not count
    statuses: tuple[Status, ...]  # of the fit to each fold's complement

    def __str__(self) -> str:
        failed = [f"fold {place} ended {status.name}" for place, status in enumerate(self.statuses) if status not in _SOUND]
        said = f"held-out log-likelihood {self.log_likelihood:.4f} (standard error {self.standard_error:.4f}; higher is better)"
        return f"{len(self.statuses)} folds: {said}" + "".join(f"; {each}" for each in failed)


_SOUND = (Status.CONVERGED, Status.MAX_STEPS)


def cross_validate(
    model: Any,
    data: Any,
    folds: int = 5,
    key: Any = 0,
    *,
    restarts: int = 10,
    weights: Any = None,
    stop: Stop | None = None,
) -> CrossValidation:
    """Log-likelihood of units held out, under fits to the rest (Smyth 2000, Statistics and Computing 10:63).

    Units are rows, or sequences of a model of time; they are dealt to the folds at random, as evenly as can be. The data are
    there once: a fold is a vector of weights, 0 where held out, and folds times restarts are lanes of one program. Starts are
    drawn from what is not held out.

    Args:
        model, data, weights, stop: as for `fit`.
        folds: from 2 to the number of units that count; that many is leave-one-out.
        key: an int seed or a JAX key, of the folds and of the starts. Models with the same key and data have the same folds.
        restarts: random starts of each fold.

    Raises:
        TypeError, ValueError: bad input, before anything compiles: folds below 2 or more than units, too few rows for the states.
    """
    stop = check_stop(stop)
    rows = prepare(model, data).weigh(weights)
    folds = check_folds(folds, rows)
    restarts, key = check_count(restarts, "restarts") if model.needs_key else 1, as_key(key)
    check_informative(rows, model.n_states)
    units = np.asarray(unit_weights(rows), np.float64)
    fold = _deal(units > 0, folds, key)
    _check_training(model, rows, fold, folds)
    algorithm = algorithm_for(model)
    algorithm.check(model, rows)
    settled = model.settle(None, rows)
    training = Reweighted(rows, jnp.asarray(np.where(fold == np.arange(folds)[:, None], 0, _given(rows)), rows.dtype))
    owner = jnp.repeat(jnp.arange(folds), restarts)
    lanes = begin(settled, draw_starts_batch(settled, training, key, restarts), training, key, algorithm, owner)
    lanes = drive(settled, lanes, training, owner, stop, algorithm, None)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(folds, restarts, *leaf.shape[1:]), lanes)
    fits = choose_each(settled, grouped, False, algorithm)
    statuses = tuple(Status(int(status)) for status in np.asarray(fits.status))
    held = np.full(len(units), np.nan)
    for place, status in enumerate(statuses):
        if status in _SOUND:
            params = jax.tree.map(lambda leaf, place=place: leaf[place], fits.params)
            found = np.asarray(model.log_likelihood(params, rows, per_row=True), np.float64)
            held[fold == place] = found[fold == place]
    terms = (units * held)[fold >= 0]
    spread = float(np.sqrt(len(terms)) * terms.std(ddof=1)) if np.isfinite(terms).all() else np.nan
    return CrossValidation(float(terms.sum()), spread, held, fold, statuses)


def check_folds(folds: Any, rows: Rows) -> int:
    """`folds` as an int from 2 to the number of units that count.

    Raises:
        TypeError, ValueError: otherwise.
    """
    folds = check_count(folds, "folds")
    units = int((np.asarray(unit_weights(rows)) > 0).sum())
    what = "row" if rows.lanes is None else "sequence"
    if folds < 2:
        raise ValueError(f"folds: found {folds}; give at least 2.")
    if folds > units:
        advice = "cut it into several, or take a criterion that needs no folds" if units == 1 else f"give at most {units}"
        raise ValueError(f"folds: found {folds} for {units} {what}{'s' * (units != 1)} that count; {advice}.")
    return folds


def _deal(counted: np.ndarray, folds: int, key: jax.Array) -> np.ndarray:
    """(units,) fold of each unit that counts, -1 for others; sizes differ by one at most."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    out = np.full(len(counted), -1)
    dealt = rng.permutation(np.flatnonzero(counted))
    out[dealt] = np.arange(len(dealt)) % folds
    return out


def _given(rows: Rows) -> np.ndarray:
    """(units,) weights as given."""
    weights = np.asarray(rows.weights)
    return weights if rows.lanes is None else weights[np.asarray(rows.lanes.start)]


def _check_training(model: Any, rows: Rows, fold: np.ndarray, folds: int) -> None:
    """Raises ValueError where a fold leaves fewer rows than states."""
    own = fold if rows.lanes is None else fold[np.asarray(rows.lanes.sequence)]
    seen = np.asarray(rows.informative) & (own >= 0)
    left = seen.sum() - np.bincount(own[seen], minlength=folds)
    if left.min() < model.n_states:
        few = f"a fold leaves {left.min()} rows for {model.n_states} states"
        raise ValueError(f"folds: found {folds}, of which {few}; give more folds, or ask for fewer states.")
