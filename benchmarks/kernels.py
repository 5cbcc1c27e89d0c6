"""Times each kernel of a compiled training step, inside the step and repeated at once on the same data.

The module of the step is compiled once more with every kernel wrapped in a function that reads the processor's time
stamp counter before and after it.  So a kernel runs on real data, in its groups of samples, with the caches as the step
leaves them; repeated, it shows what it does when its data are as near as they can be.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import layerflow
from benchmarks import peaks
from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import access, library
from layerflow.jit.contraction import SHARDS, multiply_adds
from layerflow.jit.executable import Executable
from layerflow.jit.schedule import Buffer, Kernel

GEMM, DIRECT, WINOGRAD = "GEMM", "direct", "Winograd"
FORWARD, INPUT, WEIGHTS = "forward", "gradient for input", "gradient for weights"
AGAIN = "forward once more"  # what costs less to make again than to keep
PLAIN = ("stop_gradient", "cast")  # maps that no fused work is told of


@dataclasses.dataclass(frozen=True)
class Timing:
    """A kernel of a step on one thread.

    Attributes:
        method: GEMM, DIRECT, WINOGRAD, or "" where nothing is contracted.
        passes: which of FORWARD, AGAIN, INPUT and WEIGHTS it computes.
        sizes: what is multiplied, in words.
        fused: what else the kernel does, in words; "" for nothing.
        updates: whether it goes on to the new weights and the optimizer's averages.
        seconds: time for the whole batch in the step.
        repeated: the same when each call is repeated at once.
        flops: floating-point operations of the multiply-adds that the method needs.
        direct_flops: those of the convolution or product that it computes, done directly and without padding that only
            a gradient has; the same as `flops` for most.
        moved: bytes of the arrays it reads and writes, each counted once.
    """

    kernel: str
    method: str
    passes: list[str]
    sizes: str
    fused: str
    updates: bool
    seconds: float
    repeated: float
    flops: float
    direct_flops: float
    moved: float


# --- what a kernel does -----------------------------------------------------------------


def contractions(kernel: Kernel) -> list[Op]:
    return [op for op in kernel.group.members if op.primitive.kind is Kind.CONTRACT]


def method_of(op: Op) -> str:
    return GEMM if op.name == "matmul" else WINOGRAD if op.name.startswith("winograd") else DIRECT


def pass_of(op: Op) -> str:
    """A gradient for the input multiplies by the weights turned round, one for the weights two values of samples."""
    if op.name in ("convolve_kernel", "winograd_kernel_gradient") or op.attrs.get("transpose_a"):
        return WEIGHTS
    w = op.inputs[1]
    turned = w.name == "transpose" or w.attrs.get("turned") or op.attrs.get("transpose_b")
    if turned or op.name == "winograd_input_gradient":
        return INPUT
    return AGAIN if op.attrs.get("again") else FORWARD


def uses_batch(op: Op) -> bool:
    return any(access.batch_of(x.shape) is not None for x in (op, *op.inputs))


def direct_multiply_adds(op: Op) -> float:
    """Multiply-adds of what `op` computes, done directly, for one sample where it has a batch.

    A product is counted for every tap at every output.  The gradient for the inputs counts like the convolution whose
    gradient it is, although as a convolution of the padded gradient it also multiplies zeros at the border.
    """
    if op.name.startswith("winograd"):
        gradient = op.name == "winograd_kernel_gradient"
        image = op.shape if op.name == "winograd_convolve" else op.inputs[gradient].shape
        points = op.shape if gradient else op.inputs[1].shape
        return 9.0 * count(image[1:-1]) * count(points[-2:])
    done = multiply_adds(op)
    if op.name == "convolve" and pass_of(op) == INPUT and op.inputs[0].name == "pad":
        inner, outer = count(op.inputs[0].inputs[0].shape[1:-1]), count(op.shape[1:-1])
        return done * min(1.0, inner / outer)
    return done


def count(extents: Any) -> float:
    return float(np.prod([n if isinstance(n, int) else n.factor for n in extents]))


def sizes_of(op: Op, rows: int) -> str:
    """What is multiplied: a product's sizes, or the window, the outputs (of a gradient: its inputs) and channels."""
    if op.name == "matmul":
        depth = op.inputs[0].shape[-2 if op.attrs["transpose_a"] else -1]
        m, k, n = (e if isinstance(e, int) else e.factor * rows for e in (op.shape[-2], depth, op.shape[-1]))
        return f"{m} x {k} by {k} x {n}"
    image = op.inputs[1].shape if pass_of(op) == WEIGHTS else op.shape
    window = [3, 3] if method_of(op) == WINOGRAD else op.attrs.get("size") or op.inputs[1].shape[:-2]
    channels = op.inputs[0].shape[-1], image[-1]
    return f"{by(window)}, {by(image[1:-1])}, {channels[0]} to {channels[1]}"


