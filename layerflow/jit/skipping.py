"""Skipping zeros: products of which an operand comes out of a relu, or out of the gradient of one.

About half of such an operand is zero, and what is multiplied by zero need not be multiplied (see `zero_lists`; Gong et
al. 2020, SparseTrain, do this for convolutions).  Only nan and inf in the other operand do not show behind a zero.  How
many zeros there are is known at run time: where they are few, or the range is, tiles do the work.
"""

from __future__ import annotations

from layerflow.graph.shapes import Dim, code, is_batch, static
from layerflow.graph.symbolic import LITERAL, Kind, Op
from layerflow.jit import index as ix
from layerflow.jit.contraction import is_sharded
from layerflow.jit.copies import turned
from layerflow.jit.epilogues import Epilogue, begun
from layerflow.jit.gemm import GemmNest
from layerflow.jit.loops import block
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import Panel, panels
from layerflow.jit.values import USE_TILES, Chunk, Level, Unvectorizable
from layerflow.jit.zero_lists import MOST_ROWS, VECTORS, ZeroListsNest

FEWEST_WEIGHTS = 1 << 16  # from which lists pay
FEWEST_ROWS = 24  # from which copying the right operand pays
FEWEST_COPIES = 256  # rows from which making lists of the right operand does, as every thread has to
DEPTHS = 128, 4096  # folded steps: fewer make lists too short, more make them too long to keep
AHEAD = 4  # rows from a row to the one whose weights are asked for


def _unmoved(op: Op) -> Op:
    while op.primitive.kind is Kind.MOVE and len(op.inputs) == 1:
        (op,) = op.inputs
    return op


def often_zero(op: Op) -> bool:
    """Whether many elements of a value can be expected to be zero."""
    op = _unmoved(op)
    if op.name == "multiply":
        return any(x.shape == op.shape and often_zero(x) for x in op.inputs)
    zeros = [x for x in map(_unmoved, op.inputs[1:]) if x.primitive is LITERAL and not x.attrs["value"]]
    return op.name == "relu" or (op.name == "where" and bool(zeros))


def form(kernel: Kernel, lanes: int) -> type[ZeroListsNest] | None:
    """How a kernel can skip zeros, if it is a product that is large enough and has an operand that is often zero."""
    group, product = kernel.group, kernel.group.anchor
    if group.kind != "gemm" or len(group.domain) != 2 or group.parts != 1 or group.added or is_sharded(product):
        return None
    (rows, columns), (left, right) = group.domain, product.inputs
    depth = left.shape[-2 if product.attrs["transpose_a"] else -1]
    if product.dtype.name != "float32" or lanes == 1 or not isinstance(columns, int) or columns < VECTORS * lanes:
        return None
    if isinstance(rows, int) and isinstance(depth, Dim):  # the gradient of weights
        if rows < MOST_ROWS or rows * columns < FEWEST_WEIGHTS or not is_batch(depth) or isinstance(depth.factor, Dim):
            return None
        return LeftZeros if often_zero(left) else RightZeros if often_zero(right) else None
    if isinstance(rows, Dim) and isinstance(depth, int):  # forward, or the gradient of inputs
        near = is_batch(rows) and isinstance(rows.factor, int) and rows.factor <= MOST_ROWS
        large = DEPTHS[0] <= depth <= DEPTHS[1] and depth * columns >= FEWEST_WEIGHTS
        return LeftZeros if near and large and often_zero(left) else None
    return None


