"""Matrix products as register tiles; what reads the product at its own place is done while it is in registers.

A tile holds `rows` x `vectors` accumulators.  Each step of the folded axis loads `vectors` vectors of the right operand
and broadcasts one number of the left operand a row.  Left operands may be strided in any way (so a transposed one costs
nothing); right operands must have unit stride along their last axis.
"""

from __future__ import annotations

from collections.abc import Callable

from layerflow.graph.shapes import Dim, static, typical
from layerflow.graph.symbolic import Op
from layerflow.jit.access import batch_of
from layerflow.jit.contraction import contraction
from layerflow.jit.loops import INDENT, units_of
from layerflow.jit.prefetching import PrefetchingNest
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import MANY_ROWS, UNROLL, Panel, tile_rows
from layerflow.jit.values import PAST_FIRST, Chunk, Level


class GemmNest(PrefetchingNest):
    """A product with its epilogue."""

    past_first: str | None = None  # variable that is 0 at the first step of a loop

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes, registers)
        self.zeros_first = kernel.starts_with_zeros

    def body(self) -> list[str]:
        domain = self.group.domain
        rows = domain[-2]
        if len(domain) == 2:
            self.levels.append(Level())
            if batch_of(domain) is not None:
                self.kernel.units = 0
                first, last = self.range_of(rows).split(", ")
                self.tile_range = (first, last)
                self._all_panels(first, last)
            else:
                self.kernel.units = self._most_tiles(static(rows))
                self.tile_range = (f"lo * {self.step}", f"hi * {self.step}")
                if self.block:
                    self._blocks()
                else:
                    self._all_panels("lo", "hi")
            return self.levels.pop().lines
        self.kernel.units = units_of(domain)
        return self.outer(domain[:-2], lambda: self._all_panels("0", self.extent(rows)))

    def _blocks(self) -> None:
        """Blocks of the folded axis, one after the other; sums wait in working memory for the next one."""
        width = sum(p.vectors * (p.loop[0] // p.loop[1] if p.loop else 1) for p in self.panels) * self.lanes
        self.sums = (self.step * static(self.kernel.units) * width, width)
        where = self._scratch("packed")
        self._reserve(0)
        total = self.extent(self.depth)
        zero = f"store({where}, e, zeros({self.dtype}))"
        self.write(f"for e in range(0, (hi - lo) * {self.step * width}, {self.lanes}):")
        self.write(INDENT + zero)

        def inside() -> None:
            self.write(f"span = minimum({self.block}, {total} - first)")
            self._all_panels("lo", "hi")

        self.segment(f"for first in range(0, {total}, {self.block}):", ("first",), inside)

    def _most_tiles(self, rows: int) -> int:
        """Tiles of rows: the parallel range, cut the same way for every panel."""
        self.step = tile_rows(rows, self.widest, self.registers)
        return -(-rows // self.step)

    def _all_panels(self, first: str, last: str) -> None:
        if self.kernel.rows_first:
            self._rows_first(first, last)
        else:
            self._panels_in_turn(lambda panel: self._rows(panel, first, last))

    def _rows_first(self, first: str, last: str) -> None:
        """All panels, which lie packed, for one tile of rows after the other: what a row touches lies together."""
        step = self.kernel.packed_from = tile_rows(MANY_ROWS, self.widest, self.registers)

        def tiles(rows: int) -> None:
            def tile(panel: Panel) -> None:
                if self.kernel.packed:
                    self._pack_right(panel)
                self._tile(panel, rows)
                self.packed_right = None

            self._panels_in_turn(tile)

        def many() -> None:
            self._tiles_down(first, last, step, tiles)

        def few() -> None:
            for_rows = f"for i in range({first}, {last}):"
            self._panels_in_turn(lambda panel: self.segment(for_rows, ("i",), lambda: self._tile(panel, 1)))

        self.segment(f"if {last} - {first} >= {step}:", (), many)
        self.segment("else:", (), few)

    def _tiles_down(self, first: str, last: str, step: int, tile: Callable[[int], None]) -> None:
        """Tiles of `step` rows; where much would be computed twice, one of fewer rows for what is left.

        A tile that is too large is moved back to end with the range: its first rows are made twice, to the same bits.
        """
        smaller = self.smaller_tiles(step)
        count = f"({last} - {first} + {step - 1 - (smaller or [0])[0]}) // {step}"

        def tiles() -> None:
            self.write(f"i = minimum({first} + t * {step}, {last} - {step})")
            tile(step)

        def rest(rows: int) -> None:
            self.write(f"i = {last} - {rows}")
            tile(rows)

        self.segment(f"for t in range({count}):", ("i",), tiles)
        if smaller:
            self.write(f"rest = {last} - {first} - {count} * {step}")
        for size, less in zip(smaller, [*smaller[1:], 0][: len(smaller)], strict=True):
            self.segment(f"if (rest > {less}) & (rest <= {size}):", ("i",), lambda rows=size: rest(rows))

    def smaller_tiles(self, step: int) -> list[int]:
        """Rows of the tiles for what is left, the largest first: none where tiles are low or a sample has many rows."""
        high = self.in_panels or self.kernel.rows_first
        if not high or typical(self.group.domain[-2]) >= step:
            return []
        return [step * 2 // 3, step // 3] if step % 3 == 0 else [step // 2] if step % 2 == 0 else []

    def _rows(self, panel: Panel, first: str, last: str) -> None:
        """Tiles down the rows of one panel."""
        rows = self.group.domain[-2]
        if isinstance(rows, int) and len(self.group.domain) == 2:
            if self.packs_right:
                self._pack_right(panel)
            self._known_rows(panel, rows)
            self.packed_right = None
            return
        step = tile_rows(Dim("rows"), panel.vectors * self.group.parts, self.registers)
        if self.in_panels:
            step = tile_rows(MANY_ROWS, panel.vectors * self.group.parts, self.registers)
        if step == 1:
            self.segment(f"for i in range({first}, {last}):", ("i",), lambda: self._tile(panel, 1))
            return

        # What is computed twice must not be written twice: where the epilogue changes weights the rest goes row by row.
        once = any(op in self.plan.updates for op in self.group.stored)

        def tiles() -> None:
            self.write(f"i = {first} + t * {step}")
            self._tile(panel, step)

        def many() -> None:
            if self.packs_right:
                self._pack_right(panel)
            if once:
                self.segment(f"for t in range(({last} - {first}) // {step}):", ("i",), tiles)
                rest(f"{first} + ({last} - {first}) // {step} * {step}")
            else:
                self._tiles_down(first, last, step, lambda rows: self._tile(panel, rows))

        def rest(start: str) -> None:
            self.segment(f"for i in range({start}, {last}):", ("i",), lambda: self._tile(panel, 1))

        self.segment(f"if {last} - {first} >= {step}:", (), many)
        self.packed_right = None
        self.segment("else:", (), lambda: rest(first))

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
                self.write(f"t = {whole}")
                self.write(f"i = t * {step}")
                self._tile(panel, rows % step)

            self.segment(f"if hi > {whole}:", ("i",), last)

    # --- one tile ------------------------------------------------------------

    def _tile(self, panel: Panel, rows: int) -> None:
        chunks, at = self._chunks(panel), {self._row_name(): "i + m"}
        if not self.block:
            epilogue = self._begin(self._epilogue(chunks, rows, at), len(chunks))
            self._sums(rows, chunks)
            self._end(epilogue)
            return
        self._start(rows, [f"load(packed, {self._waiting(v, chunks[0])})" for v in range(len(chunks))])
        self._sums(rows, chunks)

        def keep() -> None:
            self.write(f"for m in static({rows}):")
            for v in range(len(chunks)):
                self.write(f"{INDENT}store(packed, {self._waiting(v, chunks[0])}, acc{v}[m])")

        end = f"first + span == {self.extent(self.depth)}"
        self.segment(f"if {end}:", (), lambda: self._end(self._epilogue(chunks, rows, at)))
        self.segment("else:", (), keep)

    def _sums(self, rows: int, chunks: list[Chunk]) -> None:
        """The folded axis of the product, and of those that are added to it."""
        self._fold(rows, chunks, self.asks(rows, chunks))
        for product in self.group.added:
            self._fold_also(product, rows, chunks)

    def _waiting(self, v: int, first: Chunk) -> str:
        """Where the sum of row i + m and vector `v` of the panel waits for the next block."""
        return f"(i - lo * {self.step} + m) * {self.sums[1]} + {first.start} + {v * self.lanes}"

    def _fold(self, rows: int, chunks: list[Chunk], asks: list[str]) -> None:
        depth = self._span()
        if isinstance(self.depth, int):
            unroll = next(u for u in (UNROLL, 3, 2, 1) if self.depth % u == 0)
            if asks:
                self._in_parts(depth, unroll, rows, chunks, asks)
            else:
                looped = self.depth > unroll or self.zeros_first
                header = f"for k in range(0, {self._all_or_none(depth)}, {unroll}):" if looped else None
                self._steps(header, unroll, rows, chunks)
            return
        if asks:
            self.write(f"whole = {depth} // {UNROLL} * {UNROLL}")
            self._in_parts("whole", UNROLL, rows, chunks, asks)
        else:
            whole = self._all_or_none(f"({depth} - {UNROLL - 1})")
            self._steps(f"for k in range(0, {whole}, {UNROLL}):", UNROLL, rows, chunks)
        self._steps(f"for k in range({depth} // {UNROLL} * {UNROLL}, {self._all_or_none(depth)}):", 1, rows, chunks)

    def _all_or_none(self, steps: str | int) -> str:
        """So many steps, none where the left operand is known to be zero."""
        if not self.zeros_first:
            return str(steps)
        if self.past_first is None:
            self.past_first = self.assign(f"integer(ctx, {PAST_FIRST})", 0, False).name
        return f"{steps} * {self.past_first}"

    def _fold_also(self, product: Op, rows: int, chunks: list[Chunk]) -> None:
        """Another product into the same sums; its right operand is read where it is."""
        kept = self.left, self.right, self.depth, self.packed_right, self.zeros_first
        found = contraction(product, self.variables, self.ranges)
        self.left = self._operand(product.inputs[0], found.left)
        self.right = self._operand(product.inputs[1], found.right)
        self.depth, self.packed_right, self.zeros_first = product.inputs[0].shape[-1], None, False
        self._fold(rows, chunks, [])
        self.left, self.right, self.depth, self.packed_right, self.zeros_first = kept
        self.ranges.declare("k", self.depth)

    def _in_parts(self, depth: str, unroll: int, rows: int, chunks: list[Chunk], asks: list[str]) -> None:
        """The folded axis in as many parts as the tile has rows; before part r, lines are asked for."""
        self.write(f"part = ({depth} + {rows * unroll - 1}) // {rows * unroll} * {unroll}")

        def part() -> None:
            for line in asks:
                self.write(line)
            steps = f"range(r * part, minimum(r * part + part, {depth}), {unroll})"
            self._steps(f"for k in {steps}:", unroll, rows, chunks)

        self.segment(f"for r in range({self._all_or_none(rows)}):", (), part)

    def _steps(self, header: str | None, unroll: int, rows: int, chunks: list[Chunk]) -> None:
        """`unroll` steps of the folded axis."""
        pad = INDENT if header else ""
        if header:
            self.write(header)
        else:
            self.write("k = 0")
        for u in range(unroll):
            for v, chunk in enumerate(chunks):
                self.write(f"{pad}b{v} = {self._right_vector(v, chunk, u)}")
            row, pointer = self._left_number(u)
            self.write(f"{pad}for m in static({rows}):")
            self.write(f"{pad}{INDENT}a = splat({pointer}[{row}])")
            for v in range(len(chunks)):
                step = f"fma(a, b{v}, acc{v}[m])" if self.dtype.startswith("f") else f"acc{v}[m] + a * b{v}"
                self.write(f"{pad}{INDENT}acc{v}[m] = {step}")

    def _right_vector(self, v: int, chunk: Chunk, u: int) -> str:
        """Vector `v` of the right operand at step k + u."""
        if self.packed_right is not None:
            base, width = self.packed_right
            return f"load(packed, {base}k * {width} + {u * width + v * self.lanes})"
        self.chunk = chunk
        pointer, offset = self.right
        tail = "" if chunk.count is None else f", {chunk.count}"
        text = f"load({pointer}, {self.position(self._shift(self._from_block(offset), 'k', u))}{tail})"
        self.chunk = None
        return text

    def _left_number(self, u: int) -> tuple[str, str]:
        """(offset, address variable) of the number of row i + m at step k + u."""
        pointer, offset = self.left
        return self._row_text(self._shift(self._from_block(offset), "k", u)), pointer
