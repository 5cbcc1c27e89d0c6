"""Convolution of one to three spatial dimensions: two primitives of kind *contract*, and what is made of them.

Inside, the channels are last and padding is a `pad` in front, so that the primitives know neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes
from layerflow.graph.ops import movement, spatial
from layerflow.graph.ops.primitive import Primitive, promote
from layerflow.graph.shapes import Shape
from layerflow.graph.symbolic import Kind

Axes = int | Sequence[int]


def _convolve(x, kernel, strides, dilations, groups):
    """y[b, o, f] = sum over k and c of x[b, o * stride + k * dilation, c] * kernel[k, c, f], each group for itself."""
    *size, inner, filters = kernel.shape
    dtype = promote([x.dtype, kernel.dtype])
    x, kernel = x.astype(dtype, copy=False), kernel.astype(dtype, copy=False)
    out = (len(x), *spatial.window_shape(x.shape, size, strides, dilations))
    total = np.zeros((math.prod(out), filters), dtype)
    for k, view in spatial.views(x, size, strides, dilations):
        rows = view.reshape(-1, groups * inner)
        if groups == 1:
            total += rows @ kernel[k]
        elif inner == 1 and filters == groups:
            total += rows * kernel[k][0]
        else:
            parts = rows.reshape(-1, groups, inner).swapaxes(0, 1)
            weights = kernel[k].reshape(inner, groups, filters // groups).swapaxes(0, 1)
            total += (parts @ weights).swapaxes(0, 1).reshape(-1, filters)
    return total.reshape(*out, filters)


def _convolve_kernel(x, g, size, strides, dilations, groups):
    """The gradient of `convolve` for its kernel: sum over b, o of x[b, o * stride + k * dilation, c] * g[b, o, f]."""
    dtype = promote([x.dtype, g.dtype])
    x, g = x.astype(dtype, copy=False), g.astype(dtype, copy=False)
    filters, inner = g.shape[-1], x.shape[-1] // groups
    columns = g.reshape(-1, filters)
    total = np.zeros((*size, inner, filters), dtype)
    for k, view in spatial.views(x, size, strides, dilations):
        rows = view.reshape(-1, groups * inner)
        if groups == 1:
            total[k] = rows.T @ columns
        elif inner == 1 and filters == groups:
            total[k] = np.sum(rows * columns, 0)
        else:
            parts = rows.reshape(-1, groups, inner).transpose(1, 2, 0)
            weights = columns.reshape(-1, groups, filters // groups).swapaxes(0, 1)
            total[k] = (parts @ weights).swapaxes(0, 1).reshape(inner, filters)
    return total


def _convolve_shape(x: Shape, kernel: Shape, strides, dilations, groups) -> Shape:
    size = tuple(map(shapes.static, kernel[:-2]))
    return (x[0], *spatial.window_shape(x, size, strides, dilations), kernel[-1])


def _convolve_kernel_shape(x: Shape, g: Shape, size, strides, dilations, groups) -> Shape:
    return (*size, shapes.static(x[-1]) // groups, g[-1])


convolve_p = Primitive("convolve", Kind.CONTRACT, _convolve, _convolve_shape)
convolve_kernel_p = Primitive("convolve_kernel", Kind.CONTRACT, _convolve_kernel, _convolve_kernel_shape)


@convolve_p.vjp
def _(g, y, x, kernel, strides, dilations, groups):
    size = movement._shape(kernel)[:-2]
    dk = convolve_kernel_p.bind([x, g], size=size, strides=strides, dilations=dilations, groups=groups)
    return _input_gradient(g, kernel, movement._shape(x), strides, dilations, groups), dk


@convolve_kernel_p.vjp
def _(h, y, x, g, size, strides, dilations, groups):
    dg = convolve_p.bind([x, h], strides=strides, dilations=dilations, groups=groups)
    return _input_gradient(g, h, movement._shape(x), strides, dilations, groups), dg


def _input_gradient(g: Any, kernel: Any, shape: Shape, strides, dilations, groups: int) -> Any:
    """The gradient of `convolve` for an input of this shape."""
    widths = []
    for n, o, k, s, d in zip(
        shape[1:-1], movement._shape(g)[1:-1], movement._shape(kernel)[:-2], strides, dilations, strict=True
    ):
        reach = (shapes.static(k) - 1) * d
        # Elements behind the last window got no weight, so zeros come from there.
        rest = shapes.static(n) - (shapes.static(o) - 1) * s - 1 - reach
        widths.append((reach, reach + rest))
    return transposed(g, kernel, widths, strides, dilations, groups)


def transposed(g: Any, kernel: Any, widths: Sequence[tuple[int, int]], strides, dilations, groups: int) -> Any:
    """`g` spread to one element every `strides`, padded by `widths` and convolved with the turned kernel."""
    g = _spread(g, [(a, b - s + 1) for (a, b), s in zip(widths, strides, strict=True)], strides)
    return convolve_p.bind(
        [g, _turned(kernel, groups)], strides=(1,) * len(strides), dilations=dilations, groups=groups
    )


def _spread(g: Any, widths: Sequence[tuple[int, int]], strides: Sequence[int]) -> Any:
    """Each element followed by zeros up to the next multiple of its stride; then padded, a negative width cuts."""
    if max(strides) > 1:
        shape = movement._shape(g)
        single = [m for n in shape[1:-1] for m in (n, 1)]
        zeros = [m for s in strides for m in ((0, 0), (0, s - 1))]
        wide = [shapes.multiply(n, s) for n, s in zip(shape[1:-1], strides, strict=True)]
        g = movement.reshape(g, [shape[0], *single, shape[-1]])
        g = movement.reshape(movement.pad(g, [(0, 0), *zeros, (0, 0)]), [shape[0], *wide, shape[-1]])
    return spatial.padded(g, widths)


def _turned(kernel: Any, groups: int) -> Any:
    """[K.., C/groups, F] as [K.., F/groups, C], reversed along the spatial axes."""
    *size, inner, filters = movement._shape(kernel)
    rank, columns = len(size), shapes.static(filters) // groups
    if any(k != 1 for k in size):
        kernel = movement.flip(kernel, [i for i, k in enumerate(size) if k != 1])
    if inner == 1 and columns == 1:
        return kernel
    if groups == 1:
        return movement.transpose(kernel, [*range(rank), rank + 1, rank])
    kernel = movement.reshape(kernel, [*size, inner, groups, columns])
    kernel = movement.transpose(kernel, [*range(rank), rank + 2, rank + 1, rank])
    return movement.reshape(kernel, [*size, columns, groups * shapes.static(inner)])


def convolve(x: Any, kernel: Any, strides: Sequence[int], dilations: Sequence[int], groups: int = 1) -> Any:
    """x [B, D.., C] with kernel [K.., C/groups, F], whole windows only: [B, O.., F] as `spatial.extent` counts them."""
    return convolve_p.bind(
        [spatial.as_number(x), kernel], strides=tuple(strides), dilations=tuple(dilations), groups=groups
    )


def conv(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
    groups: int = 1,
) -> Any:
    """Convolution over one to three spatial axes (as many as the kernel has), as neural networks define it.

    Args:
        x: [batch, spatial.., channels], or [batch, channels, spatial..] for channelsFirst.
        kernel: [size.., channels / groups, filters].
        strides: steps between windows, one number or one for each axis.
        padding: "valid" (none), "same" (ceil(extent / stride) windows, the odd element behind), "causal" (before only,
            one axis), one width, or a pair (before, after) for each axis.
        data_format: channelsLast or channelsFirst.
        dilations: distance of the kernel's elements; not together with strides.
        groups: pieces of the channels and filters that are convolved separately.

    Returns:
        [batch, windows.., filters], or [batch, filters, windows..].

    Raises:
        ShapeError: extents, strides, dilations, padding or groups that do not fit.
        UnknownNameError: an unknown padding or data format.
    """
    return _conv("conv", None, x, kernel, strides, padding, data_format, dilations, groups)


def _conv(name, rank, x, kernel, strides, padding, data_format, dilations, groups) -> Any:
    shape = kernel_shape(kernel, rank, name)
    rank = len(shape) - 2
    name = f"conv{rank}d" if name == "conv" else name
    size = tuple(map(shapes.static, shape[:-2]))
    strides, dilations = steps_of(strides, dilations, rank, name)
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, rank, name, first)
    x = spatial.to_last(x, first)
    _check_groups(movement._shape(x), shape, groups, name)
    pairs = spatial.padding_pairs(padding, movement._shape(x), size, strides, dilations, name)
    spatial.check_window(movement._shape(x), pairs, size, dilations, name, "kernel", first)
    return spatial.from_last(convolve(spatial.padded(x, pairs), kernel, strides, dilations, groups), first)


def kernel_shape(kernel: Any, rank: int | None, name: str) -> Shape:
    shape = movement._shape(kernel)
    if (len(shape) not in (3, 4, 5)) if rank is None else (len(shape) != rank + 2):
        wanted = "3, 4 or 5" if rank is None else rank + 2
        raise ShapeError(
            f"{name}: the kernel must have rank {wanted} [size.., channels, filters], got shape {shapes.text(shape)}."
        )
    if not all(shape):
        raise ShapeError(f"{name}: the kernel {shapes.text(shape)} has no elements; every extent must be at least 1.")
    return shape


def steps_of(strides: Axes, dilations: Axes, rank: int, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Checked strides and dilations, one for each axis."""
    steps = spatial.per_axis(strides, rank, "strides", name)
    spreads = spatial.per_axis(dilations, rank, "dilations", name)
    spatial.check_steps(steps, spreads, name)
    return steps, spreads


