"""Lists of what is not zero in an operand of a product, and sums over them.

The folded steps are cut into blocks.  Of each block and row of the listed operand there is a list: the numbers that are
not zero, and where the rows of the other operand lie that they multiply.  That operand's block is copied to where the
first-level cache holds it; then each row adds what its list names to its sums, which wait in the second-level cache for
the next block.  A sum is made in the same order as in tiles, to the same bits.
"""

from __future__ import annotations

from layerflow.graph.shapes import Dim, code, static
from layerflow.jit import index as ix
from layerflow.jit.copies import turned
from layerflow.jit.gemm import GemmNest
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, block
from layerflow.jit.prefetching import LARGE, PrefetchingNest
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import SCRATCH, USE_TILES, Unvectorizable

VECTORS = 8  # of sums in registers: fewer would be added to more often than a register takes it
BLOCK_BYTES = 24 << 10  # of the operand that is copied: three quarters of a small first-level cache
MOST_ROWS = 288  # listed at a time: their sums fit the second-level cache
LISTED = 3, 4  # three numbers of four: with more than that tiles are as fast


class ZeroListsNest(PrefetchingNest):
    """Statements for both forms of the product: with zeros on the left, and on the right.

    In the code a writer finds `begin` and `end` (the rows listed), `row` (counted from `begin`), `first` (step at which
    a block begins) and `lists` (where those of the block begin).
    """

    zeros: tuple[str, Index, str]  # the listed operand: address variable, offset, name of the row variable

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest):
        super().__init__(plan, kernel, tiles.lanes, tiles.registers)
        self.tiles = tiles
        self.width = VECTORS * self.lanes
        self.run = BLOCK_BYTES // (self.width * self.product.dtype.itemsize) // self.lanes * self.lanes
        # Elements of working memory: the block, waiting sums, lists.
        self.most = MOST_ROWS // self.lanes * self.lanes
        self.sums_at = self.run * self.width
        self.lists_at = self.sums_at + self.most * self.width
        self.list = 2 * self.run
        self.steps = self.extent(self.depth)
        self._reserve_lists()

    def _reserve_lists(self) -> None:
        lists, size = self.most * (self.list + 1), self.product.dtype.itemsize
        fixed, sampled = self.kernel.scratch
        blocks = -(-self.depth // self.run) if isinstance(self.depth, int) else 1
        if isinstance(self.depth, Dim):
            sampled = max(static(sampled), -(-lists // self.run) * static(self.depth.factor) * size)
        self.kernel.scratch = (max(fixed, (self.lists_at + blocks * lists) * size), sampled)

    def calls(self, condition: str, span: str) -> list[str]:
        """Statements of the kernel: lists if the range is large enough, tiles where they were not used."""
        return [
            f"set_integer(ctx, {USE_TILES}, 1)",
            f"if {condition}:",
            f"{INDENT}{self.kernel.name}_zeros(ctx, {span})",
            f"if integer(ctx, {USE_TILES}) != 0:",
            f"{INDENT}{self.kernel.name}_tiles(ctx, {span})",
        ]

    def dispatch(self) -> str:
        """The kernel itself."""
        raise NotImplementedError(f"{type(self).__name__} must define dispatch().")

    def is_sparse(self) -> str:
        """The condition that enough numbers of the rows are zero."""
        return f"listed * {LISTED[1]} <= (end - begin) * {self.steps} * {LISTED[0]}"

    def at(self, operand: tuple[str, Index], **values: str) -> str:
        """The text of an operand's offset, with texts in place of variables."""
        offset, parts = operand[1], []
        for name, text in values.items():
            along = self.ranges.coefficient(offset, name)
            if along is None:
                raise Unvectorizable(str(offset))
            parts.append(f"{text} * {code(along)}")
        rest = Index(tuple(t for t in offset.terms if t[0] not in values), offset.const)
        return " + ".join([*parts, str(rest)])

    # --- lists ---------------------------------------------------------------

    def open_lists(self) -> list[str]:
        """Statements that list all blocks of the rows from `begin` to `end`; `listed` counts what is not zero."""
        self._scratch("packed")
        self.write(f"places = pointer(ctx, {SCRATCH}, u32)", 0)
        _, offset, name = self.zeros
        along_steps = self.ranges.coefficient(offset, "k") == 1
        if not along_steps and self.ranges.coefficient(offset, name) != 1:
            raise Unvectorizable(str(offset))
        inside = [f"stop = minimum(first + {self.run}, {self.steps})", *self.lists_of_block()]
        inside += self._row_by_row() if along_steps else self._turned_rows()
        return [
            f"pitch = (end - begin + {self.lanes - 1}) // {self.lanes} * {self.lanes}",
            "listed = 0",
            *block(f"for first in range(0, {self.steps}, {self.run}):", inside),
        ]

    def lists_of_block(self) -> list[str]:
        return [f"lists = {self.lists_at} + first // {self.run} * pitch * {self.list + 1}"]

    def _length(self, row: str) -> str:
        """Where the length of a row's list stands: behind the lists of the block."""
        return f"lists + pitch * {self.list} + {row}"

    def _row_by_row(self) -> list[str]:
        pointer, offset, name = self.zeros
        tail = f", {self.steps} - k" if not isinstance(self.depth, int) or self.depth % self.lanes else ""
        vector = self.at((pointer, offset), **{name: "(begin + row)", "k": "k"})
        steps = [f"t = load({pointer}, {vector}{tail})", *self._appended("t", "n")]
        return block(
            "for row in range(end - begin):",
            [
                f"at = lists + row * {self.list}",
                "n = at",
                *block(f"for k in range(first, stop, {self.lanes}):", steps),
                f"places[{self._length('row')}] = cast(n - at, u32)",
                "listed = listed + n - at",
            ],
        )

    def _turned_rows(self) -> list[str]:
        """Rows that lie along the lanes: square blocks are turned in registers."""
        (pointer, offset, name), lanes = self.zeros, range(self.lanes)
        vectors = [f"{pointer}, {self.at((pointer, offset), **{name: '(begin + row)', 'k': f'(k + {u})'})}" for u in lanes]
        steps = [
            *block(
                f"if (k + {self.lanes} <= stop) & (begin + row + {self.lanes} <= end):",
                [f"t{u} = load({vectors[u]})" for u in lanes],
            ),
            *block("else:", [f"t{u} = load({vectors[u]}, where(k + {u} < stop, end - begin - row, 0))" for u in lanes]),
            *turned(self.lanes, "t"),
            *(line for u in lanes for line in self._appended(f"t{u}", f"n[{u}]")),
        ]
        lines = [f"at = lists + row * {self.list}", *(f"n[{u}] = at + {u * self.list}" for u in lanes)]
        lines += block(f"for k in range(first, stop, {self.lanes}):", steps)
        for u in lanes:
            lines.append(f"n[{u}] = n[{u}] - at - {u * self.list}")
            lines.append(f"places[{self._length(f'row + {u}')}] = cast(n[{u}], u32)")
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

    # --- sums ----------------------------------------------------------------

    def waiting(self, v: int) -> str:
        """Where vector `v` of the sums of `row` waits for the next block."""
        return f"{self.sums_at} + row * {self.width} + {v * self.lanes}"

    def copied(self, vectors: list[str]) -> list[str]:
        """Statements that copy a block of the other operand; `vectors` are those at step first + k."""
        stores = [f"store(packed, k * {self.width} + {v * self.lanes}, {text})" for v, text in enumerate(vectors)]
        return block(f"for k in range(minimum({self.run}, {self.steps} - first)):", stores)

    def asked(self, places: list[str]) -> list[str]:
        """Statements at a row that ask for lines of the other operand: those of the row of a block to come."""
        large = self._bytes(self.product.inputs[0 if self.zeros[0] == self.right[0] else 1]) >= LARGE
        return block(f"if row < {self.run}:", [f"prefetch({p}, 2)" for p in places]) if large and places else []

    def added(self, vectors: int) -> list[str]:
        """Statements that add what the list of `row` names to its sums, which they load."""
        fold = [
            "a = splat(packed[n])",
            f"b = cast(places[n + {self.run}], i64)",
            *(f"acc{v}[0] = fma(a, load(packed, b + {v * self.lanes}), acc{v}[0])" for v in range(vectors)),
        ]
        return [
            f"at = lists + row * {self.list}",
            *(f"acc{v}[0] = load(packed, {self.waiting(v)})" for v in range(vectors)),
            *block(f"for n in range(at, at + cast(places[{self._length('row')}], i64)):", fold),
        ]

    def kept(self, vectors: int) -> list[str]:
        """Statements that store the sums of `row` again."""
        return [f"store(packed, {self.waiting(v)}, acc{v}[0])" for v in range(vectors)]

    def ahead(self, offset: Index, at_first: bool) -> Index:
        """An offset at the step that lies `row` behind the beginning of the next block, or of the first one."""
        along = self.ranges.coefficient(offset, "k")
        if along is None:
            raise Unvectorizable(str(offset))
        step = ix.var("row") if at_first else Index((("first", 1), ("row", 1)), self.run)
        return ix.add(Index(tuple(t for t in offset.terms if t[0] != "k"), offset.const), ix.scale(step, along))
