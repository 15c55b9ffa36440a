"""Parameters held at given values or shared by all states, for any model: declared by name, carried by the domains.

`fixed` and `tied` change a leaf's domain and nothing else. Its unconstrained coordinates are then those that are left to
choose; the M-step maximises Q + log prior over them by Newton's method on the statistics, whose cost does not depend on n.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.domains import Domain, Simplex
from jaxem.newton import ascend

GIVEN = (type(None), Mapping, list, tuple, str, float)  # what a user may have given, as against `Restrictions`


@dataclasses.dataclass(frozen=True)
class Restrictions:
    """What is held and what is shared; which cells is static, at which values is not."""

    names: tuple[str, ...]  # of the leaves with fixed cells
    held: tuple[tuple[tuple[int, ...], tuple[bool, ...]], ...]  # shape and cells of each mask
    values: tuple[Any, ...]  # the values, 0 where free
    tied: tuple[tuple[str, tuple[int, ...] | None], ...]  # leaf and the entries along its last axis that are shared, None for all


jax.tree_util.register_dataclass(Restrictions, data_fields=("values",), meta_fields=("names", "held", "tied"))


def restrictions(fixed: Any, tied: Any, paths: list[str]) -> Restrictions | None:
    """Checks what a user gives, against the names of a model's params.

    Args:
        fixed: name -> value that broadcasts to the leaf, NaN where it stays free.
        tied: names of leaves whose value all states share, or name -> entries along the last axis that they share.
        paths: names of the leaves, such as "components.rate"; the last part suffices where it is the only one of its kind.

    Raises:
        TypeError, ValueError: unknown names (the known are listed), values that are not numbers or infinite.
    """
    if fixed is None and not tied:
        return None
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed: found {type(fixed).__name__}; give a mapping from names to values, NaN where free.")
    names, held, values = [], [], []
    for name, value in (fixed or {}).items():
        array = np.asarray(value, np.float64)
        if np.isinf(array).any():
            raise ValueError(f"fixed: {name} has infinite values; give finite numbers, NaN where a cell stays free.")
        names.append(_resolve("fixed", name, paths))
        held.append((array.shape, tuple((~np.isnan(array)).ravel().tolist())))
        values.append(np.nan_to_num(array))
    if isinstance(tied, str):
        tied = (tied,)
    shared = []
    for name in tied or ():
        entries = tied[name] if isinstance(tied, Mapping) else None
        kept = None if entries is None else tuple(int(e) for e in np.atleast_1d(np.asarray(entries)))
        shared.append((_resolve("tied", name, paths), kept))
        if shared[-1][0] in names:
            raise ValueError(f"tied: {shared[-1][0]} is fixed too; give the shared value to all states by fixed= alone.")
    return Restrictions(tuple(names), tuple(held), tuple(values), tuple(shared))


def _resolve(argument: str, name: Any, paths: list[str]) -> str:
    found = [path for path in paths if path == name or path.rsplit(".", 1)[-1] == name]
    if len(found) != 1:
        raise ValueError(f"{argument}: {name!r} is no parameter of this model; there are {', '.join(paths)}.")
    return found[0]


def paths_of(domains: Any) -> list[str]:
    """Names of the leaves of a params tree, such as "components.rate"."""
    leaves = jax.tree_util.tree_flatten_with_path(domains)[0]
    return [_name(path) for path, _ in leaves]


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)


def restrict(domains: Any, chosen: Restrictions | None) -> Any:
    """The same tree of domains with the restrictions in it.

    Raises:
        ValueError: a leaf tied that all states share already.
    """
    if chosen is None:
        return domains
    masks = {
        name: (np.array(cells, bool).reshape(shape), value)
        for name, (shape, cells), value in zip(chosen.names, chosen.held, chosen.values, strict=True)
    }
    tied = dict(chosen.tied)

    def wrap(path: Any, domain: Domain) -> Domain:
        name = _name(path)
        if name not in masks and name not in tied:
            return domain
        if name in tied and not domain.state_axes:
            raise ValueError(f"tied: {name} is shared by all states already; leave it out.")
        mask, value = masks.get(name, (None, None))
        says = f"{domain.says}, with its fixed and tied cells as the model holds them"
        return Restricted(domain.state_axes, domain.event_ndim, says, domain, mask, value, name in tied, tied.get(name), name)

    return jax.tree_util.tree_map_with_path(wrap, domains)


@dataclasses.dataclass(frozen=True, eq=False)
class Restricted(Domain):
    """A domain some of whose cells are held at values, or shared by all states."""

    base: Domain = dataclasses.field(default_factory=Domain)
    mask: np.ndarray | None = None  # broadcasts to the leaf, True where held
    value: Any = None  # likewise
    tied: bool = False
    entries: tuple[int, ...] | None = None  # along the last axis that are tied; None for all
    name: str = ""

    def _held(self, shape: tuple[int, ...]) -> np.ndarray:
        if self.mask is None:
            return np.zeros(shape, bool)
        try:
            return np.broadcast_to(self.mask, shape)
        except ValueError as error:
            raise ValueError(f"fixed: {self.name} has shape {self.mask.shape}; these data need {shape}.") from error

    def _values(self, shape: tuple[int, ...], like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(0 if self.value is None else self.value, like.dtype), shape)

    def _partial(self, shape: tuple[int, ...]) -> bool:
        """Whether some vector of probabilities is held in part: its free cells then share what is left."""
        if not isinstance(self.base, Simplex) or self.tied:
            return False
        held = self._held(shape)
        return bool((held.any(-1) & ~held.all(-1)).any())

    def _index(self, shape: tuple[int, ...]) -> np.ndarray:
        """For each coordinate of the base domain, which of ours it is; -1 where held."""
        cut = len(shape) - self.event_ndim
        batch, event = shape[:cut], shape[cut:]
        free = self.base.free(event)
        held: Any = self._held(shape)
        elementwise = self.base.elementwise
        if not elementwise:
            held = held.reshape(*batch, -1)
            if (held.any(-1) & ~held.all(-1)).any():
                raise ValueError(f"fixed: cells of {self.name} hang together ({self.base.says}); fix all of them or none.")
            held = np.repeat(held.all(-1)[..., None], free, axis=-1)
        index = np.arange(int(np.prod(batch)) * free).reshape(shape if elementwise else (*batch, free))
        if self.tied:
            chosen: Any = slice(None)
            if self.entries is not None:
                if not elementwise or not shape or max(self.entries) >= shape[-1] or len(shape) < 2:
                    raise ValueError(f"tied: {self.name} of shape {shape} has no entries {self.entries} of its own; tie all of it.")
                chosen = np.array(self.entries)
            index[..., chosen] = index[:1][..., chosen]
        kept = np.unique(index[~held])
        place = np.full(index.size, -1)
        place[kept] = np.arange(kept.size)
        return np.where(held, -1, place[index]).ravel()

    def count(self, shape: tuple[int, ...]) -> int:
        if self._partial(shape):
            held = self._held(shape)
            return int(np.maximum((~held).sum(-1) - 1, 0).sum())
        return int(self._index(shape).max(initial=-1)) + 1

    def flatten(self, x: jax.Array) -> jax.Array:
        if self._partial(x.shape):
            held, parts = self._held(x.shape).reshape(-1, x.shape[-1]), []
            for cells, row in zip(held, x.reshape(-1, x.shape[-1]), strict=True):
                if (~cells).sum() > 1:
                    left = row[~cells]
                    parts.append(self.base.unconstrain(left / left.sum()))
            return jnp.concatenate([jnp.zeros(0, x.dtype), *parts])
        index = self._index(x.shape)
        u = self.base.unconstrain(x).reshape(-1)
        size = int(index.max(initial=-1)) + 1
        free = index >= 0
        number = np.bincount(index[free], minlength=size)
        return jnp.zeros(size, u.dtype).at[index[free]].add(u[free] / number[index[free]])

    def unflatten(self, vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        held, values = self._held(shape), self._values(shape, vector)
        if self._partial(shape):
            rows, start = [], 0
            flat = values.reshape(-1, shape[-1])
            for cells, own in zip(held.reshape(-1, shape[-1]), flat, strict=True):
                free = int((~cells).sum())
                left = 1 - jnp.where(cells, own, 0).sum()
                if free:
                    part = self.base.constrain(vector[start : start + free - 1], (free,))
                    own = own.at[np.flatnonzero(~cells)].set(left * part)
                start += max(free - 1, 0)
                rows.append(own)
            return jnp.stack(rows).reshape(shape)
        index = self._index(shape)
        cut = len(shape) - self.event_ndim
        padded = jnp.concatenate([vector, jnp.zeros(1, vector.dtype)])
        x = self.base.constrain(padded[index].reshape(*shape[:cut], -1), shape[cut:])
        return jnp.where(held, values, x)

    def log_volumes(self, vector: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if self._partial(shape):
            total, start = jnp.zeros((), vector.dtype), 0
            values = self._values(shape, vector).reshape(-1, shape[-1])
            for cells, own in zip(self._held(shape).reshape(-1, shape[-1]), values, strict=True):
                free = max(int((~cells).sum()), 1)
                left = 1 - jnp.where(cells, own, 0).sum()
                own_volume = self.base.log_volume(vector[start : start + free - 1], (free,))
                total = total + own_volume + (free - 1) * jnp.log(jnp.where(left > 0, left, 1))
                start += free - 1
            return total
        index = self._index(shape)
        if self.base.elementwise:
            return self.base.log_volume(vector, (len(vector),))
        cut = len(shape) - self.event_ndim
        free = self.base.free(shape[cut:])
        first = np.unique(index[index >= 0].reshape(-1, free)[:, 0])  # events that are tied count once
        each = vector[first[:, None] + np.arange(free)]
        return self.base.log_volume(each, shape[cut:]).sum()

    def between(self, a: jax.Array, b: jax.Array, fraction: jax.Array) -> jax.Array:
        return self.base.between(a, b, fraction)

    def holds(self, x: np.ndarray) -> bool:
        held = self._held(x.shape)
        close = np.isclose(x, np.asarray(self._values(x.shape, jnp.asarray(x))), rtol=1e3 * np.finfo(x.dtype).eps, atol=0)
        same = True
        if self.tied:
            chosen: Any = slice(None) if self.entries is None else np.array(self.entries)
            part = x[..., chosen]
            same = bool(np.allclose(part, part[:1], rtol=1e3 * np.finfo(x.dtype).eps, atol=0))
        return bool(self.base.holds(x) and close[held].all() and same)


def breaks_symmetry(chosen: Restrictions | None, domains: Any) -> bool:
    """Whether cells are held differently in different states, so that their labels mean something."""
    if chosen is None:
        return False
    state_axes = dict(zip(paths_of(domains), [domain.state_axes for domain in jax.tree.leaves(domains)], strict=True))
    for name, (shape, _) in zip(chosen.names, chosen.held, strict=True):
        ndim = len(shape)
        if state_axes[name] and ndim and shape[0] > 1:
            return True
    return False


def m_step(model: Any, params: Any, statistics: Any) -> Any:
    """Maximiser of Q + log prior over the free coordinates, by Newton's method from `params`."""

    def objective(vector: jax.Array) -> jax.Array:
        candidate = model.from_unconstrained(vector, like=params)
        return model.expected_log_joint(candidate, statistics) + model.log_prior(candidate)

    return model.from_unconstrained(ascend(objective, model.to_unconstrained(params)), like=params)
