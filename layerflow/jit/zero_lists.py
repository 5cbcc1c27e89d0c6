"""Lists of what is not zero in an operand of a product, and sums over them.

The folded steps are cut into blocks.  Of each block and row of the listed operand there is a list: the numbers that are
not zero, and where the rows of the other operand lie that they multiply.  That operand's block is copied to where the
first-level cache holds it; then each row adds what its list names to its sums, which wait in the second-level cache for
the next block.  A sum is made in the same order as in tiles, to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerflow.graph.shapes import Dim, code, static
from layerflow.jit.copies import turned
from layerflow.jit.gemm import GemmNest
from layerflow.jit.index import Index
from layerflow.jit.loops import block
from layerflow.jit.prefetching import LARGE, PrefetchingNest
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import DENSE, SCRATCH, Unvectorizable

Operand = tuple[str, Index]  # address variable, offset

VECTORS = 8  # of sums in registers: fewer would be added to more often than a register takes it
BLOCK_BYTES = 24 << 10  # of the operand that is copied: three quarters of a small first-level cache
MOST_ROWS = 288  # listed at a time: their sums fit the second-level cache
SAMPLES = 16  # rows, or steps, whose zeros are counted


def function(name: str, lines: Sequence[str]) -> str:
    """The text of a function for the range lo to hi."""
    return "\n".join(block(f"def {name}(ctx, lo, hi):", list(lines))) + "\n"


class ZeroListsNest(PrefetchingNest):
    """What both forms of the product share: with zeros on the left, and on the right.

    In its code `row` is a row of the listed operand counted from `begin`, the first one in the lists; `end` is the one
    behind the last, `first` the step at which a block begins and `lists` the place where its lists do.
    """

    zeros: Operand  # what is listed
    other: Operand
    row_name: str  # the variable of the listed operand's rows

    def __init__(self, plan: Schedule, kernel: Kernel, tiles: GemmNest, name: str, share: tuple[int, int]):
        """
        Args:
            tiles: the nest that makes the product without lists.
            name: of the function that the others belong to.
            share: numbers that may not be zero, of how many.
        """
        super().__init__(plan, kernel, tiles.lanes, tiles.registers)
        self.tiles, self.called, self.share = tiles, name, share
        self.steps = code(self.depth)
        self.width = VECTORS * self.lanes
        self.run = BLOCK_BYTES // (self.width * self.product.dtype.itemsize) // self.lanes * self.lanes
        # Elements of working memory: the block, waiting sums, and lists, whose lengths stand behind those of a block.
        self.most = MOST_ROWS // self.lanes * self.lanes
        self.sums_at = self.run * self.width
        self.lists_at = self.sums_at + self.most * self.width
        self.list = 2 * self.run
        self._reserve_lists()

    def _reserve_lists(self) -> None:
        lists, size = self.most * (self.list + 1), self.product.dtype.itemsize
        fixed, sampled = self.kernel.scratch
        blocks = -(-self.depth // self.run) if isinstance(self.depth, int) else 1
        if isinstance(self.depth, Dim):
            sampled = max(static(sampled), -(-lists // self.run) * static(self.depth.factor) * size)
        self.kernel.scratch = (max(fixed, (self.lists_at + blocks * lists) * size), sampled)

    def functions(self) -> list[str]:
        """`_sample`, which tells whether there are few zeros, `_list` and `_zeros`, each for a range of rows."""
        zeros = self.source().replace(f"def {self.kernel.name}(", f"def {self.called}_zeros(", 1)
        texts = (("sample", self._sample()), ("list", self._list()))
        head = [f"lanes({self.lanes})", f"{self.zeros[0]} = pointer(ctx, {self.zeros[0][1:]}, {self.dtype})"]
        return [*(function(f"{self.called}_{name}", [*head, *lines]) for name, lines in texts), zeros]

    def choice(self, otherwise: str) -> str:
        """The function that makes the range lo to hi by lists or calls another one for it."""
        raise NotImplementedError(f"{type(self).__name__} must define choice().")

    def chosen(self, enough: str, listed: str, zeros: Sequence[str], otherwise: str) -> str:
        """The text of that function.

        Args:
            enough: condition that the range is large enough for lists to pay.
            listed: first row of the listed operand, and the one behind its last.
            zeros: statements that make the product by lists.
            otherwise: name of the other function.
        """
        lines = [
            "lanes(1)",
            f"set_integer(ctx, {DENSE}, 1)",
            *block(f"if {enough}:", [f"{self.called}_sample(ctx, {listed})"]),
            *block(f"if integer(ctx, {DENSE}) == 0:", list(zeros)),
            *block("else:", [f"{otherwise}(ctx, lo, hi)"]),
        ]
        return function(self.called, lines)

    def at(self, operand: Operand, **values: str) -> str:
        """Address variable and offset of an operand, with texts in place of variables."""
        pointer, offset = operand
        parts = []
        for name, text in values.items():
            along = self.ranges.coefficient(offset, name)
            if along is None:
                raise Unvectorizable(str(offset))
            parts.append(f"{text} * {code(along)}")
        rest = Index(tuple(t for t in offset.terms if t[0] not in values), offset.const)
        return f"{pointer}, {' + '.join([*parts, str(rest)])}"

    def _listed_at(self, row: str, step: str) -> str:
        return self.at(self.zeros, **{self.row_name: row, "k": step})

    def _along_steps(self) -> bool:
        """Whether the listed rows lie without gaps, or else their steps."""
        along = self.ranges.coefficient(self.zeros[1], "k") == 1
        if not along and self.ranges.coefficient(self.zeros[1], self.row_name) != 1:
            raise Unvectorizable(str(self.zeros[1]))
        return along

    # --- lists ---------------------------------------------------------------

    def _sample(self) -> list[str]:
        """Statements that count what is not zero at some rows or steps."""
        if self._along_steps():
            one, span, seen = (
                f"at = lo + (hi - lo) * s // {SAMPLES}",
                f"range(0, {self.steps}, {self.lanes})",
                self.steps,
            )
            vector = f"load({self._listed_at('at', 'n')}, {self.steps} - n)"
        else:
            one, span, seen = f"at = {self.steps} * s // {SAMPLES}", f"range(lo, hi, {self.lanes})", "(hi - lo)"
            vector = f"load({self._listed_at('n', 'at')}, hi - n)"
        count = block(f"for n in {span}:", [f"found = found + count_set({vector} != 0)"])
        few = f"found * {self.share[1]} > {seen} * {SAMPLES * self.share[0]}"
        return [
            "found = 0",
            *block(f"for s in range({SAMPLES}):", [one, *count]),
            f"set_integer(ctx, {DENSE}, 0)",
            *block(f"if {few}:", [f"set_integer(ctx, {DENSE}, 1)"]),
        ]

    def _list(self) -> list[str]:
        """Statements that list all blocks of the rows."""
        inside = self._row_by_row() if self._along_steps() else self._turned_rows()
        return [
            f"packed = pointer(ctx, {SCRATCH}, {self.dtype})",
            f"places = pointer(ctx, {SCRATCH}, u32)",
            *self.listed("lo", "hi"),
            *block(
                f"for first in range(0, {self.steps}, {self.run}):",
                [f"stop = minimum(first + {self.run}, {self.steps})", *self.lists_of_block(), *inside],
            ),
        ]

    def listed(self, begin: str, end: str) -> list[str]:
        """Statements that say which rows are in the lists."""
        return [
            f"begin = {begin}",
            f"end = {end}",
            f"pitch = (end - begin + {self.lanes - 1}) // {self.lanes} * {self.lanes}",
        ]

    def lists_of_block(self) -> list[str]:
        return [f"lists = {self.lists_at} + first // {self.run} * pitch * {self.list + 1}"]

    def _length(self, row: str) -> str:
        return f"lists + pitch * {self.list} + {row}"

    def _row_by_row(self) -> list[str]:
        tail = f", {self.steps} - k" if not isinstance(self.depth, int) or self.depth % self.lanes else ""
        steps = [f"t = load({self._listed_at('(begin + row)', 'k')}{tail})", *self._appended("t")]
        return block(
            "for row in range(end - begin):",
            [
                f"at = lists + row * {self.list}",
                "length = 0",
                *block(f"for k in range(first, stop, {self.lanes}):", steps),
                f"places[{self._length('row')}] = cast(length, u32)",
            ],
        )

    def _turned_rows(self) -> list[str]:
        """Rows that lie along the lanes: square blocks are turned in registers."""
        lanes = range(self.lanes)
        vectors = [self._listed_at("(begin + row)", f"(k + {u})") for u in lanes]
        inside = f"(k + {self.lanes} <= stop) & (begin + row + {self.lanes} <= end)"
        append = [
            f"at = lists + (row + u) * {self.list}",
            f"length = cast(places[{self._length('row + u')}], i64)",
            *self._appended(f"load(packed, u * {self.lanes})"),
            f"places[{self._length('row + u')}] = cast(length, u32)",
        ]
        steps = [
            *block(f"if {inside}:", [f"t{u} = load({vectors[u]})" for u in lanes]),
            *block("else:", [f"t{u} = load({vectors[u]}, where(k + {u} < stop, end - begin - row, 0))" for u in lanes]),
            *turned(self.lanes, "t"),
            *(f"store(packed, {u * self.lanes}, t{u})" for u in lanes),
            *block(f"for u in range({self.lanes}):", append),
        ]
        rows = [f"store(places, {self._length('row')}, zeros(u32))"]
        rows += block(f"for k in range(first, stop, {self.lanes}):", steps)
        return block(f"for row in range(0, end - begin, {self.lanes}):", rows)

    def _appended(self, vector: str) -> list[str]:
        """Statements that put what is not zero of steps k, k + 1, ... behind the list at `at`."""
        where = f"splat(cast((k - first) * {self.width}, u32)) + iota(u32) * u32({self.width})"
        return [
            f"numbers = {vector}",
            "keep = numbers != 0",
            "store(packed, at + length, compress(numbers, keep))",
            f"store(places, at + length + {self.run}, compress({where}, keep))",
            "length = length + count_set(keep)",
        ]

    # --- sums ----------------------------------------------------------------

    def memory(self) -> None:
        """Writes what the sums' code finds in its head."""
        self._scratch("packed")
        self.write(f"places = pointer(ctx, {SCRATCH}, u32)", 0)

    def waiting(self, v: int) -> str:
        """Where vector `v` of the sums of `row` waits for the next block."""
        return f"{self.sums_at} + row * {self.width} + {v * self.lanes}"

    def blocks(self, inside: Sequence[str]) -> list[str]:
        return block(f"for first in range(0, {self.steps}, {self.run}):", [*self.lists_of_block(), *inside])

    def copied(self, vectors: Sequence[str]) -> list[str]:
        """Statements that copy a block of the other operand; `vectors` are those at step first + k."""
        stores = [f"store(packed, k * {self.width} + {v * self.lanes}, {text})" for v, text in enumerate(vectors)]
        return block(f"for k in range(minimum({self.run}, {self.steps} - first)):", stores)

    def asked(self, places: Sequence[str]) -> list[str]:
        """Statements at a row that ask for a row of a block to come, which lies at these places."""
        side = self.product.inputs[self.zeros == self.left]
        asks = [f"prefetch({place}, 2)" for place in places]
        return block(f"if row < {self.run}:", asks) if asks and self._bytes(side) >= LARGE else []

    def each_row(self, lines: Sequence[str]) -> list[str]:
        return block("for row in range(end - begin):", list(lines))

    def added(self, vectors: int) -> list[str]:
        """Statements that load the sums of `row` and add what its list names."""
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

    def add_lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)
