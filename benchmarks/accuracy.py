r"""Rounding errors of a float32 E-step and M-step, by kernel, condition number and distance of the means from the centre.

Four components, two about +offset u and two about -offset u, so that centring the data brings no mean near the origin.
Covariances have eigenvalues from 1 to 1 / condition in random directions; offset is in units of the largest of these standard
deviations. The reference is plain NumPy in float64 on the same rows and params, rounded to float32 beforehand.
"""

from __future__ import annotations

from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem import GaussianParams, MixtureParams

D, K = 16, 4
KERNELS = ("quadratic", "whitened", "auto")


class Case(NamedTuple):
    """Rows and params that float32 holds exactly."""

    y: np.ndarray
    params: MixtureParams
    distance: float  # largest |L_k^-1 (mu_k - centre)|


class Reference(NamedTuple):
    """In float64."""

    log_density: np.ndarray  # (n,)
    covariance: np.ndarray  # (K, d, d) after one step


def make(n: int, condition: float, offset: float, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=D)
    direction /= np.linalg.norm(direction)
    scales = np.geomspace(1, 1 / condition, D) ** 0.5
    turns = np.linalg.qr(rng.normal(size=(K, D, D)))[0]
    roots = turns * scales
    sides = np.array([1, 1, -1, -1])[:, None]
    mean = sides * offset * direction + np.einsum("kij,kj->ki", roots, rng.normal(size=(K, D)) / 2)
    states = rng.integers(K, size=n)
    y = mean[states] + np.einsum("nij,nj->ni", roots[states], rng.normal(size=(n, D)))
    covariance = np.einsum("kij,klj->kil", roots, roots)
    y, mean, covariance = (leaf.astype(np.float32) for leaf in (y, mean, covariance))
    shift = mean.astype(np.float64) - y.mean(axis=0, dtype=np.float64)
    whitened = np.linalg.solve(np.linalg.cholesky(covariance.astype(np.float64)), shift[..., None])[..., 0]
    params = MixtureParams(jnp.full(K, 1 / K, jnp.float32), GaussianParams(jnp.asarray(mean), jnp.asarray(covariance)))
    return Case(y, params, float(np.linalg.norm(whitened, axis=-1).max()))


def reference(case: Case) -> Reference:
    y, mean, covariance = (np.asarray(leaf, np.float64) for leaf in (case.y, *case.params.components))
    roots = np.linalg.cholesky(covariance)
    deviation = y[None] - mean[:, None]  # (K, n, d)
    z = np.linalg.solve(roots, deviation.transpose(0, 2, 1))  # (K, d, n)
    log_determinant = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(-1)[:, None]
    joint = np.log(1 / K) - log_determinant - D / 2 * np.log(2 * np.pi) - 0.5 * (z * z).sum(axis=1)
    top = joint.max(axis=0)
    log_density = top + np.log(np.exp(joint - top).sum(axis=0))
    r = np.exp(joint - log_density)
    moved = np.einsum("kn,knd->kd", r, deviation) / r.sum(axis=1)[:, None]
    deviation = deviation - moved[:, None]
    return Reference(log_density, np.einsum("kn,kni,knj->kij", r, deviation, deviation) / r.sum(axis=1)[:, None, None])


def density_error(case: Case, exact: Reference, kernel: str) -> tuple[float, str]:
    """Largest absolute error of a row's log-density, and the kernel that was taken."""
    model = common.gaussian_mixture(K, kernel)
    rows = jaxem.prepare(model, case.y)
    settled = model.settle(case.params, rows)
    found = np.asarray(settled.log_likelihood(case.params, rows, per_row=True), np.float64)
    return float(np.abs(found - exact.log_density).max()), settled.family.kernel


def step_error(case: Case, exact: Reference, kernel: str) -> float:
    model = common.gaussian_mixture(K, kernel)
    rows = jaxem.prepare(model, case.y)
    moved, _ = jax.block_until_ready(common.step(model.settle(case.params, rows), case.params, rows))
    return whitened_error(np.asarray(moved.components.covariance, np.float64), exact.covariance)


def whitened_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest distance from 1 of the eigenvalues of L^-1 S L^-T, with L L' the exact covariance."""
    if not np.isfinite(found).all():
        return float("nan")
    inverse = np.linalg.inv(np.linalg.cholesky(exact))
    return float(np.abs(np.linalg.eigvalsh(inverse @ found @ inverse.transpose(0, 2, 1)) - 1).max())


def tables(report: common.Report, n: int, conditions: list[float], offsets: list[float]) -> None:
    densities, covariances = [], []
    for condition in conditions:
        for offset in offsets:
            case = make(n, condition, offset)
            exact = reference(case)
            errors = {kernel: density_error(case, exact, kernel) for kernel in KERNELS}
            steps = {kernel: step_error(case, exact, kernel) for kernel in KERNELS}
            floor = whitened_error(exact.covariance.astype(np.float32).astype(np.float64), exact.covariance)
            label = [f"{condition:.0e}", f"{offset:g}", f"{case.distance:.1e}", errors["auto"][1]]
            densities.append(label + [f"{errors[kernel][0]:.0e}" for kernel in KERNELS])
            covariances.append(label + [f"{steps[kernel]:.0e}" for kernel in KERNELS] + [f"{floor:.0e}"])
    columns = ["condition", "offset, sd", "largest Mahalanobis distance of a mean from the centre", "auto takes", *KERNELS]
    report.table(f"Largest absolute error of a log-density, float32, n={n}, d={D}, K={K}", columns, densities)
    columns = [*columns, "storing the exact result in float32"]
    report.table("Largest relative error of an eigenvalue of the covariance after one step", columns, covariances)


def main() -> None:
    args = common.arguments("Rounding errors of float32, by kernel, condition number and distance of the means.")
    common.configure()
    report = common.Report(args)
    if args.small:
        tables(report, 512, [1, 1e4], [1, 100])
    else:
        tables(report, 4096, [1, 1e2, 1e4, 1e6], [1, 10, 100, 1000])
    report.finish()


if __name__ == "__main__":
    main()
