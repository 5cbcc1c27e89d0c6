"""The loop of `fit`: epochs, batches, validation, callbacks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, EpochLine, History, Logs, ProgbarLogger, ProgressBar
from layerflow.errors import DataError, NumericsError
from layerflow.graph.ops import random
from layerflow.models import snapshots
from layerflow.models.batches import Means, Pace
from layerflow.models.feeds import Feed
from layerflow.models.measuring import measure

YIELD_AUTO = 0.125  # seconds between two calls of on_yield


class Loop:
    """One call of `fit` or `fit_dataset`: epochs with their events, on the batches of a feed.

    Args:
        model: offers step(mode) and stop_training.
        feed: the batches.
        settings: epochs, initial_epoch, verbose, validation_freq, yield_every, and what callbacks see besides.
        callbacks: what the user gave.
        validation: the batches to measure with after an epoch, or None.
        validation_data: as the user gave it, for callbacks.

    Attributes:
        epoch, done: the epoch, and how many of its batches have been trained on.
        batches: trained on over all epochs.
        measured: the values of the validation of this epoch, once it was made.
        interrupted: whether Ctrl-C or a cancelled task ended the training.
    """

    def __init__(
        self,
        model: Any,
        feed: Feed,
        settings: Mapping[str, Any],
        callbacks: Any,
        validation: Feed | None = None,
        validation_data: Any = None,
    ):
        self.model, self.feed, self.settings = model, feed, settings
        self.validation, self.validation_data = validation, validation_data
        self.history = History()
        self.callbacks = CallbackList(callbacks, settings["verbose"], [self.history])
        self.epoch: int = settings["initial_epoch"]
        self.done = self.batches = 0
        self.means = Means(["loss"])
        self.measured: Logs | None = None
        self.interrupted = False
        self.pace = Pace()
        self._logs = Logs()
        self._again: Mapping[str, Any] | None = None
        self._yielding = _seconds(settings["yield_every"]) if self.callbacks.listens("on_yield") else None
        self._yielded = time.perf_counter()
        forced = any(isinstance(callback, ProgbarLogger) for callback in self.callbacks.callbacks)
        self._verbose = 1 if forced else settings["verbose"]

    # --- training ------------------------------------------------------------

    def run(self) -> History:
        """Trains; Ctrl-C ends it with the history of the finished epochs."""
        model = self.model
        self.callbacks.set(model, self.params(), self, self.validation_data)
        model.history = self.history
        model.stop_training = self.interrupted
        try:
            self.callbacks.call("on_train_begin", Logs())
            while self.epoch < self.settings["epochs"] and not model.stop_training:
                self._epoch()
        except KeyboardInterrupt:
            self.interrupted = True
        self.history.interrupted = self.interrupted
        model.optimizer.finalize_variable_values(model.trainable_weights)
        self.callbacks.call("on_train_end", self._logs)
        return self.history

    def cancel(self) -> None:
        """Ends the training after the batches that are running."""
        self.interrupted = self.model.stop_training = True

    def params(self) -> dict[str, Any]:
        """What callbacks see as `params`."""
        return {
            **self.settings,
            "samples": self.feed.rows,
            "steps": self.feed.steps,
            "batch_size": self.feed.batch_size,
            "do_validation": self.validation is not None,
            "metrics": self.model.metrics_names,
        }

    def _epoch(self) -> None:
        if self._again is None and not self.feed.begin_epoch():
            self.model.stop_training = True
            return
        epoch = self.epoch
        self.callbacks.call("on_epoch_begin", epoch, Logs())
        self._begin_batches()
        bar, logs = self._bar(), Logs()
        try:
            with_events = self.callbacks.per_batch
            (self._each_batch if with_events else self._runs_of_batches)(bar)
            whole = self._is_whole()
            logs.update(self.means.logs())
            if whole:
                self._measure()
            logs.update(self.measured or {})
            if not self.feed.end_epoch(self.model.stop_training):
                self.model.stop_training = True
        except NumericsError as error:
            # A feed of single batches does not know which one it was.
            error.epoch, error.batch = epoch, max(error.batch or 0, self.done)
            raise
        finally:
            bar.close(logs)
        self._maybe_yield(epoch, self.done - 1, logs, "epoch")
        # Counted before the last event: who saves the position there means the beginning of the next epoch.
        self.epoch, self.done, self._logs = epoch + 1, 0, logs
        self.callbacks.call("on_epoch_end", epoch, logs)

    def _begin_batches(self) -> None:
        """The state in which the batches of an epoch begin, or in which a resumed epoch goes on."""
        if self._again is None:
            # The place where what metrics gather over batches is emptied.
            step = self.model.step("train")
            step.reset()
            self.means, self.measured, self.done = Means(step.columns, step.report), None, 0
        else:
            # Once more after on_epoch_begin, in which callbacks may have drawn numbers or set the learning rate.
            snapshots.restore_moving(self.model, self._again)
            self._again = None

    def _is_whole(self) -> bool:
        """Whether the epoch came to its end: a stop that falls on its last batch broke nothing off."""
        return not self.model.stop_training or self.done == self.feed.steps

    def _bar(self) -> ProgressBar:
        title, verbose = f"Epoch {self.epoch + 1}/{self.settings['epochs']}", self._verbose
        if verbose == 2:
            return EpochLine(title)
        bar = ProgressBar(verbose == 1, title, self.feed.units, self.feed.unit)
        if self.done:
            bar.advance(self.feed.units_done(self.means.rows, self.done), {})
        return bar

    def _runs_of_batches(self, bar: ProgressBar) -> None:
        """An epoch of native runs of many batches, as long as nobody wants to hear in between."""
        model, feed, callbacks = self.model, self.feed, self.callbacks
        while feed.ready():
            step = model.step("train")
            most = min(self.pace.count, callbacks.until_periodic(self.batches))
            start = time.perf_counter()
            values, sizes = feed.run(step, most)
            self.pace.record(len(sizes), time.perf_counter() - start)
            self.means.add(values, sizes)
            self._after(values[:, 0], len(sizes))
            rows = int(sizes.sum())
            bar.advance(feed.units_done(rows, len(sizes)), self.means.logs() if bar.shown else {})

            def logs(rows: int = int(sizes[-1]), last: np.ndarray = values[-1], step: Any = step) -> Logs:
                return Logs(batch=self.done - 1, size=rows, **step.report(last.tolist()))

            callbacks.call_periodic(self.batches, self.done - 1, logs)
            self._maybe_yield(self.epoch, self.done - 1, logs, "batch")
            if model.stop_training:
                break

    def _each_batch(self, bar: ProgressBar) -> None:
        """An epoch batch by batch, because a callback listens to batches."""
        model, feed, callbacks, means = self.model, self.feed, self.callbacks, self.means
        begin, end = callbacks.of("on_batch_begin"), callbacks.of("on_batch_end")
        others = bool(callbacks.periodic or callbacks.watch_losses or self._yielding is not None)
        while feed.ready():
            batch = self.done
            for function in begin:
                function(batch, Logs())
            # Looked up each time: a callback may freeze a layer, and that changes the step.
            step = model.step("train")
            rows, values = feed.run_one(step)
            means.add_one(values, rows)
            self._after(values[:1] if others else (), 1)
            if bar.shown:
                bar.advance(feed.units_done(rows, 1), means.logs())
            logs = Logs(step.report(values))
            logs["batch"], logs["size"] = batch, rows
            for function in end:
                function(batch, logs)
            if others:
                callbacks.call_periodic(self.batches, batch, lambda logs=logs: logs)
                self._maybe_yield(self.epoch, batch, lambda logs=logs: logs, "batch")
            if model.stop_training:
                break

    def _after(self, losses: Any, count: int) -> None:
        """`count` more batches have been trained on; validation comes before the event of the last one of an epoch."""
        first = self.done
        self.done += count
        self.batches += count
        for look in self.callbacks.watch_losses:
            look(self.epoch, first, np.asarray(losses))
        if self.feed.measures_early and self.done == self.feed.steps:
            self._measure()

    # --- validation ----------------------------------------------------------

    def _measure(self) -> None:
        """Validates, if this epoch is one to validate and it has not been done."""
        feed = self.validation
        if feed is not None and self.measured is None and _due(self.settings["validation_freq"], self.epoch):
            self.measured = measure(self.model, feed, self.callbacks).logs("val_")

    def _maybe_yield(self, epoch: int, batch: int, logs: Any, event: str) -> None:
        """Calls on_yield, if it is time for it."""
        if self._yielding is None:
            return
        now = time.perf_counter()
        if self._yielding == event or (not isinstance(self._yielding, str) and now - self._yielded >= self._yielding):
            self._yielded = now
            self.callbacks.call("on_yield", epoch, batch, logs() if callable(logs) else logs)

    # --- position ------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that decides how the training goes on, as a tree of numbers, text and arrays."""
        return {
            "layerflow_training": 1,
            **{name: getattr(self, name) for name in ("epoch", "done", "batches", "measured")},
            "stop": bool(self.model.stop_training),
            "means": self.means.state(),
            "logs": dict(self._logs),
            "feed": self.feed.state(),
            "validation": None if self.validation is None else self.validation.state(),
            "callbacks": [[type(c).__name__, c.get_state()] for c in self.callbacks.callbacks],
            **snapshots.of_model(self.model),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave, in a training of the same model on the same data.

        Raises:
            DataError, ArgumentError: of another model, other data or other callbacks; nothing has changed then.
        """
        if state.get("layerflow_training") != 1:
            raise DataError("this is no state of a training.")
        self.feed.check(state["feed"], state["done"])
        snapshots.restore_model(self.model, state)
        # By class, in order: a callback that is new starts anew, what is kept of one that is gone is left.
        left = list(state["callbacks"])
        for callback in self.callbacks.callbacks:
            found = next((entry for entry in left if entry[0] == type(callback).__name__), None)
            if found is not None:
                left.remove(found)
                if found[1] is not None:
                    callback.set_state(found[1])
        self.epoch, self.done, self.batches = state["epoch"], state["done"], state["batches"]
        self.measured = None if state["measured"] is None else Logs(state["measured"])
        self.means, self._logs = Means.of(state["means"], self.model.step("train").report), Logs(state["logs"])
        self.feed.restore(state["feed"], self.done)
        if self.validation is not None and state["validation"] is not None:
            self.validation.restore(state["validation"], 0)
        random.set_state(state["random"])
        self.model.stop_training = state["stop"]
        self._again = state if self.done else None


def _due(frequency: Any, epoch: int) -> bool:
    """Whether the epoch is validated: every so many epochs, or those listed (numbers from 1)."""
    return (epoch + 1) % frequency == 0 if isinstance(frequency, int) else epoch + 1 in frequency


def _seconds(yield_every: Any) -> Any:
    """The period of on_yield in seconds, or its event."""
    if yield_every in ("batch", "epoch"):
        return yield_every
    return YIELD_AUTO if yield_every == "auto" else yield_every / 1000
