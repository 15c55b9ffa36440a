"""Coverage of 95 % intervals: data sets drawn from known params, fitted in one program, their standard errors lane by lane.

For each model many data sets are drawn, `fit_batch` fits all of them from the truth (so that labels stay, and the maximum is the
consistent one), and the information of every fit is computed by the functions that `standard_errors` calls. Intervals are those
of `Inference.limits`. The share that holds the truth should be 95 %. Where there is no interval, the truth counts as missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem import information
from jaxem.inference.inference import Inference
from jaxem.inference.labels import Cells, cells_of
from jaxem.lanes import over_lanes

DATASETS = 2000
SIDE_BY_SIDE = 64  # data sets whose information is computed together
LOW, HIGH = 0.935, 0.965  # what is asked for
PICTURE = Path(__file__).parent.parent / "docs" / "coverage.png"


class Case(NamedTuple):
    """A model, its truth, and how a data set is drawn."""

    name: str
    model: Any
    truth: Any
    draw: Callable[[np.random.Generator], Any]
    methods: tuple[str, ...]
    right: tuple[str, ...]  # the methods that should cover


# the cases


def mixture(n: int) -> Case:
    """Two overlapping components in two columns, a fifth of the cells missing at random."""
    weights = np.array([0.4, 0.6])
    mean = np.array([[0.0, 0.0], [3.0, 1.5]])
    covariance = np.array([[[1.0, 0.4], [0.4, 0.8]], [[0.7, -0.3], [-0.3, 1.2]]])
    roots = np.linalg.cholesky(covariance)
    truth = jaxem.MixtureParams(jnp.asarray(weights), jaxem.GaussianParams(jnp.asarray(mean), jnp.asarray(covariance)))

    def draw(rng: np.random.Generator) -> np.ndarray:
        z = rng.choice(2, n, p=weights)
        y = mean[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(n, 2)))
        return np.where(rng.random(y.shape) < 0.2, np.nan, y)

    both = ("observed", "oakes")
    return Case(f"Gaussian mixture, n = {n}, 20 % missing", jaxem.Mixture(jaxem.Gaussian(), 2), truth, draw, both, both)


def hidden_markov() -> Case:
    """Sixty sequences of fifty steps, two states with normal emissions that overlap."""
    count, steps = 60, 50
    initial, transition = np.array([0.6, 0.4]), np.array([[0.9, 0.1], [0.2, 0.8]])
    mean, variance = np.array([0.0, 2.5]), np.array([1.0, 0.6])
    emissions = jaxem.GaussianParams(jnp.asarray(mean)[:, None], jnp.asarray(variance)[:, None])
    truth = jaxem.HiddenMarkovParams(jnp.asarray(initial), jnp.asarray(transition), emissions)

    def draw(rng: np.random.Generator) -> np.ndarray:
        z = np.empty((count, steps), int)
        z[:, 0] = rng.random(count) > initial[0]
        for t in range(1, steps):
            z[:, t] = rng.random(count) > transition[z[:, t - 1], 0]
        return (mean[z] + np.sqrt(variance[z]) * rng.normal(size=z.shape))[..., None]

    both = ("observed", "oakes")
    model = jaxem.HiddenMarkov(jaxem.Gaussian("diagonal"), 2)
    return Case(f"Hidden Markov, {count} sequences of {steps}", model, truth, draw, both, both)


def tobit() -> Case:
    """Two covariates, some 35 % of the responses censored from below at 0."""
    n, slopes, intercept, scale = 300, np.array([1.0, -0.5]), 0.5, 1.0
    parts = (jnp.asarray(slopes), jnp.asarray(intercept), jnp.asarray(scale))

    def draw(rng: np.random.Generator) -> Any:
        x = rng.normal(size=(n, 2))
        return jaxem.Regression(jaxem.tobit(intercept + x @ slopes + scale * rng.normal(size=n), left=0.0), x)

    model = jaxem.Single(jaxem.CensoredRegression())
    both = ("observed", "oakes")
    return Case(f"Tobit, n = {n}, 37 % censored", model, _params(model, draw, parts), draw, both, both)


def factor() -> Case:
    """One factor behind five columns."""
    n = 400
    loadings, own = np.array([0.9, 0.8, 0.7, 0.6, 0.8]), np.array([0.4, 0.5, 0.6, 0.7, 0.3])
    mean = np.array([1.0, 0.0, -1.0, 0.5, 2.0])

    def draw(rng: np.random.Generator) -> np.ndarray:
        return mean + rng.normal(size=(n, 1)) * loadings + np.sqrt(own) * rng.normal(size=(n, 5))

    model = jaxem.FactorAnalysis(1)
    truth = _params(model, draw, (jnp.asarray(mean), jnp.asarray(loadings)[:, None], jnp.asarray(own)))
    both = ("observed", "oakes")
    return Case(f"Factor analysis, n = {n}, one factor", model, truth, draw, both, both)


def spread() -> Case:
    """Regression whose noise grows with the covariate: the model of one variance is wrong, its mean is right."""
    n, slope, intercept = 4000, 1.0, 0.5

    def draw(rng: np.random.Generator) -> Any:
        x = rng.normal(size=(n, 1))
        return jaxem.Regression(intercept + slope * x[:, 0] + np.sqrt(0.2 + x[:, 0] ** 2) * rng.normal(size=n), x)

    model = jaxem.Single(jaxem.LinearRegression())
    # the variance that is estimated tends to the mean of that of the rows
    truth = _params(model, draw, (jnp.asarray([slope]), jnp.asarray(intercept), jnp.asarray(1.2)))
    methods = ("observed", "oakes", "sandwich")
    return Case(f"Linear regression, n = {n}, noise that grows with x", model, truth, draw, methods, ("sandwich",))


def overdispersed() -> Case:
    """Poisson regression of counts that are negative binomial."""
    n, slope, intercept, size = 1000, 0.5, 1.0, 2.0

    def draw(rng: np.random.Generator) -> Any:
        x = rng.normal(size=(n, 1))
        rate = np.exp(intercept + slope * x[:, 0]) * rng.gamma(size, 1 / size, n)
        return jaxem.Regression(rng.poisson(rate).astype(float), x)

    model = jaxem.Single(jaxem.PoissonRegression())
    truth = _params(model, draw, (jnp.asarray([slope]), jnp.asarray(intercept)))
    methods = ("observed", "oakes", "sandwich")
    return Case(f"Poisson regression, n = {n}, overdispersed", model, truth, draw, methods, ("sandwich",))


def _params(model: Any, draw: Callable[[np.random.Generator], Any], parts: tuple[Any, ...]) -> Any:
    """Params of the model from their leaves."""
    structure: Any = jax.tree.structure(model.init(0, draw(np.random.default_rng(0))))
    return structure.unflatten(parts)


CASES = (partial(mixture, 500), partial(mixture, 2000), hidden_markov, tobit, factor, spread, overdispersed)


# the run


def _middle(model: Any, u: jax.Array, params: Any, rows: Any) -> jax.Array:
    """(P, P) cross products of the scores, what a sandwich has between its slices."""
    scores = information.scores(model, u, params, rows)
    return scores.T @ (information.unit_weights(rows)[:, None] * scores)


@partial(jax.jit, static_argnames=("method", "count"))
def matrices(model: Any, params: Any, rows: Any, method: str, count: int) -> jax.Array:
    """(D, P, P) information (or the sandwich's middle) of each data set at its own params."""
    compute = _middle if method == "sandwich" else getattr(information, method)

    def one(lane: tuple[Any, Any]) -> jax.Array:
        own, data = lane
        return compute(model, model.to_unconstrained(own), own, data)

    return over_lanes(one, (params, rows), count, SIDE_BY_SIDE)


@partial(jax.jit, static_argnames="count")
def slopes(model: Any, params: Any, count: int) -> jax.Array:
    """(D, N, P) derivative of the params by their coordinates."""
    return over_lanes(lambda own: information.natural(model, model.to_unconstrained(own), own), params, count, SIDE_BY_SIDE)


def inverses(matrix: np.ndarray) -> np.ndarray:
    """Of each matrix; NaN where it is not positive definite."""
    sound = np.isfinite(matrix).all((1, 2))
    safe = np.where(sound[:, None, None], matrix, np.eye(matrix.shape[1]))
    sound &= np.linalg.eigvalsh(safe)[:, 0] > 0
    return np.where(sound[:, None, None], np.linalg.inv(np.where(sound[:, None, None], safe, np.eye(matrix.shape[1]))), np.nan)


def flat(params: Any, count: int) -> np.ndarray:
    """(D, N)"""
    return np.concatenate([np.asarray(leaf).reshape(count, -1) for leaf in jax.tree.leaves(params)], axis=1)


def limits(cells: Cells, values: np.ndarray, errors: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """What `standard_errors` tells, of all data sets at once."""
    nothing: Any = None
    told = Inference(
        nothing, "", level, cells._replace(values=values), errors, nothing, nothing, (), nothing, 0.0, "", 0.0, 0.0, ()
    )
    return told.limits()


class Outcome(NamedTuple):
    """Coverage of one method on one case."""

    case: str
    method: str
    names: tuple[str, ...]
    coverage: np.ndarray  # (N,)
    untold: float  # share of data sets without intervals
    should: bool  # whether the method should cover


def run(case: Case, count: int) -> tuple[list[Outcome], list[Any]]:
    datasets = [case.draw(np.random.default_rng([7, number])) for number in range(count)]
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), case.truth)
    begun = time.perf_counter()
    fits = jax.block_until_ready(
        jaxem.fit_batch(case.model, datasets, params=starts, stop=jaxem.Stop(max_steps=5000), algorithm=jaxem.accelerated())
    )
    fitted = time.perf_counter() - begun
    rows = case.model.prepare_batch(datasets)
    model = case.model.settle(None, rows)
    cells = cells_of(case.model, jax.tree.map(lambda leaf: leaf[0], fits.params), datasets[0])
    values, truth = flat(fits.params, count), flat(jax.tree.map(lambda leaf: leaf[None], case.truth), 1)[0]
    change = np.asarray(slopes(model, fits.params, count))
    kept = ~cells.doubled
    converged = np.asarray(fits.converged)
    out: list[Outcome] = []
    bread: Any = None
    begun = time.perf_counter()
    for method in case.methods:
        found = np.asarray(matrices(model, fits.params, rows, method, count))
        covariance = inverses(found) if method != "sandwich" else bread @ found @ bread
        bread = covariance if method == "oakes" else bread
        variance = np.einsum("dni,dij,dnj->dn", change, covariance, change)
        errors = np.where(converged[:, None], np.sqrt(np.where(variance > 0, variance, np.nan)), np.nan)
        lower, upper = limits(cells, values, errors)
        told = np.isfinite(errors).all(axis=1)
        inside = (lower <= truth) & (truth <= upper)  # False where there is no interval
        names = tuple(np.array(cells.names)[kept])
        out.append(Outcome(case.name, method, names, inside.mean(axis=0)[kept], 1 - told.mean(), method in case.right))
    seconds = time.perf_counter() - begun
    line = [case.name, count, f"{fitted:.0f}", f"{seconds:.0f}", f"{100 * (1 - converged.mean()):.2f} %"]
    return out, line


