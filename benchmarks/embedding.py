"""Milliseconds of a training step of an embedding, by the size of its vocabulary; one thread.

python -m benchmarks.embedding                        # layerflow
PEERS/bin/python benchmarks/embedding.py torch        # torch, with sparse gradients where its optimizer takes them

Embedding(vocabulary, 64), mean over 50 steps, Dense(1), batch 32; words drawn uniformly, so that each step names some
1,600 rows.  Also the seconds to make the table and to the end of the first step.  The best of several rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

VOCABULARIES, LENGTH, WIDTH, BATCH, BATCHES = (1_000, 100_000, 1_000_000), 50, 64, 32, 40
OPTIMIZERS = ("SGD", "Adagrad", "lazy Adam", "Adam")


def data(vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, vocabulary, (BATCH * BATCHES, LENGTH)).astype(np.int32)
    return x, rng.integers(0, 2, (BATCH * BATCHES, 1)).astype(np.float32)


def measure(make: Callable[[str, int], tuple[Callable[[Any, Any], object], Callable[[Any, Any], object]]]) -> None:
    for optimizer in OPTIMIZERS:
        for vocabulary in VOCABULARIES:
            begin = time.perf_counter()
            step, epoch = make(optimizer, vocabulary)
            made = time.perf_counter()
            x, y = data(vocabulary)
            first = time.perf_counter()
            step(x[:BATCH], y[:BATCH])
            first, best = time.perf_counter() - first, float("inf")
            epoch(x, y)
            for _ in range(2 if optimizer == "Adam" and vocabulary > 10_000 else 8):
                start = time.perf_counter()
                epoch(x, y)
                best = min(best, (time.perf_counter() - start) / BATCHES)
            print(
                f"{optimizer:10} {vocabulary:9,} words  {best * 1e3:9.3f} ms a step   "
                f"made in {made - begin:6.3f} s, first step {first:6.3f} s",
                flush=True,
            )


def layerflow() -> None:
    import layerflow as lf

    lf.set_num_threads(1)
    optimizers = {
        "SGD": lambda: lf.optimizers.SGD(0.1),
        "Adagrad": lambda: lf.optimizers.Adagrad(0.01),
        "lazy Adam": lambda: lf.optimizers.LazyAdam(0.001),
        "Adam": lambda: lf.optimizers.Adam(0.001),
    }

    def make(optimizer: str, vocabulary: int):
        layers = lf.layers
        model = lf.sequential(
            [
                layers.embedding(input_dim=vocabulary, output_dim=WIDTH, input_shape=[LENGTH]),
                layers.global_average_pooling1d(),
                layers.dense(units=1, activation="sigmoid"),
            ]
        )
        model.compile(optimizers[optimizer](), loss="binaryCrossentropy")

        def epoch(x, y):
            model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, shuffle=False)

        return epoch, epoch

    measure(make)


def torch_() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)

    def make(optimizer: str, vocabulary: int):
        table, dense = torch.nn.Embedding(vocabulary, WIDTH, sparse=optimizer != "Adam"), torch.nn.Linear(WIDTH, 1)
        kind = {"SGD": torch.optim.SGD, "Adagrad": torch.optim.Adagrad}.get(optimizer, torch.optim.Adam)
        rows = torch.optim.SparseAdam if optimizer == "lazy Adam" else kind
        steppers = [rows(list(table.parameters()), lr=0.001), kind(dense.parameters(), lr=0.001)]
        loss = torch.nn.functional.binary_cross_entropy_with_logits

        def step(x, y):
            for stepper in steppers:
                stepper.zero_grad()
            loss(dense(table(torch.from_numpy(x)).mean(1)), torch.from_numpy(y)).backward()
            for stepper in steppers:
                stepper.step()

        def epoch(x, y):
            for at in range(0, len(x), BATCH):
                step(x[at : at + BATCH], y[at : at + BATCH])

        return step, epoch

    measure(make)


if __name__ == "__main__":
    torch_() if sys.argv[1:] == ["torch"] else layerflow()
