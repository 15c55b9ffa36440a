"""Time of one EM iteration of discrete families, regressions and factor analysis, beside other libraries and the plain way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxem
from jaxem import Bernoulli, Categorical, LinearRegression, Mixture, MixtureParams, Poisson, Regression

N, K, D, CATEGORIES = 131072, 8, 16, 4


def latent(kind: str, n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, Any]:
    """Rows of a mixture, and the params of its components as plain arrays, a little off the truth."""
    rng = np.random.default_rng(seed)
    z = rng.integers(k, size=n)
    if kind == "poisson":
        rate = rng.gamma(2.0, 2.0, size=(k, d))
        return rng.poisson(rate[z]).astype(np.float64), 1.1 * rate
    if kind == "bernoulli":
        p = rng.beta(1.0, 1.0, size=(k, d)) * 0.9 + 0.05
        return (rng.random((n, d)) < p[z]).astype(np.float64), 0.9 * p + 0.05
    p = rng.dirichlet(np.ones(CATEGORIES), size=(k, d)) * 0.9 + 0.1 / CATEGORIES
    cumulated = p.cumsum(axis=-1)[z]
    return (rng.random((n, d, 1)) > cumulated[..., :-1]).sum(axis=-1).astype(np.float64), 0.9 * p + 0.1 / CATEGORIES


def ours(kind: str, y: np.ndarray, start: np.ndarray, dtype: Any, dealt: bool = False) -> Callable[[], Any]:
    family = {"poisson": Poisson(), "bernoulli": Bernoulli(), "categorical": Categorical(CATEGORIES)}[kind]
    k = len(start)
    model = Mixture(family, k)
    components = type(family.domains)(jnp.asarray(start, dtype))
    params = MixtureParams(jnp.full(k, 1 / k, dtype), components)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows")) if dealt else None
    rows = jaxem.prepare(model, y.astype(dtype), sharding=sharding)
    settled = model.settle(params, rows)
    return lambda: common.step(settled, params, rows)


def step_mix(kind: str, y: np.ndarray, start: np.ndarray) -> Callable[[], float] | None:
    """Its own private E-step and M-step, float64, without the checks around them."""
    module = common.optional("stepmix")
    if module is None or kind == "poisson":
        return None
    k, (n, d) = len(start), y.shape
    measurement = {"bernoulli": "binary", "categorical": "categorical"}[kind]
    model = module.StepMix(k, measurement=measurement, max_iter=1, progress_bar=0, random_state=0)
    whole = y.astype(int)
    model.fit(whole)
    given = model.get_parameters()
    given["measurement"]["pis"] = start if kind == "bernoulli" else start.reshape(k, d * CATEGORIES)
    given["weights"] = np.full(k, 1 / k)
    ones = np.ones(n)

    def call() -> float:
        model.set_parameters(given)
        mean, log_responsibilities = model._e_step(whole, sample_weight=ones)
        model._m_step(whole, np.exp(log_responsibilities), sample_weight=ones)
        return float(mean) * n

    return call


def pomegranate(kind: str, y: np.ndarray, start: np.ndarray) -> Callable[[], float] | None:
    """PyTorch, float32, on the CPU. Its model moves on at each call."""
    torch = common.optional("torch")
    if torch is None or common.optional("pomegranate") is None:
        return None
    from pomegranate import distributions
    from pomegranate.gmm import GeneralMixtureModel

    kinds = {"poisson": distributions.Poisson, "bernoulli": distributions.Bernoulli, "categorical": distributions.Categorical}
    states = [kinds[kind](torch.tensor(np.asarray(each, np.float32))) for each in start]
    model = GeneralMixtureModel(states, priors=torch.full((len(start),), 1 / len(start)))
    rows = torch.tensor(y.astype(np.float32 if kind != "categorical" else np.int64))

    def call() -> float:
        log_likelihood = model.summarize(rows)
        model.from_summaries()
        return float(log_likelihood)

    return call


def discrete(report: common.Report, n: int, d: int, k: int) -> None:
    lines = []
    for kind in ("poisson", "bernoulli", "categorical"):
        y, start = latent(kind, n, d, k)
        calls: dict[str, Any] = {"jaxem": ours(kind, y, start, np.float64), "jaxem, float32": ours(kind, y, start, np.float32)}
        if len(jax.devices()) > 1:
            calls["jaxem, dealt"] = ours(kind, y, start, np.float64, dealt=True)
        reference = float(calls["jaxem"]()[1])
        for name, make in (("StepMix", step_mix), ("pomegranate, float32", pomegranate)):
            peer = make(kind, y, start)
            if peer is not None:
                found = peer()
                agrees = abs(found - reference) < 1e-4 * abs(reference)
                if not agrees:
                    print(f"{name} {kind}: log-likelihood {found}, ours {reference}")
                calls[name] = peer
        timed = common.interleave(calls, repeats=7)
        for name in calls:
            base = timed["jaxem, float32" if "float32" in name else "jaxem"]
            lines.append([kind, name, common.milliseconds(timed[name]), common.ratio(timed[name], base)])
    title = f"One E-step and M-step, n={n:,}, d={d}, K={k}: median (min-max)"
    report.table(title, ["family", "library", "ms", "times jaxem's in its precision"], lines)


@jax.jit
def plain_regression_step(x: jax.Array, y: jax.Array, params: Any) -> tuple[Any, jax.Array]:
    """The usual way: vmap over components, arrays of n x K and n x p for each."""
    weights, coefficients, variance = params

    def density(b: jax.Array, v: jax.Array) -> jax.Array:
        return -0.5 * ((y - x @ b) ** 2 / v + jnp.log(2 * jnp.pi * v))

    joint = jax.vmap(density)(coefficients, variance).T + jnp.log(weights)
    total = jax.nn.logsumexp(joint, axis=1)
    r = jnp.exp(joint - total[:, None])

    def maximize(own: jax.Array) -> tuple[jax.Array, jax.Array]:
        b = jnp.linalg.solve((x * own[:, None]).T @ x, (x * own[:, None]).T @ y)
        return b, (own * (y - x @ b) ** 2).sum() / own.sum()

    found = jax.vmap(maximize, in_axes=1)(r)
    return (r.mean(axis=0), *found), total.sum()


def plainest_regression_step(x: Any, y: Any, params: Any, np: Any = jnp) -> tuple[Any, Any]:
    """The same written with arrays of n x K x p, as in many scripts; in NumPy or, for XLA to fuse, in JAX."""
    weights, coefficients, variance = params
    mean = (x[:, None, :] * coefficients).sum(axis=-1)
    joint = -0.5 * ((y[:, None] - mean) ** 2 / variance + np.log(2 * np.pi * variance)) + np.log(weights)
    largest = joint.max(axis=1, keepdims=True)
    total = largest[:, 0] + np.log(np.exp(joint - largest).sum(axis=1))
    r = np.exp(joint - total[:, None])
    weighted = r[:, :, None] * x[:, None, :]
    gram = (weighted[..., None] * x[:, None, None, :]).sum(axis=0)
    b = np.linalg.solve(gram, (weighted * y[:, None, None]).sum(axis=0)[..., None])[..., 0]
    residual = y[:, None] - (x[:, None, :] * b).sum(axis=-1)
    return (r.mean(axis=0), b, (r * residual**2).sum(axis=0) / r.sum(axis=0)), total.sum()


def regression(report: common.Report, n: int, p: int, k: int) -> None:
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(n, p)), rng.normal(size=(k, p + 1))
    z = rng.integers(k, size=n)
    design = np.column_stack([x, np.ones(n)])
    y = (design * b[z]).sum(axis=1) + rng.normal(size=n)
    model = Mixture(LinearRegression(), k)
    rows = jaxem.prepare(model, Regression(y, x))
    components = type(model.family.domains)(jnp.asarray(b[:, :-1]), jnp.asarray(b[:, -1]), jnp.full(k, 1.5))
    params = MixtureParams(jnp.full(k, 1 / k), components)
    settled = model.settle(params, rows)
    plain = (jnp.asarray(design), jnp.asarray(y), (params.weights, jnp.asarray(b), components.variance))
    calls: dict[str, Callable[[], Any]] = {
        "jaxem": lambda: common.step(settled, params, rows),
        "vmap over components, jitted": partial(plain_regression_step, *plain),
        "arrays of n x K x p, jitted": partial(jax.jit(plainest_regression_step), *plain),
        "arrays of n x K x p, NumPy": partial(plainest_regression_step, *jax.tree.map(np.asarray, plain), np),
    }
    found = {name: float(call()[1]) for name, call in calls.items()}
    assert all(abs(value - found["jaxem"]) < 1e-8 * abs(value) for value in found.values()), found
    timed = common.interleave(calls, repeats=7)
    lines = [[name, common.milliseconds(timed[name]), common.ratio(timed[name], timed["jaxem"])] for name in calls]
    report.table(f"Mixture of regressions, n={n:,}, p={p}, K={k}, float64", ["way", "ms", "times jaxem's"], lines)


def factors(report: common.Report, sizes: list[int], d: int, q: int) -> None:
    lines = []
    sklearn = common.optional("sklearn.decomposition")
    for n in sizes:
        rng = np.random.default_rng(0)
        y = rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + rng.normal(size=(n, d)) * rng.uniform(0.5, 1.5, d)
        model = jaxem.FactorAnalysis(q)
        rows = jaxem.prepare(model, y)
        stop = jaxem.Stop(tolerance=1e-6)
        fitted = jaxem.fit(model, rows, key=0, stop=stop)
        calls: dict[str, Any] = {
            "jaxem": lambda model=model, rows=rows, stop=stop: jaxem.fit(model, rows, key=0, stop=stop),
            "E-step": lambda model=model, rows=rows, fitted=fitted: model.e_step(fitted.params, rows),
            "scikit-learn": lambda y=y: sklearn.FactorAnalysis(q, tol=1e-8, max_iter=1000).fit(y).loglike_[-1],
        }
        theirs = calls["scikit-learn"]()
        timed = common.interleave(calls, repeats=5, warm=False)
        lines.append([f"{n:,}", int(fitted.passes), common.milliseconds(timed["E-step"]), common.milliseconds(timed["jaxem"])])
        lines[-1] += [common.milliseconds(timed["scikit-learn"]), common.ratio(timed["scikit-learn"], timed["jaxem"])]
        lines[-1] += [f"{float(fitted.log_likelihood) - float(theirs):.1e}"]
    columns = ["n", "passes", "one E-step, ms", "whole fit, ms", "scikit-learn's fit, ms", "times faster", "l minus its l"]
    report.table(f"Factor analysis of complete data, d={d}, q={q}, float64", columns, lines)


def main() -> None:
    args = common.arguments(__doc__)
    common.configure(every_core_a_device=True)
    warnings.filterwarnings("ignore")
    report = common.Report(args, "stepmix", "pomegranate", "torch")
    discrete(report, *((2048, 4, 3) if args.small else (N, D, K)))
    regression(report, *((2000, 3, 2) if args.small else (100_000, 8, 4)))
    factors(report, [500, 1000] if args.small else [2000, 20_000, 200_000], *((6, 2) if args.small else (20, 4)))
    report.finish()


if __name__ == "__main__":
    main()
