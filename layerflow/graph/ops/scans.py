"""Running sums and products: log2(n) shifted additions, the same ones forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import movement
from layerflow.graph.ops.primitive import numpy_op


def cumsum(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Sums of the elements up to each one along `axis`.

    Args:
        exclusive: without the element itself.
        reverse: from the end.
    """
    return _scan("cumsum", x, axis, exclusive, reverse, e.add, 0.0)


def cumprod(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Products of the elements up to each one along `axis`; arguments as `cumsum`.  Exact gradients at zeros."""
    return _scan("cumprod", x, axis, exclusive, reverse, e.multiply, 1.0)


def _scan(
    name: str, x: Any, axis: int, exclusive: bool, reverse: bool, combine: Callable[[Any, Any], Any], neutral: float
) -> Any:
    shape = movement._shape(x)
    axis = shapes.normalize_axis(axis, len(shape))
    extent = shape[axis]
    if isinstance(extent, shapes.Dim):
        raise ShapeError(f"{name}: the batch axis of {shapes.text(shape)} is known only at run time; choose another.")
    if exclusive:
        x = _shifted(x, axis, 1, extent, neutral, reverse)
    by = 1
    while by < extent:
        x = combine(x, _shifted(x, axis, by, extent, neutral, reverse))
        by *= 2
    return x


def _shifted(x: Any, axis: int, by: int, extent: int, neutral: float, reverse: bool) -> Any:
    """`x` moved `by` places along the axis, away from where the scan starts, with `neutral` moved in."""
    shape = list(movement._shape(x))
    by = min(by, extent)
    begin, size, widths = [0] * len(shape), list(shape), [(0, 0)] * len(shape)
    begin[axis], size[axis] = (by if reverse else 0), extent - by
    widths[axis] = (0, by) if reverse else (by, 0)
    return movement.pad(movement.slice_(x, begin, size), widths, neutral)


@numpy_op(np.cumsum)
def _np_cumsum(a: Any, axis: int | None = None) -> Any:
    return cumsum(movement.flatten(a)) if axis is None else cumsum(a, axis)


@numpy_op(np.cumprod)
def _np_cumprod(a: Any, axis: int | None = None) -> Any:
    return cumprod(movement.flatten(a)) if axis is None else cumprod(a, axis)
