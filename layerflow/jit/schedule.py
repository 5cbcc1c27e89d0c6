"""Schedule: groups become kernels with a parallel range, kernels become phases between barriers, values get buffers.

Free of CPU words, so that another target can start from it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from layerflow.graph import shapes
from layerflow.graph.ir import Graph
from layerflow.graph.shapes import Extent
from layerflow.graph.symbolic import CONSTANT, INPUT, PARAMETER, Kind, Op
from layerflow.jit import access, attention
from layerflow.jit.access import Layout
from layerflow.jit.contraction import contraction, ends_part, fold_index, is_sample_work, is_sharded, sample_of
from layerflow.jit.groups import Group
from layerflow.jit.index import Index, Ranges

# A value this small that needs no samples is computed by every thread for itself, which saves a barrier.
PRIVATE_BYTES = 1 << 16
ALIAS_BYTES = 2048  # rows of a multiple of this length collide in the first-level cache


@dataclasses.dataclass(frozen=True)
class Local:
    """Where a value of a group of samples, or of a part of the batch, lives: the group's size, and when, counted in
    kernels of its run."""

    run: str
    group: int
    first: int
    last: int


@dataclasses.dataclass(eq=False)
class Buffer:
    """Where a value lives.  role: argument, parameter, constant, output, scalar (set before each run) or temporary."""

    op: Op
    layout: Layout
    role: str
    slot: int = -1
    private: bool = False  # one copy a thread
    parameter: Op | None = None  # for an update: the parameter whose storage it overwrites
    local: Local | None = None  # for a value that lives while one group of samples is worked on
    by_step: bool = False  # [batch, steps, ...] that lies in memory as [steps, batch, ...]

    @property
    def elements(self) -> Extent:
        """Elements, for each sample if the leading extent is the batch."""
        shape, strides = self.layout.shape, self.layout.strides
        if not shape:
            return 1
        batch = access.batch_of(shape)
        lead = shape[0] if batch is None else batch.factor
        if self.layout.panels:
            lead *= shapes.divide(shape[-1], self.layout.panels[0])
        return lead * strides[0] if len(shape) > 1 else lead

    @property
    def bytes_per_sample(self) -> Extent:
        return self.elements * self.op.dtype.itemsize

    @property
    def per_sample(self) -> bool:
        return access.batch_of(self.layout.shape) is not None


@dataclasses.dataclass(eq=False)
class Kernel:
    """One loop nest.  `samples`: its parallel range is the batch, else `units` pieces of work."""

    name: str
    group: Group
    samples: bool
    private: bool = False
    units: Extent = 1
    scratch: tuple[int, Extent] = (0, 0)  # bytes of working memory a thread needs: always, and for each sample
    reads: set[Op] = dataclasses.field(default_factory=set)
    loop: Any = None  # of a loop kernel: recurrence.Loop
    packed: Buffer | None = (
        None  # of a product in a loop: where its right operand lies packed, made before the first step
    )
    rows_first: bool = False  # of such a product: all columns for one tile of rows after the other
    packed_from: int = 1  # rows from which it is read
    starts_with_zeros: bool = False  # of a product in a loop: it is zero at the first step
    all_but_last: bool = False  # of a kernel in a loop: nobody reads what it makes at the last step


@dataclasses.dataclass(eq=False)
class Schedule:
    graph: Graph
    kernels: list[Kernel]
    phases: list[list[Kernel]]
    buffers: dict[Op, Buffer]
    updates: dict[Op, Op]  # new value -> parameter


def schedule(graph: Graph, groups: list[Group]) -> Schedule:
    updates = {value: parameter for parameter, value in graph.updates}
    buffers = _buffers(graph, groups, updates)
    kernels = [_kernel(at, group) for at, group in enumerate(groups)]
    result = Schedule(graph, kernels, [], buffers, updates)
    _make_private(result)
    result.phases = _phases(result)
    return result


def _layout(op: Op, padded: bool) -> Layout:
    last = op.shape[-1] if op.shape else 1
    if padded and len(op.shape) > 1 and isinstance(last, int) and last and last * op.dtype.itemsize % ALIAS_BYTES == 0:
        return access.dense(op.shape, last + 64 // op.dtype.itemsize)
    return access.dense(op.shape)


def _buffers(graph: Graph, groups: list[Group], updates: dict[Op, Op]) -> dict[Op, Buffer]:
    found: dict[Op, Buffer] = {}
    for op in graph.ops:
        if op.primitive is PARAMETER:
            strides = tuple(s // op.dtype.itemsize for s in op.payload._storage.strides)
            found[op] = Buffer(op, Layout(op.shape, strides), "parameter")
        elif op.primitive is CONSTANT:
            found[op] = Buffer(op, access.dense(op.shape), "constant")
        elif op.primitive is INPUT:
            scalar = op not in graph.inputs
            # A batch is gathered into place; other arguments are used where they are.
            padded = access.batch_of(op.shape) is not None
            found[op] = Buffer(op, _layout(op, padded), "scalar" if scalar else "argument")
    for group in groups:
        for op in group.stored:
            if op in updates:
                parameter = updates[op]
                found[op] = Buffer(op, found[parameter].layout, "parameter", parameter=parameter)
            elif op in graph.outputs:
                found[op] = Buffer(op, access.dense(op.shape), "output")
            elif op.name == "loop_part":
                found[op] = Buffer(op, access.dense(op.shape), "temporary")
            else:
                found[op] = Buffer(op, _layout(op, padded=True), "temporary")
    return found


def _kernel(at: int, group: Group) -> Kernel:
    layers = [m.layer for m in group.members if m.layer]
    label = re.sub(r"\W", "_", layers[0]) if layers else group.anchor.name
    return Kernel(f"k{at}_{label}_{group.kind}", group, is_sample_work(group.anchor))


def _stored_reads(kernel: Kernel, buffers: dict[Op, Buffer]) -> set[Op]:
    """Buffers that the kernel reads from, found through inlined ops."""
    found: set[Op] = set()
    members = set(kernel.group.members)
    stack = [i for m in kernel.group.members for i in m.inputs]
    seen: set[Op] = set()
    while stack:
        op = stack.pop()
        if op in seen or op in members:
            continue
        seen.add(op)
        if op in buffers:
            found.add(op)
        else:
            stack.extend(op.inputs)
    return found


def _make_private(plan: Schedule) -> None:
    """Small values made from parameters and scalars alone are computed by each thread for itself."""
    producers = {op: k for k in plan.kernels for op in k.group.stored}
    for kernel in plan.kernels:
        kernel.reads = _stored_reads(kernel, plan.buffers)
    for kernel in plan.kernels:
        small = all(
            plan.buffers[op].role == "temporary"
            and shapes.is_static(op.shape)
            and plan.buffers[op].elements * op.dtype.itemsize <= PRIVATE_BYTES
            for op in kernel.group.stored
        )
        pure = all(op not in producers or producers[op].private for op in kernel.reads)
        fed = not any(plan.buffers[op].per_sample for op in kernel.reads)
        used_early = any(k.samples for k in plan.kernels if k.reads & set(kernel.group.stored))
        kernel.private = not kernel.samples and small and pure and fed and used_early
        if kernel.private:
            for op in kernel.group.stored:
                plan.buffers[op].private = True


def _phases(plan: Schedule) -> list[list[Kernel]]:
    """Cuts the kernels where one needs what another thread may not have finished."""
    phases: list[list[Kernel]] = [[]]
    for kernel in plan.kernels:
        if any(_conflict(plan, earlier, kernel) for earlier in phases[-1]):
            # Work on samples that nobody waits for yet comes along, so that its values stay in the cache.
            along = 0
            while kernel.samples and _may_follow(plan, phases[-1], along, kernel):
                along += 1
            at = len(phases[-1]) - along
            phases.append(phases[-1][at:])
            del phases[-2][at:]
        phases[-1].append(kernel)
    return phases


def _may_follow(plan: Schedule, phase: list[Kernel], along: int, kernel: Kernel) -> bool:
    """Whether the last kernel of a phase but `along` may go to the next one with `kernel`: sample work, no conflict."""
    if along >= len(phase) - 1:
        return False
    last = phase[-1 - along]
    return last.samples and not _conflict(plan, last, kernel)


def _conflict(plan: Schedule, first: Kernel, second: Kernel) -> bool:
    """Whether `second` may touch, in one thread, what `first` still works on in another."""
    if first.private or second.private:
        return _overwrites(plan, first, second) and not (first.private and second.private)
    shared = second.reads & set(first.group.stored)
    if _overwrites(plan, first, second):
        return True
    return bool(shared) and not (first.samples and second.samples and is_sample_local(plan, second, shared))


def _overwrites(plan: Schedule, first: Kernel, second: Kernel) -> bool:
    def written(k: Kernel) -> set[Op]:
        return {plan.updates[op] for op in k.group.stored if op in plan.updates}

    return bool(written(second) & (first.reads | written(first)) or written(first) & second.reads)


def is_sample_local(plan: Schedule, kernel: Kernel, shared: set[Op]) -> bool:
    """Whether the kernel's work on a sample reads these values at the same sample only."""
    ranges = Ranges()
    group = kernel.group
    if ends_part(group.anchor):  # a part is finished by the thread that makes it
        return all(is_sharded(op) for op in shared)
    sample = sample_of(group.anchor, group.domain, group.variables(ranges), ranges)
    for member in group.members:
        for source, index in member_reads(member, group, plan.buffers, ranges):
            if source in shared and source not in group.members:
                lead = access.batch_of(source.shape)
                if lead is None or ranges.divide(index[0], lead.factor) != sample:
                    return False
    return True


