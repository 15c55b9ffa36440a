"""The one place that sums over rows: blocks under `lax.scan`, shards under `shard_map`, compensated totals.

`fold` never stores anything of size n x K: responsibilities live for one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxem.rows import Rows, Section

Respond = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]


class _Carry(NamedTuple):
    sums: Any  # raw per pattern, or finished where patterns are bound chunk by chunk
    tally: Any
    lost: Any  # what the running tally has lost to rounding (Kahan 1965)


def fold(family: Any, params: Any, rows: Rows, respond: Respond, rowwise: bool = False) -> tuple[Any, Any]:
    """Completed statistics of the family and the model's own tally, summed over all rows.

    `respond(log_prob (c, K, b), weights (c, b))` gives responsibilities times weights (c, K, b) and a pytree of sums over the
    chunk; a `jax.tree_util.Partial`, so that what it closes over is traced. Tallies (log-likelihood, counts) are summed with
    compensation. Where rows have covariates of their state probabilities, `respond` gets them as `gate` (c, g, b); with
    `rowwise`, their numbers in the input as `row` (c, b).
    """
    return _over_shards(rows, partial(_fold_section, rowwise=rowwise), (family, params, respond))


def fold_given(family: Any, params: Any, rows: Rows, r: jax.Array) -> Any:
    """Completed statistics of the family under posterior probabilities r (n, K) of the states that are known already."""
    padded = jnp.concatenate([r, jnp.zeros_like(r[:1])])
    return _over_shards(rows, _fold_given_section, (family, params, padded))


def tally(family: Any, params: Any, rows: Rows, respond: Callable[[jax.Array, jax.Array], Any]) -> Any:
    """The tally alone, without statistics; reverse-mode keeps one chunk at a time in memory."""
    return _over_shards(rows, _tally_section, (family, params, respond))


def map_rows(family: Any, params: Any, rows: Rows, visit: Callable[..., Any], gated: bool = False) -> Any:
    """`visit(bound, cells, log_prob)` -> leaves (c, *, b), brought to input order: leaves (n, *). `gated` adds `gate`."""
    parts = []
    for section in rows.sections:
        table = _table(family, params, rows.origin, section)

        def one(chunk: Section, section: Section = section, table: Any = table) -> Any:
            bound = _bound_of(family, params, rows.origin, section, chunk, table)
            told = _with_gate(visit, chunk) if gated else visit
            return told(bound, chunk.cells, family.log_prob(bound, chunk.cells))

        out = jax.lax.map(one, _chunks(section))
        parts.append(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 2).reshape(-1, *leaf.shape[2:-1]), out))
    slots = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return jax.tree.map(lambda leaf: leaf[rows.position], slots)


def fold_blocks(family: Any, params: Any, rows: Rows, r: jax.Array) -> Any:
    """The same under r (blocks, 1, K, b) in the order of the one section of rows that stand in an order of their own."""
    (section,) = rows.sections
    table = _table(family, params, rows.origin, section)

    def visit(chunk: Section, r: jax.Array) -> Any:
        return family.sums(_bound_of(family, params, rows.origin, section, chunk, table), chunk.cells, r * chunk.weights[:, None])

    def step(total: Any, given: tuple[Section, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, visit(*given)), None

    chunks = _chunks(section)
    shapes = jax.eval_shape(visit, jax.tree.map(lambda leaf: leaf[0], chunks), r[0])
    return family.finish(table, jax.lax.scan(step, zeros(shapes), (chunks, r))[0], rows.origin)


def map_blocks(family: Any, params: Any, rows: Rows) -> jax.Array:
    """log_prob (blocks, K, b) of the one section of rows in an order of their own."""
    (section,) = rows.sections
    table = _table(family, params, rows.origin, section)

    def one(chunk: Section) -> jax.Array:
        return family.log_prob(_bound_of(family, params, rows.origin, section, chunk, table), chunk.cells)[0]

    return jax.lax.map(one, _chunks(section))


def _with_gate(respond: Callable[..., Any], chunk: Section, rowwise: bool = False) -> Callable[..., Any]:
    """`respond`, told the covariates of the chunk's state probabilities where there are any, and row numbers if asked for."""
    told = respond if chunk.gate is None else partial(respond, gate=chunk.gate)
    return partial(told, row=chunk.row) if rowwise else told


def _chunks(section: Section) -> Section:
    """What a scan runs over: a table of patterns is not cut."""
    return section if section.pattern is None else section._replace(mask=None)


def _table(family: Any, params: Any, origin: Any, section: Section) -> Any:
    return None if section.pattern is None else family.bind(params, section.mask, origin)


def _bound_of(family: Any, params: Any, origin: Any, section: Section, chunk: Section, table: Any) -> Any:
    """The bound params of the patterns of one chunk; leaves lead with c (or with 1, for all groups alike)."""
    if section.pattern is None:
        return family.bind(params, chunk.mask, origin)
    return jax.tree.map(lambda leaf: leaf if leaf.shape[0] == 1 else leaf[chunk.pattern], table)


