"""`jaxem select`: models of one kind with several numbers of components and covariances, fitted to a file and ranked."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from jaxem.commands.case import Case
from jaxem.commands.grid import add_grid, check_grid, fit_grid
from jaxem.commands.model_file import write_model
from jaxem.commands.options import add_case, add_command, add_quiet
from jaxem.commands.output import check_picture, check_targets, draw, need, writing
from jaxem.selection import Selection

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
    add_grid(parser)
    option = parser.add_argument_group("output").add_argument
    option("--output", type=Path, metavar="JSON", help="write the table as JSON")
    option("--save", type=Path, metavar="NPZ", help="save the chosen model for jaxem predict, jaxem sample and jaxem.load")
    option("--plot", type=Path, metavar="PICTURE", help="draw the criterion by number of components: .png, .pdf or .svg")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, ranks, writes, prints; the exit code."""
    grid = check_grid(options)
    _check(options)
    cases, found = fit_grid(options, grid)
    try:
        _write(options, grid, cases, found)
    finally:
        if not options.quiet:
            print(found)
    return 0 if found.best_index is not None else 1


def _check(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read."""
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
