"""Time to the first fit of a fresh process, with and without JAX's persistent compilation cache; the share of initialisation."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

SIZE = (10_000, 8, 3)
KINDS = ("jaxem, no cache", "jaxem, cache empty", "jaxem, cache warm", "scikit-learn")


def child(library: str, n: int, d: int, k: int) -> None:
    """Imports, then two fits of different data of one shape; prints the seconds of each."""
    started = time.perf_counter()
    import numpy as np

    rng = np.random.default_rng(0)
    data = [np.concatenate([rng.normal(3 * i, 1, size=(n // k, d)) for i in range(k)]) for _ in range(2)]
    imported = time.perf_counter()
    if library == "jaxem":
        import jax

        import jaxem

        jax.config.update("jax_enable_x64", True)

        def fit(y: np.ndarray) -> None:
            jax.block_until_ready(jaxem.fit(jaxem.Mixture(jaxem.Gaussian(), k), y, key=0))
    else:
        from sklearn.mixture import GaussianMixture

        def fit(y: np.ndarray) -> None:
            GaussianMixture(k, tol=1e-8, max_iter=1000, random_state=0).fit(y)

    times = [time.perf_counter()]
    for y in data:
        fit(y)
        times.append(time.perf_counter())
    result = {"import": times[0] - imported, "first": times[1] - times[0], "second": times[2] - times[1]}
    print(json.dumps(result | {"process": times[2] - started}))


def fresh(library: str, size: tuple[int, int, int], cache: str | None) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    if cache is not None:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    command = [sys.executable, __file__, "--child", library, *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def first_fits(size: tuple[int, int, int], repeats: int) -> dict[str, list[dict[str, float]]]:
    """The kinds of process in turn, `repeats` times."""
    kinds: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            kinds["jaxem, no cache"].append(fresh("jaxem", size, None))
            kinds["jaxem, cache empty"].append(fresh("jaxem", size, cache))
            kinds["jaxem, cache warm"].append(fresh("jaxem", size, cache))
            kinds["scikit-learn"].append(fresh("scikit-learn", size, None))
    return kinds


def first_fit_table(report, size: tuple[int, int, int], repeats: int) -> None:
    import common

    lines = []
    for kind, runs in first_fits(size, repeats).items():
        compiling = [run["first"] - run["second"] for run in runs]
        parts = [[run[part] for run in runs] for part in ("import", "first", "second")]
        lines.append([kind, *map(common.span, parts), common.span(compiling)])
    n, d, k = size
    columns = ["fresh process", "import, s", "first fit, s", "second fit, same shapes, s", "first less second, s"]
    report.table(f"First fit, n={n:,}, d={d}, K={k}, float64, {repeats} processes each", columns, lines)


def initialisation_table(report, n: int, d: int, k: int, repeats: int) -> None:
    """prepare, init and fit to the default tolerance, each by itself and warm."""
    import common

    import jaxem

    y, model = common.problem(n, d, k).y, common.gaussian_mixture(k)
    rows = jaxem.prepare(model, y)
    fit = jaxem.fit(model, rows, key=0)
    calls = {
        "prepare": lambda: jaxem.prepare(model, y),
        "init": lambda: model.init(0, rows),
        "fit of prepared rows": lambda: jaxem.fit(model, rows, key=0),
        "fit of the raw array": lambda: jaxem.fit(model, y, key=0),
    }
    timed = common.interleave(calls, repeats, warm=False)
    whole = statistics.median(timed["fit of the raw array"].rounds)
    lines = [[name, common.milliseconds(timing), f"{timing.median / whole:.1%}"] for name, timing in timed.items()]
    ended = f"{int(fit.steps)} steps, {jaxem.Status(int(fit.status)).name}"
    report.table(f"Parts of a fit, n={n:,}, d={d}, K={k}, default tolerance ({ended})", ["part", "ms", "of the whole"], lines)


def main() -> None:
    if "--child" in sys.argv:
        child(sys.argv[2], *map(int, sys.argv[3:6]))
        return
    import common

    args = common.arguments(__doc__, repeats={"type": int, "default": 5, "help": "processes of each kind"})
    common.configure()
    report = common.Report(args)
    first_fit_table(report, (300, 2, 3) if args.small else SIZE, 1 if args.small else args.repeats)
    initialisation_table(report, *((2000, 3, 3) if args.small else (131_072, 8, 8)), args.repeats)
    report.finish()


if __name__ == "__main__":
    main()
