"""Transposed convolution: what the gradient of a convolution does to its input, as an operation that enlarges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerflow.errors import ShapeError, UnknownNameError
from layerflow.graph import shapes
from layerflow.graph.ops import movement, spatial
from layerflow.graph.ops.convolution import Axes, kernel_shape, steps_of, transposed


def conv_transpose(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: str = "valid",
    output_padding: Axes | None = None,
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """The transpose of `conv`: what its gradient does to the input, as a layer that enlarges.

    Args:
        x: [batch, spatial.., channels], or channelsFirst.
        kernel: [size.., filters, channels]: of the convolution that this one transposes.
        strides: factor by which each axis grows.
        padding: "same" (extent * stride) or "valid" (extent * stride + max(size - stride, 0)).
        output_padding: elements added to the shortest extent, (extent - 1) * stride + size without the padding, in
            place of the extents above.
        data_format: channelsLast or channelsFirst.
        dilations: distance of the kernel's elements; not together with strides.

    Returns:
        [batch, enlarged.., filters], or [batch, filters, enlarged..].

    Raises:
        ShapeError: extents, strides, dilations or output_padding that do not fit.
        UnknownNameError: an unknown padding or data format.
    """
    return _conv_transpose("conv_transpose", None, x, kernel, strides, padding, output_padding, data_format, dilations)


def _conv_transpose(name, rank, x, kernel, strides, padding, output_padding, data_format, dilations) -> Any:
    shape = kernel_shape(kernel, rank, name)
    rank = len(shape) - 2
    strides, dilations = steps_of(strides, dilations, rank, name)
    first = spatial.is_channels_first(data_format)
    spatial.check_rank(x, rank, name, first)
    x = spatial.to_last(x, first)
    if movement._shape(x)[-1] != shape[-1]:
        raise ShapeError(
            f"{name}: the kernel {shapes.text(shape)} [size.., filters, channels] is for {shape[-1]} channels, but the "
            f"input {shapes.text(movement._shape(x))} (channels last) has {movement._shape(x)[-1]}."
        )
    same = _is_same(padding, name)
    added: Sequence[int | None] = [None] * rank
    if output_padding is not None:
        given = added = spatial.per_axis(output_padding, rank, "output_padding", name, least=0)
        if any(a >= s for a, s in zip(given, strides, strict=True)):
            raise ShapeError(
                f"{name}: output_padding {output_padding!r} must be smaller than the strides {list(strides)}."
            )
    reach = [(shapes.static(k) - 1) * d + 1 for k, d in zip(shape[:-2], dilations, strict=True)]
    widths = [_transposed_widths(k, s, a, same) for k, s, a in zip(reach, strides, added, strict=True)]
    return spatial.from_last(transposed(spatial.as_number(x), kernel, widths, strides, dilations, 1), first)


def _is_same(padding: Any, name: str) -> bool:
    if not isinstance(padding, str):
        raise ShapeError(f"{name}: padding must be 'valid' or 'same', got {padding!r}.")
    if padding.lower() not in ("valid", "same"):
        raise UnknownNameError.of("padding", padding, ("valid", "same"))
    return padding.lower() == "same"


def _transposed_widths(k: int, stride: int, added: int | None, same: bool) -> tuple[int, int]:
    """Padding of the spread input of a transposed convolution whose kernel reaches over `k` elements."""
    if not same:
        return k - 1, k - 1 + (max(stride - k, 0) if added is None else added)
    total = k + stride - 2 if added is None else k + k % 2 - 2 + added
    before = min(total - total // 2, k - 1)
    return before, total - before


def conv2d_transpose(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: str = "valid",
    output_padding: Axes | None = None,
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """`conv_transpose` of x [batch, height, width, channels] with kernel [height, width, filters, channels]."""
    return _conv_transpose("conv2d_transpose", 2, x, kernel, strides, padding, output_padding, data_format, dilations)


def conv3d_transpose(
    x: Any,
    kernel: Any,
    strides: Axes = 1,
    padding: str = "valid",
    output_padding: Axes | None = None,
    data_format: str = "channelsLast",
    dilations: Axes = 1,
) -> Any:
    """`conv_transpose` of x [batch, depth, height, width, channels] with kernel [size.., filters, channels]."""
    return _conv_transpose("conv3d_transpose", 3, x, kernel, strides, padding, output_padding, data_format, dilations)
