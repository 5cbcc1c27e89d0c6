"""Loop nests of maps, row folds and column folds, as kernel-language source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from layerflow.graph.shapes import Dim, Extent
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import index as ix
from layerflow.jit.index import Index
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import Chunk, Level, Unvectorizable, Value, Writer, type_name

INDENT = "    "
UNROLLED_CHUNKS = 4  # rows of at most this many vectors are kept in registers from one fold to the next
COLUMN_CHUNKS = 4  # vectors of columns folded side by side
ACCUMULATORS = 4  # independent partial results of a long fold, so that latency does not bound it


def write_kernel(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of a map, row or column kernel: vectors along the last axis where every access allows it."""
    make: dict[str, Callable[[Schedule, Kernel, int], LoopNest]] = {
        "map": MapNest,
        "row": RowNest,
        "column": ColumnNest,
    }
    for width in (lanes, 1) if lanes > 1 else (1,):
        try:
            return make[kernel.group.kind](plan, kernel, width).source()
        except Unvectorizable:
            continue
    raise AssertionError("scalar code needs no unit strides")


class LoopNest(Writer):
    """A kernel over the group's domain.  Level 0 is the head, level 1 the parallel axis, then one level a further axis."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int):
        super().__init__(plan, lanes)
        self.kernel = kernel
        self.group = kernel.group
        self.members = frozenset(m for m in kernel.group.members if m.primitive.kind is not Kind.LEAF)
        self.variables = kernel.group.variables(self.ranges)
        self.scalar = lanes == 1
        self.fast_roots = any(op in plan.updates for op in kernel.group.stored)

    def source(self) -> str:
        body = self.body()
        layers = ", ".join(dict.fromkeys(m.layer for m in self.group.members if m.layer))
        names = ", ".join(dict.fromkeys(m.name for m in self.group.members))
        head = [
            f"def {self.kernel.name}(ctx, lo, hi):",
            f'{INDENT}"""{layers + ": " if layers else ""}{names}"""',
            f"{INDENT}lanes({self.lanes})",
        ]
        return "\n".join([*head, *(INDENT + line for line in [*self.levels[0].lines, *body])]) + "\n"

    def body(self) -> list[str]:
        raise NotImplementedError

    def outer(self, extents: tuple[Extent, ...], inside: Callable[[], None]) -> list[str]:
        """Loops over the axes before the vector axis around what `inside` writes; the first one is the parallel range."""
        headers = []
        for axis, extent in enumerate(extents):
            header = f"for i{axis} in range(lo, hi):" if axis == 0 else f"for i{axis} in range({self.extent(extent)}):"
            if axis == 0 and isinstance(extent, Dim) and extent.factor > 1:
                header = f"for i0 in range(lo * {extent.factor}, hi * {extent.factor}):"
            headers.append(header)
            self.levels.append(Level((f"i{axis}",)))
        inside()
        lines: list[str] = []
        for header in reversed(headers):
            level = self.levels.pop()
            lines = [header, *(INDENT + line for line in [*level.lines, *lines])]
        return lines

    def segment(self, header: str | None, variables: tuple[str, ...], inside: Callable[[], None]) -> None:
        """A loop (or plain block) whose text is put behind what its level has so far."""
        level = Level(variables)
        self.levels.append(level)
        inside()
        self.levels.pop()
        block = level.lines if header is None else [header, *(INDENT + line for line in level.lines)]
        self.levels[-1].lines.extend(block)

    def chunks(self, extent: Extent, inside: Callable[[], None]) -> None:
        """The vector axis: whole vectors in a loop, then a masked rest."""
        if self.scalar:
            self.chunk = None
            self.segment(f"for j in range({self.extent(extent)}):", ("j",), inside)
            return
        n = self.lanes
        if isinstance(extent, int):
            whole = extent // n * n
            if whole:
                self.chunk = Chunk("j") if whole > n else Chunk(0)
                self.segment(f"for j in range(0, {whole}, {n}):" if whole > n else None, ("j",), inside)
            if extent - whole:
                self.chunk = Chunk(whole, extent - whole)
                self.segment(None, ("j",), inside)
        else:
            size = self.extent(extent)
            self.chunk = Chunk("j")
            self.segment(f"for j in range(0, {size} - {n - 1}, {n}):", ("j",), inside)
            rest = self.assign(f"{size} % {n}", 0, False).name
            start = self.assign(f"{size} - {rest}", 0, False).name
            self.chunk = Chunk(start, rest)
            self.segment(f"if {rest} > 0:", ("j",), inside)
        self.chunk = None


class MapNest(LoopNest):
    """One element of every member at each point of the domain."""

    def body(self) -> list[str]:
        domain = self.group.domain
        if not domain:
            self.kernel.units = 1
            self.levels.append(Level(("once",)))
            self.members_at(())
            return ["if hi > lo:", *(INDENT + line for line in self.levels.pop().lines)]
        if self._is_flat():
            return self._flat()
        if len(domain) == 1:
            return self._vector_only(domain[0])
        self.kernel.units = 0 if isinstance(domain[0], Dim) else domain[0]
        return self.outer(domain[:-1], lambda: self.chunks(domain[-1], lambda: self.members_at(self.variables)))

    def members_at(self, index: tuple[Index, ...]) -> None:
        for op in self.group.members:
            value = self.load(op, index) if op.primitive.kind is Kind.LEAF else self._computed(op, index)
            self.bind(op, index, value)
        for op in self.group.stored:
            value = self.value(op, index)
            self.store(op, index, value)

    def _computed(self, op: Op, index: tuple[Index, ...]) -> Value:
        return self._make(op, index)

    def _is_flat(self) -> bool:
        """Whether every array has the shape of the domain, without gaps, so that one loop over all elements will do."""
        domain = self.group.domain
        if self.scalar or len(domain) < 2 or isinstance(domain[0], Dim):
            return False
        arrays = [*self.kernel.reads, *self.group.stored]
        plain = all(
            m.primitive.kind is Kind.MAP and all(i.shape in (domain, ()) for i in m.inputs) for m in self._maps()
        )
        return plain and all(op.shape == () or (op.shape == domain and self._is_dense(op)) for op in arrays)

    def _maps(self) -> list[Op]:
        """Members and the ops inlined into them."""
        found, stack = [], list(self.group.members)
        while stack:
            op = stack.pop()
            found.append(op)
            stack.extend(i for i in op.inputs if i not in self.plan.buffers and i.primitive.kind is not Kind.LEAF)
        return found

    def _is_dense(self, op: Op) -> bool:
        layout = self.plan.buffers[op].layout
        return layout.strides[-2] == layout.shape[-1]

    def _flat(self) -> list[str]:
        total = int(np.prod(self.group.domain))
        for op in [*self.kernel.reads, *self.group.stored, *self._maps()]:
            if op.shape != ():
                self.flattened.add(op)
        self.ranges.declare("j", total)
        return self._vector_only(total)

    def _vector_only(self, extent: Extent) -> list[str]:
        """A domain of one axis: pieces of it are the parallel range."""
        domain = self.group.domain
        longest = max(range(len(domain)), key=lambda k: domain[k] if isinstance(domain[k], int) else 1 << 40)
        index = tuple(ix.var("j") if k == longest else ix.ZERO for k in range(len(domain)))
        if isinstance(extent, Dim):
            self.kernel.units = 0
            return self._sample_vector(extent, index)
        if self.scalar:
            self.kernel.units = extent
            self.levels.append(Level(("j",)))
            self.members_at(index)
            lines = self.levels.pop().lines
            return ["for j in range(lo, hi):", *(INDENT + line for line in lines)]
        self.kernel.units = -(-extent // self.lanes)
        self.levels.append(Level(("j",)))
        self.chunk = Chunk("j", f"{extent} - j" if extent % self.lanes else None)
        self.members_at(index)
        lines = self.levels.pop().lines
        return ["for c in range(lo, hi):", *(INDENT + line for line in [f"j = c * {self.lanes}", *lines])]

    def _sample_vector(self, extent: Dim, index: tuple[Index, ...]) -> list[str]:
        """One number a sample: vectors along the samples of the range."""
        n, f = self.lanes, extent.factor
        self.levels.append(Level(("j",)))
        self.chunk = None if self.scalar else Chunk("j", f"hi{'' if f == 1 else f' * {f}'} - j")
        self.members_at(index)
        lines = self.levels.pop().lines
        span = "lo, hi" if f == 1 else f"lo * {f}, hi * {f}"
        return [f"for j in range({span}, {n}):", *(INDENT + line for line in lines)]

    @property
    def flattened(self) -> set[Op]:
        return self.__dict__.setdefault("_flattened", set())

    def load(self, op: Op, index: tuple[Index, ...]) -> Value:
        return super().load(op, index) if op not in self.flattened else self._flat_load(op, index)

    def _flat_load(self, op: Op, index: tuple[Index, ...]) -> Value:
        buffer = self.plan.buffers[op]
        assert self.chunk is not None
        tail = "" if self.chunk.count is None else f", {self.chunk.count}"
        at = ix.var("j")
        text = f"load({self.pointer(buffer)}, {self.position(at)}{tail})"
        return self.assign(f"({text} != 0)" if op.dtype.kind == "b" else text, self.level_of(at), True)

    def store(self, op: Op, index: tuple[Index, ...], value: Value) -> None:
        if op not in self.flattened:
            super().store(op, index, value)
            return
        assert self.chunk is not None
        text = f"cast({value.name}, u8)" if op.dtype.kind == "b" else value.name
        text = text if value.vector else f"splat({text})"
        tail = "" if self.chunk.count is None else f", {self.chunk.count}"
        at = self.position(ix.var("j"))
        self.write(f"store({self.pointer(self.plan.buffers[op])}, {at}, {text}{tail})")


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
        self.kernel.units = 0 if isinstance(rows[0], Dim) else rows[0]
        return self.outer(rows, self._row)

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
        unrolled = not self.scalar and isinstance(extent, int) and extent <= UNROLLED_CHUNKS * self.lanes
        for stage in sorted(set(self.stages.values())):
            folds = [op for op, s in self.stages.items() if s == stage]
            if unrolled:
                self._fold_unrolled(folds, int(extent))
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
            for chunk in self._parts(int(extent)):  # type: ignore[arg-type]
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
        self.kernel.units = 0 if isinstance(domain[0], Dim) else domain[0]
        return self.outer(domain[:-1], lambda: self.chunks(domain[-1], self._column))

    def _columns_parallel(self, extent: Extent) -> list[str]:
        assert isinstance(extent, int)
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
