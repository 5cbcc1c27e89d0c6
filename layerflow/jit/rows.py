"""Kernels on rows of tables: the update of the rows that a batch names, and whole tables of sums by row.

An update first finds the different rows among the indices, with a hash table in the thread's own memory, and links the
places of each; then it sums the gradient of one row after the other in their order and updates the row.  A row belongs
to one thread, chosen by its number, so that the bits do not depend on the threads.
"""

from __future__ import annotations

from layerflow.graph import shapes
from layerflow.graph.shapes import Dim, Shape, code, static
from layerflow.graph.symbolic import Op
from layerflow.jit import index as ix
from layerflow.jit.access import batch_of
from layerflow.jit.groups import Group
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT, LoopNest
from layerflow.jit.schedule import Buffer, Kernel, Schedule
from layerflow.jit.values import SCRATCH, TYPES, Level, Unvectorizable, Value

CLASSES = 64  # pieces of the work: rows are dealt to threads by their number modulo this, tables in so many blocks
SMALL = 1 << 14  # elements of a table that one thread sums
AHEAD = 4  # rows between asking for a row and updating it: some hundred nanoseconds
LINE = 64  # bytes of a cache line
INT = 4  # bytes of the numbers in working memory
SPARE = 32  # numbers more than needed, so that whole vectors may be cleared
HASH, RANGE = 2654435769, 1 << 32  # 2**32 over the golden ratio (Knuth 6.4): multiples of it lie far apart


