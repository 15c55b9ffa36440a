"""Rotations of factor loadings to simple structure: varimax, quartimax, promax, oblimin.

Data tell loadings L (d, q) only up to a rotation. One is chosen here by a criterion of simplicity: L* = L R with R orthogonal,
or, where factors may be correlated, L* = L R with R' the inverse of a T whose columns have norm 1, the factors then having
correlations T'T. What R makes of L leaves L* corr L*' = L L', so that the fit is the same.

All of it is computed on the host, in float64; results come in the dtype of the loadings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxem.checks import check_matrix, is_traced
from jaxem.parameters import number, text_table

STARTS = 8  # orientations that the search begins at: criteria of simplicity have local optima
TOLERANCE = 1e-10  # of the gradient, whose loadings have norm 1
SWEEPS, STEPS = 1000, 20000  # limits; tens and hundreds do


class Rotation(NamedTuple):
    """Loadings in a simpler orientation. Factors come in order of their sums of squares; each column's sum is >= 0."""

    loadings: np.ndarray  # (d, q) pattern: coefficients of the columns on the factors
    rotation: np.ndarray  # (q, q) R in L* = L R; the factors become R^-1 f
    correlations: np.ndarray  # (q, q) of the factors; the identity where R is orthogonal
    method: str
    names: tuple[str, ...] | None = None  # of the columns

    @property
    def structure(self) -> np.ndarray:
        """(d, q) covariances of columns and factors: loadings times factor correlations."""
        return self.loadings @ self.correlations

    @property
    def oblique(self) -> bool:
        """Whether the factors are correlated."""
        return not np.array_equal(self.correlations, np.eye(len(self.correlations)))

    def __str__(self):
        names = self.names or tuple(f"x{j}" for j in range(len(self.loadings)))
        rows = [[name, *map(number, row)] for name, row in zip(names, self.loadings, strict=True)]
        return text_table([f"loading ({self.method})", *self._factors], rows) + "\n\n" + self.about_factors()

    @property
    def _factors(self) -> list[str]:
        return [f"factor {i}" for i in range(self.loadings.shape[1])]

    def about_factors(self) -> str:
        """A table of the factors: what they explain, summed over the columns, and their correlations where they have any."""
        rows = [["explained variance", *map(number, (self.loadings * self.structure).sum(axis=0))]]
        if self.oblique:
            pairs = zip(self._factors, self.correlations, strict=True)
            rows += [[f"correlation with {name}", *map(number, row)] for name, row in pairs]
        return text_table(["factors", *self._factors], rows)


