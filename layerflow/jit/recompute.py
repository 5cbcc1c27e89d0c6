"""Recompute: values that cost less to make than to keep are made again where they are needed late.

The first convolution of a network reads few channels and writes many: its outputs, kept from the forward to the
backward pass, would travel to main memory and back while a few multiply-adds make them anew in the cache.
"""

from __future__ import annotations

from layerflow.graph import shapes
from layerflow.graph.ir import Graph
from layerflow.graph.shapes import Extent, static
from layerflow.graph.symbolic import LITERAL, PARAMETER, Kind, Op, intern, layer_scope
from layerflow.jit.access import batch_of
from layerflow.jit.images import rebuilt

# Multiply-adds for an element: a vector of 64 bytes that goes to memory and comes back takes about as many cycles.
CHEAP_FOLD = 16
LATE = 4  # contractions between the making of a value and a use that is worth making it again
SMALLER = 4  # times that the operand, which has to be kept, is smaller


def recompute(graph: Graph) -> Graph:
    """The graph with late uses of cheap convolutions reading a second computation of them (attribute `again`)."""
    depth = _depths(graph)
    source = _made_cheaply(graph)
    memo: dict[Op, Op] = {}
    again: dict[Op, Op] = {}
    for op in graph.ops:
        late = op not in source
        inputs = tuple(
            again[i] if late and i in source and depth[op] - depth[i] >= LATE else memo[i] for i in op.inputs
        )
        memo[op] = rebuilt(op, inputs)
        if op in source:
            with layer_scope(op.layer):
                repeated = tuple(again.get(i, memo[i]) for i in op.inputs)
                attrs = {**op.attrs, "again": True} if source[op] is op else op.attrs
                again[op] = intern(op.primitive, repeated, attrs, op.shape, op.dtype)
    return graph.with_roots([memo[r] for r in graph.roots])


def is_again(op: Op) -> bool:
    """Whether `op` is the second computation of a value."""
    return "again" in op.attrs


def _depths(graph: Graph) -> dict[Op, int]:
    """Contractions on the longest way to each value."""
    found: dict[Op, int] = {}
    for op in graph.ops:
        found[op] = max((found[i] for i in op.inputs), default=0) + (op.primitive.kind is Kind.CONTRACT)
    return found


def _made_cheaply(graph: Graph) -> dict[Op, Op]:
    """Cheap convolutions and what follows from each alone, element by element, also padded: value -> convolution."""
    found: dict[Op, Op] = {}
    for op in graph.ops:
        if op.name == "convolve" and _is_cheap(op):
            found[op] = op
        elif op.primitive.kind is Kind.MAP and op.name != "keep" and op not in graph.roots:
            made = {found[i] for i in op.inputs if i in found}
            rest = (i for i in op.inputs if i not in found)
            if len(made) == 1 and all(_is_at_hand(i) for i in rest) and op.shape == next(iter(made)).shape:
                found[op] = made.pop()
        elif op.name == "pad" and op.inputs[0] in found and op not in graph.roots:
            found[op] = found[op.inputs[0]]
    return found


def _is_at_hand(op: Op) -> bool:
    while op.primitive.kind is Kind.MOVE:
        op = op.inputs[0]
    return op.primitive in (PARAMETER, LITERAL)


def _is_cheap(op: Op) -> bool:
    x, w = op.inputs
    if batch_of(op.shape) is None or op.dtype.kind != "f":
        return False
    fold = static(shapes.size(w.shape[:-1]))
    return fold <= CHEAP_FOLD and _per_sample(x) * SMALLER <= _per_sample(op)


def _per_sample(op: Op) -> int:
    lead: Extent = op.shape[0]
    return shapes.typical(lead) * shapes.typical(shapes.size(op.shape[1:]))
