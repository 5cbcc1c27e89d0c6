"""Metric: a value over many batches, from a state that the native step updates.  Running: such a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.graph.trace import eager, is_tracing
from layerflow.graph.variable import Variable
from layerflow.weighted_losses import as_operand

METRIC_CLASSES = registry.Names("metric class")
State = Mapping[str, Any]


class Metric(registry.Configurable):
    """Base of streaming metrics.

    A metric of your own names its state and says, in plain NumPy, how a batch changes it and what it amounts to.
    `update` is compiled into the step of a model; `value` is computed when somebody reads it.  Used without a model, a
    metric keeps a state of its own: `update_state`, `result`, `reset_state`.

    Args:
        name: in the logs; by default the class's name in snake_case.
        dtype: taken because files of Keras hold it; states are float64, so that counts stay exact up to 2**53.

    >>> class Bias(lf.metrics.Metric):
    ...     STATE = {"total": 0.0, "count": 0.0}
    ...     def update(self, state, y_true, y_pred, sample_weight=None):
    ...         error = y_pred - y_true
    ...         return {"total": state["total"] + np.sum(error), "count": state["count"] + np.sum(np.ones_like(error))}
    ...     def value(self, state):
    ...         return state["total"] / max(state["count"], 1)
    """

    BASE_ARGUMENTS: ClassVar[Mapping[str, str]] = {"name": "name", "dtype": "dtype"}
    STATE: ClassVar[Mapping[str, Any]] = {}
    NAME: ClassVar[str] = ""  # default of `name`, where it is not the class's name in snake_case
    LABELS: ClassVar[str] = "any"
    name: str

    def __init__(self, name: str | None = None, dtype: Any = None):
        self._settle(name, dtype)

    def _made(self) -> None:
        if self._base_arguments or "name" not in vars(self):
            self._settle(**self._base_arguments)

    def _settle(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name or self.NAME or registry.class_snake_case(self.get_class_name())
        self._running: Running | None = None

    # What subclasses define

    def initial(self, shape: tuple[int | None, ...]) -> State:
        """The state before the first batch, name -> number or array; by default STATE.

        Args:
            shape: of y_pred, None for the batch.
        """
        return self.STATE

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        """The state after a batch: new values of what changes.

        Args:
            state: by name, as symbols or arrays.
            y_true, y_pred: labels and predictions of the batch.
            sample_weight: a weight a sample, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(state, y_true, y_pred, sample_weight).")

    def value(self, state: State) -> Any:
        """The metric for a state (NumPy arrays of float64): a number, or an array of them."""
        raise NotImplementedError(f"{type(self).__name__} must define value(state).")

    # Use without a model

    def update_state(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        """Takes a batch into the metric's own state."""
        y_true, y_pred = _array(y_true), _array(y_pred)
        if self._running is None:
            self._running = Running(self, np.shape(y_true if y_pred is None else y_pred))
        self._running.update(y_true, y_pred, _array(sample_weight))

    def result(self) -> Any:
        """The value of the metric's own state: a float, or an array.

        Raises:
            ArgumentError: the state has no shape yet, because it depends on that of the predictions.
        """
        if self._running is None:
            try:
                self._running = Running(self, ())
            except ShapeError as error:
                raise ArgumentError(f"{self.name}: call update_state before result ({error})") from None
        return self._running.result()

    def reset_state(self) -> None:
        """Forgets all batches."""
        if self._running is not None:
            self._running.reset()

    def __call__(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> Any:
        """`update_state`, then `result`."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    @property
    def variables(self) -> list[Variable]:
        """The metric's own state."""
        return list(self._running.variables.values()) if self._running else []

    def get_config(self) -> dict[str, Any]:
        own = {k: v for k, v in super().get_config().items() if registry.fold(k) not in self.BASE_ARGUMENTS}
        return {**own, "name": self.name}


class Values(np.ndarray):
    """Several numbers of one metric (a score a class) that can be formatted like one, as progress bars do."""

    def __format__(self, spec: str) -> str:
        return "[" + " ".join(format(value, spec) for value in self.ravel().tolist()) + "]"


def _array(value: Any) -> Any:
    """Data as the step has them: 32-bit integers, and arrays of Python numbers as float32."""
    if value is None:
        return None
    array = np.asarray(as_operand(value))
    return array.astype(np.int32) if array.dtype.kind in "iu" and array.dtype.itemsize > 4 else array


class Running:
    """One state of a metric: of its own, or of an output of a model in training or in evaluation.

    Args:
        metric: what it is a state of.
        shape: of the predictions, None for the batch.
    """

    def __init__(self, metric: Metric, shape: tuple[int | None, ...]):
        self.metric = metric
        with eager():
            first = {name: np.asarray(value) for name, value in metric.initial(shape).items()}
        if not first:
            raise ArgumentError(f"the metric {metric.name!r} has no state: define STATE or initial(shape).")
        self.first = {name: a.astype(np.int64 if a.dtype.kind in "iub" else np.float64) for name, a in first.items()}
        self.variables = {
            name: Variable(a, trainable=False, name=f"{metric.name}/{name}") for name, a in self.first.items()
        }

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Inside a trace: records the update.  Outside: does it."""
        new = self.metric.update(self._state(), y_true, y_pred, sample_weight)
        unknown = [name for name in new if name not in self.variables]
        if unknown:
            raise ArgumentError(
                f"the metric {self.metric.name!r}: update gave {unknown}, but the state is {list(self.variables)}."
            )
        for name, value in new.items():
            variable, value = self.variables[name], as_operand(value)
            if tuple(value.shape) != variable.shape:
                raise ShapeError(
                    f"the metric {self.metric.name!r}: update gave {name!r} the shape {text(value.shape)}, but the "
                    f"state has {text(variable.shape)}."
                )
            ops.assign(variable, ops.cast(value, variable.dtype.name))

    def _state(self) -> dict[str, Any]:
        if is_tracing():
            return {name: SymbolicTensor(v.variable_op) for name, v in self.variables.items()}
        return {name: v.numpy() for name, v in self.variables.items()}

    def result(self) -> Any:
        """The value now: a float, or an array where the metric has several."""
        with np.errstate(all="ignore"):
            value = np.asarray(self.metric.value({n: v.numpy() for n, v in self.variables.items()}))
        return value.item() if value.ndim == 0 else value.view(Values)

    def reset(self) -> None:
        """Back to the first state."""
        for name, variable in self.variables.items():
            variable.assign(self.first[name])