def _check_groups(x: Shape, kernel: Shape, groups: int, name: str) -> None:
    channels, inner, filters = shapes.static(x[-1]), shapes.static(kernel[-2]), shapes.static(kernel[-1])
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 1:
        raise ShapeError(f"{name}: groups must be a whole number of at least 1, got {groups!r}.")
    if channels % groups:
        raise ShapeError(
            f"{name}: the {channels} channels of the input {shapes.text(x)} do not divide into {groups} groups."
        )
    if filters % groups:
        raise ShapeError(
            f"{name}: the {filters} filters of the kernel {shapes.text(kernel)} do not divide into {groups} groups."
        )
    if channels != inner * groups:
        raise ShapeError(
            f"{name}: the kernel {shapes.text(kernel)} is for {inner * groups} channels"
            f"{f' in {groups} groups' if groups > 1 else ''}, but the input {shapes.text(x)} has {channels}; "
            "build the kernel for these channels, or check the data format."
        )


def conv1d(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
    groups: int = 1,
) -> Any:
    """`conv` of x [batch, steps, channels] with kernel [size, channels / groups, filters]."""
    return _conv("conv1d", 1, x, kernel, strides, padding, data_format, dilations, groups)


def conv2d(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
    groups: int = 1,
) -> Any:
    """`conv` of x [batch, height, width, channels] with kernel [height, width, channels / groups, filters]."""
    return _conv("conv2d", 2, x, kernel, strides, padding, data_format, dilations, groups)


