"""Prefetching: elements made ahead of time in a thread, and the trace that shows who waited for whom."""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from array import array
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np


class Trace:
    """When elements of a prefetching dataset were made and used, in seconds of `time.perf_counter`.

    In training the time from `taken` of one batch to `asked` of the next is the step, and `waits` what it waited.

    Attributes:
        begun, ready: [elements] when the thread began to make the element, and had it.
        asked, taken: [elements] when the consumer asked for it, and had it.

    >>> trace = lf.data.Trace()
    >>> model.fit_dataset(dataset.prefetch(2, trace=trace))
    >>> trace.waits[1:].max() < 1e-3
    """

    _COLUMNS = ("begun", "ready", "asked", "taken")

    def __init__(self) -> None:
        self._times = array("d")

    def add(self, begun: float, ready: float, asked: float, taken: float) -> None:
        self._times.extend((begun, ready, asked, taken))

    def clear(self) -> None:
        """Forget what was noted so far."""
        self._times = array("d")

    def __len__(self) -> int:
        return len(self._times) // 4

    def __getattr__(self, name: str) -> Any:
        if name not in Trace._COLUMNS:
            raise AttributeError(f"Trace has no attribute {name!r}.")
        # A copy: the array cannot grow while somebody looks into it.
        return np.array(self._times).reshape(-1, 4)[:, Trace._COLUMNS.index(name)]

    @property
    def waits(self) -> np.ndarray:
        """[elements] seconds that the consumer waited for each."""
        return self.taken - self.asked

    @property
    def late(self) -> np.ndarray:
        """[elements] whether the element was not ready when it was asked for."""
        return self.ready > self.asked

    def summary(self) -> dict[str, float]:
        """Elements, how many of them were late (the first of an iteration always is), seconds waited for them, seconds
        spent making elements and using them."""
        making = (self.ready - self.begun).sum()
        using = (self.asked[1:] - self.taken[:-1]).sum()
        return {
            "elements": len(self),
            "late": int(self.late.sum()),
            "waited": float(self.waits[self.late].sum()),
            "making": float(making),
            "using": float(using),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a trace-event file: https://ui.perfetto.dev and chrome://tracing show both threads over time."""
        events: list[dict[str, Any]] = []
        start = float(self.begun.min()) if len(self) else 0.0

        def event(name: str, row: int, number: int, first: float, last: float) -> None:
            times = {"ts": (first - start) * 1e6, "dur": (last - first) * 1e6}
            events.append({"name": name, "ph": "X", "pid": 1, "tid": row, "args": {"element": number}, **times})

        for number, (begun, ready, asked, taken) in enumerate(np.array(self._times).reshape(-1, 4).tolist()):
            event("make", 1, number, begun, ready)
            event("wait", 2, number, asked, taken)
            if number + 1 < len(self):
                event("use", 2, number, taken, self._times[4 * number + 6])
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)


class _Shared:
    """What the thread and its consumer both hold; the thread knows nothing else of the consumer."""

    def __init__(self, ahead: int):
        self.made: SimpleQueue[tuple[str, Any, float, float]] = SimpleQueue()
        self.room: SimpleQueue[bool] = SimpleQueue()  # one entry per element that may still be made
        self.stopped = False
        self.thread: threading.Thread | None = None
        for _ in range(ahead):
            self.room.put(True)

    def stop(self) -> None:
        self.stopped = True
        self.room.put(True)


class Prefetching:
    """An iterator over `elements` that a thread runs ahead of; see `Dataset.prefetch`."""

    def __init__(self, elements: Iterator[Any], ahead: int, trace: Trace | None):
        self._elements: Iterator[Any] | None = elements
        self._shared = _Shared(ahead)
        self._trace = trace
        self._ended = False

    def __iter__(self) -> Prefetching:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        if self._elements is not None:
            self._start()
        asked = time.perf_counter()
        kind, element, begun, ready = self._shared.made.get()
        if kind == "element":
            if self._trace is not None:
                self._trace.add(begun, ready, asked, time.perf_counter())
            self._shared.room.put(True)
            return element
        self._ended = True
        if kind == "error":
            raise element
        raise StopIteration

    def _start(self) -> None:
        shared = self._shared
        thread = threading.Thread(target=_make, args=(self._elements, shared), name="layerflow-prefetch", daemon=True)
        shared.thread, self._elements = thread, None
        _running.add(shared)
        thread.start()

    def close(self) -> None:
        """Ends the thread after the element it is at."""
        self._ended = True
        self._shared.stop()

    def __del__(self) -> None:
        self.close()


_running: weakref.WeakSet[_Shared] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Threads inside NumPy must not meet the end of the interpreter."""
    for shared in list(_running):
        shared.stop()
    for shared in list(_running):
        if shared.thread is not None:
            shared.thread.join(timeout=1)


def _make(elements: Any, shared: _Shared) -> None:
    """The work of the thread."""
    made, room = shared.made, shared.room
    try:
        while room.get() and not shared.stopped:
            begun = time.perf_counter()
            try:
                element = next(elements)
            except StopIteration:
                made.put(("end", None, begun, begun))
                return
            made.put(("element", element, begun, time.perf_counter()))
            del element  # or it would stay in memory until the next one is made
    except BaseException as error:  # a KeyboardInterrupt that a user's function raises must arrive too
        made.put(("error", error, 0.0, 0.0))
    finally:
        close = getattr(elements, "close", None)
        if close is not None:
            close()
