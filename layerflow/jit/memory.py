"""Memory plan: temporaries share one arena where their lives do not overlap.

A life is counted in phases: inside a phase threads and groups of samples are at different kernels, so two values of one
phase never share.  Values that one group of samples hands from kernel to kernel are apart: each thread has memory for
one group of them, which stays in the cache, and their lives are counted in kernels.  Offsets depend on the batch size
through the plan, not through the code: kernels read addresses from the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from layerflow.graph.shapes import TYPICAL, symbols_of, valued
from layerflow.graph.symbolic import Op
from layerflow.jit.schedule import Buffer, Schedule
from layerflow.pages import LINE

Extents = Mapping[str, int]
NO_EXTENTS: Extents = {}
SKEW = 64  # neighbours start a cache line further, so that equal offsets do not fall into one set


@dataclasses.dataclass(frozen=True)
class Life:
    buffer: Buffer
    first: int
    last: int


def lives(plan: Schedule) -> list[Life]:
    """First and last phase of each temporary."""
    first: dict[Op, int] = {}
    last: dict[Op, int] = {}
    for at, phase in enumerate(plan.phases):
        for kernel in phase:
            for op in kernel.group.stored:
                first.setdefault(op, at)
                last[op] = max(last.get(op, at), at)
            for op in kernel.reads:
                last[op] = max(last.get(op, at), at)
    found = []
    for op, buffer in plan.buffers.items():
        if buffer.role == "temporary" and not buffer.local:
            found.append(Life(buffer, first[op], last[op]))
    return found


def size_of(buffer: Buffer, rows: int, threads: int, extents: Extents = NO_EXTENTS) -> int:
    """Bytes of a buffer for batches of `rows`, rounded up so that a masked vector at its end stays inside."""
    rows = min(rows, buffer.local.group) if buffer.local else rows
    count = valued(buffer.elements, extents) * (rows if buffer.per_sample else 1)
    one = -(-count * buffer.op.dtype.itemsize // LINE) * LINE + SKEW
    return one * (threads if buffer.private else 1)


def allocate(plan: Schedule, rows: int, threads: int, extents: Extents = NO_EXTENTS) -> tuple[dict[Op, int], int]:
    """Offsets of the temporaries and the arena's size; `extents`: the largest values of symbols besides the batch."""
    needs = [(life, size_of(life.buffer, rows, threads, extents)) for life in lives(plan)]
    placed, total = _place(sorted(needs, key=lambda need: (-need[1], need[0].buffer.op.serial)))
    return {buffer.op: offset for buffer, offset in placed.items()}, total


def local_buffers(plan: Schedule) -> list[Buffer]:
    """Values that live in a thread's own memory."""
    inner = [b for k in plan.kernels if k.loop for b in k.loop.own]
    return [b for b in (*plan.buffers.values(), *inner) if b.local]


def allocate_local(plan: Schedule, rows: int, extents: Extents = NO_EXTENTS) -> tuple[dict[Buffer, int], int]:
    """Offsets of the values of a group of samples in a thread's own memory, and its size; runs follow one another."""
    offsets: dict[Buffer, int] = {}
    largest = 0
    buffers = local_buffers(plan)
    for run in dict.fromkeys(b.local.run for b in buffers if b.local):
        found = [Life(b, b.local.first, b.local.last) for b in buffers if b.local and b.local.run == run]
        needs = [(life, size_of(life.buffer, rows, 1, extents)) for life in found]
        placed, size = _place(sorted(needs, key=lambda need: (-need[1], need[0].buffer.op.serial)))
        offsets.update(placed)
        largest = max(largest, size)
    return offsets, largest


def _place(needs: list[tuple[Life, int]]) -> tuple[dict[Buffer, int], int]:
    """Each value in turn at the lowest place that is free during its life; offsets and the size of it all."""
    placed: list[tuple[int, int, Life]] = []
    offsets: dict[Buffer, int] = {}
    for life, need in needs:
        busy = sorted(
            (start, end) for start, end, other in placed if other.first <= life.last and life.first <= other.last
        )
        at = 0
        for start, end in busy:
            if at + need <= start:
                break
            at = max(at, end)
        placed.append((at, at + need, life))
        offsets[life.buffer] = at
    return offsets, max((end for _, end, _ in placed), default=0)


def describe(plan: Schedule, rows: int, threads: int) -> str:
    """Text of the stage: the arena for one batch size."""
    extents = {s: TYPICAL for op in plan.graph.inputs for n in op.shape for s in symbols_of(n)}
    offsets, total = allocate(plan, rows, threads, extents)
    lines = [f"arena of {total} bytes for batches of {rows}, {threads} thread(s)"]
    for life in sorted(lives(plan), key=lambda life: offsets[life.buffer.op]):
        op = life.buffer.op
        size = size_of(life.buffer, rows, threads, extents)
        place = f"{offsets[op]:>10}  {size:>10} bytes  phases {life.first}-{life.last}"
        shape = ",".join(map(str, op.shape))
        private = " (one a thread)" if life.buffer.private else ""
        panels = life.buffer.layout.panels
        layout = f" in panels of {panels[0]} columns" if panels else ""
        lines.append(f"  {place}  {op.name} [{shape}]{layout}{private}")
    local, own = allocate_local(plan, rows, extents)
    if own:
        lines.append(f"{own} bytes a thread for groups of samples")
    for buffer, offset in local.items():
        assert buffer.local is not None
        shape = ",".join(map(str, buffer.op.shape))
        span = f"kernels {buffer.local.first}-{buffer.local.last} of {buffer.local.run}"
        lines.append(
            f"  {offset:>10}  {size_of(buffer, rows, 1, extents):>10} bytes  {span}  {buffer.op.name} [{shape}]"
        )
    return "\n".join(lines)
