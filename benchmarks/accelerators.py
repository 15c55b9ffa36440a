"""Accelerators of EM and its rivals on five small problems from ten starts each: passes over the data until the maximum is reached.

A pass is one E-step equivalent; rejected trials, derivatives and the first look at the data count. For each start the maximum
aimed at is the highest that is known of the hill which plain EM climbs from there: each algorithm first runs to its own end, and
of the ends within 0.01 of EM's the highest counts. Where EM itself runs out of passes on a concave problem, the highest of all.
An algorithm gets there at the first params whose log-likelihood is within 1e-7 of that. One that ends on a lower hill, or
whose budget of passes ends, or whose status is bad, has failed, and its passes are left out of the median; one that ends higher
passes that level on its way, and has got there.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem import (
    FactorAnalysis,
    Gaussian,
    GaussianParams,
    Mixture,
    MixtureParams,
    Poisson,
    PoissonParams,
    Single,
    Status,
    StudentT,
    StudentTParams,
)
from jaxem import run as machine
from jaxem.algorithms.em import by_statistics
from jaxem.kernels.linalg import cholesky, invert_lower
from jaxem.kernels.moments import centre

NEAR = 1e-7  # log-likelihood short of the maximum at which it counts as reached
SAME_HILL = 1e-2  # ends closer than that are one maximum
DEATHS = np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1.0])  # Hasselblad (1969), days with 0, 1, ... deaths


class Case(NamedTuple):
    """A problem."""

    name: str
    model: Any
    rows: Any
    starts: Any  # params with a leading axis
    concave: bool = False  # whether there is one maximum only
    plain: Any = jaxem.em(expanded=False)  # the map


def stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)


def deaths(count: int) -> Case:
    rng = np.random.default_rng(1)
    model = Mixture(Poisson(), 2)
    starts = [MixtureParams(np.array([0.3, 0.7]), PoissonParams(np.array([[1.0], [2.5]])))]  # the published one
    for _ in range(count - 1):
        low, high = np.sort(rng.uniform(0.5, 5.0, 2))
        share = rng.uniform(0.1, 0.9)
        starts.append(MixtureParams(np.array([share, 1 - share]), PoissonParams(np.array([[low], [high]]))))
    return Case("Poisson mixture (3)", model, model.prepare(np.arange(10.0)[:, None], DEATHS), stacked(starts))


def overlapping(count: int, n: int) -> Case:
    rng = np.random.default_rng(2)
    means = np.array([[0.0, 0.0], [2.0, 0.5], [0.5, 2.0]])
    y = means[rng.choice(3, n, p=[0.4, 0.35, 0.25])] + rng.normal(size=(n, 2)) @ np.array([[1.0, 0.3], [0.0, 0.9]])
    model = Mixture(Gaussian(), 3)
    pooled = np.cov(y.T)
    starts = []
    for _ in range(count):
        seeds = y[rng.choice(n, 3, replace=False)]
        starts.append(MixtureParams(np.full(3, 1 / 3), GaussianParams(seeds, np.stack([pooled] * 3))))
    return Case("overlapping Gaussians (17)", model, model.prepare(y), stacked(starts))


def _textbook(model: Any, params: Any, statistics: Any, data: Any) -> Any:
    """The M-step of Rubin and Thayer (1982, Psychometrika 47:69), factors as missing data; `em()` integrates them out instead."""
    del data
    weight, mean, scatter = centre(statistics, model.family.gaussian.frame)
    spread, loadings = scatter[0] / weight[0], params.loadings
    root = invert_lower(cholesky(loadings @ loadings.T + jnp.diag(params.uniquenesses)))
    back = loadings.T @ root.T @ root
    cross = spread @ back.T
    second = jnp.eye(loadings.shape[1]) - back @ loadings + back @ cross
    root = invert_lower(cholesky(second))
    moved = cross @ root.T @ root
    return params._replace(mean=mean[0], loadings=moved, uniquenesses=jnp.diagonal(spread) - (moved * cross).sum(1))


TEXTBOOK = by_statistics(_textbook)


def factors(count: int, n: int) -> Case:
    rng = np.random.default_rng(3)
    p, q = 10, 3
    loadings, own = rng.normal(size=(p, q)), rng.uniform(0.3, 1.5, p)
    y = rng.normal(size=(n, q)) @ loadings.T + rng.normal(size=(n, p)) * np.sqrt(own)
    model = FactorAnalysis(q)
    rows = model.prepare(y)
    starts = []
    for _ in range(count):
        like = model.init(None, rows)
        starts.append(like._replace(loadings=rng.normal(size=(p, q)), uniquenesses=y.var(0) * rng.uniform(0.3, 0.9, p)))
    return Case("factor analysis (47), factors as missing data", model, rows, stacked(starts), True, TEXTBOOK)


def heavy_tails(count: int, n: int, expanded: bool) -> Case:
    rng = np.random.default_rng(4)
    d = 5
    root = rng.normal(size=(d, d)) / 2 + np.eye(d)
    y = rng.normal(size=(n, d)) @ root.T / np.sqrt(rng.chisquare(1.0, n))[:, None]
    model = Single(StudentT(dof=1.0))
    starts = []
    for _ in range(count):
        spread = np.diag(np.exp(rng.normal(size=d)))
        starts.append(StudentTParams(np.median(y, 0) + rng.normal(size=d), spread, np.array(1.0)))
    name = "Cauchy rows (20)" + (", PX-EM" if expanded else "")
    return Case(name, model, model.prepare(y), stacked(starts), True, jaxem.em(expanded=expanded))


def proportions(count: int, n: int, m: int) -> Case:
    rng = np.random.default_rng(5)
    y = rng.choice([-2.0, 0.0, 2.5], n, p=[0.3, 0.5, 0.2]) + rng.normal(size=n)
    grid = np.linspace(-6.0, 6.0, m)
    held = GaussianParams(grid[:, None], np.ones((m, 1)))
    model = Mixture(Gaussian("diagonal"), m, fixed={"mean": held.mean, "covariance": held.covariance})
    starts = [MixtureParams(rng.dirichlet(np.full(m, 5.0)), held) for _ in range(count)]
    return Case(f"proportions of {m} ({m - 1})", model, model.prepare(y[:, None]), stacked(starts), True)


def contestants(case: Case) -> dict[str, Any]:
    """The algorithms that are run on a problem."""
    plain = case.plain
    out = {
        "em": plain,
        "squarem": jaxem.squarem(plain),
        "anderson": jaxem.anderson(plain),
        "quasi_newton": jaxem.quasi_newton(plain),
        "aitken": jaxem.aitken(plain),
        "parabolic": jaxem.parabolic(plain),
        "accelerated": jaxem.accelerated(plain),
    }
    if plain == jaxem.em(expanded=False):  # the others know no map
        out |= {"natural_gradient": jaxem.natural_gradient(), "lbfgs": jaxem.lbfgs(), "newton": jaxem.newton()}
    return out


class Path(NamedTuple):
    """What a fit passed on its way."""

    objectives: Any  # (steps,) at params found so far
    passes: Any  # (steps,) spent when they were found
    status: Any
    objective: Any  # at the end
    spent: Any  # passes of the whole fit


@partial(jax.jit, static_argnames=("algorithm", "steps"))
def paths(model: Any, starts: Any, rows: Any, algorithm: Any, stop: jaxem.Stop, steps: int) -> Path:
    """Of each start: the driver's own run, step by step."""

    def one(start: Any) -> Path:
        def go(carry: Any) -> jax.Array:
            return carry[0].status == Status.RUNNING

        def step(carry: Any) -> Any:
            before, objectives, passes = carry
            run = machine.advance(model, before, rows, stop, algorithm)
            at = jnp.minimum(before.steps, steps - 1)  # the objective is that of the params before the step
            return run, objectives.at[at].set(run.objective), passes.at[at].set(before.passes)

        begin = machine.begin(model, start, rows, jax.random.key(0), algorithm)
        empty = jnp.full(steps, -jnp.inf, rows.dtype), jnp.zeros(steps, jnp.int32)
        run, objectives, passes = jax.lax.while_loop(go, step, (begin, *empty))
        end = machine.conclude(model, run, rows, algorithm)
        objectives = objectives.at[jnp.minimum(run.steps, steps - 1)].set(end.objective)
        passes = passes.at[jnp.minimum(run.steps, steps - 1)].set(run.passes)
        return Path(objectives, passes, run.status, end.objective, end.passes)

    return jax.lax.map(one, starts)


