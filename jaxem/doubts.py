"""What to distrust in a fit, in plain sentences, each with what can be done about it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxem.evidence import Evidence
from jaxem.inference.certificate import MAXIMUM
from jaxem.restarts import reached_best

FEW = 10  # rows for each free parameter below which criteria and errors by curvature are optimistic
OVERLAP = 0.5  # entropy R2 below which who belongs where is largely a guess
LOST = 0.9  # fraction of missing information above which symmetric intervals are doubtful
CLOSE = 2.0  # of a criterion: models that differ by less cannot be told apart (Kass and Raftery 1995)
KOLMOGOROV = 1.36  # over root n: the distance that true params pass once in twenty times; fitted ones more rarely
FAR = 4.5  # of a standard normal; one in 150,000 lies beyond


class Doubts(NamedTuple):
    """What a reader is to know."""

    verdict: str  # one sentence on the whole fit
    first: list[str]  # the gravest doubts, three at most
    told: list[str]  # all of them, and what holds of every fit
    beware: bool  # whether there is any grave one


def doubts(evidence: Evidence) -> Doubts:
    """Doubts about a fit, the gravest first, and a verdict."""
    grave = [*_ended(evidence), *_maximum(evidence), *_constant(evidence)]
    doubtful = [*_found(evidence), *_chosen(evidence), *_data(evidence), *_states(evidence), *_errors(evidence), *_misfit(evidence)]
    always = ["Intervals, criteria and probabilities take the model as true. What was not tried cannot be told from them."]
    if not evidence.sound:
        verdict = "This fit failed; its numbers say where it broke off and nothing of the data."
    elif grave:
        verdict = "This fit is not to be relied on as it stands."
    elif evidence.certificate is None:
        verdict = "The fit ended as it should; with so many parameters its maximum was not looked into."
    elif doubtful:
        verdict = "The fit stands at a maximum of its likelihood; some things are to be taken with care."
    else:
        verdict = "The fit stands at a maximum of its likelihood, and nothing in particular speaks against it."
    return Doubts(verdict, [*grave, *doubtful][:3], [*grave, *doubtful, *always], bool(grave))


def _ended(evidence: Evidence) -> list[str]:
    fit, found = evidence.fit, evidence.certificate
    out = [] if bool(fit.converged) or (found is not None and found.trusted) else [fit.explain()]
    if np.size(fit.restart_statuses) == 1 and evidence.model.needs_key:
        out.append("There was one start only: a higher maximum may well exist. Fit again with restarts=20 or more.")
    return out


def _found(evidence: Evidence) -> list[str]:
    """Whether other restarts found the same."""
    restarts, reached = np.size(evidence.fit.restart_statuses), int(reached_best(evidence.fit).sum())
    if restarts < 3 or reached > 1:
        return []
    return [f"Only 1 of {restarts} restarts reached this value: more restarts may find a higher one."]


def _maximum(evidence: Evidence) -> list[str]:
    found = evidence.certificate
    if found is None or found.trusted:
        return []
    lines = str(found).splitlines()
    return [lines[3]] if found.verdict == MAXIMUM else [lines[1], lines[3]]


def _chosen(evidence: Evidence) -> list[str]:
    """How clear the choice among models was."""
    found = evidence.selection
    if found is None or found.best_index is None:
        return []
    out, values = [], found.values
    best = found.table[found.best_index]
    order = [place for place in found.order if np.isfinite(values[place])]
    if len(order) > 1:
        ahead = abs(values[order[1]] - values[order[0]])
        if ahead < CLOSE:
            second = found.table[order[1]].model
            out.append(f"By {found.criterion} {second} is only {ahead:.2g} worse: the data hardly tell it from {best.model}.")
    sizes = {int(model.n_states) for model in found.models}
    if len(sizes) > 1 and evidence.model.n_states == max(sizes):
        out.append(f"The largest number of components that was tried ({max(sizes)}) was chosen: more of them may be better still.")
    failed = [row.model for row in found.table if not np.isfinite(getattr(row, found.criterion))]
    if failed:
        names = ", ".join(failed[:4]) + (", ..." if len(failed) > 4 else "")
        out.append(f"{len(failed)} of {len(found.table)} models could not be compared, as they failed: {names}.")
    return out


def _data(evidence: Evidence) -> list[str]:
    """Too few of them, and holes."""
    out, measured = [], evidence.measured
    if measured.n_parameters and measured.n < FEW * measured.n_parameters:
        rows = f"{measured.n:.10g} {measured.unit}s for {measured.n_parameters} free parameters"
        out.append(f"There are only {rows}: standard errors by curvature and BIC need more. Bootstrap intervals are safer.")
    if evidence.view.missing.any():
        text = "Missing cells are taken as missing at random: given what is seen of a row, that a cell is missing must not depend"
        text = f"{text} on what it holds. No test can show this; jaxem.delta_sensitivity shows how much it matters."
        if evidence.little is not None and evidence.little.p < 0.05:
            text += f" They are not missing completely at random (Little's test: p = {evidence.little.p:.2g}), so it does matter."
        out.append(text)
    return out


def _constant(evidence: Evidence) -> list[str]:
    """Columns that say nothing, and let a covariance collapse."""
    view = evidence.view
    named = view.labels or (None,) * view.d
    seen = [column[np.isfinite(column)] for column in view.y.T]
    flat = [labels is None and own.size > 0 and np.ptp(own) == 0 for own, labels in zip(seen, named, strict=True)]
    same = [name for name, only in zip(view.columns, flat, strict=True) if only]
    if not same:
        return []
    verb = "holds" if len(same) == 1 else "hold"
    return [f"{', '.join(same)} {verb} one value only, whose variance is 0: leave {'it' if len(same) == 1 else 'them'} out."]


def _states(evidence: Evidence) -> list[str]:
    out = []
    if evidence.posterior is not None:
        if evidence.known < OVERLAP:
            out.append(
                f"The components overlap (entropy R2 {evidence.known:.2f}, 1 being certain): to which a row belongs is largely a "
                "guess, and averages over labels that were assigned are biased."
            )
        size = evidence.weights @ evidence.posterior
        least = 5 + evidence.view.d
        few = [f"component {k} ({value:.1f})" for k, value in enumerate(size) if value < least]
        if few:
            out.append(f"Few rows stand behind {', '.join(few)}: what is said of them rests on next to nothing.")
    out += evidence.remarks
    return out


def _errors(evidence: Evidence) -> list[str]:
    found = evidence.inference
    if found is None:
        return []
    out = list(found.remarks)
    if found.boundary:
        names = ", ".join(found.boundary[:6]) + (", ..." if len(found.boundary) > 6 else "")
        out.append(f"On the edge of what they may be, and so without standard errors: {names}.")
    if np.isfinite(found.rate) and found.rate > LOST:
        out.append(
            f"Along {found.slowest}, {found.rate:.1%} of the information is missing: symmetric intervals may be far off there. "
            "jaxem.profile and bootstrap intervals follow the likelihood itself."
        )
    return out


def _misfit(evidence: Evidence) -> list[str]:
    """Columns whose residuals are not standard normal."""
    if evidence.residuals is None:
        return []
    out = []
    for name, z in zip(evidence.view.columns, evidence.residuals.T, strict=True):
        z = np.sort(z[np.isfinite(z)])
        if len(z) < 20:
            continue
        distance, far = kolmogorov_distance(z), int((np.abs(z) > FAR).sum())
        if distance > KOLMOGOROV / np.sqrt(len(z)):
            out.append(
                f"The residuals of {name} are not normal (largest distance of their distribution {distance:.3f}, and above "
                f"{KOLMOGOROV / np.sqrt(len(z)):.3f} is rare): the model does not describe this column."
            )
        if far:
            cells = f"{far} cell{'s' * (far > 1)} of {name}"
            out.append(f"{cells} lie{'s' * (far == 1)} where the model expects next to none: outliers, or tails that are too thin.")
    return out


def kolmogorov_distance(z: np.ndarray) -> float:
    """Largest distance between the distribution of sorted z (m,) and the standard normal one."""
    from jax.scipy.special import ndtr

    expected = np.asarray(ndtr(z), np.float64)
    place = np.arange(len(z) + 1) / len(z)
    return float(max((place[1:] - expected).max(), (expected - place[:-1]).max()))
