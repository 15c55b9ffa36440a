"""Algorithms side by side: one model, one data set, one start, and what each of them makes of it for how much."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.algorithms import Algorithm
from jaxem.checks import as_key, check_count, check_informative
from jaxem.coordinates import check_params
from jaxem.data import prepare
from jaxem.fit import fit
from jaxem.parameters import text_table
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows
from jaxem.run import explain_history

WITHIN = 1e-4  # of log-likelihood, that a run may lie below the best of all to count as there


class Trial(NamedTuple):
    """One algorithm's run."""

    name: str
    fit: Fit | None  # None where the algorithm does not take the model
    objective: float  # log-likelihood + log prior of the params returned, -inf where there are none
    seconds: float  # of the run, compilation apart; NaN where there was none
    compile_seconds: float
    refusal: str | None = None  # why the algorithm does not take the model

    @property
    def status(self) -> str:
        """Name of the `Status`, or REFUSED."""
        return "REFUSED" if self.fit is None else Status(int(self.fit.status)).name


class CompareProgress(NamedTuple):
    """What a progress callback of `compare` is told before each algorithm."""

    done: int  # algorithms that have run
    of: int  # algorithms in all
    algorithm: str  # name of the one that begins
    objective: float  # best so far, -inf before there is one


class Path(NamedTuple):
    """How far a run was below the best of all, at the points that its history kept."""

    passes: np.ndarray  # spent when it was seen there
    seconds: np.ndarray  # the run's seconds, dealt over its passes
    gap: np.ndarray  # best objective of all less its own


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a run of each algorithm from the same start.

    `print` shows it as a table, `to_dataframe` gives it to pandas, `jaxem.plot.plot_comparison` draws gap against cost.
    """

    trials: tuple[Trial, ...]
    within: float  # how near the best counts as there

    @property
    def best(self) -> float:
        """The highest objective (log-likelihood + log prior) of all runs."""
        return max((trial.objective for trial in self.trials), default=-np.inf)

    def path(self, name: str) -> Path:
        """Gap against cost of one run.

        An algorithm that climbs something else than the objective, as a variational bound, has only its end here.

        Raises:
            KeyError: no run of that name.
        """
        trial = next((trial for trial in self.trials if trial.name == name), None)
        if trial is None:
            raise KeyError(f"{name!r}: there are {', '.join(trial.name for trial in self.trials)}.")
        if trial.fit is None:
            return Path(np.zeros(0), np.zeros(0), np.zeros(0))
        end = float(trial.fit.passes)
        stride = int(trial.fit.history_stride)
        steps, values = explain_history(np.asarray(trial.fit.history, np.float64), stride)
        spent = np.asarray(trial.fit.history_passes, np.float64)[steps // stride] + 1  # the pass that shows it
        slack = 1e-6 * (1 + abs(trial.objective))
        if abs(float(trial.fit.objective) - trial.objective) > slack:
            values, spent = values[:0], spent[:0]
        before = spent < end  # the end itself stands in the history where it was sound
        values, spent = np.append(values[before], trial.objective), np.append(spent[before], end)
        return Path(spent, spent / max(end, 1) * trial.seconds, self.best - values)

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a run, nearest to the best first, then cheapest."""
        out = []
        for trial in self.trials:
            path = self.path(trial.name)
            there = np.flatnonzero(path.gap <= self.within)
            first = int(there[0]) if there.size else None
            known = trial.fit is not None
            out.append({
                "algorithm": trial.name,
                "status": trial.status,
                "log_likelihood": float(trial.fit.log_likelihood) if trial.fit is not None else np.nan,
                "gap": self.best - trial.objective if known else np.nan,
                "steps": int(trial.fit.steps) if trial.fit is not None else 0,
                "passes": int(trial.fit.passes) if trial.fit is not None else 0,
                "passes_to_best": float(path.passes[first]) if first is not None else np.nan,
                "seconds": trial.seconds,
                "seconds_to_best": float(path.seconds[first]) if first is not None else np.nan,
                "compile_seconds": trial.compile_seconds,
                "note": trial.refusal or "",
            })  # fmt: skip
        def cost(each: dict[str, Any]) -> tuple[float, float]:
            far, gap = float(each["passes_to_best"]), float(each["gap"])
            return np.inf if np.isnan(far) else far, np.inf if np.isnan(gap) else gap

        return sorted(out, key=cost)

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a run (pandas must be installed)."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def __str__(self) -> str:
        rows = []
        for each in self.records():
            rows.append([
                each["algorithm"], each["status"], _number(each["log_likelihood"], ".6f"), _number(max(each["gap"], 0), ".1e"),
                f"{each['passes']:,}", _number(each["passes_to_best"], ",.0f"), _number(each["seconds"], ".3g"),
                _number(each["seconds_to_best"], ".3g"), _number(each["compile_seconds"], ".2g"),
            ])  # fmt: skip
        header = ["algorithm", "status", "log-likelihood", "gap", "passes", "(to best)", "seconds", "(to best)", "compiling"]
        notes = [f"{each['algorithm']}: {each['note']}" for each in self.records() if each["note"]]
        within = f"gap: how far below the best of all; (to best): cost of coming within {self.within:g} of it"
        return "\n".join([text_table(header, rows), "", within, *notes])