def run(case: Case, budget: int, chosen: list[str] | None) -> tuple[list[list[Any]], dict[str, float]]:
    """Lines of the table, and medians by name (infinite where half of the starts did not get there)."""
    entrants = {k: v for k, v in contestants(case).items() if chosen is None or k in chosen or k.lower().endswith("em")}
    model = case.model.settle(jax.tree.map(lambda leaf: leaf[0], case.starts), case.rows)
    stop = jaxem.Stop(tolerance=1e-12, max_steps=budget, max_passes=budget)
    found = {}
    for name, algorithm in entrants.items():
        path = jax.tree.map(np.asarray, paths(model, case.starts, case.rows, algorithm, stop, budget + 1))
        found[name] = path._replace(objective=np.where(np.isfinite(path.objective), path.objective, -np.inf))
    highest = np.stack([path.objective for path in found.values()])
    plain = highest[0]
    near = highest if case.concave else np.where(np.abs(highest - plain) <= SAME_HILL, highest, -np.inf)
    targets = np.maximum(plain, near.max(0))
    lines, medians = [], {}
    for name, path in found.items():
        bad = ~np.isin(path.status, (Status.CONVERGED, Status.MAX_STEPS))
        there = path.objectives >= targets[:, None] - NEAR
        got = there.any(1) & ~bad
        taken = np.take_along_axis(path.passes, there.argmax(1)[:, None], 1)[:, 0][got]
        lower = ~got & ~bad & (path.objective < targets - SAME_HILL) & (path.status == Status.CONVERGED)
        late = ~got & ~bad & ~lower
        medians[name] = float(np.median(taken)) if 2 * got.sum() > len(got) else np.inf
        shown = [f"{np.median(taken):.0f}", str(taken.max())] if got.any() else ["-", "-"]
        failed = f"{lower.sum()} / {late.sum()} / {bad.sum()}" if not got.all() else "none"
        stopped = (path.status == Status.CONVERGED) & got
        short = np.maximum(targets - path.objective, 0)[stopped]
        own = f"{np.median(path.spent[stopped]):.0f}, {short.max():.0e}" if stopped.any() else "-"
        lines.append([name, *shown, failed, str(int((path.objective > targets + SAME_HILL).sum())), own])
    return lines, medians


