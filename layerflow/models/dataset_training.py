"""DatasetTraining: fit_dataset and evaluate_dataset - training on streams of batches."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, History, ProgressBar
from layerflow.data import Dataset
from layerflow.errors import ArgumentError, DataError
from layerflow.models import fitting
from layerflow.models.fitting import Batch, Data, Means
from layerflow.models.training import Trainable
from layerflow.registry import accepts_camel_case, positive, whole


class BatchBar(ProgressBar):
    """A progress bar that counts batches, since nobody knows how many examples a stream holds."""

    def __init__(self, shown: bool, title: str, count: int | None):
        super().__init__(shown, title, count, " batches")

    def advance(self, count: int, values: Mapping[str, Any]) -> None:
        super().advance(1, values)


class DatasetFit(fitting.Loop):
    """One call of `fit_dataset`.

    Args:
        model, settings, callbacks, validate: see Loop; the settings also hold batches_per_epoch.
        dataset: iterated anew for each epoch; with batches_per_epoch once, and its end ends the training.
        check: turns an element into checked data.
    """

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        settings: Mapping[str, Any],
        callbacks: CallbackList,
        validate: Callable[[Any], Means] | None,
        check: Callable[[Any], Data],
    ):
        super().__init__(model, settings, callbacks, validate)
        self.dataset, self.check = dataset, check
        self.per_epoch: int | None = settings["batches_per_epoch"]
        self._stream = iter(dataset)
        self._held: list[Any] = []

    @property
    def _batches(self) -> int | None:
        return self.per_epoch or _known(self.dataset)

    def _params(self) -> dict[str, Any]:
        return {**super()._params(), "samples": None, "batch_size": None, "steps": self._batches}

    def _bar(self, title: str) -> ProgressBar:
        return BatchBar(self.settings["verbose"] > 0, title, self._batches)

    def _epoch(self, epoch: int) -> None:
        if self.per_epoch is None:
            self._stream = iter(self.dataset)
        elif epoch > self.settings["initial_epoch"]:
            # One ahead, so that a stream that ended with the last epoch does not begin another one.
            self._held = list(itertools.islice(self._stream, 1))
            if not self._held:
                self._ended(f"after {epoch - self.settings['initial_epoch']} epochs")
                return
        super()._epoch(epoch)

    def _train_epoch(self, bar: ProgressBar) -> tuple[Means, bool]:
        done = 0

        def batches() -> Iterator[Batch]:
            nonlocal done
            held, self._held = self._held, []
            for element in itertools.islice(itertools.chain(held, self._stream), self.per_epoch):
                data = _checked(self.check, element, done)
                done += 1
                yield data.rows, partial(_run, data)

        means, finished = self._each(batches(), self._batches, bar)
        if done == 0:
            raise DataError(
                f'model "{self.model.name}": the dataset gave no batch in this epoch. Every epoch iterates it anew: '
                "the function given to lf.data.generator must return a new iterator each time."
            )
        if self.per_epoch is not None and done < self.per_epoch and not self.model.stop_training:
            self._ended(f"after {done} of the {self.per_epoch} batches of an epoch")
        return means, finished

    def _ended(self, when: str) -> None:
        warnings.warn(
            f"the dataset ended {when}, and training with it. It must hold batches_per_epoch * epochs batches; "
            "use dataset.repeat() if it may be read several times.",
            stacklevel=2,
        )
        self.model.stop_training = True


class DatasetTraining(Trainable):
    """Mixin of models: training and evaluation on datasets, whose elements are batches.

    An element is `{"xs": x, "ys": y}` or (x, y) or (x, y, sample_weight), with x and y as in `fit`.
    """

    @accepts_camel_case
    def fit_dataset(
        self,
        dataset: Dataset,
        epochs: int = 1,
        batches_per_epoch: int | None = None,
        verbose: int = 1,
        callbacks: Any = None,
        validation_data: Any = None,
        validation_batches: int | None = None,
        initial_epoch: int = 0,
        class_weight: Any = None,
        validation_batch_size: int = 32,
    ) -> History:
        """Train on a dataset of batches.

        Args:
            dataset: an `lf.data.Dataset`; each element is one update.
            batches_per_epoch: where an epoch ends.  The dataset is then read once, over all epochs, and its end ends
                the training with a warning.  Without it an epoch is one iteration of the dataset.
            validation_data: to measure with after each epoch: a dataset, or arrays as in `fit`.
            validation_batches: how many batches of a validation dataset to use; by default all.
            validation_batch_size: for validation arrays.

        The other arguments, what is called when, and what is returned: see `fit`.

        Raises:
            NotCompiledError: compile was not called.
            DataError: a batch does not fit the model, or the dataset is empty; batches before it have been trained on.
        """
        self._compiled_as("fit_dataset")
        settings = {
            "epochs": whole("epochs", epochs),
            "initial_epoch": whole("initial_epoch", initial_epoch),
            "batches_per_epoch": _optional("batches_per_epoch", batches_per_epoch),
            "verbose": int(verbose),
        }
        _readable(dataset, "fit_dataset", "batches_per_epoch", settings["batches_per_epoch"])
        validate = self._validation(validation_data, validation_batches, validation_batch_size)
        check = partial(self._element, class_weight=class_weight)
        return self._train(DatasetFit(self, dataset, settings, CallbackList(callbacks), validate, check))

    async def fit_dataset_async(self, dataset: Dataset, **options: Any) -> History:
        """`fit_dataset` in a thread of its own, in which the dataset's functions and callbacks run; see `fit_async`."""
        return await self._in_thread(self.fit_dataset, dataset, **options)

    @accepts_camel_case
    def evaluate_dataset(
        self, dataset: Dataset, batches: int | None = None, verbose: int = 0, return_dict: bool = False
    ) -> Any:
        """Loss and metrics on a dataset of batches, in inference mode.

        Args:
            dataset: an `lf.data.Dataset`.
            batches: how many to use; by default all.

        Returns:
            What `evaluate` does.

        Raises:
            NotCompiledError, DataError: as `fit_dataset`.
        """
        self._compiled_as("evaluate_dataset")
        count = _optional("batches", batches)
        _readable(dataset, "evaluate_dataset", "batches", count)
        bar = BatchBar(verbose > 0, "Evaluate", count or _known(dataset))
        logs = self._measure(dataset, count, "batches", self.step("test"), bar).logs()
        bar.close(logs)
        return fitting.as_result(logs, return_dict)

    def _validation(self, given: Any, batches: int | None, batch_size: int) -> Callable[[Any], Means] | None:
        """What measures after an epoch."""
        count, size = _optional("validation_batches", batches), positive("validation_batch_size", batch_size)
        if given is None:
            return None
        if isinstance(given, Dataset):
            _readable(given, "fit_dataset", "validation_batches", count)
            return partial(self._measure, given, count, "validation_batches")
        arrays = self._given_validation(given)
        return lambda step: fitting.evaluate(step, arrays, size)

    def _measure(
        self, dataset: Dataset, count: int | None, argument: str, step: Any, bar: ProgressBar | None = None
    ) -> Means:
        """Means over the first `count` batches."""
        means, done = Means(step), 0
        for element in itertools.islice(dataset, count):
            data = _checked(self._element, element, done)
            means.add(_run(data, step)[None], np.array([data.rows]))
            done += 1
            if bar is not None:
                bar.advance(data.rows, means.logs())
        if not done:
            raise DataError(f'model "{self.name}": the dataset to measure with is empty.')
        if count is not None and done < count:
            warnings.warn(f"{argument} is {count}, but the dataset ended after {done}.", stacklevel=2)
        return means

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


