"""Kernels that carry elements: concatenation, padding, transposition, and the gathering of a batch."""

from __future__ import annotations

from layerflow.graph.shapes import Dim, Extent, code, divide, size, static
from layerflow.graph.symbolic import Op
from layerflow.jit import index as ix
from layerflow.jit.access import batch_of
from layerflow.jit.loops import INDENT, LoopNest
from layerflow.jit.overlap import OverlapNest
from layerflow.jit.schedule import Buffer, Kernel, Schedule
from layerflow.jit.values import FIRST, ORDER, TYPES, Unvectorizable


def write_copy(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of a concatenate, pad or overlap_add kernel."""
    make = {
        "concatenate": ConcatenateNest,
        "pad": PadNest,
        "overlap_add": OverlapNest,
    }[kernel.group.kind]
    for width in (lanes, 1):
        try:
            return make(plan, kernel, width).source()
        except Unvectorizable:
            continue
    raise AssertionError("scalar code needs no unit strides")


class _CopyNest(LoopNest):
    """Writes operands of the anchor into blocks of its result."""

    @property
    def anchor(self) -> Op:
        return self.group.anchor

    def body(self) -> list[str]:
        if batch_of(self.group.domain) is not None:
            self.kernel.units = 0
            lines = []
            for op, begin in self.blocks():
                lines += (
                    self.outer(op.shape[:-1], lambda op=op, begin=begin: self._block(op, begin))
                    if len(op.shape) > 1
                    else self._flat_samples(op)
                )
            return lines
        self.kernel.units = 1
        for op, begin in self.blocks():
            self._nest(op, begin, 0)
        lines, self.levels[0].lines = self.levels[0].lines, []
        head = [line for line in lines if "= pointer(" in line]
        return [*head, "if hi > lo:", *(INDENT + line for line in lines if line not in head)]

    def _flat_samples(self, op: Op) -> list[str]:
        raise Unvectorizable("samples of rank 1")

    def _nest(self, op: Op, begin: tuple[int, ...], axis: int) -> None:
        if axis >= len(op.shape) - 1:
            self._block(op, begin)
        else:
            self.segment(
                f"for i{axis} in range({self.extent(op.shape[axis])}):",
                (f"i{axis}",),
                lambda: self._nest(op, begin, axis + 1),
            )

    def _block(self, op: Op, begin: tuple[int, ...]) -> None:
        names = [*(ix.var(f"i{k}") for k in range(len(op.shape) - 1)), ix.var("j")]
        for name, extent in zip(names, op.shape, strict=True):
            self.ranges.declare(str(name), extent)

        def inside() -> None:
            target = tuple(ix.add(n, ix.number(b)) for n, b in zip(names, begin, strict=True))
            self.store(self.anchor, target, self.value(op, names))

        self.chunks(op.shape[-1], inside)

    def blocks(self) -> list[tuple[Op, tuple[int, ...]]]:
        """Operands and where each begins in the result."""
        raise NotImplementedError(f"{type(self).__name__} must define blocks().")


class ConcatenateNest(_CopyNest):
    """Each operand into its place."""

    def blocks(self) -> list[tuple[Op, tuple[int, ...]]]:
        axis, at, found = self.anchor.attrs["axis"], 0, []
        for op in self.anchor.inputs:
            begin = [0] * len(op.shape)
            begin[axis] = at
            found.append((op, tuple(begin)))
            extent = op.shape[axis]
            at += static(extent)
        return found


class PadNest(_CopyNest):
    """The fill value everywhere, then the operand inside."""

    def body(self) -> list[str]:
        self.kernel.units = 0 if batch_of(self.group.domain) is not None else 1
        return super().body()

    def blocks(self) -> list[tuple[Op, tuple[int, ...]]]:
        (x,) = self.anchor.inputs
        begin = tuple(before for before, _ in self.anchor.attrs["widths"])
        return [(self.anchor, (0,) * len(begin)), (x, begin)]

    def value(self, op, index):
        if op is self.anchor:
            return self.assign(f"{TYPES[op.dtype.name]}({self.anchor.attrs['value']!r})", 0, False)
        return super().value(op, index)


def is_transpose(plan: Schedule, kernel: Kernel) -> bool:
    """Whether a kernel only turns a stored matrix of known extents."""
    members = kernel.group.members
    op = members[0]
    return (
        len(members) == 1
        and op.name == "transpose"
        and op.attrs["perm"] == (1, 0)
        and op.inputs[0] in plan.buffers
        and all(isinstance(n, int) for n in op.shape)
        and op.dtype.kind == "f"
    )


def write_transpose(plan: Schedule, kernel: Kernel, lanes: int) -> str:
    """Source of a transpose: square blocks of vectors turned in registers, the rest element by element."""
    op = kernel.group.anchor
    source, target = plan.buffers[op.inputs[0]], plan.buffers[op]
    rows, columns = map(static, op.inputs[0].shape)
    down = source.layout.fixed[0]
    kind = TYPES[op.dtype.name]
    kernel.units = -(-columns // lanes)
    whole_rows = rows // lanes * lanes
    one = f"y[{_place(target, 'c', 'r')}] = x[r * {down} + c]"
    lines = [
        f"def {kernel.name}(ctx, lo, hi):",
        '    """transpose"""',
        f"    lanes({lanes})",
        f"    x = pointer(ctx, {source.slot}, {kind})",
        f"    y = pointer(ctx, {target.slot}, {kind})",
        "    for u in range(lo, hi):",
        f"        j = u * {lanes}",
    ]
    if whole_rows and columns >= lanes:
        lines += [
            f"        if j + {lanes} <= {columns}:",
            f"            for i in range(0, {whole_rows}, {lanes}):",
            *(INDENT * 4 + line for line in _turned_block(lanes, down, target)),
        ]
    if whole_rows and columns % lanes:
        lines += [
            f"        if j + {lanes} > {columns}:",
            f"            for c in range(j, {columns}):",
            f"                for r in range({whole_rows}):",
            f"                    {one}",
        ]
    if rows % lanes:
        lines += [
            f"        for c in range(j, minimum(j + {lanes}, {columns})):",
            f"            for r in range({whole_rows}, {rows}):",
            f"                {one}",
        ]
    return "\n".join(lines) + "\n"


def _place(target: Buffer, row: str, column: str) -> str:
    """Where the element of a matrix lies; from a column that is a multiple of the lanes on, whole vectors do."""
    across, panels = target.layout.fixed[0], target.layout.panels
    if panels is None:
        return f"{row} * {across} + {column}"
    return f"{column} // {panels[0]} * {code(panels[1])} + {row} * {across} + {column} % {panels[0]}"


def _turned_block(lanes: int, down: int, target: Buffer) -> list[str]:
    """A block of `lanes` rows of x at (i, j), `down` apart, stored as rows of y."""
    return [
        *(f"v{r} = load(x, (i + {r}) * {down} + j)" for r in range(lanes)),
        *turned(lanes),
        *(f"store(y, {_place(target, f'(j + {r})', 'i')}, v{r})" for r in range(lanes)),
    ]


def turned(lanes: int, stem: str = "v") -> list[str]:
    """Lines that transpose the square block in the vectors v0, v1, ... (or another stem)

    Step d exchanges bit d of the row number with bit d of the lane number, so log2(lanes) steps turn the block.
    """
    lines = []
    step = lanes // 2
    while step:
        low = tuple(c if not c & step else lanes + c - step for c in range(lanes))
        high = tuple(c + step if not c & step else lanes + c for c in range(lanes))
        for r in range(lanes):
            if not r & step:
                lines += [
                    f"w = shuffle({stem}{r}, {stem}{r + step}, {low})",
                    f"{stem}{r + step} = shuffle({stem}{r}, {stem}{r + step}, {high})",
                    f"{stem}{r} = w",
                ]
        step //= 2
    return lines


def write_gather(buffer: Buffer, source_slot: int, source_type: str, name: str, lanes: int) -> str:
    """Source that copies the rows of one batch, in order, from the caller's array into staging, casting on the way."""
    layout = buffer.layout
    width = size(layout.shape[1:])
    last = layout.shape[-1] if len(layout.shape) > 1 else 1
    pitch = layout.strides[-2] if len(layout.shape) > 1 else 1
    target = TYPES[buffer.op.dtype.name]
    lines = [
        f"def {name}(ctx, lo, hi):",
        '    """rows of the batch, in order, as the type the graph wants"""',
        f"    lanes({lanes})",
        f"    source = pointer(ctx, {source_slot}, {source_type})",
        f"    target = pointer(ctx, {buffer.slot}, {target})",
        f"    order = pointer(ctx, {ORDER}, i64)",
        f"    first = integer(ctx, {FIRST})",
        "    for i in range(lo, hi):",
        "        row = order[first + i]",
    ]
    body = _copied_row(width, last, pitch, layout.per_row if len(layout.shape) > 1 else 1, source_type, target, lanes)
    return "\n".join([*lines, *(INDENT * 2 + line for line in body)]) + "\n"


def _copied_row(
    width: Extent, last: Extent, pitch: Extent, row: Extent, source: str, target: str, lanes: int
) -> list[str]:
    lines: list[str] = []
    runs = divide(width, last) if last else 0
    pad, span = "", width
    a, b = f"row * {code(width)}", f"i * {code(row)}"
    if runs != 1 and pitch != last:
        lines.append(f"for s in range({code(runs)}):")
        pad, span = INDENT, last
        a, b = f"{a} + s * {code(last)}", f"{b} + s * {code(pitch)}"
    if isinstance(span, Dim):
        lines.append(f"{pad}whole = {code(span)} // {lanes} * {lanes}")
    whole = "whole" if isinstance(span, Dim) else span // lanes * lanes
    if whole:
        lines += [
            f"{pad}for j in range(0, {whole}, {lanes}):",
            f"{pad}{INDENT}store(target, {b} + j, {_cast(f'load(source, {a} + j)', source, target)})",
        ]
    if span != whole:
        rest = f"{code(span)} - whole" if isinstance(span, Dim) else span % lanes
        value = _cast(f"load(source, {a} + {whole}, {rest})", source, target)
        lines.append(f"{pad}store(target, {b} + {whole}, {value}, {rest})")
    return lines


def _cast(text: str, source: str, target: str) -> str:
    return text if source == target else f"cast({text}, {target})"
