"""Layers of several inputs.  Arguments and rules: INVENTORY 2.5."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from layerflow import config
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import factory


def _same_rank(layer: str, inputs: Sequence[Any]) -> list[Any]:
    """The inputs with axes of 1 put in after the batch, so that all have the highest rank."""
    rank = max(len(x.shape) for x in inputs)
    batches = {x.shape[0] for x in inputs if len(x.shape) and x.shape[0] is not None}
    if len(batches) > 1:
        raise ShapeError(f"{layer}: the inputs have batches of {sorted(batches)} examples; they must be equal.")
    out = []
    for x in inputs:
        while len(x.shape) < rank:
            x = ops.expand_dims(x, 1)
        out.append(x)
    return out


class Merge(Layer):
    """Base: folds two or more inputs, broadcast to each other, with `merge`."""

    supports_masking = True

    def merge(self, a: Any, b: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define merge(a, b).")

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ArgumentError(f"{self.name} merges a list of at least 2 inputs: call it with [a, b].")
        try:
            return functools.reduce(self.merge, _same_rank(self.name, inputs))
        except ValueError as error:
            need_known(self.name, *inputs)  # two unknown extents may turn out to be equal
            shapes = ", ".join(text(x.shape) for x in inputs)
            raise ShapeError(f"{self.name}: inputs of shapes {shapes} cannot be merged: {error}") from error

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """An element counts where it counts in every input that has a mask."""
        masks = [m for m in (mask if isinstance(mask, list) else [mask]) if m is not None]
        return functools.reduce(ops.logical_and, masks) if masks else None


class Add(Merge):
    """Sum of two or more inputs of one shape, or of shapes that broadcast; where an input has fewer axes, axes of 1 are
    put in behind its batch.

    Raises:
        ShapeError: shapes that do not broadcast to each other.

    >>> a, b = np.array([[1, 2]]), np.array([[10, 20]])
    >>> lf.layers.add().apply([a, b, b]).print()
    [[21, 42]]
    >>> x = lf.input(shape=[8])
    >>> lf.layers.add([x, lf.layers.dense(units=8).apply(x)]).shape  # around a layer, in one call
    (None, 8)
    """

    def merge(self, a, b):
        return a + b


class Subtract(Merge):
    """The first input minus the second; shapes as for Add.

    >>> a, b = np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])
    >>> lf.layers.subtract().apply([a, b]).print()
    [[-2.,  4.]]
    """

    def call(self, inputs):
        if isinstance(inputs, (list, tuple)) and len(inputs) != 2:
            raise ArgumentError(f"{self.name} takes exactly 2 inputs, got {len(inputs)}.")
        return super().call(inputs)

    def merge(self, a, b):
        return a - b


class Multiply(Merge):
    """Product of two or more inputs, element by element; shapes as for Add.

    >>> x, gates = np.array([[[1, 2], [3, 4]]]), np.array([[0, 1]])  # steps of two channels, and factors
    >>> lf.layers.multiply().apply([x, gates]).print()
    [[[0, 2],
      [0, 4]]]
    """

    def merge(self, a, b):
        return a * b


class Average(Merge):
    """Mean of two or more inputs, element by element; shapes as for Add.

    >>> a, b = np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])
    >>> lf.layers.average().apply([a, b]).print()
    [[2., 4.]]
    """

    def merge(self, a, b):
        return a + b

    def call(self, inputs):
        return super().call(inputs) * (1.0 / len(inputs))


class Maximum(Merge):
    """The largest of two or more inputs, element by element; shapes as for Add.

    >>> a, b = np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])
    >>> lf.layers.maximum().apply([a, b]).print()
    [[3., 6.]]
    """

    def merge(self, a, b):
        return ops.maximum(a, b)


class Minimum(Merge):
    """The smallest of two or more inputs, element by element; shapes as for Add.

    >>> a, b = np.array([[1.0, 6.0]]), np.array([[3.0, 2.0]])
    >>> lf.layers.minimum().apply([a, b]).print()
    [[1., 2.]]
    """

    def merge(self, a, b):
        return ops.minimum(a, b)


class Concatenate(Layer):
    """The inputs one after the other along an axis.

    Args:
        axis: along which they are joined; 0 is the batch, -1 the last.

    Raises:
        ShapeError: the inputs differ in another axis.

    >>> lf.layers.concatenate().apply([np.array([[1, 2]]), np.array([[3]])]).print()
    [[1, 2, 3]]
    >>> lf.layers.concatenate(axis=1).apply([np.ones((2, 5, 4)), np.ones((2, 3, 4))]).shape
    (2, 8, 4)
    """

    supports_masking = True

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = int(axis)

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ArgumentError(f"{self.name} joins a list of at least 2 inputs.")
        rank = len(inputs[0].shape)
        shapes = [tuple(x.shape) for x in inputs]
        if not -rank <= self.axis < rank:
            raise ShapeError(f"{self.name}: axis {self.axis} is out of range for inputs of shape {text(shapes[0])}.")
        others = {tuple(n for axis, n in enumerate(s) if axis != self.axis % rank) for s in shapes}
        if len(others) > 1:
            listed = ", ".join(text(s) for s in shapes)
            raise ShapeError(
                f"{self.name}: inputs of shapes {listed} differ in another axis than {self.axis}, "
                "the one they are joined along."
            )
        try:
            return ops.concatenate(list(inputs), self.axis)
        except ShapeError:
            need_known(self.name, *inputs)
            raise

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Masks joined likewise; an input without mask counts everywhere."""
        masks = mask if isinstance(mask, list) else [mask]
        if all(m is None for m in masks):
            return None
        rank = len(inputs[0].shape)
        axis = self.axis % rank
        filled = [ops.equal(x[..., 0], x[..., 0]) if m is None else m for x, m in zip(inputs, masks, strict=True)]
        return functools.reduce(ops.logical_and, filled) if axis == rank - 1 else ops.concatenate(filled, axis)


