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
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import layerflow
from benchmarks import peaks
from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import access, attention, library
from layerflow.jit.contraction import SHARDS, multiply_adds
from layerflow.jit.executable import Executable
from layerflow.jit.schedule import Buffer, Kernel

GEMM, DIRECT, WINOGRAD, LOOP, ATTENTION = "GEMM", "direct", "Winograd", "loop", "attention"
FORWARD, INPUT, WEIGHTS = "forward", "gradient for input", "gradient for weights"
AGAIN = "forward once more"  # what costs less to make again than to keep
PLAIN = ("stop_gradient", "cast")  # maps that no fused work is told of


@dataclasses.dataclass(frozen=True)
class Timing:
    """A kernel of a step on one thread.

    Attributes:
        method: GEMM, DIRECT, WINOGRAD, LOOP over time, ATTENTION, or "" where nothing is contracted.
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


def inner(kernel: Kernel) -> list[Kernel]:
    """The kernels of a loop's step, or the kernel itself."""
    return kernel.loop.plan.kernels if kernel.loop else [kernel]


def contractions(kernel: Kernel) -> dict[Op, int]:
    """What a kernel contracts, and how often: in a loop at every step but those that need not."""
    found: dict[Op, int] = {}
    for k in inner(kernel):
        steps = static(kernel.loop.length) - k.all_but_last if kernel.loop else 1
        for op in (*k.group.members, *k.group.added):
            if op.primitive.kind is Kind.CONTRACT:
                found[op] = steps - (k.starts_with_zeros and op is k.group.anchor)
    return found


def is_attention(op: Op) -> bool:
    return op.name in attention.KIND


def method_of(op: Op) -> str:
    if is_attention(op):
        return ATTENTION
    return GEMM if op.name == "matmul" else WINOGRAD if op.name.startswith("winograd") else DIRECT


def outside_of(kernel: Kernel) -> dict[Op, Op]:
    """What the inputs of a loop's body stand for."""
    loop = kernel.group.anchor
    return dict(zip(loop.attrs["body"].graph.inputs, loop.inputs, strict=True)) if kernel.loop else {}


def pass_of(op: Op, outside: Mapping[Op, Op] = MappingProxyType({})) -> str:
    """A gradient for the input multiplies by the weights turned round, one for the weights two values of samples.

    Args:
        op: a contraction.
        outside: what the inputs of a loop's body stand for (`outside_of`); by them its pass is seen.
    """
    if is_attention(op):
        return FORWARD if attention.KIND[op.name] == "attend" else INPUT
    if op.name in ("convolve_kernel", "winograd_kernel_gradient") or op.attrs.get("transpose_a"):
        return WEIGHTS
    w = outside.get(op.inputs[1], op.inputs[1])
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


def attention_multiply_adds(ops: Collection[Op]) -> float:
    """Multiply-adds of one pass over the scores, for one sample: they are made once for all that wants them."""
    first = next(iter(ops))
    made = static(first.inputs[0].shape[-1])
    if pass_of(first) == INPUT:
        made += static(first.inputs[2].shape[-1])  # the slopes of the scores
    return attention.scores(first) * (made + sum(map(attention.own_depth, ops)))


def multiply_adds_of(kernel: Kernel, rows: int, of: Callable[[Op], float] = multiply_adds) -> float:
    """Multiply-adds of a kernel for a batch of `rows`; `of` counts those of one contraction for one sample."""
    ops = contractions(kernel)
    if any(map(is_attention, ops)):
        return attention_multiply_adds(ops) * (rows if any(map(uses_batch, ops)) else 1)
    return sum(of(op) * times * (rows if uses_batch(op) else 1) for op, times in ops.items())


def count(extents: Any) -> float:
    return float(np.prod([n if isinstance(n, int) else n.factor for n in extents]))


def sizes_of(op: Op, rows: int) -> str:
    """What is multiplied: a product's sizes, or the window, the outputs (of a gradient: its inputs) and channels."""
    if op.name == "matmul":
        depth = op.inputs[0].shape[-2 if op.attrs["transpose_a"] else -1]
        m, k, n = (e if isinstance(e, int) else e.factor * rows for e in (op.shape[-2], depth, op.shape[-1]))
        return f"{m} x {k} by {k} x {n}"
    if is_attention(op):
        q, k = op.inputs[0].shape, op.inputs[1].shape
        return f"{q[-3]} rows by {k[1]}, {q[-2]} heads of {q[-1]}"
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
    if kernel.loop:
        maps = [m.name for k in inner(kernel) for m in k.group.members if m.primitive.kind is Kind.MAP]
        return f"result: {', '.join(name for name in dict.fromkeys(maps) if name not in PLAIN)}"
    ops, stored = list(contractions(kernel)), set(kernel.group.stored)
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
        names = "|".join(kernel.name for kernel in self.kernels)  # and not those inside of loops
        text = re.sub(rf"^def ({names})\(", r"def body_\1(", module.source, flags=re.M)
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
        ops = list(contractions(kernel))
        touched, updates = (
            {*kernel.reads, *kernel.group.stored},
            any(s in self.plan.updates for s in kernel.group.stored),
        )
        optimizer = type(self.model.optimizer).__name__
        sizes = sizes_of(ops[0], self.rows) if ops else ""
        if kernel.loop and ops:
            sizes = f"{static(kernel.loop.length)} steps of {sizes}"
        return Timing(
            kernel.name,
            (LOOP if kernel.loop else method_of(ops[0])) if ops else "",
            list(dict.fromkeys(pass_of(op, outside_of(kernel)) for op in ops)),
            sizes,
            fused_of(kernel, self.plan.buffers, optimizer, updates) if ops else "",
            updates,
            seconds,
            repeated,
            2 * multiply_adds_of(kernel, self.rows),
            2 * multiply_adds_of(kernel, self.rows, direct_multiply_adds),
            sum(bytes_of(self.plan.buffers[op], self.rows) for op in touched),
        )
