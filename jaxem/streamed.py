"""The E-step of a Markov chain over blocks of steps: emissions, recursions and statistics of a block while it is in the cache.

Nothing is larger than a block times K, except what is kept of the forward pass for the backward pass: all of it, or only the
filtered state before each block, from which it is computed again (checkpoints; with blocks of some sqrt(T) steps, O(sqrt T)).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem import reduce
from jaxem.kernels import chain
from jaxem.kernels.chain import Ahead, Behind, Chain
from jaxem.rows import Rows, Section
from jaxem.sequences import Blocks
from jaxem.steps import sequence_weights


class Streamed(NamedTuple):
    """Sums over steps."""

    firsts: jax.Array  # (K,) expected first states
    pairs: jax.Array  # (K, K) expected steps within sequences
    emissions: Any  # the family's statistics
    log_likelihood: jax.Array


class _Block(NamedTuple):
    chunk: Section
    steps: Blocks  # (q w)


def streamed(
    family: Any, emissions: Any, rows: Rows, initial: jax.Array, transition: jax.Array, checkpoints: bool
) -> Streamed:
    """Sums over rows that stand in blocks of steps (`rows.lanes.grid`)."""
    lanes, section = rows.lanes, rows.sections[0]
    groups, count, steps, across = lanes.grid
    k = len(initial)
    table = reduce._table(family, emissions, rows.origin, section)
    # of each sequence, and of what is none
    weights = jnp.append(sequence_weights(rows), 0)
    chunks = jax.tree.map(lambda leaf: leaf.reshape(groups, count, *leaf.shape[1:]), reduce._chunks(section))
    # flat, since an array with one lane might be laid out anew
    given = _Block(chunks, jax.tree.map(lambda leaf: leaf.reshape(groups, count, -1), lanes.blocks))

    def steps_of(block: _Block) -> Blocks:
        return jax.tree.map(lambda leaf: leaf.reshape(steps, across), block.steps)

    def bound_of(chunk: Section) -> Any:
        return reduce._bound_of(family, emissions, rows.origin, section, chunk, table)

    def links(block: _Block) -> Chain:
        log_prob = family.log_prob(bound_of(block.chunk), block.chunk.cells)[0]
        emission = jnp.swapaxes(log_prob.reshape(k, steps, across), 0, 1)
        return Chain(emission, steps_of(block).first, initial, transition)

    def sums_of(block: _Block, smooth: jax.Array) -> Any:
        r = jnp.swapaxes(smooth, 0, 1).reshape(1, k, steps * across) * block.chunk.weights[:, None]
        return family.sums(bound_of(block.chunk), block.chunk.cells, r)

    def run(forward: Any, backward: Any, start: jax.Array) -> tuple[jax.Array, Any]:
        def ahead_step(state: jax.Array, block: _Block) -> tuple[jax.Array, Any]:
            end, kept, faint = forward(links(block), state)
            value = reduce.weighted_sum(kept.log_norm, weights[steps_of(block).owner])
            return end, (state if checkpoints else kept._replace(log_norm=kept.log_norm[:0]), value, faint)

        def back_step(carry: tuple[Behind, Any], given: tuple[_Block, Any]) -> tuple[tuple[Behind, Any], None]:
            behind, total = carry
            block, kept = given
            if checkpoints:
                _, kept, _ = forward(links(block), kept)
            first, last, owner = steps_of(block)
            own = weights[owner]
            behind, smooth, pairs = backward(transition, kept, Ahead(last, jnp.where(last, 0, own)), behind)
            firsts = (smooth * jnp.where(first, own, 0)[:, None]).sum(axis=(0, 2))
            part = (firsts, pairs, sums_of(block, smooth))
            return (behind, jax.tree.map(jnp.add, total, part)), None

        def group(total: Any, blocks: _Block) -> tuple[Any, Any]:
            _, (kept, value, faint) = jax.lax.scan(ahead_step, start, blocks)
            (behind, total), _ = jax.lax.scan(back_step, (chain.nothing(start), total), (blocks, kept), reverse=True)
            return total, (value, faint.any() | chain.missed(behind))

        shapes = jax.eval_shape(lambda block: sums_of(block, jnp.zeros((steps, k, across), rows.dtype)), _at(given, (0, 0)))
        zeros = (jnp.zeros_like(initial), jnp.zeros_like(transition), reduce.zeros(shapes))
        if groups == 1:
            total, (value, faint) = group(zeros, jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[1:]), given))
        else:
            total, (value, faint) = jax.lax.scan(group, zeros, given)
        return faint.any(), (*total, value.sum())

    start = jnp.full((k, across), 1 / k, rows.dtype)

    def redo(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        return jnp.zeros((), bool), run(chain.log_forward, chain.log_backward, jnp.log(start))[1]

    first_run = run(chain.forward, chain.backward, start)
    firsts, pairs, raw, value = jax.lax.while_loop(lambda carry: carry[0], redo, first_run)[1]
    return Streamed(firsts, pairs, family.finish(table, raw, rows.origin), value)


def _at(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)