def rotate(loadings: Any, method: str = "varimax", **options: Any) -> Rotation:
    """`varimax`, `quartimax`, `promax` or `oblimin` by name; "none" leaves the loadings as they are.

    Args:
        loadings: (d, q), an array or a data frame.
        method: which.
        options: of that function.

    Raises:
        TypeError: traced loadings, an option that the method does not take. ValueError: an unknown method, and as the method.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"rotation: found {method!r}; use one of {', '.join(METHODS)}.")
    return METHODS[method](loadings, **options)


def unrotated(loadings: Any) -> Rotation:
    """The loadings as they are, in the form of a rotation."""
    given, names, dtype = _read(loadings)
    identity = np.eye(given.shape[1], dtype=dtype)
    return Rotation(given.astype(dtype), identity, identity, "none", names)


def varimax(loadings: Any, *, normalize: bool = True) -> Rotation:
    """The orthogonal rotation of largest variance of squared loadings within factors (Kaiser 1958).

    It maximises sum_ij l_ij^4 - sum_j (sum_i l_ij^2)^2 / d by rotations of two factors at a time, each in closed form.

    Args:
        loadings: (d, q).
        normalize: Kaiser's: rows are brought to norm 1 before, and back after; as R's varimax and SPSS do.

    Raises:
        TypeError, ValueError: traced loadings, or not a finite (d, q) matrix with d >= q.
    """
    return _orthomax(loadings, 1.0, normalize, "varimax")


def quartimax(loadings: Any, *, normalize: bool = False) -> Rotation:
    """The orthogonal rotation of largest sum_ij l_ij^4, simple rows (Neuhaus and Wrigley 1954).

    Args:
        loadings: (d, q).
        normalize: Kaiser's, as for `varimax`; R's GPArotation leaves it out, SPSS does it.

    Raises:
        TypeError, ValueError: as `varimax`.
    """
    return _orthomax(loadings, 0.0, normalize, "quartimax")


def promax(loadings: Any, *, power: float = 4, normalize: bool = True) -> Rotation:
    """The oblique rotation that comes closest to varimax loadings raised to a power (Hendrickson and White 1964), as R's promax.

    Args:
        loadings: (d, q).
        power: >= 1 of the target; the larger, the more correlated the factors.
        normalize: Kaiser's, of the varimax.

    Raises:
        TypeError, ValueError: as `varimax`; power below 1.
    """
    if isinstance(power, bool) or not isinstance(power, (int, float)) or not 1 <= power < np.inf:
        raise ValueError(f"power: found {power!r}; give a number >= 1, as 4.")
    given, names, dtype = _read(loadings)
    first = varimax(given, normalize=normalize)
    target = first.loadings * np.abs(first.loadings) ** (power - 1)
    scale = np.abs(target).max(axis=0)
    if given.shape[1] == 1 or not (scale > 0).all():  # a factor without loadings turns nowhere
        return _finish(given, first.rotation, "promax", names, dtype)
    turn = np.linalg.lstsq(first.loadings, target / scale, rcond=None)[0]
    turn = turn * np.sqrt(np.diagonal(np.linalg.inv(turn.T @ turn)))
    return _finish(given, first.rotation @ turn, "promax", names, dtype)


def oblimin(loadings: Any, *, gamma: float = 0.0, normalize: bool = False) -> Rotation:
    """The oblique rotation of smallest sum over pairs of factors of sum_i l_ij^2 l_im^2 - gamma / d sum_i l_ij^2 sum_i l_im^2.

    Direct oblimin (Jennrich and Sampson 1966) by gradient projection (Jennrich 2002, Psychometrika 67:7).

    Args:
        loadings: (d, q).
        gamma: <= 0; 0 is direct quartimin, and the more negative, the less correlated the factors.
        normalize: Kaiser's, as for `varimax`; R's GPArotation leaves it out, SPSS does it.

    Raises:
        TypeError, ValueError: as `varimax`; gamma above 0, where the criterion may have no minimum (Jennrich 1979).
    """
    if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not -np.inf < gamma <= 0:
        raise ValueError(f"gamma: found {gamma!r}; give a number <= 0: above 0 the criterion may have no minimum.")
    given, names, dtype = _read(loadings)
    scaled, weight = _normalized(given, normalize)
    q = given.shape[1]
    others = 1.0 - np.eye(q)

    def criterion(x: np.ndarray) -> tuple[float, np.ndarray]:
        squares = x * x
        inner = squares @ others
        inner = inner - gamma * inner.mean(axis=0)
        return float((squares * inner).sum()) / 4, x * inner

    if q == 1 or weight == 0:
        return _finish(given, np.eye(q), "oblimin", names, dtype)
    best = min((_descend(scaled, criterion, start) for start in _orientations(q)), key=lambda found: found[0])
    return _finish(given, np.linalg.inv(best[1]).T, "oblimin", names, dtype)


METHODS: dict[str, Callable[..., Rotation]] = {
    "none": unrotated, "varimax": varimax, "quartimax": quartimax, "promax": promax, "oblimin": oblimin,
}  # fmt: skip
OBLIQUE = ("promax", "oblimin")


def _read(loadings: Any) -> tuple[np.ndarray, tuple[str, ...] | None, Any]:
    """(d, q) float64, the names of the columns that the rows stand for, and the dtype that they came in."""
    if is_traced(loadings):
        raise TypeError("loadings: are traced; rotations are found on the host, outside of jit.")
    array, _ = check_matrix(loadings, "loadings")
    if np.isnan(array).any():
        raise ValueError("loadings: found NaN; give finite numbers.")
    if array.shape[0] < array.shape[1]:
        raise ValueError(f"loadings: found shape {array.shape}; give columns by factors, (d, q) with d >= q.")
    index = getattr(loadings, "index", None) if hasattr(loadings, "columns") else None
    return array.astype(np.float64), None if index is None else tuple(map(str, index)), array.dtype


def _normalized(loadings: np.ndarray, normalize: bool) -> tuple[np.ndarray, float]:
    """Loadings of which the largest column has norm 1, after Kaiser's normalisation where asked; and the norm there was."""
    if not isinstance(normalize, (bool, np.bool_)):
        raise TypeError(f"normalize: found {normalize!r}; give True or False.")
    norms = np.linalg.norm(loadings, axis=1, keepdims=True)
    scaled = loadings / np.where(norms > 0, norms, 1) if normalize else loadings
    weight = float(np.linalg.norm(scaled))
    return scaled / (weight or 1), weight


