"""Names of single params and of directions among them, and which of them lie on the edge of where they may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.coordinates import count
from jaxem.domains import Domain, Positive, PositiveDefinite, Simplex, Unit
from jaxem.leaves import leaves_of
from jaxem.rows import Rows
from jaxem.view import View, view_of

FAR = 9.0  # log-odds beyond which a probability is next to 0 or 1
VAGUE = 10.0  # standard errors of a logarithm or of log-odds beyond which it says nothing
AWAY = 0.1  # a Newton step in such a coordinate that shows that there is no maximum nearby


class Cells(NamedTuple):
    """All numbers of a params tree, leaf after leaf, each row by row: N cells."""

    names: tuple[str, ...]  # for instance "mean[1, waiting]"; the state comes first
    values: np.ndarray  # (N,) float64
    scales: tuple[str, ...]  # "log", "logit" or "plain": on which scale intervals are symmetric
    doubled: np.ndarray  # (N,) bool, the upper triangle of a symmetric matrix, told by the lower


def cells_of(model: Any, params: Any, data: Any) -> Cells:
    """The cells with the names of the data's columns, categories and covariates; numbered where the data are prepared."""
    view = _view(model, params, data)
    domains = jax.tree_util.tree_flatten_with_path(getattr(model, "free_domains", model.domains))[0]
    leaves: Sequence[Any] = [None] * len(domains) if view is None else leaves_of(model, params, view)
    paths = [tuple(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", k)))) for k in keys) for keys, _ in domains]
    names, values, scales, doubled = [], [], [], []
    for path, (_, domain), leaf, value in zip(paths, domains, leaves, jax.tree.leaves(params), strict=True):
        value = np.asarray(value, np.float64)
        word = path[-1] if [other[-1] for other in paths].count(path[-1]) == 1 else ".".join(path)
        axes = [tuple(map(str, range(size))) for size in value.shape]
        if leaf is not None:
            told = [axis.names for axis in leaf.axes]
            axes[len(axes) - len(told) :] = told
        for place in np.ndindex(value.shape):
            inner = ", ".join(axes[axis][index] for axis, index in enumerate(place))
            names.append(f"{word}[{inner}]" if inner else word)
            values.append(value[place])
            scales.append(_scale(domain, place))
            doubled.append(isinstance(domain, PositiveDefinite) and place[-2] < place[-1])
    return Cells(tuple(names), np.array(values, np.float64), tuple(scales), np.array(doubled, bool))


def _view(model: Any, params: Any, data: Any) -> View | None:
    """What names are taken from; None where the data do not hold their columns any more."""
    del params
    if isinstance(data, Rows):
        return None
    try:
        return view_of(data, model=model)
    except (TypeError, ValueError):
        return None


def _scale(domain: Domain, place: tuple[int, ...]) -> str:
    if isinstance(domain, PositiveDefinite):
        return "log" if place[-1] == place[-2] else "plain"
    if isinstance(domain, (Simplex, Unit)):
        return "logit"
    return "log" if isinstance(domain, Positive) else "plain"


def coordinate_domains(model: Any, params: Any) -> list[Domain]:
    """The domain that each of the P unconstrained coordinates belongs to."""
    domains = model.domains
    out: list[Domain] = []
    structure: Any = jax.tree.structure(domains)
    shapes = structure.flatten_up_to(jax.tree.map(np.shape, params))
    for domain, shape in zip(jax.tree.leaves(domains), shapes, strict=True):
        out += [domain] * count(domain, shape)
    return out


def runs_away(model: Any, params: Any, u: Any, gradient: Any, information: Any) -> jax.Array:
    """(P,) bool: coordinates along which the maximum lies at infinity, that is on the edge of the params' domain.

    Those that are infinite; and logarithms or log-odds that run away: their information is next to none, so that they could be
    anything (a standard error above 10), or they are far out and a Newton step goes on. Information next to none where the
    gradient is none either, not far out, is that of a flat ridge, and information below none that of a saddle.
    """
    kinds = [getattr(domain, "base", domain) for domain in coordinate_domains(model, params)]  # of what is partly held: its own
    bounded = np.array([isinstance(kind, (Positive, Unit, Simplex)) for kind in kinds], bool)
    shares = np.array([isinstance(kind, (Unit, Simplex)) for kind in kinds], bool)
    own = jnp.diagonal(information)
    far, going = jnp.abs(u) > FAR, jnp.abs(gradient) > AWAY * jnp.abs(own)
    vague = (own >= 0) & (own * VAGUE**2 <= 1) & (far | going)
    return ~jnp.isfinite(u) | (bounded & vague) | (shares & far & going)


def names_on_edge(cells: Cells, natural: np.ndarray, edge: np.ndarray) -> tuple[str, ...]:
    """Names of the cells at the edge, from the derivative (N, P) of the cells and which of the P coordinates are there."""
    lies = np.array([_at_edge(value, scale) for value, scale in zip(cells.values, cells.scales, strict=True)], bool)
    moved = np.abs(np.nan_to_num(natural))
    only = (moved[:, ~edge] <= 1e-12 * max(moved.max(initial=0), 1e-300)).all(axis=1)  # by no coordinate that stays
    touched = (moved[:, edge] > 0).any(axis=1) if edge.any() else np.zeros(len(only), bool)
    exact = lies & only & np.isin(cells.values, (0.0, 1.0))
    found = (exact | (touched & (lies | only))) & ~cells.doubled
    return tuple(name for name, here in zip(cells.names, found, strict=True) if here) if edge.any() else ()


def _at_edge(value: float, scale: str) -> bool:
    near = 2 * np.exp(-FAR)
    return value == 0 if scale == "log" else scale == "logit" and (value < near or value > 1 - near)


def name_direction(cells: Cells, direction: np.ndarray, most: int = 3) -> str:
    """The cells that a direction (N,) moves the most, with signs: "+mean[0, x] -mean[1, x]"."""
    size = np.where(cells.doubled, 0, np.abs(np.nan_to_num(direction)))
    first = np.argsort(-size)[:most]
    order = [i for i in first if size[i] > 0.1 * size[first[0]]]
    return ", ".join(f"{'+' if direction[i] > 0 else '-'}{cells.names[i]}" for i in order)
