"""`jaxem impute`: a file completed several times."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.catalogue import MODELS, CommandError, options_of
from jaxem.commands.case import Case, check_case, load
from jaxem.commands.options import add_case, add_command, add_quiet, add_stop, one_of, whole
from jaxem.commands.output import check_targets, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching
from jaxem.fit import fit
from jaxem.missing.drawing import check_draws
from jaxem.missing.frames import check_raw
from jaxem.missing.multiple import impute
from jaxem.missing.params_draws import METHODS
from jaxem.result import Status, Stop
from jaxem.settings import short_name
from jaxem.tables import ArrowTable, TextTable, is_parquet
from jaxem.view import View

RESTARTS = 20
DRAWS = 20
NUMBER = "imputation"
EXAMPLE = """example, which needs no file of yours:

  printf 'a,b\\n1,2\\n2,\\n3,5\\n8,9\\n9,8\\n7,7\\n4,4\\n,6\\n' > rows.csv
  jaxem impute rows.csv --model gaussian --draws 5 --method posterior -o completed.csv

Analyse each imputation by itself and put the results together by Rubin's
rules, as jaxem.pool does."""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "impute", "data -o FILE [options]", "fill in missing cells several times, as multiple imputation needs it",
        "Fit a model to a file and write completed copies of it, missing cells drawn at random given the others. All copies stand "
        "one after another in one file, told apart by a first column `imputation`: 1, 2, ...; with --draws 1 there is none.",
        EXAMPLE,
    )  # fmt: skip
    add_case(parser)
    option = parser.add_argument_group("imputation").add_argument
    option("--draws", type=whole(1), default=DRAWS, metavar="M", help="completed copies (default: %(default)s)")
    option(
        "--method", **one_of(*METHODS), default="bootstrap",
        help="how params are drawn for each copy: %(choices)s (default: %(default)s)",
    )  # fmt: skip
    option = parser.add_argument_group("fit").add_argument
    option("--restarts", type=whole(1), metavar="R", help=f"random starts (default: {RESTARTS}; 1 where starts are not random)")
    add_stop(option, Stop().max_steps)
    option = parser.add_argument_group("output").add_argument
    option("-o", "--output", type=Path, metavar="FILE", required=True, help="file to write: .csv or .parquet (needed)")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, imputes, writes; the exit code."""
    check_case(options)
    if is_parquet(options.output):
        need("pyarrow")
    check_targets(options.data, {"--output": options.output})
    case = load(options)
    if options.draws > 1 and NUMBER in case.table.names:
        raise CommandError(f"{options.data}: has a column {NUMBER!r}, which this command writes; rename it")
    try:
        view = check_raw(case.data, case.model)
        check_draws(case.model)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--model {options.model}: {error}") from error
    restarts = options.restarts or (RESTARTS if case.model.needs_key else 1)
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with watching(not options.quiet, short_name(case.model)) as watch, ended_by_interrupt(options.own_process):
        show = watch and watch.fitting
        fitted = fit(case.model, case.rows, key=options.seed, restarts=restarts, stop=stop, progress=show)
        if int(fitted.status) not in (Status.CONVERGED, Status.MAX_STEPS):
            raise CommandError(f"{options.data}: {Status(int(fitted.status)).sentence}")
        if watch is not None:
            watch.begin(f"{options.draws} imputations by {options.method.replace('_', ' ')}", "refits")
        try:
            found = impute(
                case.model, fitted.params, case.data, draws=options.draws, method=options.method, key=options.seed,
                weights=case.weights, progress=show,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            lacking = str(error).startswith("prior: ") and options.prior is None and "prior" in options_of(MODELS[options.model])
            remedy = " (on the command line: --prior weak)" if lacking else ""
            raise CommandError(f"--method {options.method}: {error}{remedy}") from error
    with writing() as stage:
        _stacked(options, case, view, [check_raw(each, case.model) for each in found]).write(
            stage(options.output), {}, is_parquet(options.output)
        )
    if not options.quiet:
        print(fitted.explain() if hasattr(fitted, "explain") else "", found, sep="\n")
    return 0


def _stacked(options: argparse.Namespace, case: Case, view: View, copies: list[View]) -> Any:
    """All completed copies of the table, one after another."""
    order = getattr(options, "row_order", None)
    back = slice(None) if order is None else np.argsort(order)  # rows of sequences stand by time
    tables = [_filled(case.table, view, copy, back) for copy in copies]
    if len(tables) == 1:
        return tables[0]
    if isinstance(case.table, TextTable):
        rows = [[str(number), *row] for number, table in enumerate(tables, 1) for row in table.rows]
        return TextTable([NUMBER, *case.table.names], rows, case.table.delimiter)
    import pyarrow

    whole_table = pyarrow.concat_tables([table.table for table in tables])
    numbers = pyarrow.array(np.repeat(np.arange(1, len(tables) + 1), view.n))
    return ArrowTable(whole_table.add_column(0, NUMBER, numbers))


def _filled(table: Any, view: View, copy: View, back: Any) -> Any:
    """The table with missing cells replaced by those of `copy`: labels where cells are labels, else numbers in full."""
    gone, values = np.isnan(view.y)[back], copy.y[back]
    if isinstance(table, TextTable):
        rows = [list(row) for row in table.rows]
        for j, name in enumerate(view.columns):
            place = table.names.index(name)
            for i in np.flatnonzero(gone[:, j]):
                rows[i][place] = _text(view, j, values[i, j])
        return TextTable(table.names, rows, table.delimiter)
    import pyarrow

    out = table.table
    for j, name in enumerate(view.columns):
        if not gone[:, j].any():
            continue
        cells = out.column(name).to_pylist()
        for i in np.flatnonzero(gone[:, j]):
            cells[i] = _text(view, j, values[i, j]) if view.labels and view.labels[j] else float(values[i, j])
        out = out.set_column(out.column_names.index(name), name, pyarrow.array(cells))
    return ArrowTable(out)


def _text(view: View, j: int, value: float) -> str:
    if view.labels is not None and view.labels[j] is not None:
        return view.labels[j][int(value)]  # type: ignore[index]
    return repr(float(value))
