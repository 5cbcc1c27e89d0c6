"""Time of a training step on a stream of batches: the MLP 784-32-10 with SGD, batches of 32 rows, one thread.

    python -m benchmarks.datasets layerflow
    PEERS/bin/python benchmarks/datasets.py keras        (torch)

prints microseconds a batch, the least of several epochs, for arrays and for datasets of the same rows.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

ROWS, BATCH, EPOCHS = 32_000, 32, 7


def arrays() -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.random((ROWS, 784), np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]


def least(epoch: Callable[[], Any]) -> float:
    """Microseconds a batch."""
    epoch()
    times = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    return round(1e6 * min(times) / (ROWS // BATCH), 1)


def layerflow() -> dict[str, Callable[[], Any]]:
    import layerflow as lf

    lf.set_num_threads(1)
    x, y = arrays()
    layers = lf.layers
    model = lf.sequential(
        [layers.dense(units=32, activation="relu", input_shape=[784]), layers.dense(units=10, activation="softmax")]
    )
    model.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy")
    rows = lf.data.array({"xs": x, "ys": y})

    def batches():
        for first in range(0, ROWS, BATCH):
            yield x[first : first + BATCH], y[first : first + BATCH]

    streams = {
        "array.batch": rows.batch(BATCH),
        "array.shuffle.batch": rows.shuffle(ROWS).batch(BATCH),
        "array.shuffle.batch.map": rows.shuffle(ROWS).batch(BATCH).map(lambda batch: batch),
        "array.shuffle.batch.map.prefetch": rows.shuffle(ROWS).batch(BATCH).map(lambda batch: batch).prefetch(8),
        "generator of batches": lf.data.generator(batches),
        "array.map.batch": rows.map(lambda row: row).batch(BATCH),
    }
    found: dict[str, Callable[[], Any]] = {"arrays": lambda: model.fit(x, y, batch_size=BATCH, verbose=0)}
    for name, stream in streams.items():
        found[name] = lambda stream=stream: model.fit_dataset(stream, verbose=0)
    return found


def keras() -> dict[str, Callable[[], Any]]:
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    keras: Any = importlib.import_module("keras")
    tf: Any = importlib.import_module("tensorflow")

    tf.config.threading.set_intra_op_parallelism_threads(1)
    x, y = arrays()
    model = keras.Sequential(
        [keras.Input([784]), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    streams = {
        "array.batch": rows.batch(BATCH),
        "array.shuffle.batch": rows.shuffle(ROWS).batch(BATCH),
        "array.shuffle.batch.map.prefetch": rows.shuffle(ROWS).batch(BATCH).map(lambda a, b: (a, b)).prefetch(8),
    }
    found: dict[str, Callable[[], Any]] = {"arrays": lambda: model.fit(x, y, batch_size=BATCH, verbose=0)}
    for name, stream in streams.items():
        found[name] = lambda stream=stream: model.fit(stream, verbose=0)
    return found


def torch() -> dict[str, Callable[[], Any]]:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    x, y = map(torch.from_numpy, arrays())
    model = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer, loss = torch.optim.SGD(model.parameters(), 0.1), torch.nn.CrossEntropyLoss()
    data = torch.utils.data

    def train(batches: Any) -> None:
        for a, b in batches:
            optimizer.zero_grad()
            loss(model(a), b).backward()
            optimizer.step()

    rows = data.TensorDataset(x, y)
    by_batch = data.BatchSampler(data.RandomSampler(rows), BATCH, False)
    return {
        "arrays": lambda: train(zip(x.split(BATCH), y.split(BATCH), strict=True)),
        "array.batch": lambda: train(data.DataLoader(rows, BATCH)),
        "array.shuffle.batch": lambda: train(data.DataLoader(rows, BATCH, shuffle=True)),
        "array.shuffle.batch by batch": lambda: train(data.DataLoader(rows, sampler=by_batch, batch_size=None)),
    }


if __name__ == "__main__":
    peer = {"layerflow": layerflow, "keras": keras, "torch": torch}[sys.argv[1]]
    print(json.dumps({name: least(epoch) for name, epoch in peer().items()}))
