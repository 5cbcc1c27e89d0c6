"""Groups of samples: how many samples run through which kernels before the next ones start (depth first)."""

from __future__ import annotations

from layerflow.jit.contraction import is_sharded
from layerflow.jit.schedule import Kernel, Schedule

CACHE_SHARE = 0.5  # part of the second-level cache that the activations of a group of samples may fill
MIN_GROUP = 64  # samples: smaller groups would read the weights of dense layers again too often
MANY = 1 << 16
GRAIN = 8  # threads take whole groups of this many samples, so that tiles stay whole
WINDOWS = ("convolve", "convolve_kernel", "winograd_convolve", "winograd_gradients")


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
        own = "images" if _is_image_work(kernel) else "rows" if kernel.group.kind == "gemm" else None
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
    return found


def _is_image_work(kernel: Kernel) -> bool:
    return kernel.group.kind in WINDOWS or is_sharded(kernel.group.anchor)


def _bytes_per_sample(plan: Schedule, kernels: list[Kernel]) -> int:
    touched = {plan.buffers[op] for k in kernels for op in (*k.reads, *k.group.stored) if plan.buffers[op].per_sample}
    return sum(b.elements * b.op.dtype.itemsize for b in touched)


def group_size(plan: Schedule, kernels: list[Kernel], cache_bytes: int) -> int:
    """Samples of a group: what the second-level cache holds.

    Values wait for the next kernel only, so that among images the largest kernel decides; dense layers have small
    values and count them all.
    """
    if any(_is_image_work(k) for k in kernels):
        per_sample = max(1, *(_bytes_per_sample(plan, [k]) for k in kernels))
        return max(1, min(int(cache_bytes * CACHE_SHARE) // per_sample, MANY))
    per_sample = max(1, _bytes_per_sample(plan, kernels))
    fits = int(cache_bytes * CACHE_SHARE) // per_sample // GRAIN * GRAIN
    return max(MIN_GROUP, min(fits, MANY))