# what is told


def draw_picture(outcomes: list[Outcome], count: int) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(each.case for each in outcomes))
    colors = {"observed": "#0072b2", "oakes": "#e69f00", "sandwich": "#009e73"}
    marks = {"observed": "o", "oakes": "x", "sandwich": "s"}
    figure, axes = plt.subplots(2, 4, figsize=(16, 9.5), layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        own = [each for each in outcomes if each.case == name]
        places = np.arange(len(own[0].names))[::-1]
        axis.axvspan(100 * LOW, 100 * HIGH, color="0.92", zorder=0)
        axis.axvline(95, color="0.5", lw=1, zorder=1)
        for each in own:
            noise = 196 * np.sqrt(each.coverage * (1 - each.coverage) / count)
            hollow = {"markerfacecolor": "none"} if marks[each.method] == "o" else {}
            axis.errorbar(
                100 * each.coverage, places, xerr=noise, fmt=marks[each.method], color=colors[each.method], ms=7, lw=1,
                label=each.method, **hollow,
            )  # fmt: skip
        axis.set_yticks(places, own[0].names, fontsize=8)
        axis.set_title(name, fontsize=10)
        axis.set_xlim(min(92.0, 100 * min(each.coverage.min() for each in own) - 2), 98)
        axis.set_xlabel("coverage of 95 % intervals, %")
        axis.set_ylim(-0.7, len(places) - 0.3)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    handles = dict(zip(*axes.flat[len(names) - 1].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{count} data sets a model; bars are 1.96 Monte Carlo errors; grey is 93.5 to 96.5 %", fontsize=11)
    figure.savefig(PICTURE, dpi=130)


def main() -> None:
    args = common.arguments(__doc__, only={"help": "run only the cases with this in their name", "default": ""})
    common.configure()
    report = common.Report(args)
    count = 40 if args.small else DATASETS
    outcomes: list[Outcome] = []
    times = []
    for make in CASES:
        case = make()
        if args.only in case.name:
            found, line = run(case, count)
            outcomes += found
            times.append(line)
            spans = (f"{each.method} {100 * each.coverage.min():.1f}-{100 * each.coverage.max():.1f}" for each in found)
            print(f"{line[0]}: {', '.join(spans)}", flush=True)
    rows = []
    for each in outcomes:
        worst = int(np.argmax(np.abs(each.coverage - 0.95)))
        inside = int(((each.coverage >= LOW) & (each.coverage <= HIGH)).sum())
        span = f"{100 * each.coverage.min():.1f}-{100 * each.coverage.max():.1f}"
        farthest = f"{each.names[worst]}: {100 * each.coverage[worst]:.1f}"
        expected = "" if each.should else "no, the model is wrong"
        rows.append(
            [each.case, each.method, f"{100 * each.coverage.mean():.2f}", span, farthest, f"{inside} of {len(each.names)}",
             f"{100 * each.untold:.2f} %", expected]
        )  # fmt: skip
    columns = ["case", "method", "mean", "span over params", "farthest from 95", "within 93.5-96.5", "no interval", "should cover"]
    error = 100 * np.sqrt(0.95 * 0.05 / count)
    report.table(f"Coverage of 95 % intervals in %, {count} data sets; Monte Carlo error {error:.2f}", columns, rows)
    report.content["coverage"] = [
        {"case": each.case, "method": each.method, "coverage": dict(zip(each.names, each.coverage.tolist(), strict=True))}
        for each in outcomes
    ]
    report.table("Time", ["case", "data sets", "fit_batch s", "information s", "did not converge"], times)
    if not args.only and not args.small:
        draw_picture(outcomes, count)
    report.finish()


if __name__ == "__main__":
    main()
