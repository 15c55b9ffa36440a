"""A fit as inference looks at it: coordinates, gradient, information, and what the information says of the point."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxem import information
from jaxem.checks import is_traced
from jaxem.coordinates import cast, check_params
from jaxem.data import prepare
from jaxem.inference.labels import Cells, cells_of, name_direction, names_on_edge, runs_away
from jaxem.rows import Rows

FLAT = 64  # times P eps: eigenvalues of information scaled to a unit diagonal that count as none
STILL = 1e-2  # standard errors that the maximum may lie away, where standard errors are told without a warning


@dataclasses.dataclass(frozen=True)
class Point:
    """Params with the first and second derivatives of the log-likelihood (plus log prior) there; NumPy, float64."""

    model: Any  # settled
    params: Any
    rows: Rows
    cells: Cells
    u: np.ndarray  # (P,) unconstrained coordinates
    gradient: np.ndarray  # (P,)
    information: np.ndarray  # (P, P)
    natural: np.ndarray  # (N, P) derivative of the cells by the coordinates, zeros on the edge
    edge: np.ndarray  # (P,) bool, coordinates on the edge, which are left out

    @property
    def boundary(self) -> tuple[str, ...]:
        """Names of the params on the edge."""
        return names_on_edge(self.cells, self.natural, self.edge)

    @property
    def scale(self) -> np.ndarray:
        """(p,) what coordinates are divided by so that the information of those that are kept has a unit diagonal."""
        own = np.abs(np.diag(self.information))[~self.edge]
        return 1 / np.sqrt(np.where(own > 0, own, 1))

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """(p,) eigenvalues of the information scaled to a unit diagonal, ascending, and their directions (p, p), columns."""
        kept = self.information[np.ix_(~self.edge, ~self.edge)] * self.scale[:, None] * self.scale
        return np.linalg.eigh(kept) if np.isfinite(kept).all() else (np.full(len(kept), np.nan), np.eye(len(kept)))

    def told(self, direction: np.ndarray) -> str:
        """A direction (p,) in the coordinates of `spectrum` by the names of the params that it moves."""
        change = self.natural[:, ~self.edge] * self.scale
        size = np.linalg.norm(change, axis=1)
        return name_direction(self.cells, (change @ direction) / np.where(size > 0, size, 1))

    def flat(self, eigenvalues: np.ndarray) -> float:
        """Eigenvalues of the spectrum up to this size are rounding."""
        return float(FLAT * max(len(eigenvalues), 1) * np.finfo(np.asarray(self.rows.spread).dtype).eps)

    def covariance(self, information: np.ndarray | None = None) -> np.ndarray:
        """(P, P) inverse of the information, zeros on the edge; NaN where it is not positive definite."""
        matrix = self.information if information is None else information
        kept, out = ~self.edge, np.zeros_like(self.information)
        scale = self.scale
        inner = matrix[np.ix_(kept, kept)] * scale[:, None] * scale
        try:
            root = np.linalg.cholesky(inner)
            if self.flat(inner) > 0 and np.linalg.eigvalsh(inner)[0] <= self.flat(np.diag(inner)):
                raise np.linalg.LinAlgError
            half = np.linalg.solve(root, np.diag(scale))
            out[np.ix_(kept, kept)] = half.T @ half
        except np.linalg.LinAlgError:
            out[np.ix_(kept, kept)] = np.nan
        return out

    def distance(self, covariance: np.ndarray) -> float:
        """sqrt(g' V g): how many standard errors the maximum lies away, by the quadratic approximation."""
        kept = ~self.edge
        g = self.gradient[kept]
        return float(np.sqrt(max(g @ covariance[np.ix_(kept, kept)] @ g, 0.0)))

    def moves(self, covariance: np.ndarray) -> list[str]:
        """A remark where the maximum lies too far away for what derivatives say here; none where the covariance is not known."""
        away = self.distance(covariance) if np.isfinite(covariance).all() else float("nan")
        if not away > STILL:
            return []
        norm = float(np.linalg.norm(self.gradient[~self.edge]))
        return [
            f"params are no stationary point: the gradient's norm is {norm:.3g}, and the maximum lies about {away:.2g} standard "
            "errors away. Run jaxem.polish(model, fit, data), or fit with a smaller tolerance."
        ]


def look_at(model: Any, params: Any, data: Any, weights: Any = None, curvature: Callable[..., Any] = information.oakes) -> Point:
    """The point of `params`; `curvature` computes the information.

    Raises:
        TypeError, ValueError: bad params or data; traced values.
    """
    if is_traced((model, params, data, weights)):
        raise TypeError("params: are traced; call this outside of jit. Inside, differentiate the log-likelihood itself.")
    rows = prepare(model, data, weights) if not isinstance(data, Rows) else data.weigh(weights)
    check_params(model.domains, model.structure(rows), params)
    params = cast(params, rows.dtype)
    params = model.canonical(params)  # what the coordinates leave open, as the rotation of factors, is told in one form
    settled = model.settle(params, rows)
    u = settled.to_unconstrained(params)
    gradient = np.asarray(information.gradient(settled, u, params, rows), np.float64)
    matrix = np.asarray(curvature(settled, u, params, rows), np.float64)
    found = np.asarray(u, np.float64)
    edge = np.asarray(runs_away(model, params, found, gradient, matrix))
    natural = np.asarray(information.natural(settled, u, params), np.float64)
    cells = cells_of(model, params, data)
    return Point(settled, params, rows, cells, found, gradient, matrix, natural, edge)


def tree_of(params: Any, flat: np.ndarray) -> Any:
    """Numbers (N,) of the cells as a tree like params."""
    leaves = jax.tree.leaves(params)
    structure: Any = jax.tree.structure(params)
    cuts = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    return structure.unflatten([part.reshape(np.shape(leaf)) for part, leaf in zip(np.split(flat, cuts), leaves, strict=True)])
