"""How fast EM converges at a fit, and along which params it is slowest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import information
from jaxem.ascent import look
from jaxem.checks import is_traced
from jaxem.coordinates import cast, check_params
from jaxem.data import prepare
from jaxem.inference.labels import cells_of, name_direction, names_on_edge, runs_away
from jaxem.rows import Rows

DENSE = 150  # coordinates up to which the information is formed
MOST = 120  # products with it beyond that
PRECISE = 1e-6  # residual of the largest eigenvalue, beyond that
RESTS = 1e-3  # of a step, relative to standard sizes of coordinates: a fixed point moves by less
NOTHING = 1e-12  # a rate up to here is 0
ALL = 1 - 1e-9  # a rate from here on is 1: nothing is gained along its direction


@dataclasses.dataclass(frozen=True)
class Rate:
    """Convergence of EM near its fixed point: errors shrink by `radius` with each step, gains of the objective by its square."""

    radius: float  # spectral radius of the derivative of the EM map: the largest fraction of missing information
    eigenvalues: np.ndarray  # (p,) of the derivative, largest first; the largest few where it was not formed
    slowest: str  # the params that the slowest direction moves
    direction: np.ndarray  # (N,) the slowest direction in the cells of params, the largest entry 1
    names: tuple[str, ...]  # (N,) of the cells
    boundary: tuple[str, ...]  # params on the edge of their domain, left out
    dense: bool  # whether the derivative was formed
    residual: float  # of the largest eigenvalue, 0 where the derivative was formed
    moved: float  # the largest change of an unconstrained coordinate by one EM step: 0 at a fixed point
    remarks: tuple[str, ...]

    @property
    def steps_per_digit(self) -> float:
        """EM steps that one more digit of params takes: ln 10 / -ln radius."""
        if not NOTHING < self.radius < ALL:
            return 0.0 if self.radius <= NOTHING else float("inf")
        return math.log(10) / -math.log(self.radius)

    def __str__(self) -> str:
        if not np.isfinite(self.radius):
            lines = ["The rate of EM is not known."]
        elif self.radius >= ALL:
            lines = [f"EM does not move along {self.slowest} (rate 1): the likelihood is flat there."]
        elif self.radius <= NOTHING:
            lines = ["EM arrives in one step: nothing is missing."]
        else:
            lines = [
                f"Rate of EM {self.radius:.6f}: {self.steps_per_digit:.3g} steps for one more digit, slowest along {self.slowest}."
            ]
        return "\n".join([*lines, *(f"Note: {remark}" for remark in self.remarks)])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists, for JSON."""
        known = np.isfinite(self.steps_per_digit) and np.isfinite(self.radius)
        return {
            "radius": self.radius if np.isfinite(self.radius) else None,
            "steps_per_digit": self.steps_per_digit if known else None,
            "eigenvalues": [float(value) for value in self.eigenvalues],
            "slowest": self.slowest,
            "direction": dict(zip(self.names, self.direction.tolist(), strict=True)),
            "boundary": list(self.boundary),
            "dense": self.dense,
            "remarks": list(self.remarks),
        }


