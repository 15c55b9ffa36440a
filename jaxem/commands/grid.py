"""Models of one kind with several numbers of components and covariances: what commands that choose among models share."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from jaxem.catalogue import CommandError
from jaxem.commands.case import Case, another, check_case, load
from jaxem.commands.options import add_starts, add_stop, one_of, search_of, whole
from jaxem.commands.output import ended_by_interrupt
from jaxem.commands.progress import watching
from jaxem.result import Stop
from jaxem.selection import Selection, select
from jaxem.selection.selection import CRITERIA

RESTARTS = 10
GRID = ("components", "states", "factors", "regimes", "order", "covariance")  # options that take several values


def add_grid(parser: argparse.ArgumentParser) -> None:
    """The options beside those of the models."""
    option: Any = parser.add_argument_group("selection").add_argument
    option("--criterion", **one_of(*CRITERIA), default="bic", help="what ranks models: %(choices)s (default: %(default)s)")
    option("--folds", type=whole(2), metavar="F", help="cross-validate every model with so many folds (default: do not)")
    add_starts(option, f"{RESTARTS} of each model")
    add_stop(option, Stop().max_steps)


def grid_of(options: argparse.Namespace) -> list[argparse.Namespace]:
    """Options of every model: all combinations of the values of those that take several."""
    given = {name: getattr(options, name) for name in GRID if getattr(options, name) is not None}
    chosen = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
    return [argparse.Namespace(**{**vars(options), **each}) for each in chosen]


def check_grid(options: argparse.Namespace) -> list[argparse.Namespace]:
    """The same, with what can be known to fail before the data are read.

    Raises:
        CommandError: options that do not go together.
    """
    if options.criterion == "cv_log_likelihood" and options.folds is None:
        raise CommandError("--criterion cv_log_likelihood: needs a number of folds, for instance --folds 5")
    search_of(options)
    grid = grid_of(options)
    for each in grid:
        check_case(each)
    return grid


def fit_grid(options: argparse.Namespace, grid: list[argparse.Namespace]) -> tuple[list[Case], Selection]:
    """Reads the file and fits every model; one that cannot be fitted is a row of the table."""
    first = load(grid[0], check=False)
    cases = [first, *(another(each, first) for each in grid[1:])]
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with watching(not options.quiet) as watch, ended_by_interrupt(options.own_process):
        try:
            found = select(
                [case.model for case in cases], first.data, options.criterion, options.seed, options.restarts or RESTARTS,
                options.folds, weights=first.weights, stop=stop, search=search_of(options), progress=watch and watch.selecting,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise CommandError(f"{options.data}: {str(error).removeprefix('y: ')}") from error
    return cases, found
