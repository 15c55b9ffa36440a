"""Tests of restrictions: Wald's, the likelihood ratio, and the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxem import information
from jaxem.data import prepare
from jaxem.inference.chi_square import chi_square_tail
from jaxem.inference.inference import Inference
from jaxem.inference.point import STILL, Point, look_at
from jaxem.inference.polish import check_fit
from jaxem.inference.profile import find_cell
from jaxem.result import Fit
from jaxem.rows import Rows

NOT_REGULAR = (
    "the models have different numbers of states or components: under the null the larger one has states that nothing "
    "determines or probabilities on the edge, and the statistic has no chi-square distribution. Take the bootstrap: fit both to "
    "data drawn from the null by model.sample, many times, and compare (McLachlan 1987)."
)
INDEPENDENT = 1e-10  # eigenvalue of the restrictions' scaled covariance up to which they repeat each other


@dataclasses.dataclass(frozen=True)
class HypothesisTest:
    """A test of restrictions against the chi-square distribution."""

    name: str
    statistic: float
    df: int
    p_value: float | None  # None where the statistic has no chi-square distribution; NaN where it could not be computed
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON: None in place of what is not known."""
        out = dataclasses.asdict(self) | {"remarks": list(self.remarks)}
        return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in out.items()}

    def __str__(self) -> str:
        p = "no p-value" if self.p_value is None else f"p = {self.p_value:.4g}"
        first = f"{self.name}: chi-square {self.statistic:.4f} with {self.df} degree{'s' * (self.df != 1)} of freedom, {p}"
        return "\n".join([first, *(f"Note: {remark}" for remark in self.remarks)])


def wald_test(inference: Inference, restrictions: Any, values: Any = 0.0) -> HypothesisTest:
    """Wald's test of linear restrictions R x = r on the cells x of params: (Rx - r)' (R V R')^-1 (Rx - r), chi-square under them.

    It measures the distance in the params as they are; unlike the likelihood ratio it changes when they are transformed, and
    is poor for params near the edge of their domain.

    Args:
        inference: from `jaxem.standard_errors`, by any method.
        restrictions: a mapping from names of cells to the values that they have under the null, {"mean[0, x]": 0.0}; or a
            matrix R (m, N) whose columns go with `inference.names`.
        values: r, a number or (m,), where a matrix is given.

    Raises:
        TypeError: no Inference. ValueError: unknown names, a wrong shape, values that are not finite, params without a standard
            error (on the edge, or held), restrictions that repeat each other.
    """
    if not isinstance(inference, Inference):
        raise TypeError(f"inference: found {type(inference).__name__}; give what jaxem.standard_errors returned.")
    matrix, wanted = _restrictions(inference, restrictions, values)
    used = (matrix != 0).any(axis=0)
    unknown = [inference.names[i] for i in np.flatnonzero(used & ~np.isfinite(inference.errors))]
    if unknown:
        raise ValueError(
            f"restrictions: {', '.join(unknown)} has no standard error, being on the edge of its domain, held, or at no maximum."
        )
    covariance = matrix @ np.where(used[:, None] & used, inference.covariance, 0) @ matrix.T
    size = np.sqrt(np.diag(covariance))
    if not (size > 0).all():
        raise ValueError("restrictions: one is on what does not vary; drop it.")
    scaled = covariance / (size[:, None] * size)
    if np.linalg.eigvalsh(scaled)[0] <= INDEPENDENT:
        raise ValueError("restrictions: some follow from others (as of probabilities that sum to 1); drop those.")
    gap = (matrix @ np.where(used, inference.cells.values, 0) - wanted) / size
    statistic = float(gap @ np.linalg.solve(scaled, gap))
    return HypothesisTest("Wald test", statistic, len(matrix), chi_square_tail(statistic, len(matrix)), inference.remarks)


