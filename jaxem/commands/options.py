"""Options that commands share: which columns, which model, and how texts become values."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxem import catalogue
from jaxem.catalogue import DISTRIBUTIONS, MODELS, ROTATIONS, CommandError
from jaxem.families.gaussian_shapes import SHAPES, WORDS
from jaxem.multi_start import Search, hierarchical, split_and_merge, successive_halving
from jaxem.result import Stop

COVARIANCES = (*WORDS, *SHAPES)
SEARCHES: dict[str, Callable[[], Search]] = {
    "halving": successive_halving, "split-and-merge": split_and_merge, "hierarchical": hierarchical,
}  # fmt: skip


class Layout(argparse.HelpFormatter):
    """Descriptions in lines of the terminal's width; texts of several lines, as examples are, as they stand."""

    def __init__(self, prog: str, **keywords: Any):
        super().__init__(prog, **{"max_help_position": 28, **keywords})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        whole_lines = "\n" in text
        return "".join(indent + line for line in text.splitlines(True)) if whole_lines else super()._fill_text(text, width, indent)


def add_command(commands: Any, name: str, usage: str, brief: str, description: str, example: str) -> argparse.ArgumentParser:
    """A command: its line in the list of all, and its help with an example that runs as it stands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, usage=f"%(prog)s {usage}".strip(), help=brief, description=description, epilog=example, allow_abbrev=False,
        formatter_class=Layout,
    )  # fmt: skip
    return parser


def add_quiet(add: Callable[..., Any]) -> None:
    """The option of all commands that tell something."""
    add("--quiet", action="store_true", help="print nothing but errors")


def add_case(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """The file, its columns and the model, or `several` models: counts and covariances are then tuples of values."""
    count, many = (counts, " (or several: 1-8, or 1,2,4)") if several else (whole(1), "")
    add = parser.add_argument
    add("data", type=Path, help="CSV (with a header) or Parquet file")
    add("--model", choices=MODELS, metavar="NAME", default="gaussian-mixture", help="see jaxem models (default: %(default)s)")
    add = parser.add_argument_group("columns").add_argument
    add("--columns", type=names, metavar="A,B", help="columns to fit (default: all that no other option names)")
    add("--response", metavar="COLUMN", help="response of a regression")
    add("--covariates", type=names, metavar="A,B", help="covariates; text becomes indicators of its labels (default: all others)")
    add("--gate", type=names, metavar="A,B", help="covariates of the shares of a mixture of experts, or of transitions")
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
    add("--components", type=count, metavar="K", help=f"number of components; a mixture needs it{many}")
    add("--family", metavar="NAME", help="what a row looks like given its component: see jaxem models")
    told = f"of Gaussians: {', '.join(WORDS)}, or a name of mclust, as VEV (default: full)"
    if several:
        add("--covariance", type=covariances, metavar="C", help=f"{told}; several between commas, or all")
    else:
        add("--covariance", choices=COVARIANCES, metavar="C", help=told)
    add("--factors", type=count, metavar="Q", help=f"number of factors{many}")
    add("--regimes", type=count, metavar="K", help=f"number of regimes of a switching autoregression{many}")
    add("--order", type=count, metavar="P", help=f"number of lags of an autoregression{many}")
    add("--switching", type=names, metavar="A,B", help="what each regime has: mean, coefficients, variance (default: mean)")
    add("--parametrisation", **one_of("mean", "intercept"), help="of a switching autoregression: %(choices)s (default: mean)")
    add("--states", type=count, metavar="N", help=f"number of hidden states of a model of time{many}")
    add("--initial", **one_of("free", "stationary"), help="distribution of first hidden states: %(choices)s (default: free)")
    add("--covariance-of", type=whole(1), metavar="N", help="the file holds a covariance or correlation matrix of N rows")
    add("--rotation", **one_of(*ROTATIONS), help="of the loadings: %(choices)s (default: as the model says)")
    add("--distribution", **one_of(*DISTRIBUTIONS), help="of survival times: %(choices)s (default: weibull)")
    add("--left", type=limit, metavar="L", help="lower limit of the response (default: 0 where --right is not given)")
    add("--right", type=limit, metavar="R", help="upper limit of the response")
    add("--no-intercept", action="store_true", default=None, help="the regression has no intercept")
    add("--option", type=setting, action="append", metavar="NAME=VALUE", help="any other setting of the family; repeatable")
    add("--prior", **one_of("weak"), help="weak: under which no Gaussian component can collapse (default: none)")


def add_starts(add: Callable[..., Any], default: str) -> None:
    """How starts are found: drawn at random, or by a search of its own."""
    add("--restarts", type=whole(1), metavar="R", help=f"random starts (default: {default})")
    add("--search", **one_of(*SEARCHES), help="find starts by %(choices)s, in place of --restarts (default: do not)")


def search_of(options: argparse.Namespace) -> Search | None:
    """What `--search` names, None where nothing.

    Raises:
        CommandError: `--restarts` beside it.
    """
    if options.search is None:
        return None
    if options.restarts is not None:
        raise CommandError("--restarts: --search finds its own starts; leave one of them out")
    return SEARCHES[options.search]()


def add_stop(add: Callable[..., Any], max_steps: int) -> None:
    """When a fit ends, and the seed of what is random."""
    add_seed(add)
    add("--max-steps", type=whole(1), default=max_steps, metavar="N", help="steps after which a fit ends (default: %(default)s)")
    add("--tolerance", type=tolerance, default=Stop().tolerance, metavar="T",
        help="a fit ends where it has about so much log-likelihood left to gain (default: %(default)s)")  # fmt: skip


def add_seed(add: Callable[..., Any]) -> None:
    """The seed of what is random."""
    add("--seed", type=whole(0), default=0, metavar="N", help="seed of all that is random (default: %(default)s)")


def one_of(*values: str) -> dict[str, Any]:
    """An option that takes one of some names; `%(choices)s` in its help lists them."""
    return {"choices": values, "metavar": "NAME"}


def whole(least: int) -> Callable[[str], int]:
    """Whole numbers from `least`."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) < 2**31):
            raise argparse.ArgumentTypeError(f"found {text!r}; give a whole number from {least} to {2**31 - 1}")
        return int(text)

    return parse


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1: "1-8", "1,2,4", or both."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = (each.strip() for each in part.partition("-"))
        ends = whole(1)(low), whole(1)(high if dash else low)
        if not ends[0] <= ends[1] < ends[0] + 1000:
            raise argparse.ArgumentTypeError(f"found {part.strip()!r}; give a range from the smaller to the larger, as 1-8")
        found += range(ends[0], ends[1] + 1)
    return tuple(dict.fromkeys(found))


def covariances(text: str) -> tuple[str, ...]:
    """Names of covariances between commas, or "all", the fourteen of mclust."""
    if text.strip() == "all":
        return SHAPES
    found = tuple(dict.fromkeys(each.strip() for each in text.split(",")))
    for each in found:
        if each not in COVARIANCES:
            raise argparse.ArgumentTypeError(f"found {each!r}; use all, or some of {', '.join(COVARIANCES)}")
    return found


def number(what: str, least: float = -np.inf) -> Callable[[str], float]:
    """Finite numbers from `least`; `what` says so to a person."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not (least <= value < np.inf and value > -np.inf):
            raise argparse.ArgumentTypeError(f"found {text!r}; give {what}")
        return value

    return parse


tolerance = number("a number >= 0", 0.0)
limit = number("a number")


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise argparse.ArgumentTypeError(f"found {text!r}; give NAME=VALUE")
    return name.strip().replace("-", "_"), catalogue.value_of(value.strip())


def names(text: str) -> list[str]:
    """Names between commas; quotes keep a comma within a name."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
