"""A fit as JSON values, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.leaves import kebab
from jaxem.result import Fit, Status
from jaxem.selection.criteria import criteria
from jaxem.settings import inner_families, settings_of
from jaxem.view import view_of

if TYPE_CHECKING:
    from jaxem.inference import Certificate, Inference

FORMAT_VERSION = 2


def document(
    model: Any,
    fit: Fit,
    data: Any,
    *,
    weights: Any = None,
    names: Sequence[str] | None = None,
    inference: Inference | None = None,
    certificate: Certificate | None = None,
) -> dict[str, Any]:
    """Any fit as a tree of JSON values, with all that is needed to use the model again.

    Fields (K components, d columns; numbers that are infinite or NaN are null):

    - format ("jaxem-fit"), format_version (2);
    - model (class in kebab case: "mixture", "single", ...), model_settings, components (K), has_prior;
    - family ("gaussian", "student-t", ...), family_settings (for instance covariance), families (of each group, where the
      family is made of others);
    - columns (d names), labels (of each column's categories, or null), covariates and gate_covariates (names), intercept;
    - params: the params as nested objects of nested lists, leaf by leaf as `model.init` gives them, for instance
      {"weights": K, "components": {"mean": K x d, "covariance": K x d x d}}; "single" has its family's params without K;
    - rotated {method, loadings, rotation, correlations of the factors}, where the model has a rotation;
    - log_likelihood (all constants in), objective (plus log prior), n_parameters, aic, bic (both: lower is better);
    - rows (in the data), rows_used (that say anything and have a weight above 0), n (of bic: summed weights of rows, of sequences,
      or of the steps of a single sequence),
      missing_cells, censored_cells;
    - status {name, sentence}, degenerate_components (collapsed, counted from 0), steps, passes, gap (Aitken estimate of what
      was left to gain), restarts [{log_likelihood, status}], remarks (sentences on params that ended at a bound), dtype;
    - standard_errors, null where `inference` (of `jaxem.standard_errors`) is not given: {method, level, draws (refits of a
      bootstrap, or null), records [{name, coef, std_err, z, p, lower, upper}], boundary (params left out), rate (largest fraction
      of missing information), slowest (what its direction moves), gradient_norm, distance, remarks};
    - certificate, null where it is not given: what `jaxem.certificate` found, and its text.
    """
    view = view_of(data, names, model=model)
    measured = criteria(model, fit, data, weights)
    family, status = getattr(model, "family", None), Status(int(fit.status))
    restarts = zip(plain(fit.restart_log_likelihoods), fit.restart_statuses, strict=True)
    return {
        "format": "jaxem-fit",
        "format_version": FORMAT_VERSION,
        "model": kebab(type(model).__name__),
        "model_settings": settings_of(model),
        "components": int(model.n_states),
        "has_prior": getattr(model, "prior", None) is not None,
        "family": None if family is None else kebab(type(family).__name__),
        "family_settings": settings_of(family),
        "families": {group: kebab(type(part).__name__) for group, part in inner_families(family).items()},
        "columns": list(view.columns),
        "labels": None if view.labels is None else [None if each is None else list(each) for each in view.labels],
        "covariates": list(view.covariates),
        "gate_covariates": list(view.gates),
        "intercept": view.intercept,
        "params": nested(fit.params),
        **{name: nested(value) for name, value in model.details(fit.params).items()},
        "log_likelihood": plain(fit.log_likelihood),
        "objective": plain(fit.objective),
        "n_parameters": measured.n_parameters,
        "aic": plain(measured.aic),
        "bic": plain(measured.bic),
        "rows": view.n,
        "rows_used": measured.n_rows,
        "n": measured.n,
        "missing_cells": int(view.missing.sum()),
        "censored_cells": int(view.censored.sum()),
        "status": {"name": status.name, "sentence": status.sentence},
        "degenerate_components": np.flatnonzero(np.asarray(fit.degenerate)).tolist(),
        "steps": int(fit.steps),
        "passes": int(fit.passes),
        "gap": plain(fit.gap),
        "restarts": [{"log_likelihood": value, "status": Status(int(each)).name} for value, each in restarts],
        "remarks": model.remarks(fit.params, model.prepare(data, weights)),
        "dtype": str(np.asarray(fit.log_likelihood).dtype),
        "standard_errors": None if inference is None else _told(inference),
        "certificate": None if certificate is None else certificate.to_dict(),
    }


def _told(inference: Inference) -> dict[str, Any]:
    """Standard errors as JSON values."""
    records = [
        {name: plain(value) if isinstance(value, float) else value for name, value in each.items()} for each in inference.records()
    ]
    return {
        "method": inference.method,
        "level": inference.level,
        "draws": None if inference.draws is None else len(inference.draws),
        "records": records,
        "boundary": list(inference.boundary),
        "rate": plain(inference.rate),
        "slowest": inference.slowest,
        "gradient_norm": plain(inference.gradient_norm),
        "distance": plain(inference.distance),
        "remarks": list(inference.remarks),
    }


def nested(tree: Any) -> Any:
    """A tree of arrays as objects of nested lists."""
    if hasattr(tree, "_fields"):
        return {name: nested(value) for name, value in zip(tree._fields, tree, strict=True)}
    if isinstance(tree, dict):
        return {str(name): nested(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [nested(value) for value in tree]
    return tree if tree is None or isinstance(tree, str) else plain(tree)


def plain(values: Any) -> Any:
    """Nested lists of Python floats, None where not finite."""
    array = np.asarray(values, np.float64)
    out = array.astype(object)
    out[~np.isfinite(array)] = None
    return out.tolist()
