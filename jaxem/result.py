"""What a fit is asked (`Stop`) and what it answers (`Fit`, `Status`)."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.checks import is_traced


class Status(enum.IntEnum):
    """How a fit ended. `Status.CONVERGED.sentence` says it in plain words."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NONFINITE = 3
    DECREASED = 4
    DEGENERATE = 5

    @property
    def sentence(self) -> str:
        """One plain sentence for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.RUNNING: "The fit has not ended.",
    Status.CONVERGED: "The stop rule was met: almost nothing is left to gain from further steps.",
    Status.MAX_STEPS: "The step limit was reached before the stop rule was met; raise max_steps or loosen the tolerance.",
    Status.NONFINITE: "The log-likelihood became infinite or not a number; the last good parameters are returned.",
    Status.DECREASED: "The log-likelihood fell by more than rounding explains; the last good parameters are returned.",
    Status.DEGENERATE: "A component collapsed (singular covariance or no rows), where the likelihood is unbounded; "
    "the last good parameters are returned. A prior, fewer components or a simpler covariance helps.",
}

RULES = ("aitken", "absolute", "relative", "parameters")


@dataclasses.dataclass(frozen=True)
class Stop:
    """When a fit ends.

    `rule` (static) says what is compared with `tolerance`, where l_t is the objective (log-likelihood plus log prior)
    before step t:

    - ``"aitken"``: the estimated remaining gain l_inf - l_t >= 0, with l_inf = l_{t-1} + (l_t - l_{t-1}) / (1 - a) and
      a = (l_t - l_{t-1}) / (l_{t-1} - l_{t-2}), used only for 0 < a < 1 (Boehning et al. 1994; McNicholas et al. 2010);
    - ``"absolute"``: l_t - l_{t-1};
    - ``"relative"``: (l_t - l_{t-1}) / (1 + |l_t|);
    - ``"parameters"``: the largest change of an unconstrained coordinate.

    Three steps in a row whose change is below the resolution of the log-likelihood in its dtype also count as converged:
    nothing more can be measured there. A step that reaches `max_steps`, or a budget of `max_passes` E-step equivalents, is the
    last. `tolerance` (>= 0), `max_steps` and `max_passes` (>= 1) may be traced: changing them compiles nothing.

    Raises:
        ValueError: unknown rule, negative or NaN tolerance, max_steps or max_passes below 1.
    """

    tolerance: Any = 1e-8
    rule: str = "aitken"
    max_steps: Any = 1000
    max_passes: Any = None

    def __post_init__(self):
        if not isinstance(self.rule, str) or self.rule not in RULES:
            raise ValueError(f"rule: unknown stop rule {self.rule!r}; use one of {', '.join(RULES)}.")
        if isinstance(self.tolerance, (int, float, np.number)) and not self.tolerance >= 0:
            raise ValueError(f"tolerance: found {self.tolerance}; give a number >= 0.")
        for name in ("max_steps", "max_passes"):
            found = getattr(self, name)
            if isinstance(found, (int, float, np.number)) and not (found >= 1 and float(found).is_integer()):
                raise ValueError(f"{name}: found {found}; give a whole number >= 1.")


jax.tree_util.register_dataclass(Stop, data_fields=("tolerance", "max_steps", "max_passes"), meta_fields=("rule",))


class Fit(NamedTuple):
    """The result of `fit`. Under `vmap` and from `fit_batch` every field has a leading axis.

    Components are in canonical order (see `align`) unless the caller gave the start.
    """

    params: Any  # the model's params
    log_likelihood: jax.Array  # () observed-data log-likelihood of `params`
    objective: jax.Array  # () log-likelihood + log prior of `params`
    status: jax.Array  # () int32, a `Status`
    steps: jax.Array  # () int32, algorithm steps taken by the returned restart
    passes: jax.Array  # () int32, E-step equivalents spent, all restarts together
    history: jax.Array  # (H,) objective before step 0, stride, 2 stride, ...; NaN-padded
    history_stride: jax.Array  # () int32, steps between two entries of `history`
    history_passes: jax.Array  # (H,) int32, passes of this restart that led to the params whose objective `history` holds
    gap: jax.Array  # () Aitken estimate of the objective still to gain; inf where it cannot be estimated
    degenerate: jax.Array  # (K,) bool, the components that collapsed in the returned restart
    restart_log_likelihoods: jax.Array  # (R,) log-likelihood of every restart
    restart_statuses: jax.Array  # (R,) int32, `Status` of every restart; RUNNING where a search dropped it
    restart_histories: jax.Array  # (R, H) history of every restart
    restart_strides: jax.Array  # (R,) int32
    detail: Any = None  # what the algorithm found besides params (a posterior, draws, a Monte Carlo error); None for most

    @property
    def converged(self):
        """Whether `status` is CONVERGED (elementwise under a leading axis)."""
        return self.status == Status.CONVERGED

    def explain(self) -> str:
        """The status in a sentence, with the collapsed components named. Only for a single, concrete fit."""
        if is_traced(self.status) or np.ndim(self.status) != 0:
            raise ValueError("explain: needs one concrete fit; index the leading axis first (jax.tree.map(lambda x: x[i], fit)).")
        text = f"{Status(int(self.status)).name}: {Status(int(self.status)).sentence}"
        collapsed = np.flatnonzero(np.asarray(self.degenerate))
        if int(self.status) == Status.DEGENERATE and collapsed.size:
            text += f" Collapsed: component {', '.join(str(k) for k in collapsed)} (counted from 0)."
        remarks = getattr(self.detail, "remarks", None)  # what the algorithm has to say
        return " ".join([text, *remarks()]) if callable(remarks) else text
