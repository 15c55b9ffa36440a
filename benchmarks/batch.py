"""Many small fits at once: different data sets, and restarts of one, against a loop of scikit-learn fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import common
import joblib
import numpy as np
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

import jaxem

TOLERANCE = 1e-6  # mean log-likelihood a row gains in the last step
MAX_STEPS = 1000
K = 3


def peer_fit(y: np.ndarray, seed: int, restarts: int = 1) -> tuple[float, int]:
    """Log-likelihood and iterations of a scikit-learn fit from k-means starts; one thread, which suits so few rows best."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        options = {"tol": TOLERANCE, "max_iter": MAX_STEPS, "n_init": restarts, "random_state": seed}
        model = GaussianMixture(K, **options).fit(y)
    return float(model.score(y)) * len(y), model.n_iter_


def peer_loop(datasets: list[np.ndarray], jobs: int = 1) -> np.ndarray:
    if jobs == 1:
        return np.array([peer_fit(y, seed) for seed, y in enumerate(datasets)])
    fits = (joblib.delayed(peer_fit)(y, seed) for seed, y in enumerate(datasets))
    return np.array(joblib.Parallel(jobs)(fits))


def stop_for(n: int) -> jaxem.Stop:
    """The rule that scikit-learn has: the mean log-likelihood gains less than the tolerance."""
    return jaxem.Stop(TOLERANCE * n, "absolute", MAX_STEPS)


def compare(ours: np.ndarray, theirs: np.ndarray, n: int) -> list[str]:
    """Mean difference a row, and in how many fits ours ends higher, level (1e-3 a row) or lower."""
    gain = (ours - theirs) / n
    higher, lower = int((gain > 1e-3).sum()), int((gain < -1e-3).sum())
    return [f"{gain.mean():+.1e}", f"{higher} / {len(gain) - higher - lower} / {lower}"]


def many_datasets(report: common.Report, count: int, n: int, repeats: int) -> None:
    # other data sets in each round, so that nothing but the shapes is met twice
    batches = [[common.problem(n, 2, K, seed=1000 * r + i).y for i in range(count)] for r in range(repeats + 1)]
    model = common.gaussian_mixture(K)
    turns = {name: iter(batches) for name in ("jaxem", "loop", "parallel")}
    fits: list[Any] = []
    peers: list[np.ndarray] = []

    def ours() -> Any:
        fits.append(jaxem.fit_batch(model, next(turns["jaxem"]), key=0, stop=stop_for(n)))
        return fits[-1].log_likelihood

    def loop() -> None:
        peers.append(peer_loop(next(turns["loop"])))

    def parallel() -> None:
        peer_loop(next(turns["parallel"]), common.cores())

    calls: dict[str, Callable[[], Any]] = {"jaxem": ours, "loop": loop}
    if common.cores() > 1:
        peer_loop(batches[0][:2], common.cores())  # starts the workers
        calls["parallel"] = parallel
    timed = common.interleave(calls, repeats, budget=600, warm=False)
    last, theirs = fits[-1], peers[-1]
    names = {"jaxem": "jaxem.fit_batch", "loop": "scikit-learn, loop", "parallel": f"scikit-learn, {common.cores()} processes"}
    lines = []
    for name, timing in timed.items():
        lines.append([names[name], common.significant(timing.first), common.span(timing.rounds)])
        lines[-1].append(common.ratio(timing, timed["jaxem"]))
    title = f"{count} fits of {count} data sets, n={n}, d=2, K={K}, float64, initialisation included"
    report.table(title, ["run", "first time (with compilation), s", "again, other data, s", "times jaxem's"], lines)
    quality = compare(np.asarray(last.log_likelihood), theirs[:, 0], n)
    steps = [f"{np.mean(np.asarray(last.steps)):.0f}, {int(np.max(np.asarray(last.steps)))}", f"{theirs[:, 1].mean():.0f}"]
    columns = ["mean log-likelihood a row, jaxem less scikit-learn", "fits where jaxem is higher / level / lower"]
    columns += ["jaxem's steps, mean, max", "scikit-learn's iterations, mean", "jaxem's statuses"]
    report.table("What these fits reached", columns, [[*quality, *steps, statuses(last.status)]])


def many_restarts(report: common.Report, restarts: int, n: int, repeats: int) -> None:
    model, rounds = common.gaussian_mixture(K), iter(range(repeats + 1))
    data = common.problem(n, 2, K, seed=7, spread=1.0).y
    reached: dict[str, Any] = {}

    def ours() -> Any:
        fit = jaxem.fit(model, data, key=next(rounds), restarts=restarts, stop=stop_for(n))
        reached["jaxem"], reached["all"] = float(fit.log_likelihood), np.asarray(fit.restart_log_likelihoods)
        reached["statuses"] = statuses(fit.restart_statuses)
        return fit.log_likelihood

    def theirs() -> None:
        reached["peer"] = peer_fit(data, 0, restarts)[0]

    timed = common.interleave({"jaxem": ours, "peer": theirs}, repeats, budget=600, warm=False)
    names = {"jaxem": f"jaxem.fit(restarts={restarts})", "peer": f"scikit-learn, n_init={restarts}"}
    lines = []
    for name, timing in timed.items():
        lines.append([names[name], common.significant(timing.first), common.span(timing.rounds)])
        lines[-1] += [common.ratio(timing, timed["jaxem"]), f"{reached[name]:.4f}"]
    columns = ["run", "first time (with compilation), s", "again, other key, s", "times jaxem's", "best log-likelihood"]
    report.table(f"{restarts} restarts of one data set, n={n}, d=2, K={K}, float64", columns, lines)
    near = (reached["all"] > reached["jaxem"] - 1e-3 * n).mean()
    print(f"\n{near:.0%} of jaxem's restarts end within 1e-3 a row of its best; statuses: {reached['statuses']}")


def statuses(codes: Any) -> str:
    found, counts = np.unique(np.asarray(codes), return_counts=True)
    return ", ".join(f"{count} {jaxem.Status(int(code)).name}" for code, count in zip(found, counts, strict=True))


def main() -> None:
    args = common.arguments(__doc__, repeats={"type": int, "default": 3, "help": "rounds after the first"})
    common.configure()
    report = common.Report(args)
    many_datasets(report, 20 if args.small else 1000, 200 if args.small else 500, args.repeats)
    many_restarts(report, 20 if args.small else 500, 200 if args.small else 500, args.repeats)
    report.finish()


if __name__ == "__main__":
    main()
