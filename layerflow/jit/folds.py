"""Loop nests of row folds and column folds, and the nest for each kind of kernel, as kernel-language source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from layerflow.graph.shapes import Extent, static
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import stages
from layerflow.jit.contraction import fold_index
from layerflow.jit.loops import INDENT, LoopNest, MapNest, block, units_of
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import SHARD, Chunk, Level, Unvectorizable, Value, type_name

UNROLLED_CHUNKS = 4  # rows of at most this many vectors are kept in registers from one fold to the next
ROWS_TOGETHER = 4  # rows of one vector that are computed side by side: more would fill the registers
SUMS_AT_ONCE = 8  # accumulators of a pass over the rows
COMBINE = {"add": "{0} + {1}", "multiply": "{0} * {1}", "maximum": "maximum({0}, {1})", "minimum": "minimum({0}, {1})"}
ACROSS = {"add": "reduce_add", "multiply": "reduce_mul", "maximum": "reduce_max", "minimum": "reduce_min"}


def identity_text(op: Op) -> str:
    """The neutral element of a fold as a typed literal."""
    kind, value = type_name(op.dtype), op.primitive.identity
    if op.dtype.kind != "f" and not np.isfinite(value):
        info = np.iinfo(op.dtype)
        value = info.min if value < 0 else info.max
        return f"{kind}({value})"
    if not np.isfinite(value):
        return f"{kind}({'inf' if value > 0 else '-inf'})"
    return f"{kind}({float(value) if op.dtype.kind == 'f' else int(value)})"


class RowNest(LoopNest):
    """Folds of the last axis and everything computed beside them, row by row."""

    def body(self) -> list[str]:
        rows = self.group.domain
        self.stages = self._stages()
        if not rows:
            self.kernel.units = 1
            self.levels.append(Level(("row",)))
            self._row()
            return ["if hi > lo:", *(INDENT + line for line in self.levels.pop().lines)]
        self.kernel.units = units_of(rows)
        return self.outer(rows, self._row)

    def innermost(self, name: str, span: str, lines: list[str]) -> list[str]:
        """Short rows: some at a time, in stages, then those that are left."""
        extent = self.group.inner
        together = ROWS_TOGETHER // -(-extent // self.lanes) if isinstance(extent, int) else 0
        cut = stages.cut(lines) if self._in_registers(extent) and together > 1 else [lines]
        if len(cut) == 1:
            return super().innermost(name, span, lines)
        first, last = span.rsplit(", ", 1) if ", " in span else ("0", span)
        count = f"({last} - {first}) // {together}"
        at = f"{name} = {first} + t * {together} + m"
        several = [line for part in cut for line in block(f"for m in static({together}):", [at, *part])]
        rest = f"range({first} + {count} * {together}, {last})"
        return [*block(f"for t in range({count}):", several), *block(f"for {name} in {rest}:", lines)]

    def _in_registers(self, extent: Extent | None) -> bool:
        return not self.scalar and isinstance(extent, int) and extent <= UNROLLED_CHUNKS * self.lanes

    def _stages(self) -> dict[Op, int]:
        """For each fold the number of folds of this kernel that must be finished before it."""
        stage: dict[Op, int] = {}

        def depth(op: Op, seen: dict[Op, int]) -> int:
            if op in seen:
                return seen[op]
            own = max((depth(i, seen) for i in op.inputs if i in self.members or i not in self.plan.buffers), default=0)
            if op in self.members and op.primitive.kind is Kind.REDUCE:
                stage[op] = own
                own += 1
            seen[op] = own
            return own

        memo: dict[Op, int] = {}
        for op in self.group.members:
            depth(op, memo)
        return stage

    def _row(self) -> None:
        extent = self.group.inner
        assert extent is not None
        unrolled = self._in_registers(extent)
        for stage in sorted(set(self.stages.values())):
            folds = [op for op, s in self.stages.items() if s == stage]
            if unrolled:
                self._fold_unrolled(folds, static(extent))
            else:
                self._fold_looped(folds, extent)
        self._finish(extent, unrolled)

    def _parts(self, extent: int) -> list[Chunk]:
        n = self.lanes
        return [Chunk(at, None if at + n <= extent else extent - at) for at in range(0, extent, n)]

    def _fold_unrolled(self, folds: list[Op], extent: int) -> None:
        for op in folds:
            total = ""
            for chunk in self._parts(extent):
                self.chunk = chunk
                value = self._lanes_of(op)
                total = value if not total else COMBINE[op.primitive.combine].format(total, value)
                total = self.assign(total, len(self.levels) - 1, True).name
            self.chunk = None
            self._bind_fold(op, f"{ACROSS[op.primitive.combine]}({total})")

    def _lanes_of(self, op: Op) -> str:
        """One vector of the folded operand; lanes past the end hold the neutral element."""
        value = self.value(op.inputs[0], self.variables)
        text = value.name if value.vector else f"splat({value.name})"
        assert self.chunk is not None
        if self.chunk.count is None:
            return text
        return f"where(iota(i32) < i32({self.chunk.count}), {text}, {identity_text(op)})"

    def _fold_looped(self, folds: list[Op], extent: Extent) -> None:
        totals = {}
        for op in folds:
            start = identity_text(op)
            name = self.name("total")
            self.write(f"{name} = {start}" if self.scalar else f"{name} = splat({start})")
            totals[op] = name

        def step() -> None:
            for op in folds:
                if self.scalar:
                    text = self.value(op.inputs[0], self.variables).name
                elif self.chunk is not None and isinstance(self.chunk.count, str):
                    value = self.value(op.inputs[0], self.variables)
                    text = value.name if value.vector else f"splat({value.name})"
                    text = f"where(iota(i64) < {self.chunk.count}, {text}, {identity_text(op)})"
                else:
                    text = self._lanes_of(op)
                self.write(f"{totals[op]} = {COMBINE[op.primitive.combine].format(totals[op], text)}")

        self.chunks(extent, step)
        for op in folds:
            self._bind_fold(op, totals[op] if self.scalar else f"{ACROSS[op.primitive.combine]}({totals[op]})")

    def _bind_fold(self, op: Op, text: str) -> None:
        value = self.assign(text, len(self.levels) - 1, False)
        self.bind(op, self.variables[:-1], value)

    def _finish(self, extent: Extent, unrolled: bool) -> None:
        """Stores of the row's scalars and elements."""
        rows, inner = [], []
        for op in self.group.stored:
            (inner if op.shape == (*self.group.domain, extent) and op not in self.stages else rows).append(op)
        for op in rows:
            index = self.variables[:-1]
            self.store(op, index, self.value(op, index))

        def elements() -> None:
            for op in inner:
                self.store(op, self.variables, self.value(op, self.variables))

        if inner and unrolled:
            for chunk in self._parts(static(extent)):
                self.chunk = chunk
                elements()
            self.chunk = None
        elif inner:
            self.chunks(extent, elements)


