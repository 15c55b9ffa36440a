"""The command line: `jaxem fit`, `jaxem models` and `jaxem demo`.

Exit codes: 0 done; 1 the fit ended neither converged nor at its step limit (all output is written nevertheless); 2 bad
input, told in one line on stderr; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

import jaxem
from jaxem import catalogue, report
from jaxem.catalogue import DISTRIBUTIONS, MODELS, ROTATIONS, CommandError, flag
from jaxem.checks import check_informative
from jaxem.columns import read_data
from jaxem.document import document
from jaxem.families.gaussian import COVARIANCES
from jaxem.fit import Progress, fit
from jaxem.result import Fit, Status, Stop
from jaxem.tables import Table, TableError, check_target, is_parquet, read_table, staged
from jaxem.view import view_of

RESTARTS = 20
EXTRA = 'pip install "jaxem[cli]"'
EXAMPLE = """examples, which need no file of yours:

  jaxem demo
  printf 'a,b\\n1,2\\n2,\\n3,5\\n8,9\\n9,8\\n7,7\\n' > rows.csv
  jaxem fit rows.csv --model gaussian --impute full.csv
  jaxem fit rows.csv --model mixture --family poisson --components 2 --plot fit.png

jaxem models lists the models and the options that each takes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line on `arguments` (default: those of the process) and returns the exit code.

    Turns on float64 for the process.
    """
    jax.config.update("jax_enable_x64", True)
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:  # what is compiled once serves the next command
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(folder, "jaxem"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    try:
        options = _parser().parse_args(arguments)
        options.own_process = arguments is None
        code = options.run(options)
        sys.stdout.flush()
        return code
    except (CommandError, TableError) as error:
        print(f"jaxem: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone
        _drop_stdout()
        return 1
    except OSError as error:
        _drop_stdout()
        print(f"jaxem: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _drop_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxem", description="Expectation-maximization on JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"jaxem {jaxem.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="fit|models|demo", dest="command")
    demo = commands.add_parser("demo", help="fit, describe and draw the mini-project", allow_abbrev=False)
    demo.add_argument("--output", type=Path, default=Path("jaxem-demo.png"), metavar="PNG", help="picture (default: %(default)s)")
    demo.set_defaults(run=_run_demo)
    listed = commands.add_parser("models", help="list the models, and the options that each takes", allow_abbrev=False)
    listed.set_defaults(run=_run_models)
    texts: dict[str, Any] = {"epilog": EXAMPLE, "formatter_class": argparse.RawDescriptionHelpFormatter}
    _add_fit(commands.add_parser("fit", help="fit a model to a CSV or Parquet file", allow_abbrev=False, **texts))
    return parser


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.description = "Fit a model to columns of a CSV or Parquet file. Empty cells, NA and NaN are missing."
    add = parser.add_argument
    add("data", type=Path, help="CSV (with a header) or Parquet file")
    add("--model", choices=MODELS, metavar="NAME", default="gaussian-mixture", help="see jaxem models (default: %(default)s)")
    add = parser.add_argument_group("columns").add_argument
    add("--columns", type=_names, metavar="A,B", help="columns to fit (default: all that no other option names)")
    add("--response", metavar="COLUMN", help="response of a regression")
    add("--covariates", type=_names, metavar="A,B", help="covariates; text becomes indicators of its labels (default: all others)")
    add("--gate", type=_names, metavar="A,B", help="covariates of the shares of a mixture of experts, or of transitions")
    add("--offset", metavar="COLUMN", help="known part of the linear predictor")
    add("--time", metavar="COLUMN", help="times until an event")
    add("--event", metavar="COLUMN", help="1 where the event was seen, 0 where the time is censored (default: all seen)")
    add("--lower-column", metavar="COLUMN", help="lower ends of interval-censored times; empty is none")
    add("--upper-column", metavar="COLUMN", help="upper ends; empty or inf is none")
    add("--entry", metavar="COLUMN", help="times of late entry (left truncation)")
    add("--sequence-column", metavar="COLUMN", help="which sequence a row belongs to, in a model of time (default: all to one)")
    add("--time-column", metavar="COLUMN", help="numbers that order the rows of a sequence (default: as they stand)")
    add("--weights", metavar="COLUMN", help="row weights, each >= 0; in a model of time one value a sequence")
    add = parser.add_argument_group("model").add_argument
    add("--components", type=_whole(1), metavar="K", help="number of components; needed for a mixture")
    add("--family", metavar="NAME", help="what a row looks like given its component")
    add("--covariance", choices=COVARIANCES, help="of Gaussians (default: full)")
    add("--factors", type=_whole(1), metavar="Q", help="number of factors")
    add("--regimes", type=_whole(1), metavar="K", help="number of regimes of a switching autoregression")
    add("--order", type=_whole(1), metavar="P", help="number of lags of an autoregression")
    add("--switching", type=_names, metavar="A,B", help="what each regime has: mean, coefficients, variance (default: mean)")
    add("--parametrisation", choices=("mean", "intercept"), help="of a switching autoregression (default: mean)")
    add("--states", type=_whole(1), metavar="N", help="number of hidden states of a model of time")
    add("--initial", choices=("free", "stationary"), help="distribution of first hidden states (default: free)")
    add("--covariance-of", type=_whole(1), metavar="N", help="the file holds a covariance or correlation matrix of N rows")
    add("--rotation", choices=ROTATIONS, help="of the loadings (default: as the model says)")
    add("--distribution", choices=DISTRIBUTIONS, help="of survival times (default: weibull)")
    add("--left", type=_limit, metavar="L", help="lower limit of the response (default: 0 where --right is not given)")
    add("--right", type=_limit, metavar="R", help="upper limit of the response")
    add("--no-intercept", action="store_true", default=None, help="the regression has no intercept")
    add("--option", type=_setting, action="append", metavar="NAME=VALUE", help="any other setting of the family; repeatable")
    add("--prior", choices=("weak",), help="a weak prior, under which no Gaussian component can collapse")
    add = parser.add_argument_group("fit").add_argument
    add("--restarts", type=_whole(1), metavar="R", help=f"random starts (default: {RESTARTS}; 1 where starts are not random)")
    add("--seed", type=_whole(0), default=0, help="default: %(default)s")
    add("--max-steps", type=_whole(1), default=Stop().max_steps, metavar="N", help="default: %(default)s")
    add("--tolerance", type=_tolerance, default=Stop().tolerance, metavar="T", help="estimated gain left (default: %(default)s)")
    add = parser.add_argument_group("output").add_argument
    add("--output", type=Path, metavar="JSON", help="write the fit")
    add("--plot", type=Path, metavar="PICTURE", help="draw the fit: .png, .pdf or .svg")
    add("--impute", type=Path, metavar="FILE", help="write the data with missing cells filled: .csv or .parquet")
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=_run_fit)


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) < 2**31):
            raise argparse.ArgumentTypeError(f"found {text!r}; give a whole number from {least} to {2**31 - 1}")
        return int(text)

    return parse


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value < np.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; give a number >= 0")
    return value


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text!r}; give a number")
    return value


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise argparse.ArgumentTypeError(f"found {text!r}; give NAME=VALUE")
    return name.strip().replace("-", "_"), catalogue.value_of(value.strip())


def _names(text: str) -> list[str]:
    """Names between commas; quotes keep a comma within a name."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


