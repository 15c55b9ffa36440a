"""`jaxem report`: one model or the best of several, fitted to a file and told as a page of HTML."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from jaxem.catalogue import CommandError
from jaxem.commands.case import Case
from jaxem.commands.grid import add_grid, check_grid, fit_grid
from jaxem.commands.options import add_case, add_command, add_quiet
from jaxem.commands.output import check_targets, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching
from jaxem.commands.standard_errors import Told, add_errors, check_errors, check_possible, tell_errors
from jaxem.evidence import COUNTED
from jaxem.result import Fit, Status
from jaxem.selection import Selection

EXAMPLE = """example, which needs no file of yours:

  printf 'a,b\\n1,2\\n2,4\\n3,\\n2,2\\n1,3\\n8,9\\n9,8\\n7,7\\n8,7\\n9,9\\n' > rows.csv
  jaxem report rows.csv --components 1-2 --covariance EEI -o report.html"""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "report", "data [options]", "fit one model or several, and tell the best as a page with tables and pictures",
        "Fit every combination of the values of --components, --covariance and so on, choose one by a criterion, and write a page "
        "of HTML that stands alone: the data and their holes, the models tried, the estimates with intervals, whether this is the "
        "maximum, how well the model fits, what to distrust. Columns and models are named as for jaxem fit.", EXAMPLE,
    )  # fmt: skip
    add_case(parser, several=True)
    add_grid(parser)
    add_errors(parser, default="oakes")
    option = parser.add_argument_group("output").add_argument
    option("-o", "--output", type=Path, metavar="HTML", default=Path("report.html"), help="where to (default: %(default)s)")
    option("--title", metavar="TEXT", help="of the page (default: the model in words)")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, chooses, writes; the exit code."""
    from jaxem.report import report

    check_errors(options)
    grid = check_grid(options)
    check_targets(options.data, {"--output": options.output})
    need("matplotlib")
    cases, found = fit_grid(options, grid)
    place = 0 if found.best_index is None else found.best_index
    case, fitted = cases[place], found.fits[place]
    if fitted is None or (found.best_index is None and len(cases) > 1):
        print(found)
        raise CommandError(f"{options.data}: no model could be fitted, and so there is nothing to report")
    told = _errors(options, case, fitted)
    page = report(
        told.fit, case.model, case.data, weights=case.weights, selection=_several(found), inference=told.inference,
        certificate=told.certificate, title=options.title, made=shlex.join(["jaxem", *options.typed]), key=options.seed,
    )  # fmt: skip
    with writing() as stage:
        stage(options.output).write_text(page.html, encoding="utf-8")
    if not options.quiet:
        print(f"{found.table[place].model}: {told.fit.explain()}")
        print(f"{options.output}: written")
    return 0 if int(told.fit.status) in (Status.CONVERGED, Status.MAX_STEPS) else 1


def _errors(options: argparse.Namespace, case: Case, fitted: Fit) -> Told:
    """Standard errors and certificate, where they can be made; polished where the fit had stopped too early for them."""
    if case.model.n_parameters(case.rows) > COUNTED:
        return Told(fitted, None, None, "")
    check_possible(options, case)
    with watching(not options.quiet) as watch, ended_by_interrupt(options.own_process):
        return tell_errors(options, case, fitted, watch)


def _several(found: Selection) -> Selection | None:
    return found if len(found.table) > 1 else None
