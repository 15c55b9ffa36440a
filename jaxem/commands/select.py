"""`jaxem select`: models of one kind with several numbers of components and covariances, fitted to a file and ranked."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

from jaxem.catalogue import CommandError
from jaxem.commands.case import Case, another, check_case, load
from jaxem.commands.model_file import write_model
from jaxem.commands.options import add_case, add_command, add_quiet, add_stop, one_of, whole
from jaxem.commands.output import check_picture, check_targets, draw, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching
from jaxem.result import Stop
from jaxem.selection import Selection, select
from jaxem.selection.selection import CRITERIA

GRID = ("components", "states", "factors", "regimes", "order", "covariance")  # options that take several values
EXAMPLE = """example, which needs no file of yours:

  printf 'a,b\\n1,2\\n2,4\\n3,3\\n2,2\\n1,3\\n8,9\\n9,8\\n7,7\\n8,7\\n9,9\\n' > rows.csv
  jaxem select rows.csv --components 1-3 --covariance EII,VVI --save best.npz"""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "select", "data [options]", "fit models with several numbers of components or covariances, and choose",
        "Fit every combination of the values of --components, --covariance, --states, --factors, --order and --regimes, and rank "
        "the models by a criterion. Lower is better for all but cv_log_likelihood, the log-likelihood of rows held out. Columns "
        "and models are named as for jaxem fit.", EXAMPLE,
    )  # fmt: skip
    add_case(parser, several=True)
    option = parser.add_argument_group("selection").add_argument
    option("--criterion", **one_of(*CRITERIA), default="bic", help="what ranks models: %(choices)s (default: %(default)s)")
    option("--folds", type=whole(2), metavar="F", help="cross-validate every model with so many folds (default: do not)")
    option("--restarts", type=whole(1), metavar="R", default=10, help="random starts of each model (default: %(default)s)")
    add_stop(option, Stop().max_steps)
    option = parser.add_argument_group("output").add_argument
    option("--output", type=Path, metavar="JSON", help="write the table as JSON")
    option("--save", type=Path, metavar="NPZ", help="save the chosen model for jaxem predict, jaxem sample and jaxem.load")
    option("--plot", type=Path, metavar="PICTURE", help="draw the criterion by number of components: .png, .pdf or .svg")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, ranks, writes, prints; the exit code."""
    grid = _grid(options)
    for each in grid:
        check_case(each)
    _check(options)
    first = load(grid[0], check=False)  # what cannot be fitted is a row of the table
    cases = [first, *(another(each, first) for each in grid[1:])]
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with watching(not options.quiet) as watch, ended_by_interrupt(options.own_process):
        try:
            found = select(
                [case.model for case in cases], first.data, options.criterion, options.seed, options.restarts, options.folds,
                weights=first.weights, stop=stop, progress=watch and watch.selecting,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise CommandError(f"{options.data}: {str(error).removeprefix('y: ')}") from error
    try:
        _write(options, grid, cases, found)
    finally:
        if not options.quiet:
            print(found)
    return 0 if found.best_index is not None else 1


def _grid(options: argparse.Namespace) -> list[argparse.Namespace]:
    """Options of every model: all combinations of the values of those that take several."""
    given = {name: getattr(options, name) for name in GRID if getattr(options, name) is not None}
    chosen = [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
    return [argparse.Namespace(**{**vars(options), **each}) for each in chosen]


def _check(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read."""
    if options.criterion == "cv_log_likelihood" and options.folds is None:
        raise CommandError("--criterion cv_log_likelihood: needs a number of folds, for instance --folds 5")
    check_targets(options.data, {"--output": options.output, "--save": options.save, "--plot": options.plot})
    if options.plot is not None:
        need("matplotlib")
        check_picture(options.plot)


def _write(options: argparse.Namespace, grid: list[argparse.Namespace], cases: list[Case], found: Selection) -> None:
    """Writes what was asked for: all of it, or, where something fails, nothing. Without a chosen model none is saved."""
    best = found.best_index
    with writing() as stage:
        if options.output is not None:
            stage(options.output).write_text(json.dumps(_document(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if options.save is not None and best is not None:
            chosen = argparse.Namespace(**{**vars(grid[best]), "resolved": grid[0].resolved})
            write_model(stage(options.save), chosen, cases[best], found.best_fit)
        if options.plot is not None:
            from jaxem.plots.criteria import plot_criteria

            draw(plot_criteria(found).figure, stage(options.plot), options.plot)


def _document(found: Selection) -> dict[str, Any]:
    """The table as JSON values, in the order of the grid."""
    rows = [{name: _plain(value) for name, value in row._asdict().items()} for row in found.table]
    chosen = None if found.best_index is None else found.table[found.best_index].model
    return {
        "format": "jaxem-selection", "format_version": 1, "criterion": found.criterion, "n": found.n, "counts": found.unit,
        "folds": found.folds, "chosen": chosen, "models": rows,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A number that JSON knows: None where there is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
