"""Nests of the Winograd operations: what the passes of `winograd` read and write in a schedule."""

from __future__ import annotations

from collections.abc import Sequence

from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Op
from layerflow.jit import index as ix
from layerflow.jit.index import Index
from layerflow.jit.loops import LoopNest
from layerflow.jit.schedule import Buffer, Kernel, Schedule
from layerflow.jit.values import SCRATCH, SHARD, TYPES, Level
from layerflow.jit.winograd import Samples, Winograd
from layerflow.jit.winograd_kernels import kernel_gradient, kernel_transform, turned_kernel_transform
from layerflow.jit.winograd_tile import Planes, Read
from layerflow.jit.winograd_tiling import Tiling


class WinogradNest(LoopNest):
    """What the nests share."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int, cache_bytes: int):
        super().__init__(plan, kernel, lanes)
        self.registers, self.cache_bytes = registers, cache_bytes
        self.anchor = kernel.group.anchor
        self.dtype = TYPES[self.anchor.dtype.name]

    def body(self) -> list[str]:
        self.levels.append(Level())
        self.steps()
        return self.levels.pop().lines

    def steps(self) -> None:
        """Writes the kernel."""
        raise NotImplementedError(f"{type(self).__name__} must define steps().")

    def reader(self, op: Op, index: Sequence[Index]) -> Read:
        """Vectors of an operand at the place that the writer is at; what is not stored is computed there."""

        def read() -> str:
            found = self.value(op, index)
            return found.name if found.vector else f"splat({found.name})"

        return read

    def winograd(self, output: Sequence[int], channels: int) -> Winograd:
        """The writer of a convolution with outputs [rows, columns, filters]."""
        size = self.anchor.dtype.itemsize
        rows, columns, filters = output
        tiling = Tiling(rows, columns, channels, filters, size, self.lanes, self.registers, self.cache_bytes)
        self.kernel.scratch = (tiling.scratch * size, 0)
        return Winograd(self, tiling, self.scratch(), self.dtype)

    def scratch(self) -> str:
        self.write(f"work = pointer(ctx, {SCRATCH}, {self.dtype})", 0)
        return "work"

    def place(self) -> tuple[Index, ...]:
        """Sample, row, column and channel that the writer of a convolution is at."""
        return (*(self.ranges.declare(f"i{k}", None) for k in range(3)), ix.var("j"))

    def planes(self, buffer: Buffer, offset: str = "0") -> Planes:
        plane, pitch = buffer.layout.fixed[-3:-1]
        return Planes(self.pointer(buffer), plane, pitch, offset)

    def finish(self, text: str) -> None:
        """Makes a vector the element of the anchor and computes and stores what follows from it."""
        value = self.assign(text, len(self.levels) - 1, True)
        self.bind(self.anchor, self.variables, value)
        for op in self.group.members[1:]:
            self.value(op, self.variables)
        for op in self.group.stored:
            self.store(op, self.variables, self.value(op, self.variables))


class ForwardNest(WinogradNest):
    """winograd_convolve with its epilogue."""

    def steps(self) -> None:
        x, points = self.anchor.inputs
        rows, columns, filters = map(static, self.anchor.shape[1:])
        self.kernel.units = 0 if self.kernel.samples else static(self.anchor.shape[0])
        writer = self.winograd((rows, columns, filters), static(x.shape[-1]))
        self.ranges.declare("i1", None)
        self.ranges.declare("i2", None)
        writer.forward(self.reader(x, self.place()), self.planes(self.plan.buffers[points]), self.finish)


class GradientNest(WinogradNest):
    """winograd_kernel_gradient, winograd_input_gradient, or both from one transform of the outputs' gradient."""

    def steps(self) -> None:
        ops = {op.name: op for op in self.group.members}
        for_kernel, for_input = ops.get("winograd_kernel_gradient"), ops.get("winograd_input_gradient")
        g = for_kernel.inputs[1] if for_kernel else self.anchor.inputs[0]
        channels = static(for_kernel.inputs[0].shape[-1] if for_kernel else self.anchor.shape[-1])
        rows, columns, filters = map(static, g.shape[1:])
        self.kernel.units = 0 if self.kernel.samples else static(g.shape[0])
        writer = self.winograd((rows, columns, filters), channels)
        inputs = kernel = None
        if for_kernel:
            buffer = self.plan.buffers[for_kernel]
            self.write(f"part = {part_of(buffer)}")
            inputs = (self.reader(for_kernel.inputs[0], self.place()), self.planes(buffer, "part"))
        if for_input:
            buffer = self.plan.buffers[for_input]
            sample, row, column, _ = buffer.layout.fixed
            target = Samples(self.pointer(buffer), sample, row, column)
            kernel = (self.planes(self.plan.buffers[for_input.inputs[1]]), target)
        writer.backward(self.reader(g, self.place()), inputs, kernel)


class KernelNest(WinogradNest):
    """winograd_kernel."""

    def steps(self) -> None:
        (w,) = self.anchor.inputs
        channels, filters = map(static, w.shape[-2:])
        out = self.planes(self.plan.buffers[self.anchor])
        if not self.anchor.attrs["turned"]:
            self.kernel.units = channels
            kernel_transform(self, filters, self.reader(w, self.place()), out)
            return
        self.kernel.units = -(-filters // self.lanes)
        self.kernel.scratch = (9 * self.lanes**2 * w.dtype.itemsize, 0)
        buffer = self.plan.buffers[w]
        _, taps, pitch, _ = buffer.layout.fixed
        read = (self.pointer(buffer), taps, pitch)
        turned_kernel_transform(self, channels, filters, read, out, self.scratch())


class FoldNest(WinogradNest):
    """winograd_fold: one part of the gradient of the transformed kernel, turned into that of the kernel."""

    def steps(self) -> None:
        buffer = self.plan.buffers[self.anchor.inputs[0]]
        channels, filters = map(static, self.anchor.shape[-2:])
        self.kernel.units = channels
        for name in ("i0", "i1", "i2", "i3"):
            self.ranges.declare(name, None)
        self.write(f"i0 = integer(ctx, {SHARD})")
        self.write(f"part = {part_of(buffer)}")
        kernel_gradient(self, filters, self.planes(buffer, "part"), self.finish)


def part_of(buffer: Buffer) -> str:
    """Where the part of a sum over samples begins that is being made."""
    return "0" if buffer.local else f"integer(ctx, {SHARD}) * {buffer.layout.strides[0]}"


NESTS: dict[str, type[WinogradNest]] = {
    "winograd_convolve": ForwardNest,
    "winograd_gradients": GradientNest,
    "winograd_kernel": KernelNest,
    "winograd_fold": FoldNest,
}
