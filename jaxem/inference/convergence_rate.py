"""How fast EM converges at a fit, and along which params it is slowest."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import is_traced
from jaxem.coordinates import cast, check_params
from jaxem.data import Rows, prepare
from jaxem.inference import information
from jaxem.inference.labels import cells_of, name_direction

DENSE = 150  # coordinates up to which the whole derivative of the EM map is formed
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
            "dense": self.dense,
            "remarks": list(self.remarks),
        }


def convergence_rate(model: Any, params: Any, data: Any, weights: Any = None) -> Rate:
    """The linear rate of the plain EM algorithm at its fixed point, and the slowest direction.

    Near a maximum EM is linear, u' - u* = J (u - u*) with J = I - I_c^-1 I the derivative of the EM map, I and I_c the
    information of the observed and of the complete data (Dempster, Laird and Rubin 1977). Its largest eigenvalue is the rate,
    the largest fraction of missing information. J is formed by forward mode up to 150 coordinates; beyond, Arnoldi's method
    takes the largest eigenvalues from products with J alone, each the derivative of one EM step. Coordinates that are infinite
    (a probability of 0) are left out; a direction along which the likelihood is flat has eigenvalue 1.

    Args:
        model: the model.
        params: a maximum, `fit.params`.
        data: the data of the fit: raw or prepared. Raw data give their names to the direction.
        weights: (n,) weights of the fit.

    Returns:
        Rate. Of models whose M-step is a step towards the maximum of Q, the rate of that step.

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
    kept = np.isfinite(np.asarray(u))
    cells = cells_of(model, params, data)
    if not kept.any():
        return Rate(0.0, np.zeros(0), "", np.zeros(len(cells.names)), cells.names, True, 0.0, 0.0, ("no param is free.",))
    dense = int(kept.sum()) <= DENSE
    if dense:
        jacobian = np.asarray(information.em_jacobian(settled, u, params, rows), np.float64)[np.ix_(kept, kept)]
        values, vectors = np.linalg.eig(jacobian) if np.isfinite(jacobian).all() else _unknown(len(jacobian))
        residual = 0.0
    else:
        values, vectors, residual = _arnoldi(settled, u, params, rows, kept)
    order = np.argsort(-np.abs(values))
    values, vectors = values[order], vectors[:, order]
    moved = float(np.abs(np.asarray(information.em_map(settled, u, params, rows) - u)[kept]).max())
    slow = np.zeros(len(kept))
    slow[kept] = np.real(vectors[:, 0])
    change = np.nan_to_num(np.asarray(information.natural(settled, u, params), np.float64)) @ slow
    largest = np.abs(change).max(initial=0)
    direction = change / (change[np.argmax(np.abs(change))] if largest > 0 else 1)
    radius = float(np.abs(values[0]))
    return Rate(
        radius=radius,
        eigenvalues=np.real(values),
        slowest=name_direction(cells, direction) if np.isfinite(radius) and largest > 0 else "",
        direction=direction,
        names=cells.names,
        dense=dense,
        residual=residual,
        moved=moved,
        remarks=tuple(_remarks(radius, values, residual, moved)),
    )


def _remarks(radius: float, values: np.ndarray, residual: float, moved: float) -> list[str]:
    out = []
    if not np.isfinite(radius):
        out.append("the derivative of the EM map is not finite at these params.")
    if not moved <= RESTS:
        out.append(f"params are no fixed point: an EM step moves a coordinate by {moved:.2g}. Run jaxem.polish(model, fit, data).")
    if radius > 1 + 1e-6:
        out.append("a rate above 1 belongs to a saddle, from which EM moves away.")
    if residual > PRECISE:
        out.append(f"the largest eigenvalue is known to {residual:.1g} only, after {MOST} products.")
    if abs(np.imag(values[0])) > 1e-6:
        out.append("the largest eigenvalue is complex: the map turns, as no EM map does at a maximum.")
    return out


def _unknown(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(size, np.nan), np.eye(size)


def _arnoldi(model: Any, u: jax.Array, like: Any, rows: Rows, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The largest eigenvalues of J with their directions (p, m), and the residual of the first, from products with J.

    Arnoldi (1951) with orthogonalisation done twice: the eigenvalues of J are real at a maximum, where it is self-adjoint in the
    inner product of I_c, but that product is not needed for them.
    """
    start = np.random.default_rng(0).standard_normal(int(kept.sum()))
    basis = [start / np.linalg.norm(start)]
    hessenberg = np.zeros((MOST + 1, MOST))
    whole = np.zeros(len(kept))
    values, vectors, residual = *_unknown(1), np.inf
    for m in range(min(MOST, len(start))):
        whole[kept] = basis[m]
        image = np.asarray(information.em_push(model, u, like, rows, jnp.asarray(whole, u.dtype)), np.float64)[kept]
        if not np.isfinite(image).all():
            return *_unknown(1), np.inf
        span = np.stack(basis)
        for _ in range(2):
            share = span @ image
            hessenberg[: m + 1, m] += share
            image = image - share @ span
        hessenberg[m + 1, m] = np.linalg.norm(image)
        values, inner = np.linalg.eig(hessenberg[: m + 1, : m + 1])
        first = np.argmax(np.abs(values))
        residual = float(hessenberg[m + 1, m] * np.abs(inner[m, first]))
        vectors = span.T @ inner
        if hessenberg[m + 1, m] <= 1e-14 or residual <= 0.1 * PRECISE:
            break
        basis.append(image / hessenberg[m + 1, m])
    return values, vectors, residual
