"""What follows for a params tree from its parallel tree of `jaxem.domains.Domain`s.

Unconstrained coordinates, counts of free parameters, checks of values and relabelling of states are computed here from that
tree, so no family or model writes them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain
from jaxem.result import Fit


def _flatten(domains: Any) -> tuple[list[Domain], Any]:
    return jax.tree.flatten(domains)


def count(domains: Any, shapes: Any) -> int:
    """Number of free parameters of a params tree with these leaf shapes (a tree of tuples)."""
    leaves, structure = _flatten(domains)
    return sum(domain.count(shape) for domain, shape in zip(leaves, structure.flatten_up_to(shapes), strict=True))


def to_unconstrained(domains: Any, params: Any) -> jax.Array:
    """The params tree as one flat vector of unconstrained coordinates, leaf after leaf."""
    no_fit(params)
    parts = jax.tree.map(lambda domain, x: domain.flatten(jnp.asarray(x)), domains, params)
    return jnp.concatenate(jax.tree.leaves(parts))


def from_unconstrained(domains: Any, shapes: Any, vector: jax.Array) -> Any:
    """Inverse of `to_unconstrained` for leaf shapes `shapes` (a tree of tuples)."""
    leaves, structure = _flatten(domains)
    values, start = [], 0
    for domain, shape in zip(leaves, structure.flatten_up_to(shapes), strict=True):
        size = domain.count(shape)
        values.append(domain.unflatten(vector[start : start + size], shape))
        start += size
    return structure.unflatten(values)


def log_volume(domains: Any, shapes: Any, vector: jax.Array) -> jax.Array:
    """() log of how much `from_unconstrained` stretches volume at the vector, see `Domain.log_volume`."""
    leaves, structure = _flatten(domains)
    total, start = jnp.zeros((), vector.dtype), 0
    for domain, shape in zip(leaves, structure.flatten_up_to(shapes), strict=True):
        size = domain.count(shape)
        total = total + domain.log_volumes(vector[start : start + size], shape)
        start += size
    return total


def settle(domains: Any, params: Any) -> Any:
    """The params moved into domains that hold or tie some of their cells."""
    shapes = jax.tree.map(jnp.shape, params)
    return from_unconstrained(domains, shapes, to_unconstrained(domains, params))


def relabel(domains: Any, params: Any, order: jax.Array) -> Any:
    """The params with state `order[k]` moved to place k, in all leaves together."""
    no_fit(params)
    return jax.tree.map(lambda domain, x: domain.relabel(x, order), domains, params)


def between(domains: Any, a: Any, b: Any, fraction: jax.Array) -> Any:
    """Params on the way from a to b, each leaf within its domain; b itself at fraction 1."""
    return jax.tree.map(lambda domain, x, y: domain.between(x, y, fraction), domains, a, b)


def add_state_axis(domains: Any, params: Any) -> Any:
    """Params of one state without the state axis -> with a leading state axis of length 1."""
    no_fit(params)
    return jax.tree.map(lambda domain, x: jnp.asarray(x)[None] if domain.state_axes else jnp.asarray(x), domains, params)


def drop_state_axis(domains: Any, params: Any) -> Any:
    """Inverse of `add_state_axis`."""
    return jax.tree.map(lambda domain, x: x[0] if domain.state_axes else x, domains, params)


def check_params(domains: Any, shapes: Any, params: Any, name: str = "params") -> None:
    """Structure, shapes and, where concrete, values of a params tree.

    Raises:
        TypeError: another structure. ValueError: a leaf of a wrong shape or outside its domain; names the leaf.
    """
    check_structure(domains, params, name)
    expected: Any = jax.tree.structure(domains)
    paths = jax.tree_util.tree_flatten_with_path(domains)[0]
    for (path, domain), shape, value in zip(paths, expected.flatten_up_to(shapes), jax.tree.leaves(params), strict=True):
        leaf = name + jax.tree_util.keystr(path)
        if np.shape(value) != shape:
            raise ValueError(f"{leaf}: found shape {np.shape(value)}; these data and this model need {shape}.")
        if not isinstance(value, jax.core.Tracer) and not domain.holds(np.asarray(value)):
            raise ValueError(f"{leaf}: must hold {domain.says}; found a value that does not.")


def check_structure(domains: Any, params: Any, name: str = "params") -> None:
    """Raises TypeError where a params tree is of another structure than its domains, and so of another model."""
    no_fit(params, name)
    found: Any = jax.tree.structure(params)
    if found != jax.tree.structure(domains):
        raise TypeError(f"{name}: found {named(params)}; give {named(domains)}, as model.init returns it.")


def no_fit(params: Any, name: str = "params") -> None:
    """Raises TypeError where a whole `Fit` stands for its params."""
    if isinstance(params, Fit):
        raise TypeError(f"{name}: found Fit; give fit.params.")


def named(tree: Any) -> str:
    """A tree for a person: `MixtureParams(weights, components=GaussianParams(mean, covariance))`."""

    def field(name: str, part: Any) -> str:
        inner = named(part) if isinstance(part, (tuple, list, dict)) else ""
        return f"{name}={inner}" if inner else name

    if hasattr(tree, "_fields"):
        return f"{type(tree).__name__}({', '.join(map(field, tree._fields, tree))})"
    if isinstance(tree, dict):
        return f"dict({', '.join(field(str(name), part) for name, part in tree.items())})"
    if isinstance(tree, (tuple, list)):
        return f"{type(tree).__name__} of {len(tree)}"
    return type(tree).__name__


def cast(params: Any, dtype: Any) -> Any:
    """All leaves as arrays of one float dtype."""
    no_fit(params)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def shapes_for(model: Any, vector: Any, like: Any) -> Any:
    """Leaf shapes that a flat vector of coordinates stands for: those of `like`, or of the d that its length fits.

    Raises:
        ValueError: no number of columns gives that many free parameters.
    """
    if like is not None:
        return jax.tree.map(jnp.shape, like)
    size = vector.shape[-1]
    for d in range(1, size + 1):
        shapes = model.structure(d)
        if (found := count(model.domains, shapes)) == size:
            return shapes
        if found > size:
            break
    raise ValueError(f"vector: {size} coordinates fit no number of columns of this model; give like=params.")