# commands


def _run_demo(options: argparse.Namespace) -> int:
    from jaxem import demo

    _need("matplotlib")
    _check_picture(options.output)
    with _progress(True) as show, _ended_by_interrupt(options.own_process):
        done = demo.run(show)
    print(done.account())
    with _writing() as stage:
        _draw(stage(options.output), options.output, done.model, done.fit, done.y, names=demo.NAMES, truth=demo.GENERATING)
    print(f"Picture: {options.output}")
    return 0


def _run_models(options: argparse.Namespace) -> int:
    del options
    print(catalogue.listing())
    return 0


def _run_fit(options: argparse.Namespace) -> int:
    _check_options(options)
    model = MODELS[options.model].build(options)
    table = read_table(options.data)
    data, weights = read_data(options, table)
    if isinstance(model, catalogue.Sized):
        model = model.build(np.shape(data)[1])
    model, rows = _prepare(options, model, data, weights)
    restarts = options.restarts or (RESTARTS if model.needs_key else 1)
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with _progress(not options.quiet) as show, _ended_by_interrupt(options.own_process):
        fitted = fit(model, rows, key=options.seed, restarts=restarts, stop=stop, progress=show)
    try:
        _write(options, table, model, fitted, rows, data, weights)
    finally:  # a full disk is no reason to keep the result back
        if not options.quiet:
            print(report.summarize(model, fitted, data, weights=weights))
            tells = MODELS[options.model].tells
            if tells is not None:
                print("", tells(model, fitted.params, rows), sep="\n")
    return 0 if int(fitted.status) in (Status.CONVERGED, Status.MAX_STEPS) else 1


