"""Skipping zeros: products of which an operand comes out of a relu or the gradient of one, or is data.

About half of what a relu makes is zero, and data often are: what is multiplied by zero need not be multiplied (see
`zero_lists`; Gong et al. 2020, SparseTrain, do this for convolutions).  Only nan and inf in the other operand do not
show behind a zero.  How many zeros there are is known at run time: where they are few, or the range is, tiles do the
work.
"""

from __future__ import annotations

from layerflow import config
from layerflow.graph.shapes import Dim, Extent, static
from layerflow.graph.symbolic import INPUT, LITERAL, Kind, Op
from layerflow.jit import index as ix
from layerflow.jit import target
from layerflow.jit.access import batch_of
from layerflow.jit.contraction import is_sharded
from layerflow.jit.copies import turned
from layerflow.jit.epilogues import Epilogue, begun
from layerflow.jit.gemm import GemmNest
from layerflow.jit.index import Index
from layerflow.jit.loops import block
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import Panel, panels
from layerflow.jit.values import Chunk, Level, Unvectorizable
from layerflow.jit.zero_lists import MOST_ROWS, VECTORS, ZeroListsNest, function

FEWEST_WEIGHTS = 1 << 16  # from which lists pay
FEWEST_ROWS = 24  # from which copying the right operand pays
FEWEST_COPIES = 256  # rows from which lists of the right operand do, which every thread makes
FEWEST_WEIGHTS_DOWN = 128  # weights of a column: fewer make lists too short, or too few of them
MOST_STEPS = 4096  # folded: more make lists too long to keep
LISTED = 3, 4  # numbers that may not be zero: with more than three of four tiles are as fast
FIRST_OF_TWO = 1, 2  # the same where the other operand is likely to have as many zeros
AHEAD = 4  # rows from a row to the one whose weights are asked for


# --- what skips zeros ------------------------------------------------------------------


def _unmoved(op: Op) -> Op:
    while op.primitive.kind is Kind.MOVE and len(op.inputs) == 1:
        (op,) = op.inputs
    return op


def often_zero(op: Op) -> bool:
    """Whether an operation makes many zeros: a relu, a choice between a value and zero, what is multiplied by such."""
    op = _unmoved(op)
    if op.name == "multiply":
        return any(x.shape == op.shape and often_zero(x) for x in op.inputs)
    zeros = [x for x in map(_unmoved, op.inputs[1:]) if x.primitive is LITERAL and not x.attrs["value"]]
    return op.name == "relu" or (op.name == "where" and bool(zeros))


def forms(kernel: Kernel, lanes: int) -> list[type[LeftZeros | RightZeros]]:
    """How a kernel can skip zeros, if it is a product that is large enough and has an operand that may have many: the
    form to be tried first comes first."""
    group, product = kernel.group, kernel.group.anchor
    if group.kind != "gemm" or len(group.domain) != 2 or group.parts != 1 or group.added or is_sharded(product):
        return []
    (rows, columns), (left, right) = group.domain, product.inputs
    depth = left.shape[-2 if product.attrs["transpose_a"] else -1]
    if product.dtype.name != "float32" or lanes == 1 or not isinstance(columns, int) or columns < VECTORS * lanes:
        return []
    wanted = config.skip_zeros() and not config.check_numerics()
    if not wanted or not (_makes_weights(rows, depth, columns) or _makes_samples(rows, depth, columns)):
        return []
    if often_zero(left):
        return [LeftZeros]
    found: list[type[LeftZeros | RightZeros]] = [LeftZeros] if _unmoved(left).primitive is INPUT else []
    if isinstance(rows, int) and rows >= FEWEST_COPIES and often_zero(right):
        found.append(RightZeros)
    return found


