"""Regression of responses known exactly, or only to lie in an interval: Tobit models and accelerated failure times."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks_regression import Checked
from jaxem.domains import Positive, Real
from jaxem.families.linear_regression import LinearRegressionParams
from jaxem.families.location_scale_family import LocationScaleFamily
from jaxem.families.predictor_family import PredictorFrame
from jaxem.families.regression_family import Cells, plain_structure
from jaxem.inputs import Interval
from jaxem.kernels import tails
from jaxem.kernels.quantiles import Tails

DISTRIBUTIONS = {
    "normal": tails.NORMAL,
    "lognormal": tails.NORMAL,
    "weibull": tails.EXTREME,
    "exponential": tails.EXTREME,
    "loglogistic": tails.LOGISTIC,
}
EXACT, LEFT, RIGHT, INSIDE = 0.0, 1.0, 2.0, 3.0  # kinds of cells


class CensoredRegressionParams(NamedTuple):
    """Params of K states for distributions of times, on the log scale; "normal" has `LinearRegressionParams`."""

    coefficients: jax.Array  # (K, p)
    intercept: jax.Array  # (K,); (K, 0) without an intercept
    scale: jax.Array  # (K,) of the errors; (K, 0) for "exponential", whose scale is 1


class Responses(NamedTuple):
    """Responses on the scale of the predictor, every number finite; what no row needs is None."""

    kind: jax.Array  # EXACT, LEFT, RIGHT or INSIDE
    point: jax.Array  # the value, or the known end, or the middle of the interval
    jacobian: jax.Array  # what an exact log-density on the user's scale has less
    width: jax.Array | None  # of intervals, 1 elsewhere
    entry: jax.Array | None  # left truncation
    since: jax.Array | None  # from there to the value, or to the lower end
    entered: jax.Array | None  # whether there is one, 1 or 0


@dataclasses.dataclass(frozen=True)
class CensoredRegression(LocationScaleFamily):
    r"""y or log y = coefficients_k . x + intercept_k + scale_k e, with exact, left-, right- and interval-censored responses.

    Data: `Regression(y, x)`, y exact or an `Interval` (see `tobit`), with left truncation by its `entry`. A row says
    log p(y) where it is exact, log P(lower < y < upper) where it is not, less log P(y > entry). For the distributions of
    times y > 0 params are those of log time, as R's survreg has them, and the log-likelihood is that of time. Weights of a
    mixture are those of the rows that entered.
    M-step: a Newton step in coefficients / scale and 1 / scale, in which the log-likelihood is concave (Olsen 1978,
    Econometrica 46:1211; Burridge 1981, JRSS-B 43:41).

    Args:
        distribution: "normal" (Tobit), "lognormal", "weibull" (scale is 1 / shape), "exponential" (scale 1), "loglogistic".
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: unknown distribution, interval ends in the wrong order, times that are not positive.
    """

    distribution: str = "normal"
    frame: PredictorFrame | None = None

    intervals = True

    def __post_init__(self):
        if not isinstance(self.distribution, str) or self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution: unknown kind {self.distribution!r}; use one of {', '.join(DISTRIBUTIONS)}.")

    @property
    def _standard(self) -> tails.Distribution:
        return DISTRIBUTIONS[self.distribution]

    @property
    def _times(self) -> bool:
        return self.distribution != "normal"

    @property
    def _fixed(self) -> bool:
        return self.distribution == "exponential"

    @property
    def squared(self) -> bool:  # type: ignore[override]
        return not self._times

    @property
    def _type(self) -> Any:
        return CensoredRegressionParams if self._times else LinearRegressionParams

    @property
    def domains(self) -> Any:
        return self._type(Real(event_ndim=1), Real(), Positive())

    def structure(self, n_states: int, size: Any) -> Any:
        return self._type(*plain_structure(n_states, size), (n_states, 0) if self._fixed else (n_states,))

    # data

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        numpy: Any = jnp if checked.traced else np
        y, dtype = checked.y, checked.y.lower.dtype
        if self._times and not checked.traced:
            _check_times(y)
        lower, upper, entry = y.lower, y.upper, y.entry
        missing = (lower <= 0 if self._times else numpy.isneginf(lower)) & numpy.isposinf(upper)
        if entry is not None:  # what is known already; a row that only entered says nothing
            missing = missing | ((lower <= entry) & numpy.isposinf(upper))
            lower = numpy.maximum(lower, entry)
        exact = upper == lower
        width: Any = None
        since: Any = None
        if self._times:
            length = numpy.where(exact | (lower <= 0) | numpy.isinf(upper), 1, upper - lower)
            width = numpy.log1p(length / numpy.where(lower > 0, lower, 1))
            if entry is not None:
                some = (entry > 0) & ~numpy.isinf(lower)
                late, begin = numpy.where(some, lower, 1), numpy.where(some, entry, 1)
                since = numpy.log1p((late - begin) / begin)
                entry = _log(entry, numpy)
            lower, upper = _log(lower, numpy), _log(upper, numpy)
        open_below, open_above = numpy.isneginf(lower), numpy.isposinf(upper)
        inside = ~exact & ~open_below & ~open_above & ~missing
        low, high = numpy.where(open_below, 0, lower), numpy.where(open_above, 0, upper)
        kind = numpy.where(exact, EXACT, numpy.where(open_below, LEFT, numpy.where(open_above, RIGHT, INSIDE)))
        point = numpy.where(inside, low + 0.5 * (high - low), numpy.where(open_below, high, low))
        wide = checked.traced or full or inside.any()
        if wide:
            width = numpy.where(inside, high - low if width is None else width, 1)
        entered: Any = None if entry is None else (~numpy.isneginf(entry) & ~missing)
        truncated = full or (entered is not None and (checked.traced or entered.any()))
        if truncated and entered is None:
            entry, since, entered = lower, lower, numpy.zeros(lower.shape, bool)
        elif truncated and since is None:
            since = lower - numpy.where(entered, entry, 0)
        jacobian = numpy.where(exact & self._times, point, 0)

        def sound(where: Any, values: Any) -> Any:
            return numpy.where(where, values, 0).astype(dtype)

        cells = Responses(
            numpy.where(missing, EXACT, kind).astype(dtype), sound(~missing, point), jacobian.astype(dtype),
            width.astype(dtype) if wide else None,
            *((sound(entered, entry), sound(entered, since), entered.astype(dtype)) if truncated else (None, None, None)),
        )  # fmt: skip
        plain = numpy.where(missing, np.nan, point).astype(dtype)
        return cells, plain, bool(full or (not checked.traced and (wide or truncated)))

    def hopeless(self, response: Responses, seen: np.ndarray) -> str | None:
        for side, kind in (("left", LEFT), ("right", RIGHT)):
            if seen.any() and (response.kind[seen] == kind).all():
                return f"y: every response is {side}-censored, so that the likelihood has no maximum; give some that are not."
        return None

    def shift(self, response: Responses, by: Any) -> Responses:
        entry = None if response.entry is None else response.entry - by
        return response._replace(point=response.point - by, entry=entry)

    def guess(self, cells: Cells) -> jax.Array:
        return cells.response.point[:, 0]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> Any:
        if self._fixed:
            return CensoredRegressionParams(coefficients, intercept, variance[:, None][:, :0])
        return self._type(coefficients, intercept, jnp.sqrt(variance) if self._times else variance)

    # E-step

    def log_density(self, eta: jax.Array, extras: tuple[jax.Array, ...], response: Any) -> jax.Array:
        standard = self._standard
        inverse: Any = extras[0] if extras else jnp.ones((), eta.dtype)
        z = inverse * response.point - eta
        kind = response.kind
        exact = standard.log_density(jnp.where(kind == EXACT, z, 0)) + jnp.log(inverse) - response.jacobian
        below, above = standard.log_below(jnp.where(kind == LEFT, z, 0)), standard.log_above(jnp.where(kind == RIGHT, z, 0))
        out = jnp.where(kind == EXACT, exact, jnp.where(kind == LEFT, below, above))
        if response.width is not None:
            between = standard.log_between(jnp.where(kind == INSIDE, z, 0), inverse * response.width)
            out = jnp.where(kind == INSIDE, between, out)
        if response.entry is None:
            return out
        low = jnp.where(response.entered > 0, inverse * response.entry - eta, 0)
        later = (response.entered > 0) & (response.since > 0)
        since = inverse * jnp.where(later, response.since, 1)
        past = jnp.where(later, standard.log_survive(low, since), 0)
        start = low + jnp.where(later, since, 0)
        now = jnp.where(kind == EXACT, standard.log_hazard(start) + jnp.log(inverse) - response.jacobian, 0)
        if response.width is not None:
            now = jnp.where(kind == INSIDE, standard.log_fail(start, inverse * response.width), now)
        return jnp.where(response.entered > 0, past + now, out)

    # the rest

    def tails(self, params: Any, y: jax.Array, x: Any = None) -> Tails:
        """Of the response itself, not censored."""
        eta = self.predictors(params, len(y), x)
        possible: Any = (y > 0)[:, None] if self._times else True
        value = jnp.log(jnp.where(y > 0, y, 1)) if self._times else y
        z = (value[:, None] - eta) / (1.0 if self._fixed else self.scale_of(params)[:, None])
        below = jnp.where(possible, self._standard.log_below(z), -jnp.inf)
        return Tails(below, jnp.full_like(z, -jnp.inf), jnp.where(possible, self._standard.log_above(z), 0.0))

    def sample(self, key: jax.Array, params: Any, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses, none of them censored, of rows with covariates x (n, p)."""
        eta = self.predicted(params, states, x)
        scale = 1.0 if self._fixed else self.scale_of(params)[states]
        y = eta + scale * self._standard.draw(key, eta.shape, eta.dtype)
        return jnp.exp(y) if self._times else y


jax.tree_util.register_dataclass(CensoredRegression, data_fields=("frame",), meta_fields=("distribution",))


def _log(values: Any, numpy: Any) -> Any:
    """Logarithm, -inf from 0 down."""
    return numpy.where(values > 0, numpy.log(numpy.where(values > 0, values, 1)), -np.inf)


def _check_times(y: Interval) -> None:
    missing = np.isneginf(y.lower) & np.isposinf(y.upper)
    start = np.isneginf(y.lower) | (y.lower == 0)  # of intervals
    bad = ~missing & ((y.upper <= 0) | ((y.lower < 0) & ~start))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = f"{int(bad.sum())} times are not positive, the first {y.lower[row]:g} to {y.upper[row]:g} in row {row}"
        raise ValueError(f"y: {found}; give times > 0, or lower 0 for an interval that starts at 0.")
    if y.entry is not None and (y.entry == np.inf).any():
        raise ValueError("y.entry: is infinite; give times, 0 for none.")
