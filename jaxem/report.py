"""What a fit says, as text for a person and as JSON for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from jaxem.checks import check_matrix
from jaxem.families import Gaussian
from jaxem.result import Fit, Status

FORMAT_VERSION = 1
SAME = 1e-3  # log-likelihoods that differ by less stand for the same maximum
ABREAST = 8  # components side by side in a table
CORRELATED = 6  # columns up to which correlations are listed


class Components(NamedTuple):
    """Gaussian components in one form, whatever the covariance kind; a single Gaussian has K = 1."""

    weights: np.ndarray  # (K,)
    mean: np.ndarray  # (K, d)
    covariance: np.ndarray  # (K, d, d)


class Criteria(NamedTuple):
    """AIC = -2 l + 2 p and BIC = -2 l + p log n; lower is better."""

    n_rows: int  # rows with an observed cell and a weight above 0
    n: float  # sum of the weights of all rows
    n_parameters: int  # p, free parameters
    aic: float
    bic: float


def components_of(model: Any, params: Any) -> Components:
    """Weights (K,), means (K, d) and dense covariances (K, d, d) of a Gaussian model.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    if not isinstance(model.family, Gaussian):
        raise TypeError(f"model: found family {type(model.family).__name__}; only Gaussian components have these moments.")
    single = not hasattr(params, "weights")
    inner = params if single else params.components
    mean, covariance = (np.asarray(leaf, np.float64) for leaf in inner)
    kind = model.family.covariance
    if single:
        mean = mean[None]
        covariance = covariance if kind == "tied" else covariance[None]
    n_components, d = mean.shape
    if kind == "diagonal":
        covariance = covariance[:, :, None] * np.eye(d)
    elif kind == "spherical":
        covariance = covariance[:, None, None] * np.eye(d)
    weights = np.ones(1) if single else np.asarray(params.weights, np.float64)
    return Components(weights, mean, np.broadcast_to(covariance, (n_components, d, d)))


def criteria(model: Any, fit: Fit, y: Any, weights: Any = None) -> Criteria:
    """Information criteria of a fit to y (n, d) under row weights (n,); n counts rows, whatever is missing in them."""
    array, _ = check_matrix(y)
    informative = ~np.isnan(array).all(axis=1)
    counted = np.ones(len(array)) if weights is None else np.asarray(weights, np.float64)
    p, deviance = model.n_parameters(array.shape[1]), -2 * float(fit.log_likelihood)
    n = float(counted.sum())
    return Criteria(int((informative & (counted > 0)).sum()), n, p, deviance + 2 * p, deviance + p * math.log(n))


def summarize(model: Any, fit: Fit, y: Any, *, weights: Any = None, names: Sequence[str] | None = None) -> str:
    """An account of a Gaussian fit in plain text: data, holes, restarts, status, criteria, a table of parameters.

    Args:
        model: the `Mixture` or `Single` that was fitted.
        fit: its fit.
        y: (n, d) data or a data frame, NaN where missing.
        weights: (n,) row weights of the fit.
        names: d column names; default those of the data frame, or x0, x1, ...

    Raises:
        TypeError, ValueError: as `components_of` and `jaxem.checks.check_matrix`.
    """
    array, columns = check_matrix(y)
    names = column_names(array, columns, names)
    measured = criteria(model, fit, array, weights)
    lines = [
        ("Model", describe(model)),
        ("Data", _describe_data(array, names)),
        ("Missing", describe_missing(array)),
        ("Restarts", describe_restarts(fit)),
        ("Status", fit.explain()),
        ("Steps", f"{int(fit.steps)} in the restart returned; {int(fit.passes)} passes over the data in all"),
        ("Log-likelihood", f"{float(fit.log_likelihood):.4f} with {measured.n_parameters} free parameters"),
        ("AIC, BIC", f"{measured.aic:.4f}, {measured.bic:.4f} (lower is better; n = {measured.n:g})"),
    ]
    head = "\n".join(f"{label:<15} {text}" for label, text in lines)
    return f"{head}\n\n{parameter_table(components_of(model, fit.params), names, _correlated(model))}"


