"""Streams keep memory bounded, and training on them does not wait for data that come fast enough."""

from __future__ import annotations

import collections
import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf

data: Any = lf.data
ROOT = Path(__file__).parents[2]


class Alive:
    """Counts the arrays of a generator that are in memory at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        made = np.ones(shape, np.float32)
        weakref.finalize(made, self._gone)
        self.now += 1
        self.most = max(self.most, self.now)
        return made

    def _gone(self) -> None:
        self.now -= 1


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda d: d, 2),
        (lambda d: d.map(lambda e: e), 2),
        (lambda d: d.prefetch(1), 3),
        (lambda d: d.prefetch(3), 5),
        (lambda d: d.unbatch().batch(5), 3),
        (lambda d: d.unbatch().shuffle(20, seed=0).batch(5), 5),
        (lambda d: d.unbatch().skip(30).repeat(2).batch(7).prefetch(2), 3),
        (lambda d: d.take(50).shuffle(4, seed=0), 6),
    ],
)
def test_few_elements_of_a_stream_are_in_memory(change, most):
    alive = Alive()
    dataset = change(data.generator(lambda: (alive.array((10, 4)) for _ in range(100))))
    collections.deque(dataset, maxlen=0)
    gc.collect()
    assert alive.now == 0
    assert alive.most <= most


def test_few_batches_are_in_memory_while_training():
    alive = Alive()
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[4])])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    labels = np.ones((10, 1), np.float32)
    dataset = data.generator(lambda: ((alive.array((10, 4)), labels) for _ in range(100))).prefetch(2)
    model.fit_dataset(dataset, epochs=2, verbose=0)
    assert alive.most <= 5
    gc.collect()
    assert alive.now <= 1, "only what the compiled step was last bound to"


def larger_than_memory(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.larger_than_memory", *options]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_the_run_of_20_gb_in_miniature(tmp_path):
    """64 batches of 4 MB: a quarter of a gigabyte passes through less than 60 MB."""
    trace = tmp_path / "trace.json"
    found = larger_than_memory("--gigabytes", "0.256", "--batch-megabytes", "4", "--trace", str(trace))
    assert found["batches"] == 64
    assert found["programs"] == 1
    # Beyond the batches the first step brings the compiler with it.
    assert found["resident_mb_peak"] - found["resident_mb_before"] < 150
    assert len(json.loads(trace.read_text())["traceEvents"]) == 64 * 3 - 1


@pytest.mark.long
def test_20_gb_train_in_600_mb_and_no_step_waits():
    found = larger_than_memory("--gigabytes", "20")
    assert found["gigabytes"] >= 19.9
    assert found["resident_mb_peak"] < 600
    assert found["late_after_first"] <= 0.02 * found["batches"], "a few, for a machine that others use too"
    assert found["waited_ms_after_first"] < 10 * found["seconds"], "less than 1 percent of the time"
