"""Attention without stored scores: its operations as the compiler sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layerflow.graph.ir import Graph
from layerflow.graph.shapes import static, typical
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit.access import batch_of
from layerflow.jit.index import Index, Ranges

# Kind of group -> its operations: one pass over the scores gives them all.
GROUPS = {
    "attend": ("attend", "attend_sums"),
    "attend_gradient": ("attend_query", "attend_key", "attend_value"),
}
KIND = {name: kind for kind, names in GROUPS.items() for name in names}
ARRAYS = {"attend": 3, "attend_gradient": 6}  # operands that are read from memory; what follows is computed in place


def in_memory(op: Op, side: int) -> bool:
    """Whether an operand is an array, not a mask or factors that are made for each score."""
    return side < ARRAYS[KIND[op.name]]


def unmoved(op: Op, side: int) -> Op:
    """What is stored for an operand that has to be: for heads of a projection the projection itself."""
    x = op.inputs[side]
    while (
        op.name in KIND and in_memory(op, side) and x.name == "reshape" and x.inputs[0].primitive.kind is not Kind.LEAF
    ):
        x = x.inputs[0]
    return x


def is_beside(op: Op, value: Op) -> bool:
    """Whether `op` takes `value` as mask or factors of scores, and as nothing else."""
    return op.name in KIND and value not in op.inputs[: ARRAYS[KIND[op.name]]]


def beside_scores(graph: Graph, users: Mapping[Op, Sequence[Op]]) -> set[Op]:
    """Masks and factors of scores, and what they alone are made of: as large as the scores, which are not stored."""
    found: set[Op] = set()
    for op in reversed(graph.ops):
        is_matrix = op.primitive.kind is Kind.MAP and len(op.shape) > 1 and 1 not in op.shape[-2:]
        only = users[op] and all(user in found or is_beside(user, op) for user in users[op])
        if is_matrix and only and op not in graph.roots:
            found.add(op)
    return found


def own_sample(op: Op, sample: Index, ranges: Ranges) -> list[tuple[Op, tuple[Index, ...]]]:
    """The operands with what is read of them: anything of the sample that the operation is at."""
    found = []
    for side, x in enumerate(op.inputs):
        index = tuple(ranges.declare(f"s{side}_{axis}", extent) for axis, extent in enumerate(x.shape))
        found.append((x, (sample, *index[1:]) if batch_of(x.shape) is not None else index))
    return found


def scores(op: Op) -> float:
    """How many scores there are for one sample (or for all, where their number is known)."""
    q, k = op.inputs[:2]
    lead, rows, heads, _ = q.shape
    return float(static(rows) * static(heads) * static(k.shape[1]) * typical(lead))


def own_depth(op: Op) -> int:
    """Multiply-adds for each score, beside those that make it."""
    q, _, v = op.inputs[:3]
    depth, width = static(q.shape[-1]), static(v.shape[-1])
    each = {"attend": width, "attend_sums": 0, "attend_query": depth, "attend_key": depth, "attend_value": width}
    return each[op.name]


def multiply_adds(op: Op) -> float:
    """Multiply-adds for one sample (or for all, where their number is known)."""
    depth, width = static(op.inputs[0].shape[-1]), static(op.inputs[2].shape[-1])
    return scores(op) * (own_depth(op) + (width if op.name == "attend_value" else depth))
