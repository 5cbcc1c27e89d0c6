"""Times each kernel of a compiled training step, inside the step and again at once on the same data.

The module of the step is compiled once more with every kernel wrapped in a function that reads the processor's time
stamp counter before and after it.  So a kernel runs on real data, in its groups of samples, with the caches as the step
leaves them; the second run shows what it does when its data are there already.
"""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import numpy as np

from benchmarks import peaks
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import access, library
from layerflow.jit.contraction import multiply_adds
from layerflow.jit.executable import Executable
from layerflow.jit.schedule import Buffer, Kernel

METHODS = {"gemm": "GEMM", "convolve": "direct", "convolve_kernel": "direct"}
WINOGRAD = "Winograd"


@dataclasses.dataclass(frozen=True)
class Timing:
    """A kernel of a step on one thread.

    Attributes:
        method: "GEMM", "direct", "Winograd", or "" where nothing is contracted.
        work: what is multiplied, in words.
        seconds: time for the whole batch in the step.
        again: time when each call is repeated at once.
        flops: floating-point operations of the multiply-adds that the method needs.
        direct_flops: those of the convolution or product that it computes, done directly and without padding that only
            a gradient has; the same as `flops` for most.
        moved: bytes of the arrays it reads and writes, each counted once.
    """

    kernel: str
    method: str
    work: str
    seconds: float
    again: float
    flops: float
    direct_flops: float
    moved: float


# --- what a kernel does -----------------------------------------------------------------


def contractions(kernel: Kernel) -> list[Op]:
    return [op for op in kernel.group.members if op.primitive.kind is Kind.CONTRACT]


def uses_batch(op: Op) -> bool:
    return any(access.batch_of(x.shape) is not None for x in (op, *op.inputs))


def direct_multiply_adds(op: Op) -> float:
    """Multiply-adds of what `op` computes, done directly, for one sample where it has a batch.

    A product is counted for every tap at every output.  The gradient for the inputs counts like the convolution whose
    gradient it is, although as a convolution of the padded gradient it also multiplies zeros at the border.
    """
    if op.name == "matmul":
        return multiply_adds(op)
    if op.name.startswith("winograd"):
        gradient = op.name == "winograd_kernel_gradient"
        image = op.shape if op.name == "winograd_convolve" else op.inputs[gradient].shape
        points = op.shape if gradient else op.inputs[1].shape
        return 9.0 * count(image[1:-1]) * count(points[-2:])
    x, done = op.inputs[0], multiply_adds(op)
    if op.name == "convolve" and x.name == "pad":
        inner, outer = count(x.inputs[0].shape[1:-1]), count(op.shape[1:-1])
        return done * min(1.0, inner / outer) if set(op.attrs["strides"]) == {1} else done
    return done


def count(extents: Any) -> float:
    return float(np.prod([n if isinstance(n, int) else n.factor for n in extents]))


def described(op: Op, rows: int) -> str:
    """What is multiplied, with sizes."""
    if op.name == "matmul":
        depth = op.inputs[0].shape[-2 if op.attrs["transpose_a"] else -1]
        m, k, n = (e if isinstance(e, int) else e.factor * rows for e in (op.shape[-2], depth, op.shape[-1]))
        return f"{m} x {k} by {k} x {n}"
    what = {"convolve_kernel": "gradient for kernel", "winograd_kernel_gradient": "gradient for kernel"}.get(op.name)
    if op.name == "winograd_input_gradient" or (op.name == "convolve" and not op.layer):
        what = "gradient for input"
    image = op.inputs[1].shape if what == "gradient for kernel" else op.shape
    extents = " x ".join(map(str, image[1:-1]))
    channels = op.inputs[0].shape[-1]
    return f"{what or 'convolution'}, {extents}, {channels} to {image[-1]} channels"


def bytes_of(buffer: Buffer, rows: int) -> int:
    return buffer.elements * buffer.op.dtype.itemsize * (rows if buffer.per_sample else 1)


# --- running it ---------------------------------------------------------------------------

# Each kernel has two words of the context table for the ticks that it took, first and again; word `{again}` says
# whether it is run again.
WRAPPER = """
def {name}(ctx, lo, hi):
    lanes(1)
    start = cycles()
    body_{name}(ctx, lo, hi)
    middle = cycles()
    set_integer(ctx, {slot}, integer(ctx, {slot}) + middle - start)
    if integer(ctx, {again}) > 0:
        body_{name}(ctx, lo, hi)
        set_integer(ctx, {slot} + 1, integer(ctx, {slot} + 1) + cycles() - middle)
"""


class Profiler:
    """The training step of a model, with its kernels timed, on one thread.

    Args:
        model: a compiled model that has been trained on batches like these.
        batches: (x, y) of one size, as arrays that the step reads where they are.
    """

    def __init__(self, model: Any, batches: list[tuple[np.ndarray, np.ndarray]]):
        self.model, self.batches, self.rows = model, batches, len(batches[0][0])
        x, y = batches[0]
        plain: Executable = model.step("train").program([x], [y])
        self.plan, module = plain.plan, plain.module
        self.kernels = {k.name: k for k in self.plan.kernels}
        self.first = module.slots
        self.again = self.first + 2 * len(self.kernels)
        slots = -(-(self.again + 1) // 8) * 8
        text = re.sub(r"^def (k\d+_\w+)\(", r"def body_\1(", module.kernels, flags=re.M)
        for at, name in enumerate(self.kernels):
            text += WRAPPER.format(name=name, slot=self.first + 2 * at, again=self.again)
        # Only a second thread would look for its table at the old distance.
        module = dataclasses.replace(module, kernels=text, slots=slots)
        self.program = Executable(module, library.build(text, module.driver), plain.source)
        self.steps = 0
        self.run(False)

    def run(self, again: bool) -> np.ndarray:
        """One step; [kernels, 2] ticks, first and again."""
        self.steps += 1
        x, y = self.batches[self.steps % len(self.batches)]
        call = self.program.direct([x, y])
        assert call is not None
        rate = float(self.model.optimizer.learning_rate)
        scalars = {"seed": 1, "step": self.steps, "iteration": self.steps, "learning_rate": rate}
        words = self.program.table[0] if self.program.rows >= 0 else np.zeros(self.again + 1, np.int64)
        words[self.first : self.again] = 0
        words[self.again] = again
        call([x, y], scalars)
        return self.program.table[0, self.first : self.again].reshape(-1, 2).copy()

    def timings(self, seconds: float) -> list[Timing]:
        """The best of each kernel in the steps that fit into `seconds`."""
        start, runs = time.perf_counter(), []
        while time.perf_counter() - start < seconds or len(runs) < 6:
            runs.append(np.stack([self.run(False)[:, 0], self.run(True)[:, 1]], 1))
        best = np.min(runs, 0) / peaks.ticks_per_second()
        return [self._timing(k, *map(float, t)) for k, t in zip(self.kernels.values(), best, strict=True)]

    def _timing(self, kernel: Kernel, seconds: float, again: float) -> Timing:
        ops = contractions(kernel)
        samples = {op: self.rows if uses_batch(op) else 1 for op in ops}
        method = METHODS.get(kernel.group.kind, WINOGRAD) if ops else ""
        return Timing(
            kernel.name,
            method,
            " and ".join(described(op, self.rows) for op in ops),
            seconds,
            again,
            sum(2 * multiply_adds(op) * n for op, n in samples.items()),
            sum(2 * direct_multiply_adds(op) * n for op, n in samples.items()),
            sum(bytes_of(self.plan.buffers[op], self.rows) for op in {*kernel.reads, *kernel.group.stored}),
        )
