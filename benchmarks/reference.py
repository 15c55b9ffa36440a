"""How close fits come to published answers, and in how many steps and passes over the data."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax.numpy as jnp
import numpy as np
import pandas as pd

import jaxem
from jaxem import Interval, Mixture, Regression, Single, Stop, em, tobit
from jaxem.domains import Unit

HERE = Path(__file__).resolve().parent.parent / "tests" / "reference"
STOP = Stop(tolerance=1e-9, max_steps=20_000)
SEEDS = range(3)


class Case(NamedTuple):
    """One data set with a published or independently computed maximum."""

    folder: str
    what: str
    model: Any
    data: Callable[[pd.DataFrame], Any]
    answer: Callable[[dict], float] = lambda known: known["logLik"]
    restarts: int = 1
    algorithm: Any = None
    weights: Callable[[pd.DataFrame], Any] = lambda table: None


def fits(place: int) -> Callable[[dict], float]:
    return lambda known: known["fits"][place]["logLik"]


def hills(table: pd.DataFrame) -> Any:
    return np.log(table)


def animals(table: pd.DataFrame) -> Any:
    return table[["log_body", "log_brain"]]


def affairs(table: pd.DataFrame) -> Any:
    return Regression(tobit(table["affairs"], left=0), table[["age", "yearsmarried", "religiousness", "occupation", "rating"]])


def stackloss(table: pd.DataFrame) -> Any:
    return Regression(table["stack.loss"], table.drop(columns="stack.loss"))


def cosmesis(table: pd.DataFrame) -> Any:
    covariate = (table["treatment"] == "RadChem").astype(float).to_frame("RadChem")
    return Regression(Interval(table["left"].to_numpy(float), table["right"].to_numpy(float)), covariate)


def tone(table: pd.DataFrame) -> Any:
    return Regression(table["tuned"], table[["stretchratio"]])


def patents(table: pd.DataFrame) -> Any:
    return Regression(table["Patents"], table[["lgRD"]], gate=table[["RDS"]])


def hours(table: pd.DataFrame) -> Any:
    return Regression(table["hours"], table.drop(columns="hours"))


def codes(table: pd.DataFrame) -> Any:
    return table - 1


def iris(table: pd.DataFrame) -> Any:
    return table.select_dtypes("number")


def cases() -> list[Case]:
    t, common_dof = Single(jaxem.StudentT()), Mixture(jaxem.StudentT(dof="common"), 2)
    out = [
        Case("student_t_hills", "t, ECME", t, hills),
        Case("student_t_hills", "t, EM with PX scatter", t, hills, algorithm=em()),
        Case("student_t_hills", "t, EM", t, hills, algorithm=em(expanded=False)),
        Case("t_multivariate_animals", "t, ECME", t, animals, fits(0)),
        Case("t_multivariate_animals", "t, EM with PX scatter", t, animals, fits(0), algorithm=em()),
        Case("t_multivariate_animals", "t, EM", t, animals, fits(0), algorithm=em(expanded=False)),
        Case("student_t_mixture_quakes", "2 t, ECME", common_dof, lambda y: y[["lat", "long"]], restarts=3),
        Case("t_mixture_old_faithful", "2 t, ECME", common_dof, lambda y: y, fits(0), restarts=3),
        Case("t_regression_stackloss", "t regression", Single(jaxem.TRegression()), stackloss),
    ]
    for k in (1, 2, 3):
        out.append(Case("lca_carcinoma", f"{k} classes", Mixture(jaxem.Categorical(), k), codes, fits(k - 1), 12))
    for k in (1, 2):
        out.append(Case("lca_values", f"{k} classes", Mixture(jaxem.Categorical(), k), codes, fits(k - 1), 12))
    for q in (1, 2, 3):
        out.append(Case("ppca_iris", f"{q} components", jaxem.ProbabilisticPCA(q), iris, fits(q - 1)))
    out += [
        Case("tobit_affairs", "Tobit", Single(jaxem.CensoredRegression()), affairs),
        Case("truncated_mroz_hours", "truncated regression", Single(jaxem.TruncatedRegression(lower=0.0)), hours),
        Case("interval_regression_breast_cosmesis", "Weibull", Single(jaxem.CensoredRegression("weibull")), cosmesis, fits(0)),
        Case("interval_regression_breast_cosmesis", "log-normal", Single(jaxem.CensoredRegression("lognormal")), cosmesis, fits(1)),
        Case("mixture_regression_tone", "2 regressions", Mixture(jaxem.LinearRegression(), 2), tone, restarts=20),
        Case("mixture_experts_patent", "3 experts", jaxem.MixtureOfExperts(jaxem.PoissonRegression(), 3), patents, restarts=20),
        Case(
            "poisson_mixture_london_deaths", "2 Poisson", Mixture(jaxem.Poisson(), 2), lambda y: y[["deaths"]],
            weights=lambda y: y["freq"].to_numpy(float), restarts=3,
        ),
    ]  # fmt: skip
    return out


def measure(case: Case) -> list[Any]:
    table = pd.read_csv(HERE / case.folder / "data.csv")
    answer = case.answer(json.loads((HERE / case.folder / "expected.json").read_text()))
    data, weights = case.data(table), case.weights(table)
    runs = [
        jaxem.fit(
            case.model, data, key=seed, restarts=case.restarts, stop=STOP, weights=weights, algorithm=case.algorithm
        )
        for seed in (SEEDS if case.model.needs_key else [0])
    ]  # fmt: skip
    worst = min(runs, key=lambda run: float(run.log_likelihood))
    steps, passes = (sorted({int(getattr(run, name)) for run in runs}) for name in ("steps", "passes"))
    gap = float(worst.log_likelihood) - answer
    return [case.folder, case.what, f"{answer:.4f}", f"{gap:+.1e}", spread(steps), spread([-(-p // case.restarts) for p in passes])]


def factors(folder: str, q: int, place: int) -> list[Any]:
    """Of a correlation matrix: 2 d weighted rows with exactly these correlations."""
    table = pd.read_csv(HERE / folder / "data.csv", index_col=0)
    known = json.loads((HERE / folder / "expected.json").read_text())
    rows, answer = jaxem.from_covariance(table, known["n_obs"]), fits(place)(known)
    run = jaxem.fit(jaxem.FactorAnalysis(q), rows.y, weights=rows.weights, stop=STOP)
    return [folder, f"{q} factors", f"{answer:.4f}", f"{float(run.log_likelihood) - answer:+.1e}", int(run.steps), int(run.passes)]


def linkage() -> list[Any]:
    """Cell 0 hides two; the M-step is a Newton step by automatic differentiation."""

    def log_joint(params: Any, z: Any, cell: Any) -> Any:
        t = params["t"]
        table = [[1 / 2, t / 4], [(1 - t) / 4, 0], [(1 - t) / 4, 0], [t / 4, 0]]
        return jnp.log(jnp.array(table)[cell, z])

    known = json.loads((HERE / "linkage_rao" / "expected.json").read_text())
    model = jaxem.Latent(log_joint, {"t": Unit()}, 2, start={"t": 0.5})
    run = jaxem.fit(model, [0, 1, 2, 3], weights=[125, 18, 20, 34], stop=STOP)
    gap = float(run.log_likelihood) - known["logLik"]
    return ["linkage_rao", "Latent", f"{known['logLik']:.4f}", f"{gap:+.1e}", int(run.steps), int(run.passes)]


def spread(values: list[int]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def main() -> None:
    args = common.arguments(__doc__)
    common.configure()
    warnings.filterwarnings("ignore")
    report = common.Report(args)
    lines = [measure(case) for case in (cases()[:1] if args.small else cases())]
    for q in () if args.small else (1, 2):
        lines.append(factors("factor_ability", q, q - 1))
    for q, place in () if args.small else ((1, 0), (4, 1)):
        lines.append(factors("factor_harman74", q, place))
    lines.append(linkage())
    columns = ["data", "model", "published log-likelihood", "ours less it, worst of 3 seeds", "steps", "passes a start"]
    report.table("Published answers; stop at an estimated gain of 1e-9", columns, lines)
    report.finish()


if __name__ == "__main__":
    main()
