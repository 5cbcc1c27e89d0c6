"""Trainable: compile, steps, and what models do with single batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from layerflow import config
from layerflow.callbacks import History, Logs
from layerflow.errors import ModelError
from layerflow.graph.tensor import Tensor, wrap
from layerflow.models import data_checks
from layerflow.models.batches import Data
from layerflow.models.compilation import input_slots, resolve, target_slots
from layerflow.models.compiled import Compiled
from layerflow.models.measuring import as_result
from layerflow.models.stateful_step import step_of
from layerflow.models.step import Step
from layerflow.registry import accepts_camel_case


class _Direct(NamedTuple):
    """The short way for arrays that need no checks beyond type and shape; see Trainable._direct."""

    call: Any
    dtype: np.dtype
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]


class Trainable(Compiled):
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
    _steps: dict[str, Any] | None = None
    _entries: dict[str, _Direct | None] | None = None
    _train_again: Any = None  # the last batch's call, for one just like it; see layerflow.jit.shortcuts
    _predict_again: Any = None
    _steps_made: int = -1  # the value of config.changes at which the steps were known to be right
    _steps_signature: tuple[Any, ...] = ()
    _fitting: bool = False
    _loop: Any = None  # the training that is running, or about to run

    @accepts_camel_case
    def compile(
        self,
        optimizer: Any,
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        """Choose optimizer, loss and metrics.

        Args:
            optimizer: a name (then with the defaults of `lf.train`) or an optimizer of `lf.train` or `lf.optimizers`.
            loss: a name, an object of `lf.losses` or a function (y_true, y_pred) -> loss per example; one for all
                outputs, a list with one per output, or a dict by output name.
            metrics: names ("accuracy", "mse", ...), functions like a loss, whose values are averaged over batches, or
                streaming metrics of `lf.metrics`; a list for all outputs, or a dict by name.
            loss_weights: factors of the losses of several outputs, a list or a dict by name.
            weighted_metrics: as `metrics`, but the sample and class weights count.

        Raises:
            UnknownNameError: an unknown name; the message says the nearest known one.
        """
        compilation = resolve(self, optimizer, loss, metrics, loss_weights, weighted_metrics)
        self._forget_steps()
        self._compilation = compilation

    def step(self, mode: str) -> Step:
        """The compiled step for "train", "test" or "predict": made at first use, anew when `trainable` changed."""
        if self._steps is None or self._steps_made != config.changes.value:
            self._refresh_steps()
        assert self._steps is not None
        if mode not in self._steps:
            self._steps[mode] = step_of(self, mode)
        return self._steps[mode]

    def _refresh_steps(self) -> None:
        """Drop the steps if what they were made from has changed."""
        if self._disposed:
            raise ModelError(f'model "{self.name}" was disposed of; its weights are gone. Build or load it again.')
        signature = (config.check_numerics(), *((id(weight), weight.trainable) for weight in self.weights))
        trained = tuple(id(weight) for weight in self.trainable_weights)
        settings = (signature, trained, self.optimizer and self.optimizer.version)
        if self._steps is None or settings != self._steps_signature:
            self._forget_steps()
            self._steps, self._entries = {}, {}
            self._steps_signature = settings
        self._steps_made = config.changes.value

    def _forget_steps(self) -> None:
        self._steps = self._entries = self._train_again = self._predict_again = None

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

    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """One update with one batch.

        Types and shapes are checked; whether float32 arrays hold NaN is not, since that would cost as much as the step.

        Returns:
            The loss of the batch before the update, a float; with metrics a list, in the order of `metrics_names`; a
            dict by those names if `return_dict`.

        Raises:
            NotCompiledError, DataError: as `fit`.
        """
        if sample_weight is not None or class_weight is not None or return_dict:
            return self._one_batch("train", x, y, sample_weight, class_weight, return_dict)
        if self._train_again is not None:
            numbers = self._train_again(x, y)
            if numbers is not None:
                return numbers
        direct = self._direct("train")
        if (
            direct is None
            or not plain(x, direct.dtype, direct.x_shape)
            or not plain(y, direct.dtype, direct.y_shape)
            or len(x) != len(y)
        ):
            return self._one_batch("train", x, y, sample_weight, class_weight, return_dict)
        numbers = direct.call([x], [y])
        self._train_again = self.step("train").shortcut(x, y)
        return numbers[0] if len(numbers) == 1 else numbers

    def test_on_batch(self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch in inference mode; returns what `train_on_batch` does."""
        return self._one_batch("test", x, y, sample_weight, None, return_dict)

    def _one_batch(self, mode: str, x: Any, y: Any, sample_weight: Any, class_weight: Any, return_dict: bool) -> Any:
        self._compiled_as(f"{mode}_on_batch")
        data = self._data(x, y, sample_weight, class_weight)
        step = self.step(mode)
        return as_result(Logs(zip(step.names, step.results(data.xs, data.ys, data.ws), strict=True)), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, computed in one go; see `predict`."""
        result = self._predicted_directly(x)
        if result is not None:
            return result
        xs = data_checks.arrays(x, input_slots(self))
        return tensors(self.step("predict").predict(xs))

    def _predicted_directly(self, x: Any, most: float = math.inf) -> Tensor | None:
        """The output for inputs that need no checks, at most so many; None if they do, or are more."""
        if self._predict_again is not None:
            result = self._predict_again(x)
            if result is not None:
                return result
        direct = self._direct("predict")
        if direct is None or not plain(x, direct.dtype, direct.x_shape) or len(x) > most:
            return None
        result = direct.call([x])[0].view(Tensor)
        self._predict_again = self.step("predict").shortcut(x)
        return result

    def _direct(self, mode: str) -> _Direct | None:
        """The step's own entry, if the model has one input (to train, one output too) that needs no checks."""
        if self._entries is None or self._steps_made != config.changes.value or mode not in self._entries:
            self.step(mode)
            assert self._entries is not None
            self._entries[mode] = self._make_direct(mode)
        return self._entries[mode]

    def _make_direct(self, mode: str) -> _Direct | None:
        slots = input_slots(self)
        targets = target_slots(self, self._compiled_as("train_on_batch")) if mode == "train" else []
        outputs = len(targets) if mode == "train" else len(self.outputs)
        shapes = [slot.shape for slot in (*slots, *targets)]
        plain = all(s.is_plain and s.dtype.kind == "f" and s.dtype == slots[0].dtype for s in (*slots, *targets))
        if len(slots) != 1 or outputs != 1 or not plain:
            return None
        step = self.step(mode)
        call = step.results if mode == "train" else step.predict
        return _Direct(call, slots[0].dtype, shapes[0], shapes[-1])  # type: ignore[arg-type]


def plain(array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether the step can take the array as it is: type, layout, shape of an example, at least one of them."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.shape[1:] == shape
        and array.ndim > 0
        and array.shape[0] > 0
        and array.flags.c_contiguous
    )


def tensors(outputs: Sequence[np.ndarray]) -> Any:
    return wrap(outputs[0]) if len(outputs) == 1 else [wrap(output) for output in outputs]
