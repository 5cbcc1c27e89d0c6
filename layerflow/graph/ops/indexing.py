"""Kind *index*: elements chosen by integers, integers made from positions, and extents known at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import movement
from layerflow.graph.ops.primitive import Primitive, as_op, numpy_op
from layerflow.graph.shapes import Dim, Extent
from layerflow.graph.symbolic import Kind, Op, SymbolicTensor


def _iota_kernel(shape, axis, dtype):
    if axis is None:
        return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    column = [1] * len(shape)
    column[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=dtype).reshape(column), shape)


iota = Primitive("iota", Kind.INDEX, _iota_kernel, lambda shape, axis, dtype: shape)
extent = Primitive("extent", Kind.INDEX, lambda factor, symbol, dtype: None, lambda factor, symbol, dtype: ())


class _Gather(Primitive):
    def operand_dtype(self, ops: Sequence[Op]) -> np.dtype:
        return ops[0].dtype


gather_p = _Gather("gather", Kind.INDEX, lambda x, i: x[np.clip(i, 0, len(x) - 1)], lambda x, i: (*i, *x[1:]))


def _scatter_kernel(i, updates, rows):
    out = np.zeros((rows, *updates.shape[i.ndim :]), updates.dtype)
    np.add.at(out, np.clip(i, 0, rows - 1), updates)
    return out


class _ScatterAdd(Primitive):
    def operand_dtype(self, ops: Sequence[Op]) -> np.dtype:
        return ops[1].dtype


scatter_add_p = _ScatterAdd("scatter_add", Kind.INDEX, _scatter_kernel, lambda i, u, rows: (rows, *u[len(i) :]))


@gather_p.vjp
def _(g, y, x, i):
    return scatter_add(i, g, movement._shape(x)[0]), None


@scatter_add_p.vjp
def _(g, y, i, updates, rows):
    return None, gather(g, i)


def positions(shape: shapes.Shape, axis: int | None = None, dtype: Any = np.int32) -> SymbolicTensor:
    """A symbol whose elements are their own index along `axis` (None: their row-major position)."""
    return SymbolicTensor(
        symbolic.intern(iota, (), {"shape": shape, "axis": axis, "dtype": np.dtype(dtype).name}, shape, np.dtype(dtype))
    )


def arange(stop: Any, dtype: Any = np.int32, symbolic_like: Any = None) -> Any:
    """0 .. stop-1; a symbol where `symbolic_like` is one."""
    if symbolic_like is not None and symbolic.is_symbolic(symbolic_like):
        return positions((int(stop),), 0, dtype)
    return np.arange(stop, dtype=dtype)


def extent_of(value: Extent) -> Any:
    """An extent as a number, or as a scalar symbol where it is known only at run time."""
    if isinstance(value, int):
        return value
    dtype = np.dtype(config.floatx())
    attrs = {"factor": value.factor, "symbol": value.symbol, "dtype": dtype.name}
    return SymbolicTensor(symbolic.intern(extent, (), attrs, (), dtype))


def extent_along(x: Any, axis: int) -> Any:
    """The extent of one axis of `x`, as `extent_of` gives it."""
    shape = movement._shape(x)
    return extent_of(shape[shapes.normalize_axis(axis, len(shape))])


def gather(x: Any, indices: Any, axis: int = 0) -> Any:
    """Slices of `x` along `axis` at integer `indices`; an index outside is clipped to the nearest valid one."""
    rank = len(movement._shape(x))
    axis = shapes.normalize_axis(axis, rank)
    kind = as_op(indices).dtype.kind if symbolic.is_symbolic(indices) else np.asarray(indices).dtype.kind
    if kind not in "iu":
        indices = e.cast(indices, np.int32)
    if axis == 0:
        return gather_p.bind([x, indices])
    inner = len(movement._shape(indices))
    y = gather_p.bind([movement.transpose(x, [axis, *[i for i in range(rank) if i != axis]]), indices])
    order = [*range(inner, inner + axis), *range(inner), *range(inner + axis, inner + rank - 1)]
    return movement.transpose(y, order)


@numpy_op(np.take)
def _np_take(a: Any, indices: Any, axis: int | None = None) -> Any:
    return gather(movement.flatten(a), indices) if axis is None else gather(a, indices, axis)


def scatter_add(indices: Any, updates: Any, rows: shapes.Extent) -> Any:
    """[rows, ...] with `updates[i]` added to row `indices[i]`."""
    if isinstance(rows, Dim):
        raise ShapeError("scatter_add needs a number of rows that is known when the graph is built.")
    return scatter_add_p.bind([indices, updates], rows=int(rows))


def one_hot(
    indices: Any, depth: shapes.Extent, on_value: float = 1.0, off_value: float = 0.0, dtype: Any = None
) -> Any:
    """[..., depth] with `on_value` where the position equals the index."""
    column = movement.expand_dims(indices if symbolic.is_symbolic(indices) else np.asarray(indices), -1)
    kind = as_op(column).dtype if symbolic.is_symbolic(column) else np.asarray(column).dtype
    same = e.equal(column, e.cast(arange(depth, symbolic_like=column), kind))
    return e.where(
        same, e.cast(on_value, dtype or config.floatx()) if not symbolic.is_symbolic(column) else on_value, off_value
    )
