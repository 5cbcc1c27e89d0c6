"""The driver: kernel-language functions that run a module's kernels, phase by phase, on every thread."""

from __future__ import annotations

import dataclasses

from layerflow.graph import shapes
from layerflow.graph.shapes import code
from layerflow.graph.symbolic import Op
from layerflow.jit import grouping
from layerflow.jit.contraction import SHARDS, ends_part, is_sharded
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Buffer, Kernel, Schedule, is_sample_local
from layerflow.jit.values import (
    BATCH,
    COUNT,
    FIRST,
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
FEW = 8  # units: a kernel of fewer leaves threads idle


@dataclasses.dataclass
class Driver:
    """What runs the kernels of a schedule."""

    plan: Schedule
    gathers: list[str]  # functions that gather the inputs
    advance: dict[Op, int]  # buffer whose address moves from batch to batch -> slot of (base, stride)
    slots: int  # length of one thread's context table
    cache_bytes: int
    local: dict[Buffer, int]  # value of a group of samples -> slot of the memory that every group uses
    work: float  # rough operations a sample (or a run)

    def __post_init__(self) -> None:
        self.grain = grouping.grain(self.work)
        self.groups: list[str] = []  # functions that run kernels group by group
        self.turn = 0  # thread at which the next kernel of few units starts

    def source(self, symbols: dict[str, int]) -> tuple[str, str]:
        """The functions that `step` calls, and `step(ctx, tid, threads)`, which every thread runs.

        Args:
            symbols: extent known only at run time -> slot.
        """
        head = [
            "def step(ctx, tid, threads):",
            "    lanes(1)",
            f"    me = ctx + tid * {self.slots * 8}",
            *(f"    {name} = integer(me, {slot})" for name, slot in symbols.items()),
            f"    for b in range(integer(me, {COUNT})):",
            "        begin(me, b, threads)",
        ]
        body: list[str] = []
        if self.gathers:
            self.groups.append(_gather_all(self.gathers))
            body += [f"if integer(me, {GATHER}) != 0:", f"    gather_inputs(me, integer(me, {LO}), integer(me, {HI}))"]
            if not self._gather_stays_local():
                body.append("    barrier(ctx, tid, threads)")
        for phase in self.plan.phases:
            body += [*self._phase(phase), "barrier(ctx, tid, threads)"]
        step = "\n".join([*head, *(INDENT * 2 + line for line in body)]) + "\n"
        return "\n".join([self._begin(), *self.groups]), step

    def _begin(self) -> str:
        """What each thread does at the start of a batch: counters, moving addresses, its share of the samples."""
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
        for op, slot in self.advance.items():
            at = f"integer(ctx, {slot}) + lo * integer(ctx, {slot + 1})"
            lines.append(f"    set_integer(ctx, {self.plan.buffers[op].slot}, {at})")
        lines += [f"    pieces = (rows + {self.grain - 1}) // {self.grain}", f"    tid = integer(ctx, {TID})"]
        # Where samples are summed in parts, a thread has whole parts.
        in_parts = any(is_sharded(k.group.anchor) for k in self.plan.kernels)
        for slot, turn in ((LO, "tid"), (HI, "(tid + 1)")):
            first = f"{SHARDS} * {turn} // hi * pieces // {SHARDS}" if in_parts else f"pieces * {turn} // hi"
            lines.append(f"    set_integer(ctx, {slot}, minimum(rows, {first} * {self.grain}))")
        return "\n".join(lines) + "\n"

    def _gather_stays_local(self) -> bool:
        """Whether the first phase reads what was gathered only at its own samples."""
        arguments = {op for op in self.plan.graph.inputs if self.plan.buffers[op].per_sample}
        for kernel in self.plan.phases[0] if self.plan.phases else []:
            touched = kernel.reads & arguments
            if touched and not (kernel.samples and is_sample_local(self.plan, kernel, touched)):
                return False
        return True

    def _phase(self, phase: list[Kernel]) -> list[str]:
        """Lines of one phase; functions that they need go to `groups`."""
        body: list[str] = []
        run: list[Kernel] = []
        for kernel in phase:
            if kernel.samples:
                run.append(kernel)
                continue
            body += self._samples(run)
            run = []
            if kernel.private:
                body.append(f"{kernel.name}(me, 0, {code(kernel.units)})")
                continue
            # Kernels of few units start at another thread each time, so that they do not all fall to the same one.
            at = f"((tid + {self.turn}) % threads)" if self.turn else "tid"
            body.append(f"{kernel.name}(me, {_share(code(kernel.units), at)})")
            self.turn += isinstance(kernel.units, int) and kernel.units < FEW
        return body + self._samples(run)

    def _samples(self, run: list[Kernel]) -> list[str]:
        """Lines that run kernels one after another on groups of samples."""
        lines = []
        for part in grouping.segments(self.plan, run):
            name = f"samples{len(self.groups)}"
            size = grouping.group_size(self.plan, part, self.cache_bytes)
            if any(is_sharded(k.group.anchor) for k in part):
                self.groups.append(self._sharded_sequence(name, part, size))
                lines.append(f"{name}(me, {_share(str(SHARDS), 'tid')})")
            else:
                self.groups.append(self._sequence(name, part, size))
                lines.append(f"{name}(me, integer(me, {LO}), integer(me, {HI}))")
        return lines

    def _sequence(self, name: str, kernels: list[Kernel], size: int) -> str:
        """A function that calls kernels one after another on each group of samples."""
        inside = [*self._moves(kernels), *(f"{k.name}(ctx, g, h)" for k in kernels)]
        lines = [f"def {name}(ctx, lo, hi):", "    lanes(1)"]
        return "\n".join([*lines, *(f"    {line}" for line in _groups("lo", "hi", size, inside))]) + "\n"

    def _moves(self, kernels: list[Kernel]) -> list[str]:
        """Statements that put the memory of one group where the kernels look for its samples."""
        stored = [self.plan.buffers[op] for k in kernels for op in k.group.stored if not is_sharded(op)]
        moved = [(buffer, self.local[buffer]) for buffer in stored if buffer in self.local]
        return [
            f"set_integer(ctx, {buffer.slot}, integer(ctx, {slot}) - g * {code(buffer.bytes_per_sample)})"
            for buffer, slot in moved
        ]

    def _sharded_sequence(self, name: str, kernels: list[Kernel], size: int) -> str:
        """The same for parts lo to hi of the batch, whose sums begin at zero."""
        moves, grain = self._moves(kernels), self.grain
        ends = [k for k in kernels if ends_part(k.group.anchor)]
        kernels = [k for k in kernels if k not in ends]
        sums = [self.plan.buffers[op] for k in kernels for op in k.group.stored if is_sharded(op)]
        lines = [f"def {name}(ctx, lo, hi):", f"    lanes({ZEROS})"]
        lines += [f"    set_integer(ctx, {b.slot}, integer(ctx, {self.local[b]}))" for b in sums if b.local]
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


def _share(units: str, at: str) -> str:
    """Where the share of thread `at` of so many units begins and ends."""
    return f"{units} * {at} // threads, {units} * ({at} + 1) // threads"


def _gather_all(gathers: list[str]) -> str:
    calls = [f"    {name}(ctx, lo, hi)" for name in gathers]
    return "\n".join(["def gather_inputs(ctx, lo, hi):", "    lanes(1)", *calls]) + "\n"


def _groups(first: str, last: str, size: int, inside: list[str]) -> list[str]:
    """A loop over groups of samples of nearly the same size, at most `size`."""
    return [
        f"count = ({last} - {first} + {size - 1}) // {size}",
        "for n in range(count):",
        f"    g = {first} + ({last} - {first}) * n // count",
        f"    h = {first} + ({last} - {first}) * (n + 1) // count",
        *(INDENT + line for line in inside),
    ]


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
