"""A fit told as a page for a person: the data, the models tried, the estimates, how sure they are, and what to distrust."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from jaxem import page
from jaxem.checks import as_key
from jaxem.doubts import doubts
from jaxem.evidence import COUNTED, Evidence, gather
from jaxem.inference import Certificate, Inference
from jaxem.inference.certificate import MAXIMUM
from jaxem.leaves import has_ellipses, leaves_of
from jaxem.parameters import ABREAST, is_matrix, lines_of, number
from jaxem.result import Fit
from jaxem.selection import Selection
from jaxem.summary import describe, describe_censored, describe_data, describe_missing, describe_restarts
from jaxem.tables import staged
from jaxem.view import View, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (5.2, 4.2)  # inches of a picture
LINES = 150  # rows of a table at most
NOTHING = "-"  # where there is no number


@dataclass(frozen=True)
class Report:
    """A page of HTML that stands alone."""

    html: str

    def save(self, path: Any) -> None:
        """Writes the page to a path, whole or not at all."""
        with staged() as stage:
            stage(Path(path)).write_text(self.html, encoding="utf-8")


def report(
    fit: Fit,
    model: Any,
    data: Any,
    *,
    weights: Any = None,
    names: Sequence[str] | None = None,
    selection: Selection | None = None,
    inference: Inference | None = None,
    certificate: Certificate | None = None,
    title: str | None = None,
    made: str | None = None,
    key: Any = 0,
) -> Report:
    """The story of a fit as one HTML page, tables and pictures inside, that needs no network and runs no scripts.

        report(fitted, model, y).save("report.html")

    In order: the data and their holes; the models tried and why this one; the estimates with intervals; the certificate in
    words; how well the model fits; what to distrust. Needs Matplotlib.

    Args:
        fit: from `jaxem.fit`, or the best of a `Selection`.
        model: the model of the fit.
        data: the raw data of the fit, not prepared ones, since these no longer hold their columns.
        weights: (n,) weights of the fit.
        names: d names of the columns of y; default those of the data frame, or x0, x1, ...
        selection: from `jaxem.select`, which chose this model.
        inference: from `jaxem.standard_errors`; default by Oakes' identity, up to 600 free parameters.
        certificate: from `jaxem.certificate`; default computed, up to 600 free parameters.
        title: of the page; default the model in words.
        made: how the fit was made, for instance the command; told at the end.
        key: an int seed or a JAX key, for residuals, which are random where cells are discrete.

    Raises:
        TypeError: no single fit; no raw data. ValueError: params that do not fit the data.
    """
    _check(fit, model, selection)
    view = view_of(data, names, model=model)
    evidence = gather(
        fit, model, data, view, weights, selection=selection, inference=inference, found=certificate, key=as_key(key)
    )
    why = doubts(evidence)
    chapters: list[tuple[str, str, Callable[[Evidence], Iterator[str]]]] = [
        ("data", "The data", _data),
        ("models", "The models tried, and why this one", _models),
        ("estimates", "The estimates", _estimates),
        ("certificate", "Whether this is the maximum", _maximum),
        ("fit", "How well the model fits", _goodness),
        ("doubts", "What to distrust", lambda _: iter([page.bullets(why.told)])),
    ]
    title = describe(model) if title is None else title
    body = [
        page.header(title, describe_data(view)),
        page.verdict(why.verdict, why.first, why.beware),
        page.contents([(name, text) for name, text, _ in chapters]),
        *(page.section(name, text, tell(evidence)) for name, text, tell in chapters),
        _footer(evidence, made),
    ]
    return Report(page.page(title, body))


def _check(fit: Any, model: Any, selection: Any) -> None:
    if not isinstance(fit, Fit):
        raise TypeError(f"fit: found {type(fit).__name__}; call report(fit, model, data) with what jaxem.fit returned.")
    if np.ndim(fit.status) != 0:
        raise TypeError("fit: found a batch of fits; report one, as jax.tree.map(lambda leaf: leaf[0], fit).")
    if not hasattr(model, "domains"):
        raise TypeError(f"model: found {type(model).__name__}; call report(fit, model, data) with the model of the fit.")
    if selection is not None and not isinstance(selection, Selection):
        raise TypeError(f"selection: found {type(selection).__name__}; give what jaxem.select returned.")


# chapters


def _data(evidence: Evidence) -> Iterator[str]:
    from jaxem.plots.missingness import plot_patterns

    view, missing = evidence.view, evidence.view.missing
    yield page.paragraph(f"{describe_data(view)}. Missing: {describe_missing(missing)}.")
    if view.lower is not None:
        yield page.paragraph(f"Known only to lie in an interval: {describe_censored(view)}.")
    weights = evidence.weights
    if len(weights) and (weights != weights[0]).any():
        yield page.paragraph(f"Rows have weights from {weights.min():g} to {weights.max():g}, {weights.sum():.10g} in all.")
    lines = list(_columns(view))
    header = ["column", "seen", "missing", "mean or commonest", "sd", "least", "largest"]
    yield page.table(header, lines[:LINES])
    if len(lines) > LINES:
        yield page.paragraph(f"{len(lines) - LINES} more columns are not shown.", soft=True)
    if missing.any() and view.d > 1:
        yield page.pictures([_panel(lambda ax: plot_patterns(evidence.data, ax))])
    if evidence.little is not None:
        yield page.paragraph(f"Little's test of whether cells are missing completely at random: {evidence.little}.")


def _columns(view: View) -> Iterator[list[str]]:
    """What is seen of each column; covariates after responses."""
    for j, name in enumerate(view.columns):
        own = view.y[:, j]
        seen = own[~np.isnan(own)]
        gone = int(view.missing[:, j].sum())
        share = f"{gone} ({gone / max(view.n, 1):.0%})" if gone else "0"
        labelled = view.labels is not None and view.labels[j] is not None
        if labelled and seen.size:
            codes, counts = np.unique(seen, return_counts=True)
            most = view.category(j, int(codes[counts.argmax()]))
            yield [name, str(seen.size), share, f"{most} ({counts.max() / seen.size:.0%})", f"{len(codes)} labels", "", ""]
        else:
            yield [name, str(seen.size), share, *_numbers(seen)]
    for names, values in ((view.covariates, view.x), (view.gates, view.gate)):
        if values is not None:
            for name, own in zip(names, values.T, strict=True):
                yield [name, str(len(own)), "0", *_numbers(own)]


def _numbers(seen: np.ndarray) -> list[str]:
    if not seen.size:
        return [""] * 4
    return [f"{value:.4g}" for value in (seen.mean(), seen.std(), seen.min(), seen.max())]


def _models(evidence: Evidence) -> Iterator[str]:
    from jaxem.plots.criteria import plot_criteria

    found, name = evidence.selection, describe(evidence.model)
    if found is None:
        yield page.paragraph(
            f"One model was fitted: {name}. Nothing was compared with it, so nothing here says that another would not do better; "
            "jaxem.select and jaxem select try several."
        )
        return
    chosen = "Lower is better" if found.criterion != "cv_log_likelihood" else "Higher is better"
    counted = f"n = {found.n:.10g} {found.unit}{'s' * (found.n != 1)}"
    yield page.paragraph(f"{len(found.table)} models were fitted and ranked by {found.criterion} ({counted}). {chosen}.")
    if found.best_index is not None:
        best = found.table[found.best_index]
        order = [place for place in found.order if np.isfinite(found.values[place])]
        ahead = "" if len(order) < 2 else f", {abs(found.values[order[1]] - found.values[order[0]]):.4g} ahead of the next"
        yield page.paragraph(f"{best.model} is chosen{ahead}.")
    shown = list(dict.fromkeys([found.criterion, "bic", "icl"]))
    header = ["model", *shown, "log-likelihood", "parameters", "entropy R2", "starts at best", "status"]
    lines, chosen_line = [], None
    for line, place in enumerate(found.order[:LINES]):
        row = found.table[place]
        numbers = [_or_dash(getattr(row, each), ".2f") for each in shown]
        lines.append([row.model, *numbers, _or_dash(row.log_likelihood, ".2f"), str(row.n_parameters),
                      _or_dash(row.entropy_r2, ".2f"), str(row.restarts_at_best), row.status])  # fmt: skip
        chosen_line = line if place == found.best_index else chosen_line
    yield page.table(header, lines, chosen=chosen_line)
    if np.isfinite(found.values).any():
        yield page.pictures([_panel(lambda ax: plot_criteria(found, ax))])


def _or_dash(value: float, how: str) -> str:
    return format(value, how) if np.isfinite(value) else NOTHING


def _estimates(evidence: Evidence) -> Iterator[str]:
    from jaxem.plots.corner import figure_corner
    from jaxem.plots.intervals import plot_intervals
    from jaxem.plots.overview import panels_of

    fit, model, view, found = evidence.fit, evidence.model, evidence.view, evidence.inference
    kinds = panels_of(model, fit, evidence.data, view, evidence.weights)
    yield page.pictures(_panel(draw) for draw in [*kinds.seen, *kinds.params])
    if view.d > 2 and has_ellipses(model, fit.params) and not view.regression and not getattr(model, "sequential", False):
        corner = figure_corner(model, fit.params, evidence.data, names=view.columns, weights=evidence.weights)
        most = ", those that tell the components best apart" if model.n_states > 1 and view.d > 5 else ""
        yield page.picture(corner, "Components over pairs of columns", f"Components over pairs of columns{most}.")
    yield page.heading("Parameters")
    yield from _parameters(evidence)
    if found is None:
        why = "the fit failed" if not evidence.sound else f"there are more than {COUNTED} parameters"
        yield page.paragraph(f"There are no standard errors, as {why}.")
        return
    records = found.records()
    yield page.heading(f"Standard errors and {found.level:.0%} intervals")
    how = _METHODS.get(found.method, found.method)
    yield page.paragraph(f"By {how}. A dash stands where nothing can be said, as on the edge of a domain.", soft=True)
    lines = [[each["name"], *(_told(each[what]) for what in ("coef", "std_err", "lower", "upper"))] for each in records]
    yield page.table(["parameter", "estimate", "standard error", "lower", "upper"], lines[:LINES])
    if len(lines) > LINES:
        yield page.paragraph(f"{len(lines) - LINES} more are not shown; jaxem.standard_errors has them all.", soft=True)
    if len(lines) <= LINES:
        leaves = dict.fromkeys(name.partition("[")[0] for name in found.names)
        drawn = {leaf: cast("Figure", plot_intervals(found, leaf=leaf).figure) for leaf in leaves}
        yield page.pictures(page.picture(figure, f"Estimates and intervals of {leaf}") for leaf, figure in drawn.items())


_METHODS = {
    "oakes": "the observed information (Oakes' identity)", "observed": "the observed information",
    "louis": "the observed information (Louis' identity)", "supplemented": "supplemented EM",
    "empirical": "the empirical information of the scores", "sandwich": "the sandwich of information and scores",
    "bootstrap": "refits to rows drawn anew", "parametric_bootstrap": "refits to rows simulated from the model",
}  # fmt: skip


def _told(value: float) -> str:
    return number(value) if np.isfinite(value) else NOTHING


def _parameters(evidence: Evidence) -> Iterator[str]:
    model, view, states = evidence.model, evidence.view, evidence.model.n_states
    leaves = leaves_of(model, evidence.fit.params, view)
    lines = [line for leaf in leaves for line in lines_of(leaf, view, states)]
    what = "state" if getattr(model, "sequential", False) else "component"
    for first in range(0, states, ABREAST):
        shown = range(first, min(first + ABREAST, states))
        header = ["parameter", *(f"{what} {k}" for k in shown)] if states > 1 else ["parameter", "estimate"]
        if lines:
            yield page.table(header, [[title, *(number(values[k]) for k in shown)] for title, values in lines[:LINES]])
    for leaf in leaves:
        if is_matrix(leaf):
            for k, matrix in enumerate(leaf.values):
                head = leaf.title if len(leaf.values) == 1 else f"{leaf.title}, component {k}"
                rows = [[name, *map(number, row)] for name, row in zip(leaf.axes[0].names, matrix, strict=True)]
                yield page.table([head, *leaf.axes[1].names], rows[:LINES])
    if len(lines) > LINES:
        yield page.paragraph(f"{len(lines) - LINES} more lines are not shown.", soft=True)


def _maximum(evidence: Evidence) -> Iterator[str]:
    from jaxem.plots.history import plot_history

    fit, found = evidence.fit, evidence.certificate
    if found is None:
        yield page.bullets([fit.explain(), f"Of the restarts {describe_restarts(fit)}."])
    else:
        yield page.bullets(str(found).splitlines())
        if found.verdict == MAXIMUM and found.trusted:
            yield page.paragraph("First and second derivatives of the log-likelihood say so.", soft=True)
    caption = "How far below the maximum each restart was, step by step."
    yield page.pictures([_panel(lambda ax: plot_history(fit, ax), caption)])


def _goodness(evidence: Evidence) -> Iterator[str]:
    from jaxem.plots.overview import panels_of
    from jaxem.plots.residuals import plot_residuals

    fit, model, measured = evidence.fit, evidence.model, evidence.measured
    rows = [
        ["log-likelihood", f"{float(fit.log_likelihood):.4f}"], ["free parameters", str(measured.n_parameters)],
        *([name, _or_dash(getattr(measured, name.lower()), ".4f")] for name in ("AIC", "AICc", "BIC")),
    ]  # fmt: skip
    if evidence.posterior is not None:
        rows.append(["entropy R2 (1: every row's component is certain)", _or_dash(evidence.known, ".4f")])
    yield page.table(["", ""], rows)
    if evidence.posterior is not None and evidence.posterior.shape[1] > 1:
        yield page.table(*_memberships(evidence.posterior, evidence.weights))
    drawn = [_panel(draw) for draw in panels_of(model, fit, evidence.data, evidence.view, evidence.weights).states]
    if evidence.residuals is not None:
        words = "Quantile residuals against the normal distribution: on the line, inside the band, where the model is true."
        drawn.append(_panel(lambda ax: plot_residuals(model, fit.params, evidence.data, ax, names=evidence.view.columns), words))
    yield page.pictures(drawn)


def _memberships(posterior: np.ndarray, weights: np.ndarray) -> tuple[list[str], list[list[str]], str]:
    """How many rows each component has, and how surely."""
    likeliest, lines = posterior.argmax(axis=1), []
    for k, size in enumerate(weights @ posterior):
        own = likeliest == k
        sure = f"{np.average(posterior[own, k], weights=weights[own]):.3f}" if weights[own].sum() > 0 else NOTHING
        lines.append([str(k), f"{size:.1f}", f"{weights[own].sum():.10g}", sure])
    return ["component", "expected rows", "likeliest for", "mean probability there"], lines, "Who belongs where, and how surely."


def _footer(evidence: Evidence, made: str | None) -> str:
    import jax

    versions = f"jaxem {importlib.metadata.version('jaxem')}, JAX {jax.__version__}, {evidence.fit.log_likelihood.dtype}"
    return page.footer(f"Made by {versions}.", made)


def _panel(draw: Callable[[Axes], Any], caption: str = "") -> str:
    """One picture on a figure of its own, whose title says in words what it is."""
    from jaxem.canvas import new_figure

    figure = new_figure(PANEL)
    ax = figure.add_subplot()
    draw(ax)
    return page.picture(figure, figure.axes[0].get_title().replace("\n", " ").replace(r"\$", "$"), caption)
