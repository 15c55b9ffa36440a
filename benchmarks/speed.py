"""Time of one EM iteration of a full-covariance Gaussian mixture, beside other libraries, and with missing cells."""

from __future__ import annotations

import warnings
from typing import Any

import common
import jax
import numpy as np
import peers
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxem

CASES = [(131072, 8, 8), (131072, 2, 3), (65536, 16, 16), (32768, 32, 32)]
SMALL = [(4096, 4, 3), (2048, 8, 4)]
FIT_STEPS = 10


def contestant(y: np.ndarray, params: Any, dealt: bool = False) -> Any:
    """Our step as a call that returns params and log-likelihood; its model and rows as attributes of a tuple."""
    model = common.gaussian_mixture(len(params.weights))
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("rows",)), PartitionSpec("rows")) if dealt else None
    rows = jaxem.prepare(model, y, sharding=sharding)
    settled = model.settle(params, rows)
    return lambda: common.step(settled, params, rows), settled, rows


def agreement(ours: float, theirs: float, limit: float, what: str) -> str:
    difference = abs(ours - theirs) / abs(theirs)
    if not difference < limit:
        raise SystemExit(f"{what}: log-likelihoods {ours} and {theirs} differ by {difference:.1e} relative")
    return f"{difference:.0e}"


def against_scikit_learn(report: common.Report, cases: list[tuple[int, int, int]]) -> None:
    lines = []
    dealing = jax.default_backend() == "cpu" and jax.device_count() > 1
    for n, d, k in cases:
        given = common.problem(n, d, k)
        params = common.params_of(given)
        calls = {"plain": contestant(given.y, params)[0]}
        if dealing:
            calls["dealt"] = contestant(given.y, params, dealt=True)[0]
        calls["sklearn"] = peers.scikit_learn(given)
        compiling = common.clock(calls["plain"])[0]
        reference = calls["sklearn"]()
        digits = [agreement(float(calls[name]()[1]), reference, 1e-6, name) for name in calls if name != "sklearn"]
        timed = common.interleave(calls)
        dealt = [common.milliseconds(timed["dealt"]), common.ratio(timed["sklearn"], timed["dealt"])] if dealing else ["-", "-"]
        lines.append([f"{n:,}", d, k, common.milliseconds(timed["sklearn"]), common.milliseconds(timed["plain"])])
        lines[-1] += [common.ratio(timed["sklearn"], timed["plain"]), *dealt, common.significant(compiling, 2), max(digits)]
    columns = ["n", "d", "K", "scikit-learn, ms", "jaxem plain, ms", "times faster", "jaxem dealt over the cores, ms"]
    columns += ["times faster", "plain's first call, s", "log-likelihoods agree to"]
    report.table("One E-step and M-step, float64: median (min-max)", columns, lines)


def whole_fits(report: common.Report, cases: list[tuple[int, int, int]]) -> None:
    """A check on the table above: public fits of a set number of iterations from the same start."""
    lines = []
    for n, d, k in cases:
        given = common.problem(n, d, k)
        params, model = common.params_of(given), common.gaussian_mixture(k)
        rows, stop = jaxem.prepare(model, given.y), jaxem.Stop(0.0, "absolute", FIT_STEPS)
        taken = int(jaxem.fit(model, rows, params=params, stop=stop).steps)
        theirs = peers.scikit_learn_fit(given, FIT_STEPS)
        iterations = theirs()
        calls = {
            "ours": lambda model=model, rows=rows, params=params, stop=stop: jaxem.fit(model, rows, params=params, stop=stop),
            "sklearn": theirs,
        }
        timed = common.interleave(calls, repeats=5, warm=False)
        ours = common.span(timed["ours"].rounds, 1e3 / taken)
        peer = common.span(timed["sklearn"].rounds, 1e3 / iterations)
        quotients = [
            (b / iterations) / (a / taken) for a, b in zip(timed["ours"].rounds, timed["sklearn"].rounds, strict=True)
        ]
        lines.append([f"{n:,}", d, k, iterations, peer, taken, ours, common.span(quotients)])
    columns = ["n", "d", "K", "scikit-learn, iterations", "ms per iteration", "jaxem, steps", "ms per step", "times faster"]
    report.table("Whole fits from one start, plain, float64", columns, lines)


