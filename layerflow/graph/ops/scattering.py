"""Gathering and scattering at coordinates, sums by segment, counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import contraction, indexing, movement, reduction
from layerflow.graph.ops import elementwise as e
from layerflow.graph.shapes import Dim


def _rows(name: str, indices: Any, extents: Any) -> Any:
    """Row numbers of coordinates [.., depth] in an array with these leading extents; arrays are checked."""
    if any(isinstance(n, Dim) for n in extents):
        raise ShapeError(f"{name}: the extent of the batch is known only at run time; coordinates need known extents.")
    if not symbolic.is_symbolic(indices):
        array = np.asarray(indices)
        outside = (array < 0) | (array >= np.asarray(extents, np.int64).reshape((1,) * (array.ndim - 1) + (-1,)))
        if outside.any():
            bad = array[outside.any(-1)][0]
            raise ShapeError(f"{name}: the index {bad.tolist()} lies outside of {list(extents)}.")
    steps = [math.prod(extents[i + 1 :]) for i in range(len(extents))]
    return reduction.sum_(e.cast(indices, np.int32) * np.asarray(steps, np.int32), -1)


def gather_nd(x: Any, indices: Any) -> Any:
    """Elements or slices of `x` at coordinates.

    Args:
        x: [d0, d1, ..].
        indices: integers [.., depth]; each row names a place along the first `depth` axes of x.

    Returns:
        [.., *x.shape[depth:]].

    Raises:
        ShapeError: more coordinates than axes, or (of arrays) an index outside.
    """
    shape, at = movement._shape(x), movement._shape(indices)
    depth = shapes.static(at[-1])
    if depth > len(shape):
        raise ShapeError(f"gather_nd: {depth} coordinates are too many for a tensor of shape {shapes.text(shape)}.")
    rows = _rows("gather_nd", indices, shape[:depth])
    flat = movement.reshape(x, (shapes.size(shape[:depth]), *shape[depth:]))
    return indexing.gather(flat, rows)


def scatter_nd(indices: Any, updates: Any, shape: Any) -> Any:
    """Zeros of `shape` with `updates` added at coordinates: the transpose of `gather_nd`.

    Raises:
        ShapeError: updates of another shape than [.., *shape[depth:]], or (of arrays) an index outside.
    """
    shape, at = tuple(int(n) for n in shape), movement._shape(indices)
    depth = shapes.static(at[-1])
    wanted = (*at[:-1], *shape[depth:])
    if depth > len(shape) or movement._shape(updates) != wanted:
        raise ShapeError(
            f"scatter_nd: updates for indices {shapes.text(at)} into {list(shape)} must have shape "
            f"{shapes.text(wanted)}, got {shapes.text(movement._shape(updates))}."
        )
    rows = _rows("scatter_nd", indices, shape[:depth])
    count = math.prod(shape[:depth])
    inner = movement._shape(rows)
    y = indexing.scatter_add(movement.reshape(rows, (shapes.size(inner),)), _merged(updates, len(inner)), count)
    return movement.reshape(y, shape)


def _merged(x: Any, axes: int) -> Any:
    """The first axes as one."""
    shape = movement._shape(x)
    return movement.reshape(x, (shapes.size(shape[:axes]), *shape[axes:]))


def tensor_scatter_update(x: Any, indices: Any, updates: Any) -> Any:
    """`x` with the slices at coordinates replaced by `updates`; the coordinates must differ."""
    shape = movement._shape(x)
    depth = shapes.static(movement._shape(indices)[-1])
    ones = np.ones((*map(shapes.static, movement._shape(indices)[:-1]),), np.float32)
    hit = e.greater(scatter_nd(indices, ones, shape[:depth]), 0)
    hit = movement.reshape(hit, (*shape[:depth], *(1,) * (len(shape) - depth)))
    return e.where(hit, scatter_nd(indices, updates, shape), x)


def sparse_to_dense(indices: Any, values: Any, output_shape: Any, default_value: Any = 0) -> Any:
    """`default_value` everywhere, `values` at coordinates [count, rank] (or positions, for a vector)."""
    at = indices if symbolic.is_symbolic(indices) else np.asarray(indices)
    if len(movement._shape(at)) < 2:
        at = movement.reshape(at, (-1, 1))
    count = movement._shape(at)[:1]
    values = values if symbolic.is_symbolic(values) else np.asarray(values)
    values = movement.broadcast_to(values, count) if movement._shape(values) == () else values
    hit = e.greater(scatter_nd(at, np.ones([shapes.static(n) for n in count], np.float32), output_shape), 0)
    return e.where(hit, scatter_nd(at, values, output_shape), default_value)


def unsorted_segment_sum(x: Any, segment_ids: Any, num_segments: int) -> Any:
    """[num_segments, ..]: the sum of the slices of `x` with each segment number.

    Args:
        x: [n, ..].
        segment_ids: integers [n]; slices with a number outside of 0 .. num_segments - 1 are left out.
    """
    ids = segment_ids if symbolic.is_symbolic(segment_ids) else np.asarray(segment_ids)
    shape, at = movement._shape(x), movement._shape(ids)
    if at != shape[: len(at)] or len(at) != 1:
        raise ShapeError(
            f"unsorted_segment_sum: segment_ids must be a vector as long as x, got {shapes.text(at)} for "
            f"{shapes.text(shape)}."
        )
    inside = e.logical_and(e.greater_equal(ids, 0), e.less(ids, num_segments))
    inside = movement.reshape(inside, (*at, *(1,) * (len(shape) - 1)))
    return indexing.scatter_add(ids, e.where(inside, x, 0), num_segments)


def bincount(x: Any, weights: Any, size: int) -> Any:
    """How often each number 0 .. size - 1 is in the vector `x`, or the sum of its `weights`; others are left out."""
    given = weights is not None and movement._shape(weights) not in ((), (0,))
    ones = np.ones([shapes.static(n) for n in movement._shape(x)], np.float32)
    counted = unsorted_segment_sum(weights if given else ones, x, size)
    return counted if given else e.cast(counted, np.int32)


def dense_bincount(x: Any, weights: Any, size: int, binary_output: bool = False) -> Any:
    """`bincount` of a vector, or of each row of a matrix; with `binary_output` 1 for every number that is there."""
    shape = movement._shape(x)
    hot = indexing.one_hot(x, size)  # [.., n, size]
    given = weights is not None and movement._shape(weights) not in ((), (0,))
    if given and not binary_output:
        hot = hot * movement.expand_dims(weights, -1)
    y = reduction.max_(hot, -2) if binary_output else reduction.sum_(hot, -2)
    if len(shape) not in (1, 2):
        raise ShapeError(f"dense_bincount: x must be a vector or a matrix, got shape {shapes.text(shape)}.")
    return y if given or binary_output else e.cast(y, np.int32)


def confusion_matrix(labels: Any, predictions: Any, num_classes: int) -> Any:
    """int32 [num_classes, num_classes]: how often class (row) was predicted as class (column)."""
    t, p = indexing.one_hot(labels, num_classes), indexing.one_hot(predictions, num_classes)
    dtype = config.floatx()
    return e.cast(contraction.matmul(e.cast(t, dtype), e.cast(p, dtype), transpose_a=True), np.int32)
