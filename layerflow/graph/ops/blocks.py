"""Moves made of moves: blocks of space and batch, mirrored edges, slices with masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import movement, spatial
from layerflow.graph.ops.primitive import numpy_op


def depth_to_space(x: Any, block_size: int, data_format: str = "channelsLast") -> Any:
    """[batch, h, w, c] as [batch, h * block, w * block, c / block**2]: channels become blocks of pixels."""
    first = spatial.is_channels_first(data_format)
    x = spatial.to_last(x, first)
    b, h, w, c = _four(x, "depth_to_space")
    if block_size < 1 or c % block_size**2:
        raise ShapeError(f"depth_to_space: {c} channels do not divide into blocks of {block_size} x {block_size}.")
    y = movement.reshape(x, (b, h, w, block_size, block_size, c // block_size**2))
    y = movement.transpose(y, (0, 1, 3, 2, 4, 5))
    return spatial.from_last(movement.reshape(y, (b, h * block_size, w * block_size, c // block_size**2)), first)


def _four(x: Any, name: str) -> tuple[Any, int, int, int]:
    shape = movement._shape(x)
    if len(shape) != 4:
        raise ShapeError(
            f"{name}: the input must have rank 4 [batch, height, width, channels], got {shapes.text(shape)}."
        )
    return shape[0], *map(shapes.static, shape[1:])  # type: ignore[return-value]


def space_to_batch_nd(x: Any, block_shape: Sequence[int], paddings: Sequence[Sequence[int]]) -> Any:
    """Blocks of the axes after the batch become batches: [batch * prod(block), axes / block, rest]."""
    n = len(block_shape)
    shape = movement._shape(x)
    pairs = [(0, 0), *[(int(a), int(b)) for a, b in paddings], *[(0, 0)] * (len(shape) - 1 - n)]
    x = movement.pad(x, pairs)
    shape = movement._shape(x)
    for extent, block in zip(shape[1:], block_shape, strict=False):
        if shapes.static(extent) % block:
            raise ShapeError(
                f"space_to_batch_nd: padded extents {shapes.text(shape[1 : 1 + n])} over {list(block_shape)}."
            )
    split = [p for e, b in zip(shape[1:], block_shape, strict=False) for p in (shapes.static(e) // b, b)]
    y = movement.reshape(x, (shape[0], *split, *shape[1 + n :]))
    order = [*range(2, 2 * n + 1, 2), 0, *range(1, 2 * n, 2), *range(2 * n + 1, len(shape) + n)]
    outer = [shapes.static(e) // b for e, b in zip(shape[1:], block_shape, strict=False)]
    batch = shapes.multiply(shape[0], math.prod(block_shape))
    return movement.reshape(movement.transpose(y, order), (batch, *outer, *shape[1 + n :]))


def batch_to_space_nd(x: Any, block_shape: Sequence[int], crops: Sequence[Sequence[int]]) -> Any:
    """The inverse of `space_to_batch_nd`; `crops` are cut off the axes at the end."""
    n, shape = len(block_shape), movement._shape(x)
    batch = shapes.divide(shape[0], math.prod(block_shape))
    y = movement.reshape(x, (*block_shape, batch, *shape[1:]))
    order = [n, *[i for axis in range(n) for i in (n + 1 + axis, axis)], *range(2 * n + 1, n + len(shape))]
    whole = [shapes.static(e) * b for e, b in zip(shape[1:], block_shape, strict=False)]
    y = movement.reshape(movement.transpose(y, order), (batch, *whole, *shape[1 + n :]))
    begin = [0, *(int(c[0]) for c in crops), *[0] * (len(shape) - 1 - n)]
    size = [batch, *(e - int(a) - int(b) for e, (a, b) in zip(whole, crops, strict=True)), *shape[1 + n :]]
    return movement.slice_(y, begin, size)


def mirror_pad(x: Any, paddings: Sequence[Sequence[int]], mode: str = "reflect") -> Any:
    """`x` with its edges mirrored outward: "reflect" leaves the edge itself out, "symmetric" repeats it."""
    if mode not in ("reflect", "symmetric"):
        raise ShapeError(f'mirror_pad: mode must be "reflect" or "symmetric", got {mode!r}.')
    skip = int(mode == "reflect")
    for axis, (before, after) in enumerate(paddings):
        extent = movement._shape(x)[axis]
        if not (before or after):
            continue
        if max(before, after) > shapes.static(extent) - skip:
            raise ShapeError(
                f"mirror_pad: {before} and {after} elements of axis {axis} cannot be mirrored; it has {extent}."
            )
        parts = [_part(x, axis, skip, before), x, _part(x, axis, shapes.static(extent) - skip - after, after)]
        parts = [parts[0] if before else None, x, parts[2] if after else None]
        flipped = [p if p is x else movement.flip(p, axis) for p in parts if p is not None]
        x = movement.concatenate(flipped, axis)
    return x


def _part(x: Any, axis: int, at: int, count: int) -> Any:
    shape = list(movement._shape(x))
    begin = [0] * len(shape)
    begin[axis], shape[axis] = at, count
    return movement.slice_(x, begin, shape)


def strided_slice(
    x: Any,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int] | None = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Any:
    """`x[begin:end:strides]` axis by axis; bit i of a mask: no begin, no end, `...`, a new axis, or an index at i."""
    steps = strides if strides is not None else [1] * len(begin)
    keys: list[Any] = []
    for i, (b, stop, s) in enumerate(zip(begin, end, steps, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            keys.append(Ellipsis)
        elif new_axis_mask & bit:
            keys.append(None)
        elif shrink_axis_mask & bit:
            keys.append(int(b))
        else:
            keys.append(slice(None if begin_mask & bit else int(b), None if end_mask & bit else int(stop), int(s)))
    return movement.getitem(x, tuple(keys))


def reverse(x: Any, axis: Any = None) -> Any:
    """The elements in opposite order along `axis` (all axes by default)."""
    return movement.flip(x, axis)


def meshgrid(*vectors: Any, indexing: str = "xy") -> list[Any]:
    """Coordinate grids of vectors; "xy" swaps the first two axes, "ij" does not."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f'meshgrid: indexing must be "xy" or "ij", got {indexing!r}.')
    extents = [movement._shape(v)[0] if movement._shape(v) else 1 for v in vectors]
    out = []
    for i, v in enumerate(vectors):
        column = [1] * len(vectors)
        column[i] = shapes.static(extents[i])
        y = movement.broadcast_to(movement.reshape(v, column), extents)
        out.append(movement.swapaxes(y, 0, 1) if indexing == "xy" and len(vectors) > 1 else y)
    return out