def by(extents: Any) -> str:
    return "x".join(map(str, extents))


def maps_below(op: Op, stop: set[Op]) -> Iterator[Op]:
    """Maps that `op` is made of, itself included, down to the values in `stop`."""
    if op in stop:
        return
    if op.primitive.kind is Kind.MAP and op.name not in PLAIN:
        yield op
    for x in op.inputs:
        yield from maps_below(x, stop)


def fused_of(kernel: Kernel, buffers: Any, optimizer: str, updates: bool) -> str:
    """What a contraction's kernel does besides: to operands while it reads them, and to results before it stores."""
    ops, stored = contractions(kernel), set(kernel.group.stored)
    before = dict.fromkeys(m.name for op in ops for x in op.inputs for m in maps_below(x, set(buffers)))
    others = set(buffers) - set(kernel.group.members) | set(ops)
    # A stored value that another one is made of is told of once.
    after = dict.fromkeys(m.name for s in kernel.group.stored for m in maps_below(s, others | (stored - {s})))
    parts = [f"operand: {', '.join(before)}"] if before else []
    if updates:
        return "; ".join([*parts, f"{optimizer} update of the weights"])
    return "; ".join([*parts, f"result: {', '.join(reversed(after))}"] if after else parts)


def bytes_of(buffer: Buffer, rows: int) -> int:
    return static(buffer.elements) * buffer.op.dtype.itemsize * (rows if buffer.per_sample else 1)


# --- running it ---------------------------------------------------------------------------

# A call of a kernel appends three words to a trace: the kernel's number, the ticks it took, and the least that it took
# of REPEATS more.  Three words at the end of the context table say where the trace is, how long it has become, and how
# often to repeat.  Repeating spoils what the step computes: sums are added twice.
WORDS, REPEATS = 3, 3
WRAPPER = """
def {name}(ctx, lo, hi):
    lanes(1)
    trace = pointer(ctx, {slots}, i64)
    at = integer(ctx, {slots} + 1)
    set_integer(ctx, {slots} + 1, at + 3)
    trace[at] = {number}
    start = cycles()
    body_{name}(ctx, lo, hi)
    trace[at + 1] = cycles() - start
    trace[at + 2] = {forever}
    for n in range(integer(ctx, {slots} + 2)):
        begin_again = cycles()
        body_{name}(ctx, lo, hi)
        trace[at + 2] = minimum(trace[at + 2], cycles() - begin_again)
"""


