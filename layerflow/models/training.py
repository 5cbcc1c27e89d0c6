"""Trainable: compile, fit, evaluate, predict - what models do with data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from layerflow.callbacks import CallbackList, History, ProgressBar
from layerflow.errors import DataError, ModelError, NotCompiledError
from layerflow.graph.tensor import Tensor, wrap
from layerflow.layers.base import revision
from layerflow.models import data_checks, fitting
from layerflow.models.compilation import Compilation, input_slots, resolve, target_slots
from layerflow.models.fitting import Data
from layerflow.models.stateful_step import step_of
from layerflow.models.step import Step
from layerflow.registry import accepts_camel_case, positive, whole

# Rows that predict computes at a time when no batch_size is given: enough for every thread, few enough for the cache.
PREDICT_ROWS = 1024


class _Direct(NamedTuple):
    """The short way for arrays that need no checks beyond type and shape; see Trainable._direct."""

    call: Any
    dtype: np.dtype
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]


class Trainable:
    """Mixin of models: training, evaluation and prediction through compiled steps.

    Every method but `predict` and `predict_on_batch` needs `compile` first.  A method that refuses its arguments
    changes nothing in the model.
    """

    name: str
    inputs: list[Any]
    outputs: list[Any]
    input_names: list[str]
    output_names: list[str]
    weights: list[Any]
    trainable_weights: list[Any]

    stop_training: bool = False
    _disposed: bool
    history: History | None = None
    _compilation: Compilation | None = None
    _steps: dict[str, Any] | None = None
    _shortcuts: dict[str, _Direct | None] | None = None
    _steps_revision: int = -1
    _steps_signature: tuple[Any, ...] = ()
    _fitting: bool = False

    @accepts_camel_case
    def compile(self, optimizer: Any, loss: Any = None, metrics: Any = None, loss_weights: Any = None) -> None:
        """Choose optimizer, loss and metrics.

        Args:
            optimizer: a name (then with the defaults of `lf.train`) or an optimizer of `lf.train` or `lf.optimizers`.
            loss: a name or a function (y_true, y_pred) -> loss per example; one for all outputs, a list with one per
                output, or a dict by output name.
            metrics: names ("accuracy", "mse", ...) or functions like a loss; a list for all outputs, or a dict by name.
            loss_weights: factors of the losses of several outputs, a list or a dict by name.

        Raises:
            UnknownNameError: an unknown name; the message says the nearest known one.
        """
        compilation = resolve(self, optimizer, loss, metrics, loss_weights)
        self._forget_steps()
        self._compilation = compilation

    @property
    def compiled(self) -> bool:
        return self._compilation is not None

    @property
    def optimizer(self) -> Any:
        """The optimizer, None before compile; its `learning_rate` may be set at any time."""
        return self._compilation.optimizer if self._compilation else None

    @property
    def loss(self) -> Any:
        """The loss as given to compile."""
        return self._compilation.given["loss"] if self._compilation else None

    @property
    def compile_arguments(self) -> dict[str, Any] | None:
        """The arguments of compile as they were given (for saving), or None."""
        return self._compilation.given if self._compilation else None

    @property
    def loss_functions(self) -> list[Any]:
        return self._compilation.loss_functions if self._compilation else []

    @property
    def loss_weights(self) -> list[float] | None:
        return self._compilation.loss_weights if self._compilation else None

    @property
    def metrics(self) -> list[list[Any]]:
        """Per output the metrics as (key in the logs, function)."""
        return self._compilation.metrics if self._compilation else []

    @property
    def metrics_names(self) -> list[str]:
        """Names of what training reports: `loss`, with several outputs `<output>_loss`, then the metrics."""
        compilation = self._compiled_as("metrics_names")
        several = [f"{name}_loss" for name in self.output_names] if len(self.outputs) > 1 else []
        return ["loss", *several, *(key for entries in compilation.metrics for key, _ in entries)]

    def step(self, mode: str) -> Step:
        """The compiled step for "train", "test" or "predict": made at first use, anew when `trainable` changed."""
        if self._steps is None or self._steps_revision != revision():
            self._refresh_steps()
        assert self._steps is not None
        if mode not in self._steps:
            self._steps[mode] = step_of(self, mode)
        return self._steps[mode]

    def _refresh_steps(self) -> None:
        """Drop the steps if what they were made from has changed."""
        if self._disposed:
            raise ModelError(f'model "{self.name}" was disposed of; its weights are gone. Build or load it again.')
        signature = tuple((id(weight), weight.trainable) for weight in self.weights)
        trained = tuple(id(weight) for weight in self.trainable_weights)
        if self._steps is None or (signature, trained) != self._steps_signature:
            self._steps, self._shortcuts = {}, {}
            self._steps_signature = (signature, trained)
        self._steps_revision = revision()

    def _forget_steps(self) -> None:
        self._steps = self._shortcuts = None

    @accepts_camel_case
    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int = 1,
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Sequence[Any] | None = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
    ) -> History:
        """Train on arrays.

        Args:
            x: inputs [rows, ...]; a list with an array per input, or a dict by input name.
            y: labels, likewise per output.
            batch_size: rows per update; the last batch of an epoch may be smaller.
            epochs: train until this epoch number.
            verbose: 0 hides the progress bar.
            callbacks: dict of functions (`{"on_epoch_end": f}`), Callback objects, or a list of both.
            validation_split: fraction of the rows, the last ones, to measure with instead of training on them; taken
                before any shuffling.
            validation_data: (x, y) or (x, y, sample_weight) to measure with after each epoch.
            shuffle: new order each epoch, from the generator that `lf.random.set_seed` fixes.
            class_weight: dict class -> factor of the loss of its examples.
            sample_weight: factor of the loss per example.
            initial_epoch: number of the first epoch.
            validation_batch_size: by default `batch_size`.

        Returns:
            History: `history.history["loss"]` and so on, one value per epoch.  Ctrl-C ends training, with the epochs
            so far.

        Raises:
            NotCompiledError: compile was not called.
            DataError: the data do not fit the model, or hold NaN; the model is as before.
        """
        self._compiled_as("fit")
        settings = {
            "batch_size": positive("batch_size", batch_size),
            "epochs": whole("epochs", epochs),
            "initial_epoch": whole("initial_epoch", initial_epoch),
            "shuffle": bool(shuffle),
            "verbose": int(verbose),
            "validation_batch_size": positive("validation_batch_size", validation_batch_size or batch_size),
        }
        hooks = CallbackList(callbacks)
        train, validation = self._fit_data(x, y, sample_weight, class_weight, validation_split, validation_data)
        return self._train(fitting.Fit(self, train, validation, settings, hooks))

    def _train(self, loop: fitting.Loop) -> History:
        """Trains with this loop, unless another one is running."""
        if self._fitting:
            raise RuntimeError(f'model "{self.name}": another fit of this model is running; wait until it returns.')
        self._fitting = True
        try:
            self.history = loop.run()
        finally:
            self._fitting = False
        return self.history

    async def fit_async(self, x: Any, y: Any, **options: Any) -> History:
        """`fit` in a thread of its own: the event loop stays free while the model trains.

        Takes the arguments of `fit`; callbacks are called in that thread.  Cancelling the task stops the training.
        """
        return await self._in_thread(self.fit, x, y, **options)

    async def _in_thread(self, fit: Callable[..., History], *data: Any, **options: Any) -> History:
        # Not at the top: asyncio takes a third of layerflow's time to import, and few programs call this.
        import asyncio

        try:
            return await asyncio.to_thread(fit, *data, **options)
        except asyncio.CancelledError:
            self.stop_training = True
            raise

    def _fit_data(
        self, x: Any, y: Any, weight: Any, classes: Any, split: float, given: Any
    ) -> tuple[Data, Data | None]:
        """Training and validation data, checked."""
        data = self._data(x, y, weight, classes)
        if given is not None:
            return data, self._given_validation(given)
        return data.split(split, f'model "{self.name}"') if split else (data, None)

    def _given_validation(self, given: Any) -> Data:
        if not isinstance(given, (list, tuple)) or len(given) not in (2, 3):
            raise DataError(f'model "{self.name}": validation_data must be (x, y) or (x, y, sample_weight).')
        return self._data(*given)

    def _data(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None) -> Data:
        compilation = self._compiled_as("fit")
        inputs, targets = input_slots(self), target_slots(self, compilation)
        xs, ys = data_checks.arrays(x, inputs), data_checks.arrays(y, targets)
        data_checks.same_length(xs, ys, f'model "{self.name}"')
        data_checks.values(xs, inputs)
        data_checks.values(ys, targets)
        by_row = data_checks.sample_weights(sample_weight, targets, len(xs[0]))
        by_class = data_checks.class_weights(class_weight, targets, ys)
        return Data(xs, ys, data_checks.combined(by_row, by_class, len(xs[0])))

    @accepts_camel_case
    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        verbose: int = 0,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics on `x` and `y`, in inference mode, the loss with its regularization penalties.

        Returns:
            The loss as a float; with metrics or several outputs a list in the order of `metrics_names`; a dict by those
            names if `return_dict`.

        Raises:
            NotCompiledError, DataError: as `fit`.
        """
        self._compiled_as("evaluate")
        data = self._data(x, y, sample_weight)
        bar = ProgressBar(verbose > 0, "Evaluate", data.rows)
        logs = fitting.evaluate(self.step("test"), data, positive("batch_size", batch_size), bar).logs()
        bar.close(logs)
        return fitting.as_result(logs, return_dict)

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None) -> Any:
        """One update with one batch.

        Types and shapes are checked; whether float32 arrays hold NaN is not, since that would cost as much as the step.

        Returns:
            The loss of the batch before the update, a float; with metrics a list, in the order of `metrics_names`.
        """
        direct = self._direct("train")
        if (
            direct is not None
            and sample_weight is None
            and class_weight is None
            and _plain(x, direct.dtype, direct.x_shape)
            and _plain(y, direct.dtype, direct.y_shape)
            and len(x) == len(y)
        ):
            numbers = direct.call([x], [y])
            return numbers[0] if len(numbers) == 1 else numbers
        return self._one_batch("train", x, y, sample_weight, class_weight)

    def test_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        """Loss and metrics of one batch in inference mode; returns what `train_on_batch` does."""
        return self._one_batch("test", x, y, sample_weight, None)

    def _one_batch(self, mode: str, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Any:
        self._compiled_as(f"{mode}_on_batch")
        data = self._data(x, y, sample_weight, class_weight)
        return _numbers(self.step(mode).run(data.xs, data.ys, data.ws))

    @accepts_camel_case
    def _predict_options(self, batch_size: int | None = None, verbose: int = 0) -> dict[str, Any]:
        return {"batch_size": batch_size, "verbose": verbose}

    def predict(self, x: Any, batch_size: int | None = None, verbose: int = 0, **spelled: Any) -> Any:
        """The outputs for `x`, in inference mode.

        Args:
            x: inputs [rows, ...]; a list with an array per input, or a dict by input name.
            batch_size: rows computed at a time; by default layerflow chooses (the result does not depend on it, unless
                a layer mixes examples).
            verbose: 1 shows a progress bar.

        Returns:
            A tensor [rows, ...], or a list of them for several outputs.

        Raises:
            DataError: x does not fit the model.
        """
        if batch_size is None and not verbose and not spelled:
            direct = self._direct("predict")
            if direct is not None and _plain(x, direct.dtype, direct.x_shape) and len(x) <= PREDICT_ROWS:
                return direct.call([x])[0].view(Tensor)
        return self._predict(x, **self._predict_options(batch_size=batch_size, verbose=verbose, **spelled))

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, computed in one go; see `predict`."""
        direct = self._direct("predict")
        if direct is not None and _plain(x, direct.dtype, direct.x_shape):
            return direct.call([x])[0].view(Tensor)
        xs = data_checks.arrays(x, input_slots(self))
        return _tensors(self.step("predict").predict(xs))

    def _predict(self, x: Any, batch_size: int | None, verbose: int) -> Any:
        xs, step = data_checks.arrays(x, input_slots(self)), self.step("predict")
        rows = len(xs[0])
        size = step.rows_at_once(PREDICT_ROWS) if batch_size is None else positive("batch_size", batch_size)
        if rows <= size:
            return _tensors(step.predict(xs))
        bar, parts = ProgressBar(verbose > 0, "Predict", rows), []
        for first in range(0, rows, size):
            parts.append(step.predict([part[first : first + size] for part in xs]))
            bar.advance(min(size, rows - first), {})
        bar.close({})
        return _tensors([np.concatenate(outputs) for outputs in zip(*parts, strict=True)])

    def _direct(self, mode: str) -> _Direct | None:
        """The step's own entry, if the model has one input (to train, one output too) that needs no checks."""
        if self._shortcuts is None or self._steps_revision != revision() or mode not in self._shortcuts:
            self.step(mode)
            assert self._shortcuts is not None
            self._shortcuts[mode] = self._make_direct(mode)
        return self._shortcuts[mode]

    def _make_direct(self, mode: str) -> _Direct | None:
        slots = input_slots(self)
        targets = target_slots(self, self._compiled_as("train_on_batch")) if mode == "train" else []
        outputs = len(targets) if mode == "train" else len(self.outputs)
        shapes = [slot.shape for slot in (*slots, *targets)]
        plain = all(s.is_plain and s.dtype.kind == "f" and s.dtype == slots[0].dtype for s in (*slots, *targets))
        if len(slots) != 1 or outputs != 1 or not plain:
            return None
        step = self.step(mode)
        call = step.numbers if mode == "train" else step.predict
        return _Direct(call, slots[0].dtype, shapes[0], shapes[-1])  # type: ignore[arg-type]

    def _compiled_as(self, method: str) -> Compilation:
        if self._compilation is None:
            raise NotCompiledError(
                f'model "{self.name}": {method} needs compile first, for example '
                'model.compile(optimizer="sgd", loss="meanSquaredError").'
            )
        return self._compilation


def _plain(array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether the step can take the array as it is: type, layout, shape of an example, at least one of them."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.shape[1:] == shape
        and array.ndim > 0
        and array.shape[0] > 0
        and array.flags.c_contiguous
    )


def _numbers(values: np.ndarray) -> Any:
    return values.item() if len(values) == 1 else values.tolist()


def _tensors(outputs: Sequence[np.ndarray]) -> Any:
    return wrap(outputs[0]) if len(outputs) == 1 else [wrap(output) for output in outputs]
