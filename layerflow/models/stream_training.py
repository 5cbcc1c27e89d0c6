"""StreamTraining: what models do with streams of batches, for fit, fit_dataset, evaluate and predict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from layerflow import config
from layerflow.callbacks import CallbackList, History, ProgressBar, verbosity
from layerflow.errors import ArgumentError, DataError
from layerflow.models import data_checks, measuring
from layerflow.models.batch_check import BatchCheck
from layerflow.models.batches import Data
from layerflow.models.compilation import input_slots
from layerflow.models.feeds import ArrayFeed, Feed, StreamFeed, checked
from layerflow.models.fit_options import common_settings, optional
from layerflow.models.fitting import Loop
from layerflow.models.row_feed import feed_of
from layerflow.models.streams import is_stream, stream_of
from layerflow.models.training import Trainable
from layerflow.registry import accepts_camel_case, positive


class StreamTraining(Trainable):
    """Mixin of models: training and evaluation on streams, whose elements are batches.

    An element is `{"xs": x, "ys": y}` or (x, y) or (x, y, sample_weight), with x and y as in `fit`.
    """

    @accepts_camel_case
    def fit_dataset(
        self,
        dataset: Any,
        epochs: int = 1,
        batches_per_epoch: int | None = None,
        verbose: int | str = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_batches: int | None = None,
        initial_epoch: int = 0,
        class_weight: Any = None,
        validation_batch_size: int = 32,
        validation_freq: Any = 1,
        yield_every: str | float = "auto",
        check_numerics: bool | None = None,
    ) -> History:
        """Train on a dataset of batches.

        Args:
            dataset: an `lf.data.Dataset`, or anything else that gives batches (see `fit`); each element is one update.
            batches_per_epoch: where an epoch ends.  The dataset is then read once, over all epochs, and its end ends
                the training with a warning.  Without it an epoch is one iteration of the dataset.
            validation_data: to measure with after each epoch: a dataset, or arrays as in `fit`.
            validation_batches: how many batches of it to use; by default all.
            validation_batch_size: for validation arrays.

        The other arguments, what is called when, and what is returned: see `fit`.

        Raises:
            NotCompiledError: compile was not called.
            DataError: a batch does not fit the model, or the dataset is empty; batches before it have been trained on.
        """
        self._compiled_as("fit_dataset")
        settings = common_settings(epochs, initial_epoch, verbose, validation_freq, yield_every, callbacks)
        steps = optional("batches_per_epoch", batches_per_epoch)
        settings["batches_per_epoch"] = steps
        feed = self._stream_feed(dataset, "fit_dataset", "batches_per_epoch", steps, class_weight, settings)
        size = positive("validation_batch_size", validation_batch_size)
        validation = self._validation_feed(validation_data, validation_batches, "validation_batches", size, settings)
        return self._train(Loop(self, feed, settings, callbacks, validation, validation_data), check_numerics)

    @accepts_camel_case
    def evaluate_dataset(
        self,
        dataset: Any,
        batches: int | None = None,
        verbose: int | str = 0,
        return_dict: bool = False,
        callbacks: Any = None,
    ) -> Any:
        """Loss and metrics on a dataset of batches, in inference mode.

        Args:
            dataset: as for `fit_dataset`.
            batches: how many to use; by default all.

        Returns:
            What `evaluate` does.

        Raises:
            NotCompiledError, DataError: as `fit_dataset`.
        """
        self._compiled_as("evaluate_dataset")
        count = optional("batches", batches)
        return self._evaluate_stream(dataset, "evaluate_dataset", "batches", count, verbose, return_dict, callbacks)

    # --- what fit, evaluate and predict share with these ----------------------

    def _train(self, loop: Loop, check_numerics: bool | None = None) -> History:
        """Trains with this loop, unless another one is running."""
        if self._fitting:
            raise RuntimeError(f'model "{self.name}": another fit of this model is running; wait until it returns.')
        self._fitting, self._loop = True, loop
        try:
            if self._cancelled:
                loop.cancel()
            with config.numerics_checked(check_numerics):
                return loop.run()
        finally:
            self._fitting, self._loop = False, None

    _cancelled = False  # whether somebody who awaited the training no longer does

    def _stream_feed(
        self,
        given: Any,
        method: str,
        argument: str,
        steps: int | None,
        class_weight: Any,
        settings: Mapping[str, Any],
    ) -> StreamFeed:
        stream = stream_of(given, method, argument, steps, settings["epochs"] - settings["initial_epoch"])
        return feed_of(stream, BatchCheck(self, class_weight), steps, argument, f'model "{self.name}"')

    def _validation_feed(
        self, given: Any, steps: int | None, argument: str, batch_size: int, settings: Mapping[str, Any]
    ) -> Feed | None:
        """What an epoch is measured with."""
        count, size = optional(argument, steps), positive("validation_batch_size", batch_size)
        if given is None:
            if count is not None:
                raise ArgumentError(
                    f"{argument} is {count}, but there is nothing to measure with: give validation_data."
                )
            return None
        if is_stream(given):
            stream = stream_of(
                given, "validation_data", argument, count, settings["epochs"] - settings["initial_epoch"]
            )
            return feed_of(stream, BatchCheck(self), count, argument, f'model "{self.name}"', goes_on=False)
        data = given if isinstance(given, Data) else self._given_validation(given)
        return ArrayFeed(data, size, steps=count, goes_on=False, argument=argument)

    def _given_validation(self, given: Any) -> Data:
        if isinstance(given, Mapping) and set(given) == {"xs", "ys"}:
            return self._element(given)
        if not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
            raise DataError(
                f'model "{self.name}": validation_data must be (x, y), (x, y, sample_weight) or a dataset, but is '
                f"a {type(given).__name__}."
            )
        return self._data(*given)

    def _evaluate_stream(
        self, given: Any, method: str, argument: str, count: int | None, verbose: Any, return_dict: bool, callbacks: Any
    ) -> Any:
        stream = stream_of(given, method, argument, count)
        feed = feed_of(stream, BatchCheck(self), count, argument, f'model "{self.name}"', goes_on=False)
        return self._evaluate_feed(feed, verbose, return_dict, callbacks)

    def _evaluate_feed(self, feed: Feed, verbose: Any, return_dict: bool, callbacks: Any) -> Any:
        hooks = CallbackList(callbacks)
        hooks.set(self, {"steps": feed.steps, "batch_size": feed.batch_size, "metrics": self.metrics_names})
        bar = ProgressBar(verbosity(verbose) == 1, "Evaluate", feed.units, feed.unit)
        logs = measuring.measure(self, feed, hooks, bar).logs()
        bar.close(logs)
        return measuring.as_result(logs, return_dict)

    def _predict_stream(self, given: Any, count: int | None) -> Iterator[list[np.ndarray]]:
        """The inputs of each batch, checked."""
        slots, done = input_slots(self), 0
        for element in itertools.islice(stream_of(given, "predict", "steps", count), count):
            yield checked(lambda e: Data(data_checks.arrays(self._inputs_of(e), slots), [], None), element, done).xs
            done += 1
        if not done:
            raise DataError(f'model "{self.name}": the dataset to predict is empty.')

    def _inputs_of(self, element: Any) -> Any:
        """The inputs of an element: all of it, or its first part if it has labels too."""
        if isinstance(element, Mapping) and "xs" in element and "xs" not in self.input_names:
            return element["xs"]
        if isinstance(element, tuple) and 1 <= len(element) <= 3:
            return element[0]
        if isinstance(element, list) and len(element) in (2, 3) and len(element) != len(self.inputs):
            return element[0]
        return element

    def _element(self, element: Any, class_weight: Any = None) -> Data:
        """An element of a dataset, checked."""
        if isinstance(element, Mapping) and set(element) == {"xs", "ys"}:
            return self._data(element["xs"], element["ys"], None, class_weight)
        if isinstance(element, (list, tuple)) and len(element) in (2, 3):
            x, y, *weight = element
            return self._data(x, y, weight[0] if weight else None, class_weight)
        found = f"a dict of {list(element)}" if isinstance(element, Mapping) else f"a {type(element).__name__}"
        raise DataError(
            f'model "{self.name}": an element must be {{"xs": x, "ys": y}} or (x, y), but is {found}; '
            'lf.data.zip({"xs": xs, "ys": ys}) makes such elements.'
        )
