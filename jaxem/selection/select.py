"""Several models of one data set, fitted and ranked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxem.checks import as_key, check_count, check_informative
from jaxem.data import prepare
from jaxem.fit import fit
from jaxem.model import Model
from jaxem.multi_start import Search, check_kind
from jaxem.restarts import reached_best
from jaxem.result import Fit, Status, Stop
from jaxem.rows import Rows
from jaxem.selection.criteria import criteria, units_of
from jaxem.selection.cross_validation import check_folds, cross_validate
from jaxem.selection.entropy import share_known, state_entropy
from jaxem.selection.selection import CRITERIA, Candidate, Selection, SelectProgress, ranked
from jaxem.selection.side_by_side import alike, fit_side_by_side
from jaxem.settings import short_name

SOUND = (Status.CONVERGED, Status.MAX_STEPS)


def select(
    models: Iterable[Any],
    data: Any,
    criterion: str = "bic",
    key: Any = 0,
    restarts: int = 10,
    folds: int | None = None,
    *,
    weights: Any = None,
    stop: Stop | None = None,
    search: Search | None = None,
    progress: Callable[[SelectProgress], None] | None = None,
) -> Selection:
    """Fits every model to the data and ranks them by a criterion.

        found = select((Mixture(Gaussian(c), k) for c in ("EEE", "VVV") for k in range(1, 6)), y)
        print(found)
        found.best, found.best_fit

    With log-likelihood l, p free parameters, and n the summed weights of the independent units (rows, or sequences of a model of
    time; the steps of a single sequence), lower being better for all but the last:

        aic = -2 l + 2 p                                    bic   = -2 l + p log n
        aicc = aic + 2 p (p + 1) / (n - p - 1)              sabic = -2 l + p log((n + 2) / 24)
        icl = bic + 2 entropy of the states given the data  caic  = -2 l + p (log n + 1)
        cv_log_likelihood = log-likelihood of held-out units under fits to the others (see `cross_validate`)

    (BIC of mclust is the negative of this one.) A model that fails is a row of the table like the others, with its `Status` or
    its error and without criteria: of a likelihood without bound there is nothing to compare. All models share the key, and so
    the folds. Models of one structure that differ in numbers alone, such as the strength of a prior or the value at which a
    param is held, are lanes of one program.

    Args:
        models: any iterable of models, for instance a generator.
        data: as all of them take them, raw or prepared.
        criterion: one of "aic", "aicc", "bic", "sabic", "caic", "icl", and "cv_log_likelihood", which needs folds.
        key: an int seed or a JAX key.
        restarts: random starts of each model whose starts are random.
        folds: number of folds of a cross-validation of every model; None for none.
        weights: as for `fit`.
        stop: when a fit ends, as for `fit`.
        search: how starts are found, in place of restarts, as for `fit`: with `hierarchical()` one tree of mergers serves every
            number of components. Folds are fitted from restarts all the same.
        progress: called with a `SelectProgress` before each model, or each set of lanes, and at the end.

    Raises:
        TypeError, ValueError: no models, or what is no model; models of different kinds of data, which have no likelihoods of the
            same thing; an unknown criterion; more folds than units; all before anything is fitted.
    """
    if not isinstance(criterion, str) or criterion not in CRITERIA:
        raise ValueError(f"criterion: found {criterion!r}; use one of {', '.join(CRITERIA)}.")
    if criterion == "cv_log_likelihood" and folds is None:
        raise ValueError("criterion: cv_log_likelihood needs a number of folds, for instance folds=5.")
    check_kind(search)
    given = _check_models(models)
    restarts, key = check_count(restarts, "restarts"), as_key(key)
    names = _distinct([short_name(model) for model in given])
    prepared = [_read(name, model, data, weights) for name, model in zip(names, given, strict=True)]
    _check_alike(names, given, prepared)
    if folds is not None:
        check_folds(folds, prepared[0])
    table: dict[int, Candidate] = {}
    fits: dict[int, Fit | None] = {}
    for group in alike(given, prepared):
        if progress is not None:
            progress(_progress(table, names[group[0]], names, criterion))
        begun = time.perf_counter()
        found = _fit([given[place] for place in group], prepared[group[0]], key, restarts, stop, search)
        each = (time.perf_counter() - begun) / len(group)
        for place, own in zip(group, found, strict=True):
            begun = time.perf_counter()
            own, held = _hold_out(given[place], prepared[place], own, folds, key, restarts, stop)
            seconds = each + time.perf_counter() - begun
            table[place] = _row(names[place], given[place], prepared[place], own, held, seconds)
            fits[place] = own if isinstance(own, Fit) else None
    if progress is not None:
        progress(_progress(table, None, names, criterion))
    rows = tuple(table[place] for place in range(len(given)))
    values = np.array([getattr(row, criterion) for row in rows], np.float64)
    best = int(ranked(values, criterion)[0])
    n, unit = units_of(prepared[0], np.asarray(prepared[0].weights, np.float64))
    kept = tuple(fits[place] for place in range(len(given)))
    return Selection(rows, given, kept, criterion, n, unit, folds, None if np.isnan(values[best]) else best)


def _progress(table: dict[int, Candidate], name: str | None, names: list[str], criterion: str) -> SelectProgress:
    done = list(table.values())
    values = np.array([getattr(row, criterion) for row in done], np.float64)
    best = None if np.isnan(values).all() else int(ranked(values, criterion)[0])
    told = (None, np.nan) if best is None else (done[best].model, float(values[best]))
    return SelectProgress(len(done), len(names), name, *told)


def _fit(
    models: list[Any], rows: Rows, key: jax.Array, restarts: int, stop: Stop | None, search: Search | None
) -> list[Fit | str]:
    """Fits of models that are alike, side by side where there are several; or what mathematics or the data forbid them."""
    tried, search = (restarts, search) if models[0].needs_key else (1, None)
    starts: dict[str, Any] = {"restarts": tried} if search is None else {"search": search}
    if len(models) > 1 and search is None:
        with contextlib.suppress(TypeError, ValueError):  # of all of them, or of a model that looks at its numbers: told below
            return list(jax.block_until_ready(fit_side_by_side(models, rows, key, tried, stop)))
    found: list[Fit | str] = []
    for model in models:
        try:
            found.append(jax.block_until_ready(fit(model, rows, key=key, stop=stop, **starts)))
        except (TypeError, ValueError) as error:  # as more states than rows
            found.append(_said(error))
    return found


def _hold_out(
    model: Any, rows: Rows, found: Fit | str, folds: int | None, key: jax.Array, restarts: int, stop: Stop | None
) -> tuple[Fit | str, float]:
    """The fit, and the log-likelihood of held-out units: NaN where there is none to be had."""
    if folds is None or isinstance(found, str) or int(found.status) not in SOUND:
        return found, np.nan
    try:
        return found, cross_validate(model, rows, folds, key, restarts=restarts, stop=stop).log_likelihood
    except (TypeError, ValueError) as error:  # as more states than the rows that a fold leaves
        return _said(error), np.nan


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _row(name: str, model: Any, rows: Rows, found: Fit | str, held: float, seconds: float) -> Candidate:
    if isinstance(found, str):
        nan = np.nan
        return Candidate(name, nan, 0, nan, nan, nan, nan, nan, nan, nan, nan, found, 0, seconds)
    sound = int(found.status) in SOUND
    measured = criteria(model, found, rows)
    uncertain = state_entropy(model, found.params, rows) if sound else np.nan
    of = float(np.asarray(rows.weights, np.float64).sum())  # states, one a row or step
    r2 = share_known(uncertain, model.n_states, of)
    told = (measured.aic, measured.aicc, measured.bic, measured.sabic, measured.caic, measured.icl(uncertain), r2)
    aic, aicc, bic, sabic, caic, icl, known = told if sound else (np.nan,) * len(told)
    return Candidate(
        name, float(found.log_likelihood), measured.n_parameters, aic, aicc, bic, sabic, caic, icl, known, held,
        Status(int(found.status)).name, int(reached_best(found).sum()), seconds,
    )  # fmt: skip


# checks


def _check_models(models: Any) -> tuple[Any, ...]:
    if isinstance(models, Model) or not hasattr(models, "__iter__"):
        found = type(models).__name__
        raise TypeError(f"models: found {found}; give several, for instance [Mixture(Gaussian(), k) for k in range(1, 5)].")
    given = tuple(models)
    if not given:
        raise ValueError("models: found none; give at least one, for instance [Mixture(Gaussian(), k) for k in range(1, 5)].")
    for place, model in enumerate(given):
        if not isinstance(model, Model) or isinstance(model, type):
            raise TypeError(f"models[{place}]: found {model!r}; give a model, for instance Mixture(Gaussian(), 3).")
    return given


def _read(name: str, model: Any, data: Any, weights: Any) -> Rows:
    try:
        return prepare(model, data).weigh(weights) if isinstance(data, Rows) else prepare(model, data, weights)
    except (TypeError, ValueError) as error:
        raise type(error)(f"models: {name} does not take these data: {error}") from error


def _check_alike(names: list[str], models: tuple[Any, ...], prepared: list[Rows]) -> None:
    """Raises ValueError where likelihoods are not of the same thing, and what `check_informative` finds for one state."""
    check_informative(prepared[0], 1)

    def kind(model: Any, rows: Rows) -> tuple[Any, ...]:
        family = getattr(model, "family", None)
        counts = ("probabilities of counts or categories", "densities of real numbers")[not getattr(family, "discrete", False)]
        n, unit = units_of(rows, np.asarray(rows.weights, np.float64))
        return None if family is None else counts, f"{n:.10g} {unit}s" if unit != "step" else f"{n:.10g} rows", f"{rows.d} columns"

    first = kind(models[0], prepared[0])
    for name, model, rows in zip(names, models, prepared, strict=True):
        for here, there in zip(first, kind(model, rows), strict=True):
            if here != there and None not in (here, there):
                both = f"{names[0]} is about {here}, {name} about {there}"
                raise ValueError(f"models: are of different kinds of data: {both}; their likelihoods cannot be compared.")


def _distinct(names: list[str]) -> list[str]:
    """Names that occur more than once with a number."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(f"{name} [{seen[name]}]" if names.count(name) > 1 else name)
    return out