def convergence_rate(model: Any, params: Any, data: Any, weights: Any = None) -> Rate:
    """The linear rate of the plain EM algorithm at its fixed point, and the slowest direction.

    Near a maximum EM is linear, u' - u* = J (u - u*), with J = 1 - I_c^-1 I the derivative of the EM map, I and I_c the
    information of the observed and of the complete data (Dempster, Laird and Rubin 1977). Its largest eigenvalue is the rate,
    the largest fraction of missing information. J is self-adjoint in the inner product of I_c: with I_c = L L' it has the
    eigenvalues of 1 - L^-1 I L'^-1, which is formed up to 150 coordinates; beyond, Lanczos' method takes the largest ones from
    products I v alone, each the derivative of one E-step along v. A direction along which the likelihood is flat has
    eigenvalue 1.

    Args:
        model: the model.
        params: a maximum, `fit.params`.
        data: the data of the fit: raw or prepared. Raw data give their names to the direction.
        weights: (n,) weights of the fit.

    Returns:
        Rate, of EM whose M-step goes to the maximum of Q. Params on the edge of their domain are left out.

    Raises:
        TypeError: traced values. ValueError: params that do not fit the model or the data.
    """
    if is_traced((model, params, data, weights)):
        raise TypeError("params: are traced; call this outside of jit.")
    rows = data.weigh(weights) if isinstance(data, Rows) else prepare(model, data, weights)
    check_params(model.domains, model.structure(rows), params)
    params = cast(params, rows.dtype)
    settled = model.settle(params, rows)
    u = settled.to_unconstrained(params)
    gradient = np.asarray(information.gradient(settled, u, params, rows), np.float64)
    complete = np.asarray(information.complete(settled, u, params, rows), np.float64)
    edge = np.asarray(runs_away(model, params, np.asarray(u, np.float64), gradient, complete))
    natural = np.nan_to_num(np.asarray(information.natural(settled, u, params), np.float64))
    cells, kept = cells_of(model, params, data), ~edge
    half = _half(complete[np.ix_(kept, kept)])
    dense, residual = int(kept.sum()) <= DENSE, 0.0
    if half is None:
        values, vectors = np.full(1, np.nan), np.zeros((int(kept.sum()), 1))
    elif dense:
        matrix = np.asarray(information.oakes(settled, u, params, rows), np.float64)[np.ix_(kept, kept)]
        values, vectors = _eigen(np.eye(len(half)) - half @ matrix @ half.T)
    else:

        def push(v: np.ndarray) -> np.ndarray:
            whole = np.zeros(len(kept))
            whole[kept] = half.T @ v
            return v - half @ np.asarray(_along(settled, u, params, rows, jnp.asarray(whole, u.dtype)), np.float64)[kept]

        values, vectors, residual = _lanczos(push, int(kept.sum()))
    slow = np.zeros(len(kept))
    if half is not None and len(values):
        slow[kept] = half.T @ vectors[:, 0]
    change = natural @ slow
    direction = change / (change[np.argmax(np.abs(change))] if change.any() else 1)
    radius = float(values[0]) if len(values) else 0.0
    moved = float(np.abs(np.asarray(information.em_map(settled, u, params, rows) - u, np.float64))[kept].max(initial=0))
    return Rate(
        radius=radius,
        eigenvalues=values,
        slowest=name_direction(cells, direction) if np.isfinite(radius) and change.any() else "",
        direction=direction,
        names=cells.names,
        boundary=names_on_edge(cells, natural, edge),
        dense=dense,
        residual=residual,
        moved=moved,
        remarks=tuple(_remarks(radius, residual, moved)),
    )


def _half(complete: np.ndarray) -> np.ndarray | None:
    """L^-1 of the information of the complete data, L L'; None where it is not positive definite."""
    try:
        return np.linalg.inv(np.linalg.cholesky(complete))
    except np.linalg.LinAlgError:
        return None


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, with their directions; NaN of a matrix that is not finite."""
    if not np.isfinite(matrix).all():
        return np.full(len(matrix), np.nan), np.eye(len(matrix))
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return values[::-1], vectors[:, ::-1]


def _remarks(radius: float, residual: float, moved: float) -> list[str]:
    out = []
    if not np.isfinite(radius):
        out.append("the information of the complete data is not positive definite, or not finite, at these params.")
    if not moved <= RESTS:
        out.append(f"params are no fixed point: an EM step moves a coordinate by {moved:.2g}. Run jaxem.polish(model, fit, data).")
    if radius > 1 + 1e-6:
        out.append("a rate above 1 belongs to a saddle, from which EM moves away.")
    if residual > PRECISE:
        out.append(f"the largest eigenvalue is known to {residual:.1g} only, after {MOST} products.")
    return out


@jax.jit
def _along(model: Any, u: jax.Array, like: Any, rows: Rows, tangent: jax.Array) -> jax.Array:
    """(P,) the observed information times a tangent, by one derivative of the E-step (Oakes 1999)."""
    kept = jnp.isfinite(u)

    def gradient(v: jax.Array) -> jax.Array:
        return look(model, jnp.where(kept, v, u), like, rows).gradient

    return -jax.jvp(gradient, (jnp.where(kept, u, 0),), (jnp.where(kept, tangent, 0),))[1]


def _lanczos(push: Callable[[np.ndarray], np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues of a symmetric map, largest first, with their directions (size, m), and the residual of the first.

    Lanczos (1950), orthogonalised against all vectors before, twice, so that no eigenvalue comes up again.
    """
    start = np.random.default_rng(0).standard_normal(size)
    basis = [start / np.linalg.norm(start)]
    projected = np.zeros((MOST + 1, MOST))
    values, vectors, residual = np.full(1, np.nan), np.zeros((size, 1)), np.inf
    for m in range(min(MOST, size)):
        image = push(basis[m])
        if not np.isfinite(image).all():
            return np.full(1, np.nan), np.zeros((size, 1)), np.inf
        span = np.stack(basis)
        for _ in range(2):
            share = span @ image
            projected[: m + 1, m] += share
            image = image - share @ span
        after = float(np.linalg.norm(image))
        values, inner = _eigen(projected[: m + 1, : m + 1])
        vectors, residual = span.T @ inner, float(after * np.abs(inner[m, 0]))
        if after <= 1e-14 or residual <= 0.1 * PRECISE:
            break
        projected[m + 1, m] = after
        basis.append(image / after)
    return values, vectors, residual
