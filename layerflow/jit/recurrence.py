"""Loops over time in a schedule: one kernel that runs the kernels of its body once a step.

The body has a schedule of its own.  Slices of sequences and kept values are views of the arrays outside, at an address
that moves from step to step; states live in two places in turn; everything else lives in memory of the thread, which is
the same at every step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from layerflow.errors import CompileError
from layerflow.graph.ir import Graph
from layerflow.graph.ops.loop import slice_shape
from layerflow.graph.shapes import Dim, Extent, bound_of, code
from layerflow.graph.symbolic import INPUT, Op
from layerflow.jit import fusion, gates, packing
from layerflow.jit import schedule as scheduling
from layerflow.jit.access import Layout, batch_of, dense
from layerflow.jit.loop_ends import starts_with_zeros, unread_at_end
from layerflow.jit.product_sums import join_sums
from layerflow.jit.schedule import Buffer, Kernel, Local, Schedule
from layerflow.jit.values import BATCH, PAST_FIRST, ROWS, TYPES

INDENT = "    "


@dataclasses.dataclass
class Loop:
    """The body of a loop kernel, and how its arrays hang on those outside."""

    plan: Schedule
    length: Extent
    reverse: bool
    moving: list[tuple[Buffer, Buffer, str]]  # inside, outside, bytes a step: of a sequence or of kept values
    states: list[tuple[Buffer, Buffer]]  # before, after a step
    starts: list[Buffer]  # where the states begin
    finals: list[Buffer | None]  # where they go after the last step

    @property
    def own(self) -> list[Buffer]:
        """What lives in the thread's memory."""
        return [b for op, b in self.plan.buffers.items() if b.role == "temporary" and b.op is op]

    @property
    def inner(self) -> list[Buffer]:
        """Buffers that the schedule outside does not have."""
        return [b for op, b in self.plan.buffers.items() if b.op is op]


def attach(plan: Schedule, passes: Sequence[tuple[str, Callable[[Graph], Graph]]]) -> None:
    """Gives every loop kernel its body."""
    for kernel in plan.kernels:
        if kernel.group.kind == "loop":
            kernel.loop = _inner(plan, kernel, passes)


def _inner(plan: Schedule, kernel: Kernel, passes: Sequence[tuple[str, Callable[[Graph], Graph]]]) -> Loop:
    loop = kernel.group.anchor
    body: Graph = loop.attrs["body"].graph
    for _, run in passes:
        body = run(body)
    groups = join_sums(gates.join_gates(fusion.fuse(body, side_by_side=True), body), body)
    n, m = loop.attrs["sequences"], loop.attrs["states"]
    parts = {op.attrs["at"]: plan.buffers[op] for op in kernel.group.members if op.name == "loop_part"}
    inner = scheduling.schedule(body, groups)
    for at, inside in enumerate(inner.kernels):
        inside.name = f"{kernel.name}_{at}{inside.name.partition('_')[2] and '_' + inside.name.partition('_')[2]}"
        inside.private = False
    if kernel.samples and (len(inner.phases) > 1 or not all(k.samples for k in inner.kernels)):
        raise CompileError(f"layer {loop.layer or 'scan'}: a step of the loop reads other samples of the batch.")
    found = Loop(inner, loop.attrs["length"], loop.attrs["reverse"], [], [], [], [])
    _hang(found, plan, body, loop, parts)
    for inside in inner.kernels:
        _pack(inside, inner, shared=body.inputs[n + m :])
        inside.starts_with_zeros = starts_with_zeros(inside, body.inputs[n : n + m], loop.inputs[n : n + m])
    unread = {op for op, final in zip(body.outputs, found.finals, strict=False) if final is None}
    for inside in unread_at_end(inner.kernels, unread):
        inside.all_but_last = True
    return found


