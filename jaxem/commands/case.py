"""What a command line describes: a model, and the data that it is for."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, NamedTuple

import numpy as np

import jaxem
from jaxem import catalogue
from jaxem.catalogue import MODELS, CommandError
from jaxem.checks import check_informative
from jaxem.columns import read_data
from jaxem.commands.output import need
from jaxem.tables import Table, is_parquet, read_table


class Case(NamedTuple):
    """A model and its data."""

    model: Any
    table: Table  # the file
    data: Any  # as the model takes them
    weights: Any
    rows: Any  # prepared


def check_case(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read."""
    need("pandas")
    if is_parquet(options.data):
        need("pyarrow")
    catalogue.check_options(options)


def load(options: argparse.Namespace, check: bool = True) -> Case:
    """Reads the file and builds the model, with its prior; without `check` also for data that it cannot be fitted to.

    Raises:
        CommandError, TableError: what is wrong, in one line.
    """
    model = MODELS[options.model].build(options)
    table = read_table(options.data)
    data, weights = read_data(options, table)
    return _case(options, model, table, data, weights, check)


def another(options: argparse.Namespace, case: Case) -> Case:
    """The same data for the model of other options."""
    return _case(options, MODELS[options.model].build(options), case.table, case.data, case.weights, check=False)


def _case(options: argparse.Namespace, model: Any, table: Table, data: Any, weights: Any, check: bool) -> Case:
    if isinstance(model, catalogue.Sized):
        model = model.build(np.shape(data)[1])
    try:
        rows = jaxem.prepare(model, data, weights)
        if check:
            check_informative(rows, model.n_states)
        if options.prior == "weak":
            prior = jaxem.weak_prior(data, model.n_states, weights=weights)
            whole = hasattr(model, "n_components")
            model = dataclasses.replace(model, prior=prior if whole else prior.components)
    except (TypeError, ValueError) as error:  # the library's own checks of what it is given
        raise CommandError(f"{options.data}: {str(error).removeprefix('y: ')}") from error
    return Case(model, table, data, weights, rows)
