"""prefetch: elements come from a thread, which ends; errors and Ctrl-C arrive; the trace tells who waits for whom."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import layerflow as lf

data: Any = lf.data


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("layerflow-prefetch", "layerflow-map"))]


def gone(seconds: float = 5) -> bool:
    """Whether all threads of datasets end in time."""
    end = time.perf_counter() + seconds
    while threads() and time.perf_counter() < end:
        time.sleep(0.005)
    return not threads()


@pytest.fixture(autouse=True)
def no_thread_stays():
    assert gone()
    yield
    gc.collect()
    assert gone(), threads()


def test_the_thread_runs_ahead_as_far_as_it_may():
    made: list[int] = []
    where = set()

    def numbers():
        for i in range(10):
            made.append(i)
            where.add(threading.current_thread().name)
            yield i

    elements = iter(data.generator(numbers).prefetch(3))
    assert made == [], "nothing is made before somebody asks"
    assert next(elements) == 0
    end = time.perf_counter() + 5
    while len(made) < 4 and time.perf_counter() < end:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2, 3], "one in use and three ahead"
    assert list(elements) == list(range(1, 10))
    assert list(elements) == [], "it stays at its end"
    assert where == {"layerflow-prefetch"}


@pytest.mark.parametrize("dropped", ["before", "started", "inside a chain", "closed"])
def test_the_thread_ends_with_its_iterator(dropped):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield np.zeros(3)
        finally:
            closed.set()

    dataset = data.generator(endless).prefetch(2)
    elements = iter(dataset.map(lambda e: e).batch(2) if dropped == "inside a chain" else dataset)
    if dropped != "before":
        next(elements)
        assert threads()
    if dropped == "closed":
        elements.close()
        with pytest.raises(StopIteration):
            next(elements)
    del elements
    assert gone()
    assert dropped == "before" or closed.wait(5), "the generator's own finally has run"


def test_an_error_reaches_the_reader_after_the_elements_before_it():
    def broken():
        yield 1
        yield 2
        raise ZeroDivisionError("in the thread")

    elements = iter(data.generator(broken).prefetch(5))
    assert [next(elements), next(elements)] == [1, 2]
    with pytest.raises(ZeroDivisionError, match="in the thread") as caught:
        next(elements)
    assert any(entry.name == "broken" for entry in caught.traceback), "the place in the user's code is shown"
    assert list(elements) == []


def test_two_iterations_do_not_disturb_each_other():
    dataset = data.array(list(range(50))).prefetch(2)
    assert list(zip(dataset, dataset, strict=True)) == [(i, i) for i in range(50)]
    assert list(dataset.prefetch(1).prefetch(4)) == list(range(50))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_waiting():
    """The reader waits for a slow generator; Ctrl-C ends the wait at once."""
    free = threading.Event()

    def slow():
        free.wait(20)
        yield 1

    timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
    elements = iter(data.generator(slow).prefetch(1))
    start = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(elements)
    assert time.perf_counter() - start < 5
    free.set()
    timer.join()


def test_leaving_the_interpreter_with_a_running_thread():
    program = (
        "import numpy as np, layerflow as lf\n"
        "elements = iter(lf.data.generator(lambda: (np.ones(10**6).cumsum() for _ in iter(int, 1))).prefetch(2))\n"
        "next(elements); print('bye')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "bye\n", "")


def test_shuffling_in_the_thread_is_fixed_by_set_seed():
    def order():
        lf.random.set_seed(4)
        return [list(data.array(list(range(9))).shuffle(9).prefetch(2)) for _ in range(2)]

    first = order()
    assert first == order()
    assert first[0] != first[1]


def test_map_async_overlaps_and_keeps_the_order():
    running, most = 0, 0

    async def work(element):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01 if element % 2 else 0.03)
        running -= 1
        return element * 2

    dataset = data.array(list(range(12)))
    assert list(dataset.map_async(work, parallel=4)) == list(range(0, 24, 2))
    assert most == 4
    most = 0
    assert list(dataset.map_async(work).take(3)) == [0, 2, 4]
    assert most == 1

    async def in_a_running_loop():
        return list(dataset.map_async(work, parallel=12))

    assert asyncio.run(in_a_running_loop()) == list(range(0, 24, 2))
    assert list(dataset.map_async(lambda e: threading.current_thread().name[:9], parallel=2).take(1)) == ["layerflow"]


def test_map_async_that_is_dropped_cancels_what_is_under_way():
    cancelled = []

    async def endless(element):
        if element == 0:
            return 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(element)
            raise

    elements = iter(data.array([0, 1, 2]).map_async(endless, parallel=2))
    assert next(elements) == 0
    time.sleep(0.05)
    del elements
    assert gone()
    assert sorted(cancelled) == [1, 2]


# Training


def network(units: int = 64) -> Any:
    made = lf.sequential([lf.layers.dense(units=units, input_shape=[784]), lf.layers.dense(units=10)])
    made.compile(optimizer="sgd", loss="meanSquaredError")
    return made


def batches(count: int, rows: int, seconds: float = 0.0) -> Any:
    x, y = np.ones((rows, 784), np.float32), np.ones((rows, 10), np.float32)

    def parts():
        for _ in range(count):
            time.sleep(seconds)
            yield x, y

    return data.generator(parts)


def test_the_trace_shows_that_the_step_does_not_wait_for_a_fast_generator(tmp_path):
    """Batches need 1 ms, the step far longer: after the first one each batch is ready when it is asked for."""
    trace = lf.data.Trace()
    slow = {"on_batch_end": lambda batch, logs: time.sleep(0.02)}
    network().fit_dataset(batches(12, 32, 0.001).prefetch(2, trace=trace), verbose=0, callbacks=slow)
    assert len(trace) == 12
    assert (trace.begun <= trace.ready).all()
    assert (trace.asked <= trace.taken).all()
    assert (trace.ready <= trace.taken).all()
    assert not trace.late[2:].any(), trace.waits
    assert np.median(trace.waits[2:]) < 1e-3
    summary = trace.summary()
    assert summary["elements"] == 12
    assert summary["using"] > 12 * 0.018 > summary["making"] / 5
    trace.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [sum(e["name"] == name for e in events) for name in ("make", "wait", "use")] == [12, 12, 11]
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in events)


def test_the_trace_shows_a_slow_generator():
    """The opposite: the step waits for nearly all that making a batch takes."""
    trace = lf.data.Trace()
    network().fit_dataset(batches(6, 8, 0.03).prefetch(2, trace=trace), verbose=0)
    assert trace.late[3:].all(), "after those that were made while the step was compiled"
    assert trace.waits[3:].mean() > 0.015
    assert trace.summary()["waited"] == pytest.approx(trace.waits[trace.late].sum())
    trace.clear()
    assert len(trace) == 0


def test_the_generator_runs_while_the_native_step_runs():
    """Making a batch and training on it overlap: the step does not hold Python's lock."""
    made = network(units=256)
    trace = lf.data.Trace()
    made.fit_dataset(batches(2, 4096), verbose=0)
    made.fit_dataset(batches(8, 4096, 0.001).prefetch(1, trace=trace), verbose=0)
    # One ahead: an element is begun after the one before was taken, and ready before the step of that one is over.
    during = (trace.begun[1:] >= trace.taken[:-1]) & (trace.ready[1:] <= trace.asked[1:])
    assert during.sum() >= 4, np.stack([trace.begun, trace.ready, trace.asked, trace.taken], 1)


def test_an_error_in_the_thread_ends_training_with_the_users_error():
    def broken():
        yield np.ones((4, 784), np.float32), np.ones((4, 10), np.float32)
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        network().fit_dataset(data.generator(broken).prefetch(2), verbose=0)


def test_batches_of_changing_sizes_compile_once():
    made = network()

    def parts():
        for rows in (32, 7, 1, 32, 100, 3):
            yield np.ones((rows, 784), np.float32), np.ones((rows, 10), np.float32)

    made.fit_dataset(data.generator(parts).prefetch(2), epochs=2, verbose=0)
    made.fit_dataset(
        data.array({"xs": np.ones((50, 784), np.float32), "ys": np.ones((50, 10), np.float32)}).batch(32), verbose=0
    )
    assert len(made.step("train").programs) == 1