def _compensated(total: Any, lost: Any, part: Any) -> tuple[Any, Any]:
    part = jax.tree.map(jnp.subtract, part, lost)
    new = jax.tree.map(jnp.add, total, part)
    # an infinite total stays infinite instead of turning into infinity minus infinity
    lost = jax.tree.map(lambda n, t, p: jnp.where(jnp.isfinite(n), (n - t) - p, 0), new, total, part)
    return new, lost


def _over_shards(rows: Rows, visit: Callable[[Any, jax.Array, Section], Any], bundle: Any) -> Any:
    """Adds up `visit(bundle, origin, section)` over sections, and over devices where the chunks are dealt to several."""

    def local(bundle: Any, origin: Any, sections: tuple[Section, ...]) -> Any:
        parts = [visit(bundle, origin, section) for section in sections]
        return jax.tree.map(lambda first, *rest: sum(rest, first), *parts)

    if rows.mesh is None:
        return local(bundle, rows.origin, rows.sections)

    def summed(bundle: Any, origin: Any, sections: tuple[Section, ...]) -> Any:
        # one collective for all leaves: less latency, and no two that devices could enter in different orders
        vector, restore = ravel_pytree(local(bundle, origin, sections))
        return restore(jax.lax.psum(vector, rows.axis))

    dealt, everywhere = jax.sharding.PartitionSpec(rows.axis), jax.sharding.PartitionSpec()
    in_sections = tuple(
        jax.tree.map(lambda _: dealt, section)._replace(mask=dealt if section.pattern is None else everywhere)
        for section in rows.sections
    )
    mapped = jax.shard_map(
        summed, mesh=rows.mesh, in_specs=(everywhere, everywhere, in_sections), out_specs=everywhere, check_vma=False
    )
    return mapped(bundle, rows.origin, rows.sections)


def zeros(shapes: Any) -> Any:
    """A tree of zeros in these shapes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _fold_given_section(bundle: Any, origin: Any, section: Section) -> Any:
    family, params, padded = bundle

    def respond(log_prob: jax.Array, weights: jax.Array, row: jax.Array, gate: Any = None) -> tuple[jax.Array, Any]:
        del log_prob, gate
        return jnp.moveaxis(padded[row], -1, 1) * weights[:, None], jnp.zeros((), padded.dtype)

    return _fold_section((family, params, respond), origin, section, rowwise=True)[0]


def _fold_section(bundle: Any, origin: Any, section: Section, rowwise: bool = False) -> Any:
    family, params, respond = bundle
    table = _table(family, params, origin, section)
    one_pattern = section.pattern is not None and section.mask.shape[0] == 1

    def visit(chunk: Section) -> tuple[Any, Any]:
        bound = _bound_of(family, params, origin, section, chunk, table)
        told = _with_gate(respond, chunk, rowwise)
        r, part = told(family.log_prob(bound, chunk.cells), chunk.weights)
        sums = family.sums(bound, chunk.cells, r)
        if section.pattern is None:
            sums = family.finish(bound, sums, origin)
        elif one_pattern:
            sums = jax.tree.map(lambda leaf: leaf.sum(axis=0, keepdims=True), sums)
        return sums, part

    def step(carry: _Carry, chunk: Section) -> tuple[_Carry, None]:
        sums, part = visit(chunk)
        if section.pattern is None or one_pattern:
            sums = jax.tree.map(jnp.add, carry.sums, sums)
        else:
            sums = jax.tree.map(lambda total, leaf: total.at[chunk.pattern].add(leaf), carry.sums, sums)
        return _Carry(sums, *_compensated(carry.tally, carry.lost, part)), None

    chunks = _chunks(section)
    sums, part = jax.eval_shape(visit, jax.tree.map(lambda leaf: leaf[0], chunks))
    if section.pattern is not None and not one_pattern:
        n_patterns = section.mask.shape[0]
        sums = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n_patterns, *leaf.shape[1:]), leaf.dtype), sums)
    carry, _ = jax.lax.scan(step, _Carry(zeros(sums), zeros(part), zeros(part)), chunks)
    statistics = carry.sums if section.pattern is None else family.finish(table, carry.sums, origin)
    return statistics, carry.tally


def _tally_section(bundle: Any, origin: Any, section: Section) -> Any:
    family, params, respond = bundle
    table = _table(family, params, origin, section)

    @jax.checkpoint
    def visit(chunk: Section) -> Any:
        bound = _bound_of(family, params, origin, section, chunk, table)
        return _with_gate(respond, chunk)(family.log_prob(bound, chunk.cells), chunk.weights)

    def step(carry: Any, chunk: Section) -> tuple[Any, None]:
        total, lost = carry
        return _compensated(total, lost, visit(chunk)), None

    chunks = _chunks(section)
    nothing = zeros(jax.eval_shape(visit, jax.tree.map(lambda leaf: leaf[0], chunks)))
    (total, _), _ = jax.lax.scan(step, (nothing, nothing), chunks)
    return total


def weighted_sum(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum of weights times values, where weight 0 means that the row is not there, even if its value is -inf."""
    counted = weights != 0
    return jnp.where(counted, weights * jnp.where(counted, values, 0), 0).sum()
