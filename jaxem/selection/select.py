"""Several models of one data set, fitted and ranked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxem.checks import as_key, check_count, check_informative
from jaxem.data import Rows, prepare
from jaxem.fit import fit
from jaxem.model import Model
from jaxem.multi_start import Search, check_kind
from jaxem.restarts import reached_best
from jaxem.result import Fit, Status, Stop
from jaxem.selection.criteria import criteria, units_of
from jaxem.selection.cross_validation import check_folds, cross_validate
from jaxem.selection.entropy import share_known, state_entropy
from jaxem.selection.selection import CRITERIA, Candidate, Selection, SelectProgress, ranked
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
    the folds. Models of one structure that differ in numbers alone, such as the strength of a prior, run in one compiled
    program.

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
        progress: called with a `SelectProgress` before each model and at the end.

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
    table: list[Candidate] = []
    fits: list[Fit | None] = []
    for name, model, rows in zip(names, given, prepared, strict=True):
        if progress is not None:
            progress(_progress(table, name, names, criterion))
        row, found = _try(name, model, rows, key, restarts, folds, stop, search)
        table.append(row)
        fits.append(found)
    if progress is not None:
        progress(_progress(table, None, names, criterion))
    values = np.array([getattr(row, criterion) for row in table], np.float64)
    best = int(ranked(values, criterion)[0])
    n, unit = units_of(prepared[0], np.asarray(prepared[0].weights, np.float64))
    return Selection(tuple(table), given, tuple(fits), criterion, n, unit, folds, None if np.isnan(values[best]) else best)


def _progress(table: list[Candidate], name: str | None, names: list[str], criterion: str) -> SelectProgress:
    values = np.array([getattr(row, criterion) for row in table], np.float64)
    best = None if np.isnan(values).all() else int(ranked(values, criterion)[0])
    told = (None, np.nan) if best is None else (table[best].model, float(values[best]))
    return SelectProgress(len(table), len(names), name, *told)


def _try(
    name: str, model: Any, rows: Rows, key: jax.Array, restarts: int, folds: int | None, stop: Stop | None, search: Search | None
) -> tuple[Candidate, Fit | None]:
    begun = time.perf_counter()
    tried, search = (restarts, search) if model.needs_key else (1, None)
    held = np.nan
    try:
        starts: dict[str, Any] = {"restarts": tried} if search is None else {"search": search}
        found = jax.block_until_ready(fit(model, rows, key=key, stop=stop, **starts))
        sound = int(found.status) in SOUND
        if folds is not None and sound:
            held = cross_validate(model, rows, folds, key, restarts=tried, stop=stop).log_likelihood
    except (TypeError, ValueError) as error:  # what mathematics or the data forbid this model, as more states than rows
        said = " ".join(str(error).split())
        nan = np.nan
        return Candidate(name, nan, 0, nan, nan, nan, nan, nan, nan, nan, nan, said, 0, time.perf_counter() - begun), None
    measured = criteria(model, found, rows)
    uncertain = state_entropy(model, found.params, rows) if sound else np.nan
    of = float(np.asarray(rows.weights, np.float64).sum())  # states, one a row or step
    r2 = share_known(uncertain, model.n_states, of)
    told = (measured.aic, measured.aicc, measured.bic, measured.sabic, measured.caic, measured.icl(uncertain), r2)
    aic, aicc, bic, sabic, caic, icl, known = told if sound else (np.nan,) * len(told)
    candidate = Candidate(
        name, float(found.log_likelihood), measured.n_parameters, aic, aicc, bic, sabic, caic, icl, known, held,
        Status(int(found.status)).name, int(reached_best(found).sum()), time.perf_counter() - begun,
    )  # fmt: skip
    return candidate, found


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
        return None if family is None else counts, f"{n:g} {unit}s" if unit != "step" else f"{n:g} rows", f"{rows.d} columns"

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
