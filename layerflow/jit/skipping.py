"""Skipping zeros: products whose left operand comes out of a relu, or out of the gradient of one.

About half of such an operand is zero, and what is multiplied by zero need not be multiplied.  Which numbers are not zero
is listed first, row by row.  Then a row's sums, in `VECTORS` registers, take the rows of the right operand that its list
names: a block of them, so small that the first-level cache holds it, for all rows before the next block.  Each sum is
made in the same order as in tiles, to the same bits; only nan and inf in the right operand do not show behind a zero.
SparseTrain (Gong et al. 2020) does this for convolutions.

How many zeros there are is known at run time only: where they are few, or the rows are, tiles do the work.
"""

from __future__ import annotations

from layerflow.graph.shapes import Dim, code, is_batch, static
from layerflow.graph.symbolic import LITERAL, Kind, Op
from layerflow.jit.contraction import is_sharded
from layerflow.jit.copies import turned
from layerflow.jit.epilogues import Epilogue, begun
from layerflow.jit.gemm import GemmNest
from layerflow.jit import index as ix
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, block
from layerflow.jit.prefetching import LARGE, PrefetchingNest
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import Panel, panels
from layerflow.jit.values import SCRATCH, USE_TILES, Chunk, Level, Unvectorizable

VECTORS = 8  # of sums in registers: fewer would have to be added to more quickly than a register takes it
BLOCK_BYTES = 24 << 10  # of the right operand: three quarters of a small first-level cache
MOST_ROWS = 288  # listed at a time: their sums wait in the second-level cache
FEWEST_ROWS = 24  # from which copying the right operand pays
FEWEST_WEIGHTS = 1 << 16  # from which the lists do
DEPTHS = 128, 4096  # folded steps: fewer are too few for the lists, and the lists of more too long
LISTED = 3, 4  # no more than three numbers of four: the others are made no faster than by tiles
AHEAD = 4  # rows from a row to the one whose weights are asked for


def often_zero(op: Op) -> bool:
    """Whether many elements of a value can be expected to be zero."""
    while op.primitive.kind is Kind.MOVE and len(op.inputs) == 1:
        (op,) = op.inputs
    if op.name == "multiply":
        return any(x.shape == op.shape and often_zero(x) for x in op.inputs)
    return op.name == "relu" or (op.name == "where" and any(_is_zero(x) for x in op.inputs[1:]))


def _is_zero(op: Op) -> bool:
    while op.primitive.kind is Kind.MOVE and len(op.inputs) == 1:
        (op,) = op.inputs
    return op.primitive is LITERAL and not op.attrs["value"]


def suits(kernel: Kernel, lanes: int) -> bool:
    """Whether a kernel is a product large enough, with a left operand that is often zero."""
    group, product = kernel.group, kernel.group.anchor
    if group.kind != "gemm" or len(group.domain) != 2 or group.parts != 1 or group.added or is_sharded(product):
        return False
    (rows, columns), left = group.domain, product.inputs[0]
    depth = left.shape[-2 if product.attrs["transpose_a"] else -1]
    if product.dtype.name != "float32" or lanes == 1 or not isinstance(columns, int) or columns < VECTORS * lanes:
        return False
    if isinstance(rows, int) == isinstance(depth, int):
        return False
    number, each = (rows, depth) if isinstance(rows, int) else (depth, rows)
    if not is_batch(each) or not isinstance(each.factor, int) or each.factor > MOST_ROWS:
        return False
    inside = number >= MOST_ROWS if number is rows else DEPTHS[0] <= number <= DEPTHS[1]
    return inside and number * columns >= FEWEST_WEIGHTS and often_zero(left)


