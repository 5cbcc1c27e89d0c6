"""Groups of samples: how many samples run through which kernels before the next ones start (depth first)."""

from __future__ import annotations

import math

from layerflow.graph.shapes import typical
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import access, recurrence
from layerflow.jit.contraction import is_sharded, multiply_adds
from layerflow.jit.recompute import is_again
from layerflow.jit.rows import updates_of
from layerflow.jit.schedule import Kernel, Local, Schedule

CACHE_SHARE = 0.5  # part of the second-level cache that the activations of a group of samples may fill
MIN_USES = 256  # of a weight each time that it is read: smaller groups would read weights again too often
SIZES_APART = 3  # images this much larger than those before have groups of their own
MANY = 1 << 16
GRAIN = 8  # threads take whole groups of this many samples, so that tiles stay whole
MUCH = 1 << 24  # operations of a sample from which on a thread may take any number: its own tiles are whole enough
WINDOWS = ("convolve", "convolve_kernel", "winograd_convolve", "winograd_gradients")


def grain(work: float) -> int:
    """Samples that stay together on one thread, where each takes so many operations."""
    return 1 if work >= MUCH else GRAIN


def work(plan: Schedule) -> float:
    """Multiply-adds, about: of one sample if the plan has a batch, else of a run."""
    total = 0.0
    for kernel in plan.kernels:
        group = kernel.group
        if kernel.loop:
            total += typical(kernel.loop.length) * work(kernel.loop.plan)
            continue
        sizes = [_count(op) for op in (updates_of(group) if group.kind == "update_rows" else group.members)]
        total += sum(multiply_adds(op) for op in group.members if op.primitive.kind is Kind.CONTRACT)
        total += sum(sizes)
    return total


def _count(op: Op) -> float:
    return float(math.prod(map(typical, op.shape)))


def segments(plan: Schedule, run: list[Kernel]) -> list[list[Kernel]]:
    """Kernels that share groups: those between convolutions apart from those around matrix products.

    A matrix product wants many samples at a time, for its weights are read once a group; a convolution uses its weights
    at every pixel and wants few samples, whose images stay in the cache.
    """
    if not any(_is_image_work(k) for k in run):
        return [run] if run else []
    found: list[list[Kernel]] = []
    waiting: list[Kernel] = []
    kind = None
    for kernel in run:
        own = "images" if _is_image_work(kernel) else "rows" if kernel.group.kind in ("gemm", "loop") else None
        if own is None:
            waiting.append(kernel)
            continue
        if kind is None or own == kind:
            found = found or [[]]
            found[-1] += [*waiting, kernel]
        elif own == "images":
            found.append([*waiting, kernel])
        else:
            found[-1] += waiting
            found.append([kernel])
        waiting, kind = [], own
    found[-1] += waiting
    return [part for segment in found for part in _by_size(plan, segment)]


def _by_size(plan: Schedule, kernels: list[Kernel]) -> list[list[Kernel]]:
    """Cuts a run where images become much smaller or larger: each part has groups that fit its own images.

    A kernel on smaller ones that works mostly on what it is handed stays with those that hand it over.
    """
    found: list[list[Kernel]] = [[]]
    size = None
    for kernel in kernels:
        own = _bytes_per_sample(plan, [kernel]) if _is_convolution(kernel) else None
        if own and size and _are_apart(plan, found[-1], size, kernel, own):
            found.append(_taken_along(plan, found[-1], kernel))
            size = own
        elif own:
            size = max(own, size or 0)
        found[-1].append(kernel)
    return found


def _are_apart(plan: Schedule, kernels: list[Kernel], size: int, kernel: Kernel, own: int) -> bool:
    return own > SIZES_APART * size or (own * SIZES_APART < size and 2 * _handed(plan, kernels, kernel) <= own)


def _taken_along(plan: Schedule, kernels: list[Kernel], to: Kernel) -> list[Kernel]:
    """Removes from the end of a run what had better run with `to`: what hands more to it than it gets from others."""
    along: list[Kernel] = []
    while kernels:
        last = kernels[-1]
        bound = _is_convolution(last) or is_sharded(last.group.anchor)
        if bound or sum(_handed(plan, [last], k) for k in (*along, to)) <= _handed(plan, kernels[:-1], last):
            break
        along.insert(0, kernels.pop())
    return along


