"""Resizing: other extents of the spatial axes, from the nearest element or between the two around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError, UnknownNameError
from layerflow.graph import shapes
from layerflow.graph.ops import contraction, movement, spatial
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.symbolic import is_symbolic

METHODS = ("nearest", "bilinear")


def resize(
    x: Any,
    size: int | Sequence[int],
    method: str = "nearest",
    align_corners: bool = False,
    half_pixel_centers: bool = False,
    data_format: str = "channelsLast",
) -> Any:
    """`x` with spatial axes of other extents.

    Element i of an axis is taken at i * extent / size of the old one; with `align_corners` at
    i * (extent - 1) / (size - 1), with `half_pixel_centers` at (i + 0.5) * extent / size - 0.5.

    Args:
        x: [batch, spatial.., channels] with one to three spatial axes, or [batch, channels, spatial..].
        size: the new extents, one number or one for each spatial axis.
        method: "nearest" (the element at the place, or the one before it) or "bilinear" (between the elements around,
            along each axis).
        align_corners: the first and last elements stay where they are.
        half_pixel_centers: elements are taken as areas of width 1; not together with `align_corners`.
        data_format: channelsLast or channelsFirst.

    Raises:
        ShapeError: x of another rank, sizes below 1, both ways to place elements.
        UnknownNameError: an unknown method or data format.
    """
    if method not in METHODS:
        raise UnknownNameError.of("interpolation", method, METHODS)
    if align_corners and half_pixel_centers:
        raise ShapeError("resize: align_corners and half_pixel_centers exclude each other; choose one.")
    rank = len(movement._shape(x)) - 2
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, min(max(rank, 1), 3), "resize", first)
    size = spatial.per_axis(size, rank, "size", "resize")
    x = spatial.to_last(x, first)
    x = spatial.as_number(x) if method == "bilinear" else x
    for axis, n in enumerate(size, 1):
        x = _resized(x, axis, n, method, align_corners, half_pixel_centers)
    return spatial.from_last(x, first)


def _resized(x: Any, axis: int, size: int, method: str, corners: bool, halves: bool) -> Any:
    """One axis with `size` elements."""
    shape = movement._shape(x)
    extent = shapes.static(shape[axis])
    if extent == size:
        return x
    if method == "nearest" and not corners and size % extent == 0:
        return movement.repeat(x, size // extent, axis)
    weights = _weights(extent, size, method, corners, halves)
    # The axis becomes the rows of a matrix: a product with few nonzero weights, whose gradient is a product as well.
    dtype = as_op(x).dtype if is_symbolic(x) else np.asarray(x).dtype
    rows = movement.reshape(x, (shapes.size(shape[:axis]), extent, shapes.size(shape[axis + 1 :])))
    y = contraction.matmul(weights.astype(dtype), rows)
    return movement.reshape(y, (*shape[:axis], size, *shape[axis + 1 :]))


def _weights(extent: int, size: int, method: str, corners: bool, halves: bool) -> np.ndarray:
    """[size, extent]: the parts of the old elements in each new one."""
    place = _places(extent, size, corners, halves)
    rows = np.arange(size)
    weights = np.zeros((size, extent))
    if method == "nearest":
        place = np.floor(place + 0.5) if corners or halves else np.floor(place)
        weights[rows, np.clip(place, 0, extent - 1).astype(int)] = 1
        return weights
    place = np.clip(place, 0, extent - 1)
    low = np.floor(place).astype(int)
    np.add.at(weights, (rows, low), 1 - (place - low))
    np.add.at(weights, (rows, np.minimum(low + 1, extent - 1)), place - low)
    return weights


def _places(extent: int, size: int, corners: bool, halves: bool) -> np.ndarray:
    """Where on the old axis each new element is taken; exact where that is a whole number."""
    rows = np.arange(size)
    if corners:
        return rows * (extent - 1) / (size - 1) if size > 1 else np.zeros(1)
    return (rows + 0.5) * extent / size - 0.5 if halves else rows * extent / size


def resize_bilinear(
    x: Any, size: int | Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """`resize` between the elements around."""
    return resize(x, size, "bilinear", align_corners, half_pixel_centers)


def resize_nearest_neighbor(
    x: Any, size: int | Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """`resize` from the nearest element."""
    return resize(x, size, "nearest", align_corners, half_pixel_centers)


def up_sample(x: Any, factors: int | Sequence[int], method: str = "nearest", data_format: str = "channelsLast") -> Any:
    """Spatial axes `factors` times as long; see `resize`."""
    first = spatial.is_channels_first(data_format)
    rank = len(movement._shape(x)) - 2
    spatial.check_rank(x, min(max(rank, 1), 3), "up_sample", first)
    factors = spatial.per_axis(factors, rank, "factors", "up_sample")
    extents = movement._shape(x)[2:] if first else movement._shape(x)[1:-1]
    size = [shapes.static(n) * f for n, f in zip(extents, factors, strict=True)]
    return resize(x, size, method, data_format=data_format)