def _hang(found: Loop, plan: Schedule, body: Graph, loop: Op, parts: dict[int, Buffer]) -> None:
    """Says where what the body reads and makes lies outside."""
    buffers, n, m = found.plan.buffers, loop.attrs["sequences"], loop.attrs["states"]
    for at, (op, outer) in enumerate(zip(body.inputs, loop.inputs, strict=True)):
        outside = plan.buffers[fusion.rows_of(outer)]
        if at < n:
            step, layout = _step(outer, outside)
            buffers[op] = Buffer(op, Layout(op.shape, layout, outside.layout.panels), "view")
            found.moving.append((buffers[op], outside, step))
        elif at < n + m:
            buffers[op] = Buffer(op, dense(op.shape), "temporary")
            found.starts.append(outside)
        else:
            buffers[op] = outside
    for at, op in enumerate(body.outputs):
        if at < m:
            buffers[op] = Buffer(op, dense(op.shape), "temporary")
            found.states.append((buffers[body.inputs[n + at]], buffers[op]))
            found.finals.append(parts.get(at))
        else:
            step, layout = _step(parts[at].op, parts[at])
            buffers[op] = Buffer(op, Layout(op.shape, layout, parts[at].layout.panels), "view")
            found.moving.append((buffers[op], parts[at], step))


def _pack(kernel: Kernel, plan: Schedule, shared: Sequence[Op]) -> None:
    """The right operand of a product that is the same at every step is packed before the first one."""
    group = kernel.group
    if group.kind == "gemm" and kernel.samples and len(group.domain) == 2 and group.anchor.inputs[1] in shared:
        right, elements = group.anchor.inputs[1], packing.packed_elements(kernel)
        kernel.rows_first = bool(elements)
        if elements and not plan.buffers[right].layout.panels:
            op = Op(INPUT, (), {"name": "packed"}, (elements,), right.dtype)
            kernel.packed = plan.buffers[op] = Buffer(op, dense(op.shape), "temporary")


def _step(sequence: Op, outside: Buffer) -> tuple[str, tuple[Extent, ...]]:
    """Bytes from one step of a sequence to the next, and the strides of one step."""
    size = outside.op.dtype.itemsize
    if outside.by_step:
        inside = slice_shape(sequence.shape)
        strides = dense(inside).strides
        return f"integer(ctx, {BATCH}) * {code((strides[0] if len(inside) > 1 else 1) * size)}", strides
    if sequence is outside.op:
        first, *rest = outside.layout.strides
        return (code(rest[0] * size), (first, *rest[1:])) if rest else (code(first * size), ())
    pitch, one = outside.layout.strides
    return code(pitch * size), (sequence.shape[1] * pitch, one)


def keep_local(kernel: Kernel, run: str, group: int, at: int) -> None:
    """The thread's memory that a loop needs, for groups of this size."""
    assert kernel.loop is not None
    for buffer in kernel.loop.own:
        buffer.local = Local(run, group, at, at)


def source(plan: Schedule, kernel: Kernel, local: dict[Buffer, int], write: Callable[[Schedule, Kernel], str]) -> str:
    """The kernels of the body and the kernel that runs them step by step."""
    loop = kernel.loop
    assert loop is not None
    texts = [write(loop.plan, k) for k in loop.plan.kernels]
    kernel.scratch = (
        max((k.scratch[0] for k in loop.plan.kernels), default=0),
        functools.reduce(bound_of, (k.scratch[1] for k in loop.plan.kernels), 0),
    )
    kernel.units = 0 if kernel.samples else 1
    lines = [f"def {kernel.name}(ctx, lo, hi):", f'    """{kernel.group.anchor.layer}: loop"""', "    lanes(1)"]
    inside: list[str] = []
    span = "lo, hi" if kernel.samples else f"0, integer(ctx, {ROWS})"
    for buffer in loop.own:
        back = f" - lo * {code(buffer.bytes_per_sample)}" if buffer.per_sample and kernel.samples else ""
        inside.append(f"set_integer(ctx, {buffer.slot}, integer(ctx, {local[buffer]}){back})")
    for at, ((_, after), start, final) in enumerate(zip(loop.states, loop.starts, loop.finals, strict=True)):
        texts.append(_copy(f"{kernel.name}_enter{at}", start, after))
        inside.append(f"{kernel.name}_enter{at}(ctx, {span})")
        if final is not None:
            texts.append(_copy(f"{kernel.name}_leave{at}", after, final))
    for packs in (k for k in loop.plan.kernels if k.packed):
        lead = batch_of(packs.group.domain)
        each = lead.factor if lead else 1
        inside += [f"if (hi - lo) * {each} >= {packs.packed_from}:", f"    {packs.name}_pack(ctx, lo, hi)"]
    inside.append(f"for n in range({code(loop.length)}):")
    inside += [INDENT + line for line in _one_step(loop, kernel.samples)]
    inside += [f"{kernel.name}_leave{at}(ctx, {span})" for at, final in enumerate(loop.finals) if final is not None]
    if not kernel.samples:  # one thread does it all
        inside = ["if hi > lo:", *(INDENT + line for line in inside)]
    return "\n".join([*texts, "\n".join([*lines, *(INDENT + line for line in inside)]) + "\n"])