def _orientations(q: int) -> list[np.ndarray]:
    """Orthogonal matrices to start at: the identity, then the same random ones always."""
    rng = np.random.default_rng(0)
    return [np.eye(q), *(np.linalg.qr(rng.normal(size=(q, q)))[0] for _ in range(STARTS - 1))]


def _orthomax(loadings: Any, gamma: float, normalize: bool, method: str) -> Rotation:
    given, names, dtype = _read(loadings)
    scaled, _ = _normalized(given, normalize)
    d, q = given.shape

    def worth(turn: np.ndarray) -> float:
        squares = np.square(scaled @ turn)
        return float((squares * squares).sum() - gamma / d * np.square(squares.sum(axis=0)).sum())

    best = max((_sweep(scaled, start, gamma) for start in _orientations(q)), key=worth) if q > 1 else np.eye(1)
    return _finish(given, best, method, names, dtype)


def _sweep(loadings: np.ndarray, turn: np.ndarray, gamma: float) -> np.ndarray:
    """The orthogonal matrix that rotations of pairs of factors, each to the best angle, lead to from `turn` (Kaiser 1958)."""
    d, q = loadings.shape
    for _ in range(SWEEPS):
        largest = 0.0
        for i in range(q):
            for j in range(i + 1, q):
                x, y = (loadings @ turn[:, [i, j]]).T
                u, v = x * x - y * y, 2 * x * y
                sine = 2 * (u * v).sum() - 2 * gamma * u.sum() * v.sum() / d
                cosine = (u * u - v * v).sum() - gamma * (u.sum() ** 2 - v.sum() ** 2) / d
                if np.hypot(sine, cosine) <= 1e-14 * np.square(u * u + v * v).sum() ** 0.5:
                    continue  # every angle is as good
                angle = np.arctan2(sine, cosine) / 4
                c, s = np.cos(angle), np.sin(angle)
                turn[:, [i, j]] = turn[:, [i, j]] @ np.array([[c, -s], [s, c]])
                largest = max(largest, abs(angle))
        if largest <= TOLERANCE:
            break
    return np.linalg.qr(turn)[0] * np.sign(np.diagonal(np.linalg.qr(turn)[1]))  # rounding of many products


def _descend(loadings: np.ndarray, criterion: Callable, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and T with columns of norm 1 at a minimum of criterion(loadings inv(T)'), by gradient projection."""
    factors, step = start, 1.0
    inverse = np.linalg.inv(factors)
    turned = loadings @ inverse.T
    value, slope = criterion(turned)
    for _ in range(STEPS):
        gradient = -(turned.T @ slope @ inverse).T
        projected = gradient - factors * (factors * gradient).sum(axis=0)
        size = float(np.square(projected).sum())
        if size <= TOLERANCE**2:
            break
        step *= 2
        while step > 1e-12:
            moved = factors - step * projected
            moved = moved / np.linalg.norm(moved, axis=0)
            back = np.linalg.inv(moved)
            there = loadings @ back.T
            found, steeper = criterion(there)
            if found <= value - 0.5 * size * step:
                break
            step /= 2
        else:
            break  # no step lowers it: what is left is rounding
        factors, inverse, turned, value, slope = moved, back, there, found, steeper
    return value, factors


def _finish(given: np.ndarray, turn: np.ndarray, method: str, names: Any, dtype: Any) -> Rotation:
    """The rotation L -> L turn, with factors in order of their sums of squares and columns of sum >= 0."""
    turned = given @ turn
    order = np.argsort(-np.square(turned).sum(axis=0), kind="stable")
    turn = turn[:, order] * np.where(turned[:, order].sum(axis=0) < 0, -1, 1)
    inverse = np.linalg.inv(turn)
    correlations = np.eye(len(turn)) if method not in OBLIQUE else inverse @ inverse.T
    return Rotation((given @ turn).astype(dtype), turn.astype(dtype), correlations.astype(dtype), method, names)


def check_rotation(name: Any) -> str | None:
    """`name` if it is None or that of a rotation.

    Raises:
        ValueError: anything else.
    """
    if name is not None and (not isinstance(name, str) or name not in METHODS):
        raise ValueError(f"rotation: found {name!r}; use one of {', '.join(METHODS)}.")
    return name