def describe(model: Any) -> str:
    """A Gaussian model in a few words."""
    kind, prior = model.family.covariance, "" if model.prior is None else ", with a prior"
    if not hasattr(model, "n_components"):
        return f"Gaussian, {kind} covariance{prior}"
    count = model.n_components
    return f"Gaussian mixture, {count} component{'s' * (count > 1)}, {kind} covariance{prior}"


def describe_missing(y: np.ndarray) -> str:
    """How many cells and rows of (n, d) are missing."""
    missing = np.isnan(y)
    if not missing.any():
        return "nothing"
    text = f"{missing.sum()} of {y.size} cells ({100 * missing.mean():.1f} %), in {missing.any(axis=1).sum()} rows"
    return f"{text}; {missing.all(axis=1).sum()} rows have nothing observed"


def describe_restarts(fit: Fit) -> str:
    """How many restarts ended at the value of the one that was returned, and what became of those that failed."""
    statuses = [Status(int(status)) for status in fit.restart_statuses]
    failed = [status for status in statuses if status not in (Status.CONVERGED, Status.MAX_STEPS)]
    text = f"{int(reached_best(fit).sum())} of {len(statuses)} reached the best value"
    for status in sorted(set(failed)):
        text += f"; {failed.count(status)} ended {status.name}"
    return text


def reached_best(fit: Fit) -> np.ndarray:
    """(R,) bool: restarts whose status and log-likelihood (within 0.001 or rounding) are those of the one returned."""
    values, best = np.asarray(fit.restart_log_likelihoods), float(fit.log_likelihood)
    close = np.abs(values - best) <= max(SAME, 32 * float(np.finfo(values.dtype).eps) * abs(best))
    ended_well = np.isin(np.asarray(fit.restart_statuses), (Status.CONVERGED, Status.MAX_STEPS))
    return close & (ended_well | (np.asarray(fit.restart_statuses) == int(fit.status)))


def returned_restart(fit: Fit) -> int:
    """Which restart was returned: the first of exactly its status and log-likelihood, or -1 where that was improved upon."""
    same = np.asarray(fit.restart_log_likelihoods) == np.asarray(fit.log_likelihood)
    same &= np.asarray(fit.restart_statuses) == int(fit.status)
    return int(np.argmax(same)) if same.any() else -1


def parameter_table(components: Components, names: Sequence[str], correlations: bool = True) -> str:
    """Weights, means, standard deviations and (up to six columns) correlations, one text column for each component."""
    deviations = np.sqrt(np.diagonal(components.covariance, axis1=1, axis2=2))
    rows = [["weight", *map(number, components.weights)]]
    rows += [[f"mean {name}", *map(number, components.mean[:, j])] for j, name in enumerate(names)]
    rows += [[f"sd {name}", *map(number, deviations[:, j])] for j, name in enumerate(names)]
    if correlations and len(names) <= CORRELATED:
        for i, j in combinations(range(len(names)), 2):
            values = components.covariance[:, i, j] / (deviations[:, i] * deviations[:, j])
            rows.append([f"corr {names[i]}, {names[j]}", *map(number, values)])
    tables = []
    for first in range(0, len(components.weights), ABREAST):
        shown = range(first, min(first + ABREAST, len(components.weights)))
        part = [[row[0], *(row[1 + k] for k in shown)] for row in rows]
        tables.append(text_table(["component", *map(str, shown)], part))
    return "\n\n".join(tables)


