"""EM against gradient ascent, told fairly: six problems, the same starts for all, Adam with its learning rate tuned.

A run has got there when it is within 1e-4 of the highest log-likelihood that any run from the same start reached. Seconds are
those of a second call, compilation apart. Adam's learning rate is the one of the grid that gets the first start there in fewest
passes (or nearest); what the grid cost is told beside it, and not counted. Adam knows no end: it runs through its budget of passes.
"""

from __future__ import annotations

import statistics
import time
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import jaxem
from jaxem import CensoredRegression, FactorAnalysis, Gaussian, HiddenMarkov, Mixture, Regression, Single, Stop, tobit
from jaxem.compare import Comparison, compare
from jaxem.run import explain_history

WITHIN = 1e-4
RATES = (1e-3, 1e-2, 1e-1, 3e-1, 1.0)
STOP = Stop(tolerance=1e-7, max_steps=100_000)
ENDLESS = Stop(tolerance=0.0, max_steps=100_000)
REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "reference"


class Problem(NamedTuple):
    """A model and data."""

    name: str
    model: Any
    rows: Any


def mixture(name: str, n: int, distance: float) -> Problem:
    """Three Gaussian components in two columns, unit covariances, their centres a triangle with sides `distance`."""
    rng = np.random.default_rng(1)
    centres = distance * np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    y = centres[rng.integers(3, size=n)] + rng.normal(size=(n, 2))
    model = Mixture(Gaussian(), 3)
    return Problem(f"{name}, n={n}", model, jaxem.prepare(model, y))


def holes(n: int) -> Problem:
    """One Gaussian of five correlated columns with 30 % of the cells missing."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(n, 5)) @ (np.eye(5) + rng.normal(size=(5, 5))).T + 10
    y[rng.random(y.shape) < 0.3] = np.nan
    model = Single(Gaussian())
    return Problem(f"multivariate normal, 30 % missing, n={n}", model, jaxem.prepare(model, y))


def markov(n: int) -> Problem:
    """Three states that last ten steps, Gaussian emissions 1.5 standard deviations apart."""
    rng = np.random.default_rng(3)
    states = [0]
    for _ in range(n - 1):
        states.append(states[-1] if rng.random() < 0.9 else int(rng.integers(3)))
    y = 1.5 * np.array(states)[:, None] + rng.normal(size=(n, 1))
    model = HiddenMarkov(Gaussian(), 3)
    return Problem(f"hidden Markov model, 3 states, n={n}", model, jaxem.prepare(model, y))


def factors(n: int) -> Problem:
    """Nine columns, two factors, uniquenesses from 0.2 to 0.9."""
    rng = np.random.default_rng(4)
    loadings = rng.normal(size=(9, 2)) * 0.7
    y = rng.normal(size=(n, 2)) @ loadings.T + rng.normal(size=(n, 9)) * np.linspace(0.2, 0.9, 9) ** 0.5
    model = FactorAnalysis(2)
    return Problem(f"factor analysis, 9 columns, 2 factors, n={n}", model, jaxem.prepare(model, y))


def affairs() -> Problem:
    """Tobit regression: 601 rows, three quarters of them censored at 0 (Fair 1978)."""
    table = pd.read_csv(REFERENCE / "tobit_affairs" / "data.csv")
    x = table[["age", "yearsmarried", "religiousness", "occupation", "rating"]]
    model = Single(CensoredRegression())
    return Problem("Tobit, n=601", model, jaxem.prepare(model, Regression(tobit(table["affairs"], left=0), x)))


def start(problem: Problem, seed: int) -> Any:
    """The model's own start of another kind for each seed, moved by noise in unconstrained coordinates."""
    params = problem.model.init(seed, problem.rows, seed % 3)
    u = problem.model.to_unconstrained(params)
    noise = 0.3 * np.random.default_rng(seed).normal(size=u.shape)
    scale = jnp.maximum(1.0, 0.1 * jnp.abs(u))
    return problem.model.from_unconstrained(u + noise * scale, like=params)


def missing_information(problem: Problem, params: Any) -> float:
    """The largest fraction of missing information: the rate at which plain EM's steps shrink at the end.

    The objective's own changes shrink by the square of it.
    """
    fit = jaxem.fit(problem.model, problem.rows, params=params, algorithm=jaxem.em(expanded=False), stop=STOP)
    stride = int(fit.history_stride)
    changes = np.diff(explain_history(np.asarray(fit.history), stride)[1][:-1])
    measurable = np.flatnonzero(changes > 1e-10 * abs(float(fit.objective)))
    if len(measurable) < 3:
        return 0.0
    last = changes[measurable[-6:]]
    return float(np.median(last[1:] / last[:-1])) ** (0.5 / stride)