class SkippingNest(PrefetchingNest):
    """The part of the product that leaves zeros out.  If it does not pay it only says so, in the slot USE_TILES."""

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest):
        super().__init__(plan, kernel, tiles.lanes, tiles.registers)
        rows = self.group.domain[0]
        self.each = tiles.step if isinstance(rows, int) else static(rows.factor)  # rows of a unit of the range
        self.units = max(1, MOST_ROWS // self.each)
        self.widest, self.in_panels, self.packs_right = VECTORS, True, True
        self.panels = panels(static(self.group.domain[1]), self.lanes, VECTORS, VECTORS)
        self.width = VECTORS * self.lanes
        self.block, self.run = 0, BLOCK_BYTES // (self.width * self.product.dtype.itemsize) // self.lanes * self.lanes
        self.packed_right = ("", self.width)
        # Elements of working memory: the block of the right operand, waiting sums, lists.
        self.most = -(-self.units * self.each // self.lanes) * self.lanes
        self.sums_at = self.run * self.width
        self.lists_at = self.sums_at + self.most * self.width
        self.list = 2 * self.run  # numbers that are not zero, and where the rows of the block lie that they multiply
        self._reserve_lists()

    def _reserve_lists(self) -> None:
        lists, size = self.most * (self.list + 1), self.product.dtype.itemsize
        blocks = -(-self.depth // self.run) if isinstance(self.depth, int) else 1
        fixed, sampled = self.kernel.scratch
        self.kernel.scratch = (max(fixed, (self.lists_at + blocks * lists) * size), sampled)
        if isinstance(self.depth, Dim):
            sample = -(-lists // self.run) * static(self.depth.factor) * size
            self.kernel.scratch = (self.kernel.scratch[0], max(static(sampled), sample))

    def dispatch(self) -> str:
        """The kernel: its range in slabs, each made in one way or the other."""
        most = f" & ({code(self.depth)} <= {DEPTHS[1]})" if isinstance(self.depth, Dim) else ""
        return "\n".join(
            [
                f"def {self.kernel.name}(ctx, lo, hi):",
                f"{INDENT}lanes(1)",
                f"{INDENT}slabs = (hi - lo + {self.units - 1}) // {self.units}",
                f"{INDENT}for s in range(slabs):",
                f"{INDENT * 2}g = lo + (hi - lo) * s // slabs",
                f"{INDENT * 2}h = lo + (hi - lo) * (s + 1) // slabs",
                f"{INDENT * 2}set_integer(ctx, {USE_TILES}, 1)",
                f"{INDENT * 2}if ((h - g) * {self.each} >= {FEWEST_ROWS}){most}:",
                f"{INDENT * 3}{self.kernel.name}_zeros(ctx, g, h)",
                f"{INDENT * 2}if integer(ctx, {USE_TILES}) != 0:",
                f"{INDENT * 3}{self.kernel.name}_tiles(ctx, g, h)",
                "",
            ]
        )

    # --- lists ---------------------------------------------------------------

    def body(self) -> list[str]:
        rows, self.steps = self.group.domain[0], self.extent(self.depth)
        self.levels.append(Level())
        self._scratch("packed")
        self.write(f"places = pointer(ctx, {SCRATCH}, u32)", 0)
        end = f"minimum(hi * {self.each}, {rows})" if isinstance(rows, int) else f"hi * {self.each}"
        for line in (
            f"begin = lo * {self.each}",
            f"end = {end}",
            f"pitch = (end - begin + {self.lanes - 1}) // {self.lanes} * {self.lanes}",
            "listed = 0",
            *self._lists(),
            f"if listed * {LISTED[1]} <= (end - begin) * {self.steps} * {LISTED[0]}:",
        ):
            self.write(line)
        self.levels.append(Level())
        self.write(f"set_integer(ctx, {USE_TILES}, 0)")
        self._panels_in_turn(self._sums_of)
        inside = self.levels.pop()
        self.levels[-1].lines += [INDENT + line for line in inside.lines]
        return self.levels.pop().lines

    def _lists(self) -> list[str]:
        """Statements that list what is not zero: for each block of steps and row a list, and how long it is."""
        along_steps = self.ranges.coefficient(self.left[1], "k") == 1
        if not along_steps and self.ranges.coefficient(self.left[1], self._row_name()) != 1:
            raise Unvectorizable(str(self.left[1]))
        inside = self._row_by_row() if along_steps else self._turned_rows()
        return block(
            f"for first in range(0, {self.steps}, {self.run}):",
            [
                f"stop = minimum(first + {self.run}, {self.steps})",
                f"lists = {self.lists_at} + first // {self.run} * pitch * {self.list + 1}",
                *inside,
            ],
        )

    def _row_by_row(self) -> list[str]:
        tail = f", {self.steps} - k" if not isinstance(self.depth, int) or self.depth % self.lanes else ""
        return block(
            "for row in range(end - begin):",
            [
                f"at = lists + row * {self.list}",
                "n = at",
                f"for k in range(first, stop, {self.lanes}):",
                f"{INDENT}t = load({self.left[0]}, {self._left_at('(begin + row)', 'k')}{tail})",
                *(INDENT + line for line in self._appended("t", "n")),
                f"places[lists + pitch * {self.list} + row] = cast(n - at, u32)",
                "listed = listed + n - at",
            ],
        )

    def _turned_rows(self) -> list[str]:
        """Rows that lie along the lanes: square blocks are turned in registers."""
        lanes = range(self.lanes)
        places = [self._left_at("(begin + row)", f"(k + {u})") for u in lanes]
        lines = [f"at = lists + row * {self.list}", *(f"n[{u}] = at + {u * self.list}" for u in lanes)]
        steps = [
            f"if (k + {self.lanes} <= stop) & (begin + row + {self.lanes} <= end):",
            *(f"{INDENT}t{u} = load({self.left[0]}, {places[u]})" for u in lanes),
            "else:",
            *(
                f"{INDENT}t{u} = load({self.left[0]}, {places[u]}, where(k + {u} < stop, end - begin - row, 0))"
                for u in lanes
            ),
            *turned(self.lanes, "t"),
            *(line for u in lanes for line in self._appended(f"t{u}", f"n[{u}]")),
        ]
        lines += block(f"for k in range(first, stop, {self.lanes}):", steps)
        for u in lanes:
            lines.append(f"n[{u}] = n[{u}] - at - {u * self.list}")
            lines.append(f"places[lists + pitch * {self.list} + row + {u}] = cast(n[{u}], u32)")
            lines.append(f"listed = listed + n[{u}]")
        return block(f"for row in range(0, end - begin, {self.lanes}):", lines)

    def _appended(self, vector: str, at: str) -> list[str]:
        """Statements that put what is not zero of steps k, k + 1, ... behind a list that ends at `at`."""
        where = f"splat(cast((k - first) * {self.width}, u32)) + iota(u32) * u32({self.width})"
        return [
            f"keep = {vector} != 0",
            f"store(packed, {at}, compress({vector}, keep))",
            f"store(places, {at} + {self.run}, compress({where}, keep))",
            f"{at} = {at} + count_set(keep)",
        ]

    def _left_at(self, row: str, step: str) -> str:
        """Where the left operand's number of a row at a step lies."""
        name, offset = self._row_name(), self.left[1]
        down, along = self.ranges.coefficient(offset, name), self.ranges.coefficient(offset, "k")
        if down is None or along is None:
            raise Unvectorizable(str(offset))
        rest = Index(tuple(t for t in offset.terms if t[0] not in (name, "k")), offset.const)
        return f"{row} * {code(down)} + {step} * {code(along)} + {rest}"

    # --- sums ----------------------------------------------------------------

    def _sums_of(self, panel: Panel) -> None:
        """All rows of a panel of columns, block after block of the folded steps."""
        chunks = self._chunks(panel)
        self.levels.append(Level(("i",)))
        before, starts, epilogue = begun(self._epilogue(chunks, 1, {self._row_name(): "i"}), self._loaded())
        self.levels.pop()
        for line in before:
            self.write(line)
        self.write("for row in range(end - begin):")
        for v in range(len(chunks)):
            start = starts.get(f"acc{v}", f"zeros({self.dtype})")
            self.write(f"{INDENT}store(packed, {self._waiting_at(v)}, {start})")
        self.segment(
            f"for first in range(0, {self.steps}, {self.run}):", ("first",), lambda: self._block_of(chunks, epilogue)
        )

    def _block_of(self, chunks: list[Chunk], epilogue: Epilogue) -> None:
        self.write(f"span = minimum({self.run}, {self.steps} - first)")
        self.write(f"lists = {self.lists_at} + first // {self.run} * pitch * {self.list + 1}")
        self._copy_block(chunks)
        last = [
            *self._next_block(chunks, True),
            "i = begin + row",
            f"r = {AHEAD}",
            *self._for_updates(chunks),
            *self._row(len(chunks)),
            *epilogue.text(),
        ]
        keep = [f"store(packed, {self._waiting_at(v)}, acc{v}[0])" for v in range(len(chunks))]
        more = [*self._next_block(chunks, False), *self._row(len(chunks)), *keep]
        for line in (
            f"if first + span == {self.steps}:",
            *(INDENT + line for line in block("for row in range(end - begin):", last)),
            "else:",
            *(INDENT + line for line in block("for row in range(end - begin):", more)),
        ):
            self.write(line)

    def _next_block(self, chunks: list[Chunk], is_last: bool) -> list[str]:
        """Statements that ask for a row of the block behind this one, behind the last one of the next panel's first."""
        looped = isinstance(chunks[0].start, str)
        if (is_last and not looped) or self._bytes(self.product.inputs[1]) < LARGE:
            return []
        pointer, offset = self.right
        along = self.ranges.coefficient(offset, "k")
        step = ix.var("row") if is_last else ix.add(ix.add(ix.var("first"), ix.number(self.run)), ix.var("row"))
        at = ix.add(Index(tuple(t for t in offset.terms if t[0] != "k"), offset.const), ix.scale(step, along or 0))
        lines = []
        for v, self.chunk in enumerate(chunks):
            if is_last:
                self.chunk = Chunk(f"c + {self.width + v * self.lanes}")
            lines.append(f"prefetch({pointer}, {self.position(at)}, 2)")
        self.chunk = None
        return block(f"if row < {self.run}:", lines)

    def _copy_block(self, chunks: list[Chunk]) -> None:
        pointer, offset = self.right
        along = self.ranges.coefficient(offset, "k")
        if along is None:
            raise Unvectorizable(str(offset))
        offset = ix.add(offset, ix.scale(ix.var("first"), along))
        self.write("for k in range(span):")
        for v, self.chunk in enumerate(chunks):
            tail = "" if self.chunk.count is None else f", {self.chunk.count}"
            value = f"load({pointer}, {self.position(offset)}{tail})"
            self.write(f"{INDENT}store(packed, k * {self.width} + {v * self.lanes}, {value})")
        self.chunk = None

    def _row(self, vectors: int) -> list[str]:
        """Statements that add a row's products of a block to its sums."""
        return [
            f"at = lists + row * {self.list}",
            *(f"acc{v}[0] = load(packed, {self._waiting_at(v)})" for v in range(vectors)),
            f"for n in range(at, at + cast(places[lists + pitch * {self.list} + row], i64)):",
            f"{INDENT}a = splat(packed[n])",
            f"{INDENT}b = cast(places[n + {self.run}], i64)",
            *(
                f"{INDENT}acc{v}[0] = fma(a, load(packed, b + {v * self.lanes}), acc{v}[0])"
                for v in range(vectors)
            ),
        ]

    def _waiting_at(self, v: int) -> str:
        return f"{self.sums_at} + row * {self.width} + {v * self.lanes}"


def source(plan: Schedule, kernel: Kernel, lanes: int, registers: int) -> str:
    """The functions of a product that skips zeros where there are enough of them."""
    tiles = GemmNest(plan, kernel, lanes, registers)
    text = tiles.source()
    try:
        nest = SkippingNest(plan, kernel, tiles)
        zeros = nest.source()
    except Unvectorizable:
        return text
    head = f"def {kernel.name}("
    named = [t.replace(head, f"def {kernel.name}{kind}(", 1) for t, kind in ((text, "_tiles"), (zeros, "_zeros"))]
    return "".join([*named, nest.dispatch()])
