"""Passes about images: what is read from padded copies, and scales of channels taken into kernels."""

from __future__ import annotations

from layerflow.graph import ops
from layerflow.graph.ir import Graph, depending
from layerflow.graph.symbolic import Kind, Op, SymbolicTensor, intern, layer_scope
from layerflow.jit.access import batch_of


def rebuilt(op: Op, inputs: tuple[Op, ...]) -> Op:
    """`op` on other inputs."""
    return op if inputs == op.inputs else intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)


def read_padded(graph: Graph) -> Graph:
    """Values that are padded are stored once, inside their padding: other maps and sums read them there."""
    users = graph.users()
    inside: dict[Op, Op] = {}
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        reads_inside = op.primitive.kind in (Kind.MAP, Kind.REDUCE)
        inputs = tuple(inside.get(i, memo[i]) if reads_inside else memo[i] for i in op.inputs)
        memo[op] = rebuilt(op, inputs)
        if op.name == "pad" and _is_worth_it(op.inputs[0], users, graph):
            x = op.inputs[0]
            begin = [before for before, _ in op.attrs["widths"]]
            inside.setdefault(x, ops.slice_(SymbolicTensor(memo[op]), begin, x.shape).op)
    return graph.with_roots([memo[r] for r in graph.roots])


def _is_worth_it(x: Op, users: dict[Op, list[Op]], graph: Graph) -> bool:
    """Whether `x` is computed for its padding and for maps or sums besides."""
    others = [u for u in users[x] if u.name != "pad"]
    plain = all(u.primitive.kind in (Kind.MAP, Kind.REDUCE) for u in others)
    return (
        x.primitive.kind is Kind.MAP
        and batch_of(x.shape) is not None
        and bool(others)
        and plain
        and x not in graph.roots
    )


def fold_scales(graph: Graph) -> Graph:
    """convolve(x, w) * s with one s a filter that no sample decides: the kernel takes the scale (a normalization that
    runs on its moving statistics then costs nothing)."""
    memo: dict[Op, Op] = {}
    users = graph.users()
    samples = depending(graph.ops, {op for op in graph.ops if batch_of(op.shape) is not None})
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        memo[op] = rebuilt(op, inputs)
        if op.name != "multiply":
            continue
        for at in (0, 1):
            product, scale = op.inputs[at], op.inputs[1 - at]
            alone = product.name == "convolve" and users[product] == [op]
            if alone and scale.shape[-1:] == product.shape[-1:] and scale not in samples and _is_row(scale):
                x, w = memo[product].inputs
                with layer_scope(product.layer):
                    scaled = SymbolicTensor(w) * ops.reshape(SymbolicTensor(memo[scale]), (scale.shape[-1],))
                memo[op] = intern(product.primitive, (x, scaled.op), product.attrs, op.shape, op.dtype)
    return graph.with_roots([memo[r] for r in graph.roots])


def _is_row(op: Op) -> bool:
    return all(n == 1 for n in op.shape[:-1])
