"""Peak memory of one EM step beyond the prepared data, against one n x K array."""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import common
import jax
import peers
import psutil

import jaxem


class Watch:
    """The largest resident set while a block runs, sampled every millisecond."""

    def __enter__(self) -> Watch:
        gc.collect()
        self.process, self.running = psutil.Process(), True
        self.before = self.peak = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def _sample(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(1e-3)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()

    @property
    def grown(self) -> int:
        return self.peak - self.before


def ours(n: int, d: int, k: int) -> dict[str, Any]:
    given = common.problem(n, d, k)
    model, params = common.gaussian_mixture(k), common.params_of(given)
    rows = jax.block_until_ready(jaxem.prepare(model, given.y))
    del given
    settled = model.settle(params, rows)
    compiled = common.step.lower(settled, params, rows).compile()
    analysis = compiled.memory_analysis()
    found = {
        "data": sum(leaf.nbytes for leaf in jax.tree.leaves(rows)),
        "temporary": None if analysis is None else analysis.temp_size_in_bytes,
    }
    return found | _peak(lambda: compiled(settled, params, rows))


def _peak(call: Callable[[], Any]) -> dict[str, Any]:
    """On an accelerator the device's own count; its peak since the start, so 0 where preparing took more."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        with Watch() as watch:
            taken, _ = common.clock(call)
        return {"measured": watch.grown, "seconds": taken}
    held = device.memory_stats()["bytes_in_use"]
    taken, _ = common.clock(call)
    return {"measured": max(0, device.memory_stats()["peak_bytes_in_use"] - held), "seconds": taken}


def theirs(n: int, d: int, k: int) -> dict[str, Any]:
    call = peers.scikit_learn(common.problem(n, d, k))
    peers.scikit_learn(common.problem(1000, d, k))()  # threads and buffers of its matrix products
    with Watch() as watch:
        taken, _ = common.clock(call)
    return {"data": 8 * n * d, "temporary": None, "measured": watch.grown, "seconds": taken}


def child(which: str, shape: list[int]) -> dict[str, Any]:
    """The same in a fresh process, whose resident set nothing else has touched."""
    command = [sys.executable, __file__, "--child", which, *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def table(report: common.Report, shape: list[int], repeats: int) -> None:
    n, d, k = shape
    whole = 8 * n * k
    lines = []
    for which in ("jaxem", "scikit-learn"):
        runs = [child(which, shape) for _ in range(repeats)]
        measured = [run["measured"] for run in runs]
        temporary = runs[0]["temporary"]
        lines.append([which, common.mebibytes(runs[0]["data"]), "-" if temporary is None else common.mebibytes(temporary)])
        lines[-1] += ["-" if temporary is None else f"{temporary / whole:.2%}", common.span(measured, 2**-20)]
        lines[-1] += [f"{sorted(measured)[repeats // 2] / whole:.2%}", common.span([run["seconds"] for run in runs])]
    columns = ["run", "data, MiB", "XLA's count of the step, MiB", "of n x K", "measured growth, MiB", "of n x K", "seconds"]
    title = f"One step, n={n:,}, d={d}, K={k}, float64; one n x K array is {common.mebibytes(whole)} MiB"
    report.table(title, columns, lines)


def main() -> None:
    if "--child" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--child", choices=("jaxem", "scikit-learn"))
        parser.add_argument("shape", type=int, nargs=3)
        asked = parser.parse_args()
        common.configure()
        print(json.dumps((ours if asked.child == "jaxem" else theirs)(*asked.shape)))
        return
    args = common.arguments(__doc__, repeats={"type": int, "default": 3, "help": "processes each"})
    common.configure()
    report = common.Report(args)
    shapes = [[20000, 4, 8]] if args.small else [[2_000_000, 4, 32], [500_000, 16, 32]]
    for shape in shapes:
        table(report, shape, args.repeats)
    report.finish()


if __name__ == "__main__":
    main()
