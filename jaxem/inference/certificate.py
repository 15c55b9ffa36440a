"""A certificate of a fit: whether it stands at a maximum, alone, and still enough for standard errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxem.inference.point import STILL, Point, look_at
from jaxem.inference.polish import check_fit, positive_inverse
from jaxem.restarts import reached_best
from jaxem.result import Fit, Status

BLUR = 0.1  # times the gradient: what second derivatives take from not being at the stationary point
MAXIMUM, SADDLE, RIDGE, UNKNOWN = "maximum", "saddle", "flat ridge", "unknown"


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What `certificate` found. Printed, it is four lines of plain words."""

    status: Status
    log_likelihood: float
    gap: float  # Aitken estimate of the objective still to gain
    gradient_norm: float  # of log-likelihood + log prior in unconstrained coordinates, without those on the edge
    distance: float  # standard errors that the stationary point lies away
    verdict: str  # "maximum", "saddle", "flat ridge", or "unknown" where derivatives are not finite or not yet still enough
    smallest: float  # eigenvalue of the information scaled to a unit diagonal; NaN where no coordinate is left
    direction: str  # the params that its direction moves
    boundary: tuple[str, ...]  # params on the edge of their domain, which are left out
    restarts: int
    reached: int  # restarts that reached the value of the one returned
    others: tuple[float, ...]  # log-likelihoods of the others that ended, best first
    failed: int  # restarts that did not end well

    @property
    def trusted(self) -> bool:
        """Whether standard errors can be told: at a maximum, and the stop was tight enough."""
        return self.verdict == MAXIMUM and self.distance <= STILL

    @property
    def spread(self) -> float:
        """How far the log-likelihoods of the other restarts lie apart; 0 without others."""
        return self.others[0] - self.others[-1] if self.others else 0.0

    def __str__(self) -> str:
        return "\n".join((self._ended(), self._stands(), self._found(), self._errors()))

    def _ended(self) -> str:
        left = f"about {self.gap:.1e} is left to gain" if np.isfinite(self.gap) else "what is left to gain cannot be estimated"
        value = f"{self.status.name}: log-likelihood {self.log_likelihood:.6f}"
        return f"{value}; {left}, the gradient's norm is {self.gradient_norm:.1e}."

    def _stands(self) -> str:
        along = f" (smallest eigenvalue of the scaled information {self.smallest:.2g}, along {self.direction})"
        text = {
            MAXIMUM: f"A maximum: the likelihood falls in every direction{along}.",
            SADDLE: f"A saddle, no maximum: the likelihood rises along {self.direction}{along.split(', along')[0]}).",
            RIDGE: f"A flat ridge: the likelihood does not change along {self.direction}{along.split(', along')[0]}).",
            UNKNOWN: "It cannot be said whether this is a maximum: "
            + ("second derivatives are not finite." if np.isnan(self.smallest) else f"it is not still enough{along}."),
        }[self.verdict]
        if self.verdict == MAXIMUM and np.isnan(self.smallest):
            text = "A maximum on the edge: no param is left to vary."
        names = ", ".join(self.boundary[:6]) + (", ..." if len(self.boundary) > 6 else "")
        return f"{text} On the edge of their domain: {names or 'none'}."

    def _found(self) -> str:
        if self.restarts == 1:
            return "One start only: nothing says that no other maximum is higher; ask for more restarts."
        text = f"{self.reached} of {self.restarts} restarts reached this value"
        if self.others:
            below = self.log_likelihood - self.others[0]
            text += f"; the other {len(self.others)} ended {below:.3g}"
            text += "" if len(self.others) == 1 else f" to {below + self.spread:.3g}"
            text += " below it"
        return f"{text}{f'; {self.failed} failed' if self.failed else ''}."

    def _errors(self) -> str:
        if self.trusted:
            return f"Standard errors can be told: the maximum lies {self.distance:.1e} standard errors away."
        if self.verdict == MAXIMUM:
            return (
                f"Standard errors are not to be trusted: the stop was not tight enough, the maximum lies about {self.distance:.2g} "
                "standard errors away. Run jaxem.polish(model, fit, data), or fit with a smaller tolerance."
            )
        why = {
            SADDLE: "this is a saddle; fit again from other params",
            RIDGE: "no unique maximum; hold the params that are not determined, or take fewer components",
            UNKNOWN: "run jaxem.polish(model, fit, data), or fit with a smaller tolerance",
        }[self.verdict]
        return f"Standard errors are not to be trusted: {why}."

    def records(self) -> list[dict[str, Any]]:
        """A dict a fact: name, value, in the order in which they are printed."""
        return [{"name": name, "value": value} for name, value in self.to_dict().items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists, for JSON: None in place of what is not finite."""
        out: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "status"
        }
        out = {"status": self.status.name, **out, "spread": self.spread, "trusted": self.trusted, "text": str(self)}
        return {name: _plain(value) for name, value in out.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def certificate(model: Any, fit: Fit, data: Any, weights: Any = None) -> Certificate:
    """What can be said of a fit, checked by first and second derivatives of the log-likelihood (plus log prior).

    - the status and the Aitken gap of its stop;
    - the gradient's norm in unconstrained coordinates, and how many standard errors the stationary point lies away,
      sqrt(g' |I|^-1 g) with I the observed information: the stop was tight enough where that is at most 0.01;
    - the smallest eigenvalue of I scaled to a unit diagonal: a maximum where it is positive, a saddle where it is negative, a
      flat ridge where it is rounding, as for components that are the same or a rotation that nothing determines. Where the
      fit is not still, an eigenvalue smaller than the gradient may be either: that is "unknown";
    - params on the edge of their domain, which are left out of all this;
    - how many restarts reached the value, and where the others ended.

    Args:
        model: the model of the fit.
        fit: from `jaxem.fit`.
        data: the data of the fit: raw or prepared. Raw data give their names to the words.
        weights: (n,) weights of the fit.

    Raises:
        TypeError: no single, concrete fit. ValueError: params that do not fit the model or the data.
    """
    check_fit(fit)
    point = look_at(model, fit.params, data, weights)
    values, directions = point.spectrum()
    distance = point.distance(positive_inverse(point)) if np.isfinite(values).all() else float("nan")
    smallest = float(values[0]) if len(values) else float("nan")
    best = reached_best(fit)
    ended = np.isin(np.asarray(fit.restart_statuses), (Status.CONVERGED, Status.MAX_STEPS))
    others = np.asarray(fit.restart_log_likelihoods, np.float64)[~best & ended]
    return Certificate(
        status=Status(int(fit.status)),
        log_likelihood=float(fit.log_likelihood),
        gap=float(fit.gap),
        gradient_norm=float(np.linalg.norm(point.gradient[~point.edge])),
        distance=distance,
        verdict=_verdict(point, values, distance),
        smallest=smallest,
        direction=point.told(directions[:, 0]) if len(values) and np.isfinite(smallest) else "",
        boundary=point.boundary,
        restarts=int(np.size(fit.restart_statuses)),
        reached=int(best.sum()),
        others=tuple(float(value) for value in np.sort(others)[::-1]),
        failed=int((~best & ~ended).sum()),
    )


def _verdict(point: Point, values: np.ndarray, distance: float) -> str:
    if not np.isfinite(values).all() or not np.isfinite(distance):
        return UNKNOWN
    if not len(values):
        return MAXIMUM
    kept = ~point.edge
    blur = float(np.abs(point.gradient[kept] * point.scale).max())
    if abs(values[0]) <= point.flat(values):
        return RIDGE
    if abs(values[0]) <= BLUR * blur:
        return UNKNOWN
    return MAXIMUM if values[0] > 0 else SADDLE