def _handed(plan: Schedule, kernels: list[Kernel], to: Kernel) -> int:
    """Bytes a sample that kernels hand to another one."""
    return sum(typical(plan.buffers[op].bytes_per_sample) for k in kernels for op in k.group.stored if op in to.reads)


def _is_convolution(kernel: Kernel) -> bool:
    return kernel.group.kind in WINDOWS and not is_again(kernel.group.anchor)


def _is_image_work(kernel: Kernel) -> bool:
    return kernel.group.kind in WINDOWS or is_sharded(kernel.group.anchor)


def _bytes_per_sample(plan: Schedule, kernels: list[Kernel]) -> int:
    touched = {plan.buffers[op] for k in kernels for op in (*k.reads, *k.group.stored) if plan.buffers[op].per_sample}
    return sum(typical(b.bytes_per_sample) for b in touched)


def group_size(plan: Schedule, kernels: list[Kernel], cache_bytes: int) -> int:
    """Samples of a group: what the second-level cache holds.

    Values wait for the next kernel only, so that among images the largest kernel decides; dense layers have small
    values and count them all, and take more samples where these use a weight too seldom.
    """
    if any(_is_image_work(k) for k in kernels):
        per_sample = max(1, *(_bytes_per_sample(plan, [k]) for k in kernels))
        return max(1, min(int(cache_bytes * CACHE_SHARE) // per_sample, MANY))
    per_sample = max(1, _bytes_per_sample(plan, kernels))
    fits = int(cache_bytes * CACHE_SHARE) // per_sample // GRAIN * GRAIN
    return max(_fewest(kernels), min(fits, MANY))


def _fewest(kernels: list[Kernel]) -> int:
    """Samples that use each weight of products MIN_USES times, on average.

    A sample of many rows uses a weight in every row; one with a loop reads it again at every step.
    """
    read = used = 0.0
    for kernel in kernels:
        for inside in kernel.loop.plan.kernels if kernel.loop else [kernel]:
            for op in (*inside.group.members, *inside.group.added):
                if op.name == "matmul" and access.batch_of(op.inputs[1].shape) is None:
                    read += _count(op.inputs[1])
                    used += _count(op.inputs[1]) if kernel.loop else multiply_adds(op)
    return math.ceil(MIN_USES * read / used) if used else MIN_USES


def keep_local(plan: Schedule, cache_bytes: int) -> None:
    """Values that only the kernels of one run hand on get memory for one group of samples, used again and again; sums
    over samples that are finished within the run, memory for one part."""
    for phase in plan.phases:
        for run in _runs(phase):
            for kernels in segments(plan, run):
                group = group_size(plan, kernels, cache_bytes)
                if any(_is_image_work(k) for k in kernels):
                    _keep_local(plan, kernels, group)
                for at, kernel in enumerate(kernels):
                    if kernel.loop:
                        recurrence.keep_local(kernel, kernels[0].name, group, at)
    for kernel in plan.kernels:
        if kernel.loop and not kernel.samples:
            recurrence.keep_local(kernel, kernel.name, MANY, 0)


def _runs(phase: list[Kernel]) -> list[list[Kernel]]:
    """The kernels of a phase that work on samples, in unbroken runs."""
    found: list[list[Kernel]] = [[]]
    for kernel in phase:
        if kernel.samples:
            found[-1].append(kernel)
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def _keep_local(plan: Schedule, kernels: list[Kernel], group: int) -> None:
    others = {op for k in plan.kernels if k not in kernels for op in k.reads}
    for at, kernel in enumerate(kernels):
        for op in kernel.group.stored:
            buffer = plan.buffers[op]
            if buffer.role != "temporary" or op in others:
                continue
            if is_sharded(op):
                buffer.layout = access.dense(op.shape[1:])  # one part at a time
                buffer.local = Local(kernels[0].name, group, 0, len(kernels) - 1)
            elif buffer.per_sample:
                last = max((i for i, k in enumerate(kernels) if op in k.reads), default=at)
                buffer.local = Local(kernels[0].name, group, at, last)