def _checked(check: Callable[[Any], Data], element: Any, number: int) -> Data:
    """The element as data; a refusal says which one it was."""
    try:
        return check(element)
    except DataError as error:
        hint = " If its elements are single examples, call dataset.batch(32) first." if number == 0 else ""
        raise DataError(f"{error} (Batch {number} of the dataset.{hint})") from None


def _run(data: Data, step: Any) -> np.ndarray:
    return step.run(data.xs, data.ys, data.ws)


def _optional(name: str, value: Any) -> int | None:
    return None if value is None else positive(name, value)


def _known(dataset: Dataset) -> int | None:
    """Number of elements, if it is known and finite."""
    size = dataset.size
    return None if size is None or size == math.inf else int(size)


def _readable(dataset: Any, method: str, argument: str, count: int | None) -> None:
    """Refuses what is no dataset, and what cannot be read to its end although no `count` says where to stop."""
    if not isinstance(dataset, Dataset):
        raise ArgumentError(
            f"{method}: expected a dataset, got {type(dataset).__name__}; make one with lf.data.generator or "
            "lf.data.array, or pass arrays to fit or evaluate."
        )
    if count is None and dataset.size == math.inf:
        raise ArgumentError(f"{method}: the dataset is infinite; say with {argument} how many batches to use.")
