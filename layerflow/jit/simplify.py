"""Simplify: constants folded, algebra done, moves merged, reductions brought to one axis each.

Graph to graph, no side effects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from layerflow.graph import ops, shapes
from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import PRIMITIVES, Composite, literal
from layerflow.graph.symbolic import LITERAL, Kind, Op, SymbolicTensor, intern, layer_scope
from layerflow.jit.access import batch_of
from layerflow.jit.shards import sums_samples

Rule = Callable[[Op, tuple[Op, ...]], Op | None]


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied bottom-up until nothing changes."""
    for _ in range(12):
        new = force(graph)
        if new.roots == graph.roots:
            return new
        graph = new
    return graph


def force(graph: Graph) -> Graph:
    """One pass in which every op is rebuilt, so that the rules see their new operands."""
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        memo[op] = rebuild(op, tuple(memo[i] for i in op.inputs)) if op.inputs else op
    return graph.with_roots([memo[r] for r in graph.roots])


def rebuild(op: Op, inputs: tuple[Op, ...]) -> Op:
    """`op` on new inputs, in its simplest form."""
    with layer_scope(op.layer):
        for rule in RULES:
            new = rule(op, inputs)
            if new is not None:
                return new
        if inputs == op.inputs:
            return op
        return intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)


def _value(op: Op) -> float | None:
    """The number if `op` is a literal, through broadcasts and reshapes of it."""
    while (
        op.primitive.kind is Kind.MOVE
        and op.name in ("broadcast_to", "reshape")
        and op.inputs[0].shape in ((), (1,) * len(op.inputs[0].shape))
    ):
        op = op.inputs[0]
    return op.attrs["value"] if op.primitive is LITERAL else None


def _shaped(value: Op, like: Op) -> Op:
    """`value` broadcast to the shape and type of `like`."""
    x = SymbolicTensor(value)
    if value.dtype != like.dtype:
        x = ops.cast(x, like.dtype)
    return x.op if x.op.shape == like.shape else ops.broadcast_to(x, like.shape).op


