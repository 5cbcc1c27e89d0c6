"""How attention without stored scores is cut into blocks of rows and keys."""

from __future__ import annotations

import dataclasses

from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Op
from layerflow.jit.tiles import ACCUMULATORS, ACCUMULATORS_16

ROWS, KEYS = 64, 128  # of a block of scores: it and its operands stay in the first- and second-level cache
PANEL = 2  # vectors of keys that are multiplied at a time


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Extents of the arrays and of the blocks of working memory, in elements."""

    rows: int
    keys: int
    heads: int
    shared: int  # heads of key and value
    depth: int
    width: int  # features of the value
    lanes: int
    registers: int

    @classmethod
    def of(cls, op: Op, lanes: int, registers: int) -> Sizes:
        q, _, v = op.inputs[:3]
        rows, heads, depth = map(static, q.shape[1:])
        keys, shared, width = map(static, v.shape[1:])
        return cls(rows, keys, heads, shared, depth, width, lanes, registers)

    def up(self, count: int, to: int) -> int:
        return -(-count // to) * to

    def pitch(self, features: int) -> int:
        return self.up(features, self.lanes)

    @property
    def block_rows(self) -> int:
        return min(ROWS, self.up(self.rows, self.lanes))

    @property
    def block_keys(self) -> int:
        return min(KEYS, self.up(self.keys, PANEL * self.lanes))

    @property
    def all_keys(self) -> int:
        """Keys with those that fill the last block."""
        return self.up(self.keys, self.block_keys)

    @property
    def is_even(self) -> bool:
        """Whether blocks end at multiples of four rows and keys, wherever they end."""
        return self.rows % 4 == 0 and self.keys % 4 == 0

    def tile_rows(self, vectors: int) -> int:
        """Rows of a tile: a power of two, so that tiles fill a block."""
        room = (ACCUMULATORS if self.registers >= 32 else ACCUMULATORS_16) // vectors
        return max(p for p in (1, 2, 4, 8, 16) if p <= min(room, self.lanes))
