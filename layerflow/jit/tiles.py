"""Register tiles: what matrix products and convolutions share.

A tile holds `rows` x `vectors` accumulators; what reads the result at its own place is computed while it is there.
"""

from __future__ import annotations

import dataclasses

from layerflow.graph.shapes import Dim, Extent, static
from layerflow.graph.symbolic import Op
from layerflow.jit import access
from layerflow.jit import index as ix
from layerflow.jit.contraction import contraction
from layerflow.jit.epilogues import Epilogue, begun, loaded
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, LoopNest
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import TYPES, Chunk, Level, Unvectorizable, Value

ACCUMULATORS = 24  # of 32 vector registers: more make LLVM spill
ACCUMULATORS_16 = 12  # of 16
UNROLL = 4
MANY_ROWS = 512  # from here on the largest tile is best, though the last one be small


@dataclasses.dataclass(frozen=True)
class Panel:
    """Columns computed together: `vectors` vectors, the last one with `tail` valid lanes if not all."""

    start: int | str
    vectors: int
    tail: int | None = None
    loop: tuple[int, int] | None = None  # (end, step) when it stands for many


def panels(columns: int, lanes: int, widest: int = 2, alone: int = 3) -> list[Panel]:
    """Cuts the columns into panels of `widest` vectors (`alone` if there are no more), equal ones in a loop."""
    count = -(-columns // lanes)
    width = count if count <= max(alone, widest) else widest
    tail = columns % lanes or None
    whole = (columns // lanes) // width * width if count > width or tail is None else 0
    found: list[Panel] = []
    if whole:
        looped = whole > width
        found.append(Panel("c" if looped else 0, width, None, (whole * lanes, width * lanes) if looped else None))
    rest = count - whole
    if rest:
        found.append(Panel(whole * lanes, rest, tail))
    return found


def tile_rows(rows: Extent, vectors: int, registers: int) -> int:
    """Rows of a tile.  A known number of rows is cut evenly; for a batch, tiles of 8 (or 16 of one vector)."""
    room = (ACCUMULATORS if registers >= 32 else ACCUMULATORS_16) // vectors
    if isinstance(rows, Dim):
        return max(p for p in (1, 2, 3, 4, 6, 8, 16) if p <= min(room, 16 if vectors == 1 else 8))
    room = min(room, 16)
    if rows <= room:
        return rows
    if rows >= MANY_ROWS:
        return room
    even = [r for r in range(max(4, room // 2), room + 1) if rows % r == 0]
    return max(even) if even else -(-rows // -(-rows // room))


class TileNest(LoopNest):
    """A contraction in register tiles."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes)
        self.registers = registers
        self.product = kernel.group.anchor
        self.dtype = TYPES[self.product.dtype.name]
        found = contraction(self.product, self.variables, self.ranges)
        self.folded = found.folded
        self.left = self._operand(self.product.inputs[0], found.left)
        self.right = self._operand(self.product.inputs[1], found.right)

    def _operand(self, op: Op, index: tuple[Index, ...]) -> tuple[str, Index]:
        """Address variable and element offset of an operand, through the moves above its storage."""
        while op not in self.plan.buffers:
            ((op, index),) = access.operands(op, index, self.ranges)
        buffer = self.plan.buffers[op]
        if op.dtype != self.product.dtype:
            raise Unvectorizable(f"product of {op.dtype}")
        return self.pointer(buffer), self.ranges.joined(buffer.layout.offset(index, self.ranges))

    def _chunks(self, panel: Panel) -> list[Chunk]:
        """The vectors of a panel; of a product in parts, one of each part."""
        units = static(self.group.domain[-1]) if self.group.parts > 1 else 0
        found = []
        for v in range(panel.vectors):
            tail = panel.tail if v == panel.vectors - 1 else None
            for part in range(self.group.parts):
                at = v * self.lanes + part * units
                start = panel.start + at if isinstance(panel.start, int) else f"c + {at}" if at else "c"
                found.append(Chunk(start, tail))
        return found

    def _places(self) -> list[tuple[Index, ...]]:
        """The elements of the product that a tile holds for one element of the domain: one of each part."""
        *rows, column = self.variables
        parts = range(self.group.parts)
        units = static(self.group.domain[-1]) if self.group.parts > 1 else 0
        return [(*rows, ix.add(column, ix.number(part * units))) for part in parts]

    def _shift(self, offset: Index, name: str, by: int) -> Index:
        c = self.ranges.along(offset, name, UNROLL)
        if c is None:
            raise Unvectorizable(str(offset))
        return ix.add(offset, ix.number(c * by))

    # --- epilogue ------------------------------------------------------------

    def _start(self, rows: int, starts: list[str]) -> None:
        """Sets the accumulators of each row."""
        self.write(f"for m in static({rows}):")
        for v, start in enumerate(starts):
            self.write(f"{INDENT}acc{v}[m] = {start}")

    def _begin(self, epilogue: Epilogue, vectors: int) -> Epilogue:
        """Sets the accumulators, to zero or to a bias that the epilogue adds; what is left of the epilogue."""
        columns, biases, rest = begun(epilogue, self._loaded())
        for line in columns:
            self.write(line)
        self._start(epilogue.rows, [biases.get(f"acc{v}", f"zeros({self.dtype})") for v in range(vectors)])
        return rest

    def _loaded(self) -> set[str]:
        """Vectors read from memory that are known outside the tile."""
        return {name for level in self.levels for line in level.lines for name in loaded(line)}

    def _end(self, epilogue: Epilogue) -> None:
        for line in epilogue.text():
            self.write(line)

    def _epilogue(self, chunks: list[Chunk], rows: int, at: dict[str, str]) -> Epilogue:
        """Members at each accumulator; what depends on the column alone is computed before the rows.

        `at`: text of each row variable for accumulator m.
        """
        around = self.levels[-1].lines
        start = len(around)
        before = Level()  # values of columns, once for all rows of the tile
        self.levels.append(before)
        row_level = Level(tuple(at))
        self.levels.append(row_level)
        here, places = len(self.levels) - 1, self._places()
        for v in range(0, len(chunks), self.group.parts):
            self.chunk = chunks[v]
            for part, place in enumerate(places):
                self.bind(self.group.total or self.product, place, Value(f"acc{v + part}[m]", here, True))
            for op in self.group.members[1:]:
                for place in places if op.shape == self.product.shape else places[:1]:
                    self.value(op, place)
        for v in range(0, len(chunks), self.group.parts):
            self.chunk = chunks[v]
            for op in self.group.stored:
                for place in places if op.shape == self.product.shape else places[:1]:
                    self.store(op, place, self.value(op, place))
        self.chunk = None
        self.levels.pop()
        self.levels.pop()
        columns = [*around[start:], *before.lines]
        del around[start:]
        return Epilogue(rows, at, columns, row_level.lines)