class Tuned(NamedTuple):
    """Adam with the learning rate that the grid chose."""

    rate: float
    passes: int  # of the whole grid
    seconds: float  # of the whole grid, compilation apart


def tune(problem: Problem, params: Any, budget: int, best: float) -> Tuned:
    found = compare(
        problem.model, problem.rows, {str(rate): adam(rate) for rate in RATES}, params=params, stop=ENDLESS, budget=budget
    )

    def cost(trial: Any) -> tuple[float, float]:
        path = found.path(trial.name)
        gap = best - (found.best - path.gap)
        there = np.flatnonzero(gap <= WITHIN)
        far = float(path.passes[there[0]]) if len(there) else np.inf
        return far, float(gap.min()) if len(gap) else np.inf

    chosen = min(found.trials, key=cost)
    spent = [int(trial.fit.passes) for trial in found.trials if trial.fit is not None]
    return Tuned(float(chosen.name), sum(spent), sum(trial.seconds for trial in found.trials))


@cache  # an optimiser made anew would compile anew
def adam(rate: float) -> jaxem.Algorithm:
    return jaxem.gradient(optax.adam(rate))


def study(report: common.Report, problem: Problem, starts: int, budget: int) -> None:
    begun = time.perf_counter()
    rivals = {
        "em": jaxem.em(), "squarem": jaxem.squarem(jaxem.em()), "anderson": jaxem.anderson(jaxem.em()), "lbfgs": jaxem.lbfgs(),
        "newton": jaxem.newton(),
    }  # fmt: skip
    found: list[Comparison] = []
    tuned = None
    for seed in range(starts):
        params = start(problem, seed)
        own = compare(problem.model, problem.rows, rivals, params=params, stop=STOP, budget=budget, within=WITHIN)
        tuned = tune(problem, params, budget, own.best) if tuned is None else tuned
        ascent = compare(
            problem.model, problem.rows, {"adam": adam(tuned.rate)}, params=params, stop=ENDLESS, budget=budget, within=WITHIN
        )
        found.append(Comparison(own.trials + ascent.trials, WITHIN))
    assert tuned is not None
    fraction = missing_information(problem, start(problem, 0))
    lines = []
    for name in (*rivals, "adam"):
        records = [next(each for each in one.records() if each["algorithm"] == name) for one in found]
        there = [each for each in records if not np.isnan(each["passes_to_best"])]
        shown = f"adam({tuned.rate:g})" if name == "adam" else name
        passes = common.span([each["passes_to_best"] for each in there]) if there else "-"
        seconds = f"{1e3 * statistics.median(each['seconds_to_best'] for each in there):.0f}" if there else "-"
        compiling = statistics.median(each["compile_seconds"] for each in records[:1])
        worst = max((each["gap"] for each in records if not np.isnan(each["gap"])), default=np.inf)
        ends = sorted({each["status"] for each in records})
        lines.append([shown, f"{len(there)} of {starts}", passes, seconds, f"{compiling:.1f}", f"{worst:.1e}", ", ".join(ends)])
    columns = ["algorithm", "got there", "passes, median (min-max)", "ms, median", "compiling, s", "worst gap at the end", "ended"]
    title = f"{problem.name}: largest fraction of missing information {fraction:.3f}; Adam's rate from a grid of {len(RATES)}"
    report.table(f"{title} that cost {tuned.passes:,} passes, {tuned.seconds:.1f} s", columns, lines)
    print(f"\n{time.perf_counter() - begun:.0f} s")


def main() -> None:
    args = common.arguments(
        __doc__,
        starts={"type": int, "default": 5, "help": "starts of each problem"},
        budget={"type": int, "default": 2000, "help": "passes of each run"},
        only={"type": int, "default": None, "help": "number of the one problem to run"},
    )
    common.configure()
    report = common.Report(args, "optax")
    n = 100 if args.small else 500
    problems = [
        partial(mixture, "well separated components", n, 6.0), partial(mixture, "overlapping components", n, 2.2),
        partial(holes, n), partial(markov, n), partial(factors, n), affairs,
    ]  # fmt: skip
    for make in problems if args.only is None else [problems[args.only]]:
        study(report, make(), 2 if args.small else args.starts, 100 if args.small else args.budget)
    report.finish()


if __name__ == "__main__":
    main()
