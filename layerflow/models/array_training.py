"""ArrayTraining: fit, evaluate and predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, History, ProgressBar, verbosity
from layerflow.callbacks.waiting import EVENT_LOOP
from layerflow.errors import ArgumentError
from layerflow.models import data_checks, measuring
from layerflow.models.batches import Data
from layerflow.models.compilation import input_slots
from layerflow.models.feeds import ArrayFeed
from layerflow.models.fit_options import common_settings, optional
from layerflow.models.fitting import Loop
from layerflow.models.stream_training import StreamTraining
from layerflow.models.streams import Stream, is_stream
from layerflow.models.training import tensors
from layerflow.registry import accepts_camel_case, positive

# Rows that predict computes at a time when no batch_size is given: enough for every thread, few enough for the cache.
PREDICT_ROWS = 1024
BATCH_SIZE = 32


class ArrayTraining(StreamTraining):
    """Mixin of models: training, evaluation and prediction, on arrays or on anything that gives batches."""

    @accepts_camel_case
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        yield_every: str | float = "auto",
        check_numerics: bool | None = None,
    ) -> History:
        """Train on arrays, or on anything that gives batches.

        Args:
            x: inputs [rows, ...]: an array, a list of numbers or a frame (pandas, polars); a list with one for each
                input, or a dict by input name.  Or, without y, something that gives batches when it is iterated: an
                `lf.data` dataset, a generator or the function that makes it, a torch DataLoader, a Keras-like sequence;
                its elements are as for `fit_dataset`.
            y: labels, likewise for each output.
            batch_size: rows per update, 32 by default; the last batch of an epoch may be smaller.
            epochs: train until this epoch number.
            verbose: 0 shows nothing, 1 or "auto" a progress bar, 2 one line an epoch.
            callbacks: dict of functions (`{"on_epoch_end": f}`), Callback objects, or a list of both.
            validation_split: fraction of the rows, the last ones, to measure with instead of training on them; taken
                before any shuffling.
            validation_data: to measure with after an epoch: (x, y), (x, y, sample_weight), or what gives batches.
            shuffle: new order each epoch, from the generator that `lf.random.set_seed` fixes.
            class_weight: dict class -> factor of the loss of its examples.
            sample_weight: factor of the loss per example.
            initial_epoch: number of the first epoch.
            steps_per_epoch: batches of an epoch, by default all.  The next epoch goes on where this one ended.
            validation_steps: batches to measure with, by default all; each time from the beginning.
            validation_batch_size: by default `batch_size`.
            validation_freq: measure after every so many epochs; or a list of the epochs, numbers from 1.
            yield_every: when `on_yield` of callbacks is called: "auto" (every 125 ms), milliseconds, "batch", "epoch",
                "never".
            check_numerics: make the first NaN or infinity a NumericsError that names layer, op and batch; the weights
                stay as before it.  By default `lf.config.check_numerics()`.

        Returns:
            History: `history.history["loss"]` and so on, one value per epoch.  Ctrl-C ends training, with the epochs
            so far.

        Raises:
            NotCompiledError: compile was not called.
            DataError: the data do not fit the model, or hold NaN; the model is as before.
            ArgumentError: an impossible value of another argument.
        """
        self._compiled_as("fit")
        settings = common_settings(epochs, initial_epoch, verbose, validation_freq, yield_every, callbacks)
        settings["shuffle"] = self._shuffles(shuffle)
        steps = optional("steps_per_epoch", steps_per_epoch)
        if is_stream(x):
            self._refuse_for_streams(
                {"y": y, "batch_size": batch_size, "sample_weight": sample_weight, "validation_split": validation_split}
            )
            feed = self._stream_feed(x, "fit", "steps_per_epoch", steps, class_weight, settings)
            size = validation_batch_size or BATCH_SIZE
        else:
            size = positive("batch_size", BATCH_SIZE if batch_size is None else batch_size)
            data = self._data(x, y, sample_weight, class_weight)
            if validation_data is None and validation_split:
                data, validation_data = data.split(validation_split, f'model "{self.name}"')
            feed = ArrayFeed(data, size, settings["shuffle"], steps)
        validation = self._validation_feed(
            validation_data, validation_steps, "validation_steps", validation_batch_size or size, settings
        )
        shown = validation_data.as_given() if isinstance(validation_data, Data) else validation_data
        return self._train(Loop(self, feed, settings, callbacks, validation, shown), check_numerics)

    def _shuffles(self, shuffle: Any) -> bool:
        if not isinstance(shuffle, (bool, np.bool_)):
            raise ArgumentError(f"shuffle must be True or False, but is {shuffle!r}.")
        return bool(shuffle)

    def _refuse_for_streams(self, given: dict[str, Any]) -> None:
        """Arguments that say something about arrays mean nothing where x gives batches."""
        remedies = {
            "y": "its elements hold the labels, (x, y)",
            "batch_size": "its elements are the batches",
            "sample_weight": "put the weights into its elements, (x, y, sample_weight)",
            "validation_split": "give validation_data",
        }
        for name, value in given.items():
            if value is not None and not (name == "validation_split" and value == 0):
                raise ArgumentError(f"{name} cannot be given where x gives batches; {remedies[name]}.")

    async def fit_async(self, x: Any = None, y: Any = None, **options: Any) -> History:
        """`fit` in a thread of its own: the event loop stays free while the model trains.

        Takes the arguments of `fit`; callbacks are called in that thread, those that are coroutine functions on the
        event loop, and awaited.  Cancelling the task ends the training after the batches that are running.
        """
        return await self._in_thread(self.fit, x, y, **options)

    async def fit_dataset_async(self, dataset: Any, **options: Any) -> History:
        """`fit_dataset` in a thread of its own, in which the dataset's functions run; see `fit_async`."""
        return await self._in_thread(self.fit_dataset, dataset, **options)

    async def _in_thread(self, fit: Callable[..., History], *data: Any, **options: Any) -> History:
        # Not at the top: asyncio takes a third of layerflow's time to import, and few programs call this.
        import asyncio

        EVENT_LOOP.set(asyncio.get_running_loop())
        self._cancelled = False
        running = asyncio.ensure_future(asyncio.to_thread(fit, *data, **options))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._cancelled = True
            if self._loop is not None:
                self._loop.cancel()
            # The thread must be out of the model's memory before the caller goes on.
            await asyncio.wait([running])
            raise
        finally:
            self._cancelled = False

    @accepts_camel_case
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Loss and metrics on `x` and `y`, in inference mode, the loss with its regularization penalties.

        Args:
            x, y, sample_weight, batch_size: as for `fit`; x may be something that gives batches.
            verbose: 1 shows a progress bar.
            return_dict: return a dict.
            steps: batches to use, by default all.
            callbacks: as for `fit`; they hear `on_test_begin`, `on_test_batch_end` and so on.

        Returns:
            The loss as a float; with metrics or several outputs a list in the order of `metrics_names`; a dict by those
            names if `return_dict`.

        Raises:
            NotCompiledError, DataError, ArgumentError: as `fit`.
        """
        self._compiled_as("evaluate")
        count = optional("steps", steps)
        if is_stream(x):
            self._refuse_for_streams({"y": y, "batch_size": batch_size, "sample_weight": sample_weight})
            return self._evaluate_stream(x, "evaluate", "steps", count, verbose, return_dict, callbacks)
        size = positive("batch_size", BATCH_SIZE if batch_size is None else batch_size)
        feed = ArrayFeed(self._data(x, y, sample_weight), size, steps=count, goes_on=False)
        return self._evaluate_feed(feed, verbose, return_dict, callbacks)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        steps: int | None = None,
        callbacks: Any = None,
        **spelled: Any,
    ) -> Any:
        """The outputs for `x`, in inference mode.

        Args:
            x: inputs [rows, ...] as for `fit`; or something that gives batches: of inputs, or as for `fit` (the labels
                are not looked at).
            batch_size: rows computed at a time; by default layerflow chooses (the result does not depend on it, unless
                a layer mixes examples).
            verbose: 1 shows a progress bar.
            steps: batches to use, by default all; of arrays, 32 rows each if there is no batch_size.
            callbacks: as for `fit`; they hear `on_predict_begin`, `on_predict_batch_end` and so on.

        Returns:
            A tensor [rows, ...], or a list of them for several outputs.

        Raises:
            DataError: x does not fit the model.
        """
        if not verbose and steps is None and callbacks is None and not spelled and _is_one_batch(x, batch_size):
            result = self._predicted_directly(x, PREDICT_ROWS)
            if result is not None:
                return result
        return self._predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks, **spelled)

    @accepts_camel_case
    def _predict(self, x: Any, batch_size: int | None, verbose: int | str, steps: int | None, callbacks: Any) -> Any:
        count, shown = optional("steps", steps), verbosity(verbose) == 1
        hooks, predict = CallbackList(callbacks), self.step("predict").predict
        if is_stream(x):
            self._refuse_for_streams({"batch_size": batch_size})
            batches, bar = (
                self._predict_stream(x, count),
                ProgressBar(shown, "Predict", count or Stream(x).size, " batches"),
            )
        else:
            xs = data_checks.arrays(x, input_slots(self))
            usual = BATCH_SIZE if steps else self.step("predict").rows_at_once(PREDICT_ROWS)
            size = usual if batch_size is None else positive("batch_size", batch_size)
            rows = min(len(xs[0]), (count or len(xs[0])) * size)
            batches, bar = _parts(xs, rows, size), ProgressBar(shown, "Predict", rows)
        hooks.set(self, {"steps": count, "batch_size": batch_size})
        return tensors(measuring.predicted(batches, predict, hooks, bar))


def _is_one_batch(x: Any, batch_size: Any) -> bool:
    """Whether the caller leaves the size of batches to us, or `x` is an array of no more rows."""
    if batch_size is None:
        return True
    return type(batch_size) is int and isinstance(x, np.ndarray) and x.ndim > 0 and len(x) <= batch_size


def _parts(xs: Sequence[np.ndarray], rows: int, size: int) -> Iterator[list[np.ndarray]]:
    for first in range(0, rows, size):
        yield [part[first : min(first + size, rows)] for part in xs]
