"""Matrix products as register tiles; what reads the product at its own place is done while it is in registers.

A tile holds `rows` x `vectors` accumulators.  Each step of the folded axis loads `vectors` vectors of the right operand
and broadcasts one number of the left operand a row.  Left operands may be strided in any way (so a transposed one costs
nothing); right operands must have unit stride along their last axis.
"""

from __future__ import annotations

from collections.abc import Callable

from layerflow.graph import shapes
from layerflow.graph.shapes import Dim, Extent, static
from layerflow.jit import index as ix
from layerflow.jit.access import batch_of
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, units_of
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import MANY_ROWS, UNROLL, Panel, TileNest, panels, tile_rows
from layerflow.jit.values import SCRATCH, Chunk, Level, Unvectorizable

# Bytes: rows of the right operand further apart than this are copied side by side before they are used.
PACK_STRIDE = 512
PACK_DEPTH = 64  # steps of the folded axis from which that pays
# A sum over so many rows a sample goes through blocks of the folded axis: both operands' blocks stay in the cache.
LONG_FOLD, BLOCK = 4, 256


def packed_elements(kernel: Kernel) -> int:
    """Elements of the packed right operand of a product in a loop, whatever the lanes; 0 where packing does not pay."""
    product, (_, columns) = kernel.group.anchor, kernel.group.domain
    depth = product.inputs[1].shape[-2]
    if not isinstance(depth, int) or depth < PACK_DEPTH or product.attrs["transpose_a"]:
        return 0
    return depth * kernel.group.parts * -(-static(columns) // 16) * 16


class GemmNest(TileNest):
    """A product with its epilogue."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes, registers)
        side = self.product.attrs["transpose_a"]
        self.depth: Extent = self.product.inputs[0].shape[-2 if side else -1]
        self.packs_right = self._pays(self.right, "k") and len(kernel.group.domain) == 2
        self.packs_left = (
            side and isinstance(kernel.group.domain[-2], int) and self.packs_right and self._pays(self.left, "k")
        )
        # A packed panel is read from the second-level cache: wide panels read the left operand less often.
        widest = 4 if self.packs_right and registers >= 32 else 2
        columns, parts = static(kernel.group.domain[-1]), self.group.parts
        each = max(1, widest // parts)
        self.panels = panels(columns, lanes, widest) if parts == 1 else panels(columns, lanes, each, each)
        self.widest = max(p.vectors for p in self.panels) * parts
        long = isinstance(self.depth, Dim) and shapes.typical(self.depth) >= LONG_FOLD
        self.block = BLOCK if self.packs_left and long else 0
        # While a panel's copy is in use: address variable, elements a step.
        self.packed_right: tuple[str, int] | None = None
        self.packed_left: str | None = None

    def _pays(self, operand: tuple[str, Index], name: str) -> bool:
        """Whether an operand walks through memory in steps so long that a copy is faster."""
        step = self.ranges.coefficient(operand[1], name)
        deep = not isinstance(self.depth, int) or self.depth >= PACK_DEPTH
        return step is not None and deep and shapes.typical(step) * self.product.dtype.itemsize >= PACK_STRIDE

    def body(self) -> list[str]:
        domain = self.group.domain
        rows = domain[-2]
        if len(domain) == 2:
            self.levels.append(Level())
            if batch_of(domain) is not None:
                self.kernel.units = 0
                self._all_panels(*self.range_of(rows).split(", "))
            else:
                self.kernel.units = self._most_tiles(static(rows))
                if self.block:
                    self._blocks()
                else:
                    if self.packs_left:
                        self._pack_left()
                    self._all_panels("lo", "hi")
            return self.levels.pop().lines
        self.kernel.units = units_of(domain)
        return self.outer(domain[:-2], lambda: self._all_panels("0", self.extent(rows)))

    def _blocks(self) -> None:
        """Blocks of the folded axis, one after the other; sums wait in working memory for the next one."""
        width = sum(p.vectors * (p.loop[0] // p.loop[1] if p.loop else 1) for p in self.panels) * self.lanes
        self.sums = (self.step * static(self.kernel.units) * width, width)
        where = self._scratch("packed")
        total = self.extent(self.depth)
        zero = f"store({where}, e, zeros({self.dtype}))"
        self.write(f"for e in range(0, (hi - lo) * {self.step * width}, {self.lanes}):")
        self.write(INDENT + zero)

        def inside() -> None:
            self.write(f"span = minimum({self.block}, {total} - first)")
            self._pack_left()
            self._all_panels("lo", "hi")

        self.segment(f"for first in range(0, {total}, {self.block}):", ("first",), inside)

    sums: tuple[int, int] = (0, 0)  # elements of the sums that wait, and of one row of them

    def _most_tiles(self, rows: int) -> int:
        """Tiles of rows: the parallel range, cut the same way for every panel."""
        self.step = tile_rows(rows, self.widest, self.registers)
        return -(-rows // self.step)

    def _all_panels(self, first: str, last: str) -> None:
        if self.kernel.packed:
            self._rows_first(first, last)
        else:
            self._panels_in_turn(lambda panel: self._rows(panel, first, last))

    def _panels_in_turn(self, inside: Callable[[Panel], None]) -> None:
        for panel in self.panels:
            if panel.loop is None:
                inside(panel)
            else:
                end, step = panel.loop
                self.segment(f"for c in range(0, {end}, {step}):", ("c", "j"), lambda p=panel: inside(p))

    def _rows_first(self, first: str, last: str) -> None:
        """All panels, which lie packed, for one tile of rows after the other: what a row reads and writes is together."""
        step = self.kernel.packed_from = tile_rows(MANY_ROWS, self.widest, self.registers)

        def tile(panel: Panel) -> None:
            self._pack_right(panel)
            self._tile(panel, step)
            self.packed_right = None

        def tiles() -> None:
            self.write(f"i = minimum({first} + t * {step}, {last} - {step})")
            self._panels_in_turn(tile)

        def many() -> None:
            self.segment(f"for t in range(({last} - {first} + {step - 1}) // {step}):", ("i",), tiles)

        def few() -> None:
            for_rows = f"for i in range({first}, {last}):"
            self._panels_in_turn(lambda panel: self.segment(for_rows, ("i",), lambda: self._tile(panel, 1)))

        self.segment(f"if {last} - {first} >= {step}:", (), many)
        self.segment("else:", (), few)

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
        if self.packs_right:
            step = tile_rows(MANY_ROWS, panel.vectors * self.group.parts, self.registers)
        if step == 1:
            self.segment(f"for i in range({first}, {last}):", ("i",), lambda: self._tile(panel, 1))
            return

        # The last tile is moved back to end with the range: its first rows are computed twice, to the same bits.  Where
        # the epilogue changes weights in place that would change them twice: there the rest goes row by row.
        once = any(op in self.plan.updates for op in self.group.stored)

        def tiles() -> None:
            start = f"{first} + t * {step}"
            self.write(f"i = {start}" if once else f"i = minimum({start}, {last} - {step})")
            self._tile(panel, step)

        def rest(start: str) -> None:
            self.segment(f"for i in range({start}, {last}):", ("i",), lambda: self._tile(panel, 1))

        def many() -> None:
            if self.packs_right:
                self._pack_right(panel)
            count = f"({last} - {first}) // {step}" if once else f"({last} - {first} + {step - 1}) // {step}"
            self.segment(f"for t in range({count}):", ("i",), tiles)
            if once:
                rest(f"{first} + ({last} - {first}) // {step} * {step}")

        def few() -> None:
            rest(first)

        self.segment(f"if {last} - {first} >= {step}:", (), many)
        self.packed_right = None
        self.segment("else:", (), few)

    def _scratch(self, name: str) -> str:
        self.write(f"{name} = pointer(ctx, {SCRATCH}, {self.dtype})", 0)
        return name

    def _reserve(self, elements: int) -> None:
        """Asks for working memory of `elements` for each folded step."""
        size = self.product.dtype.itemsize
        fixed, sampled = self.kernel.scratch
        if self.block:
            self.kernel.scratch = (max(fixed, (elements * self.block + self.sums[0]) * size), sampled)
        elif batch_of((self.depth,)) is None or isinstance(self.depth, int):
            self.kernel.scratch = (max(fixed, elements * static(self.depth) * size), sampled)
        else:
            self.kernel.scratch = (fixed, shapes.bound_of(sampled, self.depth.factor * (elements * size)))

    def _pack_right(self, panel: Panel) -> None:
        """Copies the panel's part of the right operand, step after step without gaps."""
        if self.kernel.packed:
            self.write(f"packed = {self.pointer(self.kernel.packed)}")
            self.packed_right = self._place_of(panel)
            return
        self._reserve(self._left_width() + self.widest * self.lanes)
        base = f"{self._left_width()} * {self._held()} + {self.sums[0]} + " if self._left_width() else ""
        self.packed_right = (base, self._width(panel))
        self._copy_right(panel, self._scratch("packed"))

    def _width(self, panel: Panel) -> int:
        return panel.vectors * self.group.parts * self.lanes

    def _copy_right(self, panel: Panel, where: str) -> None:
        """Statements that put the panel's part of the right operand at `packed_right`."""
        assert self.packed_right is not None
        (pointer, offset), (base, width) = self.right, self.packed_right
        self.write(f"for k in range({self._span()}):")
        for v, chunk in enumerate(self._chunks(panel)):
            self.chunk = chunk
            tail = "" if chunk.count is None else f", {chunk.count}"
            value = f"load({pointer}, {self.position(self._from_block(offset))}{tail})"
            self.write(f"{INDENT}store({where}, {base}k * {width} + {v * self.lanes}, {value})")
        self.chunk = None

    def _place_of(self, panel: Panel) -> tuple[str, int]:
        """Where a panel lies if all are packed, one behind the other."""
        before = static(self.depth) * self.group.parts
        base = f"c * {before} + " if panel.loop else f"{int(panel.start) * before} + "
        return base, self._width(panel)

    def pack_source(self) -> str:
        """A function that packs all panels into `kernel.packed`."""
        self.levels.append(Level())
        where = self.pointer(self.kernel.packed)

        def copy(panel: Panel) -> None:
            self.packed_right = self._place_of(panel)
            self._copy_right(panel, where)

        self._panels_in_turn(copy)
        lines = [*self.levels[0].lines, *self.levels.pop().lines]
        head = [f"def {self.kernel.name}_pack(ctx, lo, hi):", f"{INDENT}lanes({self.lanes})"]
        return "\n".join([*head, *(INDENT + line for line in lines)]) + "\n"

    def _span(self) -> str:
        """Steps of the folded axis that are worked on at a time."""
        return "span" if self.block else self.extent(self.depth)

    def _held(self) -> str:
        """Steps that the copies have room for."""
        return str(self.block) if self.block else self.extent(self.depth)

    def _from_block(self, offset: Index) -> Index:
        """The offset with the step counted from the beginning of the block."""
        c = self.ranges.coefficient(offset, "k") if self.block else 0
        return ix.add(offset, ix.scale(ix.var("first"), c)) if c else offset

    def _left_width(self) -> int:
        """Elements a folded step that the copy of the left operand takes: all rows of the product."""
        if not self.packs_left:
            return 0
        return -(-static(self.group.domain[-2]) // self.step) * self.step

    def _pack_left(self) -> None:
        """Copies the rows of this thread's tiles, tile after tile, those of a tile side by side at each folded step."""
        pointer, offset = self.left
        where = self._scratch("packed")
        step, rows = self.step, static(self.group.domain[-2])
        self.write("for t in range(lo, hi):")
        self.write(f"{INDENT}i = t * {step}")
        self.write(f"{INDENT}for k in range({self._span()}):")
        row = self._row_text(self._from_block(offset)).replace(" + m", "")
        count = f", minimum({step}, {rows} - i)" if rows % step else f", {step}" if step != self.lanes else ""
        self.write(
            f"{INDENT * 2}store({where}, {self.sums[0]} + ((t - lo) * {self._held()} + k) * {step}, "
            f"load({pointer}, {row}{count}), {step})"
        )
        self.packed_left = where

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
        chunks = self._chunks(panel)
        self.write(f"for m in static({rows}):")
        for v in range(len(chunks)):
            start = f"load(packed, {self._waiting(v, chunks[0])})" if self.block else f"zeros({self.dtype})"
            self.write(f"{INDENT}acc{v}[m] = {start}")
        if self.kernel.packed and rows > 1:
            self._ask_for(rows, chunks[0])
        self._fold(rows, chunks)
        if not self.block:
            self._epilogue(chunks, rows, {self._row_name(): "i + m"})
            return

        def keep() -> None:
            self.write(f"for m in static({rows}):")
            for v in range(len(chunks)):
                self.write(f"{INDENT}store(packed, {self._waiting(v, chunks[0])}, acc{v}[m])")

        end = f"first + span == {self.extent(self.depth)}"
        self.segment(f"if {end}:", (), lambda: self._epilogue(chunks, rows, {self._row_name(): "i + m"}))
        self.segment("else:", (), keep)

    def _ask_for(self, rows: int, chunk: Chunk) -> None:
        """Has the lines that the epilogue of a tile in a loop reads and writes brought while its sums are made."""
        places, self.chunk = self._places(), chunk
        self.write(f"for m in static({rows}):")
        self.write(f"{INDENT}{self._row_name()} = i + m")
        touched = sorted(self.kernel.reads, key=lambda op: op.serial) + self.group.stored
        for op in touched:
            if op.shape in (self.product.shape, self.group.domain) and op not in self.product.inputs:
                buffer = self.plan.buffers[op]
                for place in places if op.shape == self.product.shape else places[:1]:
                    at = self.position(buffer.layout.offset(place))
                    self.write(f"{INDENT}prefetch({self.pointer(buffer)}, {at})")
        self.chunk = None

    def _waiting(self, v: int, first: Chunk) -> str:
        """Where the sum of row i + m and vector `v` of the panel waits for the next block."""
        return f"(i - lo * {self.step} + m) * {self.sums[1]} + {first.start} + {v * self.lanes}"

    def _fold(self, rows: int, chunks: list[Chunk]) -> None:
        depth = self._span()
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
        text = f"load({pointer}, {self.position(self._shift(offset, 'k', u))}{tail})"
        self.chunk = None
        return text

    def _left_number(self, u: int) -> tuple[str, str]:
        """(offset, address variable) of the number of row i + m at step k + u."""
        if self.packed_left is not None:
            base = f"{self.sums[0]} + ((t - lo) * {self._held()} + k) * {self.step}"
            return f"{base} + {u * self.step} + m", self.packed_left
        pointer, offset = self.left
        return self._row_text(self._shift(offset, "k", u)), pointer

    def _row_text(self, offset: Index) -> str:
        """The offset with row i + m of the tile in place of the row variable."""
        name = self._row_name()
        c = self.ranges.coefficient(offset, name)
        if c is None:
            raise Unvectorizable(str(offset))
        rest = Index(tuple(t for t in offset.terms if t[0] != name), offset.const)
        return f"i * {shapes.code(c)} + m * {shapes.code(c)} + {rest}" if c != 1 else f"i + m + {rest}"

    def _row_name(self) -> str:
        return f"i{len(self.group.domain) - 2}"