def expand_composites(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """An operation that is made of others becomes those."""
    if not isinstance(op.primitive, Composite) or op.primitive.expand is None:
        return None
    return op.primitive.expand(*map(SymbolicTensor, inputs), **op.attrs).op


def drop_identities(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """stop_gradient, casts to the same type, reshapes, broadcasts and transposes that change nothing."""
    if not inputs:
        return None
    x = inputs[0]
    if op.name == "stop_gradient":
        return x
    if op.name in ("cast", "reshape", "broadcast_to") and x.shape == op.shape and x.dtype == op.dtype:
        return x
    if op.name == "transpose" and op.attrs["perm"] == tuple(range(len(op.shape))):
        return x
    return None


def merge_moves(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """reshape of reshape, broadcast of broadcast, transpose of transpose."""
    if op.name not in ("reshape", "broadcast_to", "transpose") or inputs[0].name != op.name:
        return None
    inner = inputs[0]
    if op.name == "transpose":
        perm = tuple(inner.attrs["perm"][p] for p in op.attrs["perm"])
        return ops.transpose(SymbolicTensor(inner.inputs[0]), perm).op
    return intern(op.primitive, inner.inputs, op.attrs, op.shape, op.dtype)


def fold_constants(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """Maps of literals are computed now."""
    if (
        op.primitive.kind is not Kind.MAP
        or not inputs
        or op.shape != ()
        or any(i.primitive is not LITERAL for i in inputs)
    ):
        return None
    arrays = [np.asarray(i.attrs["value"], i.dtype) for i in inputs]
    with np.errstate(all="ignore"):
        value = np.asarray(op.primitive.kernel(*arrays, **op.attrs)).astype(op.dtype)
    return literal(value[()], op.dtype)


def algebra(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """x + 0, x * 1, x - 0, x / 1, --x, x ** 2, 0 - x, where with equal arms, division by a literal."""
    if op.primitive.kind is not Kind.MAP or not inputs:
        return None
    values = [_value(i) for i in inputs]
    a, b = inputs[0], inputs[-1]
    match op.name:
        case "add" if values[1] == 0 or values[0] == 0:
            return _shaped(a if values[1] == 0 else b, op)
        case "subtract" if values[1] == 0:
            return _shaped(a, op)
        case "multiply" if values[1] == 1 or values[0] == 1:
            return _shaped(a if values[1] == 1 else b, op)
        case "multiply" if values[1] == -1 or values[0] == -1:
            return _shaped(ops.negative(SymbolicTensor(a if values[1] == -1 else b)).op, op)
        case "divide" if values[1] == 1:
            return _shaped(a, op)
        case "divide" if values[1] and op.dtype.kind == "f" and math.frexp(values[1])[0] == 0.5:
            # Exact for powers of two; other divisors are left, so that compiled equals uncompiled.
            return (SymbolicTensor(a) * (1.0 / values[1])).op if a.shape == op.shape else None
        case "negative" if a.name == "negative":
            return a.inputs[0]
        case "power" if values[1] in (2, 1, 0.5, -1):
            forms = {2: ops.square, 1: lambda x: x, 0.5: ops.sqrt, -1: ops.reciprocal}
            return _shaped(forms[values[1]](SymbolicTensor(a)).op, op) if a.dtype.kind == "f" else None
        case "where" if len(inputs) == 3 and inputs[1] is inputs[2]:
            return _shaped(inputs[1], op)
    return None


def concatenate_pads(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """A sum of parts, each put between zeros so that together they fill an axis, is their concatenation: the gradient
    of something cut into slices."""
    if op.name != "add" or any(x.name not in ("pad", "add") or x.shape != op.shape for x in inputs):
        return None
    parts: list[tuple[int, Op]] = []
    axes: set[int] = set()
    stack = list(inputs)
    while stack:
        x = stack.pop()
        if x.name == "add" and all(i.shape == op.shape for i in x.inputs):
            stack += x.inputs
        elif x.name == "pad" and x.attrs["value"] == 0.0:
            wide = [axis for axis, widths in enumerate(x.attrs["widths"]) if widths != (0, 0)]
            axes.update(wide)
            parts.append((x.attrs["widths"][wide[0]][0] if wide else 0, x.inputs[0]))
        else:
            return None
    if len(axes) != 1:
        return None
    (axis,) = axes
    parts.sort(key=lambda part: part[0])
    ends = [0]
    for begin, x in parts:
        extent = x.shape[axis]
        if begin != ends[-1] or not isinstance(extent, int):
            return None
        ends.append(begin + extent)
    if ends[-1] != op.shape[axis]:
        return None
    return ops.concatenate([SymbolicTensor(x) for _, x in parts], axis).op


def narrow_broadcasts(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """A map broadcasts its operands by itself: an explicit broadcast under it goes if the shape stays."""
    if op.primitive.kind is not Kind.MAP:
        return None
    new = list(inputs)
    for at, i in enumerate(inputs):
        if i.name != "broadcast_to":
            continue
        trial = [*new[:at], i.inputs[0], *new[at + 1 :]]
        if shapes.broadcast(*[t.shape for t in trial]) == op.shape:
            new = trial
    if tuple(new) == inputs:
        if len(inputs) == 1 and inputs[0].name == "broadcast_to":
            inner = intern(op.primitive, inputs[0].inputs, op.attrs, inputs[0].inputs[0].shape, op.dtype)
            return ops.broadcast_to(SymbolicTensor(inner), op.shape).op
        return None
    return rebuild(op, tuple(new))


def single_axis_reductions(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """A reduction of several axes becomes one of each, the last first; of an axis of extent 1, a reshape.

    Sums over all positions of all samples stay whole: they are made sample by sample.
    """
    if op.primitive.kind is not Kind.REDUCE or sums_samples(op):
        return None
    axes, x = op.attrs["axes"], inputs[0]
    if len(axes) == 1:
        if x.shape[axes[0]] == 1 and op.dtype == x.dtype:
            return ops.reshape(SymbolicTensor(x), op.shape).op
        return None
    y = x
    for axis in reversed(axes):
        y = rebuild_reduce(op, y, axis)
    return y


def map_before_merging(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """A map of rows that a reshape merged from the axes of images is a map of the images, merged afterwards."""
    if op.primitive.kind is not Kind.MAP or len(op.shape) != 2:
        return None
    merged = [x for x in inputs if x.name == "reshape" and x.shape == op.shape]
    source = merged[0].inputs[0] if merged else op
    if len(source.shape) < 3 or source.shape[-1] != op.shape[-1] or batch_of(source.shape) is None:
        return None
    if any(x.shape not in ((), (1,), (1, 1), op.shape[1:], (1, op.shape[1])) for x in inputs if x.shape != op.shape):
        return None
    if any(x.name != "reshape" or x.inputs[0].shape != source.shape for x in inputs if x.shape == op.shape):
        return None
    wide = tuple(
        x.inputs[0] if x.shape == op.shape else ops.reshape(SymbolicTensor(x), x.shape[-1:]).op for x in inputs
    )
    new = intern(op.primitive, wide, op.attrs, source.shape, op.dtype)
    return ops.reshape(SymbolicTensor(rebuild(new, wide)), op.shape).op


def map_before_splitting(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """A map of images (or sequences) that a reshape made from rows is a map of the rows, reshaped afterwards: it can
    then follow the product that the rows come from."""
    if op.primitive.kind is not Kind.MAP or len(op.shape) < 3 or batch_of(op.shape) is None:
        return None
    split = [x for x in inputs if x.name == "reshape" and x.shape == op.shape and len(x.inputs[0].shape) == 2]
    if not split or split[0].inputs[0].primitive.kind is not Kind.CONTRACT:
        return None
    rows = split[0].inputs[0]
    if rows.shape[-1] != op.shape[-1] or any(x.shape not in ((), op.shape[-1:]) for x in inputs if x not in split):
        return None
    narrow = tuple(x.inputs[0] if x in split else x for x in inputs)
    if any(x.shape != rows.shape for x in narrow if len(x.shape) == 2):
        return None
    new = intern(op.primitive, narrow, op.attrs, rows.shape, op.dtype)
    return ops.reshape(SymbolicTensor(rebuild(new, narrow)), op.shape).op


def sum_before_merging(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """The sum of rows that a reshape merged from several axes is the sum over those axes."""
    x = inputs[0] if inputs else op
    if op.name != "sum" or op.attrs["axes"] != (0,) or x.name != "reshape" or len(x.shape) != 2:
        return None
    source = x.inputs[0]
    axes = tuple(range(len(source.shape) - 1))
    if len(axes) < 2 or source.shape[-1] != x.shape[-1]:
        return None
    new = intern(op.primitive, (source,), {"axes": axes}, op.shape, op.dtype)
    return new if sums_samples(new) else None


def rebuild_reduce(op: Op, x: Op, axis: int) -> Op:
    reduced = intern(op.primitive, (x,), {"axes": (axis,)}, shapes.reduced(x.shape, (axis,)), op.dtype)
    return single_axis_reductions(reduced, (x,)) or reduced


def scale_after_sum(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """The sum of a broadcast value along the broadcast axis is a product."""
    if op.name != "sum" or inputs[0].name != "broadcast_to" or len(op.attrs["axes"]) != 1:
        return None
    axis, x = op.attrs["axes"][0], inputs[0]
    source, lead = x.inputs[0], len(x.shape) - len(x.inputs[0].shape)
    if axis >= lead and source.shape[axis - lead] != 1:
        return None
    extent = x.shape[axis]
    if not isinstance(extent, int) or op.dtype.kind != "f":
        return None
    narrow = SymbolicTensor(source)
    if axis >= lead:
        narrow = ops.reshape(narrow, [n for k, n in enumerate(source.shape) if k != axis - lead])
    return ops.broadcast_to(narrow * float(extent), op.shape).op


def absorb_transposes(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    """matmul of a transposed matrix is a matmul with the flag."""
    if op.name != "matmul":
        return None
    flags, new = dict(op.attrs), list(inputs)
    for at, flag in ((0, "transpose_a"), (1, "transpose_b")):
        x = new[at]
        rank = len(x.shape)
        if x.name == "transpose" and x.attrs["perm"] == (*range(rank - 2), rank - 1, rank - 2):
            new[at], flags[flag] = x.inputs[0], not flags[flag]
    if flags == op.attrs:
        return None
    return intern(PRIMITIVES["matmul"], tuple(new), flags, op.shape, op.dtype)


RULES: Sequence[Rule] = (
    expand_composites,
    drop_identities,
    merge_moves,
    fold_constants,
    algebra,
    concatenate_pads,
    narrow_broadcasts,
    scale_after_sum,
    map_before_merging,
    map_before_splitting,
    sum_before_merging,
    single_axis_reductions,
    absorb_transposes,
)


def untranspose(graph: Graph) -> Graph:
    """Right operands of products read along their rows: a transposed one becomes a transpose carried out once.

    Tiles load vectors along the last axis of the right operand, so a transposed matrix would be a gather in the inner
    loop.  Run after `simplify`, whose rules would undo it.
    """
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        new = op if inputs == op.inputs else intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)
        if new.name == "matmul" and new.attrs["transpose_b"]:
            rank = len(inputs[1].shape)
            with layer_scope(op.layer):
                turned = ops.transpose(SymbolicTensor(inputs[1]), [*range(rank - 2), rank - 1, rank - 2]).op
                new = intern(
                    PRIMITIVES["matmul"], (inputs[0], turned), {**op.attrs, "transpose_b": False}, op.shape, op.dtype
                )
        memo[op] = new
    return graph.with_roots([memo[r] for r in graph.roots])


def separate_roots(graph: Graph) -> Graph:
    """Outputs that are leaves, or the same value twice, get a copy of their own."""
    identity = PRIMITIVES["stop_gradient"]
    taken: set[Op] = set()
    roots: list[Op] = []
    for root in graph.roots:
        while root in taken or root.primitive.kind is Kind.LEAF:
            root = intern(identity, (root,), {}, root.shape, root.dtype)
        taken.add(root)
        roots.append(root)
    return graph.with_roots(roots)
