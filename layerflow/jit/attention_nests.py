"""Nests of attention without stored scores (the formulas: graph/ops/attention.py).

For each sample and head the rows are taken in blocks, and the keys in blocks for each block of rows.  Scores of a block
have keys along the vectors.  All products run between arrays of the thread's own memory, in whole tiles: what a tile
computes past the last row or key is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layerflow.errors import CompileError
from layerflow.graph.ops.attention import HIDDEN
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
        pitch = self.sizes.pitch(op.shape[-1])
        self.features(
            op.shape[-1],
            lambda tail: self.write(f"store({WORK}, {to} + {row} * {pitch} + x, load({pointer}, {offset}{tail}))"),
        )

    def copy_out(self, op: Op, names: tuple[str, str], row: str, source: int, scale: str = "") -> None:
        """The reverse, of a result."""
        pointer, offset = self.array(op, "i0", *names, "x")
        pitch = self.sizes.pitch(op.shape[-1])
        text = f"load({WORK}, {source} + {row} * {pitch} + x){scale}"
        self.features(op.shape[-1], lambda tail: self.write(f"store({pointer}, {offset}, {text}{tail})"))

    def copy_turned(self, op: Op, to: int) -> None:
        """Writes the copy of all keys with features down the rows, in panels of PANEL vectors of keys."""
        n, pitch = self.lanes, self.sizes.pitch(op.shape[-1])
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

        self.segment(
            f"for j in range(0, {self.sizes.keys}, {n}):", ("j", "s"), lambda: self.features(op.shape[-1], block)
        )

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


class ForwardNest(AttentionNest):
    """attend, attend_sums or both."""

    def before_heads(self) -> None:
        s = self.sizes
        _, k, v = self.op.inputs[:3]
        self.keys = self.place("keys", s.all_keys * s.pitch(s.depth))
        self.values = self.place("values", s.all_keys * s.pitch(s.width))
        self.copy_turned(k, self.keys)
        self.segment(
            f"for s in range({s.keys}):", ("s",), lambda: self.copy_in(v, ("s", "g"), "s", self.values)
        )

    def rows(self) -> None:
        s = self.sizes
        self.query = self.place("query", s.block_rows * s.pitch(s.depth))
        self.block = self.place("scores", s.block_rows * s.block_keys)
        self.out = self.place("out", s.block_rows * s.pitch(s.width))
        self.tops, self.totals = (self.place(name, s.block_rows) for name in ("tops", "totals"))
        self.each_row("rows", self._start)
        self.blocks(self._lost, self._block)
        self.each_row("rows", self._finish)

    def _start(self) -> None:
        self.copy_in(self.op.inputs[0], ("t", "h"), "r", self.query)
        pitch = self.sizes.pitch(self.sizes.width)
        self.features(pitch, lambda _: self.write(f"store({WORK}, {self.out} + r * {pitch} + x, zeros({self.dtype}))"))
        self.write(f"{WORK}[{self.tops} + r] = {self.dtype}(-inf)")
        self.write(f"{WORK}[{self.totals} + r] = {self.dtype}(0)")

    def _lost(self) -> None:
        self.write(f"least = {WORK}[{self.tops}]")
        self.write("for r in range(rows):")
        self.write(f"    least = minimum(least, {WORK}[{self.tops} + r])")
        self.write(f"lost = least <= {self.dtype}({HIDDEN})")

    def _block(self) -> None:
        s = self.sizes
        self.scores(s.depth, self.query, self.keys, self.block)
        self.each_row("rows", self._softmax)
        pitch = s.pitch(s.width)
        self.product(
            "rows", pitch, "keys",
            Matrix(WORK, str(self.block), s.block_keys, 1),
            Matrix(WORK, f"{self.values} + first * {pitch}", 0, pitch),
            Matrix(WORK, str(self.out), pitch),
        )  # fmt: skip

    def _softmax(self) -> None:
        """Scores of a row become exp(score - largest so far); sum and outputs so far are scaled to that."""
        kind = self.dtype
        self.write(f"old = {WORK}[{self.tops} + r]")
        self.write("top = splat(old)")
        self.each_chunk(self._largest)
        self.write("new = reduce_max(top)")
        self.write(f"{WORK}[{self.tops} + r] = new")
        self.write("scale_ = exp(old - new)")
        self.write(f"total = zeros({kind})")
        self.each_chunk(self._power)
        self.write(f"{WORK}[{self.totals} + r] = {WORK}[{self.totals} + r] * scale_ + reduce_add(total)")
        pitch = self.sizes.pitch(self.sizes.width)
        where = f"{self.out} + r * {pitch} + x"
        self.features(pitch, lambda _: self.write(f"store({WORK}, {where}, load({WORK}, {where}) * splat(scale_))"))

    def _largest(self, at: str) -> None:
        self.write(f"e = load({WORK}, {self.block} + {at})")
        seen, present = self.seen(), self.present()
        if seen:
            self.write(f"e = where({seen}, e, {self.dtype}({HIDDEN}))")
        if present:
            self.write(f"e = where({present}, e, {self.dtype}(-inf))")
        if seen or present:
            self.write(f"store({WORK}, {self.block} + {at}, e)")
        self.write("top = where(e > top, e, top)")

    def _power(self, at: str) -> None:
        self.write(f"e = exp(load({WORK}, {self.block} + {at}) - splat(new))")
        self.write("total = total + e")
        factor = f" * {self.at_score(self.factor)}" if self.factor is not None else ""
        self.write(f"store({WORK}, {self.block} + {at}, e{factor})")

    def _finish(self) -> None:
        self.write(f"inverse = {self.dtype}(1) / {WORK}[{self.totals} + r]")
        for op in self.group.stored:
            if op.name == "attend":
                self.copy_out(op, ("t", "h"), "r", self.out, " * splat(inverse)")
                continue
            pointer, at = self.array(op, "i0", "t", "h", "0")
            self.write(f"{pointer}[{at}] = {WORK}[{self.tops} + r]")
            self.write(f"{pointer}[{at} + 1] = {WORK}[{self.totals} + r]")


class BackwardNest(AttentionNest):
    """attend_query, attend_key and attend_value, or some of them."""

    def before_heads(self) -> None:
        s = self.sizes
        _, k, v = self.op.inputs[:3]
        self.wanted = {op.name: op for op in self.group.members}
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.turned_keys = self.place("turned keys", s.all_keys * deep)
        self.turned_values = self.place("turned values", s.all_keys * wide)
        self.keys, self.to_keys = (self.place(name, s.all_keys * deep) for name in ("keys", "to keys"))
        self.to_values = self.place("to values", s.all_keys * wide)
        self.copy_turned(k, self.turned_keys)
        self.copy_turned(v, self.turned_values)
        self.segment(f"for s in range({s.keys}):", ("s",), lambda: self.copy_in(k, ("s", "g"), "s", self.keys))
        for name, place in (("attend_key", self.to_keys), ("attend_value", self.to_values)):
            if name in self.wanted:
                self.clear(place, str(s.all_keys * s.pitch(static(self.wanted[name].shape[-1]))))

    def after_heads(self) -> None:
        for name, place in (("attend_key", self.to_keys), ("attend_value", self.to_values)):
            if name in self.wanted:
                op = self.wanted[name]
                self.segment(
                    f"for s in range({self.sizes.keys}):",
                    ("s",),
                    lambda op=op, place=place: self.copy_out(op, ("s", "g"), "s", place),
                )

    def rows(self) -> None:
        s = self.sizes
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.query, self.to_query = (self.place(name, s.block_rows * deep) for name in ("query", "to query"))
        self.arriving = self.place("arriving", s.block_rows * wide)
        self.block, self.slopes = (self.place(name, s.block_rows * s.block_keys) for name in ("scores", "slopes"))
        self.clear(self.to_query, str(s.block_rows * deep))

        def start() -> None:
            self.copy_in(self.op.inputs[0], ("t", "h"), "r", self.query)
            self.copy_in(self.op.inputs[5], ("t", "h"), "r", self.arriving)

        self.each_row("rows", start)
        self.blocks(self._lost, self._block)
        to_query = self.wanted.get("attend_query")
        if to_query is not None:
            self.each_row("rows", lambda: self.copy_out(to_query, ("t", "h"), "r", self.to_query))

    def _top(self) -> str:
        pointer, at = self.array(self.op.inputs[3], "i0", "t", "h", "0")
        return f"{pointer}[{at}]"

    def _lost(self) -> None:
        self.write("t = t0")
        self.write(f"least = {self._top()}")
        self.write("for r in range(rows):")
        self.write("    t = t0 + r")
        self.write(f"    least = minimum(least, {self._top()})")
        self.write(f"lost = least <= {self.dtype}({HIDDEN})")

    def _block(self) -> None:
        s = self.sizes
        deep, wide = s.pitch(s.depth), s.pitch(s.width)
        self.scores(s.depth, self.query, self.turned_keys, self.block)
        self.scores(s.width, self.arriving, self.turned_values, self.slopes)
        self.each_row("rows", self._slopes)
        if "attend_value" in self.wanted:
            self.product(
                "keys", wide, "rows",
                Matrix(WORK, str(self.block), 1, s.block_keys),
                Matrix(WORK, str(self.arriving), 0, wide),
                Matrix(WORK, f"{self.to_values} + first * {wide}", wide),
            )  # fmt: skip
        if "attend_key" in self.wanted:
            self.product(
                "keys", deep, "rows",
                Matrix(WORK, str(self.slopes), 1, s.block_keys),
                Matrix(WORK, str(self.query), 0, deep),
                Matrix(WORK, f"{self.to_keys} + first * {deep}", deep),
            )  # fmt: skip
        if "attend_query" in self.wanted:
            self.product(
                "rows", deep, "keys",
                Matrix(WORK, str(self.slopes), s.block_keys, 1),
                Matrix(WORK, f"{self.keys} + first * {deep}", 0, deep),
                Matrix(WORK, str(self.to_query), deep),
            )  # fmt: skip

    def _slopes(self) -> None:
        """A row of scores becomes the softmax after dropout, the products beside it the gradient of the scores."""
        pointer, at = self.array(self.op.inputs[3], "i0", "t", "h", "0")
        self.write(f"top = splat({pointer}[{at}])")
        self.write(f"inverse = splat({self.dtype}(1) / {pointer}[{at} + 1])")
        pointer, at = self.array(self.op.inputs[4], "i0", "t", "h")
        self.write(f"delta = splat({pointer}[{at}])")
        self.each_chunk(self._slope)

    def _slope(self, at: str) -> None:
        seen, present = self.seen(), self.present()
        self.write(f"e = load({WORK}, {self.block} + {at})")
        if seen:
            self.write(f"e = where({seen}, e, {self.dtype}({HIDDEN}))")
        self.write("e = exp(e - top) * inverse")
        if present:
            self.write(f"e = where({present}, e, {self.dtype}(0))")
        self.write(f"d = load({WORK}, {self.slopes} + {at})")
        factor = self.at_score(self.factor) if self.factor is not None else ""
        if factor:
            self.write(f"d = d * {factor}")
        self.write(f"store({WORK}, {self.block} + {at}, e{f' * {factor}' if factor else ''})")
        self.write("d = e * (d - delta)")
        kept: Sequence[str] = [c for c in (seen, present) if c]
        if kept:
            self.write(f"d = where({' & '.join(f'({c})' for c in kept)}, d, {self.dtype}(0))")
        self.write(f"store({WORK}, {self.slopes} + {at}, d)")


NESTS: dict[str, type[AttentionNest]] = {"attend": ForwardNest, "attend_gradient": BackwardNest}
