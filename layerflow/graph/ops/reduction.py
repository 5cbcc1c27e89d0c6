"""Kind *reduce*: axes folded with an associative operation; mean, argmax and the like are compositions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement
from layerflow.graph.ops.primitive import Primitive, as_op, numpy_op
from layerflow.graph.symbolic import NUMPY_OPS, Kind

Axis = int | Sequence[int] | None


class Reduction(Primitive):
    """Folds axes with `combine` (the name of a map), starting from `identity`."""

    def __init__(self, name: str, kernel: Any, combine: str, identity: float):
        super().__init__(name, Kind.REDUCE, kernel, lambda shape, axes: shapes.reduced(shape, axes))
        self.combine = combine
        self.identity = identity

    def __call__(self, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
        shape = shape_of(x)
        axes = shapes.normalize_axes(axis, len(shape))
        dtype = dtype_of(x)
        if self.combine in ("add", "multiply") and (dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize < 4)):
            x = e.cast(x, np.int32)  # truth values are counted, and small integers would overflow
        y = self.bind([x], axes=axes) if axes else e.stop_gradient(x) if not symbolic.is_symbolic(x) else x
        return movement.reshape(y, shapes.reduced(shape, axes, keepdims=True)) if keepdims else y


def shape_of(x: Any) -> shapes.Shape:
    """Shape of a symbol (with run-time extents as Dims), variable or array."""
    return movement._shape(x)


def dtype_of(x: Any) -> np.dtype:
    return as_op(x).dtype if symbolic.is_symbolic(x) else np.asarray(x).dtype


def _sum(x, axes):
    return np.sum(x, axis=axes, dtype=x.dtype)


def _max(x, axes):
    return np.max(x, axis=axes, initial=-np.inf) if x.dtype.kind == "f" else np.max(x, axis=axes)


def _min(x, axes):
    return np.min(x, axis=axes, initial=np.inf) if x.dtype.kind == "f" else np.min(x, axis=axes)


def _prod(x, axes):
    return np.prod(x, axis=axes, dtype=x.dtype)


sum_ = Reduction("sum", _sum, "add", 0.0)
max_ = Reduction("max", _max, "maximum", -np.inf)
min_ = Reduction("min", _min, "minimum", np.inf)
prod = Reduction("prod", _prod, "multiply", 1.0)


def _expand(g: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """`g` with the reduced axes back as 1."""
    return movement.reshape(g, shapes.reduced(shape_of(x), axes, keepdims=True))


@sum_.vjp
def _(g, y, x, axes):
    return movement.broadcast_to(_expand(g, x, axes), shape_of(x))


def _extremum_rule(g, y, x, axes):
    # Ties each get the whole cotangent, as in TF.js.
    return e.where(e.equal(x, _expand(y, x, axes)), _expand(g, x, axes), 0)


max_.vjp(_extremum_rule)
min_.vjp(_extremum_rule)


@prod.vjp
def _(g, y, x, axes):
    # With one zero among the factors only that one has a gradient, the product of the others; with more none has.
    zero = e.equal(x, 0)
    zeros = sum_(e.cast(zero, np.int32), axes, keepdims=True)
    others = prod(e.where(zero, 1, x), axes, keepdims=True)
    without = e.where(e.equal(zeros, 0), _expand(y, x, axes) / e.where(zero, 1, x), 0)
    return _expand(g, x, axes) * e.where(e.logical_and(zero, e.equal(zeros, 1)), others, without)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over axes; integers and booleans are averaged as floats."""
    shape = shape_of(x)
    axes = shapes.normalize_axes(axis, len(shape))
    total = sum_(as_float(x), axes, keepdims)
    return total / indexing.extent_of(shapes.size([shape[a] for a in axes]))


def as_float(x: Any) -> Any:
    """`x`, with integers and booleans cast to float32."""
    return x if dtype_of(x).kind == "f" else e.cast(x, np.float32)


def variance(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean squared deviation from the mean (biased)."""
    return mean(e.square(x - mean(x, axis, keepdims=True)), axis, keepdims)


def std(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return e.sqrt(variance(x, axis, keepdims))


def _truth(x: Any) -> Any:
    """1 where x is true (or not 0), else 0."""
    return e.cast(x if dtype_of(x).kind == "b" else e.not_equal(x, 0), np.int32)


def any_(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any element along the axes is true, or not 0."""
    return e.not_equal(max_(_truth(x), axis, keepdims), 0)


def all_(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements along the axes are true, or not 0."""
    return e.not_equal(min_(_truth(x), axis, keepdims), 0)


def _first_equal(x: Any, best: Any, axis: int, keepdims: bool) -> Any:
    """Position of the first element equal to the extremum, int32."""
    shape = shape_of(x)
    extent = shape[axis]
    if isinstance(extent, shapes.Dim):
        raise shapes.ShapeError(
            f"argmax/argmin over the batch axis {axis} of {shapes.text(shape)} is not supported; "
            "choose an axis of known extent."
        )
    column = [1] * len(shape)
    column[axis] = extent
    positions = movement.reshape(indexing.arange(extent, symbolic_like=x), column)
    return min_(e.where(e.equal(x, best), positions, extent - 1), axis, keepdims)


def argmax(x: Any, axis: int | None = -1, keepdims: bool = False) -> Any:
    """Index of the first largest element, int32; axis=None looks at the flattened tensor."""
    if axis is None:
        return argmax(movement.reshape(x, (-1,)), 0, keepdims)
    axis = shapes.normalize_axis(axis, len(shape_of(x)))
    return _first_equal(x, max_(x, axis, keepdims=True), axis, keepdims)


def argmin(x: Any, axis: int | None = -1, keepdims: bool = False) -> Any:
    """Index of the first smallest element, int32."""
    if axis is None:
        return argmin(movement.reshape(x, (-1,)), 0, keepdims)
    axis = shapes.normalize_axis(axis, len(shape_of(x)))
    return _first_equal(x, min_(x, axis, keepdims=True), axis, keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))), without overflow."""
    top = e.stop_gradient(max_(x, axis, keepdims=True))
    total = e.log(sum_(e.exp(x - top), axis, keepdims=True)) + top
    return total if keepdims else movement.squeeze(total, shapes.normalize_axes(axis, len(shape_of(x))))


def _numpy_reduction(op: Any, *functions: Any, default: Any = None) -> None:
    @numpy_op(*functions)
    def call(
        a: Any, axis: Any = default, dtype: Any = None, out: Any = None, keepdims: bool = False, **unused: Any
    ) -> Any:
        y = op(a, axis, keepdims) if default is None or axis is not None else op(a, None, keepdims)
        return y if dtype is None else e.cast(y, dtype)


_numpy_reduction(sum_, np.sum)
_numpy_reduction(max_, np.max, np.amax)
_numpy_reduction(min_, np.min, np.amin)
_numpy_reduction(prod, np.prod)
_numpy_reduction(mean, np.mean)
_numpy_reduction(variance, np.var)
_numpy_reduction(std, np.std)
_numpy_reduction(any_, np.any)
_numpy_reduction(all_, np.all)
_numpy_reduction(argmax, np.argmax)
_numpy_reduction(argmin, np.argmin)
for _ufunc, _op in ((np.add, sum_), (np.maximum, max_), (np.minimum, min_), (np.multiply, prod)):
    NUMPY_OPS[(_ufunc, "reduce")] = _op
movement.REDUCE_SUM.append(sum_)
