"""Sorting and searching: positions found by counting comparisons, so that they are ordinary graph code."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow.errors import ShapeError, TraceError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement, reduction
from layerflow.graph.ops.primitive import numpy_op
from layerflow.graph.tensor import wrap


def topk(x: Any, k: int = 1, sorted: bool = True) -> tuple[Any, Any]:
    """The k largest elements along the last axis and their indices (int32); of equal ones the first come first.

    In a graph the work grows with the square of the axis: the place of an element is the number of larger ones.

    Raises:
        ShapeError: k outside of 1 .. extent of the last axis.
    """
    shape = movement._shape(x)
    extent = shape[-1] if shape else 0
    if not shape or isinstance(extent, shapes.Dim) or not 0 < k <= extent:
        raise ShapeError(f"topk: k must be within 1 .. {extent}, the last axis of {shapes.text(shape)}; got {k}.")
    if not symbolic.is_symbolic(x):
        array = np.asarray(x)
        order = np.argsort(-array if array.dtype.kind == "f" else _descending(array), axis=-1, kind="stable")[..., :k]
        return wrap(np.take_along_axis(array, order, -1)), wrap(order.astype(np.int32))
    place = _places(x, extent)
    wanted = movement.reshape(indexing.arange(k, symbolic_like=x), (k, 1))
    chosen = e.equal(movement.expand_dims(place, -2), wanted)  # [.., k, n]
    values = reduction.sum_(e.where(chosen, movement.expand_dims(x, -2), 0), -1)
    own = indexing.arange(extent, symbolic_like=x)
    return values, reduction.sum_(e.where(chosen, own, 0), -1)


def _descending(array: np.ndarray) -> np.ndarray:
    return -array.astype(np.int64)


def _places(x: Any, extent: int) -> Any:
    """How many elements come before each one in descending order, along the last axis."""
    mine, other = movement.expand_dims(x, -1), movement.expand_dims(x, -2)
    own = indexing.arange(extent, symbolic_like=x)
    earlier = e.less(movement.reshape(own, (1, extent)), movement.reshape(own, (extent, 1)))
    before = e.logical_or(e.greater(other, mine), e.logical_and(e.equal(other, mine), earlier))
    return reduction.sum_(e.cast(before, np.int32), -1)


@numpy_op(np.sort)
def sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """The elements in ascending order along `axis`."""
    moved = movement.moveaxis(x, axis, -1)
    extent = movement._shape(moved)[-1]
    if isinstance(extent, shapes.Dim):
        raise ShapeError("sort: the batch is known only at run time; choose another axis.")
    if extent == 0:
        return x
    y, _ = topk(moved, extent) if descending else topk(e.negative(moved), extent)
    return movement.moveaxis(y if descending else e.negative(y), -1, axis)


@numpy_op(np.argsort)
def argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """The indices that sort `x` along `axis`, int32; equal elements keep their order."""
    moved = movement.moveaxis(x, axis, -1)
    extent = movement._shape(moved)[-1]
    if isinstance(extent, shapes.Dim):
        raise ShapeError("argsort: the batch is known only at run time; choose another axis.")
    if extent == 0:
        return e.cast(x, np.int32)
    return movement.moveaxis(topk(moved if descending else e.negative(moved), extent)[1], -1, axis)


def search_sorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """Where to insert `values` into the ascending last axis of `sorted_sequence` to keep it ascending, int32.

    Args:
        side: "left" before equal elements, "right" after them.
    """
    if side not in ("left", "right"):
        raise ShapeError(f'search_sorted: side must be "left" or "right", got {side!r}.')
    row, v = movement.expand_dims(sorted_sequence, -2), movement.expand_dims(values, -1)
    before = e.less(row, v) if side == "left" else e.less_equal(row, v)
    return reduction.sum_(e.cast(before, np.int32), -1)


def lower_bound(sorted_sequence: Any, values: Any) -> Any:
    """`search_sorted` before equal elements."""
    return search_sorted(sorted_sequence, values, "left")


def upper_bound(sorted_sequence: Any, values: Any) -> Any:
    """`search_sorted` after equal elements."""
    return search_sorted(sorted_sequence, values, "right")


def in_top_k(predictions: Any, targets: Any, k: int = 1) -> Any:
    """Whether fewer than k classes have a higher prediction than the target class: bool, of the shape of `targets`.

    Args:
        predictions: [.., classes].
        targets: class numbers [..].
    """
    classes = movement._shape(predictions)[-1]
    own = indexing.one_hot(targets, classes)
    mine = reduction.sum_(e.where(e.equal(own, 1.0), predictions, 0), -1, keepdims=True)
    return e.less(reduction.sum_(e.cast(e.greater(predictions, mine), np.int32), -1), k)


# --- results whose size depends on the values: arrays only -------------------------------------------------------


def _values(name: str, *operands: Any) -> list[np.ndarray]:
    if any(map(symbolic.is_symbolic, operands)):
        raise TraceError(
            f"{name}: how many elements the result has depends on the values, so it cannot be part of a graph and has "
            "no gradient; compute it outside, or multiply with a mask."
        )
    return [np.asarray(o) for o in operands]


def unique(x: Any, axis: int | None = None) -> tuple[Any, Any]:
    """(values, indices): the different elements in order of appearance, and for each element which of them it is."""
    (array,) = _values("unique", x)
    array = array.reshape(-1) if axis is None else array
    values, first, inverse = np.unique(array, return_index=True, return_inverse=True, axis=axis)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return wrap(np.take(values, order, 0 if axis is None else axis)), wrap(rank[inverse.reshape(-1)])


def boolean_mask(x: Any, mask: Any, axis: int = 0) -> Any:
    """The slices of `x` where `mask` is true; the mask covers as many axes, from `axis` on, as it has."""
    array, keep = _values("boolean_mask", x, mask)
    at = shapes.normalize_axis(axis, array.ndim)
    if array.shape[at : at + keep.ndim] != keep.shape:
        raise ShapeError(
            f"boolean_mask: the mask {list(keep.shape)} does not fit {list(array.shape)} from axis {at} on."
        )
    return wrap(array[(slice(None),) * at + (keep.astype(bool),)])


def setdiff1d(x: Any, y: Any) -> tuple[Any, Any]:
    """(values, indices) of the elements of the vector x that are not in y, in their order."""
    a, b = _values("setdiff1d", x, y)
    keep = ~np.isin(a, b)
    return wrap(a[keep]), wrap(np.flatnonzero(keep).astype(np.int32))


def where_true(condition: Any) -> Any:
    """Coordinates of the true elements, int32 [count, rank] (TF.js: whereAsync)."""
    (array,) = _values("where_true", condition)
    return wrap(np.argwhere(array).astype(np.int32))
