"""Windows over the spatial axes: taken apart, added back, and folded by sum or maximum."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from layerflow.graph import shapes
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement, reduction, spatial
from layerflow.graph.ops.primitive import Composite, Primitive, elementwise, literal
from layerflow.graph.shapes import Shape
from layerflow.graph.symbolic import Kind, SymbolicTensor

Ints = tuple[int, ...]
UNROLLED = 64  # folds of windows of at most this many elements are written out, larger ones are reductions


@elementwise()
def keep(x):
    """`x`, stored where it is made and not made again where it is read."""
    return x


@keep.vjp
def _(g, y, x):
    return g


def _windows(x, size, strides, dilations):
    """z[b, o, k, c] = x[b, o * stride + k * dilation, c]."""
    out = spatial.window_shape(x.shape, size, strides, dilations)
    z = np.empty((len(x), *out, *size, x.shape[-1]), x.dtype)
    for k, view in spatial.views(x, size, strides, dilations):
        z[_place(k)] = view
    return z


def _overlap_add(z, extents, strides, dilations):
    """The transpose of `windows`: every element added to the place it was taken from."""
    size = z.shape[1 + len(extents) : -1]
    x = np.zeros((len(z), *extents, z.shape[-1]), z.dtype)
    for k, view in spatial.views(x, size, strides, dilations):
        view += z[_place(k)]
    return x


def _place(k: Ints) -> tuple[Any, ...]:
    """Element k of every window in [batch, windows.., size.., channels]."""
    return (slice(None),) * (1 + len(k)) + k


def _window_sum(x, size, strides, dilations):
    return functools.reduce(np.add, (view for _, view in spatial.views(x, size, strides, dilations)))


def _window_max(x, size, strides, dilations):
    return functools.reduce(np.maximum, (view for _, view in spatial.views(x, size, strides, dilations)))


def _window_argmax(x, size, strides, dilations, dtype):
    """The place of the first maximum of every window, counted in row-major order."""
    best = _window_max(x, size, strides, dilations)
    place = np.full(best.shape, math.prod(size) - 1, dtype)
    for at, (_, view) in reversed(list(enumerate(spatial.views(x, size, strides, dilations)))):
        place[view == best] = at
    return place


def _windows_shape(x: Shape, size, strides, dilations) -> Shape:
    return (x[0], *spatial.window_shape(x, size, strides, dilations), *size, x[-1])


def _folded_shape(x: Shape, size, strides, dilations, dtype=None) -> Shape:
    return (x[0], *spatial.window_shape(x, size, strides, dilations), x[-1])


windows_p = Primitive("windows", Kind.MOVE, _windows, _windows_shape)
overlap_add_p = Primitive(
    "overlap_add", Kind.MOVE, _overlap_add, lambda z, extents, strides, dilations: (z[0], *extents, z[-1])
)
window_sum_p = Composite("window_sum", _window_sum, _folded_shape)
window_max_p = Composite("window_max", _window_max, _folded_shape)
window_argmax_p = Composite("window_argmax", _window_argmax, _folded_shape)


# --- gradients ---------------------------------------------------------------


@windows_p.vjp
def _(g, y, x, size, strides, dilations):
    return overlap_add(g, movement._shape(x)[1:-1], strides, dilations)


@overlap_add_p.vjp
def _(g, y, z, extents, strides, dilations):
    return windows(g, movement._shape(z)[1 + len(extents) : -1], strides, dilations)


@window_sum_p.vjp
def _(g, y, x, size, strides, dilations):
    shape = movement._shape(g)
    spread = movement.broadcast_to(_beside_windows(g, len(size)), (*shape[:-1], *size, shape[-1]))
    return overlap_add(spread, movement._shape(x)[1:-1], strides, dilations)


@window_max_p.vjp
def _(g, y, x, size, strides, dilations):
    # The first maximum of a window gets all of its cotangent, as in TF.js.
    rank, dtype = len(size), place_type(size)
    place = window_argmax_p.bind([x], size=size, strides=strides, dilations=dilations, dtype=dtype.name)
    own = movement.reshape(indexing.positions(size, None, dtype), (*(1,) * (1 + rank), *size, 1))
    routed = e.where(e.equal(_beside_windows(place, rank), own), _beside_windows(g, rank), 0)
    return overlap_add(routed, movement._shape(x)[1:-1], strides, dilations)


def _beside_windows(x: Any, rank: int) -> Any:
    """[batch, windows.., channels] as [batch, windows.., 1.., channels]."""
    shape = movement._shape(x)
    return movement.reshape(x, (*shape[:-1], *(1,) * rank, shape[-1]))


def place_type(size: Ints) -> np.dtype:
    """The smallest type for a place in a window."""
    return np.dtype(np.uint8 if math.prod(size) <= 256 else np.int32)


# --- as other ops, for the compiler ------------------------------------------


@window_sum_p.expansion
def _(x, size, strides, dilations):
    if math.prod(size) > UNROLLED:
        return reduction.sum_(_merged(x, size, strides, dilations), -2)
    return functools.reduce(e.add, _elements(x, size, strides, dilations))


@window_max_p.expansion
def _(x, size, strides, dilations):
    if math.prod(size) > UNROLLED:
        return reduction.max_(_merged(x, size, strides, dilations), -2)
    return keep(functools.reduce(e.maximum, _elements(x, size, strides, dilations)))


@window_argmax_p.expansion
def _(x, size, strides, dilations, dtype):
    # The maxima are stored, so that they and the places come from one reading of x.
    best, last = window_max_p.bind([x], size=size, strides=strides, dilations=dilations), math.prod(size) - 1
    if last >= UNROLLED:
        parts = _merged(x, size, strides, dilations)
        own = movement.reshape(indexing.positions((last + 1,)), (last + 1, 1))
        hits = e.where(e.equal(parts, movement.expand_dims(best, -2)), own, last)
        return keep(e.cast(reduction.min_(hits, -2), np.dtype(dtype)))
    place = movement.broadcast_to(SymbolicTensor(literal(last, dtype)), movement._shape(best))
    for at, part in reversed(list(enumerate(_elements(x, size, strides, dilations)[:last]))):
        place = e.where(e.equal(part, best), at, place)
    return keep(place)


def _elements(x: Any, size: Ints, strides: Ints, dilations: Ints) -> list[Any]:
    """The k-th element of every window, for each k."""
    shape = movement._shape(x)
    kept = (shape[0], *spatial.window_shape(shape, size, strides, dilations), shape[-1])
    return [
        movement.slice_(x, (0, *(i * d for i, d in zip(k, dilations, strict=True)), 0), kept, (1, *strides, 1))
        for k in itertools.product(*map(range, size))
    ]


def _merged(x: Any, size: Ints, strides: Ints, dilations: Ints) -> Any:
    """The windows with their elements along one axis: [batch, windows.., elements, channels]."""
    z = windows(x, size, strides, dilations)
    shape, rank = movement._shape(z), len(size)
    return movement.reshape(z, (*shape[: 1 + rank], math.prod(size), shape[-1]))


# --- functions ---------------------------------------------------------------


def windows(x: Any, size: Any, strides: Ints, dilations: Ints) -> Any:
    """x [B, D.., C] as [B, O.., K.., C]: windows of K elements `dilations` apart, at steps of `strides`."""
    size = tuple(map(shapes.static, size))
    if not _side_by_side(size, strides, dilations):
        return windows_p.bind([x], size=size, strides=strides, dilations=dilations)
    shape, rank = movement._shape(x), len(size)
    out = spatial.window_shape(shape, size, strides, dilations)
    whole = (shape[0], *(o * k for o, k in zip(out, size, strict=True)), shape[-1])
    x = movement.slice_(x, (0,) * len(shape), whole) if whole != shape else x
    x = movement.reshape(x, (shape[0], *(n for pair in zip(out, size, strict=True) for n in pair), shape[-1]))
    return movement.transpose(x, (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1))


def overlap_add(z: Any, extents: Any, strides: Ints, dilations: Ints) -> Any:
    """The transpose of `windows`: z [B, O.., K.., C] as [B, extents.., C], with what falls on one place added up."""
    extents = tuple(map(shapes.static, extents))
    shape, rank = movement._shape(z), len(extents)
    out, size = shape[1 : 1 + rank], tuple(map(shapes.static, shape[1 + rank : -1]))
    if not _side_by_side(size, strides, dilations):
        return overlap_add_p.bind([z], extents=extents, strides=strides, dilations=dilations)
    x = movement.transpose(z, (0, *(a for i in range(rank) for a in (1 + i, 1 + rank + i)), 2 * rank + 1))
    whole = [shapes.static(o) * k for o, k in zip(out, size, strict=True)]
    x = movement.reshape(x, (shape[0], *whole, shape[-1]))
    return spatial.padded(x, [(0, n - w) for n, w in zip(extents, whole, strict=True)])


def _side_by_side(size: Ints, strides: Ints, dilations: Ints) -> bool:
    """Whether the windows touch without gaps, so that taking them apart is a reshape."""
    return size == strides and all(k == 1 or d == 1 for k, d in zip(size, dilations, strict=True))


def window_sum(x: Any, size: Ints, strides: Ints, dilations: Ints) -> Any:
    """The sum of every window: [B, O.., C]."""
    return window_sum_p.bind([x], size=size, strides=strides, dilations=dilations)


def window_max(x: Any, size: Ints, strides: Ints, dilations: Ints) -> Any:
    """The largest element of every window: [B, O.., C]."""
    return window_max_p.bind([x], size=size, strides=strides, dilations=dilations)
