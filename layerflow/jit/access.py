"""Which element of each operand an element of a result is made from.

Fusion asks it (may these meet?), and so does code generation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence

from layerflow.graph import shapes
from layerflow.graph.shapes import BATCH, Dim, Extent, Shape
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import index as ix
from layerflow.jit.index import Index, Ranges

IndexTuple = tuple[Index, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Element strides of a buffer; the leading extent may be a run-time one.

    In `panels` (columns, distance) the columns of the last axis lie in matrices of so many, each row behind the one
    before, so that a product finds the columns of a tile without gaps.
    """

    shape: Shape
    strides: tuple[Extent, ...]
    panels: tuple[int, Extent] | None = None

    def offset(self, index: Sequence[Index], ranges: Ranges | None = None) -> Index:
        """Elements before the one at `index`; `ranges` are needed where columns lie in panels."""
        total = ix.ZERO
        if self.panels:
            assert ranges is not None
            columns, distance = self.panels
            total = ix.scale(ranges.divide(index[-1], columns), distance)
            index = (*index[:-1], ranges.modulo(index[-1], columns))
        for position, stride in zip(index, self.strides, strict=True):
            total = ix.add(total, ix.scale(position, stride))
        return total

    @property
    def fixed(self) -> tuple[int, ...]:
        """The strides of an array whose extents but the first are known."""
        return tuple(map(shapes.static, self.strides))

    @property
    def per_row(self) -> Extent:
        """Elements from one index of the leading axis to the next."""
        return self.strides[0] if self.strides else 1


def dense(shape: Shape, pitch: int | None = None) -> Layout:
    """Row-major; `pitch` is the distance of rows of the last axis if they are padded."""
    strides: list[Extent] = [1] * len(shape)
    step = pitch or (shape[-1] if shape else 1)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = step
        step = shapes.multiply(step, shape[axis])
    return Layout(shape, tuple(strides))


def aligned(index: Sequence[Index], shape: Shape) -> IndexTuple:
    """The index of a broadcast operand of this shape."""
    own = index[len(index) - len(shape) :]
    return tuple(ix.ZERO if n == 1 else i for i, n in zip(own, shape, strict=True))


def canonical(index: Sequence[Index], shape: Shape) -> IndexTuple:
    """The index with 0 on axes of extent 1, so that one element has one name."""
    return tuple(ix.ZERO if n == 1 else i for i, n in zip(index, shape, strict=True))


def operands(
    op: Op, index: Sequence[Index], ranges: Ranges, lookup: Callable[..., Index] | None = None
) -> list[tuple[Op, IndexTuple]]:
    """(operand, index) pairs an inlined op reads for its element at `index`.

    `lookup` gives the integer read by a gather; without it the gathered position is an unknown.
    """
    if op.primitive.kind is Kind.MAP:
        return [(i, aligned(index, i.shape)) for i in op.inputs]
    match op.name:
        case "reshape":
            return [(op.inputs[0], tuple(ix.reshape(index, op.inputs[0].shape, op.shape, ranges)))]
        case "broadcast_to":
            return [(op.inputs[0], aligned(index, op.inputs[0].shape))]
        case "transpose":
            source: list[Index] = [ix.ZERO] * len(index)
            for axis, p in enumerate(op.attrs["perm"]):
                source[p] = index[axis]
            return [(op.inputs[0], tuple(source))]
        case "slice":
            x, begin, step = op.inputs[0], op.attrs["begin"], op.attrs["step"]
            places = zip(index, begin, step, x.shape, strict=True)
            return [(x, tuple(ix.add(ix.scale(i, s), _beginning(b, n)) for i, b, s, n in places))]
        case "windows":
            rank = len(op.attrs["size"])
            steps = zip(
                index[1 : 1 + rank], op.attrs["strides"], index[1 + rank : -1], op.attrs["dilations"], strict=True
            )
            places = (ix.add(ix.scale(o, s), ix.scale(k, d)) for o, s, k, d in steps)
            return [(op.inputs[0], (index[0], *places, index[-1]))]
        case "gather":
            table, positions = op.inputs
            inner = tuple(index[: len(positions.shape)])
            row = (
                lookup(positions, inner, table.shape[0])
                if lookup
                else ranges.declare(f"gathered{positions.serial}", table.shape[0])
            )
            return [(positions, inner), (table, (row, *index[len(inner) :]))]
        case "update_rows" | "rows_part" | "row_sums":
            return _of_rows(op, index, ranges)
    return []


def _beginning(begin: int, extent: Extent) -> Index:
    """Where a slice begins; a negative number counts from an end that is known only at run time."""
    return ix.number(begin) if begin >= 0 else ix.add(ix.number(extent), ix.number(begin))


def _of_rows(op: Op, index: Sequence[Index], ranges: Ranges) -> list[tuple[Op, IndexTuple]]:
    """Values and tables are read at the element itself, what is summed anywhere."""
    anywhere = tuple(ranges.declare(f"s{k}", None) for k in range(8))
    own = 1 if op.name == "rows_part" else 2 * op.attrs.get("count", 0)
    here = [(i, aligned(index, i.shape)) for i in op.inputs[:own]]
    return [*here, *((i, anywhere[: len(i.shape)]) for i in op.inputs[own:])]


def inline_references(
    op: Op, index: Sequence[Index], stops: Callable[[Op], bool], ranges: Ranges
) -> Iterator[tuple[Op, IndexTuple]]:
    """Every stored value (a leaf, or an op that `stops`) that op's element at `index` reads through inlined ops."""
    seen: set[tuple[Op, IndexTuple]] = set()
    stack = operands(op, index, ranges)
    while stack:
        source, at = stack.pop()
        if (source, at) in seen:
            continue
        seen.add((source, at))
        if stops(source) or source.primitive.kind is Kind.LEAF:
            yield source, at
        else:
            stack.extend(operands(source, at, ranges))


def moves(op: Op, values: Collection[Op], stored: Collection[Op]) -> bool:
    """Whether `op` reads one of the values through moves, wherever they end; not by way of what is stored."""
    stack, seen = [(op, False)], set()
    while stack:
        x, moved = stack.pop()
        moved = moved or x.primitive.kind is Kind.MOVE
        if moved and any(source in values for source in x.inputs):
            return True
        further = {(source, moved) for source in x.inputs if source not in stored} - seen
        seen |= further
        stack.extend(further)
    return False


def batch_of(shape: Shape) -> Dim | None:
    """The extent of the leading axis, if that is of the batch."""
    lead = shape[0] if shape else 1
    return lead if isinstance(lead, Dim) and lead.symbol == BATCH else None
