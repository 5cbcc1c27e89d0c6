"""What callbacks cost a batch: `python -m benchmarks.callbacks`.

W1 (MLP 784-32-10, SGD, batch 32) on one thread, with and without callbacks by turns; processor time of the thread, so
that other programs on the machine disturb little.  The difference to a fit without callbacks, median and quartiles.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

import layerflow as lf

ROWS, EPOCHS, ROUNDS = 6400, 2, 25


class Watch(lf.Callback):
    """The least a callback of every batch does: it looks at the loss."""

    def on_batch_end(self, batch: int, logs: Any) -> None:
        self.loss = logs["loss"]


def model() -> Any:
    made = lf.sequential(
        [
            lf.layers.dense(units=32, activation="relu", input_shape=[784]),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )
    made.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy")
    return made


def kinds(folder: str) -> dict[str, Any]:
    """What is measured; nothing is saved, since a file costs what it costs."""
    never = lf.callbacks.ModelCheckpoint(folder, "loss", save_best_only=True, initial_value_threshold=-1.0)
    return {
        "no callback": None,
        "on_batch_end": Watch(),
        "on_batch_begin and on_batch_end": {
            "on_batch_begin": lambda b, logs: None,
            "on_batch_end": lambda b, logs: None,
        },
        "EarlyStopping": lf.callbacks.EarlyStopping("loss", patience=10**6),
        "ModelCheckpoint": never,
        "TerminateOnNaN": lf.callbacks.TerminateOnNaN(),
        "on_batch_end every 50 batches": type("Sparse", (Watch,), {"batch_interval": 50})(),
    }


def main() -> None:
    lf.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 784), np.float32)
    y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]
    trained, batches = model(), EPOCHS * ROWS // 32

    def microseconds(callbacks: Any) -> float:
        start = time.thread_time()
        trained.fit(x, y, epochs=EPOCHS, verbose=0, callbacks=callbacks)
        return (time.thread_time() - start) / batches * 1e6

    with tempfile.TemporaryDirectory() as folder:
        given = kinds(folder)
        for callbacks in given.values():
            microseconds(callbacks)
        times = np.array([[microseconds(callbacks) for callbacks in given.values()] for _ in range(ROUNDS)])
    print(f"{'':32} us a batch   more than without: median (quartiles)")
    for name, column in zip(given, times.T, strict=True):
        low, middle, high = np.quantile(column - times[:, 0], [0.25, 0.5, 0.75])
        print(f"{name:32} {np.median(column):10.1f}   {middle:6.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
