"""Model files of the command line: what `jaxem fit --save` writes besides the model, and how other commands read data by it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxem
from jaxem.catalogue import DATA_OPTIONS, MODELS, CommandError
from jaxem.columns import NAMED, ONE, read_data
from jaxem.commands.case import Case
from jaxem.result import Fit
from jaxem.saved import Saved, load
from jaxem.tables import Table
from jaxem.view import view_of

READING = (*NAMED, *ONE, "no_intercept", "left", "right", "family")  # options that say how a file is read


def write_model(path: Path, options: argparse.Namespace, case: Case, fitted: Fit) -> None:
    """Saves a fit with all that is needed to read other files in the same way."""
    kept = {name: getattr(options, name) for name in READING if getattr(options, name, None) is not None}
    kept |= {name: options.resolved[name] for name in ("columns", "covariates") if name in options.resolved}
    kept.pop("weights", None)  # those of the rows that were fitted
    table = {"model": options.model, "options": kept, "labels": options.resolved["labels"]}
    columns = view_of(case.data, model=case.model).columns
    jaxem.save(path, _counted(case), fitted.params, fitted, columns=columns, table=table)


def _counted(case: Case) -> Any:
    """The model with the number of categories in it, all of which other data need not show."""
    family = getattr(case.model, "family", None)
    if not isinstance(family, jaxem.Categorical) or family.n_categories is not None:
        return case.model
    return dataclasses.replace(case.model, family=jaxem.Categorical(case.rows.size))


def read_model(path: Path) -> Saved:
    """The model file at a path.

    Raises:
        CommandError: no such file, or one that `jaxem.load` refuses.
    """
    try:
        return load(path)
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from error


def options_of(saved: Saved, path: Path, data: Path) -> argparse.Namespace:
    """The options under which the model in `path` was fitted, for the file `data`.

    Raises:
        CommandError: the model file does not say which columns it needs.
    """
    every = {name for options in DATA_OPTIONS.values() for name in options}
    blank = dict.fromkeys([*every, *READING, "covariance_of"]) | {"data": data}
    if saved.table is not None:
        kept = saved.table
        if kept["model"] not in MODELS:
            raise CommandError(f"{path}: holds the model {kept['model']!r}, which this version does not know")
        return argparse.Namespace(**{**blank, **kept["options"]}, model=kept["model"], labels=kept["labels"])
    if saved.columns is None:
        raise CommandError(f"{path}: names no columns; save it by jaxem fit --save, or by jaxem.save(..., columns=data)")
    model = "hidden-markov" if getattr(saved.model, "sequential", False) else "gaussian"
    return argparse.Namespace(**{**blank, "columns": list(saved.columns)}, model=model, labels={})


def read_rows(saved: Saved, options: argparse.Namespace, table: Table) -> Any:
    """The rows of a table as the model takes them, prepared: columns by name, in whatever order, others left aside.

    Leaves the order of rows of sequences in `options.row_order`.

    Raises:
        CommandError: columns that are not there, or hold what the model cannot take.
    """
    raw, _ = read_data(options, table)
    try:
        rows = jaxem.prepare(saved.model, raw)
        tree: Any = jax.tree.structure(saved.model.domains)
        shapes = tree.flatten_up_to(saved.model.structure(rows))
        found = [np.shape(leaf) for leaf in jax.tree.leaves(saved.params)]
        if found != list(shapes):
            raise ValueError(f"do not fit the model: they need params of shapes {shapes}, and it has {found}")
    except (TypeError, ValueError) as error:
        raise CommandError(f"{options.data}: {str(error).removeprefix('y: ')}") from error
    return rows
