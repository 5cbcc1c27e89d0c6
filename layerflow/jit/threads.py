"""Persistent worker threads for generated code: they spin between steps, sleep when idle, and end with the process."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable

import numpy as np

from layerflow.jit import library, runtime
from layerflow.jit.cpus import get_num_threads
from layerflow.pages import zeroed

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_WORKER = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_DISPATCH = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_JOIN = ctypes.CFUNCTYPE(None, ctypes.c_int64)


def yield_address() -> int:
    """Address of the system call that offers the processor to other threads."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread  # type: ignore[attr-defined]
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def lines(words: int) -> np.ndarray:
    """Zeroed int64 words that begin on a cache line."""
    return zeroed(8 * words).view(np.int64)


class Barrier:
    """Memory of one barrier, for up to `threads` threads; an executable has its own."""

    def __init__(self, threads: int):
        self.words = lines(runtime.barrier_words(threads))
        self.words[1] = yield_address()
        self.address = self.words.ctypes.data


class Pool:
    """Workers 1 .. threads - 1; the calling thread is number 0."""

    def __init__(self, threads: int):
        code = library.runtime_code()
        self.threads = threads
        self.words = lines(runtime.pool_words(threads))
        self.words[1] = yield_address()
        self.address = self.words.ctypes.data
        self.worker = _WORKER(code.function("lf_worker"))
        self.dispatch = _DISPATCH(code.function("lf_dispatch"))
        self.join = _JOIN(code.function("lf_join"))
        self.lock = threading.Lock()
        self.events = [threading.Event() for _ in range(threads)]
        for tid in range(1, threads):
            threading.Thread(target=self._serve, args=(tid,), daemon=True, name=f"layerflow-{tid}").start()

    def _serve(self, tid: int) -> None:
        event, parked = self.events[tid], runtime.parked_word(tid)
        while self.worker(self.address, tid) == 0:
            event.wait()
            event.clear()
            self.words[parked] = 0

    def run(self, function: int, table: int, threads: int) -> None:
        """Runs function(table, tid, threads) on all threads; returns when all have finished."""
        if self.dispatch(self.address, function, table, threads):
            for event in self.events[1:threads]:
                event.set()
            self.join(self.address)


class Entry:
    """A native function `void (i64 table, i64 tid, i64 threads)` that can be run on several threads."""

    def __init__(self, address: int):
        self.address = address
        self.alone: Callable[[int, int, int], None] = _ENTRY(address)

    def run(self, table: int, threads: int) -> None:
        """Runs on `threads` threads, or on this one alone while another call has the workers, to the same bits."""
        if threads > 1:
            pool = _pool(threads)
            if pool.lock.acquire(blocking=False):
                try:
                    pool.run(self.address, table, threads)
                finally:
                    pool.lock.release()
                return
        self.alone(table, 0, 1)


_state: dict[str, Pool] = {}
_making = threading.Lock()


def _pool(threads: int) -> Pool:
    pool = _state.get("pool")
    if pool is None or pool.threads < threads:
        with _making:
            pool = _state.get("pool")
            if pool is None or pool.threads < threads:
                pool = _state["pool"] = Pool(max(threads, get_num_threads()))
    return pool


def _after_fork() -> None:
    """The child has none of its parent's threads."""
    global _making
    _state.clear()
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