def _one_step(loop: Loop, shared: bool) -> list[str]:
    """Statements of step n."""
    lines = [f"t = {code(loop.length)} - 1 - n" if loop.reverse else "t = n"]
    for inside, outside, size in loop.moving:
        lines.append(f"set_integer(ctx, {inside.slot}, integer(ctx, {outside.slot}) + t * {size})")
    for before, after in loop.states:
        # What was made in the last step is read in this one.
        lines.append(f"other{before.slot} = integer(ctx, {before.slot})")
        lines.append(f"set_integer(ctx, {before.slot}, integer(ctx, {after.slot}))")
        lines.append(f"set_integer(ctx, {after.slot}, other{before.slot})")
    for kernel in loop.plan.kernels:
        span = "lo, hi" if shared else f"0, integer(ctx, {ROWS})" if kernel.samples else f"0, {kernel.units}"
        if kernel.starts_with_zeros:
            lines.append(f"set_integer(ctx, {PAST_FIRST}, minimum(n, 1))")
        if kernel.all_but_last:
            lines += [f"if n + 1 < {code(loop.length)}:", f"{INDENT}{kernel.name}(ctx, {span})"]
        else:
            lines.append(f"{kernel.name}(ctx, {span})")
    return lines


def _copy(name: str, source: Buffer, target: Buffer) -> str:
    """A function that copies a state, row by row of the last axis."""
    shape, kind = target.op.shape, TYPES[target.op.dtype.name]
    lead = shape[0].factor if shape and isinstance(shape[0], Dim) else 1
    rows, width = lead, 1
    for extent in shape[1:-1]:
        assert isinstance(extent, int)
        rows *= extent
    if len(shape) > 1:
        assert isinstance(shape[-1], int)
        width = shape[-1]
    sampled = bool(shape) and isinstance(shape[0], Dim)
    if not sampled and shape:
        assert isinstance(shape[0], int)
        rows, width = (rows * shape[0], width) if len(shape) > 1 else (1, shape[0])
    span = f"lo * {rows}, hi * {rows}" if sampled else f"0, {rows}"
    pitches = [(b.layout.strides[-2] if len(shape) > 1 else 1) for b in (source, target)]
    lanes = 16 if width >= 16 else 1
    whole = width // lanes * lanes
    lines = [
        f"def {name}(ctx, lo, hi):",
        f"    lanes({lanes})",
        f"    a = pointer(ctx, {source.slot}, {kind})",
        f"    b = pointer(ctx, {target.slot}, {kind})",
        f"    for r in range({span}):",
    ]
    if lanes == 1:
        lines += [f"        for e in range({width}):", f"            b[r * {pitches[1]} + e] = a[r * {pitches[0]} + e]"]
        return "\n".join(lines) + "\n"
    lines += [
        f"        for e in range(0, {whole}, {lanes}):",
        f"            store(b, r * {pitches[1]} + e, load(a, r * {pitches[0]} + e))",
    ]
    if whole < width:
        rest = width - whole
        lines.append(
            f"        store(b, r * {pitches[1]} + {whole}, load(a, r * {pitches[0]} + {whole}, {rest}), {rest})"
        )
    return "\n".join(lines) + "\n"