def member_reads(
    member: Op, group: Group, buffers: dict[Op, Buffer], ranges: Ranges
) -> list[tuple[Op, tuple[Index, ...]]]:
    """Stored values a member reads, with the index in terms of the group's loop variables (k, r: folded axes)."""
    members = set(group.members)

    def stops(op: Op) -> bool:
        return op in buffers or op in members or op in group.added

    def expand(op: Op, index: tuple[Index, ...]) -> list[tuple[Op, tuple[Index, ...]]]:
        return (
            [(op, index)]
            if stops(op) or op.primitive.kind is Kind.LEAF
            else list(access.inline_references(op, index, stops, ranges))
        )

    variables = group.variables(ranges)
    if group.kind == "loop":
        return [p for x, at in _loop_reads(member, group, ranges) for p in expand(x, at)]
    if group.kind in attention.GROUPS:
        return [p for x, at in attention.own_sample(member, variables[0], ranges) for p in expand(x, at)]
    if member.primitive.kind is Kind.CONTRACT:
        reads = []
        for product in (member, *group.added):
            found = contraction(product, variables, ranges)
            reads += [*expand(product.inputs[0], found.left), *expand(product.inputs[1], found.right)]
        return reads
    if member.primitive.kind is Kind.REDUCE:
        index = variables if group.kind == "row" else fold_index(member, variables, ranges)
        return expand(member.inputs[0], index)
    if member.name in ("scatter_add", "winograd_kernel", "winograd_fold"):
        unknown = tuple(ranges.declare(f"s{k}", None) for k in range(8))
        return [pair for x in member.inputs for pair in expand(x, unknown[: len(x.shape)])]
    if group.kind == "overlap_add":
        rest = tuple(ranges.declare(f"o{k}", None) for k in range(len(member.inputs[0].shape) - 1))
        return expand(member.inputs[0], (variables[0], *rest))
    if group.kind in ("concatenate", "pad"):
        moved = tuple(ranges.declare(f"i{k}" if k == 0 else f"p{k}", None) for k in range(len(member.shape)))
        axis = member.attrs.get("axis")
        lead = variables[0] if axis != 0 else ranges.declare("p0", None)
        return [pair for x in member.inputs for pair in expand(x, (lead, *moved[1:]))]
    return list(access.inline_references(member, group.index_of(member, ranges), stops, ranges))


