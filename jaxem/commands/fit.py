"""`jaxem fit`: a model fitted to a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxem
from jaxem import catalogue
from jaxem.catalogue import MODELS, CommandError, flag
from jaxem.commands.case import Case, check_case, load
from jaxem.commands.model_file import write_model
from jaxem.commands.options import add_case, add_command, add_quiet, add_starts, add_stop, search_of
from jaxem.commands.output import check_picture, check_targets, draw, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching
from jaxem.commands.standard_errors import Told, add_errors, check_errors, check_possible, tell_errors
from jaxem.document import document
from jaxem.fit import fit
from jaxem.result import Fit, Status, Stop
from jaxem.settings import short_name
from jaxem.summary import summarize
from jaxem.tables import is_parquet
from jaxem.view import view_of

RESTARTS = 20
EXAMPLE = """examples, which need no file of yours:

  jaxem demo
  printf 'a,b\\n1,2\\n2,\\n3,5\\n8,9\\n9,8\\n7,7\\n' > rows.csv
  jaxem fit rows.csv --model gaussian --impute full.csv
  jaxem fit rows.csv --model mixture --family poisson --components 2 --plot fit.png
  jaxem fit rows.csv --model gaussian --se oakes

jaxem models lists the models and the options that each takes."""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "fit", "data [options]", "fit a model to a CSV or Parquet file",
        "Fit a model to columns of a CSV or Parquet file from several random starts, and tell the best fit. Empty cells, NA and "
        "NaN are missing.", EXAMPLE,
    )  # fmt: skip
    add_case(parser)
    option = parser.add_argument_group("fit").add_argument
    add_starts(option, f"{RESTARTS}; 1 where starts are not random")
    add_stop(option, Stop().max_steps)
    add_errors(parser)
    option = parser.add_argument_group("output").add_argument
    option("--output", type=Path, metavar="JSON", help="write the fit as JSON")
    option("--save", type=Path, metavar="NPZ", help="save the model for jaxem predict, jaxem sample and jaxem.load")
    option("--plot", type=Path, metavar="PICTURE", help="draw the fit: .png, .pdf or .svg")
    option("--impute", type=Path, metavar="FILE", help="write the data with missing cells filled: .csv or .parquet")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, writes, prints; the exit code."""
    _check(options)
    case = load(options)
    if options.impute is not None:
        _check_imputable(options, case.model, case.rows)
    check_possible(options, case)
    starts = _starts(options, case)
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with watching(not options.quiet, short_name(case.model)) as watch, ended_by_interrupt(options.own_process):
        fitted = fit(case.model, case.rows, key=options.seed, stop=stop, progress=watch and watch.fitting, **starts)
    told = Told(fitted, None, None, "")
    try:
        if options.se is not None:
            with watching(not options.quiet) as watch, ended_by_interrupt(options.own_process):
                told = tell_errors(options, case, fitted, watch)
        _write(options, case, told)
    finally:  # a full disk is no reason to keep the result back
        if not options.quiet:
            _print(options, case, told)
    return 0 if int(fitted.status) in (Status.CONVERGED, Status.MAX_STEPS) else 1


def _starts(options: argparse.Namespace, case: Case) -> dict[str, Any]:
    """Random starts, or a search that the model allows."""
    search = search_of(options)
    if search is None:
        return {"restarts": options.restarts or (RESTARTS if case.model.needs_key else 1)}
    try:
        search.check(case.model, None)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--search {options.search}: {str(error).removeprefix('search: ')}") from error
    return {"search": search}


def _print(options: argparse.Namespace, case: Case, told: Told) -> None:
    """The account of the fit."""
    print(summarize(case.model, told.fit, case.data, weights=case.weights, certificate=told.certificate))
    tells = MODELS[options.model].tells
    if tells is not None:
        print("", tells(case.model, told.fit.params, case.rows), sep="\n")
    if str(told):
        print("", told, sep="\n")


def _check(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read or minutes are spent on a fit."""
    check_case(options)
    check_errors(options)
    if options.impute and is_parquet(options.impute):
        need("pyarrow")
    targets = {"--output": options.output, "--save": options.save, "--plot": options.plot, "--impute": options.impute}
    check_targets(options.data, targets)
    if options.plot is not None:
        need("matplotlib")
        check_picture(options.plot)


def _check_imputable(options: argparse.Namespace, model: Any, rows: Any) -> None:
    """Raises CommandError before the fit where the model fills in nothing."""
    try:
        jax.eval_shape(lambda: model.impute(model.init(0, rows), rows))
    except (AttributeError, TypeError) as error:
        raise CommandError(f"--impute: --model {options.model} does not fill in missing cells; leave it out") from error


def _write(options: argparse.Namespace, case: Case, told: Told) -> None:
    """Writes what was asked for: all of it, or, where something fails, nothing."""
    fitted = told.fit
    with writing() as stage:
        if options.output is not None:
            content = document(
                case.model, fitted, case.data, weights=case.weights, inference=told.inference, certificate=told.certificate
            )
            content.update(_settings(options))
            text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
            stage(options.output).write_text(text + "\n", encoding="utf-8")
        if options.save is not None:
            write_model(stage(options.save), options, case, fitted)
        if options.impute is not None:
            filled = np.asarray(case.model.impute(fitted.params, case.rows))
            if getattr(options, "row_order", None) is not None:  # rows of sequences stand by time
                filled = filled[np.argsort(options.row_order)]
            columns = {name: filled[:, j] for j, name in enumerate(view_of(case.data, model=case.model).columns)}
            case.table.write(stage(options.impute), columns, is_parquet(options.impute))
        if options.plot is not None:
            draw_overview(stage(options.plot), options.plot, case.model, fitted, case.data, weights=case.weights)


def draw_overview(temporary: Path, path: Path, model: Any, fitted: Fit, data: Any, **keywords: Any) -> None:
    """The overview of a fit as a picture of the kind that `path` says."""
    from jaxem.plot import figure_overview

    draw(figure_overview(model, fitted, data, **keywords), temporary, path)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line adds to `document`."""
    chosen = {name: getattr(options, name) for name in catalogue.options_of(MODELS[options.model])}
    return {
        "command_model": options.model,
        "options": {flag(name): value for name, value in chosen.items() if value is not None},
        "jaxem_version": jaxem.__version__,
        "data": str(options.data),
        "weights_column": options.weights,
        "prior": options.prior,
        "seed": options.seed,
        "max_steps": options.max_steps,
        "tolerance": options.tolerance,
    }
