"""Regression of responses that are seen only between limits."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_cells
from jaxem.checks_regression import Checked
from jaxem.domains import Positive, Real
from jaxem.families.linear_regression import LinearRegressionParams
from jaxem.families.location_scale_family import LocationScaleFamily
from jaxem.families.predictor_family import PredictorFrame
from jaxem.families.regression_family import Cells, plain_structure
from jaxem.family import Remark
from jaxem.kernels.quantiles import Tails
from jaxem.kernels.tails import NORMAL
from jaxem.rows import Rows

OUTSIDE = 4.0  # standard deviations that all means are beyond a limit, from which a truncated normal is an exponential
HALVINGS = 70  # of a bracket, after which a draw has all its digits


class Responses(NamedTuple):
    """Responses and their distances from the limits."""

    y: jax.Array
    since: jax.Array | None  # above the lower limit; None without one
    until: jax.Array | None  # below the upper limit


@dataclasses.dataclass(frozen=True)
class TruncatedRegression(LocationScaleFamily):
    r"""y = coefficients_k . x + intercept_k + e, e ~ N(0, variance_k), where a row is there only if lower < y < upper.

    log p(y) = log N(y; eta, variance) - log P(lower < Y < upper), taken by the hazard from the nearer limit on, so that digits
    stay where all responses are in a far tail. Rows that were censored, not left out, are for `CensoredRegression`.
    Data: `Regression(y, x)`, y (n,), NaN where missing. M-step: a Newton step in coefficients / scale and 1 / scale (Olsen
    1978, Econometrica 46:1211), in which the maximum is the only one (Orme 1989, Econometrics Letters 31:217). Data that look
    exponential beside the limit have none, or one far off (mean and variance grow together): `remarks` says so.

    Args:
        lower: limit below which rows are left out; None for none.
        upper: limit above.
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        ValueError: no limit, lower >= upper, responses beyond the limits.
    """

    lower: float | None = None
    upper: float | None = None
    frame: PredictorFrame | None = None

    squared = True

    def __post_init__(self):
        for name in ("lower", "upper"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, numbers.Real) and abs(float(limit)) < np.inf):
                raise ValueError(f"{name}: found {limit!r}; give a finite number, or None for no limit.")
        if self.lower is None and self.upper is None:
            raise ValueError("lower, upper: found no limit; give one, or take LinearRegression.")
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise ValueError(f"lower: found {self.lower:g} with upper {self.upper:g}; give lower < upper.")

    @property
    def domains(self) -> LinearRegressionParams:
        return LinearRegressionParams(Real(event_ndim=1), Real(), Positive())  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> LinearRegressionParams:
        return LinearRegressionParams(*plain_structure(n_states, size), (n_states,))  # type: ignore[arg-type]

    # data

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        y: Any = checked.y
        inside = y
        if not checked.traced:
            low, high = (np.full(len(y), np.nan if limit is None else limit) for limit in (self.lower, self.upper))
            bad = ((y < low) | (y > high))[:, None]
            limits = f"({'-inf' if self.lower is None else self.lower}, {'inf' if self.upper is None else self.upper})"
            advice = "leave such rows out, or give CensoredRegression(tobit(y, ...)) where they are censored"
            check_cells(y[:, None], (checked.columns or ("y",))[:1], bad, f"are beyond the limits {limits}", advice)
            some: Any = self.lower if self.lower is not None else self.upper
            inside = np.where(np.isnan(y), some, y).astype(y.dtype)
        since = None if self.lower is None else inside - self.lower
        until = None if self.upper is None else self.upper - inside
        return Responses(inside, since, until), y, full

    def shift(self, response: Responses, by: Any) -> Responses:
        return response._replace(y=response.y - by)

    def guess(self, cells: Cells) -> jax.Array:
        return cells.response.y[:, 0]

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> LinearRegressionParams:
        return LinearRegressionParams(coefficients, intercept, variance)

    # E-step

    def log_density(self, eta: jax.Array, extras: tuple[jax.Array, ...], response: Any) -> jax.Array:
        (inverse,) = extras
        z = inverse * response.y - eta
        if response.since is None:
            z, gone = -z, inverse * response.until
        elif response.until is None:
            gone = inverse * response.since
        else:
            z, gone = _nearer(z, inverse * response.since, inverse * response.until)
        low, past = z - gone, gone > 0
        out = jnp.where(past, NORMAL.log_survive(low, jnp.where(past, gone, 1)), 0) + NORMAL.log_hazard(z) + jnp.log(inverse)
        return out if self.lower is None or self.upper is None else out - NORMAL.log_fail(low, inverse * (self.upper - self.lower))

    # the rest

    def remarks(self, params: LinearRegressionParams, rows: Rows) -> list[Remark]:
        """The params at which most of the normal density lies beyond the limits, wherever the row."""
        out = super().remarks(params, rows)
        slopes, intercept = np.asarray(params.coefficients), np.asarray(params.intercept)
        mean = np.asarray(rows.pilot)[:, 1:] @ slopes.T + (intercept if intercept.ndim == 1 else 0)
        scale = np.sqrt(np.asarray(params.variance))
        gone = np.full_like(mean, -np.inf)
        for limit, sign in ((self.lower, 1), (self.upper, -1)):
            gone = gone if limit is None else np.maximum(gone, sign * (limit - mean) / scale)
        for k in np.flatnonzero((gone > OUTSIDE).all(0)):
            far = f"means lie {gone[:, k].min():.3g} standard deviations or more beyond the limit"
            out.append(Remark(int(k), f"{far}: the rows look exponential, and tell mean and variance hardly apart."))
        return out

    def tails(self, params: LinearRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        eta, scale = self.predictors(params, len(y), x), jnp.sqrt(params.variance)[:, None]
        since = None if self.lower is None else (y[:, None] - self.lower) / scale
        until = None if self.upper is None else (self.upper - y[:, None]) / scale
        a = None if self.lower is None else (self.lower - eta) / scale
        b = None if self.upper is None else (eta - self.upper) / scale  # of the response mirrored
        below, above = _within(a, since, b, until), _within(b, until, a, since)
        return Tails(below, jnp.full_like(below, -jnp.inf), above)

    def sample(self, key: jax.Array, params: LinearRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses within the limits, of rows with covariates x (n, p)."""
        eta, scale = self.predicted(params, states, x), jnp.sqrt(params.variance[states])
        u = jax.random.uniform(key, eta.shape, eta.dtype, minval=jnp.finfo(eta.dtype).tiny)
        a = None if self.lower is None else (self.lower - eta) / scale
        b = None if self.upper is None else (self.upper - eta) / scale
        if a is not None and b is not None:
            width = (self.upper - self.lower) / scale  # type: ignore[operator]
            above = a + b > 0
            low = jnp.where(above, a, -b)
            step = _find(lambda t: NORMAL.log_fail(low, t), jnp.log(u) + NORMAL.log_fail(low, width), width)
            return eta + scale * jnp.where(above, low + step, -(low + step))
        low = a if a is not None else -b  # type: ignore[operator]
        # from low on the cumulative hazard is at least t^2 / 2 above 0
        most = jnp.maximum(-low, 0) + jnp.sqrt(-2 * jnp.log(u)) + 1
        z = low + _find(lambda t: -NORMAL.log_survive(low, t), -jnp.log(u), most)
        return eta + scale * (z if a is not None else -z)


jax.tree_util.register_dataclass(TruncatedRegression, data_fields=("frame",), meta_fields=("lower", "upper"))


def _within(low: Any, gone: Any, other: Any, left: Any) -> jax.Array:
    """Log-probability of a response between its limit and a point `gone` beyond it, and `left` before the other limit."""
    if low is None:
        return NORMAL.log_survive(other, left)
    inside = NORMAL.log_fail(low, gone)
    return inside if other is None else inside - NORMAL.log_fail(low, gone + left)


def _nearer(z: jax.Array, since: jax.Array, until: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Responses and distances from the limit that is nearer to the mean, mirrored where that is the upper one."""
    lower = z + 0.5 * (until - since) > 0
    return jnp.where(lower, z, -z), jnp.where(lower, since, until)


def _find(rising: Any, target: jax.Array, most: jax.Array) -> jax.Array:
    """t in (0, most) at which `rising` reaches the target, by bisection."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        bottom, top = ends
        middle = 0.5 * (bottom + top)
        below = rising(middle) < target
        return jnp.where(below, middle, bottom), jnp.where(below, top, middle)

    bottom, top = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))
    return 0.5 * (bottom + top)