def _loop_reads(member: Op, group: Group, ranges: Ranges) -> list[tuple[Op, tuple[Index, ...]]]:
    """What a loop reads of its operands: anything of its sample."""
    if member is not group.anchor:
        return []
    found: list[tuple[Op, tuple[Index, ...]]] = []
    for at, x in enumerate(member.inputs):
        index = tuple(ranges.declare(f"s{at}_{k}", n) for k, n in enumerate(x.shape))
        sampled = access.batch_of(x.shape) is not None
        found.append((x, (*group.variables(ranges)[:1], *index[1:]) if sampled else index))
    return found


def describe(
    plan: Schedule, explain: Callable[[Op], str] = lambda op: "", remark: Callable[[Kernel], str] = lambda kernel: ""
) -> str:
    """Text of the stage: phases, kernels with their parallel range, what they read and write.

    `explain` says of an operation, and `remark` of a kernel, why it runs as it does.
    """
    lines = []
    for at, phase in enumerate(plan.phases):
        lines.append(f"phase {at}")
        for kernel in phase:
            head, *rest = _described(plan, kernel, explain)
            lines += [head, *([f"    {text}"] if (text := remark(kernel)) else []), *rest]
    return "\n".join(lines)


def _described(plan: Schedule, kernel: Kernel, explain: Callable[[Op], str]) -> list[str]:
    span = "samples" if kernel.samples else "every thread" if kernel.private else f"{kernel.units} units"
    also = ", the first step without the product of zeros" * kernel.starts_with_zeros
    lines = [f"  {kernel.name}: {span}{also}{', the last step without it' * kernel.all_but_last}"]
    lines += [f"    {text}" for member in kernel.group.members if (text := explain(member))]
    names = [_name(op, plan) for op in sorted(kernel.reads, key=lambda op: op.serial)]
    lines.append(f"    reads  {', '.join(names)}")
    lines.append(f"    writes {', '.join(_name(op, plan) for op in kernel.group.stored)}")
    if kernel.loop:
        lines.append(f"    {kernel.loop.length} steps{', from the last to the first' * kernel.loop.reverse}")
        for inside in kernel.loop.plan.kernels:
            lines += [f"    {line}" for line in _described(kernel.loop.plan, inside, explain)]
    return lines


def _name(op: Op, plan: Schedule) -> str:
    buffer = plan.buffers[op]
    label = op.payload.name if op.primitive is PARAMETER else op.attrs["name"] if op.primitive is INPUT else op.name
    if buffer.parameter is not None:
        label = buffer.parameter.payload.name
    extents = ",".join(map(str, op.shape))
    return f"{label}[{extents}]"
