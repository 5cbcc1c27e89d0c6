"""What a contraction multiplies: the elements of its two operands behind one element of the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from layerflow.graph.shapes import Dim, Extent, Shape, static, typical
from layerflow.graph.symbolic import Op
from layerflow.jit import access, attention
from layerflow.jit import index as ix
from layerflow.jit.access import IndexTuple
from layerflow.jit.index import Index, Ranges

# Parts of a sum over the batch, each over a fixed share of it: their number does not depend on the threads, so that
# the sum has the same bits on any number of them.
SHARDS = 8


@dataclasses.dataclass(frozen=True)
class Contraction:
    """Index tuples of the left and right operand and the variables summed over, outermost first."""

    left: IndexTuple
    right: IndexTuple
    folded: tuple[tuple[str, Extent], ...]


def is_sharded(op: Op) -> bool:
    """Whether `op` is a sum over the batch kept in parts: shape (SHARDS, ...)."""
    return "shards" in op.attrs


def ends_part(op: Op) -> bool:
    """Whether `op` is made of one finished part of a sum over the batch."""
    return is_sharded(op) and is_sharded(op.inputs[0])


def is_sample_work(op: Op) -> bool:
    """Whether `op` is computed sample by sample: it has a batch axis, or adds samples up in parts."""
    if op.name == "loop":
        return op.attrs["body"].is_per_sample(op.attrs["sequences"] + op.attrs["states"])
    return access.batch_of(op.shape) is not None or is_sharded(op)


def is_depthwise(op: Op) -> bool:
    """Whether a convolution has one input and one output channel a group, so that nothing is summed over channels."""
    x, w = op.inputs
    groups = op.attrs["groups"]
    return groups > 1 and x.shape[-1] == groups and (w.shape[-1] == groups)


def contraction(op: Op, variables: Sequence[Index], ranges: Ranges) -> Contraction:
    """Operands of the element of `op` at `variables` (rows..., column); shard axes are left out of account."""
    variables = variables[1:] if is_sharded(op) else variables
    return RULES[op.name](op, variables, ranges)


def _matmul(op: Op, variables: Sequence[Index], ranges: Ranges) -> Contraction:
    a, b = op.inputs
    inner = a.shape[-2] if op.attrs["transpose_a"] else a.shape[-1]
    k = ranges.declare("k", inner)
    row, column = variables[-2], variables[-1]
    lead = variables[:-2]
    rows = (k, row) if op.attrs["transpose_a"] else (row, k)
    cols = (column, k) if op.attrs["transpose_b"] else (k, column)
    return Contraction(
        (*access.aligned(lead, a.shape[:-2]), *rows), (*access.aligned(lead, b.shape[:-2]), *cols), (("k", inner),)
    )


def _window(op: Op, outputs: Sequence[Index], taps: Sequence[Index]) -> tuple[Index, ...]:
    """Positions in the input under the taps of the kernel."""
    return tuple(
        ix.add(ix.scale(o, s), ix.scale(k, d))
        for o, k, s, d in zip(outputs, taps, op.attrs["strides"], op.attrs["dilations"], strict=True)
    )


def _channel(op: Op, column: Index, channel: Index, each: int, ranges: Ranges) -> Index:
    """Input channel: all of them, those of the column's group ("g"), or the column itself where each has its own."""
    if op.attrs["groups"] == 1:
        return channel
    if is_depthwise(op):
        return column
    return ix.add(ix.scale(ranges.declare("g", op.attrs["groups"]), each), channel)


def _convolve(op: Op, variables: Sequence[Index], ranges: Ranges) -> Contraction:
    w = op.inputs[1]
    each = static(w.shape[-2])
    taps = tuple(ranges.declare(f"k{d}", n) for d, n in enumerate(w.shape[:-2]))
    q = ranges.declare("q", each)
    channel = _channel(op, variables[-1], q, each, ranges)
    left = (variables[0], *_window(op, variables[1:-1], taps), channel)
    folded = tuple((f"k{d}", n) for d, n in enumerate(w.shape[:-2]))
    own = ix.ZERO if each == 1 else q
    return Contraction(left, (*taps, own, variables[-1]), (*folded, ("q", each)))


