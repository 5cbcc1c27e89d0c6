"""Emit: a schedule as one module of source.

The kernels are in the kernel language; the driver that runs them is Python, which Numba compiles.
"""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from layerflow.graph import shapes
from layerflow.graph.shapes import code
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import attention_nests, copies, folds, grouping, memory, recurrence, rows, winograd_nests
from layerflow.jit.contraction import SHARDS, ends_part, is_sharded, multiply_adds
from layerflow.jit.convolution import ConvolutionNest, KernelGradientNest
from layerflow.jit.fusion import COPIES
from layerflow.jit.gemm import GemmNest
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Buffer, Kernel, Schedule, is_sample_local
from layerflow.jit.sharing import share
from layerflow.jit.tiles import TileNest
from layerflow.jit.values import (
    BATCH,
    COUNT,
    FIRST,
    FIRST_SLOT,
    GATHER,
    HI,
    ITERATION,
    ITERATION_BASE,
    LO,
    ROWS,
    SHARD,
    START,
    STEP,
    STEP_BASE,
    TID,
    TOTAL,
    TYPES,
)

ZEROS = 16  # elements cleared at a time
TILES: dict[str, type[TileNest]] = {  # kind of group -> its nest
    "gemm": GemmNest,
    "convolve": ConvolutionNest,
    "convolve_kernel": KernelGradientNest,
}


@dataclasses.dataclass(eq=False)
class Module:
    """Generated code and what the executable must know to call it."""

    plan: Schedule
    kernels: str  # kernel language
    driver: str  # Python for Numba
    slots: int  # length of one thread's context table
    advance: dict[Op, int]  # buffer whose address moves from batch to batch -> slot of (base, stride)
    source_slots: dict[Op, int]  # argument that can be gathered -> slot of the caller's array
    symbols: dict[str, int]  # extent known only at run time -> slot
    local_slots: dict[Buffer, int]  # value of a group of samples -> slot of the memory that every group uses
    work: float  # rough operations a sample (or a run), to choose the number of threads