class Dot(Layer):
    """Products of two inputs summed over an axis of each: [batch, n, k] and [batch, m, k] over their last axes to
    [batch, n, m]; of [batch, k] and [batch, k] to [batch, 1].

    Args:
        axes: one axis for both, or a pair; the batch is axis 0.
        normalize: make the vectors along the axes have length 1 first: cosine similarity.

    Raises:
        ShapeError: inputs of other than 2 or 3 axes, or axes of different extents.

    >>> a, b = np.array([[1.0, 2.0]]), np.array([[3.0, 6.0]])
    >>> lf.layers.dot(axes=1).apply([a, b]).print()
    [[15.]]
    >>> lf.layers.dot(axes=1, normalize=True).apply([a, b]).numpy().round(3)  # one direction
    array([[1.]], dtype=float32)
    >>> lf.layers.dot(axes=2).apply([np.ones((2, 4, 8)), np.ones((2, 6, 8))]).shape  # each step with each
    (2, 4, 6)
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.axes = axes if isinstance(axes, int) else tuple(int(a) for a in axes)
        if not isinstance(self.axes, int) and len(self.axes) != 2:
            raise ArgumentError(f"{self.name}: axes must be an integer or a pair of them, got {axes!r}.")
        self.normalize = bool(normalize)

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            raise ArgumentError(f"{self.name} takes a list of exactly 2 inputs.")
        a, b = inputs
        over = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        axes = [axis % len(x.shape) for axis, x in zip(over, inputs, strict=True)]
        if not all(2 <= len(x.shape) <= 3 for x in inputs) or 0 in axes or a.shape[axes[0]] != b.shape[axes[1]]:
            raise ShapeError(
                f"{self.name}: cannot sum products of shapes {text(a.shape)} and {text(b.shape)} over axes "
                f"{list(over)}: the inputs need 2 or 3 axes, and equal extents (not the batch) there."
            )
        if self.normalize:
            a, b = (ops.l2_normalize(x, axis, config.epsilon()) for x, axis in zip((a, b), axes, strict=True))
        # Rows of `a` with the summed axis last, columns of `b` with it in the middle: [B, n, k] times [B, k, m].
        rows = ops.expand_dims(a, 1) if len(a.shape) == 2 else ops.transpose(a, (0, 2, 1)) if axes[0] == 1 else a
        columns = ops.expand_dims(b, 2) if len(b.shape) == 2 else ops.transpose(b, (0, 2, 1)) if axes[1] == 2 else b
        y = ops.matmul(rows, columns)
        if len(a.shape) == 2 and len(b.shape) == 2:
            return ops.squeeze(y, 2)
        return ops.squeeze(y, 1) if len(a.shape) == 2 else ops.squeeze(y, 2) if len(b.shape) == 2 else y


def _merging(cls: type[Layer]) -> Any:
    """A factory that also takes the inputs: `add([a, b])` is `Add().apply([a, b])`."""
    make = factory(cls)

    @functools.wraps(make)
    def merge(inputs: Any = None, **kwargs: Any) -> Any:
        layer = make(**kwargs)
        return layer if inputs is None else layer.apply(inputs)

    return merge


add = _merging(Add)
subtract = _merging(Subtract)
multiply = _merging(Multiply)
average = _merging(Average)
maximum = _merging(Maximum)
minimum = _merging(Minimum)
concatenate = _merging(Concatenate)
dot = factory(Dot)
