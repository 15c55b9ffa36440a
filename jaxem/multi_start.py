"""Where a fit starts and which starts go on: strategies of global search, given to `fit(..., search=...)`.

The likelihood of most latent-variable models has many maxima. Plain restarts spend as much on a start that will end low as on
one that will end high. These strategies look at how far the starts have come and drop those behind, or move a fit that has
ended out of its maximum. All work on lanes of the driver's program, count every pass of every lane, and give the same result for
the same key. They pay where a start seldom ends at the best maximum and starts differ early; where most starts reach it, or
where the best is seen late, plain `restarts=` are as good.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import agglomerate, split_merge
from jaxem.algorithms.algorithm import Algorithm
from jaxem.checks import check_count
from jaxem.kernels.agglomeration import CRITERIA
from jaxem.lanes import SOUND, advance, begin, draw_starts, drive, put, take, widest_for, worth
from jaxem.result import Stop
from jaxem.rows import Rows
from jaxem.run import Run


class Search(NamedTuple):
    """A strategy: what `successive_halving`, `split_and_merge` and `hierarchical` return.

    `explore(model, rows, key, params, algorithm, stop, progress)` runs on the host and returns all its lanes: those that went
    to their end, and those that were dropped, which are left RUNNING, or as they had ended.
    """

    explore: Callable[..., Run]
    check: Callable[[Any, Any], None]  # (model, params): raises where the strategy does not suit, before anything compiles


def successive_halving(
    starts: int = 64, rungs: Sequence[int] = (5, 10, 20), keep: int | float = 1 / 2, algorithm: Algorithm | None = None
) -> Search:
    """Starts that run side by side; after each rung those behind are dropped, and what is left goes on to its end.

    Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016) of short EM runs; with one rung, the short
    runs of emEM (Biernacki, Celeux and Govaert 2003, CSDA 41:561). Starts are ranked by the objective they have reached; one that
    is not a number or has collapsed comes last.

    Args:
        starts: number of random starts.
        rungs: steps of the first rung, of the second, ...
        keep: share that stays after each rung, or a whole number that stays after each.
        algorithm: of the rungs; by default that of the fit. Another one hands its params over after the last rung, for instance
            `stochastic_em()`, or `annealed_em()` with steps enough for its whole schedule.

    Costs `starts` x (rungs[0] + keep rungs[1] + ...) passes and what those left need.

    Raises:
        TypeError, ValueError: at the call, what is no such number. In `fit`: a start given by params=, or restarts= beside it.
    """
    starts = check_count(starts, "starts")
    lengths = tuple(check_count(steps, "rungs") for steps in _listed(rungs))
    _check_keep(keep, starts)
    if algorithm is not None and not isinstance(algorithm, Algorithm):
        found = getattr(algorithm, "__name__", type(algorithm).__name__)
        raise TypeError(f"algorithm: found {found}; give an Algorithm, for instance em() (called).")
    return Search(partial(_explore, starts, lengths, keep, algorithm), _draws_its_own)


def split_and_merge(starts: int = 1, candidates: int = 60, steps: int = 3, keep: int = 3, moves: int = 50) -> Search:
    """Fits of a mixture that have ended are moved out of their maximum: two components merged, a third split (SMEM).

    From the best of `starts` fits: pairs to merge are ranked by the rows they share, components to split by how far their rows
    are from their density. The three components of each of the `candidates` most promising triples are fitted with the others
    held; the `keep` that have come highest go on with all components, side by side. The first that gets above the fit it
    came from, and ends well, is taken, and the next move starts there. The search ends where none does: each is followed
    until its own estimate of its end is lower. The objective never falls from move to move (Ueda, Nakano, Ghahramani and Hinton
    2000, Neural Computation 12:2109, who try the candidates one after another).

    Args:
        starts: number of random starts; with params= given to `fit`, that start alone.
        candidates: triples that are looked at for a move.
        steps: of EM over the three components alone.
        keep: candidates that go on.
        moves: at most so many.

    Costs what the starts need, and for a move 1 + 3 `candidates` `steps` / K passes and those of the candidates that go on.
    It holds n x K numbers for each move.

    Raises:
        TypeError, ValueError: at the call, what is no such number. In `fit`: a model that is no `Mixture` of at least three.
    """
    counts = {"starts": starts, "candidates": candidates, "steps": steps, "keep": keep, "moves": moves}
    settings = split_merge.Settings(*(check_count(value, name) for name, value in counts.items()))
    return Search(partial(split_merge.explore, settings), split_merge.check)


def hierarchical(sample: int = 2000, criterion: str | Sequence[str] = ("VVV", "EII")) -> Search:
    """Starts without luck: clusters of a sample of rows, merged one by one where it costs the classification likelihood least.

    Model-based agglomerative clustering, the start of mclust (Banfield and Raftery 1993; Fraley 1998): without chance where no
    rows are left out of the sample. The rows are taken as `model.start_points` sees them, for a normal family its columns scaled
    to variance 1, for categories one column each, so that any family can start this way. A missing cell is the mean of the ten
    nearest rows that have it, for the start alone. Rows beyond the sample are put where the first E-step puts them.

    Args:
        sample: rows that are clustered, drawn by the key where there are more of positive weight (of the at most 4096 that starts
            look at).
        criterion: one, or several of which each gives a start: "VVV", clusters of any shape and size, along at most ten principal
            directions, as mclust begins; "EII", spheres of one size, which is Ward's criterion. See
            `jaxem.kernels.agglomeration`.

    The merges serve every number of components, and are kept: models that see the same rows alike, as those of one `select`,
    find them once. Costs O(m^2) memory and time for m rows, 2000 in a few seconds. Such a start is better than one drawn at
    random and no better than the best of several: where it matters, compare with `restarts=10`.

    Raises:
        TypeError, ValueError: at the call, what is no number of rows or no such criterion. In `fit`: a start given by params=, or
            a model that does not start from clusters of rows.
    """
    several = not isinstance(criterion, str) and hasattr(criterion, "__iter__")
    chosen: tuple[Any, ...] = tuple(criterion) if several else (criterion,)
    if not chosen or any(one not in CRITERIA for one in chosen):
        raise ValueError(f"criterion: found {criterion!r}; use one of {', '.join(CRITERIA)}, or several.")
    return Search(partial(agglomerate.explore, check_count(sample, "sample"), chosen), agglomerate.check)


def check_search(search: Any, model: Any, params: Any, key: Any, restarts: int, traced: bool) -> None:
    """Raises where `fit` cannot take this search, before anything compiles."""
    if search is None:
        return
    check_kind(search)
    if restarts != 1:
        raise ValueError(f"restarts: found {restarts} beside search, which has its own number of starts; leave one of them out.")
    if traced:
        raise ValueError("search: starts are chosen by what they have reached, which cannot be looked at under jit or vmap.")
    search.check(model, params)
    if key is None and params is None:
        raise ValueError("key: a search draws its starts at random; give an int seed or a JAX key.")


def check_kind(search: Any) -> None:
    """Raises TypeError where `search` is neither None nor a strategy."""
    if search is not None and not isinstance(search, Search):
        found = getattr(search, "__name__", type(search).__name__)
        raise TypeError(f"search: found {found}; give a strategy of jaxem.multi_start, for instance successive_halving() (called).")


# starts that are dropped on the way


def _explore(
    starts: int,
    rungs: tuple[int, ...],
    keep: int | float,
    scout: Algorithm | None,
    model: Any,
    rows: Rows,
    key: jax.Array,
    params: Any,
    algorithm: Algorithm,
    stop: Stop,
    progress: Any,
) -> Run:
    first = algorithm if scout is None else scout
    first.check(model, rows)
    lanes = begin(model, draw_starts(model, rows, key, params, starts), rows, key, first, None)
    alive, behind, widest = np.arange(starts), np.arange(0), widest_for(rows, model, starts)
    for steps in rungs:
        lanes = advance(model, lanes, rows, stop, first, alive, steps, widest)
        ranked = alive[np.argsort(-worth(lanes)[alive], kind="stable")]
        alive, dropped = np.split(ranked, [_kept(keep, len(alive))])
        behind = np.concatenate([dropped, behind])
    ended = lanes
    while True:
        going = take(lanes, jnp.asarray(alive))
        if scout is not None:
            going = hand_over(model, going, rows, key, algorithm)
        going = drive(model, going, rows, None, stop, algorithm, progress)
        ended = put(ended, jnp.asarray(alive), going)
        if np.isfinite(worth(going)).any() or not len(behind):
            return ended
        alive, behind = np.split(behind, [len(alive)])  # all that went on have failed: the next best take their place


def hand_over(model: Any, lanes: Run, rows: Rows, key: jax.Array, algorithm: Algorithm) -> Run:
    """Lanes of one algorithm begun anew by another where they are; their passes stay counted."""
    begun = begin(model, _points(lanes), rows, jax.random.fold_in(key, 2), algorithm, None)
    return begun._replace(passes=begun.passes + lanes.passes)


@jax.jit
def _points(lanes: Run) -> Any:
    """The newest params of each lane; the last good ones where it has failed."""
    sound = jnp.isin(lanes.status, jnp.asarray(SOUND))
    return jax.tree.map(lambda new, old: jax.vmap(jnp.where)(sound, new, old), lanes.state.params, lanes.params)


# checks


def _draws_its_own(model: Any, params: Any) -> None:
    del model
    if params is not None:
        raise ValueError("params: is one start, and this search draws its own; drop params=, or leave out search=.")


def _listed(rungs: Any) -> tuple[Any, ...]:
    if isinstance(rungs, (str, bytes)) or not hasattr(rungs, "__iter__"):
        raise TypeError(f"rungs: found {rungs!r}; give the steps of each rung, for instance (5, 10, 20).")
    listed = tuple(rungs)
    if not listed:
        raise ValueError("rungs: is empty; give the steps of each rung, for instance (5, 10, 20).")
    return listed


def _check_keep(keep: Any, starts: int) -> None:
    whole = isinstance(keep, numbers.Integral)
    if isinstance(keep, bool) or not (whole or isinstance(keep, (float, np.floating))):
        raise TypeError(f"keep: found {keep!r}; give a share between 0 and 1, or a whole number of starts.")
    if not (1 <= keep <= starts if whole else 0 < keep < 1):
        raise ValueError(f"keep: found {keep}; give a share between 0 and 1, or a whole number from 1 to starts={starts}.")


def _kept(keep: int | float, count: int) -> int:
    return min(int(keep), count) if keep >= 1 else max(1, round(keep * count))
