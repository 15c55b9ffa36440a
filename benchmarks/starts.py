"""Strategies of global search against plain restarts that spend at least as many passes, on problems with many maxima."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import numpy as np

import jaxem
from jaxem import Bernoulli, Gaussian, HiddenMarkov, Mixture, lanes, multi_start, weak_prior

STOP = jaxem.Stop(tolerance=1e-4, max_passes=10**6)
SAME = 0.01  # of log-likelihood, within which an optimum is the best known
REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "reference"


class Case(NamedTuple):
    """A problem with many maxima."""

    name: str
    model: Any
    rows: Any
    pool: int  # plain restarts that the repeats draw from


def grid(n: int) -> Case:
    """25 components at the points of a square grid, 2 columns, spherical covariances."""
    rng = np.random.default_rng(1)
    centres = np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(25, 2)
    y = centres[rng.integers(25, size=n)] + 0.2 * rng.normal(size=(n, 2))
    return _case("25 components on a grid", Mixture(Gaussian("spherical"), 25), y)


def unbalanced(n: int) -> Case:
    """Five overlapping components, one of which has 80 % of the rows."""
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [3, 0], [0, 3], [-3, 0], [0, -3.0]])
    scale = np.array([1.5, 0.4, 0.4, 0.4, 0.4])
    states = rng.choice(5, n, p=[0.8, 0.05, 0.05, 0.05, 0.05])
    y = centres[states] + scale[states, None] * rng.normal(size=(n, 2))
    model = Mixture(Gaussian(), 5)
    return _case("unbalanced overlapping components, K=5", dataclasses.replace(model, prior=weak_prior(y, 5)), y)


def galaxies() -> Case:
    """Velocities of 82 galaxies (Roeder 1990), six components with variances of their own under a weak prior."""
    y = np.genfromtxt(REFERENCE / "gmm_galaxies" / "data.csv", delimiter=",", names=True)
    y = np.asarray(y[y.dtype.names[-1]], float)[:, None]
    return _case("galaxies, K=6, weak prior", Mixture(Gaussian(), 6, prior=weak_prior(y, 6)), y)


def latent_class(n: int) -> Case:
    """Eight yes-or-no questions, five classes that are not far apart."""
    rng = np.random.default_rng(3)
    yes = rng.beta(1.5, 1.5, size=(5, 8))
    y = (rng.random((n, 8)) < yes[rng.integers(5, size=n)]).astype(float)
    return _case("latent class, 5 classes of 8 questions", Mixture(Bernoulli(), 5), y)


def markov(n: int) -> Case:
    """A chain of six states that overlap in one column."""
    rng = np.random.default_rng(4)
    transition = 0.85 * np.eye(6) + 0.15 * rng.dirichlet(np.ones(6), size=6)
    states = [0]
    for _ in range(n - 1):
        states.append(rng.choice(6, p=transition[states[-1]]))
    y = 1.5 * np.array(states)[:, None] + rng.normal(size=(n, 1)) * rng.uniform(0.3, 1.0, 6)[states][:, None]
    return _case("hidden Markov model, 6 states", HiddenMarkov(Gaussian("tied"), 6), y)


def _case(name: str, model: Any, y: np.ndarray, pool: int = 500) -> Case:
    return Case(name, model, jaxem.prepare(model, y), pool)


def strategies() -> dict[str, Callable[[], multi_start.Search]]:
    backwards = jaxem.annealed_em((1.2, 1.1, 1.0), steps=5)
    return {
        "one rung": partial(multi_start.successive_halving, 30, (10,), 2),
        "successive_halving": partial(multi_start.successive_halving, 48, (5, 10, 20), 1 / 3),
        "one rung of annealed_em": partial(multi_start.successive_halving, 5, (35,), 1, jaxem.annealed_em(steps=5)),
        "the same, beta from 1.2 to 1": partial(multi_start.successive_halving, 5, (15,), 1, backwards),
        "split_and_merge": multi_start.split_and_merge,
    }


class Plain(NamedTuple):
    """Plain restarts, one by one."""

    objective: np.ndarray
    passes: np.ndarray


def plain_restarts(case: Case, seed: int = 0) -> Plain:
    algorithm, key = jaxem.em(), jax.random.key(seed)
    model = case.model.settle(None, case.rows)
    starts = lanes.draw_starts(model, case.rows, key, None, case.pool)
    found = lanes.begin(model, starts, case.rows, key, algorithm, None)
    found = lanes.drive(model, found, case.rows, None, STOP, algorithm, None)
    return Plain(lanes.worth(found), np.asarray(found.passes))


def as_many_passes(plain: Plain, passes: int, seed: int) -> float:
    """Best of plain restarts drawn without replacement until they have spent at least as many passes."""
    order = np.random.default_rng(seed).permutation(len(plain.passes))
    count = 1 + int(np.searchsorted(np.cumsum(plain.passes[order]), passes))
    return float(plain.objective[order[:count]].max())


def quartiles(gaps: np.ndarray) -> str:
    low, middle, high = np.quantile(gaps, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f}, {high:.2f})"


def study(report: common.Report, case: Case, repeats: int) -> None:
    begun = time.perf_counter()
    plain = plain_restarts(case)
    found: dict[str, list[tuple[float, int]]] = {}
    for name, make in strategies().items():
        try:
            fits = [jaxem.fit(case.model, case.rows, key=100 + r, search=make(), stop=STOP) for r in range(repeats)]
        except TypeError:
            continue  # not for this model
        found[name] = [(float(f.objective) if f.status in (1, 2) else -np.inf, int(f.passes)) for f in fits]
    best = max(plain.objective.max(), *(value for runs in found.values() for value, _ in runs))
    lines = []
    for name, runs in found.items():
        ours = np.array([value for value, _ in runs])
        passes = np.array([spent for _, spent in runs])
        theirs = np.array([as_many_passes(plain, spent, seed) for seed, spent in enumerate(passes)])
        higher, lower = int((ours > theirs + SAME).sum()), int((ours < theirs - SAME).sum())
        lines.append([
            name, int(np.median(passes)), quartiles(best - ours), quartiles(best - theirs), f"{(ours > best - SAME).mean():.0%}",
            f"{(theirs > best - SAME).mean():.0%}", f"{higher} / {repeats - higher - lower} / {lower}",
        ])  # fmt: skip
    columns = ["strategy", "passes, median", "below the best known, median (quartiles)", "plain restarts", "reached it", "plain"]
    columns += ["higher / level / lower"]
    once = float((plain.objective > best - SAME).mean())
    title = f"{case.name}, n={case.rows.n}: best known {best:.3f}, reached by {once:.1%} of {case.pool} plain restarts of "
    report.table(title + f"{np.mean(plain.passes):.0f} passes each", columns, lines)
    print(f"\n{time.perf_counter() - begun:.0f} s")


def main() -> None:
    args = common.arguments(
        __doc__,
        repeats={"type": int, "default": 20, "help": "keys for each strategy"},
        only={"type": int, "default": None, "help": "number of the one case to run"},
    )
    common.configure()
    report = common.Report(args)
    n = 200 if args.small else 500
    cases = [partial(grid, n), partial(unbalanced, n), galaxies, partial(latent_class, n), partial(markov, n)]
    for make in cases if args.only is None else [cases[args.only]]:
        case = make()
        study(report, case._replace(pool=30) if args.small else case, 2 if args.small else args.repeats)
    report.finish()


if __name__ == "__main__":
    main()
