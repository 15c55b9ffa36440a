"""Standard errors of a fit by any of nine methods, one mechanism for every model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem import information
from jaxem.checks import check_count
from jaxem.inference.inference import Inference, check_level
from jaxem.inference.point import Point, look_at
from jaxem.lanes import Progress

METHODS = (
    "oakes", "observed", "louis", "supplemented", "empirical", "sandwich", "bootstrap", "parametric_bootstrap", "jackknife",
)  # fmt: skip
REFITS = ("bootstrap", "parametric_bootstrap")
BY_SCORES = ("empirical", "sandwich", "jackknife")


def standard_errors(
    model: Any,
    params: Any,
    data: Any,
    method: str = "oakes",
    *,
    weights: Any = None,
    level: float = 0.95,
    groups: Any = None,
    key: Any = None,
    draws: int = 200,
    progress: Callable[[Progress], None] | None = None,
) -> Inference:
    """Standard errors, covariances and intervals of params that maximise the likelihood (plus log prior).

    With I the observed information in unconstrained coordinates u, I_c that of the complete data and s_i the score of row
    (or sequence) i, the covariance of u is

    - ``"oakes"``: I^-1, I = -d11 Q - d12 Q by forward mode through the statistics (Oakes 1999): exact, streams over blocks;
    - ``"observed"``: I^-1, I = -d2 l by reverse and forward mode: exact;
    - ``"louis"``: I^-1, I = E[B] - E[S S'] + E[S] E[S]' by second moments of the complete-data score (Louis 1982): exact, for
      models with discrete latent states;
    - ``"supplemented"``: I_c^-1 + I_c^-1 DM (I - DM)^-1, DM the derivative of the EM map (Meng and Rubin 1991), forward through
      the E-step: exact. `jaxem.supplemented_by_steps` has the classic iterative DM;
    - ``"empirical"``: (sum w_i s_i s_i')^-1 (Meilijson 1989): right if the model is;
    - ``"sandwich"``: I^-1 (sum w_i s_i s_i') I^-1 (Huber 1967; White 1982): right where the model is not; with `groups`, of
      sums of scores over groups of rows that depend on each other;
    - ``"jackknife"``: infinitesimal, sum_i w_i d_i d_i' over the influences d_i = I^-1 s_i of the rows less their mean, times
      n / (n - 1) (Jaeckel 1972), or of the groups;
    - ``"bootstrap"``: refits from `params` to `draws` samples of the rows (or `groups`) with replacement, aligned to `params`;
    - ``"parametric_bootstrap"``: the same to data drawn from the model with the same covariates, holes and censoring.

    They come back to the params by the delta method. Params on the edge of their domain are left out and named.

    Args:
        model: the model.
        params: a maximum, `fit.params`.
        data: the data of the fit: raw or prepared. Raw data give their names to the summary.
        method: see above.
        weights: (n,) weights of the fit: repetitions of rows (or of sequences).
        level: of intervals.
        groups: (n,) labels of rows (or sequences) that belong together, for sandwich, jackknife and bootstrap.
        key: an int seed or a JAX key, for the bootstraps.
        draws: refits of a bootstrap.
        progress: called between steps of a bootstrap with a `Progress` whose lanes are refits.

    Returns:
        Inference, with NaN where nothing can be said.

    Warns:
        UserWarning: params that are no stationary point; information that is not positive definite, with the direction named.

    Raises:
        TypeError: a method that the model does not allow, with what does. ValueError: unknown method, bad level, groups or key.
    """
    check_method(method)
    check_level(level)
    if groups is not None and method not in ("sandwich", "jackknife", "bootstrap"):
        raise ValueError(f"groups: {method} does not take them; sandwich, jackknife and bootstrap do.")
    point = look_at(model, params, data, weights)
    units = np.asarray(information.unit_weights(point.rows), np.float64)
    labels = None if groups is None else check_groups(groups, len(units))
    if method in REFITS:
        from jaxem.inference.bootstrap import refit  # refits need `fit_batch`, which the rest does not

        if key is None:
            raise ValueError("key: samples are drawn at random; give an int seed or a JAX key.")
        found = refit(point, data, method, key, check_count(draws, "draws"), labels, progress)
        return _conclude(point, method, level, refits=found)
    return _conclude(point, method, level, covariance=_covariance(point, method, units, labels))


def _covariance(point: Point, method: str, units: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """(P, P) covariance of the unconstrained coordinates, zeros on the edge."""
    model, rows, params, u = point.model, point.rows, point.params, jnp.asarray(point.u, point.rows.dtype)
    if method == "oakes":
        return point.covariance()
    if method in ("observed", "louis"):
        return point.covariance(np.asarray(getattr(information, method)(model, u, params, rows), np.float64))
    if method == "supplemented":
        return supplement(point)
    scores = np.asarray(information.scores(model, u, params, rows), np.float64)
    scores = np.where(point.edge | (units == 0)[:, None], 0, scores)
    if method == "empirical":
        return point.covariance(scores.T @ (units[:, None] * scores))
    inverse = point.covariance()
    summed = scores * units[:, None] if groups is None else grouped(scores * units[:, None], groups)
    if method == "sandwich":
        middle = summed.T @ scores if groups is None else summed.T @ summed
        return inverse @ middle @ inverse
    if groups is None:
        total = units.sum()
        moved = scores @ inverse
        centred = moved - units @ moved / total
        return total / (total - 1) * centred.T @ (units[:, None] * centred)
    moved = summed @ inverse
    centred = moved - moved.mean(axis=0)
    return len(moved) / (len(moved) - 1) * centred.T @ centred


def supplement(point: Point) -> np.ndarray:
    """(P, P) I_c^-1 + I_c^-1 DM (I - DM)^-1, DM[i, j] = dM_j / du_i being the transpose of the EM map's Jacobian."""
    u = jnp.asarray(point.u, point.rows.dtype)
    kept, out = ~point.edge, np.zeros_like(point.information)
    found = (getattr(information, name)(point.model, u, point.params, point.rows) for name in ("complete", "crossed"))
    complete, crossed = (np.asarray(each, np.float64)[np.ix_(kept, kept)] for each in found)
    try:
        first = np.linalg.inv(complete)
        dm = (first @ crossed).T
        whole = first + first @ dm @ np.linalg.inv(np.eye(len(dm)) - dm)
        np.linalg.cholesky(whole + whole.T)
    except np.linalg.LinAlgError:
        whole = np.full_like(complete, np.nan)
    out[np.ix_(kept, kept)] = 0.5 * (whole + whole.T)
    return out


def missing_information(point: Point) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of I_c^-1 (I_c - I), and its direction (P,) in unconstrained coordinates."""
    kept = ~point.edge
    u = jnp.asarray(point.u, point.rows.dtype)
    complete = np.asarray(information.complete(point.model, u, point.params, point.rows), np.float64)[np.ix_(kept, kept)]
    direction = np.zeros(len(point.u))
    try:
        half = np.linalg.inv(np.linalg.cholesky(complete))
    except np.linalg.LinAlgError:
        return float("nan"), direction
    share = np.eye(len(complete)) - half @ point.information[np.ix_(kept, kept)] @ half.T
    if not len(share) or not np.isfinite(share).all():
        return float("nan"), direction
    values, vectors = np.linalg.eigh(share)
    direction[kept] = half.T @ vectors[:, -1]
    return float(values[-1]), direction


def grouped(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(G, P) sums of (n, P) over groups 0..G-1."""
    out = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(out, groups, values)
    return out


def _conclude(point: Point, method: str, level: float, covariance: Any = None, refits: Any = None) -> Inference:
    """The result, with its remarks and warnings."""
    eigenvalues, directions = point.spectrum()
    remarks = list(refits.remarks) if refits is not None else []
    norm = float(np.linalg.norm(point.gradient[~point.edge]))
    own = point.covariance()
    away = point.distance(own) if np.isfinite(own).all() else float("nan")
    remarks += point.moves(own)
    if len(eigenvalues) and not eigenvalues[0] > point.flat(eigenvalues):
        what = "is not finite" if np.isnan(eigenvalues[0]) else "is not positive definite"
        where = "" if np.isnan(eigenvalues[0]) else f": eigenvalue {eigenvalues[0]:.2g} along {point.told(directions[:, 0])}"
        remarks.append(
            f"the information {what}{where}. The likelihood has no maximum there, or a flat one: no standard errors follow from it."
        )
    rate, slowest = missing_information(point)
    named = "" if not np.isfinite(rate) else point.told(slowest[~point.edge] / point.scale)
    if refits is not None:
        draws = refits.cells
        sound = draws[np.isfinite(draws).all(axis=1)]
        errors = np.std(sound, axis=0, ddof=1) if len(sound) > 1 else np.full(draws.shape[1], np.nan)
        free = np.where(np.isfinite(refits.free), refits.free, np.nan)[np.isfinite(draws).all(axis=1)]
        covariance = np.nan_to_num(np.cov(free.T).reshape(len(point.u), -1)) if len(sound) > 1 else np.full_like(own, np.nan)
    else:
        draws = None
        errors = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", point.natural, covariance, point.natural), 0))
    boundary = point.boundary
    held = (np.abs(point.natural) == 0).all(axis=1) | np.isin(point.cells.names, boundary)  # fixed, or on the edge
    out = Inference(
        params=point.params,
        method=method,
        level=level,
        cells=point.cells,
        errors=np.where(held, np.nan, errors),
        unconstrained_covariance=covariance,
        natural=np.where(point.edge, 0, point.natural),
        boundary=boundary,
        eigenvalues=eigenvalues,
        rate=rate,
        slowest=named,
        gradient_norm=norm,
        distance=away,
        remarks=tuple(remarks),
        draws=draws,
    )
    for remark in remarks:
        warnings.warn(f"standard_errors: {remark}", stacklevel=3)
    return out


def check_method(method: Any) -> None:
    """Raises ValueError for a method that there is not, with those that there are."""
    if method not in METHODS:
        raise ValueError(f"method: found {method!r}; use one of {', '.join(METHODS)}.")


def check_groups(groups: Any, count: int) -> np.ndarray:
    """(units,) group numbers 0..G-1 from labels of any kind.

    Raises:
        ValueError: another number of labels than units, or fewer than two groups.
    """
    labels = np.asarray(groups)
    if labels.shape != (count,):
        raise ValueError(f"groups: found shape {labels.shape} for {count} rows (or sequences); give one label for each.")
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError("groups: all rows are in one group, so that nothing can be said of how groups vary; give two or more.")
    return numbers.reshape(-1)