def main() -> None:
    only = {"nargs": "*", "help": "names of algorithms"}
    args = common.arguments(__doc__, only=only, problems={"nargs": "*", "type": int, "help": "their numbers, 0 to 5"})
    common.configure()
    report = common.Report(args)
    count, n, budget = (2, 60, 300) if args.small else (10, 500, 20_000)
    cases = [
        partial(deaths, count),
        partial(overlapping, count, n),
        partial(factors, count, n),
        partial(heavy_tails, count, n // 2, False),
        partial(heavy_tails, count, n // 2, True),
        partial(proportions, count, n // 2, 8 if args.small else 40),
    ]
    ratios: dict[str, list[str]] = {}
    for number, make in enumerate(cases):
        if args.problems and number not in args.problems:
            continue
        case = make()
        lines, medians = run(case, budget, args.only)
        columns = ["algorithm", "passes, median", "most", "failed (lower / late / bad status)", "ended higher"]
        columns += ["a fit's own passes at 1e-12, and the most it stops short"]
        report.table(f"{case.name}, {count} starts", columns, lines)
        accelerators = ["squarem", "anderson", "quasi_newton", "aitken", "parabolic"]
        best = min((medians[name] for name in accelerators if name in medians), default=np.inf)
        for name, median in medians.items():
            ratios.setdefault(name, []).append(common.significant(median / best) if np.isfinite(median) else "-")
    width = max(map(len, ratios.values()))
    lines = [[name, *row, *[""] * (width - len(row))] for name, row in ratios.items()]
    report.table("Median passes over those of the best accelerator, problem by problem", ["algorithm", *range(width)], lines)
    report.finish()


if __name__ == "__main__":
    main()