def _check_options(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read or minutes are spent on a fit."""
    _need("pandas")
    if is_parquet(options.data) or (options.impute and is_parquet(options.impute)):
        _need("pyarrow")
    catalogue.check_options(options)
    targets = [path for path in (options.output, options.plot, options.impute) if path is not None]
    resolved = [path.resolve() for path in targets]
    if len(set(resolved)) < len(resolved) or options.data.resolve() in resolved:
        raise CommandError("--output, --plot, --impute: each needs a file of its own, and not that of the data")
    for path in targets:
        check_target(path)
    if options.plot is not None:
        _need("matplotlib")
        _check_picture(options.plot)


def _prepare(options: argparse.Namespace, model: Any, data: Any, weights: Any) -> tuple[Any, Any]:
    """The model with its prior, and the prepared rows."""
    try:
        rows = jaxem.prepare(model, data, weights)
        check_informative(rows, model.n_states)
        if options.prior == "weak":
            prior = jaxem.weak_prior(data, model.n_states, weights=weights)
            whole = hasattr(model, "n_components")
            model = dataclasses.replace(model, prior=prior if whole else prior.components)
    except (TypeError, ValueError) as error:  # the library's own checks of what it is given
        raise CommandError(f"{options.data}: {str(error).removeprefix('y: ')}") from error
    if options.impute is not None:
        _check_imputable(options, model, rows)
    return model, rows


def _check_imputable(options: argparse.Namespace, model: Any, rows: Any) -> None:
    """Raises CommandError before the fit where the model fills in nothing."""
    try:
        jax.eval_shape(lambda: model.impute(model.init(0, rows), rows))
    except (AttributeError, TypeError) as error:
        raise CommandError(f"--impute: --model {options.model} does not fill in missing cells; leave it out") from error


# output


def _write(options: argparse.Namespace, table: Table, model: Any, fitted: Fit, rows: Any, data: Any, weights: Any) -> None:
    """Writes what was asked for: all of it, or, where something fails, nothing."""
    with _writing() as stage:
        if options.output is not None:
            content = {**document(model, fitted, data, weights=weights), **_settings(options)}
            text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
            stage(options.output).write_text(text + "\n", encoding="utf-8")
        if options.impute is not None:
            filled = np.asarray(model.impute(fitted.params, rows))
            if getattr(options, "row_order", None) is not None:  # rows of sequences stand by time
                filled = filled[np.argsort(options.row_order)]
            columns = {name: filled[:, j] for j, name in enumerate(view_of(data, model=model).columns)}
            table.write(stage(options.impute), columns, is_parquet(options.impute))
        if options.plot is not None:
            _draw(stage(options.plot), options.plot, model, fitted, data, weights=weights)


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


def _draw(temporary: Path, path: Path, model: Any, fitted: Fit, data: Any, **keywords: Any) -> None:
    from jaxem.plot import figure_overview

    figure_overview(model, fitted, data, **keywords).savefig(temporary, format=_picture_format(path))


@contextmanager
def _writing() -> Iterator[Callable[[Path], Path]]:
    """`staged`, with a failure of the disk told in one line."""
    try:
        with staged() as stage:
            yield stage
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {error.filename or 'the output'}: {error.strerror or error}") from error


def _check_picture(path: Path) -> None:
    if _picture_format(path) not in ("png", "pdf", "svg"):
        raise CommandError(f"{path}: unknown kind of picture; end it in .png, .pdf or .svg")
    check_target(path)


def _picture_format(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A callback for `fit` that shows one moving line; None where nobody watches."""
    if not (wanted and sys.stderr.isatty() and sys.stdout.isatty()):
        yield None
        return
    _need("rich")
    from rich.console import Console

    with Console(stderr=True).status("compiling") as line:
        yield lambda now: line.update(_moving(now))


@contextmanager
def _ended_by_interrupt(own_process: bool) -> Iterator[None]:
    """Ctrl-C ends the process at once: an exception could get lost in a callback of the compiler, or crash its teardown."""

    def end(*_: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # show the cursor, which the moving line hides
            sys.stderr.flush()
        os._exit(130)

    if not own_process:
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _moving(now: Progress) -> str:
    done = f"step {now.steps}, {now.finished} of {now.lanes} restarts done"
    return f"{done}, log-likelihood {now.objective:.4f}, left to gain {now.gap:.1e}"


def _need(package: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CommandError(f"{package} is not installed: {EXTRA}") from error


if __name__ == "__main__":
    sys.exit(main())
