"""What standard errors cost: information matrices in units of E-steps, and a bootstrap beside a loop of fits.

Cost is told by the processor's time of this process as well as by the clock: the ratio of processor times holds on a machine that
others use too. Memory is what XLA plans for a program (arguments and temporaries), and the peak of a process that runs it alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import jax
import numpy as np

import jaxem
from jaxem import information
from jaxem.inference.bootstrap import STOP

MINI_PROJECT = Path(__file__).parent.parent / "jaxem" / "examples" / "mini_project.csv"
DRAWS, LOOPED = 1000, 30


@jax.jit
def e_step(model: Any, u: jax.Array, params: Any, rows: Any) -> Any:
    """One E-step at u, with the coordinates of its statistics chosen."""
    del u
    return model.localize(params, rows).e_step(params, rows)


METHODS: dict[str, Callable[..., Any]] = {
    "E-step": e_step,
    "oakes": information.oakes,
    "observed": information.observed,
    "louis": information.louis,
}


def setting(n: int, d: int, k: int) -> tuple[Any, ...]:
    """Arguments of the methods on rows of a Gaussian mixture with full covariances."""
    given = common.problem(n, d, k)
    model = common.gaussian_mixture(k)
    rows = jaxem.prepare(model, given.y)
    params = common.params_of(given)
    model = model.settle(params, rows)
    return model, model.to_unconstrained(params), params, rows


def alone(method: str, n: int, d: int, k: int, repeats: int) -> dict[str, Any]:
    """Times and memory of one method in this process."""
    given = setting(n, d, k)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    program = METHODS[method].lower(*given).compile()  # type: ignore[attr-defined]
    compiled = time.perf_counter() - start
    peak_compiling = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = program.memory_analysis()
    walls, busy = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(program(*given))
        walls.append(time.perf_counter() - start)
        busy.append(time.process_time() - used)
    return {
        "wall": min(walls),
        "busy": min(busy),
        "compile": compiled,
        "arguments": plan.argument_size_in_bytes,
        "temporary": plan.temp_size_in_bytes,
        "output": plan.output_size_in_bytes,
        "prepared_rss": before * 1024,
        "compiled_rss": peak_compiling * 1024,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "size": int(given[1].size),
    }


def measured(method: str, n: int, d: int, k: int, repeats: int, limit: float) -> dict[str, Any] | None:
    """The same in a process of its own; None where it took longer than `limit` seconds."""
    command = [sys.executable, __file__, "--alone", json.dumps([method, n, d, k, repeats])]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(found.stdout.splitlines()[-1])


def matrices(report: common.Report, n: int, d: int, k: int, methods: list[str], limit: float) -> None:
    base: Any = None
    lines = []
    for method in ["E-step", *methods]:
        found = measured(method, n, d, k, 10 if method == "E-step" else 1, limit)
        if found is None:
            lines.append([method, f"over {limit:.0f} s", *[""] * 6])
            continue
        base = found if base is None else base
        planned = found["arguments"] + found["temporary"] + found["output"]
        first = base["arguments"] + base["temporary"] + base["output"]
        lines.append(
            [
                method,
                common.significant(found["wall"]),
                common.significant(found["wall"] / base["wall"]),
                common.significant(found["busy"] / base["busy"]),
                common.mebibytes(found["temporary"]),
                f"{common.mebibytes(planned)} ({planned / first:.2f} x)",
                f"{common.mebibytes(found['rss'])} ({common.mebibytes(found['prepared_rss'])} before)",
                f"{found['compile']:.0f}",
            ]
        )  # fmt: skip
        print(f"{method}: {lines[-1][1:]}", flush=True)
    columns = [
        "method", "s", "E-steps by the clock", "E-steps by processor time", "temporary MiB", "planned MiB with data",
        "peak MiB of the process", "compile s",
    ]  # fmt: skip
    asked = f"{base['size']} params, so that P + 5 = {base['size'] + 5} E-steps are asked"
    report.table(f"Information, n = {n}, d = {d}, K = {k}: {asked}", columns, lines)


def bootstrap(report: common.Report, draws: int, looped: int) -> None:
    """Refits of the mini-project in lanes, beside loops of `fit` with the same start and stop."""
    y = np.genfromtxt(MINI_PROJECT, delimiter=",", skip_header=1)[:, 2:4]  # with holes
    model = common.gaussian_mixture(3)
    rows = jaxem.prepare(model, y)
    fitted = jaxem.fit(model, rows, key=0, restarts=10)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=looped + 1)

    def ours(key: int) -> Any:
        return jaxem.standard_errors(model, fitted.params, rows, "bootstrap", key=key, draws=draws).draws

    def weighted(algorithm: Any) -> Callable[[int], Any]:
        return lambda i: jaxem.fit(model, rows, params=fitted.params, weights=weights[i], algorithm=algorithm, stop=STOP).params

    def resampled(i: int) -> Any:
        sample = y[np.repeat(np.arange(len(y)), weights[i])]
        return jaxem.fit(model, sample, params=fitted.params, stop=STOP).params

    common.clock(lambda: ours(0))
    walls, busy = [], []
    for key in (1, 2, 3):
        used = time.process_time()
        walls.append(common.clock(lambda key=key: ours(key))[0])
        busy.append(time.process_time() - used)
    best = min(walls), min(busy)
    lines = [[f"{draws} refits in lanes", *map(common.significant, (best[0], best[1])), "", ""]]
    loops = {
        "loop of fit on prepared rows with weights, em()": (weighted(None), looped),
        "the same with accelerated()": (weighted(jaxem.accelerated()), looped),
        "loop of fit on the rows drawn": (resampled, min(looped, 5)),
    }
    for name, (one, count) in loops.items():
        common.clock(lambda one=one: one(looped))
        used, start = time.process_time(), time.perf_counter()
        for i in range(count):
            jax.block_until_ready(one(i))
        wall, own = (time.perf_counter() - start) * draws / count, (time.process_time() - used) * draws / count
        ratios = f"1 / {wall / best[0]:.1f}", f"1 / {own / best[1]:.1f}"
        lines.append([f"{name} ({count} fits, scaled to {draws})", *map(common.significant, (wall, own)), *ratios])
    columns = ["refits", "s", "processor s", "lanes take, by the clock", "by processor time"]
    report.table(f"Bootstrap of the mini-project, {len(y)} rows, {np.isnan(y).sum()} missing cells", columns, lines)


def main() -> None:
    if "--alone" in sys.argv:
        common.configure()
        print(json.dumps(alone(*json.loads(sys.argv[sys.argv.index("--alone") + 1]))))
        return
    args = common.arguments(__doc__, part={"help": "matrices or bootstrap; default both", "default": ""})
    common.configure()
    report = common.Report(args)
    if args.part != "bootstrap":
        if args.small:
            matrices(report, 2048, 2, 2, ["oakes", "observed", "louis"], 300.0)
        else:
            matrices(report, 131_072, 8, 8, ["oakes", "observed", "louis"], 1200.0)
    if args.part != "matrices":
        bootstrap(report, *((64, 4) if args.small else (DRAWS, LOOPED)))
    report.finish()


if __name__ == "__main__":
    main()