def emit(
    plan: Schedule, source_types: dict[Op, np.dtype], vector_bytes: int, registers: int, cache_bytes: int
) -> Module:
    """Source of every kernel and of the driver."""
    grouping.keep_local(plan, cache_bytes)
    slots = FIRST_SLOT
    for buffer in (*plan.buffers.values(), *(b for k in plan.kernels if k.loop for b in k.loop.inner)):
        buffer.slot = slots
        slots += 1
    by_parameter = {b.op: b for b in plan.buffers.values() if b.role == "parameter" and b.parameter is None}
    for buffer in plan.buffers.values():
        if buffer.parameter is not None:
            buffer.slot = by_parameter[buffer.parameter].slot
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
    local_slots = {b: slots + at for at, b in enumerate(memory.local_buffers(plan))}
    slots += len(local_slots)
    symbols = {name: slots + at for at, name in enumerate(_symbols(plan))}
    slots += len(symbols)

    def write(plan: Schedule, kernel: Kernel) -> str:
        if kernel.loop:
            return recurrence.source(plan, kernel, local_slots, write)
        return _kernel_source(plan, kernel, vector_bytes, registers, cache_bytes)

    texts = share([write(plan, k) for k in plan.kernels])
    for op, name in zip(gathered, gathers, strict=True):
        lanes = _lanes_for([op.dtype, source_types[op]], vector_bytes)
        texts.append(copies.write_gather(plan.buffers[op], source_slots[op], TYPES[source_types[op].name], name, lanes))
    slots = -(-slots // 8) * 8
    driver, groups = _driver(plan, gathers, slots, cache_bytes, local_slots, symbols)
    texts += [_begin(plan, advance), groups]
    kernels = _with_symbols("\n".join(texts), {shapes.BATCH: ROWS, **symbols})
    return Module(plan, kernels, driver, slots, advance, source_slots, symbols, local_slots, _work(plan))


def _symbols(plan: Schedule) -> list[str]:
    """Extents besides the batch that are known only at run time."""
    found = {s for op in plan.graph.inputs for n in op.shape for s in shapes.symbols_of(n)}
    return sorted(found - {shapes.BATCH})


def _with_symbols(source: str, symbols: dict[str, int]) -> str:
    """The source with the symbols that a function uses loaded in its head."""
    functions = re.split(r"^(?=def )", source, flags=re.MULTILINE)
    for at, text in enumerate(functions):
        used = [name for name in symbols if re.search(rf"\b{name}\b", text)]
        loads = "".join(f"\n{INDENT}{name} = integer(ctx, {symbols[name]})" for name in used)
        functions[at] = re.sub(r"(?m)^    lanes\(.*\)$", lambda found, loads=loads: found[0] + loads, text, count=1)
    return "".join(functions)


def _lanes_for(dtypes: list[np.dtype], vector_bytes: int) -> int:
    widest = max((d.itemsize for d in dtypes if d.kind == "f"), default=4)
    return max(1, vector_bytes // max(4, widest))


def _kernel_source(plan: Schedule, kernel: Kernel, vector_bytes: int, registers: int, cache_bytes: int) -> str:
    group = kernel.group
    dtypes = [op.dtype for op in (*group.members, *kernel.reads)]
    lanes = _lanes_for(dtypes, vector_bytes)
    if group.kind in TILES:
        text = TILES[group.kind](plan, kernel, lanes, registers).source()
        return f"{GemmNest(plan, kernel, lanes, registers).pack_source()}\n{text}" if kernel.packed else text
    if group.kind in attention_nests.NESTS:
        return attention_nests.NESTS[group.kind](plan, kernel, lanes, registers).source()
    if group.kind in winograd_nests.NESTS:
        return winograd_nests.NESTS[group.kind](plan, kernel, lanes, registers, cache_bytes).source()
    if group.kind in COPIES:
        return copies.write_copy(plan, kernel, lanes)
    if group.kind in rows.NESTS:
        return rows.write_rows(plan, kernel, lanes)
    if group.kind == "shards":
        return folds.write_shards(plan, kernel, lanes)
    if copies.is_transpose(plan, kernel):
        return copies.write_transpose(plan, kernel, lanes)
    return folds.write_kernel(plan, kernel, lanes)


def has_shards(plan: Schedule) -> bool:
    """Whether samples are summed in parts."""
    return any(is_sharded(k.group.anchor) for k in plan.kernels)


def _begin(plan: Schedule, advance: dict[Op, int]) -> str:
    """What each thread does at the start of a batch: counters, moving addresses, its share of the samples."""
    grain = grouping.grain(_work(plan))
    lines = [
        "def begin(ctx, lo, hi):",
        '    """batch lo of this call, for one of hi threads"""',
        "    lanes(1)",
        f"    size = integer(ctx, {BATCH})",
        f"    first = (integer(ctx, {START}) + lo) * size",
        f"    rows = minimum(size, integer(ctx, {TOTAL}) - first)",
        f"    set_integer(ctx, {ROWS}, rows)",
        f"    set_integer(ctx, {FIRST}, first)",
        f"    set_integer(ctx, {STEP}, integer(ctx, {STEP_BASE}) + lo)",
        f"    set_integer(ctx, {ITERATION}, integer(ctx, {ITERATION_BASE}) + lo)",
    ]
    for op, slot in advance.items():
        lines.append(
            f"    set_integer(ctx, {plan.buffers[op].slot}, integer(ctx, {slot}) + lo * integer(ctx, {slot + 1}))"
        )
    lines += [
        f"    pieces = (rows + {grain - 1}) // {grain}",
        f"    tid = integer(ctx, {TID})",
    ]
    for slot, turn in ((LO, "tid"), (HI, "(tid + 1)")):
        # Where samples are summed in parts, a thread has whole parts.
        first = f"{SHARDS} * {turn} // hi * pieces // {SHARDS}" if has_shards(plan) else f"pieces * {turn} // hi"
        lines.append(f"    set_integer(ctx, {slot}, minimum(rows, {first} * {grain}))")
    return "\n".join(lines) + "\n"


def _driver(
    plan: Schedule, gathers: list[str], slots: int, cache_bytes: int, local: dict[Buffer, int], symbols: dict[str, int]
) -> tuple[str, str]:
    """The function every thread runs, and the kernel-language functions that run sample kernels group by group."""
    lines = [
        "def step(ctx, tid, threads):",
        f"    me = ctx + tid * {slots * 8}",
        *(f"    {name} = integer(me, {slot})" for name, slot in symbols.items()),
        f"    for b in range(integer(me, {COUNT})):",
        "        begin(me, b, threads)",
    ]
    body: list[str] = []
    groups: list[str] = []
    if gathers:
        groups.append(_gather_all(gathers))
        body += [f"if integer(me, {GATHER}):", f"    gather(me, integer(me, {LO}), integer(me, {HI}))"]
        if not _gather_stays_local(plan):
            body.append("    barrier(ctx, tid, threads)")
    turn = 0
    for phase in plan.phases:
        turn = _phase(plan, phase, cache_bytes, turn, body, groups, local)
        body.append("barrier(ctx, tid, threads)")
    return "\n".join([*lines, *(INDENT * 2 + line for line in body)]) + "\n", "\n".join(groups)


def _gather_all(gathers: list[str]) -> str:
    calls = [f"    {name}(ctx, lo, hi)" for name in gathers]
    return "\n".join(["def gather(ctx, lo, hi):", "    lanes(1)", *calls]) + "\n"


def _sequence(name: str, kernels: list[Kernel], size: int, moves: list[str]) -> str:
    """A kernel-language function that calls kernels one after another on each group of samples."""
    lines = [f"def {name}(ctx, lo, hi):", "    lanes(1)"]
    lines += [f"    {line}" for line in _groups("lo", "hi", size, [*moves, *(f"{k.name}(ctx, g, h)" for k in kernels)])]
    return "\n".join(lines) + "\n"


def _groups(first: str, last: str, size: int, inside: list[str]) -> list[str]:
    """A loop over groups of samples of nearly the same size, at most `size`."""
    return [
        f"count = ({last} - {first} + {size - 1}) // {size}",
        "for n in range(count):",
        f"    g = {first} + ({last} - {first}) * n // count",
        f"    h = {first} + ({last} - {first}) * (n + 1) // count",
        *(INDENT + line for line in inside),
    ]


def _moves(plan: Schedule, kernels: list[Kernel], local: dict[Buffer, int]) -> list[str]:
    """Statements that put the memory of one group where the kernels look for its samples."""
    stored = [plan.buffers[op] for k in kernels for op in k.group.stored if not is_sharded(op)]
    moved = [(buffer, local[buffer]) for buffer in stored if buffer in local]
    return [
        f"set_integer(ctx, {buffer.slot}, integer(ctx, {slot}) - g * {code(buffer.bytes_per_sample)})"
        for buffer, slot in moved
    ]


def _sharded_sequence(
    name: str, plan: Schedule, kernels: list[Kernel], size: int, moves: list[str], local: dict[Buffer, int]
) -> str:
    """The same for parts lo to hi of the batch, whose sums begin at zero."""
    grain = grouping.grain(_work(plan))
    ends = [k for k in kernels if ends_part(k.group.anchor)]
    kernels = [k for k in kernels if k not in ends]
    sums = [plan.buffers[op] for k in kernels for op in k.group.stored if is_sharded(op)]
    lines = [f"def {name}(ctx, lo, hi):", f"    lanes({ZEROS})"]
    lines += [f"    set_integer(ctx, {b.slot}, integer(ctx, {local[b]}))" for b in sums if b.local]
    lines += [f"    p{b.slot} = pointer(ctx, {b.slot}, {TYPES[b.op.dtype.name]})" for b in sums]
    lines += [
        f"    rows = integer(ctx, {ROWS})",
        f"    pieces = (rows + {grain - 1}) // {grain}",
        "    for s in range(lo, hi):",
        f"        set_integer(ctx, {SHARD}, s)",
    ]
    lines += [f"        {line}" for b in sums for line in _cleared(b)]
    lines += [
        f"        last = minimum(rows, (s + 1) * pieces // {SHARDS} * {grain})",
        f"        first = minimum(rows, s * pieces // {SHARDS} * {grain})",
    ]
    calls = [f"{k.name}(ctx, g, h)" for k in kernels]
    lines += [f"        {line}" for line in _groups("first", "last", size, [*moves, *calls])]
    lines += [f"        {k.name}(ctx, 0, {code(k.units)})" for k in ends]
    return "\n".join(lines) + "\n"


def _cleared(buffer: Buffer) -> list[str]:
    """Statements that set one part of a sum to zero."""
    size = shapes.static(buffer.elements if buffer.local else buffer.layout.per_row)
    pointer, part, kind = f"p{buffer.slot}", "0" if buffer.local else f"s * {size}", TYPES[buffer.op.dtype.name]
    whole = size // ZEROS * ZEROS
    lines = [
        f"for e in range(0, {whole}, {ZEROS}):",
        f"    store({pointer}, {part} + e, zeros({kind}))",
    ]
    rest = f"store({pointer}, {part} + {whole}, zeros({kind}), {size - whole})"
    return [*(lines if whole else []), *([rest] if whole < size else [])]


def _gather_stays_local(plan: Schedule) -> bool:
    """Whether the first phase reads what was gathered only at its own samples."""
    arguments = {op for op in plan.graph.inputs if plan.buffers[op].per_sample}
    for kernel in plan.phases[0] if plan.phases else []:
        touched = kernel.reads & arguments
        if touched and not (kernel.samples and is_sample_local(plan, kernel, touched)):
            return False
    return True


def _phase(
    plan: Schedule,
    phase: list[Kernel],
    cache_bytes: int,
    turn: int,
    body: list[str],
    groups: list[str],
    local: dict[Buffer, int],
) -> int:
    """Driver lines of one phase; returns the thread at which the next kernel of few units starts."""
    run: list[Kernel] = []

    def flush() -> None:
        for part in grouping.segments(plan, run):
            name = f"samples{len(groups)}"
            size, moves = grouping.group_size(plan, part, cache_bytes), _moves(plan, part, local)
            if any(is_sharded(k.group.anchor) for k in part):
                groups.append(_sharded_sequence(name, plan, part, size, moves, local))
                body.append(f"{name}(me, cut({SHARDS}, tid, threads), cut({SHARDS}, tid + 1, threads))")
            else:
                groups.append(_sequence(name, part, size, moves))
                body.append(f"{name}(me, integer(me, {LO}), integer(me, {HI}))")
        run.clear()

    for kernel in phase:
        if kernel.samples:
            run.append(kernel)
            continue
        flush()
        if kernel.private:
            body.append(f"{kernel.name}(me, 0, {code(kernel.units)})")
            continue
        # Kernels of few units start at another thread each time, so that they do not all fall to the same one.
        at = f"turn(tid, {turn}, threads)" if turn else "tid"
        units = code(kernel.units)
        body.append(f"{kernel.name}(me, cut({units}, {at}, threads), cut({units}, {at} + 1, threads))")
        turn += isinstance(kernel.units, int) and kernel.units < 8
    flush()
    return turn


def _work(plan: Schedule) -> float:
    """Multiply-adds, about: of one sample if the plan has a batch, else of a run."""
    total = 0.0
    for kernel in plan.kernels:
        group = kernel.group
        if kernel.loop:
            total += shapes.typical(kernel.loop.length) * _work(kernel.loop.plan)
            continue
        sizes = [_count(op) for op in (rows.updates_of(group) if group.kind == "update_rows" else group.members)]
        total += sum(multiply_adds(op) for op in group.members if op.primitive.kind is Kind.CONTRACT)
        total += sum(sizes)
    return total


def _count(op: Op) -> float:
    return float(math.prod(map(shapes.typical, op.shape)))
