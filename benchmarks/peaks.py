"""What a core of this machine can do: fused multiply-adds a second, and bytes a second from memory and from a cache."""

from __future__ import annotations

import ctypes
import functools
import time

import numpy as np

from layerflow.jit import language, native, target
from layerflow.jit.language_builder import Builder
from layerflow.jit.language_calls import function
from layerflow.jit.language_types import I64, Value

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
MEMORY_BYTES = 256 << 20  # far more than the caches hold
ROUNDS = 100_000  # of the loop of multiply-adds in one call: enough that the call itself does not count
STREAMS = 8  # sums that run side by side while memory is read

# Independent sums, all in registers: enough of them to hide the latency of a multiply-add.
SOURCE = """
def fma_peak(ctx, lo, hi):
    lanes({lanes})
    y = pointer(ctx, 0, f32)
    a = load(y, 0)
    for m in static({sums}):
        acc[m] = load(y, m)
    for i in range(lo, hi):
        for m in static({sums}):
            acc[m] = fma(a, acc[m], a)
    for m in static({sums}):
        store(y, m, acc[m])

def read_all(ctx, lo, hi):
    lanes({lanes})
    x = pointer(ctx, 0, f32)
    y = pointer(ctx, 1, f32)
    for m in static({streams}):
        acc[m] = zeros(f32)
    for i in range(lo, hi, {step}):
        for m in static({streams}):
            acc[m] = acc[m] + load(x, i + m * {lanes})
    for m in static({streams}):
        store(y, m, acc[m])

def now(ctx, lo, hi):
    lanes(1)
    set_integer(ctx, 0, cycles())
"""


@function
def cycles(b: Builder) -> Value:
    """The processor's time stamp counter, as a function of the kernel language."""
    b.declare("llvm.readcyclecounter", "i64 @llvm.readcyclecounter()")
    return Value(I64, b.emit("call i64 @llvm.readcyclecounter()"), 0, True)


@functools.cache
def code() -> native.Library:
    host = target.host()
    lanes = host.vector_bytes // 4
    source = SOURCE.format(lanes=lanes, sums=sums(), streams=STREAMS, step=STREAMS * lanes)
    return native.load(native.compile_object([language.lower(source, host)], host))


def sums() -> int:
    """Independent sums that the registers hold."""
    return 20 if target.host().registers >= 32 else 12


@functools.cache
def ticks_per_second() -> float:
    """The rate of the time stamp counter."""
    word = np.zeros(1, np.int64)
    kernel = SIGNATURE(code().function("now"))

    def both() -> tuple[float, int]:
        kernel(word.ctypes.data, 0, 1)
        return time.perf_counter(), int(word[0])

    (t, ticks), _ = both(), time.sleep(0.2)
    later, more = both()
    return (more - ticks) / (later - t)


class Machine:
    """Measures the core it runs on; what it finds are the best of several short runs.

    Attributes:
        gflops: the most floating-point operations a second seen so far, in units of 1e9 (two for a multiply-add).
    """

    def __init__(self) -> None:
        self.lanes = target.host().vector_bytes // 4
        self.numbers = np.zeros(STREAMS * self.lanes + 64, np.float32)
        self.gflops = 0.0
        for _ in range(20):
            self.refresh()

    def refresh(self, runs: int = 5) -> None:
        """Measures multiply-adds again: clock rates change, so this is done between the kernels, too."""
        kernel = SIGNATURE(code().function("fma_peak"))
        table = np.array([self.numbers.ctypes.data], np.int64)
        for _ in range(runs):
            start = time.perf_counter()
            kernel(table.ctypes.data, 0, ROUNDS)
            rate = ROUNDS * sums() * self.lanes * 2 / (time.perf_counter() - start) / 1e9
            self.gflops = max(self.gflops, rate)

    def read_rate(self, size: int) -> float:
        """GB/s of reading `size` bytes again and again."""
        step = STREAMS * self.lanes
        count = size // 4 // step * step
        data = np.ones(count, np.float32)
        table = np.array([data.ctypes.data, self.numbers.ctypes.data], np.int64)
        kernel = SIGNATURE(code().function("read_all"))
        repeats, best = max(1, (32 << 20) // size), 0.0
        for _ in range(9):
            start = time.perf_counter()
            for _ in range(repeats):
                kernel(table.ctypes.data, 0, count)
            best = max(best, repeats * count * 4 / (time.perf_counter() - start) / 1e9)
        return best