def remark(kernel: Kernel) -> str:
    """What the stage `schedule` says of such a kernel."""
    sides = [form.side for form in forms(kernel, target.host().vector_bytes // kernel.group.anchor.dtype.itemsize)]
    return f"skips zeros on the {', or else on the '.join(sides)}, if there are enough" if sides else ""


def _makes_weights(rows: Extent, depth: Extent, columns: int) -> bool:
    """Whether a product sums over samples, and there is enough of it."""
    large = isinstance(rows, int) and rows >= FEWEST_WEIGHTS_DOWN and rows * columns >= FEWEST_WEIGHTS
    return large and _rows_a_sample(depth) is not None


def _makes_samples(rows: Extent, depth: Extent, columns: int) -> bool:
    """Whether a product is made for each sample, and there is enough of it."""
    each = _rows_a_sample(rows)
    if not isinstance(depth, int) or each is None or each > MOST_ROWS:
        return False
    return FEWEST_WEIGHTS_DOWN <= depth <= MOST_STEPS and depth * columns >= FEWEST_WEIGHTS


def _rows_a_sample(extent: Extent) -> int | None:
    """How many rows of this extent are of one sample, if they are of samples and that is known."""
    batch = batch_of((extent,))
    return batch.factor if batch and isinstance(batch.factor, int) else None


# --- the two forms ---------------------------------------------------------------------


class LeftZeros(ZeroListsNest):
    """Rows of the left operand are listed, panels of columns of the right one are copied."""

    side = "left"

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest, name: str, share: tuple[int, int]):
        super().__init__(plan, kernel, tiles, name, share)
        rows = self.group.domain[0]
        self.each = tiles.step if isinstance(rows, int) else static(rows.factor)  # rows of a unit of the range
        self.panels = panels(static(self.group.domain[1]), self.lanes, VECTORS, VECTORS)
        self.zeros, self.other, self.row_name = self.left, self.right, self._row_name()

    def choice(self, otherwise: str) -> str:
        name, rows, units = self.called, self.group.domain[0], max(1, self.most // self.each)
        most = f" & ({self.steps} <= {MOST_STEPS})" if isinstance(self.depth, Dim) else ""

        def span(first: str, last: str) -> str:
            end = f"{last} * {self.each}"
            return f"{first} * {self.each}, {f'minimum({end}, {rows})' if isinstance(rows, int) else end}"

        slabs = f"((hi - lo + {units - 1}) // {units})"
        slab = [
            f"g = lo + (hi - lo) * s // {slabs}",
            f"h = lo + (hi - lo) * (s + 1) // {slabs}",
            f"{name}_list(ctx, {span('g', 'h')})",
            f"{name}_zeros(ctx, {span('g', 'h')})",
        ]
        enough = f"((hi - lo) * {self.each} >= {FEWEST_ROWS}){most}"
        return self.chosen(enough, span("lo", "hi"), block(f"for s in range({slabs}):", slab), otherwise)

    def body(self) -> list[str]:
        self.levels.append(Level())
        self.memory()
        self.add_lines(self.listed("lo", "hi"))
        self._panels_in_turn(self._sums)
        return self.levels.pop().lines

    def _sums(self, panel: Panel) -> None:
        """All rows of a panel of columns, block after block."""
        chunks = self._chunks(panel)
        self.levels.append(Level(("i",)))
        before, starts, epilogue = begun(self._epilogue(chunks, 1, {self.row_name: "i"}), self._loaded())
        self.levels.pop()
        values = [starts.get(f"acc{v}", f"zeros({self.dtype})") for v in range(len(chunks))]
        self.add_lines(before)
        self.add_lines(self.each_row([f"store(packed, {self.waiting(v)}, {text})" for v, text in enumerate(values)]))
        self.add_lines(self.blocks(self._block(chunks, epilogue)))

    def _block(self, chunks: list[Chunk], epilogue: Epilogue) -> list[str]:
        count = len(chunks)
        tails = ["" if chunk.count is None else f", {chunk.count}" for chunk in chunks]
        here = self._columns(chunks, Index((("first", 1), ("k", 1))))
        behind = self._columns(chunks, Index((("first", 1), ("row", 1)), self.run))
        beside = [Chunk(f"c + {self.width + v * self.lanes}") for v in range(count)]
        ahead = self._columns(beside, ix.var("row")) if isinstance(chunks[0].start, str) else []
        updates = ["i = begin + row", f"r = {AHEAD}", *self._for_updates(chunks)]
        last = [*self.asked(ahead), *updates, *self.added(count), *epilogue.text()]
        more = [*self.asked(behind), *self.added(count), *self.kept(count)]
        return [
            *self.copied([f"load({place}{tail})" for place, tail in zip(here, tails, strict=True)]),
            *block(f"if first + {self.run} >= {self.steps}:", self.each_row(last)),
            *block("else:", self.each_row(more)),
        ]

    def _columns(self, chunks: list[Chunk], step: Index) -> list[str]:
        """Address variable and offset of each vector of the right operand at a step."""
        (pointer, offset), found = self.other, []
        along = self.ranges.coefficient(offset, "k")
        if along is None:
            raise Unvectorizable(str(offset))
        offset = Index(tuple(t for t in offset.terms if t[0] != "k"), offset.const)
        for self.chunk in chunks:
            found.append(f"{pointer}, {self.position(ix.add(offset, ix.scale(step, along)))}")
        self.chunk = None
        return found


class RightZeros(ZeroListsNest):
    """Columns of the right operand are listed, panels of rows of the left one are copied.

    The sums are those of the transposed product; blocks of them are turned before the epilogue.
    """

    side = "right"

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest, name: str, share: tuple[int, int]):
        super().__init__(plan, kernel, tiles, name, share)
        self.columns = static(self.group.domain[1])
        self.zeros, self.other, self.row_name = self.right, self.left, "j"

    def choice(self, otherwise: str) -> str:
        step = self.tiles.step
        enough = f"((hi - lo) * {step} >= {FEWEST_COPIES}) & ({self.steps} <= {MOST_STEPS})"
        zeros = [f"{self.called}_zeros(ctx, lo * {step}, hi * {step})"]
        return self.chosen(enough, f"0, {self.columns}", zeros, otherwise)

    def body(self) -> list[str]:
        """Slabs of columns, and in each of them panels of rows."""
        slabs = -(-self.columns // self.most)
        each = -(-self.columns // (slabs * self.lanes)) * self.lanes
        self.levels.append(Level())
        self.memory()
        self.write(f"bottom = minimum(hi, {self.group.domain[0]})")

        def slab() -> None:
            self.add_lines(self.listed("begin", f"minimum(begin + {each}, {self.columns})")[1:])
            self.write(f"{self.called}_list(ctx, begin, end)")
            self.segment(f"for c in range(lo, bottom, {self.width}):", ("c",), self._panel)

        self.segment(f"for begin in range(0, {self.columns}, {each}):", ("begin",), slab)
        return self.levels.pop().lines

    def _panel(self) -> None:
        """A panel of rows of the left operand: sums block after block, then what is made of them."""
        vectors = range(VECTORS)
        here, behind = (
            [
                self.at(self.other, **{self._row_name(): f"(c + {v * self.lanes})", "k": f"(first + {k})"})
                for v in vectors
            ]
            for k in ("k", f"{self.run} + row")
        )
        loads = [f"load({here[v]}, bottom - c - {v * self.lanes})" for v in vectors]
        sums = [*self.asked(behind), *self.added(VECTORS), *self.kept(VECTORS)]
        self.add_lines(self.each_row([f"store(packed, {self.waiting(v)}, zeros({self.dtype}))" for v in vectors]))
        self.add_lines(self.blocks([*self.copied(loads), *self.each_row(sums)]))
        self.segment(f"for g in range(0, minimum({self.width}, bottom - c), {self.lanes}):", ("g",), self._results)

    def _results(self) -> None:
        """As many rows of the product as a vector has lanes: their sums are turned, then the epilogue takes them."""
        lanes = range(self.lanes)
        turning = [
            *(f"t{m} = load(packed, {self.sums_at} + (row + {m}) * {self.width} + g)" for m in lanes),
            *turned(self.lanes, "t"),
            *(f"store(packed, row + {m * self.most}, t{m})" for m in lanes),
        ]
        self.add_lines(block(f"for row in range(0, end - begin, {self.lanes}):", turning))

        def vector() -> None:
            chunk = Chunk("u", f"{self.columns} - u" if self.columns % self.lanes else None)
            self.add_lines([f"r = {AHEAD}", *self._for_updates([chunk])])
            self.write(f"acc0[0] = load(packed, row * {self.most} + u - begin)")
            self._end(self._epilogue([chunk], 1, {self._row_name(): "i"}))

        def row() -> None:
            self.write("i = c + g + row")
            self.counts_vectors("u", self.lanes)
            self.segment(f"for u in range(begin, end, {self.lanes}):", ("u", "j"), vector)

        self.segment(f"for row in range(minimum({self.lanes}, bottom - c - g)):", ("i",), row)


def source(
    plan: Schedule, kernel: Kernel, lanes: int, registers: int, tried: list[type[LeftZeros | RightZeros]]
) -> str:
    """The functions of a product that can skip zeros: its tiles, those for lists, and the kernel, which chooses."""
    tiles = GemmNest(plan, kernel, lanes, registers)
    otherwise = f"{kernel.name}_tiles"
    texts = [tiles.source().replace(f"def {kernel.name}(", f"def {otherwise}(", 1)]
    for at, form in reversed(list(enumerate(tried))):
        name = f"{kernel.name}{'_right' if at else ''}"
        share = FIRST_OF_TWO if at + 1 < len(tried) else LISTED
        try:
            lists = form(plan, kernel, tiles, name, share)
            texts += [*lists.functions(), lists.choice(otherwise)]
        except Unvectorizable:
            continue
        otherwise = name
    if otherwise != kernel.name:
        texts.append(function(kernel.name, ["lanes(1)", f"{otherwise}(ctx, lo, hi)"]))
    return "".join(texts)