class Profiler:
    """The training step of a model, with its kernels timed, on one thread.

    Args:
        model: a compiled model.
        batches: (x, y) of one size.
    """

    def __init__(self, model: Any, batches: list[tuple[np.ndarray, np.ndarray]]):
        if platform.machine().lower() not in ("x86_64", "amd64"):
            raise SystemExit(
                "kernels are timed by the time stamp counter of x86-64, which this processor does not have"
            )
        layerflow.set_num_threads(1)
        self.model, self.batches, self.rows = model, batches, len(batches[0][0])
        x, y = batches[0]
        model.train_on_batch(x, y)
        plain: Executable = model.step("train").program([x], [y])
        self.plan, module = plain.plan, plain.module
        self.kernels = self.plan.kernels
        self.slots = module.slots
        text = re.sub(r"^def (k\d+_\w+)\(", r"def body_\1(", module.source, flags=re.M)
        for number, kernel in enumerate(self.kernels):
            text += WRAPPER.format(name=kernel.name, slots=self.slots, number=number, forever=1 << 62)
        # Only a second thread would look for its table at the old distance.
        longer = dataclasses.replace(module, source=text, slots=-(-(self.slots + WORDS) // 8) * 8)
        self.program = Executable(longer, library.build(text), plain.source)
        self.program._prepare(self.rows, 1)
        # A kernel is called at most once for each sample, or once for each part of a sum over samples.
        self.trace = np.zeros(WORDS * len(self.kernels) * (self.rows + SHARDS), np.int64)
        self.steps = 0

    def run(self, repeats: int = 0) -> np.ndarray:
        """One step; [calls, 3]: kernel, ticks, least ticks of the repeats."""
        self.steps += 1
        x, y = self.batches[self.steps % len(self.batches)]
        rate = float(self.model.optimizer.learning_rate)
        scalars = {"seed": 1, "step": self.steps, "iteration": self.steps, "learning_rate": rate}
        self.program.table[0, self.slots : self.slots + WORDS] = self.trace.ctypes.data, 0, repeats
        self.program.run_batches([x, y], scalars, self.rows)
        return self.trace[: self.program.table[0, self.slots + 1]].reshape(-1, WORDS).copy()

    def timings(self, seconds: float) -> list[Timing]:
        """The kernels, each with the sum of the best times of its calls in the steps that fit into `seconds`.

        The best of a call, not of a kernel or a step, because a call is short enough to be left alone now and then on a
        machine that does other things, too.
        """
        self.run(REPEATS)
        start, runs = time.perf_counter(), []
        while time.perf_counter() - start < seconds or len(runs) < 6:
            runs.append((self.run(), self.run(REPEATS)))
        called = runs[0][0][:, 0]
        assert all(np.array_equal(r[:, 0], called) for pair in runs for r in pair)
        best = np.min([first[:, 1] for first, _ in runs], 0), np.min([second[:, 2] for _, second in runs], 0)
        sums = [np.bincount(called, b, len(self.kernels)) / peaks.ticks_per_second() for b in best]
        return [self._timing(k, float(t), float(a)) for k, t, a in zip(self.kernels, *sums, strict=True)]

    def step_seconds(self, seconds: float) -> float:
        """The best whole step as users run it, in CPU time: what the kernels take together should come near it."""
        best, start = float("inf"), time.perf_counter()
        while time.perf_counter() - start < seconds or best == float("inf"):
            now = time.process_time()
            self.model.train_on_batch(*self.batches[0])
            best = min(best, time.process_time() - now)
        return best

    def _timing(self, kernel: Kernel, seconds: float, repeated: float) -> Timing:
        ops = contractions(kernel)
        samples = {op: self.rows if uses_batch(op) else 1 for op in ops}
        touched, updates = (
            {*kernel.reads, *kernel.group.stored},
            any(s in self.plan.updates for s in kernel.group.stored),
        )
        optimizer = type(self.model.optimizer).__name__
        return Timing(
            kernel.name,
            method_of(ops[0]) if ops else "",
            list(dict.fromkeys(map(pass_of, ops))),
            sizes_of(ops[0], self.rows) if ops else "",
            fused_of(kernel, self.plan.buffers, optimizer, updates) if ops else "",
            updates,
            seconds,
            repeated,
            sum(2 * multiply_adds(op) * n for op, n in samples.items()),
            sum(2 * direct_multiply_adds(op) * n for op, n in samples.items()),
            sum(bytes_of(self.plan.buffers[op], self.rows) for op in touched),
        )