def _convolve_kernel(op: Op, variables: Sequence[Index], ranges: Ranges) -> Contraction:
    x, g = op.inputs
    each = static(op.shape[-2])
    sample = ranges.declare("s", x.shape[0])
    outputs = tuple(ranges.declare(f"o{d}", n) for d, n in enumerate(g.shape[1:-1]))
    channel = _channel(op, variables[-1], variables[-2], each, ranges)
    left = (sample, *_window(op, outputs, variables[:-2]), channel)
    folded = (("s", x.shape[0]), *((f"o{d}", n) for d, n in enumerate(g.shape[1:-1])))
    return Contraction(left, (sample, *outputs, variables[-1]), folded)


def _by_points(op: Op, variables: Sequence[Index], ranges: Ranges) -> Contraction:
    """A Winograd operation: its operands are read at the sample it is at, and there anywhere."""
    anywhere = ranges.declare("point", None)
    if op.name == "winograd_convolve":
        sample = variables[0]
    else:
        sample = ranges.declare("s", op.inputs[0].shape[0])
    images = (sample, anywhere, anywhere, anywhere)
    right = images if op.name == "winograd_kernel_gradient" else (anywhere,) * 3
    return Contraction(images, right, ())


RULES: dict[str, Callable[[Op, Sequence[Index], Ranges], Contraction]] = {
    "matmul": _matmul,
    "convolve": _convolve,
    "convolve_kernel": _convolve_kernel,
    "winograd_convolve": _by_points,
    "winograd_kernel_gradient": _by_points,
    "winograd_input_gradient": _by_points,
}


def fold_index(op: Op, variables: Sequence[Index], ranges: Ranges) -> tuple[Index, ...]:
    """The element that a fold of an axis other than the last adds at step r (r0, r1, ... if samples are summed)."""
    x = op.inputs[0]
    if is_sharded(op):
        return (*(ranges.declare(f"r{a}", x.shape[a]) for a in op.attrs["axes"]), *variables[1:])
    axis = op.attrs["axes"][0]
    return (*variables[:axis], ranges.declare("r", x.shape[axis]), *variables[axis:])


def sample_of(op: Op, domain: Shape, variables: Sequence[Index], ranges: Ranges) -> Index:
    """The sample that sample work on `op` is at."""
    if is_sharded(op) or op.name == "winograd_input_gradient":
        name, lead = "r0" if "axes" in op.attrs else "s", op.inputs[0].shape[0]
        assert isinstance(lead, Dim)
        return ranges.divide(ranges.declare(name, lead), lead.factor)
    lead = domain[0]
    assert isinstance(lead, Dim)
    return ranges.divide(variables[0], lead.factor)


def multiply_adds(op: Op) -> float:
    """Multiply-adds of a contraction (for one sample where it has a batch)."""
    if op.name in attention.KIND:
        return attention.multiply_adds(op)
    if op.name.startswith("winograd"):
        return _points_of(op)
    ranges = Ranges()
    variables = tuple(ranges.declare(f"i{k}", n) for k, n in enumerate(op.shape))
    total = 1.0
    for extent in (*op.shape[is_sharded(op) :], *(n for _, n in contraction(op, variables, ranges).folded)):
        total *= typical(extent)
    return total


def _points_of(op: Op) -> float:
    """Multiply-adds of a Winograd operation for one sample: 36 products for each tile of 4x4 outputs."""
    image = op.shape if op.name == "winograd_convolve" else op.inputs[op.name == "winograd_kernel_gradient"].shape
    points = op.inputs[1].shape if op.name != "winograd_kernel_gradient" else op.shape
    tiles = -(-static(image[1]) // 4) * -(-static(image[2]) // 4)
    return float(36 * tiles * static(points[-1]) * static(points[-2]))