def conv3d(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
    groups: int = 1,
) -> Any:
    """`conv` of x [batch, depth, height, width, channels] with kernel [size.., channels / groups, filters]."""
    return _conv("conv3d", 3, x, kernel, strides, padding, data_format, dilations, groups)


def depthwise_conv2d(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """Each channel convolved with kernels of its own.

    Args:
        x: [batch, height, width, channels], or channelsFirst.
        kernel: [height, width, channels, multiplier].
        strides, padding, data_format, dilations: as `conv` takes them.

    Returns:
        [batch, windows.., channels * multiplier]; the results of one channel lie beside each other.

    Raises:
        ShapeError: as `conv`.
    """
    return _depthwise("depthwise_conv2d", x, kernel, strides, padding, data_format, dilations)


def _depthwise(name, x, kernel, strides, padding, data_format, dilations) -> Any:
    *size, channels, multiplier = kernel_shape(kernel, 2, name)
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, 2, name, first)
    x = spatial.to_last(x, first)
    if movement._shape(x)[-1] != channels:
        raise ShapeError(
            f"{name}: the kernel {shapes.text(movement._shape(kernel))} is for {channels} channels, but the input "
            f"{shapes.text(movement._shape(x))} (channels last) has {movement._shape(x)[-1]}."
        )
    # One input and one output channel a group: the compiler has vectors of channels for exactly that.
    x = movement.repeat(x, shapes.static(multiplier), -1) if multiplier != 1 else x
    groups = shapes.static(channels) * shapes.static(multiplier)
    kernel = movement.reshape(kernel, [*size, 1, groups])
    y = _conv(name, 2, x, kernel, strides, padding, "channelsLast", dilations, groups)
    return spatial.from_last(y, first)


def separable_conv2d(
    x: Any,
    depth_kernel: Any,
    point_kernel: Any,
    strides: Axes = 1,
    padding: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """`depthwise_conv2d` followed by a 1x1 convolution that mixes the channels.

    Args:
        x: [batch, height, width, channels], or channelsFirst.
        depth_kernel: [height, width, channels, multiplier].
        point_kernel: [1, 1, channels * multiplier, filters].
        strides, padding, data_format, dilations: of the first part, as `conv` takes them.

    Raises:
        ShapeError: as `conv`; a second kernel that is not 1x1.
    """
    name = "separable_conv2d"
    point = kernel_shape(point_kernel, 2, name)
    if point[:2] != (1, 1):
        raise ShapeError(f"{name}: the second kernel must be 1x1, got shape {shapes.text(point)}.")
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, 2, name, first)
    y = _depthwise(name, spatial.to_last(x, first), depth_kernel, strides, padding, "channelsLast", dilations)
    return spatial.from_last(_conv(name, 2, y, point_kernel, 1, "valid", "channelsLast", 1, 1), first)