def broadcast_args(a: Any, b: Any) -> shapes.Shape:
    """The shape that shapes `a` and `b` broadcast to."""
    return shapes.broadcast(tuple(int(n) for n in a), tuple(int(n) for n in b), what="shapes")


def ensure_shape(x: Any, shape: Sequence[int | None]) -> Any:
    """`x` itself, if it has this shape (None fits any extent); ShapeError otherwise."""
    own = movement._shape(x)
    fits = len(own) == len(shape) and all(n is None or n == m for n, m in zip(shape, own, strict=True))
    if not fits:
        raise ShapeError(f"ensure_shape: the tensor has shape {shapes.text(own)}, not {shapes.text(shape)}.")
    return x


def reshape_as(x: Any, other: Any) -> Any:
    """`x` with the shape of `other`."""
    return movement.reshape(x, movement._shape(other))


def add_n(tensors: Sequence[Any]) -> Any:
    """The sum of tensors of one shape."""
    tensors = list(tensors)
    known = [movement._shape(t) for t in tensors]
    if not tensors or any(s != known[0] for s in known):
        raise ShapeError(f"add_n: needs tensors of one shape, got {', '.join(map(shapes.text, known)) or 'none'}.")
    total = tensors[0]
    for t in tensors[1:]:
        total = symbolic.OPERATORS["add"](total, t)
    return total


@numpy_op(np.diag)
def diag(x: Any) -> Any:
    """A vector of n on the diagonal of [n, n]; a tensor of shape s on that of [*s, *s]."""
    shape = tuple(map(shapes.static, movement._shape(x)))
    n = math.prod(shape)
    eye = np.eye(n, dtype=x.dtype)
    return movement.reshape(symbolic.OPERATORS["multiply"](movement.reshape(x, (1, n)), eye), (*shape, *shape))


def _of_rank(rank: int, op: Any, name: str) -> Any:
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        own = len(movement._shape(x))
        if own != rank:
            raise ShapeError(f"{name}: the tensor must have rank {rank}, got {shapes.text(movement._shape(x))}.")
        return op(x, *args, **kwargs)

    call.__name__, call.__doc__ = name, f"`{op.__name__.rstrip('_')}` of a tensor of rank {rank}."
    return call


slice1d, slice2d, slice3d, slice4d = (_of_rank(n, movement.slice_, f"slice{n}d") for n in (1, 2, 3, 4))
reverse1d, reverse2d, reverse3d, reverse4d = (_of_rank(n, reverse, f"reverse{n}d") for n in (1, 2, 3, 4))
pad2d, pad3d, pad4d = (_of_rank(n, movement.pad, f"pad{n}d") for n in (2, 3, 4))


def pad1d(x: Any, widths: Sequence[int], value: float = 0.0) -> Any:
    """A vector with `widths = (before, after)` elements of `value` added."""
    return _of_rank(1, movement.pad, "pad1d")(x, [tuple(widths)], value)


def concat(tensors: Sequence[Any], axis: int = 0) -> Any:
    """The tensors one after another along `axis`, by default the first."""
    return movement.concatenate(tensors, axis)


def _concat(rank: int) -> Any:
    def call(tensors: Sequence[Any], axis: int = 0) -> Any:
        for t in tensors:
            if len(movement._shape(t)) != rank:
                raise ShapeError(
                    f"concat{rank}d: every tensor must have rank {rank}, got {shapes.text(movement._shape(t))}."
                )
        return movement.concatenate(tensors, axis)

    call.__name__, call.__doc__ = f"concat{rank}d", f"Tensors of rank {rank} one after another along `axis`."
    return call


concat1d, concat2d, concat3d, concat4d = (_concat(n) for n in (1, 2, 3, 4))


def _to_rank(rank: int) -> Any:
    def call(x: Any, *shape: int) -> Any:
        target = shape if shape else (-1,) if rank == 1 else movement._shape(x)
        if len(target) != rank:
            raise ShapeError(f"as{rank}d: needs {rank} extents, got {list(target)}.")
        return movement.reshape(x, target)

    call.__name__, call.__doc__ = f"as{rank}d", f"`x` with these {rank} extents."
    return call


as1d, as2d, as3d, as4d, as5d = (_to_rank(n) for n in (1, 2, 3, 4, 5))


def as_scalar(x: Any) -> Any:
    """The one element of `x` as a scalar."""
    return movement.reshape(x, ())