class LeftZeros(ZeroListsNest):
    """Rows of the left operand are listed, panels of columns of the right one are copied."""

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest):
        super().__init__(plan, kernel, tiles)
        rows = self.group.domain[0]
        self.each = tiles.step if isinstance(rows, int) else static(rows.factor)  # rows of a unit of the range
        self.panels = panels(static(self.group.domain[1]), self.lanes, VECTORS, VECTORS)
        self.zeros = (*self.left, self._row_name())

    def dispatch(self) -> str:
        """The range in slabs of rows, each made in one way or the other."""
        units = max(1, self.most // self.each)
        most = f" & ({code(self.depth)} <= {DEPTHS[1]})" if isinstance(self.depth, Dim) else ""
        slab = [
            "g = lo + (hi - lo) * s // slabs",
            "h = lo + (hi - lo) * (s + 1) // slabs",
            *self.calls(f"((h - g) * {self.each} >= {FEWEST_ROWS}){most}", "g, h"),
        ]
        lines = ["lanes(1)", f"slabs = (hi - lo + {units - 1}) // {units}", *block("for s in range(slabs):", slab)]
        return "\n".join(block(f"def {self.kernel.name}(ctx, lo, hi):", lines)) + "\n"

    def body(self) -> list[str]:
        rows = self.group.domain[0]
        self.levels.append(Level())
        last = f"minimum(hi * {self.each}, {rows})" if isinstance(rows, int) else f"hi * {self.each}"
        for line in (f"begin = lo * {self.each}", f"end = {last}", *self.open_lists()):
            self.write(line)

        def sums() -> None:
            self.write(f"set_integer(ctx, {USE_TILES}, 0)")
            self._panels_in_turn(self._sums)

        self.segment(f"if {self.is_sparse()}:", (), sums)
        return self.levels.pop().lines

    def _sums(self, panel: Panel) -> None:
        """All rows of a panel of columns, block after block."""
        chunks = self._chunks(panel)
        self.levels.append(Level(("i",)))
        before, starts, epilogue = begun(self._epilogue(chunks, 1, {self._row_name(): "i"}), self._loaded())
        self.levels.pop()
        start = [starts.get(f"acc{v}", f"zeros({self.dtype})") for v in range(len(chunks))]
        starting = [f"store(packed, {self.waiting(v)}, {text})" for v, text in enumerate(start)]
        for line in (*before, *block("for row in range(end - begin):", starting)):
            self.write(line)
        self.segment(f"for first in range(0, {self.steps}, {self.run}):", ("first",), lambda: self._block(chunks, epilogue))

    def _block(self, chunks: list[Chunk], epilogue: Epilogue) -> None:
        count = len(chunks)
        last = [*self._next_panel(chunks), "i = begin + row", f"r = {AHEAD}", *self._for_updates(chunks)]
        last += [*self.added(count), *epilogue.text()]
        more = [*self._next_block(chunks), *self.added(count), *self.kept(count)]
        along = self.ranges.coefficient(self.right[1], "k")
        if along is None:
            raise Unvectorizable(str(self.right[1]))
        lines = [
            *self.lists_of_block(),
            *self.copied(self._vectors(chunks, ix.add(self.right[1], ix.scale(ix.var("first"), along)))),
            *block(f"if first + {self.run} >= {self.steps}:", block("for row in range(end - begin):", last)),
            *block("else:", block("for row in range(end - begin):", more)),
        ]
        for line in lines:
            self.write(line)

    def _vectors(self, chunks: list[Chunk], offset: ix.Index) -> list[str]:
        """Loads of the right operand's columns."""
        tails = ["" if chunk.count is None else f", {chunk.count}" for chunk in chunks]
        return [f"load({p}{tail})" for p, tail in zip(self._places_of(chunks, offset), tails, strict=True)]

    def _places_of(self, chunks: list[Chunk], offset: ix.Index) -> list[str]:
        found = []
        for self.chunk in chunks:
            found.append(f"{self.right[0]}, {self.position(offset)}")
        self.chunk = None
        return found

    def _next_block(self, chunks: list[Chunk]) -> list[str]:
        return self.asked(self._places_of(chunks, self.ahead(self.right[1], False)))

    def _next_panel(self, chunks: list[Chunk]) -> list[str]:
        if not isinstance(chunks[0].start, str):
            return []
        behind = [Chunk(f"c + {self.width + v * self.lanes}") for v in range(len(chunks))]
        return self.asked(self._places_of(behind, self.ahead(self.right[1], True)))


class RightZeros(ZeroListsNest):
    """Columns of the right operand are listed, panels of rows of the left one are copied.

    The sums are those of the transposed product; blocks of them are turned before the epilogue.
    """

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest):
        super().__init__(plan, kernel, tiles)
        self.zeros = (*self.right, "j")
        self.columns = static(self.group.domain[1])

    def dispatch(self) -> str:
        """The whole range in one way."""
        rows = f"((hi - lo) * {self.tiles.step} >= {FEWEST_COPIES})"
        lines = ["lanes(1)", *self.calls(f"{rows} & ({code(self.depth)} <= {DEPTHS[1]})", "lo, hi")]
        return "\n".join(block(f"def {self.kernel.name}(ctx, lo, hi):", lines)) + "\n"

    def body(self) -> list[str]:
        step, slabs = self.tiles.step, -(-self.columns // self.most)
        each = -(-self.columns // (slabs * self.lanes)) * self.lanes
        self.levels.append(Level())
        self.write(f"top = lo * {step}")
        self.write(f"bottom = minimum(hi * {step}, {self.group.domain[0]})")

        def slab() -> None:
            # The first slab stands for all of them: what is not made of lists is left to tiles as a whole.
            decide = block(f"if {self.is_sparse()}:", [f"set_integer(ctx, {USE_TILES}, 0)"])
            for line in (f"end = minimum(begin + {each}, {self.columns})", *self.open_lists(), *block("if begin == 0:", decide)):
                self.write(line)
            self.segment(
                f"if integer(ctx, {USE_TILES}) == 0:",
                (),
                lambda: self.segment(f"for c in range(top, bottom, {self.width}):", ("c",), self._panel),
            )

        self.segment(f"for begin in range(0, {self.columns}, {each}):", ("begin",), slab)
        return self.levels.pop().lines

    def _panel(self) -> None:
        """A panel of rows of the left operand: sums block after block, then what is made of them."""
        rows = [f"c + {v * self.lanes}" for v in range(VECTORS)]
        vectors = [self.at(self.left, **{self._row_name(): f"({row})", "k": "(first + k)"}) for row in rows]
        copies = [f"load({self.left[0]}, {vectors[v]}, bottom - c - {v * self.lanes})" for v in range(VECTORS)]
        ahead = f"(first + {self.run} + row)"
        places = [self.at(self.left, **{self._row_name(): f"({row})", "k": ahead}) for row in rows]
        asked = self.asked([f"{self.left[0]}, {place}" for place in places])
        zero = [f"store(packed, {self.waiting(v)}, zeros({self.dtype}))" for v in range(VECTORS)]
        sums = [*asked, *self.added(VECTORS), *self.kept(VECTORS)]
        inside = [*self.lists_of_block(), *self.copied(copies), *block("for row in range(end - begin):", sums)]
        for line in (
            *block("for row in range(end - begin):", zero),
            *block(f"for first in range(0, {self.steps}, {self.run}):", inside),
        ):
            self.write(line)
        self.segment(f"for g in range(0, minimum({self.width}, bottom - c), {self.lanes}):", ("g",), self._results)

    def _results(self) -> None:
        """As many rows of the product as a vector has lanes: their sums are turned, then the epilogue takes them."""
        lanes = range(self.lanes)
        turning = [
            *(f"t{m} = load(packed, {self.sums_at} + (row + {m}) * {self.width} + g)" for m in lanes),
            *turned(self.lanes, "t"),
            *(f"store(packed, row + {m * self.most}, t{m})" for m in lanes),
        ]
        for line in block(f"for row in range(0, end - begin, {self.lanes}):", turning):
            self.write(line)

        def vector() -> None:
            chunk = Chunk("u", f"{self.columns} - u" if self.columns % self.lanes else None)
            for line in (f"r = {AHEAD}", *self._for_updates([chunk]), f"acc0[0] = load(packed, row * {self.most} + u - begin)"):
                self.write(line)
            self._end(self._epilogue([chunk], 1, {self._row_name(): "i"}))

        def row() -> None:
            self.write("i = c + g + row")
            self.counts_vectors("u", self.lanes)
            self.segment(f"for u in range(begin, end, {self.lanes}):", ("u", "j"), vector)

        self.segment(f"for row in range(minimum({self.lanes}, bottom - c - g)):", ("i",), row)


def source(plan: Schedule, kernel: Kernel, lanes: int, registers: int, nest: type[ZeroListsNest]) -> str:
    """The functions of a product that skips zeros: the kernel, one with lists and one with tiles."""
    tiles = GemmNest(plan, kernel, lanes, registers)
    text = tiles.source()
    try:
        lists = nest(plan, kernel, tiles)
        zeros = lists.source()
    except Unvectorizable:
        return text
    head = f"def {kernel.name}("
    named = [t.replace(head, f"def {kernel.name}{kind}(", 1) for t, kind in ((text, "_tiles"), (zeros, "_zeros"))]
    return "".join([*named, lists.dispatch()])
