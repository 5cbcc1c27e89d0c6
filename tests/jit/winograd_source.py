"""Winograd kernels without a schedule: on plain arrays, for tests and timings."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from jit.kernels import Compiled

from layerflow.jit import winograd_kernels
from layerflow.jit.loops import LoopNest
from layerflow.jit.target import Target
from layerflow.jit.values import Writer
from layerflow.jit.winograd import Samples, Winograd
from layerflow.jit.winograd_tile import Planes, first, tail
from layerflow.jit.winograd_tiling import Tiling


class PlainNest(LoopNest):
    """A nest whose pointers are the arrays in the slots of the context table, in order."""

    def __init__(self, lanes: int, names: str, dtype: str):
        Writer.__init__(self, cast(Any, None), lanes)
        self.scalar = lanes == 1
        for slot, name in enumerate(names.split()):
            self.write(f"{name} = pointer(ctx, {slot}, {dtype})")

    def text(self, name: str) -> str:
        head = [f"def {name}(ctx, lo, hi):", f"    lanes({self.lanes})"]
        return "\n".join([*head, *("    " + line for line in self.levels[0].lines)]) + "\n"


@dataclasses.dataclass
class Case:
    """A convolution, the machine, and the layout of its arrays: `pad` elements more in each row of channels."""

    rows: int
    columns: int
    channels: int
    filters: int
    on: Target
    dtype: type = np.float32
    pad: int = 0

    def __post_init__(self):
        self.name = f"f{np.dtype(self.dtype).itemsize * 8}"
        self.lanes = self.on.lanes(self.name)
        self.tiling = Tiling(
            self.rows, self.columns, self.channels, self.filters, np.dtype(self.dtype).itemsize, self.lanes,
            self.on.registers, self.on.l2_bytes,
        )  # fmt: skip

    def empty(self, *shape: int) -> np.ndarray:
        """An array of nan, aligned to cache lines, whose last axis has padding behind it."""
        *lead, last = shape
        pitch = last + self.pad
        size = int(np.prod(lead)) * pitch
        raw = np.full(size + 64, np.nan, self.dtype)
        at = -raw.ctypes.data % 64 // raw.itemsize
        return raw[at : at + size].reshape(*lead, pitch)[..., :last]

    def filled(self, values: np.ndarray) -> np.ndarray:
        out = self.empty(*values.shape)
        out[...] = values
        return out

    def scratch(self) -> np.ndarray:
        return Case.empty(dataclasses.replace(self, pad=0), self.tiling.scratch)

    def planes(self, pointer: str, rows: int, columns: int) -> Planes:
        pitch = columns + self.pad
        return Planes(pointer, rows * pitch, pitch)

    def samples(self, pointer: str, rows: int, columns: int, channels: int) -> Samples:
        pitch = channels + self.pad
        return Samples(pointer, rows * columns * pitch, columns * pitch, pitch)

    def reader(self, nest: LoopNest, array: Samples) -> Callable[[], str]:
        return lambda: f"load({array.pointer}, {array.at('i1', 'i2', first(nest))}{tail(nest)})"

    @property
    def input_samples(self) -> Samples:
        return self.samples("x", self.rows + 2, self.columns + 2, self.channels)

    def output_samples(self, pointer: str) -> Samples:
        return self.samples(pointer, self.rows, self.columns, self.filters)

    # --- sources -------------------------------------------------------------

    def forward(self) -> str:
        """Slots: inputs, transformed kernel, bias, outputs, working memory.  With bias and relu."""
        nest = PlainNest(self.lanes, "x uk bias y work", self.name)
        y = self.output_samples("y")

        def finish(value: str) -> None:
            bias = f"load(bias, {first(nest)}{tail(nest)})"
            where = y.at("i1", "i2", first(nest))
            nest.write(f"store(y, {where}, maximum({value} + {bias}, 0.0){tail(nest)})")

        kernel = self.planes("uk", self.channels, self.filters)
        Winograd(nest, self.tiling, "work", self.name).forward(self.reader(nest, self.input_samples), kernel, finish)
        return nest.text("forward")

    def backward(self, name: str = "both") -> str:
        """Slots: inputs, gradient of outputs, turned kernel, gradients of kernel and inputs, working memory."""
        nest = PlainNest(self.lanes, "x dy ut du dx work", self.name)
        dx = dataclasses.replace(self.input_samples, pointer="dx")
        Winograd(nest, self.tiling, "work", self.name).backward(
            self.reader(nest, self.output_samples("dy")),
            (self.reader(nest, self.input_samples), self.planes("du", self.channels, self.filters))
            if name != "data"
            else None,
            (self.planes("ut", self.filters, self.channels), dx) if name != "weights" else None,
        )
        return nest.text(name)

    def kernel_transform(self) -> str:
        """Slots: kernel [3, 3, channels, filters], result."""
        nest = PlainNest(self.lanes, "k uk", self.name)
        k = self.samples("k", 3 * self.channels, self.channels, 1)
        pitch = self.filters + self.pad

        def read() -> str:
            where = f"(i0 * 3 + i1) * {self.channels * pitch} + i2 * {pitch} + {first(nest)}"
            return f"load({k.pointer}, {where}{tail(nest)})"

        out = self.planes("uk", self.channels, self.filters)
        winograd_kernels.kernel_transform(nest, self.filters, read, out)
        return nest.text("kernel")

    def turned_kernel_transform(self) -> str:
        """Slots: kernel, result, working memory."""
        nest = PlainNest(self.lanes, "k ut work", self.name)
        pitch = self.filters + self.pad
        winograd_kernels.turned_kernel_transform(
            nest, self.channels, self.filters, ("k", self.channels * pitch, pitch),
            self.planes("ut", self.filters, self.channels), "work",
        )  # fmt: skip
        return nest.text("turned")

    def kernel_gradient(self) -> str:
        """Slots: gradient of the transformed kernel (36, channels, filters), result."""
        nest = PlainNest(self.lanes, "du dk", self.name)
        source = self.planes("du", self.channels, self.filters)
        pitch = self.filters + self.pad

        def finish(value: str) -> None:
            where = f"(i1 * 3 + i2) * {self.channels * pitch} + i3 * {pitch} + {first(nest)}"
            nest.write(f"store(dk, {where}, {value}{tail(nest)})")

        winograd_kernels.kernel_gradient(nest, self.filters, source, finish)
        return nest.text("gradient")

    def compiled(self, *sources: str) -> Compiled:
        return Compiled("\n".join(sources), self.on)


def direct(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The convolution in float64."""
    rows, columns = x.shape[1] - 2, x.shape[2] - 2
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    y = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for r in range(3):
        for q in range(3):
            y += x[:, r : r + rows, q : q + columns] @ kernel[r, q]
    return y


def direct_gradients(x: np.ndarray, kernel: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of inputs and kernel in float64."""
    _, rows, columns, _ = dy.shape
    x, kernel, dy = (a.astype(np.float64) for a in (x, kernel, dy))
    dx, dk = np.zeros_like(x), np.zeros_like(kernel)
    for r in range(3):
        for q in range(3):
            window = (slice(None), slice(r, r + rows), slice(q, q + columns))
            dx[window] += dy @ kernel[r, q].T
            dk[r, q] = np.tensordot(x[window], dy, ((0, 1, 2), (0, 1, 2)))
    return dx, dk
