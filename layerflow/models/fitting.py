"""The loop of `fit`: epochs, batches, validation, callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, History, Logs, ProgressBar
from layerflow.errors import DataError
from layerflow.graph.ops.random import generator

CHUNK_SECONDS = 0.03
_GROWTH = 8


@dataclass(frozen=True)
class Data:
    """Arrays that passed the checks: inputs, labels, weights of the examples per output (or None)."""

    xs: list[np.ndarray]
    ys: list[np.ndarray]
    ws: list[np.ndarray] | None

    @property
    def rows(self) -> int:
        return len(self.xs[0])

    def part(self, first: int, last: int) -> Data:
        """The examples [first, last), as views."""
        ws = None if self.ws is None else [w[first:last] for w in self.ws]
        return Data([x[first:last] for x in self.xs], [y[first:last] for y in self.ys], ws)

    def split(self, fraction: float, owner: str) -> tuple[Data, Data]:
        """All but the last `fraction` of the examples, and those."""
        border = int(self.rows * (1 - fraction))
        if not 0 < fraction < 1 or border in (0, self.rows):
            raise DataError(
                f"{owner}: validation_split={fraction} of {self.rows} examples leaves {border} to train on and "
                f"{self.rows - border} to measure with; both sides need at least one."
            )
        return self.part(0, border), self.part(border, self.rows)


class Pace:
    """How many batches a native call runs, so that it returns after some 30 ms: the bar moves and Ctrl-C answers."""

    def __init__(self) -> None:
        self.count = 1

    def record(self, count: int, seconds: float) -> None:
        fitting = int(CHUNK_SECONDS * count / max(seconds, 1e-9))
        self.count = max(1, min(fitting, _GROWTH * count))


class Means:
    """Means over batches, weighted by the number of examples in each."""

    def __init__(self, names: list[str]):
        self._names = names
        self._sums = np.zeros(len(names))
        self._rows = 0

    def add(self, values: np.ndarray, sizes: np.ndarray) -> None:
        self._sums += sizes @ values.astype(np.float64)
        self._rows += int(sizes.sum())

    def logs(self, prefix: str = "") -> Logs:
        rows = max(self._rows, 1)
        return Logs({prefix + name: float(total) / rows for name, total in zip(self._names, self._sums, strict=True)})


def batch_sizes(rows: int, batch_size: int, first: int, count: int) -> np.ndarray:
    """Examples in each of the batches first..first+count; the last one of an epoch may be smaller."""
    starts = np.arange(first, first + count) * batch_size
    return np.minimum(rows - starts, batch_size)


def run_batches(
    step: Any,
    data: Data,
    order: np.ndarray,
    batch_size: int,
    pace: Pace,
    after: Callable[[int, Means], bool] = lambda rows, means: True,
) -> Means:
    """Run all batches natively, in chunks.

    `after` hears of each chunk (examples done, means so far) and returns False to stop.
    """
    means, batches, first = Means(step.names), -(-len(order) // batch_size), 0
    while first < batches:
        count = min(pace.count, batches - first)
        start = time.perf_counter()
        values = step.run_many(data.xs, data.ys, data.ws, order, batch_size, first, count)
        pace.record(count, time.perf_counter() - start)
        sizes = batch_sizes(len(order), batch_size, first, count)
        means.add(values, sizes)
        first += count
        if not after(int(sizes.sum()), means):
            break
    return means


def evaluate(step: Any, data: Data, batch_size: int, bar: ProgressBar | None = None) -> Means:
    """Means of loss and metrics over `data`, nothing changed."""

    def show(rows: int, means: Means) -> bool:
        if bar is not None:
            bar.advance(rows, means.logs())
        return True

    return run_batches(step, data, np.arange(data.rows), batch_size, Pace(), show)


class Fit:
    """One call of `fit` on checked data.

    Args:
        model: offers step(mode) and stop_training.
        train: the data to train on.
        validation: data to measure after each epoch, or None.
        settings: epochs, initial_epoch, batch_size, validation_batch_size, shuffle, verbose.
        callbacks: what the user gave.
    """

    def __init__(
        self, model: Any, train: Data, validation: Data | None, settings: Mapping[str, Any], callbacks: CallbackList
    ):
        self.model, self.train, self.validation, self.settings = model, train, validation, settings
        self.callbacks = callbacks
        self.order = np.arange(train.rows)
        self.pace = Pace()
        self.history = History()

    def run(self) -> History:
        """Trains; Ctrl-C ends it with the history of the finished epochs."""
        model, settings = self.model, self.settings
        self.callbacks.set(model, self._params())
        self.history.set_model(model)
        self.history.set_params(self._params())
        model.stop_training = False
        try:
            self.callbacks.call("on_train_begin", Logs())
            for epoch in range(settings["initial_epoch"], settings["epochs"]):
                self._epoch(epoch)
                if model.stop_training:
                    break
        except KeyboardInterrupt:
            self.history.interrupted = True
        self.callbacks.call("on_train_end", Logs())
        return self.history

    def _params(self) -> dict[str, Any]:
        return {
            **self.settings,
            "samples": self.train.rows,
            "steps": -(-self.train.rows // self.settings["batch_size"]),
            "do_validation": self.validation is not None,
            "metrics": self.model.metrics_names,
        }

    def _epoch(self, epoch: int) -> None:
        settings = self.settings
        self.callbacks.call("on_epoch_begin", epoch, Logs())
        if settings["shuffle"]:
            generator().shuffle(self.order)
        bar = ProgressBar(settings["verbose"] > 0, f"Epoch {epoch + 1}/{settings['epochs']}", self.train.rows)
        logs = Logs()
        try:
            batches = self._single_batches if self.callbacks.per_batch else self._chunks
            means, finished = batches(bar)
            logs.update(means.logs())
            if self.validation is not None and finished:
                step = self.model.step("test")
                logs.update(evaluate(step, self.validation, settings["validation_batch_size"]).logs("val_"))
        finally:
            bar.close(logs)
        self.history.on_epoch_end(epoch, logs)
        self.callbacks.call("on_epoch_end", epoch, logs)

    def _chunks(self, bar: ProgressBar) -> tuple[Means, bool]:
        """An epoch of native loops."""
        done = 0

        def after(rows: int, means: Means) -> bool:
            nonlocal done
            done += rows
            bar.advance(rows, means.logs() if bar.shown else {})
            return not self.model.stop_training

        step = self.model.step("train")
        means = run_batches(step, self.train, self.order, self.settings["batch_size"], self.pace, after)
        return means, done == self.train.rows

    def _single_batches(self, bar: ProgressBar) -> tuple[Means, bool]:
        """An epoch batch by batch, because a callback listens to batches."""
        model, data, size = self.model, self.train, self.settings["batch_size"]
        means: Means | None = None
        batches = -(-data.rows // size)
        for batch in range(batches):
            self.callbacks.call("on_batch_begin", batch, Logs())
            # Looked up each time: a callback may freeze a layer, and that changes the step.
            step = model.step("train")
            means = means or Means(step.names)
            values = step.run_many(data.xs, data.ys, data.ws, self.order, size, batch, 1)
            sizes = batch_sizes(data.rows, size, batch, 1)
            means.add(values, sizes)
            numbers = dict(zip(step.names, values[0].tolist(), strict=True))
            bar.advance(int(sizes[0]), means.logs() if bar.shown else {})
            self.callbacks.call("on_batch_end", batch, Logs(batch=batch, size=int(sizes[0]), **numbers))
            if model.stop_training:
                return means, batch == batches - 1
        return means or Means(["loss"]), True
