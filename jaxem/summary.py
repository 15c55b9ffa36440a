"""What a fit says, as text for a person (as JSON for a program: `jaxem.document`; as a page with pictures: `jaxem.report`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.leaves import words_of
from jaxem.parameters import parameter_table
from jaxem.restarts import reached_best
from jaxem.result import Fit, Status
from jaxem.selection.criteria import Criteria, criteria
from jaxem.settings import inner_families, settings_of
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from jaxem.inference import Certificate


def summarize(
    model: Any,
    fit: Fit,
    data: Any,
    *,
    weights: Any = None,
    names: Sequence[str] | None = None,
    certificate: Certificate | None = None,
) -> str:
    """An account of any fit in plain text: data, holes, restarts, status, criteria, what to beware of, a table of parameters.

    Args:
        model: the model that was fitted.
        fit: its fit.
        data: the raw data: (n, d) or a data frame with NaN where missing, labels, a `Regression`, an `Interval`.
        weights: (n,) row weights of the fit.
        names: d names of the columns of y; default those of the data frame, or x0, x1, ...
        certificate: what `jaxem.certificate` found of the fit, for its four lines.

    Raises:
        TypeError, ValueError: as the family's checks of its data, and `jaxem.view.view_of`.
    """
    view = view_of(data, names, model=model)
    measured = criteria(model, fit, data, weights)
    lines = [
        ("Model", describe(model)),
        ("Data", describe_data(view)),
        ("Missing", describe_missing(view.missing)),
        ("Restarts", describe_restarts(fit)),
        ("Status", fit.explain()),
        ("Steps", f"{int(fit.steps)} in the restart returned; {int(fit.passes)} passes over the data in all"),
        ("Log-likelihood", f"{float(fit.log_likelihood):.4f} with {measured.n_parameters} free parameters"),
        ("AIC, BIC", f"{measured.aic:.4f}, {measured.bic:.4f} (lower is better; n = {_counted(measured)})"),
    ]
    if view.lower is not None:
        lines.insert(3, ("Censored", describe_censored(view)))
    lines += [("Note", remark) for remark in model.remarks(fit.params, model.prepare(data, weights))]
    if certificate is not None:
        lines += [("" if number else "Certificate", line) for number, line in enumerate(str(certificate).splitlines())]
    head = "\n".join(f"{label:<15} {text}" for label, text in lines)
    return f"{head}\n\n{parameter_table(model, fit.params, view)}"


def _counted(measured: Criteria) -> str:
    """n, with what it counts where these are no rows."""
    return f"{measured.n:.10g}" + (f" {measured.unit}{'s' * (measured.n != 1)}" if measured.unit != "row" else "")


def describe(model: Any) -> str:
    """A model in a few words: "Gaussian mixture, 3 components, full covariance"."""
    family = getattr(model, "family", None)
    family = None if getattr(model, "names_itself", False) else family
    words = [] if family is None else [describe_family(family)]
    if type(model).__name__ != "Single":
        own = words_of(model)
        words.append(own[0].lower() + own[1:] if words else own)
    parts = [" ".join(words)]
    if hasattr(model, "n_components"):
        parts.append(f"{model.n_components} component{'s' * (model.n_components > 1)}")
    elif getattr(model, "sequential", False):
        parts.append(f"{model.n_states} state{'s' * (model.n_states > 1)}")
    for thing in (model, family):
        parts += [_setting(name, value) for name, value in settings_of(thing).items() if value is not False]
    if getattr(model, "prior", None) is not None:
        parts.append("with a prior")
    if getattr(model, "fixed", None) is not None:
        parts.append("with restrictions")
    return ", ".join(parts)


def describe_family(family: Any) -> str:
    """The name of a family, with those that it is made of."""
    inner = list(inner_families(family).values())
    name = words_of(family)
    return f"{name} ({', '.join(describe_family(part) for part in inner)})" if inner else name


def _setting(name: str, value: Any) -> str:
    name = name.replace("_", " ")
    if value is True:
        return name
    if name == "initial":
        return f"{value} first state" if isinstance(value, str) else "given first state"
    if name == "q":
        return f"{value} factor{'s' * (value > 1)}"
    if isinstance(value, tuple):
        return f"{name} {' and '.join(map(str, value))}"
    return f"{value} {name}" if isinstance(value, str) else f"{name} {value}"


def describe_data(view: View) -> str:
    """Rows and columns with their names."""
    text = f"{view.n} rows, {_listed(view.columns, 'column' if not view.regression else 'response')}"
    if view.regression:
        text += f"; {_listed(view.covariates, 'covariate')}" if view.covariates else "; no covariates"
    if view.gates:
        text += f"; {_listed(view.gates, 'gate covariate')}"
    return text


def _listed(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) != 1)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def describe_missing(missing: np.ndarray) -> str:
    """How many cells and rows are missing, from a mask (n, d)."""
    if not missing.any():
        return "nothing"
    some, whole = int(missing.any(axis=1).sum()), int(missing.all(axis=1).sum())
    text = f"{missing.sum()} of {missing.size} cells ({100 * missing.mean():.1f} %), in {some} row{'s' * (some != 1)}"
    return f"{text}; {whole} row{' has' if whole == 1 else 's have'} nothing observed"


def describe_censored(view: View) -> str:
    """How many cells are known exactly, and how many are cut on which side."""
    left, right = np.isneginf(view.lower), np.isposinf(view.upper)  # type: ignore[arg-type]
    cut = view.censored
    counts = {
        "exact": int((~np.isnan(view.y)).sum()), "left": int((cut & left).sum()), "right": int((cut & right & ~left).sum()),
        "interval": int((cut & ~left & ~right).sum()),
    }  # fmt: skip
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return text + ("; left-truncated at entry" if view.entry is not None else "")


def describe_restarts(fit: Fit) -> str:
    """How many restarts ended at the value of the one that was returned, and what became of those that failed."""
    statuses = [Status(int(status)) for status in fit.restart_statuses]
    failed = [status for status in statuses if status not in (Status.CONVERGED, Status.MAX_STEPS)]
    text = f"{int(reached_best(fit).sum())} of {len(statuses)} reached the best value"
    for status in sorted(set(failed)):
        text += f"; {failed.count(status)} " + ("dropped on the way" if status == Status.RUNNING else f"ended {status.name}")
    return text
