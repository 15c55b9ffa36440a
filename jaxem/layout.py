"""How rows are cut into blocks: which pattern each row has, how wide the blocks are, where each row goes. Host code.

Rows are grouped by pattern of observed cells, because all rows of one pattern share their matrices, and cut into blocks of
equal width, because one compiled program then serves any data of that shape. Frequent patterns fill wide blocks; what
remains goes into narrow ones, several to a chunk, so that padding stays small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

WIDE = 1024  # rows in a wide block: the features of a block stay in the second-level cache
SMALL = 2048  # up to so many rows one narrow section serves all patterns
TABLE = 1 << 18  # numbers: pattern tables (P, K, d, d) up to this size are bound once, larger ones chunk by chunk


class Plan(NamedTuple):
    """How rows are cut into blocks: static, shared by all data sets of a batch."""

    wide: int  # width of wide blocks, 0 where there are none
    narrow: int  # width of narrow blocks, 0 where there are none
    chunk: int  # narrow blocks a chunk
    tabled: bool  # whether patterns are bound once, from a table


class Patterns(NamedTuple):
    """Distinct patterns of observed cells."""

    table: np.ndarray  # (P, d) bool, True where observed
    of_row: np.ndarray  # (n,) int
    counts: np.ndarray  # (P,) int


def one_pattern(n: int, d: int) -> Patterns:
    """All rows alike, where nothing hangs on which cells are observed."""
    return Patterns(np.ones((1, d), bool), np.zeros(n, np.int64), np.array([n]))


def find_patterns(observed: np.ndarray) -> Patterns:
    """Groups the rows of (n, d) bool by equality."""
    n, d = observed.shape
    if observed.all():
        return one_pattern(n, d)
    packed = np.ascontiguousarray(np.packbits(observed, axis=1))
    codes = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, of_row, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    return Patterns(observed[first], of_row.reshape(-1), counts)


def make_plan(patterns: list[Patterns], n_states: int, width: int = WIDE) -> Plan:
    """The cutting that suits these data sets together: the least padding and per-block work."""
    d = patterns[0].table.shape[1]
    n = max(int(p.counts.sum()) for p in patterns)
    if all(len(p.counts) == 1 for p in patterns):
        blocks = math.ceil(n / width)
        return Plan(wide=round_up(math.ceil(n / blocks), 8), narrow=0, chunk=1, tabled=True)
    wide = 0 if n <= SMALL else width // 2
    table = max(len(p.counts) for p in patterns) * n_states * d * d
    tabled = table <= TABLE
    remainders_of = [_remainder(p.counts, wide) for p in patterns]
    remainders = np.concatenate(remainders_of)
    per_block = 12 + (0 if tabled else d)  # work of a block that does not depend on its width, in rows
    widths = [1, 2, 4, 8, 16, 32, 64]
    costs = [float((-(-remainders // b) * (b + per_block)).sum()) for b in widths]
    narrow = widths[int(np.argmin(costs))]
    if not remainders.any():
        narrow = 0
    if wide and not any((p.counts - _remainder(p.counts, wide)).any() for p in patterns):
        wide = 0
    limit = max(1, (1 << 15) // (n_states * d * d)) if not tabled else 1 << 10
    most = max(int((-(-r // max(narrow, 1))).sum()) for r in remainders_of)  # blocks of the data set that has most
    chunks = max(1, -(-most // max(1, min(WIDE // max(narrow, 1), limit))))
    chunk = max(1, -(-most // chunks))
    return Plan(wide, narrow, chunk, tabled)


def _remainder(counts: np.ndarray, wide: int) -> np.ndarray:
    """Rows of each pattern that do not go to wide blocks; a block at least 3/4 full is wide."""
    if not wide:
        return counts
    return np.maximum(counts - (counts + wide // 4) // wide * wide, 0)


def round_up(x: int, multiple: int) -> int:
    """The least multiple that is not below x."""
    return -(-x // multiple) * multiple


class Layout(NamedTuple):
    """Where each row goes in the blocks of one width: arrays for NumPy data, before cells are gathered."""

    row: np.ndarray  # (blocks, b), n where padded
    pattern: np.ndarray  # (blocks,)


def lay_out(patterns: Patterns, plan: Plan) -> list[Layout]:
    """Assigns rows to blocks, one `Layout` for each width of the plan."""
    n = len(patterns.of_row)
    order = np.argsort(patterns.of_row, kind="stable")
    start = np.cumsum(patterns.counts) - patterns.counts
    rank = np.arange(n) - np.repeat(start, patterns.counts)
    pattern = patterns.of_row[order]
    in_wide = patterns.counts - _remainder(patterns.counts, plan.wide) if plan.wide else np.zeros_like(patterns.counts)
    if not plan.narrow:
        in_wide = patterns.counts
    layouts = []
    for width, chosen, rank_of in (
        (plan.wide, rank < in_wide[pattern], rank),
        (plan.narrow, rank >= in_wide[pattern], rank - in_wide[pattern]),
    ):
        if not width:
            continue
        size = np.bincount(pattern[chosen], minlength=len(patterns.counts))
        blocks = -(-size // width)
        first = np.cumsum(blocks) - blocks
        slot = first[pattern[chosen]] * width + rank_of[chosen]
        index = np.full(int(blocks.sum()) * width, n, np.int32)
        index[slot] = order[chosen]
        layouts.append(Layout(index.reshape(-1, width), np.repeat(np.arange(len(blocks)), blocks).astype(np.int32)))
    return layouts
