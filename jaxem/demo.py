"""The mini-project: 500 rows of a Gaussian mixture with 20 % of the cells missing, fitted, described and drawn."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.align import align
from jaxem.families import Gaussian, GaussianParams
from jaxem.fit import Progress, fit
from jaxem.models import Mixture, MixtureParams
from jaxem.parameters import comparison_table
from jaxem.result import Fit
from jaxem.summary import summarize
from jaxem.view import view_of

NAMES = ("x1", "x2")
RESTARTS = 20
SEED = 0
WEIGHTS: Any = np.array([0.3, 0.5, 0.2])  # of the generating mixture, as are the next two
MEAN: Any = np.array([[-2.0, -2.0], [0.0, 3.0], [3.0, 0.0]])
COVARIANCE: Any = np.array([[[1.0, 0.3], [0.3, 1.0]], [[0.8, -0.2], [-0.2, 0.8]], [[1.2, 0.5], [0.5, 1.2]]])
GENERATING = MixtureParams(WEIGHTS, GaussianParams(MEAN, COVARIANCE))


class Demo(NamedTuple):
    """A fit of the mini-project, aligned to the params that generated it, and what it took."""

    model: Mixture
    fit: Fit
    y: np.ndarray  # (500, 2), NaN where missing
    first_seconds: float  # compiling included
    second_seconds: float  # the same call again

    def account(self) -> str:
        """The report, the params beside the generating ones, and the times."""
        compiling = self.first_seconds - self.second_seconds
        return "\n\n".join([
            summarize(self.model, self.fit, self.y, names=NAMES),
            "Beside the parameters that generated the data:",
            comparison_table(self.model, GENERATING, self.fit.params, view_of(self.y, NAMES)),
            f"Time: {compiling:.2f} s compiling (once in a process), {self.second_seconds:.3f} s running all {RESTARTS} restarts.",
        ])  # fmt: skip


def load() -> np.ndarray:
    """The data of the mini-project, (500, 2), NaN where a cell is missing."""
    text = (resources.files("jaxem") / "examples" / "mini_project.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return np.array([[float(row[name] or "nan") for name in NAMES] for row in rows])


def run(progress: Callable[[Progress], None] | None = None) -> Demo:
    """Fits the mini-project twice with the same seed, so that compiling and running can be told apart."""
    model, y = Mixture(Gaussian(), 3), load()

    def timed() -> tuple[Fit, float]:
        start = time.perf_counter()
        fitted = jax.block_until_ready(fit(model, y, key=SEED, restarts=RESTARTS, progress=progress))
        return fitted, time.perf_counter() - start

    (_, first), (fitted, second) = timed(), timed()
    return Demo(model, fitted._replace(params=align(fitted.params, GENERATING)), y, first, second)
