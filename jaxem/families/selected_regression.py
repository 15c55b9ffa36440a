"""Regression of responses that are there only where a second, latent response is positive: Heckman's sample selection."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, check_weights, is_traced
from jaxem.checks_regression import check_regression
from jaxem.checks_selection import one_sided, read_selection, what_is
from jaxem.domains import Positive, Real, SignedUnit
from jaxem.families.linear_regression import LinearRegression
from jaxem.families.regression_family import Cells as PlainCells
from jaxem.families.regression_family import _concrete, plain_structure
from jaxem.family import Family, Remark
from jaxem.inputs import Regression
from jaxem.kernels import selection
from jaxem.kernels.design import Design, identity, whiten, whiten_traced
from jaxem.kernels.linalg import HIGHEST, matmul
from jaxem.kernels.quantiles import Tails, two_valued_tails
from jaxem.kernels.tails import log_normal_above
from jaxem.layout import WIDE
from jaxem.rows import Rows, Table

LOG_2PI = math.log(2 * math.pi)
EDGE = 0.999  # correlations beyond are said to be at the end


class SelectionParams(NamedTuple):
    """The selection equation of K states; its errors have variance 1."""

    coefficients: jax.Array  # (K, g)
    intercept: jax.Array  # (K,)


class SelectedRegressionParams(NamedTuple):
    """Both equations of K states."""

    coefficients: jax.Array  # (K, p) of the response
    intercept: jax.Array  # (K,); (K, 0) without an intercept
    variance: jax.Array  # (K,) of its errors, selected or not
    correlation: jax.Array  # (K,) between the errors of both equations; 0 where selection can be ignored
    selection: SelectionParams


class SelectionStatistics(NamedTuple):
    """Sums over rows; e and w are residuals of response and latent selection about a point, see `jaxem.kernels.selection`."""

    weight: jax.Array  # (K,) sum of r over rows with a response
    seen: jax.Array  # (K, q + g + 2, q + g + 2) Gram of (x, z, e, w) over these rows
    unseen: jax.Array  # (K, g + 1, g + 1) Gram of (z, w) over the others


class Cells(NamedTuple):
    """What the family reads."""

    x: jax.Array  # (c, q, b) working covariates of the response
    z: jax.Array  # (c, g, b) and of the selection
    response: jax.Array  # (c, 1, b) about its centre, 0 where there is none
    present: jax.Array  # (c, 1, b) 1 where there is a response, else 0
    sign: jax.Array  # (c, 1, b) 1 where selected, -1 where not, 0 where that is not known


class Origin(NamedTuple):
    """Working coordinates of both equations."""

    x: Design
    z: Design


class _Bound(NamedTuple):
    beta: jax.Array  # (1, K, q) working coefficients
    gamma: jax.Array  # (1, K, g)
    user_beta: jax.Array  # (1, K, q) the user's
    user_gamma: jax.Array
    variance: jax.Array  # (1, K)
    correlation: jax.Array


class SelectionFrame(NamedTuple):
    """Coordinates of the statistics: designs, and the point about which residuals are taken."""

    origin: Origin
    beta: jax.Array  # (K, q)
    gamma: jax.Array  # (K, g)


@dataclasses.dataclass(frozen=True)
class SelectedRegression(Family):
    r"""y = coefficients_k . x + intercept_k + sigma_k e, seen only where u = selection_k . (z, 1) + v > 0; corr(e, v) = rho_k.

    A row with a response has density N(y; eta, sigma^2) Phi((zeta + rho (y - eta) / sigma) / sqrt(1 - rho^2)), one without has
    Phi(-zeta), with eta and zeta the predictors of both equations (Heckman 1979, Econometrica 47:153).
    Data: `Regression(y, x, gate=z)`, y (n,) NaN where nothing was selected; or (n, 2), the response beside 1 where selected and 0
    where not: a response may then be missing although selected, and NaN in both says nothing. All covariates are observed.
    Statistics: Grams of covariates and residuals, completed by mean and variance of u given the row. M-step: its maximiser, see
    `jaxem.kernels.selection`. Without a column in z that is not in x the correlation rests on the normal shape alone.

    Args:
        frame: coordinates of the statistics; None for the user's. Set by `localize`.

    Raises:
        TypeError, ValueError: data of another kind, without z, with a response where nothing was selected; in a fit, data in which
            all or none are selected, or collinear covariates.
    """

    frame: SelectionFrame | None = None

    gated = True  # `sample` and `draw_missing` take the covariates of the selection beside those of the response

    @property
    def domains(self) -> SelectedRegressionParams:
        inner: Any = SelectionParams(Real(event_ndim=1), Real())  # type: ignore[arg-type]
        return SelectedRegressionParams(Real(event_ndim=1), Real(), Positive(), SignedUnit(), inner)  # type: ignore[arg-type]

    def structure(self, n_states: int, size: Any) -> SelectedRegressionParams:
        plain, g = size
        inner: Any = SelectionParams((n_states, g), (n_states,))  # type: ignore[arg-type]
        return SelectedRegressionParams(*plain_structure(n_states, plain), (n_states,), (n_states,), inner)  # type: ignore[arg-type]

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        del missing  # a form with holes is the only one
        if not isinstance(data, Regression) or data.gate is None:
            raise TypeError(f"y: found {what_is(data)}; SelectedRegression takes Regression(y, x, gate=z), z of the selection.")
        response, chosen, name = read_selection(data.y)
        checked = check_regression(Regression(response, data.x, data.intercept, data.offset), type(self).__name__)
        gate, gates = check_matrix(data.gate, "gate")
        n = len(checked.y)
        if len(gate) != n:
            raise ValueError(f"gate: found {len(gate)} rows for {n} responses; give one row of covariates for each.")
        if not is_traced(gate) and np.isnan(gate).any():
            raise ValueError(f"gate: is missing in row {int(np.argwhere(np.isnan(gate))[0][0])}; selection needs every covariate.")
        dtype = np.result_type(checked.y.dtype, gate.dtype)
        traced = is_traced((checked.y, checked.x, gate, chosen))
        numpy: Any = jnp if traced else np
        present = ~numpy.isnan(checked.y)
        known = ~numpy.isnan(chosen)
        y = numpy.where(present, checked.y, 0)
        flaw = None
        if traced:
            mass = check_weights(weights, n, dtype)
            some: Any = jax.lax.stop_gradient(jnp.where(present, mass, 0))
            x, *of_x = whiten_traced(checked.x, some, checked.intercept)
            z, *of_z = whiten_traced(gate, mass, True)
        else:
            some = _concrete(weights, present)
            x, *of_x, flaw = whiten(checked.x, some, checked.intercept, checked.names)
            z, *of_z, other = whiten(gate, _concrete(weights, known), True, gates)
            flaw = flaw or (other and f"gate{other[1:]}") or one_sided(chosen, known)
        y = y if checked.offset is None else numpy.where(present, y - checked.offset, 0)
        centre = jax.lax.stop_gradient((y * some).sum() / some.sum()) if traced else (y * some).sum() / some.sum()
        centre = centre if checked.intercept else 0 * centre
        both = ((of_x, centre), (of_z, 0 * centre))
        designs: Any = [Design(*(numpy.asarray(part, dtype) for part in (*own, at))) for own, at in both]
        sign = numpy.where(known, 2 * numpy.where(known, chosen, 0) - 1, 0)
        cells = Cells(
            numpy.asarray(x, dtype), numpy.asarray(z, dtype),
            *(numpy.asarray(leaf, dtype)[:, None] for leaf in (numpy.where(present, y - centre, 0), present, sign)),
        )  # fmt: skip
        plain = numpy.where(present, y, numpy.nan)[:, None]
        pilot = numpy.concatenate([numpy.asarray(plain, dtype), numpy.asarray(checked.x, dtype)], axis=1)
        columns = None if checked.columns is None and name is None else (name or "y", *(checked.columns or ("y",))[1:])
        if columns is not None and len(columns) != pilot.shape[1]:
            columns = (columns[0], *map(str, range(pilot.shape[1] - 1)))
        size = ((checked.x.shape[1], checked.intercept), gate.shape[1])
        informative = None if traced else known
        return Table(cells, pilot, Origin(*designs), size, 1, informative, True, columns=columns, flaw=flaw)  # type: ignore[arg-type]

    def width(self, size: Any) -> int:
        (p, intercept), g = size
        m = p + intercept + g + 3
        return int(np.clip(2 ** int(np.log2((1 << 15) / (m * (m + 1) // 2 + 8))), 64, WIDE))

    # coordinates

    @staticmethod
    def _working(params: SelectedRegressionParams, origin: Origin) -> tuple[jax.Array, jax.Array]:
        """(K, q) and (K, g + 1) coefficients of the working designs."""
        plain = LinearRegression()
        return plain.working(params, origin.x), plain.working(params.selection, origin.z)

    @staticmethod
    def _own(params: SelectedRegressionParams) -> Origin:
        """The user's coordinates."""
        plain = LinearRegression()
        q = params.selection.coefficients.shape[-1] + 1
        return Origin(plain.own_coordinates(params), identity(q, params.coefficients.dtype))

    def localize(self, params: SelectedRegressionParams, rows: Rows, shared: bool = False) -> SelectedRegression:
        del shared  # sums are moved to the frame from wherever they were taken
        return dataclasses.replace(self, frame=SelectionFrame(rows.origin, *self._working(params, rows.origin)))

    # E-step

    def bind(self, params: SelectedRegressionParams, mask: jax.Array, origin: Origin) -> _Bound:
        del mask
        parts = (*self._working(params, origin), *self._working(params, self._own(params)))
        return _Bound(*(leaf[None] for leaf in (*parts, params.variance, params.correlation)))

    @staticmethod
    def _predict(bound: _Bound, cells: Cells) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
        """Residual of the response in standard deviations (c, K, b), 0 where there is none; predictor of the selection; and
        mean, scale and correlation of u given the response, where there is one."""
        residual = (cells.response - matmul(bound.beta, cells.x)) * cells.present / jnp.sqrt(bound.variance)[..., None]
        zeta = matmul(bound.gamma, cells.z)
        rho = bound.correlation[..., None] * cells.present
        return residual, zeta, zeta + rho * residual, jnp.sqrt((1 - rho) * (1 + rho)), rho

    def log_prob(self, bound: _Bound, cells: Cells) -> jax.Array:
        residual, _, mean, scale, _ = self._predict(bound, cells)
        density = -0.5 * (residual * residual + cells.present * (jnp.log(bound.variance)[..., None] + LOG_2PI))
        chosen = log_normal_above(-cells.sign * mean / scale)
        return density + jnp.where(cells.sign == 0, 0, chosen)

    def sums(self, bound: _Bound, cells: Cells, r: jax.Array) -> SelectionStatistics:
        residual, zeta, mean, scale, _ = self._predict(bound, cells)
        shift, spread = selection.truncated(mean, scale, cells.sign)
        w = mean - zeta + shift
        known = r * jnp.abs(cells.sign)
        seen, unseen = known * cells.present, known * (1 - cells.present)
        e = residual * jnp.sqrt(bound.variance)[..., None]
        shape = (*e.shape[:2], -1, e.shape[-1])
        x, z = (jnp.broadcast_to(leaf[:, None], (*e.shape[:2], *leaf.shape[1:])) for leaf in (cells.x, cells.z))
        both = jnp.concatenate([x, z, e.reshape(shape), w.reshape(shape)], axis=2)
        rest = jnp.concatenate([z, w.reshape(shape)], axis=2)
        grams = []
        for basis, mass in ((both, seen), (rest, unseen)):
            gram = jnp.einsum("ckib,ckjb->ckij", basis * mass[:, :, None], basis, precision=HIGHEST)
            grams.append(gram.at[..., -1, -1].add((mass * spread).sum(-1)))
        return SelectionStatistics(seen.sum(-1), *grams)

    def finish(self, bound: _Bound, raw: SelectionStatistics, origin: Origin) -> SelectionStatistics:
        total = jax.tree.map(lambda leaf: leaf.sum(axis=0), raw)
        if self.frame is not None:
            return selection.about(total, self.frame.beta - bound.beta[0], self.frame.gamma - bound.gamma[0])
        k, q, g = len(total.weight), bound.beta.shape[-1], bound.gamma.shape[-1]
        change = jnp.zeros((q + g + 2, q + g + 2), origin.x.lift.dtype).at[:q, :q].set(origin.x.lift.T)
        change = change.at[q:-2, q:-2].set(origin.z.lift.T).at[-2, -2].set(1).at[-1, -1].set(1)
        keep = np.r_[q : q + g, q + g + 1]
        user = SelectionStatistics(
            total.weight,
            selection.moved(total.seen, jnp.broadcast_to(change, (k, *change.shape))),
            selection.moved(total.unseen, jnp.broadcast_to(change[np.ix_(keep, keep)], (k, g + 1, g + 1))),
        )
        return selection.about(user, -bound.user_beta[0], -bound.user_gamma[0])

    def _about_params(self, params: SelectedRegressionParams, statistics: SelectionStatistics) -> tuple[Origin, Any]:
        """Designs of the statistics, and these with residuals about the params."""
        if self.frame is None:
            origin = self._own(params)
            return origin, selection.about(statistics, *self._working(params, origin))
        beta, gamma = self._working(params, self.frame.origin)
        return self.frame.origin, selection.about(statistics, beta - self.frame.beta, gamma - self.frame.gamma)

    def complete(self, bound: _Bound, cells: Cells, origin: Origin) -> tuple[jax.Array, jax.Array, jax.Array]:
        _, zeta, mean, scale, _ = self._predict(bound, cells)
        shift, spread = selection.truncated(mean, scale, cells.sign)
        rho, variance = bound.correlation[..., None], bound.variance[..., None]
        expected = matmul(bound.beta, cells.x) + rho * jnp.sqrt(variance) * (mean - zeta + shift)
        y = jnp.where(cells.present > 0, cells.response, expected) + origin.x.centre
        left = variance * ((1 - rho) * (1 + rho) + rho * rho * spread)
        return y[:, :, None], left[..., None, None], cells.present

    # M-step

    def maximize(self, params: SelectedRegressionParams, statistics: Any, prior: Any = None) -> SelectedRegressionParams:
        del prior
        origin, (weight, seen, unseen) = self._about_params(params, statistics)
        q = len(origin.x.lift)
        rho = params.correlation
        found = selection.maximize(seen, unseen, weight, q, rho / jnp.sqrt((1 - rho) * (1 + rho)))
        plain = LinearRegression()
        beta, gamma = self._working(params, origin)
        coefficients, intercept = plain.given(beta + found.beta, origin.x, params.intercept.ndim == 1)
        inner = SelectionParams(*plain.given(gamma + found.gamma, origin.z, True))
        stretch = jnp.sqrt(1 + found.t * found.t)
        new = SelectedRegressionParams(coefficients, intercept, jnp.square(found.omega * stretch), found.t / stretch, inner)
        rows, any_row = weight > 0, (weight > 0) | (jnp.diagonal(unseen, axis1=-2, axis2=-1).max(-1) > 0)

        def kept(where: jax.Array, fresh: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(where.reshape(-1, *(1,) * (fresh.ndim - 1)), fresh, old)

        response: Any = [kept(rows, fresh, old) for fresh, old in zip(new[:4], params[:4], strict=True)]
        chosen = SelectionParams(*(kept(any_row, *pair) for pair in zip(new.selection, params.selection, strict=True)))
        return params._replace(**dict(zip(params._fields, response, strict=False)), selection=chosen)

    def expected_log_prob(self, params: SelectedRegressionParams, statistics: SelectionStatistics) -> jax.Array:
        _, (weight, seen, unseen) = self._about_params(params, statistics)
        rest = (1 - params.correlation) * (1 + params.correlation)
        omega = jnp.sqrt(params.variance * rest)
        value = selection.objective(seen, unseen, weight, omega, params.correlation / jnp.sqrt(rest))
        return value - LOG_2PI * weight.sum()

    # the rest

    def degenerate(self, params: SelectedRegressionParams, rows: Rows) -> jax.Array:
        """A state has collapsed where the errors of its responses are lost in their rounding."""
        rest = params.variance * (1 - params.correlation) * (1 + params.correlation)
        size = rows.spread[0] + jnp.square(rows.origin.x.centre)
        return ~(rest > (8 * jnp.finfo(rows.dtype).eps) ** 2 * size)

    def magnitude(self, params: SelectedRegressionParams, rows: Rows) -> jax.Array:
        """1 + the squares, in standard deviations, of what both predictors are summed from: what log-probabilities far out are."""
        beta, gamma = self._working(params, rows.origin)
        rest = (1 - params.correlation) * (1 + params.correlation)
        size = jnp.sqrt(((beta * beta).sum(-1) + rows.spread[0]) / params.variance) + jnp.sqrt((gamma * gamma).sum(-1))
        return 1 + (size * size / rest).max()

    def remarks(self, params: SelectedRegressionParams, rows: Rows) -> list[Remark]:
        del rows
        at_end = np.flatnonzero(np.abs(np.asarray(params.correlation)) > EDGE)
        said = "the correlation of the errors is at the end of its range: the data do not tell it, or a covariate is left out."
        return [Remark(int(k), said) for k in at_end]

    def rank(self, params: SelectedRegressionParams) -> jax.Array:
        k = params.coefficients.shape[0]
        parts = (params.coefficients, params.intercept, params.variance)
        return jnp.concatenate([leaf.reshape(k, -1) for leaf in parts], axis=1)

    def _predictors(self, params: SelectedRegressionParams, states: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
        """(n,) predictors of both equations."""
        covariates = self._covariates(x)
        eta = LinearRegression().predicted(params, states, x)
        return eta, LinearRegression().predicted(params.selection, states, covariates)

    @staticmethod
    def _covariates(x: Any) -> Any:
        """Of the selection."""
        if not isinstance(x, Regression) or x.gate is None:
            raise ValueError("covariates: give Regression(None, x, gate=z), the covariates of response and selection.")
        return x.gate

    def tails(self, params: SelectedRegressionParams, y: jax.Array, x: Any = None) -> Tails:
        """Of responses given that they were selected; beside them, in data of two columns, of the selection."""
        covariates = self._covariates(x)
        eta = LinearRegression().predictors(params, len(y), x)
        zeta = LinearRegression().predictors(params.selection, len(y), covariates)
        error = (y[:, None, :1] - eta) / jnp.sqrt(params.variance)[:, None]
        response = selection.selected_tails(error, zeta, params.correlation[:, None])
        if y.shape[1] == 1:
            return response
        chosen = two_valued_tails(y[:, None, 1:], log_normal_above(-zeta), log_normal_above(zeta))
        return Tails(*(jnp.concatenate(pair, axis=-1) for pair in zip(response, chosen, strict=True)))

    def sample(self, key: jax.Array, params: SelectedRegressionParams, states: jax.Array, x: Any = None) -> jax.Array:
        """(n,) responses, NaN where not selected, of rows with covariates `Regression(None, x, gate=z)`."""
        eta, zeta = self._predictors(params, states, x)
        first, second = jax.random.normal(key, (2, len(states)), eta.dtype)
        rho = params.correlation[states]
        error = rho * first + jnp.sqrt((1 - rho) * (1 + rho)) * second
        return jnp.where(zeta + first > 0, eta + jnp.sqrt(params.variance[states]) * error, jnp.nan)

    def draw_missing(self, key: jax.Array, params: Any, states: jax.Array, y: jax.Array, x: Any = None) -> jax.Array:
        """Responses that were not selected, given that they were not."""
        eta, zeta = self._predictors(params, states, x)
        chosen = y[:, 1] if y.shape[1] > 1 else jnp.zeros_like(eta)
        for_u, for_s, for_y = jax.random.split(key, 3)
        drawn = jax.random.uniform(for_s, eta.shape, eta.dtype) < jnp.exp(log_normal_above(-zeta))
        chosen = jnp.where(jnp.isnan(chosen), drawn, chosen)
        low, high = jnp.where(chosen > 0, -zeta, -jnp.inf), jnp.where(chosen > 0, jnp.inf, -zeta)
        first = jax.random.truncated_normal(for_u, low, high, eta.shape, eta.dtype)
        rho = params.correlation[states]
        error = rho * first + jnp.sqrt((1 - rho) * (1 + rho)) * jax.random.normal(for_y, eta.shape, eta.dtype)
        filled = eta + jnp.sqrt(params.variance[states]) * error
        both = jnp.stack([filled, chosen.astype(eta.dtype)], axis=1)[:, : y.shape[1]]
        return jnp.where(jnp.isnan(y), both, y)

    def init(self, rows: Rows, r: jax.Array) -> SelectedRegressionParams:
        """Least squares of the responses that are there, a probit of the selection linear in z, and no correlation."""
        cells: Cells = rows.pilot_cells
        size: Any = rows.size
        whole = PlainCells(cells.x, cells.response, None, None)
        inner = dataclasses.replace(rows, size=size[0], pilot_cells=whole, origin=rows.origin.x)
        first = LinearRegression().init(inner, r * cells.present)
        weights = r.sum(1) * jnp.abs(cells.sign[:, 0])
        weights = weights / jnp.where(weights.sum() > 0, weights.sum(), 1)
        chosen = 0.5 * (cells.sign[:, 0] + 1)
        share = jnp.clip(matmul(weights, chosen), 0.02, 0.98)
        level = jax.scipy.special.ndtri(share)
        height = jnp.exp(-0.5 * (level * level + LOG_2PI))
        slopes = matmul((weights * (chosen - share)), cells.z[:, :-1]) / height  # covariates are white about their means
        gamma = jnp.concatenate([jnp.clip(slopes, -2, 2), level[None]])
        k = r.shape[1]
        found = LinearRegression().given(jnp.broadcast_to(gamma, (k, len(gamma))), rows.origin.z, True)
        inside = SelectionParams(*found)
        return SelectedRegressionParams(
            first.coefficients, first.intercept, first.variance, jnp.zeros(k, rows.dtype), inside
        )  # fmt: skip


jax.tree_util.register_dataclass(SelectedRegression, data_fields=("frame",), meta_fields=())
