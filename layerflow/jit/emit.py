"""Emit: a schedule as one module of source: kernels in the kernel language, and the driver that runs them, which Numba compiles."""

from __future__ import annotations

import dataclasses

import numpy as np

from layerflow.graph.symbolic import Op
from layerflow.jit import copies, loops
from layerflow.jit.gemm import GemmNest
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Buffer, Kernel, Schedule, is_sample_local
from layerflow.jit.values import (
    BATCH,
    COUNT,
    FIRST,
    FIRST_SLOT,
    GATHER,
    ITERATION,
    ITERATION_BASE,
    ROWS,
    START,
    STEP,
    STEP_BASE,
    TOTAL,
    TYPES,
)

SAMPLE_GRAIN = 8  # threads take whole groups of this many samples, so that tiles stay whole
CACHE_SHARE = 0.5  # part of the second-level cache that the activations of a group of samples may fill
MIN_GROUP = 64  # samples: smaller groups would read the weights again too often


@dataclasses.dataclass(eq=False)
class Module:
    """Generated code and what the executable must know to call it."""

    plan: Schedule
    kernels: str  # kernel language
    kernel_names: list[str]
    driver: str  # Python for Numba
    slots: int  # length of one thread's context table
    advance: dict[Op, int]  # buffer whose address moves from batch to batch -> slot of (base, stride)
    gathered: list[Op]  # arguments that can be gathered
    work: float  # rough operations a sample (or a run), to choose the number of threads


