"""Hidden Markov models: time of one E-step and M-step, of a fit, of Viterbi's path; memory of long sequences."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import memory
import numpy as np

import jaxem
from jaxem import Gaussian, GaussianParams, HiddenMarkov, HiddenMarkovParams

STEPS = 20  # of a whole fit


class Series(NamedTuple):
    """Sequences of a chain that stays with probability 0.9, and a start off the truth that every contestant takes."""

    y: list[np.ndarray]  # (T_i, d)
    transition: np.ndarray
    means: np.ndarray  # (K, d); variances are 1


def series(lengths: Any, k: int, d: int, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    means = 2 * rng.normal(size=(k, d))
    n = int(np.sum(lengths))
    fresh = rng.random(n) > 0.9
    fresh[np.cumsum([0, *lengths[:-1]])] = True
    states = rng.integers(k, size=n)[np.maximum.accumulate(np.where(fresh, np.arange(n), 0))]
    y = means[states] + rng.normal(size=(n, d))
    return Series(np.split(y, np.cumsum(lengths)[:-1]), 0.9 * np.eye(k) + 0.1 / k, 1.1 * means)


def model_of(given: Series, recursion: str = "auto") -> tuple[HiddenMarkov, HiddenMarkovParams]:
    k, d = given.means.shape
    start = (jnp.full(k, 1 / k), jnp.asarray(given.transition), GaussianParams(jnp.asarray(given.means), jnp.ones((k, d))))
    return HiddenMarkov(Gaussian("diagonal"), k, recursion=recursion), HiddenMarkovParams(*start)


def ours(given: Series, recursion: str = "auto") -> Callable[[], Any]:
    model, params = model_of(given, recursion)
    rows = jaxem.prepare(model, given.y)
    settled = model.settle(params, rows)
    return lambda: common.step(settled, params, rows)[1]  # type: ignore[arg-type]


def hmmlearn(given: Series, implementation: str) -> tuple[Callable[[], float], Callable[[], Any]] | None:
    """Its own private E-step and M-step without the checks around them, and its Viterbi path. Maximum likelihood, as ours."""
    module = common.optional("hmmlearn.hmm")
    if module is None:
        return None
    k, d = given.means.shape
    free = {"min_covar": 0, "covars_prior": 0, "covars_weight": 0}
    model = module.GaussianHMM(k, covariance_type="diag", implementation=implementation, **free)
    y, lengths = np.concatenate(given.y), [len(part) for part in given.y]

    def begin() -> None:
        model.n_features = d
        model.startprob_, model.transmat_ = np.full(k, 1 / k), given.transition
        model.means_, model._covars_ = given.means, np.ones((k, d))

    def step() -> float:
        begin()
        statistics, total = model._do_estep(y, lengths)
        model._do_mstep(statistics)
        return total

    def path() -> Any:
        begin()
        return model.decode(y, lengths)[1]

    return step, path


def dynamax(given: Series) -> tuple[Callable[[], Any], Callable[[], Any]] | None:
    """One iteration of its `fit_em`, and as many as a fit has: the same loop, since `fit_em` itself fails beside newer JAX when
    there are no inputs. It adds weak priors; sequences are of one length."""
    module = common.optional("dynamax.hidden_markov_model")
    if module is None:
        return None
    k, d = given.means.shape
    y = jnp.asarray(np.stack(given.y))
    model = module.DiagonalGaussianHMM(k, d)
    start = {"initial_probs": jnp.full(k, 1 / k), "transition_matrix": jnp.asarray(given.transition)}
    start |= {"emission_means": jnp.asarray(given.means), "emission_scale_diags": jnp.ones((k, d))}
    params, properties = model.initialize(**start)

    @jax.jit
    def move(params: Any, state: Any) -> Any:
        statistics, totals = jax.vmap(partial(model.e_step, params))(y)
        return model.m_step(params, properties, statistics, state), totals.sum()

    def fit() -> Any:
        now, state, totals = params, model.initialize_m_step_state(params, properties), []
        for _ in range(STEPS):
            (now, state), total = move(now, state)
            totals.append(float(total))
        return now

    state = model.initialize_m_step_state(params, properties)
    return lambda: move(params, state)[1], fit


def steps(report: common.Report, shapes: list[tuple[int, int, int, int]]) -> None:
    lines, paths = [], []
    for count, length, k, d in shapes:
        given = series([length] * count, k, d)
        calls = {"jaxem": ours(given)}
        model, params = model_of(given)
        rows = jaxem.prepare(model, given.y)
        decode: dict[str, Any] = {"jaxem": lambda model=model, params=params, rows=rows: model.viterbi(params, rows)}
        for implementation in ("scaling", "log"):
            found = hmmlearn(given, implementation)
            if found is not None:
                calls[f"hmmlearn {implementation}"], decode["hmmlearn"] = found
        theirs = dynamax(given)
        if theirs is not None:
            calls["dynamax"] = theirs[0]
        values = {name: float(call()) for name, call in calls.items()}
        assert all(abs(value - values["jaxem"]) < 1e-6 * abs(value) for value in values.values()), values
        name = f"{count} x {length:,}, K={k}, d={d}"
        timed = common.interleave(calls, repeats=7)
        lines += [[name, who, common.milliseconds(timed[who]), common.ratio(timed[who], timed["jaxem"])] for who in calls]
        timed = common.interleave(decode, repeats=5)
        paths += [[name, who, common.milliseconds(timed[who]), common.ratio(timed[who], timed["jaxem"])] for who in decode]
    columns = ["sequences", "library", "ms", "times jaxem's"]
    report.table("One E-step and M-step, diagonal Gaussians, float64: median (min-max)", columns, lines)
    report.table("Viterbi's path of the same", columns, paths)


def ragged(report: common.Report, count: int, most: int, k: int) -> None:
    lengths = np.random.default_rng(0).integers(1, most + 1, size=count)
    even = [most] * max(1, int(lengths.sum()) // most)
    calls = {"ragged": ours(series(lengths, k, 2)), "equal": ours(series(even, k, 2))}
    timed = common.interleave(calls, repeats=7)
    cells = {"ragged": int(lengths.sum()), "equal": sum(even)}
    names = {"ragged": f"{count} of 1 to {most:,} steps", "equal": f"{len(even)} of {most:,} steps"}
    each = {name: [a / cells[name] for a in timed[name].rounds] for name in calls}
    ratio = common.span([a / b for a, b in zip(each["ragged"], each["equal"], strict=True)])
    lines = [[names[name], f"{cells[name]:,}", common.milliseconds(timed[name]), common.span(each[name], 1e9)] for name in calls]
    report.table(f"Lengths that differ, K={k}: {ratio} times as long a row", ["sequences", "rows", "ms", "ns a row"], lines)


def recursions(report: common.Report, shapes: list[tuple[int, int, int, int]]) -> None:
    lines = []
    for count, length, k, d in shapes:
        given = series([length] * count, k, d)
        calls = {recursion: ours(given, recursion) for recursion in ("sequential", "checkpointed", "parallel")}
        values = {name: float(call()) for name, call in calls.items()}
        timed = common.interleave(calls, repeats=5)
        for name in calls:
            gap = abs(values[name] / values["sequential"] - 1)
            lines.append([f"{count} x {length:,}, K={k}", name, common.milliseconds(timed[name])])
            lines[-1] += [common.ratio(timed[name], timed["sequential"]), f"{gap:.0e}"]
    columns = ["sequences", "recursion", "ms", "times sequential", "difference of l"]
    report.table(f"Recursions, on {jax.default_backend()}", columns, lines)


def long(report: common.Report, sizes: list[int], k: int) -> None:
    lines = []
    for length in sizes:
        for recursion in ("sequential", "checkpointed"):
            found = child("memory", recursion, length, k)
            whole = 8 * length * k
            lines.append([f"{length:,}", recursion, common.significant(found["seconds"]), common.mebibytes(whole)])
            lines[-1] += [common.mebibytes(found["temporary"]), common.mebibytes(found["measured"])]
    columns = ["T", "recursion", "seconds", "one T x K array, MiB", "XLA's count of the step, MiB", "measured growth, MiB"]
    report.table(f"One sequence, K={k}, float64: one E-step and M-step beyond the data", columns, lines)


def whole_fit(report: common.Report, count: int, length: int, k: int, d: int, repeats: int) -> None:
    who = ["jaxem"] + (["dynamax"] if common.optional("dynamax") is not None else [])
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    for _ in range(repeats):
        for name in who:
            runs[name].append(child("fit", name, count, length, k, d))
    lines = []
    for name in who:
        first = [run["first"] for run in runs[name]]
        ratio = [a / b["first"] for a, b in zip(first, runs["jaxem"], strict=True)]
        lines.append([name, common.span(first), common.span([run["again"] for run in runs[name]]), common.span(ratio)])
    title = f"A fit of {STEPS} iterations in a fresh process, compilation included, {count} x {length:,}, K={k}, d={d}"
    report.table(title, ["library", "first call, s", "second call, s", "times jaxem's first"], lines)


def restarts(report: common.Report, count: int, length: int, k: int) -> None:
    y = series([length], k, 1).y
    model = HiddenMarkov(Gaussian("diagonal"), k)
    rows = jaxem.prepare(model, y)

    def loop() -> list[Any]:
        return [jaxem.fit(model, rows, key=seed) for seed in range(count)]

    calls = {"together": lambda: jaxem.fit(model, rows, key=0, restarts=count), "one by one": loop}
    # starts differ, so that what a pass takes is compared
    passes = {"together": int(calls["together"]().passes), "one by one": sum(int(each.passes) for each in loop())}
    timed = common.interleave(calls, repeats=3, warm=False)
    each = {name: [taken / passes[name] for taken in timed[name].rounds] for name in calls}
    lines = []
    for name in calls:
        ratio = common.span([a / b for a, b in zip(each[name], each["together"], strict=True)])
        lines.append([name, common.span(timed[name].rounds), f"{passes[name]:,}", common.span(each[name], 1e6), ratio])
    columns = ["way", "s", "passes", "us a pass", "times together"]
    report.table(f"{count} restarts, one sequence of {length}, K={k}, to convergence", columns, lines)


# in fresh processes


def child(what: str, *rest: Any) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, *map(str, rest)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_memory(recursion: str, length: int, k: int) -> dict[str, float]:
    given = series([length], k, 2)
    model, params = model_of(given, recursion)
    rows = jax.block_until_ready(jaxem.prepare(model, given.y))
    settled = model.settle(params, rows)
    del given
    compiled = common.step.lower(settled, params, rows).compile()
    found = memory._peak(lambda: compiled(settled, params, rows))
    taken = min(common.clock(lambda: compiled(settled, params, rows))[0] for _ in range(3))
    return found | {"seconds": taken, "temporary": compiled.memory_analysis().temp_size_in_bytes}


def measure_fit(who: str, count: int, length: int, k: int, d: int) -> dict[str, float]:
    given = series([length] * count, k, d)
    if who == "dynamax":
        found = dynamax(given)
        assert found is not None
        call = found[1]
    else:
        model, params = model_of(given)
        stop = jaxem.Stop(tolerance=0.0, max_steps=STEPS)
        call = partial(jaxem.fit, model, given.y, params=params, stop=stop)
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(call()))
        taken.append(time.perf_counter() - begin)
    return {"first": taken[0], "again": taken[1]}


def main() -> None:
    warnings.filterwarnings("ignore")
    if "--child" in sys.argv:
        what, who, *shape = sys.argv[sys.argv.index("--child") + 1 :]
        common.configure()
        print(json.dumps((measure_memory if what == "memory" else measure_fit)(who, *map(int, shape))))
        return
    args = common.arguments(__doc__)
    common.configure()
    report = common.Report(args, "hmmlearn", "dynamax")
    small = args.small
    shapes = [(1, 20_000, 4, 2), (200, 200, 4, 2), (200, 200, 16, 2), (1000, 100, 8, 4)]
    shapes = [(1, 500, 3, 2), (5, 40, 3, 2)] if small else shapes
    steps(report, shapes)
    ragged(report, *((20, 50, 3) if small else (1000, 2000, 4)))
    recursions(report, shapes[:2])
    long(report, [2000] if small else [250_000, 1_000_000], 8)
    whole_fit(report, *((5, 40, 3, 2, 1) if small else (200, 200, 4, 2, 3)))
    restarts(report, *((5, 50, 2) if small else (500, 100, 2)))
    report.finish()


if __name__ == "__main__":
    main()
