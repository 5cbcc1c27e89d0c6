"""Prefetching: lines that a product needs later are asked for while it multiplies.

A few at a time, between parts of a tile's sums: a core waits for only so many lines at once, those of the sums among
them.
"""

from __future__ import annotations

from layerflow.graph.shapes import TYPICAL, is_batch, typical
from layerflow.graph.symbolic import Op
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT
from layerflow.jit.packing import PackedNest
from layerflow.jit.values import Chunk

LARGE = 1 << 18  # bytes that would take much of the second-level cache


class PrefetchingNest(PackedNest):
    """A product that asks for what comes next."""

    tile_range: tuple[str, str] | None = None  # first and last row of the range, where each row has its tile

    def asks(self, rows: int, chunks: list[Chunk]) -> list[str]:
        """Statements for part r of the sums of a tile at row i, of as many parts as it has rows."""
        if rows == 1:
            return []
        if self.kernel.rows_first:
            return self._for_stacks(chunks[0])
        return [*self._for_updates(chunks), *self._for_next_panel(chunks)]

    def _for_updates(self, chunks: list[Chunk]) -> list[str]:
        """What the epilogue reads of row i + r, if it changes weights so many that they come from memory."""
        if self.block or not any(op in self.plan.updates for op in self.group.stored):
            return []
        touched = [op for op in self._touched() if op.shape == self.product.shape]
        if sum(self._bytes(op) for op in touched) < LARGE:
            return []
        lines = [f"{self._row_name()} = i + r"]
        for op in touched:
            buffer = self.plan.buffers[op]
            for self.chunk in chunks:
                at = self.position(buffer.layout.offset(self.variables, self.ranges))
                lines.append(f"prefetch({self.pointer(buffer)}, {at})")
        self.chunk = None
        return lines

    def _for_next_panel(self, chunks: list[Chunk]) -> list[str]:
        """The tile's share of the columns behind those of its panel, if they are copied or read in the next turn."""
        looped = isinstance(chunks[0].start, str) and (isinstance(self.depth, int) or self.block)
        if not looped or not self.in_panels or self.tile_range is None or self._bytes(self.product.inputs[1]) < LARGE:
            return []
        first, last = self.tile_range
        pointer, offset = self.right
        offset = self._from_block(offset)
        offset = Index(tuple(("s" if t == "k" else t, c) for t, c in offset.terms), offset.const)
        width = len(chunks) * self.lanes
        lines = [
            f"each = ({self._span()} + {last} - {first} - 1) // ({last} - {first})",
            f"behind = (i + r - {first}) * each",
            f"for s in range(behind, minimum(behind + each, {self._span()})):",
        ]
        for v in range(len(chunks)):
            self.chunk = Chunk(f"c + {width + v * self.lanes}")
            lines.append(f"{INDENT}prefetch({pointer}, {self.position(offset)}, 2)")
        self.chunk = None
        return lines

    def _bytes(self, op: Op) -> int:
        total = op.dtype.itemsize
        for extent in op.shape:
            total *= typical(extent) * (TYPICAL if is_batch(extent) else 1)
        return total

    def _touched(self) -> list[Op]:
        """What the epilogue reads."""
        multiplied = {x for product in (self.product, *self.group.added) for x in product.inputs}
        return [op for op in sorted(self.kernel.reads, key=lambda op: op.serial) if op not in multiplied]

    def _for_stacks(self, chunk: Chunk) -> list[str]:
        """What the epilogue of a tile in a loop reads and writes of row i + r in stacks of all steps: it is in no near
        cache, as what lives from step to step is."""
        places, self.chunk = self._places(), chunk
        lines = []
        for op in self._touched() + self.group.stored:
            buffer = self.plan.buffers[op]
            if op.shape in (self.product.shape, self.group.domain) and buffer.role == "view":
                for place in places if op.shape == self.product.shape else places[:1]:
                    at = self.position(buffer.layout.offset(place, self.ranges))
                    lines.append(f"prefetch({self.pointer(buffer)}, {at})")
        self.chunk = None
        return [f"{self._row_name()} = i + r", *lines] if lines else []
