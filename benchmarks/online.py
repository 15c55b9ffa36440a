"""Algorithms that move after each part of the data against batch EM: passes over the data, and seconds, on overlapping Gaussians.

    python benchmarks/online.py [--small] [--json FILE]

One start for all. The gap is that of the log-likelihood per row to the best that any run has found. Passes are E-step equivalents
without the one that evaluates the result; seconds are those of a second run, compiled already.
"""

from __future__ import annotations

import time
from typing import Any

import common
import jax
import numpy as np
import optax

import jaxem
from jaxem import Stop, em, fit, gradient, incremental_em, online_em, squarem, variance_reduced_em

K, D = 5, 4
SPREAD = 0.8  # of the means, in standard deviations: less means more overlap


class Setting:
    """Data of one size, prepared, with the best log-likelihood known."""

    def __init__(self, n: int):
        given = common.problem(n, D, K, spread=SPREAD)
        self.n, self.model, self.params = n, common.gaussian_mixture(K), common.params_of(given)
        self.rows = jaxem.prepare(self.model, given.y)
        self.best = float(self.fit(squarem(), Stop(tolerance=1e-9 * n, max_steps=3000)).log_likelihood)

    def fit(self, algorithm: Any, stop: Stop) -> Any:
        found = fit(self.model, self.rows, params=self.params, key=0, algorithm=algorithm, stop=stop)
        self.best = max(getattr(self, "best", -np.inf), float(found.log_likelihood))
        return found

    def timed(self, algorithm: Any, stop: Stop) -> tuple[Any, float]:
        jax.block_until_ready(self.fit(algorithm, Stop(tolerance=stop.tolerance, max_steps=1)))
        begin = time.perf_counter()
        found = jax.block_until_ready(self.fit(algorithm, stop))
        return found, time.perf_counter() - begin

    def gap(self, found: Any) -> str:
        return f"{(self.best - float(found.log_likelihood)) / self.n:.1e}"

    def passes_to(self, found: Any, target: float) -> str:
        """Passes until the objective, as history has it, was within `target` per row of the best."""
        there = np.flatnonzero(self.best - np.asarray(found.history) <= target * self.n)
        return str(int(found.history_passes[there[0]])) if there.size else "not reached"


def few_passes(report: common.Report, n: int) -> None:
    """What one and two visits to the data give."""
    setting = Setting(n)
    contestants = {
        "em()": em(),
        "online_em()": online_em(),
        "online_em(batch_size=4096)": online_em(batch_size=4096),
        "online_em(average=False)": online_em(average=False),
        "incremental_em()": incremental_em(),
        "variance_reduced_em()": variance_reduced_em(),
        "gradient(adam(0.003), batch_size=1000)": gradient(optax.adam(0.003), batch_size=1000),
        "gradient(adam(0.01), batch_size=1000)": gradient(optax.adam(0.01), batch_size=1000),
        "gradient(adam(0.03), batch_size=1000)": gradient(optax.adam(0.03), batch_size=1000),
    }
    found = {}
    for name, algorithm in contestants.items():
        for budget in (1, 2):
            found[name, budget] = setting.timed(algorithm, Stop(tolerance=0.0, max_passes=budget, max_steps=budget))
    table = []
    for (name, _), (result, seconds) in found.items():
        table.append([name, int(result.passes) - 1, setting.gap(result), common.significant(seconds)])
    report.table(f"{n:,} rows: what a few passes give", ["algorithm", "passes", "gap per row", "seconds"], table)


def many_passes(report: common.Report, n: int) -> None:
    """How many visits it takes to be as good as done."""
    setting, target = Setting(n), 1e-6
    contestants = {
        "em()": em(),
        **{f"incremental_em({k})": incremental_em(k) for k in (5, 20, 100)},
        **{f"variance_reduced_em({k})": variance_reduced_em(k) for k in (5, 20, 100)},
        "squarem()": squarem(),
    }
    runs = {name: setting.timed(each, Stop(tolerance=1e-8 * n, max_steps=2000)) for name, each in contestants.items()}
    table = []
    for name, (result, seconds) in runs.items():
        there = setting.passes_to(result, target)
        table.append([name, there, int(result.passes) - 1, setting.gap(result), common.significant(seconds)])
    columns = ["algorithm", f"passes to {target:g} a row", "passes in all", "gap per row", "seconds in all"]
    report.table(f"{n:,} rows: passes to the maximum", columns, table)


def main() -> None:
    common.configure()
    args = common.arguments(__doc__.splitlines()[0])
    report = common.Report(args, "optax")
    few_passes(report, 20_000 if args.small else 1_000_000)
    many_passes(report, 5_000 if args.small else 100_000)
    report.finish()


if __name__ == "__main__":
    main()
