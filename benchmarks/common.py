"""What the benchmarks share: the machine line, interleaved timing, tables, data."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import psutil

from jaxem import Gaussian, GaussianParams, Mixture, MixtureParams

# set-up


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def configure(every_core_a_device: bool = False) -> None:
    """float64 on; with `every_core_a_device`, as many CPU devices as cores. Before anything else touches JAX."""
    jax.config.update("jax_enable_x64", True)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU is shared with the processes that scripts start
    if every_core_a_device:
        jax.config.update("jax_num_cpu_devices", cores())


def arguments(description: str, **extra: dict[str, Any]) -> argparse.Namespace:
    """--small and --json, and what a script adds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs; the figures mean nothing")
    parser.add_argument("--json", metavar="FILE", help="also write machine, versions and tables there")
    for name, options in extra.items():
        parser.add_argument(f"--{name}", **options)
    return parser.parse_args()


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def version(package: str) -> str:
    """Of a distribution, or 'not installed'."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


# the machine


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "devices": jax.device_count(),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def versions(*more: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    return found | {name: version(name) for name in ("jaxem", "jax", "jaxlib", "numpy", "scikit-learn", *more)}


class Report:
    """Prints as it goes, in markdown, and keeps everything for --json."""

    def __init__(self, args: argparse.Namespace, *packages: str):
        self.target = args.json
        self.content = {
            "script": Path(sys.argv[0]).name,
            "small": args.small,
            "machine": machine(),
            "versions": versions(*packages),
            "tables": [],
        }
        m = self.content["machine"]
        where = f"JAX on {m['backend']} ({m['device']}, {m['devices']} devices)"
        print(f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB; {where}; load {m['load_before']}")
        print(", ".join(f"{name} {found}" for name, found in self.content["versions"].items()))
        if args.small:
            print("small sizes: the figures mean nothing")

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        self.content["tables"].append({"title": title, "columns": columns, "rows": rows})
        print(f"\n{title}\n")
        for line in (columns, ["---"] * len(columns), *rows):
            print("| " + " | ".join(str(cell) for cell in line) + " |")
        sys.stdout.flush()

    def finish(self) -> None:
        if self.target:
            Path(self.target).write_text(json.dumps(self.content, indent=1) + "\n")


# timing

REST = 0.25  # seconds; longer than OpenMP's and OpenBLAS's threads keep spinning after their last work

class Timing(NamedTuple):
    """Seconds of one contestant."""

    first: float  # the first call, with compilation
    rounds: list[float]  # the others

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def clock(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call, finished."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def interleave(
    calls: dict[str, Callable[[], Any]], repeats: int = 9, budget: float = 30.0, warm: bool = True, rest: float = REST
) -> dict[str, Timing]:
    """Times the calls in turn, round by round, so that all see the same machine. At least 3 rounds, then while budget lasts.

    Before each turn the threads that the last contestant left spinning are given time to fall asleep; then, with `warm`, one
    call goes untimed and quick calls are repeated, of which the round's figure is the median.
    """
    first = {name: clock(call)[0] for name, call in calls.items()}
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for done in range(repeats):
        if done >= 3 and time.perf_counter() - start > budget:
            break
        for name, call in calls.items():
            time.sleep(rest)
            rounds[name].append(_turn(call) if warm else clock(call)[0])
    return {name: Timing(first[name], rounds[name]) for name in calls}


def _turn(call: Callable[[], Any]) -> float:
    clock(call)
    taken: list[float] = []
    while not taken or (len(taken) < 10 and sum(taken) < 0.1):
        taken.append(clock(call)[0])
    return statistics.median(taken)


def span(values: list[float], scale: float = 1.0, digits: int = 3) -> str:
    """Median (min-max) to so many significant digits."""
    numbers = (statistics.median(values), min(values), max(values))
    middle, low, high = (significant(value * scale, digits) for value in numbers)
    return f"{middle} ({low}-{high})"


def milliseconds(timing: Timing) -> str:
    return span(timing.rounds, 1e3)


def ratio(slow: Timing, fast: Timing) -> str:
    """Median (min-max) of the ratios round by round."""
    return span([a / b for a, b in zip(slow.rounds, fast.rounds, strict=True)])


def significant(value: float, digits: int = 3) -> str:
    """A number in plain notation where that is readable."""
    if value == 0 or not np.isfinite(value):
        return str(value)
    if 1e-3 <= abs(value) < 1e6:
        places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
        return f"{value:.{places}f}"
    return f"{value:.{digits - 1}e}"


def mebibytes(size: float) -> str:
    return significant(size / 2**20)


# data


class Problem(NamedTuple):
    """Rows of a Gaussian mixture, and a start near the truth that every contestant takes."""

    y: np.ndarray  # (n, d)
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    covariances: np.ndarray  # (K, d, d)


def problem(n: int, d: int, k: int, seed: int = 0, spread: float = 2.0) -> Problem:
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(k, d, d)) / np.sqrt(d) + np.eye(d)
    means = spread * rng.normal(size=(k, d))
    weights = rng.dirichlet(np.full(k, 20.0))
    states = rng.choice(k, n, p=weights)
    noise = rng.normal(size=(n, d))
    y = means[states]
    for state in range(k):
        chosen = states == state
        y[chosen] += noise[chosen] @ roots[state].T
    covariances = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)
    return Problem(y, np.full(k, 1 / k), means + 0.1 * rng.normal(size=(k, d)), covariances)


def punch(y: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """The same rows with that share of cells missing; no row loses every cell."""
    rng = np.random.default_rng(seed)
    gone = rng.random(y.shape) < share
    emptied = np.flatnonzero(gone.all(axis=1))
    gone[emptied, rng.integers(y.shape[1], size=len(emptied))] = False
    return np.where(gone, np.nan, y)


def params_of(given: Problem, dtype: Any = np.float64) -> MixtureParams:
    weights, means, covariances = (np.asarray(leaf, dtype) for leaf in given[1:])
    return MixtureParams(jax.numpy.asarray(weights), GaussianParams(jax.numpy.asarray(means), jax.numpy.asarray(covariances)))


def gaussian_mixture(k: int, kernel: str = "auto") -> Mixture:
    return Mixture(Gaussian(kernel=kernel), k)


@jax.jit
def step(model: Mixture, params: MixtureParams, rows: Any) -> tuple[MixtureParams, jax.Array]:
    """One E-step and one M-step of a settled model, and the log-likelihood of `params`."""
    local = model.localize(params, rows)
    expected = local.e_step(params, rows)
    return local.m_step(params, expected.statistics), expected.log_likelihood
