"""Normalization as functions, norms, and matrices made orthogonal or cut to a band."""

from __future__ import annotations

import math
from typing import Any

from layerflow.errors import ShapeError
from layerflow.graph import shapes
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement, reduction, spatial, windows


def batch_norm(
    x: Any, mean: Any, variance: Any, offset: Any = None, scale: Any = None, variance_epsilon: float = 0.001
) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset; the other tensors broadcast to x."""
    factor = e.rsqrt(e.add(variance, variance_epsilon))
    factor = factor if scale is None else factor * scale
    y = e.subtract(x, mean) * factor
    return y if offset is None else y + offset


def _of_rank(rank: int) -> Any:
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        if len(movement._shape(x)) != rank:
            raise ShapeError(f"batch_norm{rank}d: x must have rank {rank}, got {shapes.text(movement._shape(x))}.")
        return batch_norm(x, *args, **kwargs)

    call.__name__, call.__doc__ = f"batch_norm{rank}d", f"`batch_norm` of a tensor of rank {rank}."
    return call


batch_norm2d, batch_norm3d, batch_norm4d = (_of_rank(n) for n in (2, 3, 4))


def local_response_normalization(
    x: Any, depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5
) -> Any:
    """x / (bias + alpha * s)**beta, s the sum of squares over the channels up to `depth_radius` away."""
    shape = movement._shape(x)
    channels = shapes.static(shape[-1])
    wide = movement.pad(e.square(x), [(0, 0)] * (len(shape) - 1) + [(depth_radius, depth_radius)])
    total: Any = None
    for at in range(2 * depth_radius + 1):
        part = movement.slice_(wide, [0] * (len(shape) - 1) + [at], [*shape[:-1], channels])
        total = part if total is None else total + part
    return e.multiply(x, e.power(e.add(e.multiply(total, alpha), bias), -beta))


def norm(x: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of vectors (one axis, or all elements) or of matrices (two axes).

    Args:
        ord: "euclidean" (or "fro"), 1, 2, any positive number p, `math.inf`, `-math.inf`.
        axis: one axis, two axes, or None for the whole tensor as one vector.

    Raises:
        ShapeError: an order that the number of axes does not have.
    """
    if axis is None:
        y = norm(movement.flatten(x), ord, 0)
        return movement.reshape(y, (1,) * len(movement._shape(x))) if keepdims else y
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) not in (1, 2):
        raise ShapeError(f"norm: axis must be one or two axes, got {list(axes)}.")
    size = e.abs_(x)
    if ord in ("euclidean", "fro") or (ord == 2 and len(axes) == 1):
        return e.sqrt(reduction.sum_(e.square(x), axes, keepdims))
    if len(axes) == 1:
        if ord in (math.inf, "inf"):
            return reduction.max_(size, axes, keepdims)
        if ord in (-math.inf, "-inf"):
            return reduction.min_(size, axes, keepdims)
        if isinstance(ord, (int, float)) and ord > 0:
            return e.power(reduction.sum_(e.power(size, float(ord)), axes, keepdims), 1.0 / ord)
    elif ord in (1, math.inf, -math.inf):
        rank = len(movement._shape(x))
        rows, columns = (shapes.normalize_axis(a, rank) for a in axes)
        inner, outer = (rows, columns) if ord == 1 else (columns, rows)
        fold = reduction.min_ if ord == -math.inf else reduction.max_
        y = fold(reduction.sum_(size, inner, keepdims=True), outer, keepdims=True)
        return y if keepdims else movement.squeeze(y, axes)
    raise ShapeError(f"norm: no norm of order {ord!r} over {len(axes)} axes.")


def euclidean_norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`norm` of order 2 over one or two axes or all elements."""
    return norm(x, "euclidean", axis, keepdims)


def band_part(x: Any, num_lower: int, num_upper: int) -> Any:
    """Matrices with zeros outside of a band around the diagonal; a negative number keeps that whole side."""
    rows, columns = (shapes.static(n) for n in movement._shape(x)[-2:])
    i = movement.reshape(indexing.arange(rows, symbolic_like=x), (rows, 1))
    j = movement.reshape(indexing.arange(columns, symbolic_like=x), (1, columns))
    inside = e.logical_and(
        e.less_equal(e.subtract(i, j), rows if num_lower < 0 else num_lower),
        e.less_equal(e.subtract(j, i), columns if num_upper < 0 else num_upper),
    )
    return e.where(inside, x, 0)


def gram_schmidt(xs: Any) -> Any:
    """Vectors made orthogonal and of length 1, one after another: a list of vectors, or the rows of a matrix."""
    matrix = not isinstance(xs, (list, tuple))
    vectors = movement.unstack(xs) if matrix else list(xs)
    done: list[Any] = []
    for v in vectors:
        for u in done:
            v = v - reduction.sum_(v * u) * u
        done.append(v / norm(v))
    return movement.stack(done) if matrix else done


def dilation2d(x: Any, kernel: Any, strides: Any = 1, padding: str = "valid", dilations: Any = 1) -> Any:
    """max over each window of (x + kernel): grey-scale dilation.

    Args:
        x: [batch, height, width, channels].
        kernel: [height, width, channels].
    """
    shape, size = movement._shape(x), tuple(map(shapes.static, movement._shape(kernel)[:2]))
    steps = spatial.per_axis(strides, 2, "strides", "dilation2d")
    spreads = spatial.per_axis(dilations, 2, "dilations", "dilation2d")
    pairs = spatial.padding_pairs(padding, shape, size, steps, spreads, "dilation2d")
    y = windows.windows(spatial.padded(x, pairs, -math.inf), size, steps, spreads)
    return reduction.max_(e.add(y, kernel), (3, 4))
