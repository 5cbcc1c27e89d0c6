"""Callback: functions that `fit` calls at the borders of training, epochs and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from layerflow.errors import UnknownNameError

# Hook -> names it also answers to.  Keras calls the batch hooks on_train_batch_*, TF.js spells them all in camelCase.
HOOKS: dict[str, tuple[str, ...]] = {
    "on_train_begin": ("onTrainBegin",),
    "on_train_end": ("onTrainEnd",),
    "on_epoch_begin": ("onEpochBegin",),
    "on_epoch_end": ("onEpochEnd",),
    "on_batch_begin": ("onBatchBegin", "on_train_batch_begin"),
    "on_batch_end": ("onBatchEnd", "on_train_batch_end"),
}
BATCH_HOOKS = ("on_batch_begin", "on_batch_end")


class Callback:
    """Base of callbacks: override the hooks you need.

    `logs` holds the values known at that point, by the names of the history.  In `on_batch_end` these are the values of
    that batch, and `batch` and `size`.  Setting `self.model.stop_training = True` ends training after the batch (from a
    batch hook) or the epoch.  A callback without batch hooks costs nothing per batch.

    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         self.model.stop_training = logs["loss"] < 0.1
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Mapping[str, Any]) -> Any: ...

    def on_train_end(self, logs: Mapping[str, Any]) -> Any: ...

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_batch_begin(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def hooks(self) -> dict[str, Callable[..., Any]]:
        """The hooks this callback overrides, under any of their names."""
        found = {}
        for hook, spellings in HOOKS.items():
            for name in (hook, *spellings):
                method = getattr(type(self), name, None)
                if method is not None and method is not getattr(Callback, name, None):
                    found[hook] = getattr(self, name)
        return found


class FunctionCallback(Callback):
    """A callback from functions by hook name, in snake_case or camelCase: `{"on_batch_end": f}`.

    Raises:
        UnknownNameError: a name is no hook.
        TypeError: a value is not callable.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]]):
        spelled = {name: hook for hook, others in HOOKS.items() for name in (hook, *others)}
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, function in functions.items():
            if name not in spelled:
                raise UnknownNameError.of("callback", name, HOOKS)
            if not callable(function):
                raise TypeError(f'callback "{name}" must be a function, but is {type(function).__name__}.')
            self._functions[spelled[name]] = function

    def hooks(self) -> dict[str, Callable[..., Any]]:
        return self._functions


class CallbackList:
    """Calls the hooks of several callbacks in order.

    Args:
        callbacks: Callback objects and dicts of functions; one of either, or a list.

    Raises:
        TypeError: an entry is neither.
    """

    def __init__(self, callbacks: Any):
        self.callbacks = [_callback(entry) for entry in _entries(callbacks)]
        self._hooks: dict[str, list[Callable[..., Any]]] = {hook: [] for hook in HOOKS}
        for callback in self.callbacks:
            for hook, function in callback.hooks().items():
                self._hooks[hook].append(function)

    @property
    def per_batch(self) -> bool:
        """Whether anybody listens to single batches."""
        return any(self._hooks[hook] for hook in BATCH_HOOKS)

    def set(self, model: Any, params: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)

    def call(self, hook: str, *arguments: Any) -> None:
        for function in self._hooks[hook]:
            function(*arguments)


def _entries(callbacks: Any) -> Iterable[Any]:
    if callbacks is None:
        return ()
    return callbacks if isinstance(callbacks, (list, tuple)) else (callbacks,)


def _callback(entry: Any) -> Callback:
    if isinstance(entry, Callback):
        return entry
    if isinstance(entry, Mapping):
        return FunctionCallback(entry)
    raise TypeError(
        f"callbacks takes Callback objects and dicts of functions, not {type(entry).__name__}; "
        'write callbacks={"on_epoch_end": f}.'
    )
