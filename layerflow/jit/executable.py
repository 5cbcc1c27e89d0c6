"""Executable: generated code bound to memory.  One native call runs a batch, or many."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.graph.ir import Graph
from layerflow.graph.shapes import Dim, static, valued
from layerflow.graph.symbolic import CONSTANT, PARAMETER, Op
from layerflow.jit import again, memory, threads
from layerflow.jit.cpus import get_num_threads
from layerflow.jit.emit import Module
from layerflow.jit.repeated import Direct
from layerflow.jit.runtime import BARRIER_SLOT
from layerflow.jit.values import (
    BATCH,
    COUNT,
    COUNTERS,
    GATHER,
    ITERATION_BASE,
    ORDER,
    SCRATCH,
    SEED,
    START,
    STEP_BASE,
    TID,
    TOTAL,
)
from layerflow.pages import LINE, zeroed

WORK_PER_THREAD = 3e6  # multiply-adds below which another thread costs more than it brings: weights move between caches


class Executable:
    """Calls one compiled module.  Its tables and arena are its own; calls from several Python threads take turns."""

    def __init__(self, module: Module, library: Any, source: Graph):
        self.module = module
        self.source = source
        self.leaves = leaves_of(source)
        self.plan = module.plan
        self.library = library
        self.entry = threads.Entry(library.function("lf_step"))
        self.lock = Turns()
        self.settings = ctypes.c_int64()  # grows whenever the table gets other settings
        self.rows = -1
        self.threads = 0
        self.arena = np.zeros(0, np.uint8)
        self.extents: dict[str, int] = {}  # of symbols besides the batch: now in the table, and the largest so far
        self.largest: dict[str, int] = {}
        self.scalars = np.zeros(16, np.float64)
        self.table = np.zeros((1, module.slots), np.int64)
        buffers = self.plan.buffers
        graph = self.plan.graph
        self.inputs = [buffers[op] for op in graph.inputs]
        self.symbols = {  # symbol -> an input and its axis that have this extent
            extent.symbol: (at, axis)
            for at, op in enumerate(graph.inputs)
            for axis, extent in enumerate(op.shape)
            if isinstance(extent, Dim) and extent.symbol in module.symbols and extent.factor == 1
        }
        self.outputs = [buffers[op] for op in graph.outputs]
        self.temporaries = [b for b in buffers.values() if b.role == "temporary"]
        self.sample_work = module.work
        self._order = np.zeros(0, np.int64)
        self._bind_scalars()

    # --- memory --------------------------------------------------------------

    def _bind_scalars(self) -> None:
        """Floats set before each run live side by side; the kernels read them through their slots."""
        self.scalar_names: list[tuple[str, int, np.dtype]] = []
        for buffer in self.plan.buffers.values():
            if buffer.role == "scalar" and buffer.op.attrs["name"] not in COUNTERS:
                self.scalar_names.append((buffer.op.attrs["name"], len(self.scalar_names), buffer.op.dtype))
        self._scalar_views = {name: self.scalars[at : at + 1].view(dtype)[:1] for name, at, dtype in self.scalar_names}

    @property
    def weights_bytes(self) -> int:
        """Memory of the variables that the program reads or writes."""
        return sum(op.payload._storage.nbytes for op in self.leaves if op.primitive is PARAMETER)

    def extents_of(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        """What the symbols besides the batch stand for with these arguments."""
        return {symbol: arrays[at].shape[axis] for symbol, (at, axis) in self.symbols.items()}

    def _prepare(self, rows: int, count: int, extents: Mapping[str, int] = memory.NO_EXTENTS) -> None:
        """Tables and arena for batches of `rows` on `count` threads; made anew only when something grows."""
        largest = {symbol: self._room(n, self.largest.get(symbol, 0)) for symbol, n in extents.items()}
        if rows > self.rows or count > self.threads or largest != self.largest:
            self.rows, self.threads, self.largest = max(rows, self.rows), max(count, self.threads), largest
            self._make_tables()
        if self.extents != extents:
            self.current = None
        self.extents = dict(extents)
        for symbol, n in extents.items():
            self.table[:, self.module.symbols[symbol]] = n

    @staticmethod
    def _room(wanted: int, there: int) -> int:
        """Steps to have memory for: a quarter more each time, for lengths may come in order."""
        return there if wanted <= there else max(wanted, there + there // 4)

    def _make_tables(self) -> None:
        self.current = None
        self._bound_graph = None
        offsets, total = memory.allocate(self.plan, self.rows, self.threads, self.largest)
        staging: list[tuple[Any, int]] = []
        for buffer in self.inputs:
            if buffer.per_sample:
                staging.append((buffer, total))
                total += memory.size_of(buffer, self.rows, self.threads, self.largest)
        needs = [
            fixed + valued(sampled, self.largest) * self.rows
            for fixed, sampled in (k.scratch for k in self.plan.kernels)
        ]
        local_offsets, local = memory.allocate_local(self.plan, self.rows, self.largest)
        scratch = -(-max(needs, default=0) // LINE) * LINE
        own = scratch + local + LINE
        self.arena = zeroed(total + own * self.threads, whole=True)
        self.table = np.zeros((self.threads, self.module.slots), np.int64)
        self.table[:, TID] = np.arange(self.threads)
        self.barrier = threads.Barrier(self.threads)
        self.table[:, BARRIER_SLOT] = self.barrier.address
        base = self.arena.ctypes.data
        self.table[:, SCRATCH] = base + total + own * np.arange(self.threads)
        for buffer, offset in local_offsets.items():
            self.table[:, self.module.local_slots[buffer]] = self.table[:, SCRATCH] + scratch + offset
        for op, offset in offsets.items():
            buffer = self.plan.buffers[op]
            step = memory.size_of(buffer, self.rows, 1) if buffer.private else 0
            self.table[:, buffer.slot] = base + offset + step * np.arange(self.threads)
        self.staging = {buffer.op: base + offset for buffer, offset in staging}
        for buffer in self.plan.buffers.values():
            if buffer.role == "scalar" and buffer.op.attrs["name"] not in COUNTERS:
                self.table[:, buffer.slot] = self._scalar_views[buffer.op.attrs["name"]].ctypes.data
        self._bind_leaves(self.source)

    def _bind_leaves(self, graph: Graph, captured: Mapping[Op, np.ndarray] | None = None) -> None:
        """Addresses of variables and constants; `graph` may be another one of the same structure."""
        self.kept: list[np.ndarray] = []
        for mine, theirs in zip(self.leaves, leaves_of(graph), strict=True):
            buffer = self.plan.buffers.get(mine)
            if buffer is None:
                continue
            if mine.primitive is PARAMETER:
                address = theirs.payload._storage.ctypes.data
            else:
                given = (captured or {}).get(theirs, theirs.payload)
                if given is None:
                    continue  # an array of a closure: it comes with each run
                array = np.ascontiguousarray(given, mine.dtype)
                self.kept.append(array)
                address = array.ctypes.data
            self.table[:, buffer.slot] = address

    # --- running -------------------------------------------------------------

    _current: Any = None

    @property
    def current(self) -> Any:
        """The repeated call (Direct, Bound) whose settings the table holds."""
        return self._current

    @current.setter
    def current(self, call: Any) -> None:
        self._current = call
        self.settings.value += 1

    def direct(self, arrays: Sequence[np.ndarray]) -> Direct | None:
        """A short way to run single batches of arrays like these; None if they must be gathered first."""
        fits = all(self._is_direct(b, a) for b, a in zip(self.inputs, arrays, strict=True))
        return Direct(self, arrays) if fits else None

    def builtin(self, direct: Direct, arrays: Any, then: tuple[ctypes.c_int64, int], *rest: Any) -> Any:
        """Such a call as a built-in function, see `again.function`; None if the table holds other settings by now.

        The function does nothing when it does so later, or while another thread has the lock.
        """
        settled = self.settings.value
        if self.current is not direct or self.settings.value != settled:
            return None
        guards = [then, (self.settings, settled), (self.lock.busy, 0)]
        return again.function(self.entry.address, direct.address, arrays, guards, *rest)

    def run(
        self,
        arguments: Sequence[np.ndarray],
        scalars: dict[str, float],
        leaves: Graph,
        captured: Mapping[Op, np.ndarray],
    ) -> list[np.ndarray]:
        """Outputs for arguments of known shapes (a graph without a batch)."""
        with self.lock:
            self.current = None
            count = self._thread_count(1)
            self._prepare(1, count)
            if captured or leaves is not self._bound_graph:
                self._bind_leaves(leaves, captured)
                self._bound_graph = leaves
            held = []
            for buffer, array in zip(self.inputs, arguments, strict=True):
                array = np.ascontiguousarray(array, buffer.op.dtype)
                held.append(array)
                self.table[:, buffer.slot] = array.ctypes.data
            results = [np.empty([static(n) for n in b.op.shape], b.op.dtype) for b in self.outputs]
            for buffer, array in zip(self.outputs, results, strict=True):
                self._advance(buffer.op, array.ctypes.data, 0)
            self._counters(scalars)
            self.table[:, [GATHER, ORDER, BATCH, TOTAL, START, COUNT]] = (0, 0, 1, 1, 0, 1)
            self.entry.run(self.table.ctypes.data, count)
            return results

    _bound_graph: Graph | None = None

    def run_batches(
        self,
        arguments: Sequence[np.ndarray],
        scalars: dict[str, float],
        batch_size: int,
        order: np.ndarray | None = None,
        first: int = 0,
        count: int | None = None,
    ) -> list[np.ndarray]:
        """Outputs for batches `first` .. `first + count` of arrays with one row a sample.

        Rows are taken in the order `order` (int64), by default as they stand.  Outputs with a batch axis hold all rows;
        others hold one entry a batch.
        """
        total = len(arguments[0]) if order is None else len(order)
        count = -(-total // batch_size) if count is None else count
        rows = min(batch_size, total)
        with self.lock:
            self.current = None
            team = self._thread_count(rows)
            self._prepare(rows, team, self.extents_of(arguments))
            _held = self._bind_arguments(arguments, batch_size, order, total, first)  # alive until the run is over
            results = self._make_outputs(total, batch_size, count)
            self._counters(scalars)
            self.table[:, BATCH] = batch_size
            self.table[:, TOTAL] = total
            self.table[:, START] = first
            self.table[:, COUNT] = count
            self.entry.run(self.table.ctypes.data, team)
            return results

    def _thread_count(self, rows: int) -> int:
        """Threads worth waking for the work of one batch."""
        useful = int(self.sample_work * rows / WORK_PER_THREAD)
        return 1 if useful <= 1 else min(get_num_threads(), useful)

    def _counters(self, scalars: dict[str, float]) -> None:
        table = self.table
        table[:, SEED] = int(scalars.get("seed", 0))
        table[:, STEP_BASE] = int(scalars.get("step", 0))
        table[:, ITERATION_BASE] = int(scalars.get("iteration", 0))
        for name, _, _ in self.scalar_names:
            self._scalar_views[name][0] = scalars[name]

    def _advance(self, op: Op, base: int, stride: int) -> None:
        slot = self.module.advance.get(op)
        if slot is not None:
            self.table[:, slot] = base
            self.table[:, slot + 1] = stride

    def _bind_arguments(
        self, arguments: Sequence[np.ndarray], batch_size: int, order: np.ndarray | None, total: int, first: int
    ) -> list[Any]:
        """Points the kernels at the caller's arrays where they fit as they stand, else has batches gathered."""
        direct = order is None and all(self._is_direct(b, a) for b, a in zip(self.inputs, arguments, strict=True))
        self.table[:, GATHER] = not direct
        held: list[Any] = list(arguments)
        if direct:
            for buffer, array in zip(self.inputs, arguments, strict=True):
                stride = array.strides[0] * batch_size
                self._advance(buffer.op, array.ctypes.data + first * stride, stride)
            return held
        if order is None:
            if len(self._order) < total:
                self._order = np.arange(total, dtype=np.int64)
            order = self._order
        held.append(order)
        self.table[:, ORDER] = order.ctypes.data
        for buffer, array in zip(self.inputs, arguments, strict=True):
            array = np.ascontiguousarray(array)
            held.append(array)
            self._advance(buffer.op, self.staging[buffer.op], 0)
            self.table[:, self.module.source_slots[buffer.op]] = array.ctypes.data
        return held

    def _is_direct(self, buffer: Any, array: np.ndarray) -> bool:
        if array.dtype != buffer.op.dtype or not array.flags.c_contiguous:
            return False
        layout = buffer.layout
        return len(layout.shape) < 2 or layout.strides[-2] == layout.shape[-1]

    def _make_outputs(self, total: int, batch_size: int, count: int) -> list[np.ndarray]:
        results = []
        for buffer in self.outputs:
            op = buffer.op
            if buffer.per_sample:
                lead = op.shape[0]
                assert isinstance(lead, Dim)
                each = valued(lead.factor, self.extents)
                array = np.empty((total * each, *(valued(n, self.extents) for n in op.shape[1:])), op.dtype)
                stride = array.strides[0] * batch_size * each
            else:
                array = np.empty((count, *(valued(n, self.extents) for n in op.shape)), op.dtype)
                stride = array.strides[0]
            self._advance(op, array.ctypes.data, stride)
            results.append(array)
        return results


class Turns:
    """A lock for one Python thread at a time; `busy` tells native code, which cannot take it, whether anyone has it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.busy = ctypes.c_int64()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.busy.value += 1

    def __exit__(self, *_: object) -> None:
        self.busy.value -= 1
        self._lock.release()


def leaves_of(graph: Graph) -> list[Op]:
    """Variables and captured arrays in topological order: the same order for graphs of the same structure."""
    return [op for op in graph.ops if op.primitive in (PARAMETER, CONSTANT)]