def _number(value: float, how: str) -> str:
    return "-" if np.isnan(value) else format(value, how)


def compare(
    model: Any,
    data: Any,
    algorithms: Mapping[str, Algorithm],
    *,
    params: Any = None,
    key: Any = 0,
    stop: Stop | None = None,
    budget: int | None = None,
    weights: Any = None,
    within: float = WITHIN,
    repeats: int = 1,
    progress: Callable[[CompareProgress], None] | None = None,
) -> Comparison:
    """Fits `model` by every algorithm from one start, and counts what each spends.

    Cost is counted in passes (E-step equivalents, all that an algorithm evaluates) and in seconds: each is run once to compile
    and then `repeats` times to be timed, compilation apart. The gap is to the highest objective that any of them reached. What
    fails, or does not take the model, is a row like the others.

    Args:
        model, data, weights: as for `fit`.
        algorithms: name -> algorithm, for instance `{"em": em(), "adam": gradient(optax.adam(0.05))}`.
        params: the start of all; default `model.init` from `key`.
        key: an int seed or a JAX key, of the start and of algorithms that draw.
        stop: when a run ends; default an estimated gain below 1e-8, at most 10,000 steps.
        budget: passes after which every run ends.
        within: how near the best objective counts as there, in units of log-likelihood.
        repeats: timed runs, of which the median counts.
        progress: called with a `CompareProgress` before each algorithm.

    Raises:
        TypeError, ValueError: bad input, before anything is fitted.
    """
    if not isinstance(algorithms, Mapping) or not algorithms:
        raise ValueError('algorithms: give a mapping of names to algorithms, for instance {"em": em(), "squarem": squarem()}.')
    for name, algorithm in algorithms.items():
        if not isinstance(algorithm, Algorithm):
            raise TypeError(f"algorithms: {name!r} is a {type(algorithm).__name__}; give an Algorithm, for instance em() (called).")
    if not within > 0:
        raise ValueError(f"within: found {within}; give a number above 0.")
    check_count(repeats, "repeats")
    stop = Stop(max_steps=10_000) if stop is None else stop
    if budget is not None:
        stop = Stop(stop.tolerance, stop.rule, stop.max_steps, check_count(budget, "budget"))
    rows = prepare(model, data).weigh(weights)
    key = as_key(key)
    check_informative(rows, model.n_states)
    if params is None:
        start = model.init(key, rows)
    else:
        check_params(model.domains, model.structure(rows), params)
        start = params
    trials: list[Trial] = []
    for name, algorithm in algorithms.items():
        if progress is not None:
            best = max((trial.objective for trial in trials), default=-np.inf)
            progress(CompareProgress(len(trials), len(algorithms), name, best))
        trials.append(_try(name, model, rows, algorithm, start, key, stop, repeats))
    return Comparison(tuple(trials), within)


def _try(
    name: str, model: Any, rows: Rows, algorithm: Algorithm, start: Any, key: jax.Array, stop: Stop, repeats: int
) -> Trial:
    def once() -> tuple[Fit, float]:
        begun = time.perf_counter()
        found = jax.block_until_ready(fit(model, rows, params=start, key=key, algorithm=algorithm, stop=stop))
        return found, time.perf_counter() - begun

    try:
        _, first = once()
    except (TypeError, ValueError) as error:  # what mathematics forbids an algorithm is told by its `init`
        return Trial(name, None, -np.inf, np.nan, np.nan, " ".join(str(error).split()))
    timed = [once() for _ in range(repeats)]
    found, seconds = timed[0][0], statistics.median(seconds for _, seconds in timed)
    objective = float(found.log_likelihood) + float(model.log_prior(found.params))
    objective = -np.inf if np.isnan(objective) or not _counts(found) else objective
    return Trial(name, found, objective, seconds, max(first - seconds, 0.0))


def _counts(found: Fit) -> bool:
    """Whether what a run reached can be the best of all: the likelihood beside a collapse has no bound."""
    return int(found.status) != Status.DEGENERATE
