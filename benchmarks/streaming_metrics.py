"""What streaming metrics cost in `fit` on W5 (13-64-64-1, batch 32): paired runs, alternating, on one thread.

    python -m benchmarks.streaming_metrics [ROUNDS]

Time is the CPU time of the process, so that other work on the machine counts less.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import layerflow as lf

ROWS, BATCH, EPOCHS = 5000, 32, 2
CHOICES: dict[str, list[Any]] = {
    "none": [],
    "three": [lf.metrics.MeanAbsoluteError(), lf.metrics.RootMeanSquaredError(), lf.metrics.R2Score()],
    "AUC": [lf.metrics.AUC()],
}


def model(metrics: list[Any]) -> Any:
    lf.random.set_seed(1)
    layers = [lf.layers.dense(units=64, activation="relu", input_shape=[13])]
    layers += [lf.layers.dense(units=64, activation="relu"), lf.layers.dense(units=1)]
    made = lf.sequential(layers)
    made.compile(lf.optimizers.Adam(1e-3), "mse", metrics=metrics)
    return made


def measure(rounds: int) -> dict[str, np.ndarray]:
    """Microseconds of CPU time a step, by choice and round."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(ROWS, n)).astype(np.float32) for n in (13, 1))
    models = {name: model(metrics) for name, metrics in CHOICES.items()}
    steps = EPOCHS * -(-ROWS // BATCH)
    found: dict[str, list[float]] = {name: [] for name in models}
    for at in range(-2, rounds):
        for name in models if at % 2 else reversed(models):
            start = time.process_time()
            models[name].fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0)
            if at >= 0:
                found[name].append((time.process_time() - start) / steps * 1e6)
    return {name: np.array(times) for name, times in found.items()}


def main() -> None:
    lf.set_num_threads(1)
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
    for name, times in found.items():
        extra = np.median(times / found["none"]) - 1
        print(f"{name:6} {np.median(times):6.2f} us a step (least {times.min():.2f}), {extra:+.1%} in pairs")


if __name__ == "__main__":
    main()