def comparison_table(truth: Components, estimate: Components, names: Sequence[str], label: str = "generating") -> str:
    """Two sets of aligned components side by side: weights, means, and the lower triangles of the covariances."""

    def flat(components: Components) -> list[np.ndarray]:
        lower = zip(*np.tril_indices(len(names)), strict=True)
        return [components.weights, *components.mean.T, *(components.covariance[:, i, j] for i, j in lower)]

    titles = ["weight", *(f"mean {name}" for name in names)]
    titles += [f"cov {first}, {second}" for i, second in enumerate(names) for first in names[: i + 1]]
    rows = []
    for title, ours, theirs in zip(titles, flat(estimate), flat(truth), strict=True):
        rows.append([title, *(number(value) for pair in zip(theirs, ours, strict=True) for value in pair)])
    count = len(truth.weights)
    header = ["component", *(text for k in range(count) for text in (str(k), ""))]
    return text_table(header, [["", *[label, "estimated"] * count], *rows])


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right, with a rule under the header."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def number(value: float) -> str:
    """Four decimals, or scientific notation where these would hide the value."""
    size = abs(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= size < 1e5 or not np.isfinite(size) else f"{value:.3e}"


def column_names(y: np.ndarray, columns: Sequence[str] | None, names: Sequence[str] | None) -> list[str]:
    """`names` if given, else the data's own, else x0, x1, ...

    Raises:
        ValueError: another number of names than columns.
    """
    found = names if names is not None else columns
    if found is None:
        return [f"x{j}" for j in range(y.shape[1])]
    if len(found) != y.shape[1]:
        raise ValueError(f"names: found {len(found)} for {y.shape[1]} columns; give one for each.")
    return [str(name) for name in found]


def document(model: Any, fit: Fit, y: Any, *, weights: Any = None, names: Sequence[str] | None = None) -> dict[str, Any]:
    """A Gaussian fit as a tree of JSON values, with all that is needed to use the model again.

    Fields (K components, d columns; numbers that are infinite or NaN are null):

    - format ("jaxem-fit"), format_version (1);
    - model ("gaussian-mixture" or "gaussian"), family ("gaussian"), covariance ("full", "tied", "diagonal", "spherical"),
      components (K), columns (d names), has_prior;
    - params: weights (K; mixtures only), mean (K x d, or d), covariance (as in `GaussianParams`: full K x d x d, tied d x d,
      diagonal K x d, spherical K; without K for "gaussian");
    - log_likelihood (all constants in), objective (plus log prior), n_parameters, aic, bic (both: lower is better);
    - rows (in the file), rows_used (with an observed cell and weight above 0), n (the weights' sum, the n of bic),
      missing_cells;
    - status {name, sentence}, degenerate_components (collapsed, counted from 0), steps, passes, gap (Aitken estimate of what
      was left to gain), restarts [{log_likelihood, status}], dtype.

    Raises:
        TypeError: a family other than `Gaussian`.
    """
    array, columns = check_matrix(y)
    measured = criteria(model, fit, array, weights)
    mixture, status = hasattr(model, "n_components"), Status(int(fit.status))
    family = fit.params.components if mixture else fit.params
    params = {"weights": _plain(fit.params.weights)} if mixture else {}
    restarts = zip(_plain(fit.restart_log_likelihoods), fit.restart_statuses, strict=True)
    return {
        "format": "jaxem-fit",
        "format_version": FORMAT_VERSION,
        "model": "gaussian-mixture" if mixture else "gaussian",
        "family": "gaussian",
        "covariance": model.family.covariance,
        "components": len(components_of(model, fit.params).weights),
        "columns": column_names(array, columns, names),
        "has_prior": model.prior is not None,
        "params": {**params, "mean": _plain(family.mean), "covariance": _plain(family.covariance)},
        "log_likelihood": _plain(fit.log_likelihood),
        "objective": _plain(fit.objective),
        "n_parameters": measured.n_parameters,
        "aic": _plain(measured.aic),
        "bic": _plain(measured.bic),
        "rows": len(array),
        "rows_used": measured.n_rows,
        "n": measured.n,
        "missing_cells": int(np.isnan(array).sum()),
        "status": {"name": status.name, "sentence": status.sentence},
        "degenerate_components": np.flatnonzero(np.asarray(fit.degenerate)).tolist(),
        "steps": int(fit.steps),
        "passes": int(fit.passes),
        "gap": _plain(fit.gap),
        "restarts": [{"log_likelihood": value, "status": Status(int(each)).name} for value, each in restarts],
        "dtype": str(np.asarray(fit.log_likelihood).dtype),
    }


def _plain(values: Any) -> Any:
    """Nested lists of Python floats, None where not finite."""
    array = np.asarray(values, np.float64)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()


def _correlated(model: Any) -> bool:
    return model.family.covariance in ("full", "tied")


def _describe_data(y: np.ndarray, names: Sequence[str]) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"{y.shape[0]} rows, {y.shape[1]} column{'s' * (y.shape[1] > 1)}: {shown}"
