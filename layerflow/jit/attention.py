"""Attention without stored scores: its operations as the compiler sees them."""

from __future__ import annotations

from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Op
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


def own_sample(op: Op, sample: Index, ranges: Ranges) -> list[tuple[Op, tuple[Index, ...]]]:
    """The operands with what is read of them: anything of the sample that the operation is at."""
    found = []
    for side, x in enumerate(op.inputs):
        index = tuple(ranges.declare(f"s{side}_{axis}", extent) for axis, extent in enumerate(x.shape))
        found.append((x, (sample, *index[1:]) if batch_of(x.shape) is not None else index))
    return found


def multiply_adds(op: Op) -> float:
    """Multiply-adds for one sample (or for all, where their number is known)."""
    q, k, v = op.inputs[:3]
    lead, rows, heads, depth = q.shape
    scores = static(rows) * static(heads) * static(k.shape[1]) * (lead if isinstance(lead, int) else lead.factor)
    width = static(v.shape[-1])
    each = {"attend": depth, "attend_sums": 0, "attend_query": depth, "attend_key": depth, "attend_value": width}
    own = static(each[op.name])
    return float(scores * (own + (width if op.name in ("attend", "attend_value") else static(depth))))