def in_float32(report: common.Report, cases: list[tuple[int, int, int]]) -> None:
    lines = []
    for n, d, k in cases:
        given = common.problem(n, d, k)
        call, settled, _ = contestant(given.y.astype(np.float32), common.params_of(given, np.float32))
        makers = {
            "scikit-learn": lambda given=given: peers.scikit_learn(given, np.float32),
            "gmmx": lambda given=given: peers.gmmx(given),
            "pomegranate": lambda given=given: peers.pomegranate(given),
        }
        made = {name: make() for name, make in makers.items()}
        reference, ours = peers.scikit_learn(given)(), float(call()[1])
        calls = {name: theirs for name, theirs in made.items() if theirs is not None}
        off = {name: abs(theirs() - reference) / abs(reference) for name, theirs in calls.items()}
        timed = common.interleave({"jaxem": call, **calls})
        agrees = agreement(ours, reference, 1e-4, "float32")
        lines.append([f"{n:,}", d, k, f"jaxem ({settled.family.kernel})", common.milliseconds(timed["jaxem"]), "1", agrees])
        for name in made:
            found = [common.milliseconds(timed[name]), common.ratio(timed[name], timed["jaxem"]), f"{off[name]:.0e}"] \
                if name in calls else ["not installed", "-", "-"]  # fmt: skip
            lines.append([f"{n:,}", d, k, name, *found])
    columns = ["n", "d", "K", "library", "ms", "times jaxem's", "log-likelihood off float64's by"]
    report.table("One E-step and M-step, float32, plain", columns, lines)


def missing_cells(report: common.Report, n: int, d: int, k: int) -> None:
    """20 % of cells missing against the same rows complete."""
    given = common.problem(n, d, k)
    params, holed = common.params_of(given), common.punch(given.y, 0.2)
    calls = {"complete": contestant(given.y, params)[0], "missing": contestant(holed, params)[0]}
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        calls["complete, dealt"] = contestant(given.y, params, dealt=True)[0]
        calls["missing, dealt"] = contestant(holed, params, dealt=True)[0]
    agreement(float(calls.get("missing, dealt", calls["missing"])()[1]), float(calls["missing"]()[1]), 1e-10, "dealt")
    timed = common.interleave(calls)
    lines = []
    for kind in ["", ", dealt"] if "missing, dealt" in calls else [""]:
        whole, part = timed["complete" + kind], timed["missing" + kind]
        lines.append([f"{n:,}", d, k, patterns(holed), "dealt" if kind else "plain", common.milliseconds(whole)])
        lines[-1] += [common.milliseconds(part), common.ratio(part, whole)]
    columns = ["n", "d", "K", "patterns", "run", "complete, ms", "20 % missing, ms", "ratio"]
    report.table("Missing cells, few patterns", columns, lines)


def own_patterns(report: common.Report, sizes: list[int], d: int, k: int) -> None:
    """Nearly every row its own pattern: time and memory should grow with n alone."""
    lines = []
    for n in sizes:
        given = common.problem(n, d, k)
        params, holed = common.params_of(given), common.punch(given.y, 0.25)
        whole, _, _ = contestant(given.y, params)
        part, settled, rows = contestant(holed, params)
        timed = common.interleave({"complete": whole, "missing": part}, repeats=5)
        analysis = common.step.lower(settled, params, rows).compile().memory_analysis()
        data = common.mebibytes(sum(leaf.nbytes for leaf in jax.tree.leaves(rows)))
        temporary = common.mebibytes(analysis.temp_size_in_bytes) if analysis is not None else "unknown"
        per_row = common.span(timed["missing"].rounds, 1e6 / n)
        lines.append([f"{n:,}", patterns(holed), f"{np.isnan(holed).mean():.0%}", common.milliseconds(timed["complete"])])
        lines[-1] += [common.milliseconds(timed["missing"]), per_row, common.ratio(timed["missing"], timed["complete"])]
        lines[-1] += [data, temporary]
    columns = ["n", "patterns", "missing", "complete, ms", "missing, ms", "us per row", "ratio", "prepared data, MiB"]
    columns += ["memory of the step, MiB"]
    report.table(f"Missing cells, nearly every row its own pattern, d={d}, K={k}, float64", columns, lines)


def patterns(y: np.ndarray) -> int:
    return len(np.unique(np.packbits(np.isnan(y), axis=1), axis=0))


def main() -> None:
    args = common.arguments(__doc__)
    common.configure(every_core_a_device=True)
    warnings.filterwarnings("ignore", module="sklearn")
    report = common.Report(args, "gmmx", "pomegranate", "torch")
    cases = SMALL if args.small else CASES
    against_scikit_learn(report, cases)
    whole_fits(report, cases)
    in_float32(report, cases)
    missing_cells(report, *cases[0])
    own_patterns(report, [250, 500] if args.small else [5000, 10000, 20000], 20, 3)
    report.finish()


if __name__ == "__main__":
    main()
