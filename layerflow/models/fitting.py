"""The loop of `fit`: epochs, batches, validation, callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, History, Logs, ProgressBar
from layerflow.errors import DataError, NumericsError
from layerflow.graph.ops.random import generator

# A batch to train on: the number of its examples, and a function that runs it with the step and returns the values.
Batch = tuple[int, Callable[[Any], np.ndarray]]

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


def as_result(logs: Logs, return_dict: bool) -> Any:
    """What evaluation returns: a float, with several values a list of them, or a dict."""
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


class Loop:
    """Epochs with their events, for any source of batches; what a source adds is in `_train_epoch`.

    Args:
        model: offers step(mode) and stop_training.
        settings: epochs, initial_epoch, verbose, and what the source needs.
        callbacks: what the user gave.
        validate: measures with the "test" step after each epoch, or None.
    """

    def __init__(
        self,
        model: Any,
        settings: Mapping[str, Any],
        callbacks: CallbackList,
        validate: Callable[[Any], Means] | None,
    ):
        self.model, self.settings, self.callbacks, self.validate = model, settings, callbacks, validate
        self.history = History()

    def run(self) -> History:
        """Trains; Ctrl-C ends it with the history of the finished epochs."""
        model, settings, params = self.model, self.settings, self._params()
        self.callbacks.set(model, params)
        self.history.set_model(model)
        self.history.set_params(params)
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
        """What callbacks see as `params`."""
        return {
            **self.settings,
            "do_validation": self.validate is not None,
            "metrics": self.model.metrics_names,
        }

    def _bar(self, title: str) -> ProgressBar:
        """The progress bar of an epoch; it hears how many examples are done."""
        raise NotImplementedError(f"{type(self).__name__} must define _bar(title).")

    def _train_epoch(self, bar: ProgressBar) -> tuple[Means, bool]:
        """Trains on all batches of an epoch.

        Returns:
            Means of the values, and whether the epoch came to its end.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _train_epoch(bar).")

    def _epoch(self, epoch: int) -> None:
        self.callbacks.call("on_epoch_begin", epoch, Logs())
        bar = self._bar(f"Epoch {epoch + 1}/{self.settings['epochs']}")
        logs = Logs()
        try:
            means, finished = self._train_epoch(bar)
            logs.update(means.logs())
            if self.validate is not None and finished:
                logs.update(self.validate(self.model.step("test")).logs("val_"))
        except NumericsError as error:
            error.epoch = epoch
            raise
        finally:
            bar.close(logs)
        self.history.on_epoch_end(epoch, logs)
        self.callbacks.call("on_epoch_end", epoch, logs)

    def _each(self, batches: Iterable[Batch], count: int | None, bar: ProgressBar) -> tuple[Means, bool]:
        """Trains batch by batch, with the events of batches; `count` is their number, None if nobody knows it."""
        model = self.model
        means: Means | None = None
        for batch, (rows, run) in enumerate(batches):
            self.callbacks.call("on_batch_begin", batch, Logs())
            # Looked up each time: a callback may freeze a layer, and that changes the step.
            step = model.step("train")
            means = means or Means(step.names)
            values = run(step)
            means.add(values[None], np.array([rows]))
            numbers = dict(zip(step.names, values.tolist(), strict=True))
            bar.advance(rows, means.logs() if bar.shown else {})
            self.callbacks.call("on_batch_end", batch, Logs(batch=batch, size=rows, **numbers))
            if model.stop_training:
                return means, batch + 1 == count
        return means or Means(["loss"]), True


class Fit(Loop):
    """One call of `fit` on checked data.

    Args:
        model, settings, callbacks: see Loop; the settings also hold batch_size, validation_batch_size, shuffle.
        train: the data to train on.
        validation: data to measure after each epoch, or None.
    """

    def __init__(
        self, model: Any, train: Data, validation: Data | None, settings: Mapping[str, Any], callbacks: CallbackList
    ):
        def validate(step: Any) -> Means:
            assert validation is not None
            return evaluate(step, validation, settings["validation_batch_size"])

        super().__init__(model, settings, callbacks, None if validation is None else validate)
        self.train = train
        self.order = np.arange(train.rows)
        self.pace = Pace()

    @property
    def _batches(self) -> int:
        return -(-self.train.rows // self.settings["batch_size"])

    def _params(self) -> dict[str, Any]:
        return {**super()._params(), "samples": self.train.rows, "steps": self._batches}

    def _bar(self, title: str) -> ProgressBar:
        return ProgressBar(self.settings["verbose"] > 0, title, self.train.rows)

    def _train_epoch(self, bar: ProgressBar) -> tuple[Means, bool]:
        if self.settings["shuffle"]:
            generator().shuffle(self.order)
        if self.callbacks.per_batch:
            return self._each(self._single_batches(), self._batches, bar)
        return self._chunks(bar)

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

    def _single_batches(self) -> Iterator[Batch]:
        """An epoch batch by batch, because a callback listens to batches."""
        data, size = self.train, self.settings["batch_size"]

        def run(batch: int, step: Any) -> np.ndarray:
            return step.run_many(data.xs, data.ys, data.ws, self.order, size, batch, 1)[0]

        for batch, rows in enumerate(batch_sizes(data.rows, size, 0, self._batches).tolist()):
            yield rows, partial(run, batch)