class ColumnNest(LoopNest):
    """Folds of an axis that is not the last: vectors of columns, a loop down the folded axis."""

    def body(self) -> list[str]:
        domain = self.group.domain
        axis = self.group.anchor.attrs["axes"][0]
        self.axis, self.folded = axis, self.group.anchor.inputs[0].shape[axis]
        if len(domain) == 1:
            return self._columns_parallel(domain[0])
        self.kernel.units = units_of(domain)
        return self.outer(domain[:-1], lambda: self.chunks(domain[-1], self._column))

    def _columns_parallel(self, columns: Extent) -> list[str]:
        extent = static(columns)
        self.levels.append(Level(("j",)))
        if self.scalar:
            self.kernel.units = extent
            self._column()
            lines = self.levels.pop().lines
            return ["for j in range(lo, hi):", *(INDENT + line for line in lines)]
        self.kernel.units = -(-extent // self.lanes)
        self.chunk = Chunk("j", f"{extent} - j" if extent % self.lanes else None)
        self._column()
        lines = self.levels.pop().lines
        return ["for c in range(lo, hi):", *(INDENT + line for line in [f"j = c * {self.lanes}", *lines])]

    def _column(self) -> None:
        folds = [op for op in self.group.members if op.primitive.kind is Kind.REDUCE]
        totals = {op: self.name("total") for op in folds}
        for op in folds:
            self.write(
                f"{totals[op]} = {identity_text(op)}"
                if self.chunk is None
                else f"{totals[op]} = splat({identity_text(op)})"
            )
        index = (*self.variables[: self.axis], self.ranges.declare("r", self.folded), *self.variables[self.axis :])

        def step() -> None:
            for op in folds:
                value = self.value(op.inputs[0], index)
                text = value.name if value.vector or self.chunk is None else f"splat({value.name})"
                self.write(f"{totals[op]} = {COMBINE[op.primitive.combine].format(totals[op], text)}")

        self.segment(f"for r in range({self.extent(self.folded)}):", ("r",), step)
        here = len(self.levels) - 1
        for op in folds:
            self.bind(op, self.variables, Value(totals[op], here, self.chunk is not None))
        for op in self.group.stored:
            self.store(op, self.variables, self.value(op, self.variables))


class ShardNest(LoopNest):
    """Sums of columns over the rows of a range of samples, added to their part of the batch."""

    def body(self) -> list[str]:
        folds = self.group.members
        self.levels.append(Level())
        self.write(f"i0 = integer(ctx, {SHARD})")
        columns = static(folds[0].shape[-1])
        if self.scalar:
            self.segment(f"for j in range({columns}):", ("j",), lambda: self._sums(folds, [None]))
            return self.levels.pop().lines
        n = self.lanes
        width = max(1, SUMS_AT_ONCE // len(folds)) * n
        whole = columns // width * width
        self.counts_vectors("c", width)
        if whole:
            chunks: list[Chunk | None] = [Chunk(f"c + {v}" if v else "c") for v in range(0, width, n)]
            self.segment(f"for c in range(0, {whole}, {width}):", ("c", "j"), lambda: self._sums(folds, chunks))
        if whole < columns:
            rest = [Chunk(at, None if at + n <= columns else columns - at) for at in range(whole, columns, n)]
            self._sums(folds, list(rest))
        return self.levels.pop().lines

    def _sums(self, folds: list[Op], chunks: list[Chunk | None]) -> None:
        names = {(op, chunk): self.name("total") for op in folds for chunk in chunks}
        for op, chunk in names:
            zero = identity_text(op)
            self.write(f"{names[op, chunk]} = {zero if chunk is None else f'splat({zero})'}")
        index = fold_index(folds[0], self.variables, self.ranges)

        def step() -> None:
            for op, chunk in names:
                self.chunk = chunk
                value = self.value(op.inputs[0], index)
                text = value.name if value.vector or chunk is None else f"splat({value.name})"
                self.write(f"{names[op, chunk]} = {names[op, chunk]} + {text}")

        self._rows(folds[0], 0, step)
        for op, chunk in names:
            self.chunk = chunk
            buffer = self.plan.buffers[op]
            at = self.position(buffer.layout.offset(self.variables))
            tail = "" if chunk is None or chunk.count is None else f", {chunk.count}"
            p = self.pointer(buffer)
            if chunk is None:
                self.write(f"{p}[{at}] = {p}[{at}] + {names[op, chunk]}")
            else:
                self.write(f"store({p}, {at}, load({p}, {at}{tail}) + {names[op, chunk]}{tail})")
        self.chunk = None

    def _rows(self, fold: Op, axis: int, step: Callable[[], None]) -> None:
        """Loops over the positions of the samples."""
        if axis == len(fold.attrs["axes"]):
            step()
            return
        extent = fold.inputs[0].shape[axis]
        span = self.extent(extent) if axis else self.range_of(extent)
        name = f"r{axis}"
        self.segment(f"for {name} in range({span}):", (name,), lambda: self._rows(fold, axis + 1, step))


def write_shards(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of a kernel that sums samples in parts."""
    try:
        return ShardNest(plan, kernel, lanes).source()
    except Unvectorizable:
        return ShardNest(plan, kernel, 1).source()


def write_kernel(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of a map, row or column kernel: vectors along the last axis where every access allows it."""
    make: dict[str, type[LoopNest]] = {"map": MapNest, "row": RowNest, "column": ColumnNest}
    for width in (lanes, 1) if lanes > 1 else (1,):
        try:
            return make[kernel.group.kind](plan, kernel, width).source()
        except Unvectorizable:
            continue
    raise AssertionError("scalar code needs no unit strides")
