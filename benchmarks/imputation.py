"""Coverage of pooled intervals: a mean, a variance's logarithm and a slope of two columns, one missing at random.

    python benchmarks/imputation.py [--sets 400] [--rows 100] [--draws 20] [--method posterior]
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

import jaxem
from jaxem import Gaussian, NormalInverseWishart, Single

TRUTH = {"mean": 1.0, "log variance": 0.0, "slope": 0.7}


def simulate(rng: np.random.Generator, n: int) -> np.ndarray:
    """Correlation 0.7; the second column is missing in 40 % of the rows, more often where the first is large.

    As many rows in every data set, so that all share their programs.
    """
    y = rng.multivariate_normal([0.0, 1.0], [[1.0, 0.7], [0.7, 1.0]], n)
    y[np.argsort(-(1.5 * y[:, 0] + rng.gumbel(size=n)))[: 2 * n // 5], 1] = np.nan
    return y


def estimates(data: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and log variance of the second column and its slope on the first, with their variances."""
    x, y = data.T
    n = len(data)
    off = x - x.mean()
    slope = float(off @ y / (off @ off))
    left = y - y.mean() - slope * off
    return (
        [float(y.mean()), float(np.log(y.var(ddof=1))), slope],
        [float(y.var(ddof=1) / n), 2 / (n - 1), float(left @ left / (n - 2) / (off @ off))],
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--method", default="posterior")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    # what data augmentation draws from has to be proper; this prior is worth next to nothing
    vague = NormalInverseWishart(mean=np.zeros(2), shrinkage=1e-3, dof=2.0, scale=1e-3 * np.eye(2))
    model = Single(Gaussian(), prior=vague if options.method == "data_augmentation" else None)
    hits: dict[str, list[np.ndarray]] = {}
    widths: dict[str, list[np.ndarray]] = {}
    told, began = [], time.perf_counter()
    truth = np.array(list(TRUTH.values()))

    def note(name: str, found: jaxem.Pooled) -> None:
        hits.setdefault(name, []).append((found.lower <= truth) & (truth <= found.upper))
        widths.setdefault(name, []).append(found.upper - found.lower)

    for seed in range(options.sets):
        y = simulate(np.random.default_rng(seed), options.rows)
        params = jaxem.fit(model, y).params
        sets = jaxem.impute(model, params, y, draws=options.draws, method=options.method, key=seed)
        found = jaxem.pool(*map(list, zip(*map(estimates, sets), strict=True)), dof=options.rows - 2)
        told.append(found.missing_information)
        note("pooled", found)
        for name, data in (("one draw", sets[0]), ("conditional means", np.asarray(model.impute(params, y))),
                           ("complete rows", y[~np.isnan(y).any(axis=1)])):  # fmt: skip
            q, u = estimates(data)
            note(name, jaxem.pool([q, q], [u, u], dof=len(data) - 2))
    print(f"{options.sets} data sets of {options.rows} rows, {options.draws} imputations by {options.method}, "
          f"{time.perf_counter() - began:.0f} s; coverage of 95 % intervals, mean width in brackets")  # fmt: skip
    print(f"{'':20s}" + "".join(f"{name:>18s}" for name in TRUTH))
    for name, own in hits.items():
        share, width = np.mean(own, axis=0), np.mean(widths[name], axis=0)
        print(f"{name:20s}" + "".join(f"{f'{100 * a:.1f} % ({b:.3f})':>18s}" for a, b in zip(share, width, strict=True)))
    print(f"{'missing information':20s}" + "".join(f"{each:18.3f}" for each in np.mean(told, axis=0)))


if __name__ == "__main__":
    main()
