"""What all regressions share: reading responses with covariates, working coordinates, starting values, covariates to sample at."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import check_matrix, check_weights
from jaxem.checks_regression import Checked, check_regression
from jaxem.family import Family
from jaxem.inputs import Regression
from jaxem.kernels.design import Design, grams, identity, quadratic, whiten, whiten_traced
from jaxem.kernels.linalg import HIGHEST, apply, matmul
from jaxem.layout import WIDE
from jaxem.newton import damped_step
from jaxem.rows import Rows, Table

PULL = 1.0  # rows of the pooled regression that each state starts with, beyond one a coefficient


class Cells(NamedTuple):
    """What a regression reads."""

    design: jax.Array  # (c, q, b) working covariates, a row of ones last where there is an intercept
    response: Any  # leaves (c, 1, b), sound also where missing
    offset: jax.Array | None  # (c, 1, b); None where there is none, or where it was subtracted from the response
    present: jax.Array | None  # (c, 1, b) 1 or 0; None where no response is missing


def split(size: Any) -> tuple[int, bool]:
    """Covariates and intercept of a `Rows.size`; a bare number stands for that many covariates with an intercept."""
    return size if isinstance(size, tuple) else (size, True)


def plain_structure(n_states: int, size: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of coefficients and intercept."""
    p, intercept = split(size)
    return (n_states, p), ((n_states,) if intercept else (n_states, 0))


