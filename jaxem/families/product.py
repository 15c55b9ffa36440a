"""Columns of several kinds side by side: one family for each named group of columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import is_traced
from jaxem.family import Family, Remark, check_family
from jaxem.kernels.linalg import transpose
from jaxem.kernels.quantiles import Tails
from jaxem.layout import find_patterns, one_pattern
from jaxem.rows import Rows, Table


@dataclasses.dataclass(frozen=True)
class Origins:
    """What the groups' cells are relative to, and where each group's share of what all have in common begins and ends."""

    each: dict[str, Any]  # name -> that family's `Table.origin`
    masks: tuple[int, ...]  # columns of each group in the table of patterns
    pilots: tuple[int, ...]  # pilot columns of each group


jax.tree_util.register_dataclass(Origins, data_fields=("each",), meta_fields=("masks", "pilots"))


class Product(Family):
    r"""log p(y | k) = sum over groups g of log p_g(y_g | k): groups of columns are independent given the state.

    `Product(age=Gaussian(), visits=Poisson(), ward=Categorical())` is the location model of mixed data (Hunt and Jorgensen 1999,
    Aust. N. Z. J. Statist. 41:153). Params, statistics, samples and priors are dicts by group; a group left out of the prior's
    dict has none.

    Data: a mapping from each group's name to what its family takes (array, data frame, `Regression`, `Interval`), rows aligned;
    or, with `columns`, one data frame. Missing cells are each family's own.

    Args:
        columns: for data frames, group -> the names of its columns.
        families: group -> its family.

    Raises:
        TypeError, ValueError: no group, something else than a family; data with unknown or missing groups or columns, or groups of
            different lengths; and as each family, naming the group.
    """

    families: dict[str, Any]
    columns: tuple[tuple[str, tuple[Any, ...]], ...] | None

    def __init__(self, columns: Mapping[str, Any] | None = None, /, **families: Any):
        if not families:
            raise ValueError("families: found none; give one for each group of columns, for instance Product(age=Gaussian()).")
        if isinstance(families.get("columns"), Mapping):  # as a keyword it is the mapping, unless a family has that name
            columns = families.pop("columns")
        for family in families.values():
            check_family(family)
        if columns is not None:
            _same_names("columns", columns, families)
            columns = {name: (c,) if isinstance(c, str) else tuple(c) for name, c in columns.items()}
        self._set(families, None if columns is None else tuple(columns.items()))

    def _set(self, families: dict[str, Any], columns: Any) -> None:
        self.__dict__.update(families=families, columns=columns)

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __repr__(self) -> str:
        return f"Product({', '.join(f'{name}={family!r}' for name, family in self.families.items())})"

    def __eq__(self, other: Any) -> bool:
        same = isinstance(other, Product) and self.columns == other.columns
        return same and list(self.families.items()) == list(other.families.items())

    def __hash__(self) -> int:
        return hash((tuple(self.families), self.columns))

    def _each(self, visit: Callable[..., Any], *parts: Any) -> dict[str, Any]:
        """Group -> visit(family, its share of each of the dicts)."""
        return {name: visit(family, *(part[name] for part in parts)) for name, family in self.families.items()}

    def _with(self, families: dict[str, Any]) -> Product:
        new = object.__new__(Product)
        new._set(families, self.columns)
        return new

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return all(family.closed for family in self.families.values())

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        return all(family.discrete for family in self.families.values())

    @property
    def observed_blocks(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"{name}.{block}" for name, family in self.families.items() for block in family.observed_blocks)

    @property
    def domains(self) -> dict[str, Any]:
        return self._each(lambda family: family.domains)

    def _sizes(self, size: Any) -> dict[str, Any]:
        if not isinstance(size, tuple) or len(size) != len(self.families):
            raise ValueError(f"size: found {size}; give prepared data (or like=params), since each group has a size of its own.")
        return dict(zip(self.families, size, strict=True))

    def structure(self, n_states: int, size: Any) -> dict[str, Any]:
        return self._each(lambda family, own: family.structure(n_states, own), self._sizes(size))

    def absent(self, n_states: int, size: Any) -> int:
        return sum(self._each(lambda family, own: family.absent(n_states, own), self._sizes(size)).values())

    # data

    def read(self, data: Any, weights: Any = None, missing: bool | None = None) -> Table:
        groups = self._groups(data)
        tables = {}
        for name, family in self.families.items():
            try:
                tables[name] = family.read(groups[name], weights, missing)
            except (TypeError, ValueError) as error:
                raise type(error)(f"y[{name!r}]: {str(error).removeprefix('y: ')}") from error
        lengths = {name: len(table.pilot) for name, table in tables.items()}
        n = next(iter(lengths.values()))
        if any(length != n for length in lengths.values()):
            found = ", ".join(f"{length} in {name!r}" for name, length in lengths.items())
            raise ValueError(f"y: found groups of different lengths, {found} rows; give aligned rows.")
        return self._join(tables, n)

    def _groups(self, data: Any) -> Any:
        """Group -> its data."""
        if hasattr(data, "columns") and hasattr(data, "to_numpy"):
            if self.columns is None:
                raise TypeError("y: found a data frame; say which columns each group has by Product(columns={...}, ...).")
            absent = [str(c) for _, own in self.columns for c in own if c not in data.columns]
            if absent:
                raise ValueError(f"y: has no column {', '.join(absent)}; it has {', '.join(map(str, data.columns))}.")
            return {name: data[list(own)] for name, own in self.columns}
        if not isinstance(data, Mapping):
            names = ", ".join(self.families)
            raise TypeError(f"y: found {type(data).__name__}; give a mapping from each group ({names}) to its data.")
        _same_names("y", data, self.families)
        return data

    def _join(self, tables: dict[str, Table], n: int) -> Table:
        every = list(tables.values())
        dtype = np.result_type(*(table.pilot.dtype for table in every))
        traced = is_traced(every)
        if traced and any(table.has_missing for table in every):
            raise ValueError("y: some groups are traced and others have missing cells; prepare all of them outside of jit.")

        def cast(leaf: Any) -> Any:
            return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        def together(leaves: list[Any]) -> Any:
            return jnp.concatenate(leaves, axis=1) if traced else np.concatenate(leaves, axis=1)

        patterns = [one_pattern(n, table.d) if table.patterns is None else table.patterns for table in every]
        masks = tuple(own.table.shape[1] for own in patterns)
        joint = None
        if any(len(own.table) > 1 or not own.table.all() for own in patterns):
            joint = find_patterns(np.concatenate([own.table[own.of_row] for own in patterns], axis=1))
        elif sum(masks) != sum(table.d for table in every):
            joint = one_pattern(n, sum(masks))
        informative = [np.ones(n, bool) if table.informative is None else table.informative for table in every]
        named = any(table.labels is not None for table in every)
        return Table(
            cells={name: jax.tree.map(cast, table.cells) for name, table in tables.items()},
            pilot=together([cast(table.pilot) for table in every]),
            origin=Origins(
                {name: jax.tree.map(cast, table.origin) for name, table in tables.items()},
                masks,
                tuple(table.pilot.shape[1] for table in every),
            ),
            size=tuple(table.size for table in every),
            d=sum(table.d for table in every),
            informative=np.any(informative, axis=0),
            has_missing=any(table.has_missing for table in every),
            typical={name: jax.tree.map(cast, table.typical) for name, table in tables.items()},
            patterns=joint,
            columns=tuple(label for name, table in tables.items() for label in _names(name, table)),
            labels=tuple((name, table.labels) for name, table in tables.items()) if named else None,
        )

    def width(self, size: Any) -> int:
        return min(self._each(lambda family, own: family.width(own), self._sizes(size)).values())

    def _rows(self, rows: Rows) -> dict[str, Rows]:
        """Group -> the rows as its family knows them."""
        out, first, sizes = {}, 0, self._sizes(rows.size)
        labels: Any = {} if rows.labels is None else dict(rows.labels)  # type: ignore[call-overload]
        for name, pilots in zip(self.families, rows.origin.pilots, strict=True):
            own = slice(first, first + pilots)
            out[name] = dataclasses.replace(
                rows,
                origin=rows.origin.each[name],
                spread=rows.spread[own],
                typical=rows.typical[name],
                pilot=rows.pilot[:, own],
                pilot_cells=rows.pilot_cells[name],
                d=pilots,
                size=sizes[name],
                columns=None if rows.columns is None else rows.columns[own],
                labels=labels.get(name),
            )
            first += pilots
        return out

    def embed(self, rows: Rows) -> jax.Array:
        return jnp.concatenate(list(self._each(lambda family, own: family.embed(own), self._rows(rows)).values()), axis=1)

    def settle(self, params: Any, rows: Rows) -> Product:
        chosen = dict.fromkeys(self.families) if params is None else params
        return self._with(self._each(lambda family, p, own: family.settle(p, own), chosen, self._rows(rows)))

    def localize(self, params: Any, rows: Rows, shared: bool = False) -> Product:
        return self._with(self._each(lambda family, p, own: family.localize(p, own, shared), params, self._rows(rows)))

    # E-step

    def bind(self, params: Any, mask: jax.Array, origin: Origins) -> dict[str, Any]:
        cuts = np.cumsum(origin.masks)[:-1]
        masks = dict(zip(self.families, jnp.split(mask, cuts, axis=1), strict=True))
        return self._each(lambda family, p, own, start: family.bind(p, own, start), params, masks, origin.each)

    def log_prob(self, bound: Any, cells: Any) -> jax.Array:
        parts = list(self._each(lambda family, b, own: family.log_prob(b, own), bound, cells).values())
        return sum(parts[1:], parts[0])

    def sums(self, bound: Any, cells: Any, r: jax.Array) -> dict[str, Any]:
        return self._each(lambda family, b, own: family.sums(b, own, r), bound, cells)

    def finish(self, bound: Any, raw: Any, origin: Origins) -> dict[str, Any]:
        return self._each(lambda family, b, own, start: family.finish(b, own, start), bound, raw, origin.each)

    def complete(self, bound: Any, cells: Any, origin: Origins) -> tuple[jax.Array, jax.Array, jax.Array]:
        parts = list(self._each(lambda family, b, own, start: family.complete(b, own, start), bound, cells, origin.each).values())
        mean = jnp.concatenate([part[0] for part in parts], axis=2)
        by_row = any(part[1].ndim == 5 for part in parts)
        blocks = [part[1][:, :, None] if by_row and part[1].ndim == 4 else part[1] for part in parts]
        lead = jnp.broadcast_shapes(*(block.shape[:-2] for block in blocks))
        covariance = jnp.zeros((*lead, mean.shape[2], mean.shape[2]), mean.dtype)
        first = 0
        for block in blocks:
            own = slice(first, first + block.shape[-1])
            covariance = covariance.at[..., own, own].set(jnp.broadcast_to(block, (*lead, *block.shape[-2:])))
            first += block.shape[-1]
        rows = (mean.shape[0], mean.shape[3])
        seen = [jnp.broadcast_to(part[2], (rows[0], part[2].shape[1], rows[1])) for part in parts]
        return mean, covariance, jnp.concatenate(seen, axis=1)

    # M-step

    def _priors(self, prior: Any) -> dict[str, Any]:
        if prior is None:
            return dict.fromkeys(self.families)
        if not isinstance(prior, Mapping):
            raise TypeError(f"prior: found {type(prior).__name__}; give a dict from groups to their families' priors.")
        unknown = [name for name in prior if name not in self.families]
        if unknown:
            raise ValueError(f"prior: unknown groups {', '.join(map(repr, unknown))}; there are {', '.join(self.families)}.")
        return {name: prior.get(name) for name in self.families}

    def maximize(self, params: Any, statistics: Any, prior: Any) -> dict[str, Any]:
        return self._each(lambda family, *own: family.maximize(*own), params, statistics, self._priors(prior))

    def maximize_expanded(self, params: Any, statistics: Any, prior: Any) -> dict[str, Any]:
        return self._each(lambda family, *own: family.maximize_expanded(*own), params, statistics, self._priors(prior))

    def expected_log_prob(self, params: Any, statistics: Any) -> jax.Array:
        parts = self._each(lambda family, *own: family.expected_log_prob(*own), params, statistics)
        return sum(list(parts.values())[1:], next(iter(parts.values())))

    def log_prior(self, params: Any, prior: Any) -> jax.Array:
        zero = jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        own = self._each(lambda family, p, q: zero if q is None else family.log_prior(p, q), params, self._priors(prior))
        return sum(own.values(), zero)

    def conjugate(self, prior: Any, params: Any) -> dict[str, Any]:
        given = self._priors(prior)
        for name, own in given.items():
            if own is None:
                raise ValueError(f"prior: group {name!r} has none; give one for each group.")
        return self._each(lambda family, q, p: family.conjugate(q, p), given, params)

    def update(self, distribution: Any, statistics: Any) -> dict[str, Any]:
        return self._each(lambda family, q, own: family.update(q, own), distribution, statistics)

    def under(self, distribution: Any) -> tuple[Any, Any]:
        pairs = self._each(lambda family, q: family.under(q), distribution)
        return self._with({name: pair[0] for name, pair in pairs.items()}), {name: pair[1] for name, pair in pairs.items()}

    def integrates(self, rows: Rows) -> bool:
        return any(self._each(lambda family, own: family.integrates(own), self._rows(rows)).values())

    # the rest

    def degenerate(self, params: Any, rows: Rows) -> jax.Array:
        parts = list(self._each(lambda family, p, own: family.degenerate(p, own), params, self._rows(rows)).values())
        return jnp.stack(jnp.broadcast_arrays(*parts)).any(axis=0)

    def magnitude(self, params: Any, rows: Rows) -> jax.Array:
        parts = self._each(lambda family, p, own: family.magnitude(p, own), params, self._rows(rows))
        return sum(parts.values(), jnp.zeros((), rows.dtype))

    def remarks(self, params: Any, rows: Rows) -> list[Remark]:
        found = self._each(lambda family, p, own: family.remarks(p, own), params, self._rows(rows))
        return [Remark(k, f"{group}: {sentence}") for group, each in found.items() for k, sentence in each]

    def rank(self, params: Any) -> jax.Array:
        return jnp.concatenate(list(self._each(lambda family, p: family.rank(p), params).values()), axis=1)

    def moments(self, params: Any) -> tuple[jax.Array, jax.Array]:
        """Means (K, d), and covariances (K, d, d) that are zero between groups."""
        parts = list(self._each(lambda family, p: family.moments(p), params).values())
        mean = jnp.concatenate([part[0] for part in parts], axis=1)
        covariance = jnp.zeros((*mean.shape, mean.shape[1]), mean.dtype)
        first = 0
        for centre, spread in parts:
            own = slice(first, first + centre.shape[1])
            dense = spread if spread.ndim == 3 else spread[:, :, None] * jnp.eye(spread.shape[1], dtype=spread.dtype)
            covariance = covariance.at[:, own, own].set(dense)
            first += centre.shape[1]
        return mean, 0.5 * (covariance + transpose(covariance))

    def tails(self, params: Any, y: Any, x: Any = None) -> Tails:
        """Of all columns, group after group; y and x are dicts of groups, or None."""
        given = dict.fromkeys(self.families) if x is None else x
        parts = self._each(lambda family, p, own, more: family.tails(p, own, x=more), params, y, given).values()
        return Tails(*(jnp.concatenate(leaves, axis=-1) for leaves in zip(*parts, strict=True)))

    def sample(self, key: jax.Array, params: Any, states: jax.Array) -> dict[str, Any]:
        keys = dict(zip(self.families, jax.random.split(key, len(self.families)), strict=True))
        return self._each(lambda family, own, p: family.sample(own, p, states), keys, params)

    def draw_missing(self, key: jax.Array, params: Any, states: jax.Array, y: Any, x: None = None) -> dict[str, Any]:
        """As each family, of a dict of groups."""
        del x
        keys = dict(zip(self.families, jax.random.split(key, len(self.families)), strict=True))
        return self._each(lambda family, own, p, cells: family.draw_missing(own, p, states, cells), keys, params, y)

    def init(self, rows: Rows, r: jax.Array) -> dict[str, Any]:
        return self._each(lambda family, own: family.init(own, r), self._rows(rows))


def _flatten(product: Product) -> tuple[Any, Any]:
    names = tuple(product.families)
    return [(jax.tree_util.GetAttrKey(name), product.families[name]) for name in names], (names, product.columns)


def _unflatten(kept: Any, families: Any) -> Product:
    new = object.__new__(Product)
    new._set(dict(zip(kept[0], families, strict=True)), kept[1])
    return new


jax.tree_util.register_pytree_with_keys(Product, _flatten, _unflatten)


def _same_names(argument: str, found: Mapping[str, Any], families: Mapping[str, Any]) -> None:
    absent = [repr(name) for name in families if name not in found]
    unknown = [repr(name) for name in found if name not in families]
    if absent or unknown:
        parts = [f"lacks {', '.join(absent)}"] * bool(absent) + [f"has the unknown {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{argument}: {' and '.join(parts)}; the groups are {', '.join(map(repr, families))}.")


def _names(group: str, table: Table) -> tuple[str, ...]:
    """Names of a group's pilot columns."""
    own = range(table.pilot.shape[1]) if table.columns is None else table.columns
    return tuple(f"{group}.{name}" for name in own)
