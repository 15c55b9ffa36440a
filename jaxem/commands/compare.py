"""`jaxem compare`: algorithms side by side on a file."""

from __future__ import annotations

import argparse
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax

from jaxem import algorithms
from jaxem.algorithms import Algorithm, gradient
from jaxem.catalogue import CommandError
from jaxem.commands.case import check_case, load
from jaxem.commands.options import add_case, add_command, add_quiet, add_stop, names, whole
from jaxem.commands.output import check_picture, check_targets, draw, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching
from jaxem.compare import Comparison, compare
from jaxem.result import Stop

STEPS = 10_000
RATE = 0.05  # of optimisers that are given none
DEFAULT = "em,squarem,anderson,lbfgs,adam"
EXAMPLE = """example, which needs no file of yours:

  printf 'count,days\\n0,162\\n1,267\\n2,271\\n3,185\\n4,111\\n5,61\\n6,27\\n7,8\\n8,3\\n9,1\\n' > deaths.csv
  jaxem compare deaths.csv --model mixture --family poisson --components 2 --weights days --plot race.png

An optimiser takes a learning rate: adam:0.01."""

OPTIMISERS: dict[str, Callable[[float], Any]] = {"adam": optax.adam, "sgd": optax.sgd}


def plain() -> tuple[str, ...]:
    """Names of the algorithms that can be called without an argument."""
    found = []
    for name in algorithms.__all__:
        make = getattr(algorithms, name)
        if isinstance(make, type):
            continue
        if all(each.default is not each.empty for each in inspect.signature(make).parameters.values()):
            found.append(name)
    return tuple(found)


def algorithm_named(text: str) -> Algorithm:
    """The algorithm of a name, "squarem", or of an optimiser with its learning rate, "adam:0.01".

    Raises:
        CommandError: no such name, or no such rate.
    """
    name, colon, rate = text.partition(":")
    name = name.strip().replace("-", "_")
    if name in OPTIMISERS:
        try:
            value = float(rate) if colon else RATE
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise CommandError(f"--algorithms: found {text!r}; a learning rate is a number above 0, as adam:0.05")
        return _optimiser(name, value)
    if name not in plain() or colon:
        raise CommandError(f"--algorithms: unknown algorithm {text!r}; there are {', '.join((*plain(), *OPTIMISERS))}")
    return getattr(algorithms, name)()


def _optimiser(name: str, rate: float) -> Algorithm:
    return gradient(OPTIMISERS[name](rate))


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "compare", "data [options]", "run several algorithms from one start and tell their cost",
        "Fit a model to a file by several algorithms from one start: how near each comes to the best log-likelihood of all, in "
        "passes over the data and in seconds, compilation apart. Columns and models are named as for jaxem fit.", EXAMPLE,
    )  # fmt: skip
    add_case(parser)
    option = parser.add_argument_group("comparison").add_argument
    known = ", ".join((*plain(), *OPTIMISERS))
    option("--algorithms", type=names, default=names(DEFAULT), metavar="A,B", help=f"some of {known} (default: {DEFAULT})")
    option("--budget", type=whole(1), metavar="N", help="passes over the data after which each ends (default: none)")
    add_stop(option, STEPS)
    option = parser.add_argument_group("output").add_argument
    option("--output", type=Path, metavar="JSON", help="write the table as JSON")
    option("--plot", type=Path, metavar="PICTURE", help="draw gap against passes and seconds: .png, .pdf or .svg")
    add_quiet(option)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compares, writes, prints; the exit code."""
    if not options.algorithms or len(set(options.algorithms)) < len(options.algorithms):
        given = ",".join(options.algorithms) or "none"
        raise CommandError(f"--algorithms: found {given}; name different algorithms, as em,squarem")
    chosen = {name: algorithm_named(name) for name in options.algorithms}
    _check(options)
    case = load(options)
    stop = Stop(options.tolerance, max_steps=options.max_steps)
    with watching(not options.quiet) as watch, ended_by_interrupt(options.own_process):
        found = compare(
            case.model, case.rows, chosen, key=options.seed, stop=stop, budget=options.budget,
            progress=watch and watch.comparing,
        )  # fmt: skip
    try:
        _write(options, found)
    finally:
        if not options.quiet:
            print(found)
    return 0 if any(trial.fit is not None and trial.status in ("CONVERGED", "MAX_STEPS") for trial in found.trials) else 1


def _check(options: argparse.Namespace) -> None:
    """What can be known to fail before the data are read."""
    check_case(options)
    check_targets(options.data, {"--output": options.output, "--plot": options.plot})
    if options.plot is not None:
        need("matplotlib")
        check_picture(options.plot)


def _write(options: argparse.Namespace, found: Comparison) -> None:
    """Writes what was asked for: all of it, or, where something fails, nothing."""
    with writing() as stage:
        if options.output is not None:
            plain = [{name: _plain(value) for name, value in record.items()} for record in found.records()]
            text = json.dumps({"within": found.within, "best": _plain(found.best), "runs": plain}, indent=1, allow_nan=False)
            stage(options.output).write_text(text + "\n", encoding="utf-8")
        if options.plot is not None:
            from jaxem.plots.comparison import figure_comparison

            draw(figure_comparison(found), stage(options.plot), options.plot)


def _plain(value: Any) -> Any:
    """A number that JSON knows: None where there is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
