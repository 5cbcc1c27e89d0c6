"""Loop nests as kernel-language source: what all of them share, and the nests of maps."""

from __future__ import annotations

from collections.abc import Callable

from layerflow.graph import shapes
from layerflow.graph.shapes import Dim, Extent, Shape
from layerflow.graph.symbolic import LITERAL, Kind, Op
from layerflow.jit import index as ix
from layerflow.jit.access import batch_of, dense
from layerflow.jit.index import Index
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.values import Chunk, Level, Value, Writer

INDENT = "    "


def block(header: str, lines: list[str]) -> list[str]:
    """A header with these statements under it."""
    return [header, *(INDENT + line for line in lines)]


def units_of(domain: Shape) -> Extent:
    """Pieces of work of a kernel over this domain; 0 where those are samples."""
    return 0 if batch_of(domain) is not None else domain[0]


class LoopNest(Writer):
    """A kernel over the group's domain.

    Level 0 is the head, level 1 the parallel axis, then one level a further axis.
    """

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
        """The statements behind the head, and `kernel.units`."""
        raise NotImplementedError(f"{type(self).__name__} must define body().")

    def outer(self, extents: tuple[Extent, ...], inside: Callable[[], None]) -> list[str]:
        """Loops over the axes before the vector axis around what `inside` writes; the first is the parallel range."""
        ranges = []
        for axis, extent in enumerate(extents):
            ranges.append((f"i{axis}", self.extent(extent) if axis else self.range_of(extent)))
            self.levels.append(Level((f"i{axis}",)))
        inside()
        lines: list[str] = []
        for at, (name, span) in reversed(list(enumerate(ranges))):
            level = self.levels.pop()
            lines = [*level.lines, *lines]
            last = at + 1 == len(ranges)
            lines = self.innermost(name, span, lines) if last else block(f"for {name} in range({span}):", lines)
        return lines

    def innermost(self, name: str, span: str, lines: list[str]) -> list[str]:
        """The last of the outer loops."""
        return block(f"for {name} in range({span}):", lines)

    def segment(self, header: str | None, variables: tuple[str, ...], inside: Callable[[], None]) -> None:
        """A loop (or plain block) whose text is put behind what its level has so far."""
        level = Level(variables)
        self.levels.append(level)
        inside()
        self.levels.pop()
        self.levels[-1].lines.extend(level.lines if header is None else block(header, level.lines))

    def chunks(self, extent: Extent, inside: Callable[[], None]) -> None:
        """The vector axis: whole vectors in a loop, then a masked rest."""
        if self.scalar:
            self.chunk = None
            self.segment(f"for j in range({self.extent(extent)}):", ("j",), inside)
            return
        n = self.lanes
        self.even.add("j")
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

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int):
        super().__init__(plan, kernel, lanes)
        self.flattened: set[Op] = set()  # read and written as if all their elements lay along one axis

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
        self.kernel.units = units_of(domain)
        return self.outer(domain[:-1], lambda: self.chunks(domain[-1], lambda: self.members_at(self.variables)))

    def members_at(self, index: tuple[Index, ...]) -> None:
        for op in self.group.members:
            given = op.primitive.kind is Kind.LEAF and op.primitive is not LITERAL
            value = self.load(op, index) if given else self._make(op, index)
            self.bind(op, index, value)
        for op in self.group.stored:
            value = self.value(op, index)
            self.store(op, index, value)

    def _is_flat(self) -> bool:
        """Whether every array has the shape of the domain, without gaps, so that one loop over all elements will do."""
        domain = self.group.domain
        if self.scalar or len(domain) < 2 or not shapes.is_static(domain):
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
        return layout.strides == dense(layout.shape).strides  # a step of a loop lies apart for each sample

    def _flat(self) -> list[str]:
        total = shapes.static(shapes.size(self.group.domain))
        for op in [*self.kernel.reads, *self.group.stored, *self._maps()]:
            if op.shape != ():
                self.flattened.add(op)
        self.ranges.declare("j", total)
        return self._vector_only(total)

    def _vector_only(self, extent: Extent) -> list[str]:
        """A domain of one axis: pieces of it are the parallel range."""
        domain = self.group.domain
        longest = max(range(len(domain)), key=lambda k: 1 << 40 if isinstance(n := domain[k], Dim) else n)
        index = tuple(ix.var("j") if k == longest else ix.ZERO for k in range(len(domain)))
        if batch_of((extent,)) is not None:
            self.kernel.units = 0
            return self._sample_vector(extent, index)
        extent = shapes.static(extent)
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

    def _sample_vector(self, extent: Extent, index: tuple[Index, ...]) -> list[str]:
        """Numbers of each sample along one axis: vectors along the samples of the range."""
        span = self.range_of(extent)
        self.levels.append(Level(("j",)))
        self.chunk = None if self.scalar else Chunk("j", f"{span.partition(', ')[2]} - j")
        self.members_at(index)
        lines = self.levels.pop().lines
        return [f"for j in range({span}, {self.lanes}):", *(INDENT + line for line in lines)]

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
