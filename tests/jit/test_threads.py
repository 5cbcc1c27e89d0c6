"""The team of threads: every share is run once, waiting works, an idle process rests."""

import multiprocessing
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from layerflow import config
from layerflow.jit import cpus, library, runtime, threads

SOURCE = """
def count(ctx, lo, hi):
    y = pointer(ctx, 16, i64)
    for i in range(lo, hi):
        y[i] = y[i] + 1

def check(ctx, lo, hi):
    y = pointer(ctx, 16, i64)
    bad = pointer(ctx, 17, i64)
    for i in range(1, lo):
        if y[i] != y[0]:
            bad[0] = bad[0] + 1

def step(ctx, tid, threads):
    n = integer(ctx, 18)
    for b in range(integer(ctx, 19)):
        count(ctx, n * tid // threads, n * (tid + 1) // threads)
        barrier(ctx, tid, threads)
        if tid == 0:
            check(ctx, n, 0)
        barrier(ctx, tid, threads)
"""
SIZE = 257


class Job:
    """`rounds` times: every thread counts up its share, then one looks whether all shares agree."""

    def __init__(self, most: int = 2):
        self.library = library.build(SOURCE)
        self.entry = threads.Entry(self.library.function("lf_step"))
        self.barrier = threads.Barrier(most)
        self.counts, self.bad = np.zeros(SIZE, np.int64), np.zeros(1, np.int64)
        self.table = np.zeros(24, np.int64)
        self.table[runtime.BARRIER_SLOT] = self.barrier.address
        self.table[16:19] = self.counts.ctypes.data, self.bad.ctypes.data, SIZE

    def run(self, rounds: int, team: int) -> None:
        self.table[19] = rounds
        self.entry.run(self.table.ctypes.data, team)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setitem(config._settings, "cache_dir", str(tmp_path))


@pytest.mark.parametrize("team", [1, 2])
def test_every_share_runs_once(team):
    job = Job()
    for _ in range(200):
        job.run(5, team)
    assert (job.counts == 1000).all()
    assert job.bad[0] == 0


def test_team_size_may_change():
    job = Job(4)
    for team in (1, 2, 4, 2, 3, 1, 4):
        job.run(3, team)
    assert (job.counts == 21).all()
    assert job.bad[0] == 0


def test_workers_that_went_to_sleep_are_woken():
    job = Job()
    for pause in (0, 0.0005, 0.001, 0.0015, 0.003, 0.02):
        for _ in range(5):
            time.sleep(pause)
            job.run(1, 2)
    assert (job.counts == 30).all()


def test_calls_from_several_python_threads():
    jobs = [Job() for _ in range(4)]

    def work(job: Job) -> None:
        for _ in range(100):
            job.run(1, 2)

    callers = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert all((job.counts == 100).all() for job in jobs)


def test_idle_process_uses_no_processor():
    Job().run(1, 2)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def _in_child(queue) -> None:
    job = Job()
    job.run(4, 2)
    queue.put(int(job.counts.sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_has_its_own_team():
    Job().run(1, 2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == 4 * SIZE
    child.join(30)


def test_process_ends_with_workers_awake():
    code = "from layerflow.jit import threads; threads._pool(2); p = threads._pool(2)"
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_number_of_threads(monkeypatch):
    monkeypatch.setitem(config._settings, "num_threads", 10**6)
    assert cpus.get_num_threads() == cpus.usable_cpus()
    monkeypatch.setitem(config._settings, "num_threads", 1)
    assert cpus.get_num_threads() == 1
