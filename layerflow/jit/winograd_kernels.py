"""Transforms of 3x3 kernels for Winograd convolution, and of their gradients back, as kernel-language source."""

from __future__ import annotations

from layerflow.jit.copies import turned
from layerflow.jit.loops import LoopNest
from layerflow.jit.winograd_tile import Finish, Place, Planes, Read, first, tail, two_axes
from layerflow.jit.winograd_transforms import POINTS, TAPS

KERNEL = Place(("i0", "0"), ("i1", "0"))
GRADIENT = Place(("i1", "0"), ("i2", "0"))  # behind the part


def kernel_transform(nest: LoopNest, filters: int, read: Read, out: Planes) -> None:
    """The transformed kernel [36, channels, filters]; the nest's range is one of channels.

    Args:
        nest: the nest being written.
        filters: the extent of the vector axis.
        read: elements of the kernel at row `i0`, column `i1`, channel `i2` and the nest's chunk of filters.
        out: where it goes.
    """

    def finish(value: str) -> None:
        masked = out.tail(filters, nest.lanes) if tail(nest) else ""
        nest.write(f"store({out.pointer}, at + (r * {POINTS} + q) * {out.plane}, {value}{masked})")

    def chunk() -> None:
        nest.write(f"at = {out.offset} + i2 * {out.pitch} + {first(nest)}")
        two_axes(nest, "winograd_kernel", (TAPS, POINTS), read, finish, source=KERNEL)

    nest.segment("for i2 in range(lo, hi):", ("i2",), lambda: nest.chunks(filters, chunk))


def kernel_gradient(nest: LoopNest, filters: int, source: Planes, finish: Finish) -> None:
    """The gradient of the kernel from that of the transformed one; the nest's range is one of channels.

    Args:
        nest: the nest being written.
        filters: the extent of the vector axis.
        source: the gradient of the transformed kernel.
        finish: takes the element at row `i1`, column `i2`, channel `i3` and the nest's chunk of filters.
    """

    def read() -> str:
        masked = source.tail(filters, nest.lanes) if tail(nest) else ""
        return f"load({source.pointer}, at + (r * {POINTS} + q) * {source.plane}{masked})"

    def chunk() -> None:
        nest.write(f"at = {source.offset} + i3 * {source.pitch} + {first(nest)}")
        two_axes(nest, "winograd_kernel_gradient", (POINTS, TAPS), read, finish, target=GRADIENT)

    nest.segment("for i3 in range(lo, hi):", ("i3",), lambda: nest.chunks(filters, chunk))


def turned_kernel_transform(
    nest: LoopNest, channels: int, filters: int, read: tuple[str, int, int], out: Planes, scratch: str
) -> None:
    """The transformed kernel turned, [36, filters, channels]; the nest's range is one of blocks of `lanes` filters.

    Blocks of the kernel are turned in registers first: there are 9 of them, of the transformed kernel 36.

    Args:
        nest: the nest being written.
        channels, filters: extents of the kernel.
        read: the kernel [3, 3, channels, filters]: address variable, elements from tap to tap and from channel to
            channel.
        out: where it goes.
        scratch: address variable of 9 * lanes * lanes elements.
    """
    pointer, taps, pitch = read
    n = nest.lanes
    masked = f", {filters} - f" if filters % n else ""
    count = f", {channels} - j" if out.pitch < -(-channels // n) * n else ""

    def turn() -> None:
        for k in range(n):
            channel = f"minimum(j + {k}, {channels - 1})" if channels % n else f"(j + {k})"
            nest.write(f"v{k} = load({pointer}, tap * {taps} + {channel} * {pitch} + f{masked})")
        for line in turned(n):
            nest.write(line)
        for k in range(n):
            nest.write(f"store({scratch}, tap * {n * n} + {k * n}, v{k})")

    def transform() -> None:
        nest.write(f"at = {out.offset} + (f + row) * {out.pitch} + j")
        two_axes(
            nest,
            "winograd_kernel",
            (TAPS, POINTS),
            lambda: f"load({scratch}, (r * {TAPS} + q) * {n * n} + row * {n})",
            lambda value: nest.write(f"store({out.pointer}, at + (r * {POINTS} + q) * {out.plane}, {value}{count})"),
        )

    def block() -> None:
        nest.segment(f"for tap in range({TAPS**2}):", ("tap",), turn)
        rows = f"minimum({n}, {filters} - f)" if filters % n else str(n)
        nest.segment(f"for row in range({rows}):", ("row",), transform)

    def filters_block() -> None:
        nest.write(f"f = block * {n}")
        nest.segment(f"for j in range(0, {channels}, {n}):", ("j",), block)

    nest.segment("for block in range(lo, hi):", ("f",), filters_block)
