"""Standard errors and a certificate of a fit, for `jaxem fit --se`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.catalogue import CommandError
from jaxem.commands.case import Case
from jaxem.commands.options import number, one_of, whole
from jaxem.commands.progress import Watch
from jaxem.inference import Certificate, Inference, certificate, polish, standard_errors
from jaxem.inference.certificate import MAXIMUM
from jaxem.inference.replicates import template_of
from jaxem.inference.standard_errors import METHODS, REFITS
from jaxem.information import unit_weights
from jaxem.result import Fit, Status

LEVEL, DRAWS = 0.95, 200


class Told(NamedTuple):
    """What there is to say of a fit beside its params."""

    fit: Fit  # polished, where its stop was not tight enough
    inference: Inference | None  # None where the fit failed
    certificate: Certificate | None
    note: str  # what was done to the fit, or why there is nothing to say; empty if there is nothing to note

    def __str__(self) -> str:
        return "\n\n".join(part for part in (self.note, "" if self.inference is None else str(self.inference)) if part)


def add_errors(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """The options; `default` is the method where none is named, None for no standard errors."""
    option: Callable[..., Any] = parser.add_argument_group("standard errors").add_argument
    usual = "do not" if default is None else "%(default)s"
    told = f"tell standard errors, and certify the fit, by %(choices)s (default: {usual})"
    option("--se", **one_of(*METHODS), default=default, help=told)
    option("--level", type=number("a number between 0 and 1"), metavar="L", help=f"level of the intervals (default: {LEVEL})")
    option("--draws", type=whole(2), metavar="B", help=f"refits of a bootstrap (default: {DRAWS})")


def check_errors(options: argparse.Namespace) -> None:
    """Raises CommandError for options that do not go together."""
    for name in ("level", "draws"):
        if getattr(options, name) is not None and options.se is None:
            raise CommandError(f"--{name}: belongs to standard errors; give --se METHOD too, for instance --se oakes")
    if options.level is not None and not 0 < options.level < 1:
        raise CommandError(f"--level: found {options.level:g}; give a number between 0 and 1, for instance {LEVEL}")
    if options.draws is not None and options.se not in REFITS:
        raise CommandError(f"--draws: {options.se} makes no refits; {' and '.join(REFITS)} do")


def check_possible(options: argparse.Namespace, case: Case) -> None:
    """Raises CommandError before the fit where the model or the data do not allow the method."""
    try:
        if options.se == "louis":
            jax.eval_shape(lambda: case.model.factors(case.model.init(0, case.rows), case.rows))
        if options.se in REFITS:
            units = np.asarray(unit_weights(case.rows), np.float64)
            if options.se == "parametric_bootstrap":
                template_of(case.data, case.rows, units)
            elif (units > 0).sum() < 2:
                what = "row" if case.rows.lanes is None else "sequence"
                raise ValueError(f"there is only one {what} to draw from; take parametric_bootstrap or oakes")
    except (TypeError, ValueError) as error:
        raise _refused(options, error) from error


def tell_errors(options: argparse.Namespace, case: Case, fitted: Fit, watch: Watch | None = None) -> Told:
    """Standard errors and certificate of a fit, after Newton's method where it had stopped too early for them.

    Raises:
        CommandError: the model or the data do not allow the method.
    """
    status = Status(int(fitted.status))
    if status not in (Status.CONVERGED, Status.MAX_STEPS):
        return Told(fitted, None, None, f"No standard errors: the fit ended as {status.name}, at no maximum.")
    if watch is not None:
        watch.begin("certificate")
    found, note = certificate(case.model, fitted, case.data, case.weights), ""
    if not found.trusted:
        better = polish(case.model, fitted, case.data, case.weights)
        steps = int(better.steps) - int(fitted.steps)
        if steps:
            after = certificate(case.model, better, case.data, case.weights)
            note = _polished(found, after, steps)
            fitted, found = better, after
    refits = options.se in REFITS
    if watch is not None:
        watch.begin(f"standard errors by {options.se.replace('_', ' ')}", "refits")
    drawn = {"key": options.seed, "draws": options.draws or DRAWS, "progress": watch and watch.fitting}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # they are in the summary as well
            inference = standard_errors(
                case.model, fitted.params, case.data, options.se, weights=case.weights, level=options.level or LEVEL,
                **(drawn if refits else {}),
            )
    except (TypeError, ValueError) as error:
        raise _refused(options, error) from error
    return Told(fitted, inference, found, note)


def _polished(before: Certificate, after: Certificate, steps: int) -> str:
    gained = after.log_likelihood - before.log_likelihood
    stood = f"about {before.distance:.2g} standard errors from its maximum" if before.verdict == MAXIMUM else "at no maximum"
    return (
        f"Polished: the fit had stopped {stood}, where standard errors are not to be trusted. "
        f"{steps} step{'s' * (steps > 1)} of Newton's method changed the log-likelihood by {gained:+.2g}; "
        "all that is told is of the polished fit."
    )


def _refused(options: argparse.Namespace, error: Exception) -> CommandError:
    return CommandError(f"--se {options.se}: {str(error).removeprefix('method: ').rstrip('.')}")
