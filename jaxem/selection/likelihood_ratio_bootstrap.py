"""How many components: the likelihood ratio of k against more, by the bootstrap."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.algorithms import algorithm_for
from jaxem.checks import as_key, check_count, check_informative
from jaxem.data import prepare
from jaxem.fit import check_stop, fit
from jaxem.inference.replicates import replicate, template_of
from jaxem.information import unit_weights
from jaxem.lanes import begin, choose_each, draw_starts_batch, drive, over_lanes
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows
from jaxem.selection.splitting import check_nested, nested_starts
from jaxem.settings import short_name

SEARCH = 20  # random starts of the small model on the data: draws begin at the params that they come from
TURN = 25  # draws fitted together
CLEAR = 10  # draws at or above the statistic after which it is clear that p is not small
SOUND = (Status.CONVERGED, Status.MAX_STEPS)
STOP = Stop(tolerance=1e-5, max_steps=3000)


class LikelihoodRatioBootstrap(NamedTuple):
    """What `bootstrap_likelihood_ratio` returns."""

    statistic: float  # 2 (l_large - l_small) >= 0 of the data
    p_value: float  # (1 + #{draws at or above it}) / (draws + 1)
    statistics: np.ndarray  # (draws,) of data drawn from the small model's fit
    small: Fit
    large: Fit
    asked: int  # draws asked for; fewer were made where the case was clear
    remarks: tuple[str, ...]
    names: tuple[str, str]  # short names of the models

    def __str__(self) -> str:
        made = len(self.statistics)
        above = int((self.statistics >= self.statistic).sum())
        lines = [
            f"{self.names[0]} against {self.names[1]}: likelihood ratio {self.statistic:.4f}, p = {self.p_value:.4f}",
            f"{above} of {made} draws from the smaller model reached it"
            + (f"; stopped before {self.asked}, as p is clearly not small" if made < self.asked else ""),
        ]
        return "\n".join([*lines, *self.remarks])


def bootstrap_likelihood_ratio(
    small: Any,
    large: Any,
    data: Any,
    draws: int = 99,
    key: Any = 0,
    *,
    restarts: int = 3,
    weights: Any = None,
    stop: Stop | None = None,
    early: bool = True,
) -> LikelihoodRatioBootstrap:
    """Tests a number of components against a larger one (McLachlan 1987, Applied Statistics 36:318).

    The likelihood ratio 2 (l_large - l_small) has no chi-squared distribution here, since params of the absent components
    mean nothing under the smaller model. Its distribution is that over data drawn from the smaller model's fit, in the form of
    the data (holes, censoring, covariates, lengths): p = (1 + #{LR* >= LR}) / (B + 1).

    The larger model is fitted from the smaller one's fit with each component split in turn, and from random starts: the
    same search on the data and on every draw. As the smaller model is a case of the larger, its log-likelihood is the least
    that counts for it, so that no statistic is negative. Draws are lanes of one program, some at a time; where 10 have reached
    the statistic, no more are made, and p is that of the draws before the tenth, which keeps its level (Besag and Clifford
    1991, Biometrika 78:301).

    Args:
        small, large: two `Mixture`s (or `HiddenMarkov`s) that differ in the number of states alone, without priors.
        data: raw, as for `fit`.
        draws: B.
        key: an int seed or a JAX key.
        restarts: random starts of each model on each data set, besides those that follow from the smaller one's fit.
        weights: as for `fit`; whole numbers, since a row is drawn as often as its weight says.
        stop: when a fit ends; default an estimated gain below 1e-5.
        early: whether to stop where p is clearly not small.

    Raises:
        TypeError, ValueError: bad input, before anything compiles; data that cannot be drawn.
    """
    check_nested(small, large)
    draws, restarts, key = check_count(draws, "draws"), check_count(restarts, "restarts"), as_key(key)
    stop = check_stop(STOP if stop is None else stop)
    rows = prepare(small, data, weights)
    check_informative(rows, large.n_states)
    template = template_of(data, rows, np.asarray(unit_weights(rows), np.float64))
    begun = fit(small, rows, key=jax.random.fold_in(key, 1), restarts=SEARCH if small.needs_key else 1, stop=stop)
    if int(begun.status) not in (Status.CONVERGED, Status.MAX_STEPS):
        raise ValueError(f"small: its fit to the data failed ({begun.explain()}); there is nothing to draw from.")
    turns = -(-(draws + 1) // TURN)
    size = -(-(draws + 1) // turns)  # data sets fitted together, of one shape in every turn
    statistic, found, own = np.nan, np.zeros(0), (begun, begun)
    remarks: list[str] = []
    for turn in range(turns):
        drawn, fitted = (jax.random.fold_in(jax.random.fold_in(key, number), turn) for number in (3, 4))
        count = size - (turn == 0)  # the data themselves go first, in the same search
        datasets = replicate(small, begun.params, template, jax.random.split(drawn, count))
        given = [template.weights] * count
        if turn == 0:
            datasets, given = [data, *datasets], [weights, *given]
        some, fits = _ratios(small, large, datasets, given, begun.params, fitted, restarts, stop)
        if turn == 0:
            own = jax.tree.map(lambda leaf: leaf[0], fits)
            statistic, some = float(some[0]), some[1:]
        if not np.isfinite(statistic):
            failed = own[0] if int(own[0].status) not in SOUND else own[1]
            remarks.append(f"A fit to the data failed ({Status(int(failed.status)).name}): there is no statistic.")
            break
        found = np.concatenate([found, some])[:draws]
        reached = np.flatnonzero(found >= statistic)
        if early and len(reached) >= CLEAR and reached[CLEAR - 1] + 1 < draws:
            found = found[: reached[CLEAR - 1]]
            break
    kept = found[np.isfinite(found)]
    if len(kept) < len(found):
        remarks.append(f"{len(found) - len(kept)} of {len(found)} draws had no sound fit and are left out, which may bias p.")
    p = (1 + int((kept >= statistic).sum())) / (len(kept) + 1) if np.isfinite(statistic) else np.nan
    names = short_name(small), short_name(large)
    return LikelihoodRatioBootstrap(statistic, p, kept, *own, draws, tuple(remarks), names)


def _ratios(
    small: Any, large: Any, datasets: list[Any], weights: list[Any], params: Any, key: jax.Array, restarts: int, stop: Stop
) -> tuple[np.ndarray, tuple[Fit, Fit]]:
    """(D,) statistics of data sets, NaN where a fit failed, and both models' fits; the small model begins at `params` too."""
    count, keys = len(datasets), jax.random.split(key, 4)
    rows = small.prepare_batch(datasets, weights)
    lesser = small.settle(None, rows)
    own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, 1, *leaf.shape)), params)
    below = _best(lesser, rows, _joined(own, lesser, rows, keys[0], restarts), keys[0], stop)
    rows = large.prepare_batch(datasets, weights)
    greater = large.settle(None, rows)
    split = _split(lesser, below.params, greater, rows, keys[1])
    above = _best(greater, rows, _joined(split, greater, rows, keys[2], restarts), keys[2], stop)
    gain = np.asarray(above.log_likelihood, np.float64) - np.asarray(below.log_likelihood, np.float64)
    sound = np.isin(np.asarray(above.status), SOUND) & np.isin(np.asarray(below.status), SOUND)
    return np.where(sound, np.maximum(2 * gain, 0), np.nan), (below, above)


