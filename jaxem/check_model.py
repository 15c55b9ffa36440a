"""Whether a model or family of one's own obeys the laws that every algorithm relies on, in words that say what to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem import coordinates
from jaxem.checks import as_key
from jaxem.inputs import count_rows
from jaxem.model_laws import LAWS, Case, NotChecked, moved, take
from jaxem.models import Mixture

ROWS = 100  # of the data that are looked at


class Finding(NamedTuple):
    """What became of one law."""

    law: str
    holds: bool | None  # None where it could not be checked
    sentence: str  # what the law says where it holds; else what was found and where to look


@dataclasses.dataclass(frozen=True)
class Check:
    """The report of `check_model`; printed, it is a table."""

    model: str
    n: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether no law was broken."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The laws that were broken."""
        return tuple(finding for finding in self.findings if finding.holds is False)

    def __str__(self) -> str:
        words = {True: "holds", False: "FAILS", None: "not checked"}
        counts = {verdict: sum(finding.holds is verdict for finding in self.findings) for verdict in words}
        head = f"{self.model} on {self.n} rows: {counts[True]} laws hold, {counts[False]} fail, {counts[None]} not checked."
        return "\n".join([head, *(f"{words[f.holds]:<12} {f.law:<14} {f.sentence}" for f in self.findings)])


def check_model(model: Any, data: Any, *, params: Any = None, key: Any = 0) -> Check:
    """Runs the laws of `jaxem.model` on a model, or on a family (as a mixture of two), and on up to 100 rows of data.

    Args:
        model: a `Latent`, a family of your own, or a model of your own.
        data: raw rows such as it takes; every kind of row that matters (missing cells, zero counts) should be among them.
        params: where to look; default a start moved a little at random, so that nothing is stationary by chance.
        key: an int seed or a JAX key.

    Returns:
        Check; `print` it. `check.holds` is False where a law is broken, and `check.failures` says which.

    In float32 small faults hide behind rounding; `jax.config.update("jax_enable_x64", True)` sharpens the view.

    Raises:
        TypeError: a class instead of an instance, or neither model nor family.
    """
    if isinstance(model, type):
        raise TypeError(f"model: found the class {model.__name__}; give an instance, {model.__name__}(...).")
    name = type(model).__name__
    if not hasattr(model, "e_step"):
        if not hasattr(model, "log_prob"):
            raise TypeError(f"model: found {name}, which has no e_step and no log_prob; give a model or a family.")
        model, name = Mixture(model, 2), f"Mixture({name}, 2)"
    key, move = jax.random.split(as_key(key))
    data = data if not isinstance(data, list) else np.asarray(data)
    whole = _count(data)
    chosen = np.random.default_rng(0).permutation(whole)[: min(whole, ROWS) // 2 * 2] if whole > 1 else np.zeros(1, int)
    data = take(data, np.sort(chosen))
    try:
        rows = model.prepare(data)
        if params is None:
            params = moved(model, model.init(key, rows, 0), move)
    except Exception as error:
        return Check(name, len(chosen), (Finding("reads data", False, _raised(error)),))
    params = coordinates.cast(params, rows.dtype)
    case = Case(model.settle(params, rows), data, len(chosen), params, rows, key)
    return Check(name, case.n, tuple(_judge(case, law, check) for law, check in LAWS.items()))


def _judge(case: Case, law: str, check: Callable[[Case], str | None]) -> Finding:
    try:
        found = check(case)
    except NotChecked as why:
        return Finding(law, None, str(why))
    except Exception as error:  # whatever a user's code raises is a finding
        return Finding(law, False, _raised(error))
    return Finding(law, found is None, (check.__doc__ or "").strip() if found is None else found)


def _raised(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"raised {type(error).__name__}: {lines[0]}"


def _count(data: Any) -> int:
    return len(data) if hasattr(data, "iloc") else count_rows(data)
