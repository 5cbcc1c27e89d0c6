"""Kind *move*: the same elements elsewhere.  The compiler turns moves into index arithmetic; most cost nothing."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops.primitive import Primitive, as_op, as_ops, numpy_op
from layerflow.graph.shapes import Dim, Extent, Shape
from layerflow.graph.symbolic import Kind, SymbolicTensor


def _shape(x: Any) -> Shape:
    if symbolic.is_symbolic(x):
        return as_op(x).shape
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)  # np.shape would ask a Variable for a symbolic form


reshape_p = Primitive("reshape", Kind.MOVE, lambda x, shape: np.reshape(x, shape), lambda old, shape: shape)
transpose_p = Primitive(
    "transpose", Kind.MOVE, lambda x, perm: np.transpose(x, perm), lambda s, perm: tuple(s[p] for p in perm)
)
broadcast_p = Primitive("broadcast_to", Kind.MOVE, lambda x, shape: np.broadcast_to(x, shape), lambda old, shape: shape)


def _slice_kernel(x, begin, size, step):
    return x[
        tuple(
            slice(b, None if (s < 0 and b + n * s < 0) or (b < 0 and b + n * s == 0) else b + n * s, s)
            for b, n, s in zip(begin, size, step, strict=True)
        )
    ]


slice_p = Primitive("slice", Kind.MOVE, _slice_kernel, lambda old, begin, size, step: size)
pad_p = Primitive(
    "pad",
    Kind.MOVE,
    lambda x, widths, value: np.pad(x, widths, constant_values=value),
    lambda s, widths, value: tuple(shapes.add(n, b + a) for n, (b, a) in zip(s, widths, strict=True)),
)


def _concatenated(*operands: Shape, axis: int) -> Shape:
    total: Extent = 0
    for shape in operands:
        total = shapes.add(total, shape[axis])
    return (*operands[0][:axis], total, *operands[0][axis + 1 :])


concatenate_p = Primitive("concatenate", Kind.MOVE, lambda *xs, axis: np.concatenate(xs, axis), _concatenated)


@reshape_p.vjp
def _(g, y, x, shape):
    return reshape(g, _shape(x))


@transpose_p.vjp
def _(g, y, x, perm):
    return transpose(g, tuple(int(i) for i in np.argsort(perm)))


@broadcast_p.vjp
def _(g, y, x, shape):
    return unbroadcast(g, _shape(x))


@slice_p.vjp
def _(g, y, x, begin, size, step):
    widths = []
    for axis, (b, n, s, full) in enumerate(zip(begin, size, step, _shape(x), strict=True)):
        if s == -1 and n == full:
            g = flip(g, axis)
            widths.append((0, 0))
        elif s != 1:
            g, begin = _spread(g, axis, b, shapes.static(n), s)
            widths.append((begin, shapes.static(full) - begin - shapes.static(_shape(g)[axis])))
        else:
            widths.append((b, 0) if n == full else (b, shapes.static(full) - n - b))
    return pad(g, widths) if builtins.any(w != (0, 0) for w in widths) else g


def _spread(g: Any, axis: int, begin: int, count: int, step: int) -> tuple[Any, int]:
    """`g` with step - 1 zeros between its elements along `axis`, and where its first one belongs."""
    if step < 0:
        g, begin, step = flip(g, axis), begin + (count - 1) * step, -step
    shape = _shape(g)
    apart = pad(expand_dims(g, axis + 1), [(0, 0)] * (axis + 1) + [(0, step - 1)] + [(0, 0)] * (len(shape) - axis - 1))
    apart = reshape(apart, [*shape[:axis], count * step, *shape[axis + 1 :]])
    whole = (count - 1) * step + 1 if count else 0
    return slice_(apart, [0] * len(shape), [*shape[:axis], whole, *shape[axis + 1 :]]), begin


@pad_p.vjp
def _(g, y, x, widths, value):
    return slice_(g, [w[0] for w in widths], _shape(x))


@concatenate_p.vjp
def _(g, y, *xs, axis):
    out, at = [], 0
    for x in xs:
        shape = _shape(x)
        begin = [0] * len(shape)
        begin[axis] = at
        out.append(slice_(g, begin, shape))
        at += shape[axis]
    return tuple(out)


def unbroadcast(g: Any, shape: Shape) -> Any:
    """Sums `g` over the axes that broadcasting `shape` to it added or stretched."""
    from_shape = _shape(g)
    if from_shape == shape:
        return g
    lead = len(from_shape) - len(shape)
    stretched = [i + lead for i, n in enumerate(shape) if n == 1 and from_shape[i + lead] != 1]
    return reshape(REDUCE_SUM[0](g, [*range(lead), *stretched]), shape)


REDUCE_SUM: list[Any] = []  # reductions are declared above moves in the imports; they put their sum here


def reshape(x: Any, shape: Any, *more: Any) -> Any:
    """`x` with another shape; -1 is inferred, a leading None is the batch."""
    target: list[Any] = [shape, *more] if more or isinstance(shape, (int, np.integer)) else list(shape)
    new = shapes.reshape(_shape(x), target)
    if isinstance(x, SymbolicTensor) and new == _shape(x):
        return x
    return reshape_p.bind([x], shape=new)


@numpy_op(np.transpose)
def transpose(x: Any, perm: Sequence[int] | None = None, axes: Sequence[int] | None = None) -> Any:
    """Axes in the order `perm`; reversed by default."""
    rank = len(_shape(x))
    order = perm if perm is not None else axes
    order = tuple(range(rank))[::-1] if order is None else tuple(shapes.normalize_axis(int(p), rank) for p in order)
    if sorted(order) != list(range(rank)):
        raise ShapeError(
            f"transpose: {list(order)} is not a permutation of the {rank} axes of {shapes.text(_shape(x))}."
        )
    return transpose_p.bind([x], perm=order)


@numpy_op(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(len(_shape(x))))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


@numpy_op(np.moveaxis)
def moveaxis(x: Any, source: int, destination: int) -> Any:
    rank = len(_shape(x))
    order = [i for i in range(rank) if i != shapes.normalize_axis(source, rank)]
    order.insert(shapes.normalize_axis(destination, rank), shapes.normalize_axis(source, rank))
    return transpose(x, order)


@numpy_op(np.broadcast_to)
def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """`x` repeated along axes of extent 1 to fill `shape`."""
    old = _shape(x)
    new = tuple(old[i - len(shape) + len(old)] if n is None else n for i, n in enumerate(shape))
    if shapes.broadcast(old, new) != new:
        raise ShapeError(f"cannot broadcast {shapes.text(old)} to {shapes.text(new)}.")
    return x if isinstance(x, SymbolicTensor) and new == old else broadcast_p.bind([x], shape=new)


@numpy_op(np.expand_dims)
def expand_dims(x: Any, axis: int = 0) -> Any:
    shape = list(_shape(x))
    shape.insert(shapes.normalize_axis(axis, len(shape) + 1), 1)
    return reshape(x, shape)


@numpy_op(np.squeeze)
def squeeze(x: Any, axis: Any = None) -> Any:
    """Without the axes of extent 1 (all of them, or those named)."""
    shape = _shape(x)
    axes = [i for i, n in enumerate(shape) if n == 1] if axis is None else shapes.normalize_axes(axis, len(shape))
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {shapes.text(shape)} has extent {shape[a]}, not 1.")
    return reshape(x, [n for i, n in enumerate(shape) if i not in axes])


def slice_(x: Any, begin: Any, size: Any, step: Any = None) -> Any:
    """The block that starts at `begin` with `size` elements an axis (-1: all the rest)."""
    shape = _shape(x)
    begin = tuple(int(b) for b in np.atleast_1d(begin)) + (0,) * (len(shape) - len(np.atleast_1d(begin)))
    size = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    size += (-1,) * (len(shape) - len(size))
    step = tuple(step or (1,) * len(shape))
    full: list[Extent] = []
    for b, n, extent in zip(begin, size, shape, strict=True):
        if isinstance(n, Dim) or isinstance(extent, Dim):
            if b or (n != extent and n != -1):
                raise ShapeError(
                    f"the batch axis of {shapes.text(shape)} cannot be cut: its extent is known only at run time."
                )
            full.append(extent)
        else:
            n = extent - b if n == -1 else int(n)
            if b < 0 or n < 0 or (step == (1,) * len(shape) and b + n > extent):
                raise ShapeError(
                    f"slice: begin {list(begin)} and size {list(size)} reach outside {shapes.text(shape)}."
                )
            full.append(n)
    return slice_p.bind([x], begin=begin, size=tuple(full), step=step)


def pad(x: Any, widths: Any, value: float = 0.0) -> Any:
    """`x` with `widths[axis] = (before, after)` elements of `value` added."""
    shape = _shape(x)
    pairs = tuple(
        (int(a), int(b)) for a, b in (widths if not isinstance(widths, int) else [(widths, widths)] * len(shape))
    )
    for (a, b), n in zip(pairs, shape, strict=True):
        if (a or b) and isinstance(n, Dim):
            raise ShapeError(f"pad: the batch axis of {shapes.text(shape)} cannot be padded.")
        if a < 0 or b < 0:
            raise ShapeError(f"pad: the widths {list(pairs)} must not be negative.")
    return pad_p.bind([x], widths=pairs, value=float(value))


@numpy_op(np.pad)
def _np_pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    if mode != "constant":
        raise ShapeError(f"np.pad on a symbol supports mode='constant' only, not {mode!r}.")
    return pad(array, pad_width, constant_values)


@numpy_op(np.concatenate)
def concatenate(values: Sequence[Any], axis: int = -1) -> Any:
    """The tensors one after another along `axis`; all other extents must agree."""
    values = list(values)
    all_shapes = [_shape(v) for v in values]
    rank = len(all_shapes[0])
    axis = shapes.normalize_axis(axis, rank)
    for shape in all_shapes[1:]:
        if len(shape) != rank or builtins.any(
            a != b for i, (a, b) in enumerate(zip(shape, all_shapes[0], strict=True)) if i != axis
        ):
            listed = ", ".join(shapes.text(s) for s in all_shapes)
            raise ShapeError(f"concatenate along axis {axis} needs equal extents on all other axes, got {listed}.")
    if builtins.any(map(symbolic.is_symbolic, values)):
        values = [SymbolicTensor(op) for op in as_ops(values, unify=True)]
    return values[0] if len(values) == 1 else concatenate_p.bind(values, axis=axis)


@numpy_op(np.stack)
def stack(values: Sequence[Any], axis: int = 0) -> Any:
    return concatenate([expand_dims(v, axis) for v in values], axis)


def split(x: Any, parts: int | Sequence[int], axis: int = 0) -> list[Any]:
    """`parts` equal pieces, or pieces of the given extents, along `axis`."""
    shape = _shape(x)
    axis = shapes.normalize_axis(axis, len(shape))
    total = shape[axis]
    if isinstance(total, Dim) or (isinstance(parts, int) and total % parts):
        raise ShapeError(f"split: axis {axis} of {shapes.text(shape)} does not divide into {parts} parts.")
    extents = [total // parts] * parts if isinstance(parts, int) else list(parts)
    out, at = [], 0
    for n in extents:
        begin, size = [0] * len(shape), list(shape)
        begin[axis], size[axis] = at, n
        out.append(slice_(x, begin, size))
        at += n
    return out


@numpy_op(np.split)
def _np_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    total = _shape(x)[axis]
    edges = [0, *indices_or_sections, total]
    return split(x, [b - a for a, b in itertools.pairwise(edges)], axis)


def unstack(x: Any, axis: int = 0) -> list[Any]:
    extent = _shape(x)[axis]
    if isinstance(extent, Dim):
        raise ShapeError(f"unstack: axis {axis} of {shapes.text(_shape(x))} is known only at run time.")
    return [squeeze(p, axis) for p in split(x, extent, axis)]


@numpy_op(np.tile)
def tile(x: Any, reps: Any) -> Any:
    """`x` repeated `reps[axis]` times along each axis."""
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    shape = (1,) * (len(reps) - len(_shape(x))) + _shape(x)
    reps = (1,) * (len(shape) - len(reps)) + reps
    y = reshape(x, [n for extent in shape for n in (1, extent)])
    y = broadcast_to(y, [n for r, extent in zip(reps, shape, strict=True) for n in (r, extent)])
    return reshape(y, [shapes.multiply(extent, r) for r, extent in zip(reps, shape, strict=True)])


@numpy_op(np.repeat)
def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """Each element `repeats` times, one beside the other, along `axis`."""
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, 0)
    shape = list(_shape(x))
    axis = shapes.normalize_axis(axis, len(shape))
    y = broadcast_to(
        reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]]), [*shape[: axis + 1], repeats, *shape[axis + 1 :]]
    )
    return reshape(y, [*shape[:axis], shapes.multiply(shape[axis], repeats), *shape[axis + 1 :]])


@numpy_op(np.flip)
def flip(x: Any, axis: Any = None) -> Any:
    shape = _shape(x)
    axes = shapes.normalize_axes(axis, len(shape))
    if builtins.any(shapes.is_batch(shape[a]) for a in axes):
        raise ShapeError(f"flip: the batch axis of {shapes.text(shape)} cannot be reversed.")
    # Of an extent that is known only at run time, -1 is the last place.
    last = [-1 if isinstance(n, Dim) else n - 1 for n in shape]
    begin = tuple(n if i in axes else 0 for i, n in enumerate(last))
    return slice_p.bind([x], begin=begin, size=shape, step=tuple(-1 if i in axes else 1 for i in range(len(shape))))


def getitem(x: Any, key: Any) -> Any:
    """Basic indexing: integers, slices, None and Ellipsis."""
    shape = _shape(x)
    keys = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for k in keys if k is not None and k is not Ellipsis)
    if used > len(shape):
        raise ShapeError(f"{used} indices are too many for a tensor of shape {shapes.text(shape)}.")
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    keys[at : at + 1] = [slice(None)] * (len(shape) - used)
    begin, size, step, target = [], [], [], []
    axis = 0
    for k in keys:
        if k is None:
            target.append(1)
            continue
        extent = shape[axis]
        b, n, s, kept = _index(k, extent, shape)
        begin.append(b)
        size.append(n)
        step.append(s)
        if kept:
            target.append(n)
        axis += 1
    y = x
    if tuple(size) != shape or builtins.any(b != 0 for b in begin) or builtins.any(s != 1 for s in step):
        y = slice_p.bind([x], begin=tuple(begin), size=tuple(size), step=tuple(step))
    return reshape(y, target)


def _index(k: Any, extent: Extent, shape: Shape) -> tuple[int, Extent, int, bool]:
    """(begin, size, step, axis kept) of one index."""
    if isinstance(k, slice):
        if isinstance(extent, Dim):
            if k != slice(None):
                raise ShapeError(
                    f"the batch axis of {shapes.text(shape)} cannot be cut: its extent is known only at run time."
                )
            return 0, extent, 1, True
        start, stop, step = k.indices(extent)
        return start, max(0, len(range(start, stop, step))), step, True
    if isinstance(k, (int, np.integer)) and not isinstance(extent, Dim):
        return shapes.normalize_axis(int(k), extent, "index"), 1, 1, False
    if k in (0, -1) and not shapes.is_batch(extent):
        return int(k), 1, 1, False
    if isinstance(k, (int, np.integer)) and not shapes.is_batch(extent):
        raise shapes.UnknownExtentError(f"element {k} of {shapes.text(shape)} may lie outside of an unknown extent.")
    if isinstance(k, (int, np.integer)):
        raise ShapeError(
            f"a single sample of {shapes.text(shape)} cannot be taken: the batch is known only at run time."
        )
    raise ShapeError(
        f"index {k!r} is not supported on a symbol; use lf.gather for integer arrays and np.where for conditions."
    )


@numpy_op(np.reshape)
def _np_reshape(a: Any, shape: Any = None, newshape: Any = None, order: str = "C") -> Any:
    return reshape(a, shape if shape is not None else newshape)


@numpy_op(np.ravel)
def flatten(x: Any) -> Any:
    """All elements along one axis."""
    return reshape(x, (-1,))
