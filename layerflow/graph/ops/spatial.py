"""What convolution, pooling and resizing share: arguments for each axis, padding, data formats, strided views."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError, UnknownNameError
from layerflow.graph import shapes
from layerflow.graph.ops import elementwise, movement
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.shapes import Shape
from layerflow.graph.symbolic import is_symbolic

Pairs = tuple[tuple[int, int], ...]
PADDINGS = ("valid", "same", "causal")
LAST = ("channelsLast", "channels_last", "NWC", "NHWC", "NDHWC")
FIRST = ("channelsFirst", "channels_first", "NCW", "NCHW", "NCDHW")


def extent(n: int, k: int, stride: int, dilation: int) -> int:
    """How many windows of `k` elements, `dilation` apart, fit into `n` at steps of `stride`."""
    return (n - (k - 1) * dilation - 1) // stride + 1


def window_shape(
    shape: Shape, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Spatial extents of the windows on a tensor [batch, spatial.., channels]."""
    return tuple(
        extent(shapes.static(n), k, s, d) for n, k, s, d in zip(shape[1:-1], size, strides, dilations, strict=True)
    )


def views(
    x: np.ndarray, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """(k, view of the k-th element of every window) in row-major order of k; a view is [batch, windows.., channels]."""
    out = window_shape(x.shape, size, strides, dilations)
    for k in itertools.product(*map(range, size)):
        cut = tuple(
            slice(i * d, i * d + (o - 1) * s + 1, s) for i, o, s, d in zip(k, out, strides, dilations, strict=True)
        )
        yield k, x[(slice(None), *cut)]


def per_axis(value: Any, rank: int, what: str, name: str, least: int = 1) -> tuple[int, ...]:
    """`rank` integers from one integer or one for each axis.

    Raises:
        ShapeError: not that many, not whole, or one below `least`.
    """
    values = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value] * rank
    values = values * rank if len(values) == 1 else values
    if len(values) != rank:
        raise ShapeError(
            f"{name}: {what} {value!r} has {len(values)} entries for {rank} spatial axes; give one number or {rank}."
        )
    for v in values:
        if isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < least:
            raise ShapeError(f"{name}: {what} must be whole numbers of at least {least}, got {value!r}.")
    return tuple(map(int, values))


def is_channels_first(data_format: str | None) -> bool:
    """Whether the channels come before the spatial axes; None means channelsLast."""
    if data_format is None or data_format in LAST:
        return False
    if data_format in FIRST:
        return True
    raise UnknownNameError.of("data format", data_format, (*LAST, *FIRST))


def check_rank(x: Any, rank: int, name: str, first: bool = False) -> None:
    """Refuses an operand that is not [batch, `rank` known spatial extents, channels]."""
    shape = movement._shape(x)
    if len(shape) != rank + 2:
        axes = ("channels, " if first else "") + "spatial axes" + ("" if first else ", channels")
        raise ShapeError(
            f"{name}: the input must have rank {rank + 2} [batch, {axes}], got shape {shapes.text(shape)}; "
            "add the missing axes with expand_dims."
        )
    if not shapes.is_static(shape[1:]):
        raise shapes.UnknownExtentError(
            f"{name}: the extents of {shapes.text(shape)} behind the batch must be known; give the input a full shape."
        )


def to_last(x: Any, first: bool) -> Any:
    """`x` with the channels behind the spatial axes."""
    rank = len(movement._shape(x))
    return movement.transpose(x, [0, *range(2, rank), 1]) if first else x


def from_last(x: Any, first: bool) -> Any:
    """The inverse of `to_last`."""
    rank = len(movement._shape(x))
    return movement.transpose(x, [0, rank - 1, *range(1, rank - 1)]) if first else x