def _restrictions(inference: Inference, restrictions: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """R (m, N) and r (m,)."""
    size = len(inference.names)
    if isinstance(restrictions, Mapping):
        matrix = np.zeros((len(restrictions), size))
        for row, name in enumerate(restrictions):
            matrix[row, find_cell(inference.cells, name)] = 1
        wanted = np.array(list(restrictions.values()), np.float64)
    else:
        matrix = np.atleast_2d(np.asarray(restrictions, np.float64))
        wanted = np.asarray(values, np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != size:
            raise ValueError(f"restrictions: found shape {np.shape(restrictions)}; give (m, {size}), a column for each param.")
        if wanted.shape not in ((), (len(matrix),)):
            raise ValueError(f"values: found shape {wanted.shape}; give a number, or {len(matrix)} of them.")
    if not len(matrix):
        raise ValueError("restrictions: none are given; name a param and its value under the null.")
    if wanted.ndim > 1 or not (np.isfinite(matrix).all() and np.isfinite(wanted).all()):
        raise ValueError("restrictions: found values that are not finite numbers; give one number for each.")
    return matrix, np.broadcast_to(wanted, len(matrix))


def likelihood_ratio_test(
    null_fit: Fit, fit: Fit, *, null_model: Any, model: Any, data: Any, weights: Any = None
) -> HypothesisTest:
    """The likelihood-ratio test of a null model inside a larger one: 2 (l - l_null), chi-square under the null (Wilks 1938).

    Degrees of freedom are the difference in free parameters. Where the numbers of states differ there is no chi-square
    distribution: then no p-value is told, and the remark names the bootstrap.

    Args:
        null_fit: the fit of the null.
        fit: the fit of the larger model, of which the null is a restriction.
        null_model: the model of `null_fit`.
        model: the model of `fit`.
        data: the data of both fits: raw or prepared.
        weights: (n,) weights of both fits: repetitions of rows.

    Raises:
        TypeError: no single, concrete fits. ValueError: a null with as many free parameters as the model or more.
    """
    check_fit(null_fit, "null_fit")
    check_fit(fit)
    size = _size(model, data, weights)
    df = int(model.n_parameters(size)) - int(null_model.n_parameters(_size(null_model, data, weights)))
    if df <= 0:
        raise ValueError(
            f"null_model: has {-df} more free parameters than model; the null is the smaller model, a restriction of the other."
            if df < 0
            else "null_model: has as many free parameters as model; the null is a restriction of the other."
        )
    statistic = 2 * (float(fit.log_likelihood) - float(null_fit.log_likelihood))
    remarks = []
    p_value: float | None = chi_square_tail(statistic, df)
    if model.n_states != null_model.n_states:
        p_value = None
        remarks.append(NOT_REGULAR)
    if statistic < 0:
        remarks.append("the larger model has the lower log-likelihood: its fit is not the highest maximum. Fit with more restarts.")
    for name, each in (("null_fit", null_fit), ("fit", fit)):
        if not bool(each.converged):
            remarks.append(f"{name} has not converged, so that the statistic may be off: {each.explain()}")
    if any(_prior(each, end) for each, end in ((null_model, null_fit), (model, fit))):
        remarks.append("a model has a prior: fits maximise the posterior density, and the chi-square holds for large data only.")
    if p_value is not None:
        edge = look_at(model, fit.params, data, weights).boundary
        if edge:
            wrong = "is too large" if df == 1 else "may be wrong"
            remarks.append(
                f"params of the larger fit lie on the edge of their domain ({', '.join(edge[:4])}): if the null puts them there, "
                f"the p-value {wrong} (Self and Liang 1987), and the bootstrap is right."
            )
    return HypothesisTest("Likelihood-ratio test", statistic, df, p_value, tuple(remarks))


def _size(model: Any, data: Any, weights: Any) -> Any:
    return data if isinstance(data, Rows) else prepare(model, data, weights)


def _prior(model: Any, fit: Fit) -> bool:
    return float(fit.objective) != float(fit.log_likelihood)


def score_test(
    model: Any, null_params: Any, data: Any, *, restricted: Any = None, null_model: Any = None, weights: Any = None
) -> HypothesisTest:
    """Rao's score test of a null inside `model`, from a fit of the null alone: S' I^-1 S, chi-square under the null (Rao 1948).

    S is the score of the larger model at the null's maximum and I its observed information there (plus those of the prior, where
    there is one). What the null restricts is said by names or by a model.

    Args:
        model: the larger model.
        null_params: params of the larger model at the null's maximum, with the restrictions in force.
        data: raw or prepared.
        restricted: names of the cells that the null holds, such as ("mean[0, x]",).
        null_model: the null as a model with params of the same structure, such as one with `fixed=` or `tied=`.
        weights: (n,) weights: repetitions of rows.

    Raises:
        TypeError: neither or both of `restricted` and `null_model`, or a null model of another structure. ValueError: unknown
            names; params on the edge of their domain, where a score says nothing; a null that restricts nothing.
    """
    if (restricted is None) == (null_model is None):
        raise TypeError("restricted: give the names of the params that the null holds, or the null as null_model=, one of the two.")
    point = look_at(model, null_params, data, weights)
    if point.edge.any():
        raise ValueError(
            f"null_params: {', '.join(point.boundary) or 'some'} on the edge of the domain, where scores have no normal "
            "distribution. Take the bootstrap: fit both models to data drawn from the null by model.sample, many times."
        )
    if null_model is not None:
        df, tangent = _of_model(point, null_model)
    else:
        df, tangent = _of_names(point, restricted)
    if df <= 0:
        raise ValueError("null_model: restricts nothing that model leaves free; give a null with fewer free parameters.")
    covariance, remarks = point.covariance(), []
    inner = tangent.T @ point.information @ tangent
    left = tangent.T @ point.gradient
    away = float(np.sqrt(max(left @ np.linalg.lstsq(inner, left, rcond=None)[0], 0.0))) if left.size else 0.0
    if away > STILL:
        remarks.append(
            f"null_params are not the null's maximum, which lies about {away:.2g} standard errors away along the params that it "
            "leaves free. Fit the null with a smaller tolerance, or polish it."
        )
    if not np.isfinite(covariance).all():
        values, directions = point.spectrum()
        where = f" along {point.told(directions[:, 0])}" if np.isfinite(values).all() else ""
        remarks.append(f"the information at the null is not positive definite{where}. Take the likelihood-ratio test.")
        return HypothesisTest("Score test", float("nan"), df, float("nan"), tuple(remarks))
    statistic = float(point.gradient @ covariance @ point.gradient)
    return HypothesisTest("Score test", statistic, df, chi_square_tail(statistic, df), tuple(remarks))


def _of_names(point: Point, restricted: Any) -> tuple[int, np.ndarray]:
    """How many restrictions the names are, and a basis (P, P - df) of the directions that they leave free."""
    names = (restricted,) if isinstance(restricted, str) else restricted
    if not isinstance(names, Sequence) or not len(names):
        raise TypeError(f"restricted: found {restricted!r}; give names of params, such as ({point.cells.names[0]!r},).")
    slopes = point.natural[[find_cell(point.cells, name) for name in names]]
    _, values, vectors = np.linalg.svd(slopes * point.scale)
    df = int((values > INDEPENDENT * max(values.max(initial=0), 1e-300)).sum())
    return df, vectors[df:].T * point.scale[:, None]


def _of_model(point: Point, null_model: Any) -> tuple[int, np.ndarray]:
    """The same from a model whose params have the same structure: its coordinates are the directions that it leaves free."""
    wanted: Any = jax.tree.structure(point.model.domains)
    if jax.tree.structure(null_model.domains) != wanted:
        raise TypeError("null_model: its params have another structure than model's; give the same model with fixed= or tied=.")
    u = null_model.to_unconstrained(point.params)
    slopes = np.asarray(information.natural(null_model, u, point.params), np.float64)  # (N, P0)
    tangent = np.linalg.lstsq(point.natural, slopes, rcond=None)[0]
    return len(point.u) - slopes.shape[1], tangent
