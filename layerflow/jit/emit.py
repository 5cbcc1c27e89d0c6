"""Emit: a schedule as one module of source in the kernel language: kernels and the driver that runs them."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from layerflow.graph import shapes
from layerflow.graph.symbolic import Op
from layerflow.jit import attention_nests, copies, folds, grouping, memory, recurrence, rows, skipping, winograd_nests
from layerflow.jit.convolution import ConvolutionNest, KernelGradientNest
from layerflow.jit.driver import Driver
from layerflow.jit.fusion import COPIES
from layerflow.jit.gemm import GemmNest
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Buffer, Kernel, Schedule
from layerflow.jit.sharing import share
from layerflow.jit.tiles import TileNest
from layerflow.jit.values import (
    FIRST_SLOT,
    ROWS,
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
    source: str  # kernels and driver
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

    def write(own: Schedule, kernel: Kernel) -> str:
        if kernel.loop:
            return recurrence.source(own, kernel, local_slots, write)
        return _kernel_source(own, kernel, vector_bytes, registers, cache_bytes, own is plan)

    texts = share([write(plan, k) for k in plan.kernels])
    for op, name in zip(gathered, gathers, strict=True):
        lanes = _lanes_for([op.dtype, source_types[op]], vector_bytes)
        texts.append(copies.write_gather(plan.buffers[op], source_slots[op], TYPES[source_types[op].name], name, lanes))
    slots = -(-slots // 8) * 8
    work = grouping.work(plan)
    helpers, step = Driver(plan, gathers, advance, slots, cache_bytes, local_slots, work).source(symbols)
    functions = _with_symbols("\n".join([*texts, helpers]), {shapes.BATCH: ROWS, **symbols})
    return Module(plan, f"{functions}\n{step}", slots, advance, source_slots, symbols, local_slots, work)


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


def _kernel_source(
    plan: Schedule, kernel: Kernel, vector_bytes: int, registers: int, cache_bytes: int, skips: bool
) -> str:
    group = kernel.group
    dtypes = [op.dtype for op in (*group.members, *kernel.reads)]
    lanes = _lanes_for(dtypes, vector_bytes)
    if skips and (forms := skipping.forms(kernel, lanes)):
        return skipping.source(plan, kernel, lanes, registers, forms)
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
