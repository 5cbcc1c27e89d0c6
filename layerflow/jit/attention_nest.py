"""What the nests of attention without stored scores share: blocks, copies, masks, products.

For each sample and head the rows are taken in blocks, and the keys in blocks for each block of rows.  Scores of a block
have keys along the vectors.  All products run between arrays of the thread's own memory, in whole tiles: what a tile
computes past the last row or key is never read.
"""

from __future__ import annotations

from collections.abc import Callable

from layerflow.errors import CompileError
from layerflow.graph.shapes import Dim, static
from layerflow.graph.symbolic import Op
from layerflow.jit import access
from layerflow.jit import index as ix
from layerflow.jit.attention import ARRAYS
from layerflow.jit.attention_blocks import PANEL, Sizes
from layerflow.jit.copies import turned
from layerflow.jit.loops import LoopNest
from layerflow.jit.products import Matrix, tile
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import UNROLL, panels
from layerflow.jit.values import SCRATCH, TYPES, Chunk

WORK = "work"


class AttentionNest(LoopNest):
    """What both passes share: blocks, copies into working memory, products, masks."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes)
        op = kernel.group.anchor
        self.op, self.attrs, self.dtype = op, op.attrs, TYPES[op.dtype.name]
        self.sizes = Sizes.of(op, lanes, registers)
        extra = op.inputs[ARRAYS[kernel.group.kind] :]
        self.mask = extra[0] if self.attrs["masked"] else None
        self.factor = extra[-1] if self.attrs["dropped"] else None
        s = self.sizes
        for name, bound in (("i0", None), ("t", s.rows), ("h", s.heads), ("g", s.shared), ("s", s.keys), ("j", s.keys)):
            self.ranges.declare(name, bound)
        self.count = lanes  # v0, v1, ... are the rows of a block that is turned
        self.places: dict[str, int] = {}
        self.size = 0

    def body(self) -> list[str]:
        lead = self.op.shape[0]
        self.kernel.units = 0 if isinstance(lead, Dim) else lead
        self.write(f"{WORK} = pointer(ctx, {SCRATCH}, {self.dtype})", 0)
        lines = self.outer((lead,), lambda: self.segment(f"for g in range({self.sizes.shared}):", ("g",), self._heads))
        self.kernel.scratch = (self.size * self.op.dtype.itemsize, 0)
        return lines

    def _heads(self) -> None:
        self.before_heads()
        each = self.sizes.heads // self.sizes.shared

        def head() -> None:
            self.write(f"h = g * {each} + part")
            self.segment(f"for t0 in range(0, {self.sizes.rows}, {self.sizes.block_rows}):", ("t0",), self._rows)

        self.segment(f"for part in range({each}):", ("part", "h"), head)
        self.after_heads()

    def _rows(self) -> None:
        self.write(f"rows = minimum({self.sizes.block_rows}, {self.sizes.rows} - t0)")
        self.rows()

    def before_heads(self) -> None:
        """Writes what comes once for key and value of a head."""
        raise NotImplementedError(f"{type(self).__name__} must define before_heads().")

    def rows(self) -> None:
        """Writes a block of rows."""
        raise NotImplementedError(f"{type(self).__name__} must define rows().")

    def after_heads(self) -> None:
        """Writes what comes when all heads of the query that a key serves are done."""

    # --- working memory --------------------------------------------------------

    def place(self, name: str, elements: int) -> int:
        """Where an array of working memory begins."""
        if name not in self.places:
            self.places[name] = self.size
            self.size += self.sizes.pitch(elements)
        return self.places[name]

    def each_row(self, count: str, inside: Callable[[], None]) -> None:
        """A loop over rows r of a block of the query, `t` in all."""

        def row() -> None:
            self.write("t = t0 + r")
            inside()

        self.segment(f"for r in range({count}):", ("r", "t"), row)

    def features(self, count: int, inside: Callable[[str], None]) -> None:
        """A loop over vectors of features from x on; `inside` gets the last argument of loads and stores."""
        n = self.lanes
        self.segment(f"for x in range(0, {count}, {n}):", ("x",), lambda: inside(f", {count} - x" if count % n else ""))

    def array(self, op: Op, *names: str) -> tuple[str, str]:
        """Address variable and offset of an operand's or result's element at these variables of its axes."""
        index = tuple(ix.ZERO if n == "0" else self.ranges.declare(n, e) for n, e in zip(names, op.shape, strict=True))
        last = op.shape[-1]
        while op not in self.plan.buffers:
            ((op, index),) = access.operands(op, index, self.ranges)
        offset = self.ranges.joined(self.plan.buffers[op].layout.offset(index))
        if names[-1] == "x" and self.ranges.coefficient(offset, "x") not in ((0, 1) if last == 1 else (1,)):
            raise CompileError(f"{op!r} of layer {op.layer!r} is no array of rows.")
        return self.pointer(self.plan.buffers[op]), str(offset)

    def copy_in(self, op: Op, names: tuple[str, str], row: str, to: int) -> None:
        """Writes the copy of one row (its step and head are named) of an operand to row `row` of working memory."""
        pointer, offset = self.array(op, "i0", *names, "x")
        width = static(op.shape[-1])
        pitch = self.sizes.pitch(width)
        self.features(
            width,
            lambda tail: self.write(f"store({WORK}, {to} + {row} * {pitch} + x, load({pointer}, {offset}{tail}))"),
        )

    def copy_out(self, op: Op, names: tuple[str, str], row: str, source: int, scale: str = "") -> None:
        """The reverse, of a result."""
        pointer, offset = self.array(op, "i0", *names, "x")
        width = static(op.shape[-1])
        pitch = self.sizes.pitch(width)
        text = f"load({WORK}, {source} + {row} * {pitch} + x){scale}"
        self.features(width, lambda tail: self.write(f"store({pointer}, {offset}, {text}{tail})"))

    def copy_turned(self, op: Op, to: int) -> None:
        """Writes the copy of all keys with features down the rows, in panels of PANEL vectors of keys."""
        n, width = self.lanes, static(op.shape[-1])
        pitch = self.sizes.pitch(width)
        pointer, offset = self.array(op, "i0", "s", "g", "x")

        def block(tail: str) -> None:
            for k in range(n):
                self.write(f"s = minimum(j + {k}, {self.sizes.keys - 1})")
                self.write(f"v{k} = load({pointer}, {offset}{tail})")
            for line in turned(n):
                self.write(line)
            self.write(f"at = {to} + j // {PANEL * n} * {PANEL * n * pitch} + j % {PANEL * n} + x * {PANEL * n}")
            for k in range(n):
                self.write(f"store({WORK}, at + {k * PANEL * n}, v{k})")

        self.segment(f"for j in range(0, {self.sizes.keys}, {n}):", ("j", "s"), lambda: self.features(width, block))

    def clear(self, place: int, elements: str) -> None:
        self.write(f"for e in range(0, {elements}, {self.lanes}):")
        self.write(f"    store({WORK}, {place} + e, zeros({self.dtype}))")

    # --- blocks of scores --------------------------------------------------------

    def blocks(self, sees_nothing: Callable[[], None], inside: Callable[[], None]) -> None:
        """A loop over blocks of keys, from `first` to `last`.

        A causal mask leaves out what lies behind the block's last row.  A row that sees no key at all counts all of
        them, those behind it too: where another mask can hide keys, blocks may come in a second turn.

        Args:
            sees_nothing: writes `lost`, whether any row of the block sees no key.
            inside: writes the work on a block.
        """
        s = self.sizes

        def block() -> None:
            end = "end" if self.attrs["causal"] and self.mask is None else s.keys
            self.write(f"last = minimum(first + {s.block_keys}, {end})")
            self.write("keys = last - first")
            inside()

        header = f"for first in range({{}}, {{}}, {s.block_keys}):"
        if not self.attrs["causal"]:
            self.segment(header.format(0, s.keys), ("first",), block)
            return
        self.write(f"end = minimum(t0 + rows, {s.keys})")
        if self.mask is None:
            self.segment(header.format(0, "end"), ("first",), block)
            return

        def turn() -> None:
            self.write("start = i64(0)")
            self.write("stop = end")

            def second() -> None:
                sees_nothing()
                self.write(f"start = (end + {s.block_keys - 1}) // {s.block_keys} * {s.block_keys}")
                self.write(f"stop = where(lost, i64({s.keys}), i64(0))")

            self.segment("if turn > 0:", (), second)
            self.segment(header.format("start", "stop"), ("first",), block)

        self.segment("for turn in range(2):", ("turn",), turn)

    def each_chunk(self, inside: Callable[[str], None]) -> None:
        """A loop over the vectors of keys of one row; `inside` gets the position in a block of scores."""
        s = self.sizes
        self.chunk = Chunk("j", f"{s.keys} - j" if s.keys % self.lanes else None)
        self.segment(
            f"for j in range(first, last, {self.lanes}):",
            ("j",),
            lambda: inside(f"r * {s.block_keys} + j - first"),
        )
        self.chunk = None

    def at_score(self, op: Op) -> str:
        """The vector of a mask or of factors at the chunk's keys."""
        place = [ix.var(name) for name in ("i0", "h", "t", "j")]
        found = self.value(op, access.aligned(place, op.shape))
        return found.name if found.vector else f"splat({found.name})"

    def seen(self) -> str:
        """The truth values of the chunk's keys; nothing if all are visible."""
        parts = [] if self.mask is None else [self.at_score(self.mask)]
        if self.attrs["causal"]:
            parts.append("(iota(i32) <= cast(t - j, i32))")
        if not parts:
            return ""
        self.write(f"seen = {' & '.join(parts)}")
        return "seen"

    def present(self) -> str:
        """The truth values of the chunk's lanes that are keys; nothing if all are."""
        return f"iota(i32) < cast({self.sizes.keys} - j, i32)" if self.sizes.keys % self.lanes else ""

    # --- products ----------------------------------------------------------------

    def product(self, rows: str, columns: int, depth: int | str, left: Matrix, right: Matrix, out: Matrix) -> None:
        """out += left @ right; of `left` the step of rows and the folded axis count, `columns` are whole vectors."""
        for panel in panels(columns, self.lanes):
            start = str(panel.start)

            def one(start: str = start, vectors: int = panel.vectors) -> None:
                self._tiles(rows, vectors, depth, left, _moved(right, start), _moved(out, start), True)

            if panel.loop:
                self.segment(f"for c in range(0, {panel.loop[0]}, {panel.loop[1]}):", ("c",), one)
            else:
                one()

    def scores(self, depth: int, left: int, right: int, out: int) -> None:
        """A block of products of rows with keys that `copy_turned` has turned."""
        wide, pitch = PANEL * self.lanes, self.sizes.pitch(depth)

        def panel() -> None:
            self._tiles(
                "rows",
                PANEL,
                depth,
                Matrix(WORK, str(left), pitch, 1),
                Matrix(WORK, f"{right} + (first + c) * {pitch}", 0, wide),
                Matrix(WORK, f"{out} + c", self.sizes.block_keys),
                False,
            )

        self.segment(f"for c in range(0, keys, {wide}):", ("c",), panel)

    def _tiles(
        self, rows: str, vectors: int, depth: int | str, left: Matrix, right: Matrix, out: Matrix, adds: bool
    ) -> None:
        step = self.sizes.tile_rows(vectors)
        unroll = UNROLL
        if isinstance(depth, int):
            unroll = next(u for u in (UNROLL, 3, 2, 1) if depth % u == 0)

        def one() -> None:
            a, c = _moved(left, f"m0 * {left.row}"), _moved(out, f"m0 * {out.row}")
            tile(self, self.dtype, (step, vectors), (depth, unroll), a, right, c, adds, whole=self.sizes.is_even)

        self.segment(f"for m0 in range(0, {rows}, {step}):", ("m0",), one)


def _moved(matrix: Matrix, by: str) -> Matrix:
    return matrix if by == "0" else Matrix(matrix.pointer, f"{matrix.base} + {by}", matrix.row, matrix.step)
