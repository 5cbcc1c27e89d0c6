"""Shard: sums over the batch are kept in a fixed number of parts, so that they are made sample by sample.

Each part sums its share of the samples while their values are still in the cache; the parts are added in order.  Shares
depend on the batch alone, so the bits do not depend on the threads.
"""

from __future__ import annotations

from layerflow.graph import shapes
from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import PRIMITIVES
from layerflow.graph.symbolic import Op, intern, layer_scope
from layerflow.jit.access import batch_of
from layerflow.jit.contraction import SHARDS

MANY_ROWS = 16  # rows a sample from which a fold of all rows is worth the parts
LARGEST = 1 << 14  # elements of such a fold's result
SUMS_OF_SAMPLES = ("convolve_kernel",)  # contractions over the samples


def shard(graph: Graph) -> Graph:
    """Large sums over samples in parts, and the sums of the parts."""
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        if sums_samples(op):
            memo[op] = _in_parts(op, inputs)
        else:
            memo[op] = op if inputs == op.inputs else intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)
    return graph.with_roots([memo[r] for r in graph.roots])


def sums_samples(op: Op) -> bool:
    """Whether `op` sums so many values of each sample that they had better be summed while they are in the cache."""
    if op.name in SUMS_OF_SAMPLES:
        return batch_of(op.inputs[0].shape) is not None
    x = op.inputs[0] if op.name == "sum" else None
    lead = batch_of(x.shape) if x is not None else None
    if x is None or lead is None or op.dtype.kind != "f" or op.attrs["axes"] != tuple(range(len(x.shape) - 1)):
        return False
    rows, columns = shapes.size(x.shape[:-1]), op.shape[-1]
    return shapes.typical(rows) >= MANY_ROWS and isinstance(columns, int) and columns <= LARGEST


def _in_parts(op: Op, inputs: tuple[Op, ...]) -> Op:
    with layer_scope(op.layer):
        parts = intern(op.primitive, inputs, {**op.attrs, "shards": (SHARDS,)}, (SHARDS, *op.shape), op.dtype)
        return intern(PRIMITIVES["sum"], (parts,), {"axes": (0,)}, op.shape, op.dtype)