def _joined(given: Any, model: Any, rows: Rows, key: jax.Array, restarts: int) -> Any:
    """Starts (D, S, ...): those given and `restarts` random ones of each data set, where starts are random."""
    if not model.needs_key:
        return given
    count = rows.weights.shape[0]
    drawn = draw_starts_batch(model, rows, key, restarts)
    return jax.tree.map(
        lambda a, b: jnp.concatenate([a.astype(b.dtype), b.reshape(count, restarts, *b.shape[1:])], axis=1), given, drawn
    )


def _best(model: Any, rows: Rows, starts: Any, key: jax.Array, stop: Stop) -> Fit:
    """The best fit to each data set from its starts (D, S, ...)."""
    algorithm = algorithm_for(model)
    algorithm.check(model, rows)
    shape = jax.tree.leaves(starts)[0].shape[:2]
    owner = jnp.repeat(jnp.arange(shape[0]), shape[1])
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), starts)
    lanes = drive(model, begin(model, flat, rows, key, algorithm, owner), rows, owner, stop, algorithm, None)
    return choose_each(model, jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), lanes), False, algorithm)


@jax.jit
def _split(small: Any, params: Any, large: Any, rows: Rows, key: jax.Array) -> Any:
    """(D, k, ...) starts of the larger model: each of the k components of each data set's smaller fit split."""
    count, k = rows.weights.shape[0], small.n_states
    owner, first = jnp.repeat(jnp.arange(count), k), jnp.tile(jnp.arange(k), count)

    def one(lane: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        key, owner, first = lane
        own, here = jax.tree.map(lambda leaf: leaf[owner], (rows, params))
        return nested_starts(small, here, large, own, key, first)

    found = over_lanes(one, (jax.random.split(key, count * k), owner, first), count * k, 16)
    return jax.tree.map(lambda leaf: leaf.reshape(count, k, *leaf.shape[1:]), found)
