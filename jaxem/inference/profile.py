"""Profile likelihood of a single param: its interval and its curve, with all other params at their best."""

from __future__ import annotations

import dataclasses
import difflib
from functools import partial
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import information
from jaxem.inference.inference import check_level
from jaxem.inference.labels import FAR, Cells
from jaxem.inference.point import Point, look_at
from jaxem.inference.polish import check_fit, look
from jaxem.result import Fit
from jaxem.rows import Rows

STEPS = 40  # Newton steps to one maximum under the constraint
HALVINGS = 25
SEARCH = 60  # values tried for one limit
EXACT = 1e-9  # of sqrt(2 (l_max - l)) at a limit
SETTLED = 1e-7  # gradient along the constraint, coordinates of information 1, that counts as none
WIDEST = 3.0  # no step to the next value is longer, on a scale of logarithms or log-odds
LEAP = 0.1  # fall of the objective within a thousandth of a standard error that no smooth profile has
JUMPS = 5  # times that the maxima may change to another hill on the way to a limit
ENDLESS = 40.0  # a logarithm or log-odds from here on is the edge
FAR_OUT = 1e4  # standard errors from the estimate at which a limit is taken for infinite


@dataclasses.dataclass(frozen=True)
class Profile:
    """What `profile` returns: NumPy, float64."""

    name: str
    estimate: float
    level: float
    lower: float  # limits; the edge of the domain, or infinite, where the likelihood does not fall by enough; NaN where not found
    upper: float
    values: np.ndarray  # (points,) of the param, ascending
    log_likelihoods: np.ndarray  # (points,) log-likelihood + log prior, maximised over all other params; NaN where it failed
    highest: float  # the same at the estimate
    wald: tuple[float, float]  # the limits estimate -+ z standard error, symmetric on the scale of the param, to compare
    remarks: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """(lower, upper)."""
        return self.lower, self.upper

    @property
    def signed_root(self) -> np.ndarray:
        """(points,) sign(value - estimate) sqrt(2 (l_max - l)): a straight line where Wald's interval is right."""
        fall = np.maximum(2 * (self.highest - self.log_likelihoods), 0)
        return np.sign(self.values - self.estimate) * np.sqrt(fall)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words, for JSON: None in place of what is not finite."""

        def plain(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        return {
            "name": self.name, "estimate": self.estimate, "level": self.level, "lower": plain(self.lower),
            "upper": plain(self.upper), "wald": [plain(value) for value in self.wald], "highest": self.highest,
            "values": [float(value) for value in self.values], "log_likelihoods": [plain(v) for v in self.log_likelihoods],
            "remarks": list(self.remarks),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"{self.name} = {self.estimate:.6g}, {100 * self.level:g} % profile likelihood interval "
            f"{self.lower:.6g} to {self.upper:.6g} (Wald {self.wald[0]:.6g} to {self.wald[1]:.6g})"
        ]
        return "\n".join([*lines, *(f"Note: {remark}" for remark in self.remarks)])


class _Peak(NamedTuple):
    """The maximum under the constraint that a cell has a value."""

    t: float  # the value, on the scale of the cell
    u: np.ndarray
    objective: float
    slope: float  # of the objective along t at the maximum: the multiplier
    tangent: np.ndarray  # (P,) du / dt along the maxima
    sound: bool


def profile(
    model: Any, fit: Fit, data: Any, name: str, *, level: float = 0.95, points: int = 21, weights: Any = None
) -> Profile:
    """Likelihood interval of one cell of the params, and its profile.

    l(c) is the largest log-likelihood (plus log prior) with the cell held at c; the interval holds the c with
    2 (l_max - l(c)) <= chi-square quantile with one degree of freedom (Venzon and Moolgavkar 1988, Applied Statistics 37:87). It
    needs no symmetry and does not depend on how the model is parametrised. Each l(c) is found by Newton's method on the
    Lagrangian in unconstrained coordinates, with the observed information, from the maximum found for a c nearer the estimate;
    limits by Newton's method on sqrt(2 (l_max - l(c))), whose slope is the multiplier.

    Args:
        model: the model of the fit.
        fit: its fit, at a maximum: see `jaxem.certificate`.
        data: the data of the fit: raw or prepared. Raw data give their names to the cells.
        name: of a cell, such as "mean[1, waiting]": see `jaxem.standard_errors(...).names`.
        level: of the interval.
        points: values at which the curve is told, evenly spaced a quarter beyond the limits; 0 for the interval alone.
        weights: (n,) weights of the fit.

    Returns:
        Profile. Where the likelihood does not fall by enough on one side, that limit is the edge of the param's domain, or
        infinite, and a remark says so. Other params on the edge of their domain stay there.

    Raises:
        TypeError: no single, concrete fit. ValueError: an unknown name (those that there are come with it), a param that is
            held or on the edge, a bad level or number of points, information that is not positive definite at the fit.
    """
    check_fit(fit)
    level = check_level(level)
    if isinstance(points, bool) or not isinstance(points, (int, np.integer)) or points < 0:
        raise ValueError(f"points: found {points!r}; give a whole number >= 0.")
    point = look_at(model, fit.params, data, weights)
    cell = find_cell(point.cells, name)
    inverse = _check(point, cell)
    remarks = point.moves(inverse)
    scale = point.cells.scales[cell]
    search = _Search(point, cell, scale)
    middle = search.begin(inverse)
    z = NormalDist().inv_cdf((1 + level) / 2)
    error = 1 / np.sqrt(search.curvature)
    left, lower = search.limit(middle, -1, z, error)
    right, upper = search.limit(middle, 1, z, error)
    for side, end in (("lower", lower), ("upper", upper)):
        if np.isnan(end.t):
            remarks.append(f"the {side} limit was not found: the maximum with {name} held was lost on the way.")
        elif not end.sound:
            remarks.append(f"the likelihood does not fall by enough for the {side} limit, however far {name} goes.")
        way = np.array([peak.objective for peak in (left if side == "lower" else right)])
        if (np.diff(way) > search.slack).any():
            remarks.append(
                f"the likelihood rises again on the way to the {side} limit: another maximum lies there, such as that with "
                "components exchanged."
            )
    ends = [_inverse(scale, end.t) for end in (lower, upper)]
    out = [min(2 * z * error, WIDEST) if scale != "plain" else 2 * z * error] * 2  # to where an open end is shown
    out = [1.25 * abs(end.t - middle.t) if end.sound else far for end, far in zip((lower, upper), out, strict=True)]
    grid = np.linspace(middle.t - out[0], middle.t + out[1], points)
    values, curve = search.curve([*left, *right], middle.t, grid)
    best = max([middle.objective, *(peak.objective for peak in (*left, *right)), *curve[np.isfinite(curve)]])
    if best > middle.objective + search.slack:
        remarks.append(
            f"with {name} held, a log-likelihood higher by {best - middle.objective:.3g} was found: the fit is not the highest "
            "maximum. Fit again with more restarts."
        )
    return Profile(
        name=name,
        estimate=float(point.cells.values[cell]),
        level=level,
        lower=ends[0],
        upper=ends[1],
        values=values,
        log_likelihoods=curve,
        highest=middle.objective,
        wald=(_inverse(scale, middle.t - z * error), _inverse(scale, middle.t + z * error)),
        remarks=tuple(remarks),
    )


def _check(point: Point, cell: int) -> np.ndarray:
    """The covariance (P, P) of the coordinates, after what makes a profile impossible."""
    name = point.cells.names[cell]
    if name in point.boundary or not np.isfinite(_forward(point.cells.scales[cell], point.cells.values[cell])):
        raise ValueError(f"name: {name} is on the edge of its domain, where the likelihood has no maximum inside to go out from.")
    if not (np.abs(point.natural[cell, ~point.edge]) > 0).any():
        raise ValueError(f"name: {name} is held by the model; give a param that is free.")
    inverse = point.covariance()
    if not np.isfinite(inverse).all():
        values, directions = point.spectrum()
        where = f", along {point.told(directions[:, 0])}" if np.isfinite(values).all() else ""
        raise ValueError(
            f"fit: is at no unique maximum{where}; a profile needs one. See jaxem.certificate(model, fit, data) for what it is."
        )
    return inverse


@dataclasses.dataclass
class _Search:
    """Maxima under the constraint, from one value to the next. t is the cell on its scale: logarithm, log-odds or itself."""

    point: Point
    cell: int
    scale: str
    curvature: float = 0.0  # of the profile at the estimate, by t
    slack: float = 0.0  # rounding of the objective
    passes: int = 0

    @property
    def eps(self) -> float:
        """Rounding of a number."""
        return float(np.finfo(self.point.rows.dtype).eps)

    def begin(self, inverse: np.ndarray) -> _Peak:
        """The estimate itself."""
        here, _, noise = look(self.point.model, *self._at(self.point.u))
        objective, self.slack = float(here.objective), float(noise)
        t, slope, _ = self._constraint(self.point.u)
        moved = inverse @ slope
        self.curvature = 1 / float(slope @ moved)
        return _Peak(t, self.point.u, objective, 0.0, moved * self.curvature, True)

    def limit(self, start: _Peak, sign: int, z: float, error: float) -> tuple[list[_Peak], _Peak]:
        """Maxima on the way out to where sqrt(2 (l_max - l)) = z, and the last one; unsound where it does not fall by enough,
        with t NaN where the way was lost."""
        inside = [start]  # maxima that are not beyond the limit, outwards
        lost, high, above = start._replace(t=np.nan, sound=False), np.inf, start
        longest = FAR_OUT * error if self.scale == "plain" else ENDLESS
        most = np.inf if self.scale == "plain" else WIDEST
        reach, jumps = min(z * error, most), 0
        for _ in range(SEARCH):
            near = inside[-1]
            low = abs(near.t - start.t)
            if low > longest or self._levels_off(start, near, sign, z):
                return inside, start._replace(t=sign * np.inf, sound=False)
            found = self.peak(near, start.t + sign * reach)
            root = np.sqrt(max(2 * (start.objective - found.objective), 0.0)) if found.sound else np.nan
            rise = -sign * found.slope / root if found.sound and root > 0 else 0.0  # of the root by distance
            if found.sound and abs(root - z) <= max(EXACT, self.slack / z):
                return [*inside, found], found
            if found.sound and root < z:
                inside.append(found)
                low = reach
            else:  # beyond the limit, or too far at once
                high, above = reach, found
            if high - low <= 1e-3 * error and not (above.sound and inside[-1].objective - above.objective < LEAP):
                # what lies beyond is on another hill: go on along this one, by small steps
                high, jumps, most = np.inf, jumps + 1, 0.3 * error
                if jumps > JUMPS or not above.sound:
                    return inside, lost
            furthest = low + min(max(low, z * error), most)
            after = reach + (z - root) / rise if rise > 0 else furthest
            reach = after if low < after < min(high, furthest) else furthest if np.isinf(high) else 0.5 * (low + high)
            if not low < reach < high:
                return inside, lost
        return inside, lost

    def _levels_off(self, start: _Peak, near: _Peak, sign: int, z: float) -> bool:
        """Whether what the objective still falls by on the way to the edge leaves it above the limit: far out on a scale of log
        or log-odds the rest of the fall is about the slope, as both go like the distance from the edge."""
        to_edge = self.scale == "logit" or (self.scale == "log" and sign < 0)
        return to_edge and sign * near.t > FAR and 2 * (start.objective - near.objective + 2 * abs(near.slope)) < z**2

    def curve(self, known: list[_Peak], middle: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The profile on a grid, outwards from the estimate."""
        known, out = list(known), np.full(len(grid), np.nan)
        for i in np.argsort(np.abs(grid - middle)):
            near = min(known, key=lambda peak: abs(peak.t - grid[i]))
            found = near if near.t == grid[i] else self.peak(near, float(grid[i]))
            if found.sound:
                out[i] = found.objective
                known.append(found)
        return np.array([_inverse(self.scale, t) for t in grid]), out

    def peak(self, near: _Peak, t: float) -> _Peak:
        """The maximum with the cell held at t, from that at a value nearby, along the tangent of the maxima.

        Newton's method on the Lagrangian l(u) + m (t - g(u)): a step solves the quadratic model on the linearised constraint,
        halved until the merit l - p |g - t| rises, p twice the size of the multiplier (Nocedal and Wright 2006, chapter 18).
        """
        kept = ~self.point.edge
        u = near.u + near.tangent * (t - near.t)
        value, gradient, curved = self._objective(u, True)
        if not np.isfinite(value):
            u = near.u
            value, gradient, curved = self._objective(u, True)
        failed = near._replace(t=t, sound=False)
        for _ in range(STEPS):
            g, slope, bend = self._constraint(u)
            scale = _sizes(curved, kept)
            a, grad = slope[kept] * scale, gradient[kept] * scale
            norm = float(a @ a)
            if not (np.isfinite(g) and np.isfinite(curved).all() and np.isfinite(gradient).all() and norm > 0):
                return failed
            multiplier = float(a @ grad) / norm
            lagrangian = (curved + multiplier * bend)[np.ix_(kept, kept)] * scale[:, None] * scale
            step, left = _constrained_step(lagrangian, grad, a, t - g)
            if left <= max(SETTLED, 1e3 * self.eps) and abs(g - t) <= max(1e-10, 8 * self.eps) * max(1.0, abs(t)):
                tangent = np.zeros_like(u)
                tangent[kept] = scale * _constrained_step(lagrangian, np.zeros_like(grad), a, 1.0)[0]
                return _Peak(t, u, value, multiplier, tangent, True)
            penalty = 2 * abs(multiplier) + 1e-8
            merit = value - penalty * abs(g - t)
            moved = np.zeros_like(u)
            moved[kept] = scale * step
            for _ in range(HALVINGS):
                there, after, _ = self._objective(u + moved, False)
                reached = self._constraint(u + moved)[0]
                rise = there - penalty * abs(reached - t) - merit
                if np.isfinite(rise) and rise >= -self.slack and np.isfinite(after).all():
                    break
                moved = 0.5 * moved
            else:
                return failed
            u = u + moved
            value, gradient, curved = self._objective(u, True)
        return failed

    def _at(self, u: np.ndarray) -> tuple[jax.Array, Any, Rows]:
        return jnp.asarray(u, self.point.rows.dtype), self.point.params, self.point.rows

    def _objective(self, u: np.ndarray, curved: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """Value, gradient and (where asked) information at u."""
        self.passes += 1 + curved * len(u)
        here = look(self.point.model, *self._at(u))[0]
        bent: Any = information.oakes(self.point.model, *self._at(u)) if curved else np.zeros(0)
        return float(here.objective), np.asarray(here.gradient, np.float64), np.asarray(bent, np.float64)

    def _constraint(self, u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The cell at u on its scale, with its first and second derivatives."""
        found = _cell(self.point.model, *self._at(u)[:2], jnp.asarray(self.cell), self.scale)
        value, slope, bend = (np.asarray(each, np.float64) for each in found)
        return float(value), np.where(self.point.edge, 0, slope), bend


def _constrained_step(matrix: np.ndarray, gradient: np.ndarray, a: np.ndarray, gap: float) -> tuple[np.ndarray, float]:
    """The maximiser of g's - s'Hs / 2 with a's = gap, H's eigenvalues along the constraint by size; and the largest entry of
    the gradient along the constraint."""
    direction = a / np.linalg.norm(a)
    whole = np.linalg.qr(np.column_stack([direction, np.eye(len(a))]))[0]
    along = whole[:, 1:]
    towards = direction * gap / np.linalg.norm(a)
    inner = along.T @ matrix @ along
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    size = np.maximum(np.abs(values), 1e-8)
    rest = along.T @ (gradient - matrix @ towards)
    step = towards + along @ (vectors @ ((vectors.T @ rest) / size))
    return step, float(np.abs(along.T @ gradient).max(initial=0))


def _sizes(information: np.ndarray, kept: np.ndarray) -> np.ndarray:
    own = np.abs(np.diag(information))[kept]
    return 1 / np.sqrt(np.where(own > 0, own, 1))


@partial(jax.jit, static_argnames="scale")
def _cell(model: Any, u: jax.Array, like: Any, cell: jax.Array, scale: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A cell of the params on its scale, with gradient (P,) and Hessian (P, P); any cell of that scale by one program."""
    finite = jnp.isfinite(u)

    def value(v: jax.Array) -> jax.Array:
        params = model.from_unconstrained(jnp.where(finite, v, u), like=like)
        x = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])[cell]
        if scale == "log":
            return jnp.log(x)
        return jnp.log(x) - jnp.log1p(-x) if scale == "logit" else x

    safe = jnp.where(finite, u, 0)
    return value(safe), jax.grad(value)(safe), jax.hessian(value)(safe)


def _forward(scale: str, x: float) -> float:
    with np.errstate(all="ignore"):
        return float({"log": np.log(x), "logit": np.log(x) - np.log1p(-x)}.get(scale, x))


def _inverse(scale: str, t: float) -> float:
    with np.errstate(all="ignore"):
        return float({"log": np.exp(t), "logit": 1 / (1 + np.exp(-t))}.get(scale, t))


def find_cell(cells: Cells, name: Any) -> int:
    """The place of a cell among `cells` by its name.

    Raises:
        TypeError: no string. ValueError: no such cell, with those of similar names.
    """
    if not isinstance(name, str):
        raise TypeError(f'name: found {name!r}; give the name of a param, such as "{cells.names[0]}".')
    if name in cells.names:
        return cells.names.index(name)
    near = difflib.get_close_matches(name, cells.names, 5, 0.4) or list(cells.names[:8])
    raise ValueError(f"name: {name!r} is none of the {len(cells.names)} params; there are {', '.join(near)}, among others.")