def emit(plan: Schedule, source_types: dict[Op, np.dtype], vector_bytes: int, registers: int, cache_bytes: int) -> Module:
    """Source of every kernel and of the driver."""
    slots = FIRST_SLOT
    for buffer in plan.buffers.values():
        buffer.slot = slots
        slots += 1
    by_parameter = {b.op: b for b in plan.buffers.values() if b.role == "parameter" and b.parameter is None}
    for buffer in plan.buffers.values():
        if buffer.parameter is not None:
            buffer.slot = by_parameter[buffer.parameter].slot
    texts = [_kernel_source(plan, k, vector_bytes, registers) for k in plan.kernels]
    gathered, gathers = [], []
    for op in plan.graph.inputs:
        buffer = plan.buffers[op]
        if buffer.per_sample:
            gathered.append(op)
            gathers.append(f"gather{len(gathers)}_{op.attrs['name']}")
    advance: dict[Op, int] = {}
    for op in [*gathered, *plan.graph.outputs]:
        advance[op] = slots
        slots += 2
    source_slots = {op: slots + at for at, op in enumerate(gathered)}
    slots += len(gathered)
    for op, name in zip(gathered, gathers, strict=True):
        lanes = _lanes_for([op.dtype, source_types[op]], vector_bytes)
        texts.append(copies.write_gather(plan.buffers[op], source_slots[op], TYPES[source_types[op].name], name, lanes))
    slots = -(-slots // 8) * 8
    driver = _driver(plan, gathers, advance, slots, cache_bytes)
    module = Module(plan, "\n".join(texts), [*(k.name for k in plan.kernels), *gathers], driver, slots, advance, gathered, _work(plan))
    module.source_slots = source_slots  # type: ignore[attr-defined]
    return module


def _lanes_for(dtypes: list[np.dtype], vector_bytes: int) -> int:
    widest = max((d.itemsize for d in dtypes if d.kind == "f"), default=4)
    return max(1, vector_bytes // max(4, widest))


def _kernel_source(plan: Schedule, kernel: Kernel, vector_bytes: int, registers: int) -> str:
    group = kernel.group
    dtypes = [op.dtype for op in (*group.members, *kernel.reads)]
    lanes = _lanes_for(dtypes, vector_bytes)
    if group.kind == "gemm":
        return GemmNest(plan, kernel, lanes, registers).source()
    if group.kind in ("concatenate", "pad", "scatter_add"):
        return copies.write_copy(plan, kernel, lanes)
    return loops.write_kernel(plan, kernel, lanes)


def _bytes_per_sample(plan: Schedule, kernels: list[Kernel]) -> int:
    touched: set[Buffer] = {plan.buffers[op] for k in kernels for op in (*k.reads, *k.group.stored) if plan.buffers[op].per_sample}
    return sum(b.elements * b.op.dtype.itemsize for b in touched)


def group_size(plan: Schedule, kernels: list[Kernel], cache_bytes: int) -> int:
    """Samples that run through all the kernels of a phase before the next ones start: what stays in the second-level cache."""
    per_sample = max(1, _bytes_per_sample(plan, kernels))
    fits = int(cache_bytes * CACHE_SHARE) // per_sample // SAMPLE_GRAIN * SAMPLE_GRAIN
    return max(MIN_GROUP, min(fits, 1 << 16))


def _driver(plan: Schedule, gathers: list[str], advance: dict[Op, int], slots: int, cache_bytes: int) -> str:
    """The function every thread runs: batches, phases, its share of each kernel's range."""
    lines = [
        "def step(ctx, tid, threads):",
        f"    me = ctx + tid * {slots * 8}",
        f"    for b in range(integer(me, {COUNT})):",
        f"        first = (integer(me, {START}) + b) * integer(me, {BATCH})",
        f"        rows = min(integer(me, {BATCH}), integer(me, {TOTAL}) - first)",
        f"        set_integer(me, {ROWS}, rows)",
        f"        set_integer(me, {FIRST}, first)",
        f"        set_integer(me, {STEP}, integer(me, {STEP_BASE}) + b)",
        f"        set_integer(me, {ITERATION}, integer(me, {ITERATION_BASE}) + b)",
    ]
    for op, slot in advance.items():
        lines.append(f"        set_integer(me, {plan.buffers[op].slot}, integer(me, {slot}) + b * integer(me, {slot + 1}))")
    lines += [
        f"        pieces = (rows + {SAMPLE_GRAIN - 1}) // {SAMPLE_GRAIN}",
        f"        lo = pieces * tid // threads * {SAMPLE_GRAIN}",
        f"        hi = min(rows, pieces * (tid + 1) // threads * {SAMPLE_GRAIN})",
    ]
    if gathers:
        lines.append(f"        if integer(me, {GATHER}):")
        lines += [f"            {name}(me, lo, hi)" for name in gathers]
        if not _gather_stays_local(plan):
            lines.append("            barrier(ctx, tid, threads)")
    turn = 0
    for phase in plan.phases:
        body, turn = _phase(plan, phase, cache_bytes, turn)
        lines += [INDENT * 2 + line for line in [*body, "barrier(ctx, tid, threads)"]]
    return "\n".join(lines) + "\n"


def _gather_stays_local(plan: Schedule) -> bool:
    """Whether the first phase reads what was gathered only at its own samples."""
    arguments = {op for op in plan.graph.inputs if plan.buffers[op].per_sample}
    for kernel in plan.phases[0] if plan.phases else []:
        touched = kernel.reads & arguments
        if touched and not (kernel.samples and is_sample_local(plan, kernel, touched)):
            return False
    return True


def _phase(plan: Schedule, phase: list[Kernel], cache_bytes: int, turn: int) -> tuple[list[str], int]:
    lines: list[str] = []
    run: list[Kernel] = []

    def flush() -> None:
        if run:
            size = group_size(plan, run, cache_bytes)
            lines.append(f"for g in range(lo, hi, {size}):")
            lines.append(f"    h = min(g + {size}, hi)")
            lines.extend(f"    {k.name}(me, g, h)" for k in run)
            run.clear()

    for kernel in phase:
        if kernel.samples:
            run.append(kernel)
            continue
        flush()
        if kernel.private:
            lines.append(f"{kernel.name}(me, 0, {kernel.units})")
            continue
        # Kernels of few units start at another thread each time, so that they do not all fall to the same one.
        lines.append(f"s = (tid + {turn}) % threads")
        lines.append(f"if {kernel.units} * (s + 1) // threads > {kernel.units} * s // threads:")
        lines.append(f"    {kernel.name}(me, {kernel.units} * s // threads, {kernel.units} * (s + 1) // threads)")
        turn += kernel.units < 8
    flush()
    return lines, turn


def _work(plan: Schedule) -> float:
    """Multiply-adds, about: of one sample if the plan has a batch, else of a run."""
    total = 0.0
    for kernel in plan.kernels:
        group = kernel.group
        sizes = [_count(op) for op in group.members]
        if group.kind == "gemm":
            a = group.anchor.inputs[0].shape
            depth = a[-2] if group.anchor.attrs["transpose_a"] else a[-1]
            total += _count(group.anchor) * (depth if isinstance(depth, int) else depth.factor)
        total += sum(sizes)
    return total


def _count(op: Op) -> float:
    out = 1.0
    for extent in op.shape:
        out *= extent if isinstance(extent, int) else extent.factor
    return out


