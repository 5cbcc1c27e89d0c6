"""Trains on data that do not fit in memory, made batch by batch: how much memory stays resident, and who waits.

    python -m benchmarks.larger_than_memory --gigabytes 20 --batch-megabytes 64

prints one line of JSON; `--trace FILE` also writes the trace of prefetch, which https://ui.perfetto.dev shows.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import layerflow as lf

PIXELS, CLASSES = 784, 10


def generated(count: int, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """`count` batches of new arrays, each different, made at about the speed of memory."""
    rng = np.random.default_rng(0)
    noise = rng.random((rows, PIXELS), np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, rows)]
    for number in range(count):
        yield {"xs": noise + np.float32(number / count), "ys": labels}


def train(gigabytes: float, megabytes: float, units: int, ahead: int) -> tuple[dict[str, Any], lf.data.Trace]:
    """One epoch; what it took, and the trace of the batches."""
    rows = max(1, int(megabytes * 1e6) // (4 * PIXELS))
    count = max(1, round(gigabytes * 1e9 / (4 * PIXELS * rows)))
    model = lf.sequential(
        [
            lf.layers.dense(units=units, activation="relu", input_shape=[PIXELS]),
            lf.layers.dense(units=CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer=lf.train.sgd(0.01), loss="categoricalCrossentropy")
    trace = lf.data.Trace()
    dataset = lf.data.generator(lambda: generated(count, rows)).prefetch(ahead, trace=trace)
    before = _peak()
    start = time.perf_counter()
    history = model.fit_dataset(dataset, verbose=0)
    seconds = time.perf_counter() - start
    found = {
        "gigabytes": round(count * rows * 4 * PIXELS / 1e9, 3),
        "batches": count,
        "batch_rows": rows,
        "seconds": round(seconds, 2),
        "resident_mb_before": before,
        "resident_mb_peak": _peak(),
        "programs": len(model.step("train").programs),
        "loss": round(history.history["loss"][-1], 4),
        # The first steps are those in which the model is compiled and the buffer fills.
        "late_after_first": int(trace.late[2:].sum()),
        "waited_ms_after_first": round(1e3 * float(trace.waits[2:].sum()), 3),
        "longest_wait_us": round(1e6 * float(trace.waits[2:].max(initial=0.0)), 1),
        "making_ms_per_batch": round(1e3 * float((trace.ready - trace.begun).mean()), 2),
    }
    return found, trace


def _peak() -> int:
    """The most memory that was ever resident in this process, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--batch-megabytes", type=float, default=64)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--ahead", type=int, default=2)
    parser.add_argument("--trace")
    options = parser.parse_args()
    found, trace = train(options.gigabytes, options.batch_megabytes, options.units, options.ahead)
    print(json.dumps(found))
    if options.trace:
        trace.save(options.trace)


if __name__ == "__main__":
    main()
