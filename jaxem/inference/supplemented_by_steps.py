"""The classic supplemented EM: the derivative of the EM map by differences along a path of EM, to compare with the exact one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import information
from jaxem.coordinates import cast, check_params
from jaxem.inference.point import Point, look_at, tree_of
from jaxem.rows import Rows

STEPS = 500
SMALLEST = 1e-7  # a difference of coordinates below it is rounding more than slope


@dataclasses.dataclass(frozen=True)
class Supplemented:
    """What `supplemented_by_steps` returns: NumPy, float64. P are unconstrained coordinates, N cells of params."""

    params: Any
    names: tuple[str, ...]  # (N,) of the cells
    dm: np.ndarray  # (P, P) DM[i, j] = dM_j / du_i, zeros on the edge
    error: np.ndarray  # (P,) estimated error of each row of DM: what its changes from step to step would still sum up to
    settled: np.ndarray  # (P,) bool: whether the last of these changes was below the tolerance
    covariance: np.ndarray  # (P, P) I_c^-1 + I_c^-1 DM (I - DM)^-1, symmetric part; NaN where it is not positive definite
    asymmetry: float  # the largest |V - V'| / sqrt(V_ii V_jj) of what should be symmetric
    errors: np.ndarray  # (N,) standard errors by the delta method
    boundary: tuple[str, ...]  # params on the edge of their domain, left out
    steps: int  # EM steps along the path
    passes: int  # EM steps in all

    @property
    def standard_errors(self) -> Any:
        """A tree like params."""
        return tree_of(self.params, self.errors)

    def __str__(self) -> str:
        return (
            f"Supplemented EM by {self.steps} steps ({self.passes} passes): {int(self.settled.sum())} of {len(self.settled)} rows "
            f"of DM settled, estimated error up to {self.error.max(initial=0):.1e}; asymmetry of the covariance "
            f'{self.asymmetry:.1e}. The exact DM is that of standard_errors(method="supplemented").'
        )


def supplemented_by_steps(
    model: Any, params: Any, data: Any, start: Any, *, weights: Any = None, tolerance: float = 1e-4
) -> Supplemented:
    """Supplemented EM as Meng and Rubin (1991, JASA 86:899) gave it, with the error that its differences have.

    EM runs from `start` along u_1, u_2, ...; row i of DM is (M(u* with coordinate i of u_t) - u*) / (u_ti - u*_i), taken at the
    first t at which no entry changes by more than `tolerance` (they advise the root of that of the fit). Far from the maximum
    u* the differences are no slopes, near it they are rounding, and where EM is slow they change by little although they are
    far from their limit: `error` is the last change times l / (1 - l), l the rate at which the path comes nearer, infinite
    where it did not. Jamshidian and Jennrich (2000, JRSS-B 62:257) find the asymmetry of the covariance a good sign of its
    error. For use take `standard_errors`, whose DM is exact: this one is here to be compared with it.

    Args:
        model: the model.
        params: the maximum, as exact as can be: see `jaxem.polish`.
        data: raw or prepared.
        start: params from which EM goes to this maximum, such as those of an early step, with the same labels.
        weights: (n,) weights of the fit.
        tolerance: change of an entry of DM that is taken for none.

    Raises:
        TypeError: an M-step that is not the maximiser; traced values. ValueError: params or a start that do not fit, a start
            that is the maximum already, or a tolerance that is no positive number.
    """
    if not isinstance(tolerance, (int, float)) or isinstance(tolerance, bool) or not tolerance > 0:
        raise ValueError(f"tolerance: found {tolerance!r}; give a positive number, for instance 1e-4.")
    point = look_at(model, params, data, weights)
    check_maximises(point)
    check_params(model.domains, model.structure(point.rows), start, "start")
    settled, rows, like, kept = point.model, point.rows, point.params, ~point.edge
    top = jnp.asarray(point.u, rows.dtype)
    path = settled.to_unconstrained(cast(start, rows.dtype))
    if np.abs(np.asarray(path - top))[kept].max(initial=0) <= SMALLEST:
        raise ValueError("start: is the maximum itself; give params farther away, such as those of an early step of EM.")
    size = len(point.u)
    dm, least, error = np.zeros((size, size)), np.where(kept, np.inf, 0), np.where(kept, np.inf, 0)
    done, last, before = ~kept, np.full((size, size), np.nan), np.full(size, np.nan)
    steps = passes = 0
    while steps < STEPS and not done.all():
        far = np.where(kept, np.asarray(path - top, np.float64), 0)
        usable = (np.abs(far) > SMALLEST) & np.isfinite(far)
        if not (usable & ~done).any():
            break
        rise = np.asarray(_one_at_a_time(settled, top, path, like, rows), np.float64)
        passes += size + 1
        with np.errstate(all="ignore"):
            slope = np.where(kept & usable[:, None], rise / far[:, None], np.nan)
            change = np.where(kept, np.abs(slope - last), 0).max(axis=1)
            nearer = np.abs(far / before)
            ahead = np.where(nearer < 1, change * nearer / (1 - nearer), np.inf)
        better = ~done & (change < least)
        dm[better], least[better], error[better] = slope[better], change[better], ahead[better]
        done = done | (least <= tolerance)
        last, before, path, steps = slope, far, information.em_map(settled, path, like, rows), steps + 1
    dm = np.where(kept[:, None] & kept, dm, 0)
    complete = np.asarray(information.complete(settled, top, like, rows), np.float64)
    covariance, asymmetry = _covariance(complete, dm, kept & np.isfinite(least).all())
    covariance = np.where(kept[:, None] & kept, covariance, 0)
    told = (np.abs(point.natural[:, kept]) > 0).any(axis=1)
    variance = np.einsum("ni,ij,nj->n", point.natural, covariance, point.natural)
    return Supplemented(
        params=point.params,
        names=point.cells.names,
        dm=dm,
        error=error,
        settled=least <= tolerance,
        covariance=covariance,
        asymmetry=asymmetry,
        errors=np.where(told, np.sqrt(np.maximum(variance, 0)), np.nan),
        boundary=point.boundary,
        steps=steps,
        passes=passes,
    )


@jax.jit
def _one_at_a_time(model: Any, top: jax.Array, path: jax.Array, like: Any, rows: Rows) -> jax.Array:
    """(P, P) M(u* with coordinate i of the path) - u*, row i; row i is 0 where u* has no finite coordinate i."""

    def moved(i: jax.Array) -> jax.Array:
        found = information.em_map(model, top.at[i].set(jnp.where(jnp.isfinite(top[i]), path[i], top[i])), like, rows)
        return jnp.where(jnp.isfinite(top), found - top, 0)

    return jax.lax.map(moved, jnp.arange(top.shape[0]))


def _covariance(complete: np.ndarray, dm: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, float]:
    """I_c^-1 + I_c^-1 DM (I - DM)^-1 of the coordinates that are kept, NaN elsewhere and where it is no covariance."""
    out = np.full_like(dm, np.nan)
    if not kept.any():
        return out, float("nan")
    inner, asymmetry = np.ix_(kept, kept), float("nan")
    try:
        first = np.linalg.inv(complete[inner])
        whole = first + first @ dm[inner] @ np.linalg.inv(np.eye(int(kept.sum())) - dm[inner])
        size = np.sqrt(np.abs(np.diag(whole)))
        asymmetry = float((np.abs(whole - whole.T) / (size[:, None] * size)).max())
        np.linalg.cholesky(whole + whole.T)
    except np.linalg.LinAlgError:
        return out, asymmetry
    out[inner] = 0.5 * (whole + whole.T)
    return out, asymmetry


def check_maximises(point: Point) -> None:
    """Raises TypeError where the M-step is not the maximiser, so that the steps' derivative says nothing of the information."""
    if not point.model.closed:
        raise TypeError(
            f"model: classic supplemented EM needs an M-step that maximises Q; that of {type(point.model).__name__} is a step "
            'towards the maximum, whose derivative is another. Take standard_errors(..., "supplemented"), which solves for it.'
        )