def same(n: int, k: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding for ceil(n / stride) windows; the odd element goes behind."""
    total = max((-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0)
    return total // 2, total - total // 2


def padding_pairs(
    padding: Any, shape: Shape, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int], name: str
) -> Pairs:
    """(before, after) of each spatial axis of a tensor [batch, spatial.., channels].

    Args:
        padding: "valid", "same", "causal" (one spatial axis), one width for all sides, or a pair for each axis.

    Raises:
        UnknownNameError: another name.
        ShapeError: widths that are negative or not one pair for each axis, causal padding of several axes.
    """
    rank = len(size)
    extents = [shapes.static(n) for n in shape[1:-1]]
    if isinstance(padding, str):
        match padding.lower():
            case "valid":
                return ((0, 0),) * rank
            case "same":
                return tuple(same(n, k, s, d) for n, k, s, d in zip(extents, size, strides, dilations, strict=True))
            case "causal":
                if rank != 1:
                    raise ShapeError(
                        f"{name}: causal padding is defined for one spatial axis, not for {rank}; use 'same'."
                    )
                return (((size[0] - 1) * dilations[0], 0),)
        raise UnknownNameError.of("padding", padding, PADDINGS)
    pairs = [(padding, padding)] * rank if isinstance(padding, (int, np.integer)) else [tuple(p) for p in padding]
    flat = [v for p in pairs for v in p]
    if len(pairs) != rank or len(flat) != 2 * rank or any(v < 0 for v in flat):
        raise ShapeError(
            f"{name}: padding {padding!r} must be 'valid', 'same', a width, or a pair (before, after) of widths of at "
            f"least 0 for each of the {rank} spatial axes."
        )
    return tuple((int(a), int(b)) for a, b in pairs)


def padded(x: Any, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """`x` with its spatial axes padded by `pairs`; a negative width cuts elements off."""
    shape = movement._shape(x)
    if any(v < 0 for p in pairs for v in p):
        begin = [0, *(max(0, -a) for a, _ in pairs), 0]
        kept = [shapes.static(n) + min(a, 0) + min(b, 0) for n, (a, b) in zip(shape[1:-1], pairs, strict=True)]
        x = movement.slice_(x, begin, [shape[0], *kept, shape[-1]])
        pairs = [(max(a, 0), max(b, 0)) for a, b in pairs]
    return movement.pad(x, [(0, 0), *pairs, (0, 0)], value) if any(v for p in pairs for v in p) else x


def check_window(
    shape: Shape, pairs: Pairs, size: Sequence[int], dilations: Sequence[int], name: str, what: str, first: bool = False
) -> None:
    """Refuses a window (after dilation) larger than the padded input, whose channels are last here.

    Args:
        first: whether the caller has the channels first, for the message.
    """
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    room = [shapes.static(n) + a + b for n, (a, b) in zip(shape[1:-1], pairs, strict=True)]
    if any(r > n for r, n in zip(reach, room, strict=True)):
        spread = f" spreads over {reach} and" if list(size) != reach else ""
        raise ShapeError(
            f"{name}: the {what} {list(size)}{spread} is larger than the padded input {room} (input "
            f"{shapes.text((shape[0], shape[-1], *shape[1:-1]) if first else shape)}); "
            f"use a smaller one, or padding='same'{_other_format(shape, reach, first)}."
        )


def _other_format(shape: Shape, reach: Sequence[int], first: bool) -> str:
    """A further remedy where the window fits if the axes are read in the other order."""
    read = (shape[-1], *shape[1:-2]) if first else shape[2:]
    if any(r > shapes.static(n) for r, n in zip(reach, read, strict=True)):
        return ""
    other = "channels_last" if first else "channels_first"
    return f", or data_format='{other}' if the channels come {'last' if first else 'first'}"


def check_steps(strides: Sequence[int], dilations: Sequence[int], name: str) -> None:
    """Refuses strides together with dilations."""
    if max(strides) > 1 and max(dilations) > 1:
        raise ShapeError(
            f"{name}: strides {list(strides)} together with dilations {list(dilations)} are not defined; "
            "set one of them to 1."
        )


def as_number(x: Any) -> Any:
    """`x`, with integers and booleans cast to float32."""
    dtype = as_op(x).dtype if is_symbolic(x) else np.asarray(x).dtype
    return x if dtype.kind == "f" else elementwise.cast(x, np.float32)