def write_rows(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of an update of rows, or of a table of sums."""
    for width in (lanes, 1):
        try:
            return NESTS[kernel.group.kind](plan, kernel, width).source()
        except Unvectorizable:
            continue
    raise AssertionError("scalar code needs no unit strides")


def updates_of(group: Group) -> tuple[Op, ...]:
    """What an update of rows adds up."""
    return _sums_of(group.anchor).inputs[1::2]


def _sums_of(op: Op) -> Op:
    stack = list(op.inputs)
    while stack:
        op = stack.pop()
        if op.name == "row_sums":
            return op
        stack.extend(op.inputs)
    raise AssertionError("an update of rows without sums")


def place(buffer: Buffer, lead: Shape, number: str) -> str:
    """Where element (or row) `number` of an array is, counted along its leading axes."""
    strides = buffer.layout.strides
    if not lead:
        return "0"
    inner = range(1, len(lead))
    if all(strides[k - 1] == strides[k] * lead[k] for k in inner):
        step = strides[len(lead) - 1]
        return number if step == 1 else f"{number} * {code(step)}"
    terms, size = [], 1
    for k in reversed(range(len(lead))):
        part = number if size == 1 else f"{number} // ({code(size)})"
        within = "" if k == 0 else f" % ({code(lead[k])})"
        terms.append(f"({part}){within} * {code(strides[k])}")
        size = shapes.multiply(size, lead[k]) if k else size
    return " + ".join(reversed(terms))


class RowsNest(LoopNest):
    """Chains of equal indices, then one row after the other."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int):
        super().__init__(plan, kernel, lanes)
        self.anchor = kernel.group.anchor
        self.sums = _sums_of(self.anchor)
        self.rows, self.width = (static(n) for n in self.anchor.shape)
        self.kind = TYPES[self.sums.dtype.name]
        self.pairs = list(zip(self.sums.inputs[::2], self.sums.inputs[1::2], strict=True))
        # Working memory: the sums of a row, then numbers.
        self.start = -(-self.width * self.sums.dtype.itemsize // LINE) * LINE // INT

    def body(self) -> list[str]:
        self.kernel.units = CLASSES
        self._reserve()
        self.write(f"numbers = pointer(ctx, {SCRATCH}, i32)", 0)
        self.write(f"sums = pointer(ctx, {SCRATCH}, {self.kind})", 0)
        counts = [self._count(i) for i, _ in self.pairs]
        lines = [f"end{at} = {count}" + (f" + end{at - 1}" if at else "") for at, count in enumerate(counts)]
        lines += [
            f"total = end{len(counts) - 1}",
            "size = 2 * total",
            f"row_of = size + {self.start + SPARE}",
            "first = row_of + total + 1",
            "last = first + total + 1",
            "following = last + total + 1",
            f"for h in range(0, size, {self.lanes}):",
            f"{INDENT}store(numbers, h + {self.start}, zeros(i32))",
            "numbers[row_of] = i32(-1)",
            "found = 0",
        ]
        for at, (positions, _) in enumerate(self.pairs):
            lines += self._linked(at, positions, counts[at])
        self.levels.append(Level(("i0",)))
        self._one_row()
        inner = self.levels.pop().lines
        return [*lines, "for k in range(1, found + 1):", *(INDENT + line for line in inner)]

    def _reserve(self) -> None:
        fixed, sampled = self.start + SPARE + 4, 0
        for positions, _ in self.pairs:
            count = shapes.size(positions.shape)
            if batch_of((count,)) is not None:
                sampled = shapes.add(sampled, 6 * shapes.divide(count, Dim()))
            else:
                fixed += 6 * static(count)
        self.kernel.scratch = (fixed * INT, sampled * INT)

    def _count(self, op: Op) -> str:
        return " * ".join(self.extent(n) for n in op.shape) or "1"

    def _linked(self, at: int, positions: Op, count: str) -> list[str]:
        """Puts the indices of one operand into chains, one a row."""
        buffer = self.plan.buffers[positions]
        base = f" + end{at - 1}" if at else ""
        return [
            f"for n in range({count}):",
            f"    index = cast({self.pointer(buffer)}[{place(buffer, positions.shape, 'n')}], i64)",
            f"    row = minimum(maximum(index, 0), {self.rows - 1})",
            f"    if (row % {CLASSES} >= lo) & (row % {CLASSES} < hi):",
            f"        e = n{base}",
            f"        at = row * {HASH} % {RANGE} * size // {RANGE}",
            f"        known = cast(numbers[at + {self.start}], i64)",
            "        while (known != 0) & (cast(numbers[row_of + known], i64) != row):",
            "            at = at + 1 if at + 1 < size else 0",
            f"            known = cast(numbers[at + {self.start}], i64)",
            "        if known == 0:",
            "            found = found + 1",
            f"            numbers[at + {self.start}] = cast(found, i32)",
            "            numbers[row_of + found] = cast(row, i32)",
            "            numbers[first + found] = cast(e, i32)",
            "            numbers[last + found] = cast(e, i32)",
            "        else:",
            "            numbers[following + cast(numbers[last + known], i64)] = cast(e, i32)",
            "            numbers[last + known] = cast(e, i32)",
            "        numbers[following + e] = i32(-1)",
        ]

    def _one_row(self) -> None:
        """Statements for the row at place k of those that were found."""
        self.write("i0 = cast(numbers[row_of + k], i64)")
        self.write("ahead = cast(numbers[row_of + minimum(k + " + f"{AHEAD}, found)], i64)")
        count = self.anchor.attrs["count"]
        for table in self.anchor.inputs[count : 2 * count]:
            buffer = self.plan.buffers[table]
            step = LINE // table.dtype.itemsize
            pitch = buffer.layout.strides[0]
            self.write(f"for c in range(0, {self.width}, {step}):")
            self.write(f"{INDENT}prefetch({self.pointer(buffer)}, ahead * {pitch} + c)")
        self.write("e = cast(numbers[first + k], i64)")
        self._each_operand(first=True)
        self.write("e = cast(numbers[following + e], i64)")
        self.write("while e >= 0:")
        self._each_operand(first=False, pad=INDENT)
        self.write(f"{INDENT}e = cast(numbers[following + e], i64)")
        parts = [op for op in self.group.stored if op.name == "rows_part"]

        def inside() -> None:
            index = (ix.var("i0"), ix.var("j"))
            made = [self.value(self.anchor.inputs[p.attrs["at"]], index) for p in parts]
            for part, value in zip(parts, made, strict=True):
                self.store(part, index, value)

        self.chunks(self.width, inside)

    def _each_operand(self, first: bool, pad: str = "") -> None:
        """Adds gradient e to the sums of the row, or begins them with it."""
        for at, (_, updates) in enumerate(self.pairs):
            buffer = self.plan.buffers[updates]
            begin = f"(e - end{at - 1})" if at else "e"
            where = place(buffer, updates.shape[:-1], begin)
            inside = pad
            if len(self.pairs) > 1:
                after = f" & (e >= end{at - 1})" if at else ""
                self.write(f"{pad}if (e < end{at}){after}:")
                inside = pad + INDENT
            self.write(f"{inside}where = {where}")
            for line in accumulated(("sums", "0"), (self.pointer(buffer), "where"), self.width, self.lanes, first):
                self.write(inside + line)

    def _make(self, op: Op, index: tuple[Index, ...]) -> Value:
        if op is not self.sums:
            return super()._make(op, index)
        at, vector = index[-1], self.is_vector(index[-1])
        level = len(self.levels) - 1
        if not vector:
            return self.assign(f"sums[{self.position(at)}]", level, False)
        assert self.chunk is not None
        tail = "" if self.chunk.count is None else f", {self.chunk.count}"
        return self.assign(f"load(sums, {self.position(at)}{tail})", level, True)


class ScatterNest(LoopNest):
    """Zeros, then each update row added to the row its index names, in order; a thread has a block of rows."""

    def body(self) -> list[str]:
        op = self.group.anchor
        positions, updates = op.inputs
        rows, size = op.attrs["rows"], static(shapes.size(op.shape))
        self.kernel.units = units = min(CLASSES, rows) if size > SMALL else 1
        buffers = self.plan.buffers[op], self.plan.buffers[updates]
        out, source = map(self.pointer, buffers)
        where = self.pointer(self.plan.buffers[positions])
        count = " * ".join(self.extent(n) for n in positions.shape) or "1"
        row = buffers[0].layout.per_row
        block, kind = -(-rows // units), TYPES[op.dtype.name]
        return [
            f"begin = minimum(lo * {block}, {rows})",
            f"end = minimum(hi * {block}, {rows})",
            f"whole = (end - begin) * {row} // {self.lanes} * {self.lanes} + begin * {row}",
            f"for e in range(begin * {row}, whole, {self.lanes}):",
            f"{INDENT}store({out}, e, zeros({kind}))",
            f"store({out}, whole, zeros({kind}), end * {row} - whole)",
            f"for n in range({count}):",
            f"{INDENT}row = minimum(maximum(cast({where}[{self._place(positions)}], i64), 0), {rows - 1})",
            f"{INDENT}if (row >= begin) & (row < end):",
            *(INDENT * 2 + line for line in self._added(out, source, buffers, len(positions.shape))),
        ]

    def _place(self, positions: Op) -> str:
        return place(self.plan.buffers[positions], positions.shape, "n")

    def _added(self, out: str, source: str, buffers: tuple[Buffer, Buffer], lead: int) -> list[str]:
        """Statements that add update n to the row."""
        target, updates = buffers
        shape = self.group.anchor.shape[1:]
        middle = static(shapes.size(shape[:-1]))
        lines = [
            f"to = row * {target.layout.per_row}",
            f"where = {place(updates, updates.layout.shape[:lead], 'n')}",
        ]
        if not shape:
            return [*lines, f"{out}[to] = {out}[to] + {source}[where]"]
        added = accumulated((out, "to"), (source, "where"), static(shape[-1]), self.lanes)
        if middle == 1:
            return lines + added
        steps = [f"to = to + {target.layout.strides[-2]}", f"where = where + {updates.layout.strides[-2]}"]
        return [*lines, f"for m in range({middle}):", *(INDENT + line for line in [*added, *steps])]


def accumulated(
    target: tuple[str, str], source: tuple[str, str], width: int, lanes: int, first: bool = False
) -> list[str]:
    """Statements that add `width` elements to others, or put them there; both are (pointer, offset)."""
    (out, to), (given, where) = target, source
    whole = width // lanes * lanes
    lines: list[str] = []
    pieces = [(f"for c in range(0, {whole}, {lanes}):", "c", "")] if whole else []
    if width - whole:
        pieces.append(("", str(whole), f", {width - whole}"))
    for loop, at, tail in pieces:
        value = f"load({given}, {where} + {at}{tail})"
        value = value if first else f"load({out}, {to} + {at}{tail}) + {value}"
        lines += [*([loop] if loop else []), f"{INDENT if loop else ''}store({out}, {to} + {at}, {value}{tail})"]
    return lines


NESTS: dict[str, type[LoopNest]] = {"update_rows": RowsNest, "scatter_add": ScatterNest}
