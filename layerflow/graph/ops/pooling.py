"""Pooling: the largest element or the mean of every window, for one to three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError, UnknownNameError
from layerflow.graph import shapes
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import movement, spatial, windows
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.symbolic import SymbolicTensor, is_symbolic

Axes = int | Sequence[int]


def pool(
    x: Any,
    size: Axes,
    method: str = "max",
    strides: Axes | None = None,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """The largest element or the mean of every window, channel by channel.

    Args:
        x: [batch, spatial.., channels] with one to three spatial axes, or [batch, channels, spatial..].
        size: extents of a window, one number or one for each spatial axis.
        method: "max" or "avg".
        strides: steps between windows; `size` by default.
        padding: "valid", "same", one width, or a pair (before, after) for each axis.  Padding is never a maximum, and a
            mean is taken over the real elements of a window alone.
        data_format: channelsLast or channelsFirst.
        dilations: distance of the elements of a window; not together with strides.

    Returns:
        [batch, windows.., channels], or [batch, channels, windows..].  The gradient of a maximum goes to the first one
        in row-major order.

    Raises:
        ShapeError: extents, size, strides, dilations or padding that do not fit.
        UnknownNameError: an unknown method, padding or data format.
    """
    if method not in ("max", "avg"):
        raise UnknownNameError.of("pooling method", method, ("max", "avg"))
    return _pool(f"{method}_pool", x, size, strides, padding, data_format, dilations)


def max_pool(
    x: Any, size: Axes, strides: Axes | None = None, padding: Any = "valid", data_format: str = "channelsLast"
) -> Any:
    """The largest element of every window; arguments as `pool` takes them."""
    return _pool("max_pool", x, size, strides, padding, data_format, 1)


def avg_pool(
    x: Any, size: Axes, strides: Axes | None = None, padding: Any = "valid", data_format: str = "channelsLast"
) -> Any:
    """The mean of every window over its real elements; arguments as `pool` takes them."""
    return _pool("avg_pool", x, size, strides, padding, data_format, 1)


def _pool(name: str, x: Any, size: Any, strides: Any, padding: Any, data_format: str, dilations: Any) -> Any:
    rank = len(movement._shape(x)) - 2
    if not 1 <= rank <= 3:
        raise ShapeError(
            f"{name}: the input must have rank 3, 4 or 5 [batch, spatial.., channels], got shape "
            f"{shapes.text(movement._shape(x))}."
        )
    size = spatial.per_axis(size, rank, "the window", name)
    spreads = spatial.per_axis(dilations, rank, "dilations", name)
    steps = spatial.per_axis(size if strides is None else strides, rank, "strides", name)
    if strides is None and max(spreads) > 1:
        steps = (1,) * rank
    spatial.check_steps(steps, spreads, name)
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, rank, name, first)
    x = spatial.as_number(spatial.to_last(x, first))
    shape = movement._shape(x)
    pairs = spatial.padding_pairs(padding, shape, size, steps, spreads, name)
    spatial.check_window(shape, pairs, size, spreads, name, "window", first)
    if name == "max_pool":
        y = _largest(x, pairs, size, steps, spreads)
    else:
        total = windows.window_sum(spatial.padded(x, pairs), size, steps, spreads)
        y = e.divide(total, _real_elements(x, pairs, size, steps, spreads))
    return spatial.from_last(y, first)


def _largest(x: Any, pairs: spatial.Pairs, size: Any, strides: Any, dilations: Any) -> Any:
    if isinstance(x, SymbolicTensor) and x.op.name == "relu":
        # max(relu(x)) = relu(max(x)): fewer elements to clip, and no mask of the large tensor in the gradient.
        return e.relu(_largest(SymbolicTensor(x.op.inputs[0]), pairs, size, strides, dilations))
    return windows.window_max(spatial.padded(x, pairs, -math.inf), size, strides, dilations)


def _real_elements(x: Any, pairs: spatial.Pairs, size: Any, strides: Any, dilations: Any) -> Any:
    """How many elements of each window are not padding: a number, or an array [1, windows.., 1]."""
    if not any(v for p in pairs for v in p):
        return float(math.prod(size))
    shape = movement._shape(x)
    dtype = as_op(x).dtype if is_symbolic(x) else np.asarray(x).dtype
    ones = spatial.padded(np.ones((1, *map(shapes.static, shape[1:-1]), 1), dtype), pairs)
    return np.maximum(np.asarray(windows.window_sum(ones, size, strides, dilations)), 1)