class RegressionFamily(Family):
    """Params lead with `coefficients` (K, p) and `intercept` (K,), or (K, 0) where the data say that there is none.

    A family of this kind gives `respond` (checks and cells of the response), `guess` (the response on the scale of the linear
    predictor) and `start` (params from coefficients and a residual variance), besides its domains, shapes and E-step.
    """

    centred: bool = True  # whether the response is in units of the predictor, so that offset and centre are subtracted from it
    intervals: bool = False  # whether the response may be an `Interval`

    # what a family gives

    def respond(self, checked: Checked, full: bool) -> tuple[Any, Any, Any]:
        """Response cells, leaves (n,); the response for pictures and starts (n,), NaN where missing; whether more than a plain
        form without missing cells is needed. `full` asks for the form that all data fit in.

        Raises:
            ValueError: a response outside the family's support.
        """
        raise NotImplementedError

    def hopeless(self, response: Any, seen: np.ndarray) -> str | None:
        """What in the concrete response leaves no maximum whatever the covariates, in a sentence that stops a fit; or None."""
        del response, seen
        return None

    def shift(self, response: Any, by: Any) -> Any:
        """Response cells with `by` (n,) or () subtracted."""
        return jax.tree.map(lambda leaf: leaf - by, response)

    def guess(self, cells: Cells) -> jax.Array:
        """(n,) the response of pilot cells on the scale of the linear predictor, for least squares."""
        raise NotImplementedError

    def start(self, coefficients: jax.Array, intercept: jax.Array, variance: jax.Array) -> Any:
        """Params from coefficients (K, p), intercept (K,) or (K, 0), and residual variance (K,) of the guess."""
        raise NotImplementedError

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        checked = check_regression(data, type(self).__name__, self.intervals)
        seen: Any
        response, plain, full = self.respond(checked, bool(missing))
        n, dtype = len(plain), checked.x.dtype
        offset, p = checked.offset, checked.x.shape[1]
        size = (p, checked.intercept)
        if self.centred and offset is not None:
            response, plain, offset = self.shift(response, offset), plain - offset, None
        if checked.traced:
            mass: Any = check_weights(weights, n, dtype)
            design, lift, drop = whiten_traced(checked.x, mass, checked.intercept)
            seen, flaw = jnp.ones(n, bool), None
            centre: Any = jax.lax.stop_gradient(mass @ plain / mass.sum())
        else:
            seen = ~np.isnan(plain)
            mass = _concrete(weights, seen)
            design, lift, drop, flaw = whiten(checked.x, mass, checked.intercept, checked.names)
            flaw = flaw or self.hopeless(response, seen)
            centre = np.where(seen, plain, 0) @ mass / mass.sum()
        centre = centre if self.centred and checked.intercept else 0 * centre
        if self.centred:
            response = self.shift(response, centre)
        numpy = jnp if checked.traced else np
        origin = Design(*(numpy.asarray(part, dtype) for part in (lift, drop, centre)))
        holes = full or (not checked.traced and not seen.all())
        cells = Cells(
            numpy.asarray(design, dtype),
            jax.tree.map(lambda leaf: numpy.asarray(leaf, dtype)[:, None], response),
            None if offset is None else offset[:, None],
            numpy.asarray(seen, dtype)[:, None] if holes else None,
        )
        pilot = numpy.concatenate([numpy.asarray(plain, dtype)[:, None], checked.x], axis=1)
        typical = numpy.asarray(numpy.abs(numpy.where(seen, plain, 0)).mean(keepdims=True), dtype)
        informative = None if checked.traced else seen
        return Table(
            cells, pilot, origin, size, 1, informative, holes, typical, columns=checked.columns, flaw=flaw
        )  # fmt: skip

    def width(self, size: Any) -> int:
        """Rows a block, so that its products of pairs stay within the first caches."""
        q = sum(split(size))
        return int(np.clip(2 ** int(np.log2((1 << 15) / (q * (q + 1) // 2 + 8))), 64, WIDE))

    # coordinates

    @staticmethod
    def own_coordinates(params: Any) -> Design:
        """The user's coordinates, where no frame says others."""
        q = params.coefficients.shape[-1] + (params.intercept.ndim == 1)
        return identity(q, params.coefficients.dtype)

    def working(self, params: Any, design: Design) -> jax.Array:
        """(K, q) coefficients of the working design."""
        slopes = params.coefficients
        if params.intercept.ndim > 1:
            return matmul(slopes, design.lift.T)
        given = jnp.concatenate([slopes, (params.intercept - design.centre)[:, None]], axis=-1)
        return matmul(given, design.lift.T)

    def given(self, theta: jax.Array, design: Design, intercept: bool) -> tuple[jax.Array, jax.Array]:
        """Coefficients (K, p) and intercept (K,) or (K, 0) from working ones."""
        found = matmul(theta, design.drop.T)
        if not intercept:
            return found, found[:, :0]
        return found[:, :-1], found[:, -1] + design.centre

    # starts

    def embed(self, rows: Rows) -> jax.Array:
        """Working covariates beside the residuals of the pooled regression, each part scaled to variance 1."""
        cells, weights = rows.pilot_cells, rows.pilot_weights
        guess = self.guess(cells)
        theta, variance = self._pooled(cells.design, guess, weights)
        residual = (guess - apply(cells.design, theta)) / jnp.sqrt(jnp.where(variance > 0, variance, 1))
        missing = jnp.isnan(rows.pilot[:, 0])
        p, _ = split(rows.size)
        u = cells.design[:, :p] / float(np.sqrt(max(p, 1)))  # a NumPy number would widen float32
        return jnp.concatenate([jnp.where(missing, jnp.nan, residual)[:, None], u], axis=1)

    @staticmethod
    def _pooled(design: jax.Array, guess: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Least squares over all pilot rows: coefficients (q,) and residual variance."""
        total = jnp.where(weights.sum() > 0, weights.sum(), 1)
        gram = matmul((design * weights[:, None]).T, design)
        theta = damped_step(matmul(design.T, weights * guess), gram)
        return theta, (weights * jnp.square(guess - matmul(design, theta))).sum() / total

    def init(self, rows: Rows, r: jax.Array) -> Any:
        """Least squares of the guessed predictor in each state, pulled to the pooled one by a few rows."""
        cells = rows.pilot_cells
        design, guess = cells.design, self.guess(cells)
        q = design.shape[1]
        weights = r.sum(1)
        pooled, variance = self._pooled(design, guess, weights)
        mass = r.sum(0)
        gram = grams(design.T[None], r.T[None])[0]
        residual = guess - matmul(design, pooled)
        cross = matmul((r * residual[:, None]).T, design)
        total = jnp.where(weights.sum() > 0, weights.sum(), 1)
        pull = q + PULL
        away = damped_step(cross, gram + pull / total * gram.sum(0))
        left = jnp.einsum("nk,n->k", r, residual * residual, precision=HIGHEST) - 2 * (away * cross).sum(-1) + quadratic(gram, away)
        spread = jnp.square(guess - matmul(weights, guess) / total)
        floor = 1e-3 * variance + jnp.finfo(guess.dtype).eps * (matmul(weights, spread) / total + jnp.finfo(guess.dtype).tiny)
        own = (jnp.maximum(left, 0) + pull * variance) / (mass + pull)
        coefficients, intercept = self.given(pooled + away, rows.origin, split(rows.size)[1])
        return self.start(coefficients, intercept, jnp.maximum(own, floor))

    # the rest

    def rank(self, params: Any) -> jax.Array:
        """By the coefficients, then the intercept."""
        n_states = params.coefficients.shape[0]
        leaves = [leaf.reshape(n_states, -1) if leaf.ndim > 1 else leaf[:, None] for leaf in params if leaf.ndim]
        return jnp.concatenate(leaves, axis=1)

    def reach(self, params: Any, rows: Rows) -> jax.Array:
        """(K,) root of the sum of squares of the working coefficients and of the response, about its centre."""
        theta = self.working(params, rows.origin)
        return jnp.sqrt((theta * theta).sum(-1) + rows.spread[0])

    def predicted(self, params: Any, states: jax.Array, x: Any) -> jax.Array:
        """(n,) linear predictor of rows with covariates x, an (n, p) array or `Regression`, in the given states.

        Raises:
            ValueError: no covariates, or another number of them.
        """
        array, offset = self._covariates(params, len(states), x)
        chosen = params.coefficients[states]
        eta = (array * chosen).sum(-1) + offset
        return eta if params.intercept.ndim > 1 else eta + params.intercept[states]

    def predictors(self, params: Any, n: int, x: Any) -> jax.Array:
        """(n, K, 1) the same in all states, for `tails`."""
        array, offset = self._covariates(params, n, x)
        eta = matmul(array, params.coefficients.T) + jnp.reshape(offset, (-1, 1))
        return (eta if params.intercept.ndim > 1 else eta + params.intercept)[..., None]

    @staticmethod
    def _covariates(params: Any, n: int, x: Any) -> tuple[jax.Array, Any]:
        """(n, p) in the dtype of the params, and the offset, (n,) or 0."""
        offset: Any = 0
        if isinstance(x, Regression):
            offset = 0 if x.offset is None else jnp.asarray(x.offset)
            x = x.x
        p = params.coefficients.shape[-1]
        if x is None and p == 0:
            x = jnp.zeros((n, 0), params.coefficients.dtype)
        if x is None:
            raise ValueError(f"covariates: rows are drawn given theirs; give covariates=x with {p} columns and {n} rows.")
        array = check_matrix(x, "covariates")[0] if p else jnp.zeros((n, 0))
        if array.shape != (n, p):
            raise ValueError(f"covariates: found shape {array.shape}; {n} rows of this model need {(n, p)}.")
        return jnp.asarray(array, params.coefficients.dtype), offset


def _concrete(weights: Any, seen: np.ndarray) -> np.ndarray:
    """(n,) weights of the rows that say something, ones where weights cannot be looked at or leave none."""
    try:
        mass = np.where(seen, np.ones(len(seen)) if weights is None else np.asarray(weights, np.float64), 0.0)
    except (TypeError, ValueError, jax.errors.TracerArrayConversionError):
        return np.ones(len(seen))  # traced, or wrong in a way that is said elsewhere
    return mass if (mass >= 0).all() and 0 < mass.sum() < np.inf else np.ones(len(seen))
