"""Matrix products as register tiles, with everything that reads the product at its own place done while it is in registers.

A tile holds `rows` x `vectors` accumulators.  Each step of the folded axis loads `vectors` vectors of the right operand and
broadcasts one number of the left operand a row.  Left operands may be strided in any way (so a transposed one costs nothing);
right operands must have unit stride along their last axis.
"""

from __future__ import annotations

import dataclasses

from layerflow.graph.shapes import Dim, Extent
from layerflow.graph.symbolic import Op
from layerflow.jit import access
from layerflow.jit import index as ix
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, LoopNest
from layerflow.jit.schedule import Kernel, Schedule, matrix_indices
from layerflow.jit.values import TYPES, Chunk, Level, Unvectorizable, Value

ACCUMULATORS = 28  # of 32 vector registers; the rest hold the right operand and the broadcast
ACCUMULATORS_16 = 12  # of 16
UNROLL = 4


@dataclasses.dataclass(frozen=True)
class Panel:
    """Columns computed together: `vectors` vectors, the last one with `tail` valid lanes if not all."""

    start: int | str
    vectors: int
    tail: int | None = None
    loop: tuple[int, int] | None = None  # (end, step) when it stands for many


def panels(columns: int, lanes: int) -> list[Panel]:
    """Cuts the columns into panels of up to three vectors, equal ones in a loop."""
    count = -(-columns // lanes)
    width = count if count <= 3 else 2
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
        return max(p for p in (1, 2, 4, 8, 16) if p <= min(room, 16 if vectors == 1 else 8))
    room = min(room, 16)
    if rows <= room:
        return rows
    even = [r for r in range(max(4, room // 2), room + 1) if rows % r == 0]
    return max(even) if even else -(-rows // -(-rows // room))


class GemmNest(LoopNest):
    """A product with its epilogue."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes)
        self.registers = registers
        self.product = kernel.group.anchor
        self.dtype = TYPES[self.product.dtype.name]
        a, b = matrix_indices(self.product, self.variables, self.ranges)
        self.left = self._operand(self.product.inputs[0], a)
        self.right = self._operand(self.product.inputs[1], b)
        side = self.product.attrs["transpose_a"]
        self.depth: Extent = self.product.inputs[0].shape[-2 if side else -1]

    def _operand(self, op: Op, index: tuple[Index, ...]) -> tuple[str, Index]:
        """Address variable and element offset of an operand, through the moves above its storage."""
        while op not in self.plan.buffers:
            ((op, index),) = access.operands(op, index, self.ranges)
        buffer = self.plan.buffers[op]
        if op.dtype != self.product.dtype:
            raise Unvectorizable(f"product of {op.dtype}")
        return self.pointer(buffer), buffer.layout.offset(index)

    def body(self) -> list[str]:
        domain = self.group.domain
        rows = domain[-2]
        if len(domain) == 2:
            if isinstance(rows, Dim):
                self.kernel.units = 0
                f = rows.factor
                self.levels.append(Level())
                span = ("lo", "hi") if f == 1 else (f"lo * {f}", f"hi * {f}")
                self._all_panels(*span)
            else:
                self.levels.append(Level())
                self.kernel.units = self._most_tiles(rows)
                self._all_panels("lo", "hi")
            return self.levels.pop().lines
        self.kernel.units = 0 if isinstance(domain[0], Dim) else domain[0]
        return self.outer(domain[:-2], lambda: self._all_panels("0", self.extent(rows)))

    def _most_tiles(self, rows: int) -> int:
        """Tiles of rows: the parallel range, cut the same way for every panel."""
        widest = max(p.vectors for p in panels(int(self.group.domain[-1]), self.lanes))
        self.step = tile_rows(rows, widest, self.registers)
        return -(-rows // self.step)

    def _all_panels(self, first: str, last: str) -> None:
        for panel in panels(int(self.group.domain[-1]), self.lanes):
            if panel.loop is None:
                self._rows(panel, first, last)
            else:
                end, step = panel.loop
                self.segment(f"for c in range(0, {end}, {step}):", ("c", "j"), lambda p=panel: self._rows(p, first, last))

    def _rows(self, panel: Panel, first: str, last: str) -> None:
        """Tiles down the rows of one panel."""
        rows = self.group.domain[-2]
        if isinstance(rows, int) and len(self.group.domain) == 2:
            self._known_rows(panel, rows)
            return
        step = tile_rows(Dim("rows"), panel.vectors, self.registers)
        if step == 1:
            self.segment(f"for i in range({first}, {last}):", ("i",), lambda: self._tile(panel, 1))
            return

        def tiles() -> None:
            # The last tile is moved back so that it ends with the range: its first rows are computed twice, to the same bits.
            self.write(f"i = minimum({first} + t * {step}, {last} - {step})")
            self._tile(panel, step)

        def many() -> None:
            self.segment(f"for t in range(({last} - {first} + {step - 1}) // {step}):", ("i",), tiles)

        self.segment(f"if {last} - {first} >= {step}:", (), many)
        few = lambda: self.segment(f"for i in range({first}, {last}):", ("i",), lambda: self._tile(panel, 1))  # noqa: E731
        self.segment("else:", (), few)

    def _known_rows(self, panel: Panel, rows: int) -> None:
        """Equal tiles; the last one may be smaller."""
        step = self.step
        whole = rows // step
        if rows % step == 0:
            header = "for t in range(lo, hi):"
        else:
            header = f"for t in range(lo, minimum(hi, {whole})):"

        def inside() -> None:
            self.write(f"i = t * {step}")
            self._tile(panel, step)

        if whole:
            self.segment(header, ("i",), inside)
        if rows % step:

            def last() -> None:
                self.write(f"i = {whole * step} + 0 * hi")
                self._tile(panel, rows % step)

            self.segment(f"if hi > {whole}:", ("i",), last)

    # --- one tile ------------------------------------------------------------

    def _tile(self, panel: Panel, rows: int) -> None:
        n = self.lanes
        vectors = range(panel.vectors)
        starts = [f"c + {v * n}" if panel.start == "c" and v else panel.start if panel.start == "c" else panel.start + v * n for v in vectors]
        counts = [panel.tail if v == panel.vectors - 1 else None for v in vectors]
        self.write(f"for m in static({rows}):")
        for v in vectors:
            self.write(f"{INDENT}acc{v}[m] = zeros({self.dtype})")
        self._fold(panel, rows, [Chunk(s, c) for s, c in zip(starts, counts, strict=True)])
        self._epilogue([Chunk(s, c) for s, c in zip(starts, counts, strict=True)], rows)

    def _fold(self, panel: Panel, rows: int, chunks: list[Chunk]) -> None:
        depth = self.extent(self.depth)
        if isinstance(self.depth, int):
            unroll = next(u for u in (UNROLL, 3, 2, 1) if self.depth % u == 0)
            self._steps(f"for k in range(0, {depth}, {unroll}):" if self.depth > unroll else None, unroll, rows, chunks)
            return
        self._steps(f"for k in range(0, {depth} - {UNROLL - 1}, {UNROLL}):", UNROLL, rows, chunks)
        self._steps(f"for k in range({depth} // {UNROLL} * {UNROLL}, {depth}):", 1, rows, chunks)

    def _steps(self, header: str | None, unroll: int, rows: int, chunks: list[Chunk]) -> None:
        """`unroll` steps of the folded axis."""
        pad = INDENT if header else ""
        if header:
            self.write(header)
        else:
            self.write("k = 0")
        for u in range(unroll):
            for v, chunk in enumerate(chunks):
                self.chunk = chunk
                pointer, offset = self.right
                moved = self._shift(offset, "k", u)
                tail = "" if chunk.count is None else f", {chunk.count}"
                self.write(f"{pad}b{v} = load({pointer}, {self.position(moved)}{tail})")
            self.chunk = None
            pointer, offset = self.left
            row = self._row_text(self._shift(offset, "k", u))
            self.write(f"{pad}for m in static({rows}):")
            self.write(f"{pad}{INDENT}a = splat({pointer}[{row}])")
            for v in range(len(chunks)):
                self.write(f"{pad}{INDENT}acc{v}[m] = fma(a, b{v}, acc{v}[m])")

    def _shift(self, offset: Index, name: str, by: int) -> Index:
        c = self.ranges.coefficient(offset, name)
        if c is None:
            raise Unvectorizable(str(offset))
        return ix.add(offset, ix.number(c * by))

    def _row_text(self, offset: Index) -> str:
        """The offset with row i + m of the tile in place of the row variable."""
        name = self._row_name()
        c = self.ranges.coefficient(offset, name)
        if c is None:
            raise Unvectorizable(str(offset))
        rest = Index(tuple(t for t in offset.terms if t[0] != name), offset.const)
        return f"i * {c} + m * {c} + {rest}" if c != 1 else f"i + m + {rest}"

    def _row_name(self) -> str:
        return f"i{len(self.group.domain) - 2}"

    # --- epilogue ------------------------------------------------------------

    def _epilogue(self, chunks: list[Chunk], rows: int) -> None:
        """Members at each accumulator; what depends on the column alone is computed before the rows."""
        name = self._row_name()
        before = Level()  # values of columns, once for all rows of the tile
        self.levels.append(before)
        row_level = Level((name,))
        self.levels.append(row_level)
        row_level.lines.append(f"{name} = i + m")
        for v, chunk in enumerate(chunks):
            self.chunk = chunk
            here = len(self.levels) - 1
            self.bind(self.product, self.variables, Value(f"acc{v}[m]", here, True))
            for op in self.group.members[1:]:
                self.value(op, self.variables)
        for v, chunk in enumerate(chunks):
            self.chunk = chunk
            for op in self.group.stored:
                self.store(op, self.variables, self.value(op, self.variables))
        self.chunk = None
        self.levels.pop()
        self.levels.pop()
        for line in before.lines:
            self.write(line)
        self.write(f"for m in static({rows}):")
        for line in row_level.lines:
            self.write(INDENT + line)
