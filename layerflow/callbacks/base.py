"""Callback: functions that `fit`, `evaluate` and `predict` call at the borders of their work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layerflow.callbacks.waiting import waiting
from layerflow.errors import ArgumentError, UnknownNameError
from layerflow.registry import Configurable, camel_case, positive, whole

# Hook -> names it also answers to.  Keras calls the batch hooks on_train_batch_*, TF.js spells them all in camelCase.
_HOOKS = (
    "on_train_begin on_train_end on_epoch_begin on_epoch_end on_batch_begin on_batch_end on_yield "
    "on_test_begin on_test_end on_test_batch_begin on_test_batch_end "
    "on_predict_begin on_predict_end on_predict_batch_begin on_predict_batch_end"
).split()
_KERAS = {"on_batch_begin": "on_train_batch_begin", "on_batch_end": "on_train_batch_end"}
HOOKS: dict[str, tuple[str, ...]] = {
    hook: (camel_case(hook), *((_KERAS[hook], camel_case(_KERAS[hook])) if hook in _KERAS else ())) for hook in _HOOKS
}
BATCH_HOOKS = ("on_batch_begin", "on_batch_end")


class Callback:
    """Base of callbacks: override the hooks you need.

    `logs` holds the values known at that point, by the names of the history.  In `on_batch_end` these are the values of
    that batch, and `batch` and `size`.  Setting `self.model.stop_training = True` ends training after the batch (from a
    batch hook) or the epoch.  A callback without batch hooks costs nothing per batch.

    Attributes:
        model: the model that calls.
        params: epochs, steps, batch_size, samples, metrics, do_validation, verbose, ...
        validation_data: what `fit` measures with, as it was given; or None.
        batch_interval: `on_batch_end` is wanted only after every so many batches (counted over all epochs); the batches
            between run natively.  1 if `on_batch_begin` is overridden too.

    >>> class Stop(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         self.model.stop_training = logs["loss"] < 0.1
    """

    model: Any = None
    params: Mapping[str, Any] = {}
    validation_data: Any = None
    batch_interval: int = 1
    training: Any = None  # the running loop: for callbacks that save and restore its position
    on_losses: Callable[[int, int, Any], None] | None = (
        None  # (epoch, first batch, losses) of batches that ran natively
    )

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def get_state(self) -> Mapping[str, Any] | None:
        """What a resumed training must know of this callback (numbers, text, arrays, lists, dicts), or None."""
        return None

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `get_state` gave; called after `on_train_begin`."""

    def on_train_begin(self, logs: Mapping[str, Any]) -> Any: ...

    def on_train_end(self, logs: Mapping[str, Any]) -> Any: ...

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_batch_begin(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_yield(self, epoch: int, batch: int, logs: Mapping[str, Any]) -> Any:
        """Now and then during training, as `yield_every` of `fit` says."""

    def on_test_begin(self, logs: Mapping[str, Any]) -> Any:
        """Before `evaluate`, and before the validation of an epoch."""

    def on_test_end(self, logs: Mapping[str, Any]) -> Any: ...

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_predict_begin(self, logs: Mapping[str, Any]) -> Any: ...

    def on_predict_end(self, logs: Mapping[str, Any]) -> Any: ...

    def on_predict_batch_begin(self, batch: int, logs: Mapping[str, Any]) -> Any: ...

    def on_predict_batch_end(self, batch: int, logs: Mapping[str, Any]) -> Any:
        """`logs["outputs"]` holds the predictions of the batch."""

    def hooks(self) -> dict[str, Callable[..., Any]]:
        """The hooks this callback overrides, under any of their names."""
        found = {}
        for hook, spellings in HOOKS.items():
            for name in (hook, *spellings):
                method = getattr(self, name, None)
                inherited = getattr(Callback, name, None)
                if method is not None and getattr(method, "__func__", method) is not inherited:
                    found[hook] = method
        return found


class BuiltIn(Configurable, Callback):
    """Base of the library's own callbacks: arguments in either spelling, unknown ones refused."""


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


class LambdaCallback(FunctionCallback):
    """A callback from functions by hook name: `LambdaCallback(on_epoch_end=lambda epoch, logs: ...)`.

    Raises:
        UnknownNameError, TypeError: see `FunctionCallback`; None is no function, and left out.
    """

    def __init__(self, **functions: Callable[..., Any] | None):
        super().__init__({name: function for name, function in functions.items() if function is not None})


class CallbackList:
    """Calls the hooks of several callbacks in order.

    Args:
        callbacks: Callback objects and dicts of functions; one of either, or a list.
        verbose: callbacks registered for this level of `verbose` come first.
        last: callbacks to call after the others.

    Raises:
        TypeError: an entry is neither; the message says what to write.
    """

    def __init__(self, callbacks: Any, verbose: int = 0, last: Sequence[Callback] = ()):
        given = list(callbacks.callbacks) if isinstance(callbacks, CallbackList) else _entries(callbacks)
        every = [*(make() for level, make in _registered if verbose >= level), *map(_callback, given), *last]
        # Those that save the state of the others hear everything after them.
        self.callbacks = sorted(every, key=lambda callback: getattr(callback, "saves_state", False))
        self._hooks: dict[str, list[Callable[..., Any]]] = {hook: [] for hook in HOOKS}
        self.periodic: list[tuple[int, Callable[..., Any]]] = []
        # Those that look at the losses of all batches, but not at each on its own.
        self.watch_losses = [c.on_losses for c in self.callbacks if c.on_losses is not None]
        for callback in self.callbacks:
            hooks = {hook: waiting(function) for hook, function in callback.hooks().items()}
            every_batch = positive(f"{type(callback).__name__}: batch_interval", callback.batch_interval) == 1
            for hook, function in hooks.items():
                if hook == "on_batch_end" and not every_batch and "on_batch_begin" not in hooks:
                    self.periodic.append((callback.batch_interval, function))
                else:
                    self._hooks[hook].append(function)

    @property
    def per_batch(self) -> bool:
        """Whether anybody listens to every single batch."""
        return self.listens(*BATCH_HOOKS)

    def listens(self, *hooks: str) -> bool:
        return any(self._hooks[hook] for hook in hooks)

    def of(self, hook: str) -> list[Callable[..., Any]]:
        """The functions behind a hook, for loops that call them often."""
        return self._hooks[hook]

    def until_periodic(self, batches: int) -> int:
        """After how many more batches somebody wants to hear; `batches` have been trained on."""
        return min((every - batches % every for every, _ in self.periodic), default=2**62)

    def call_periodic(self, batches: int, batch: int, logs: Callable[[], Mapping[str, Any]]) -> None:
        """`on_batch_end` of those who want to hear only now and then, if it is time."""
        for every, function in self.periodic:
            if batches % every == 0:
                function(batch, logs())

    def set(self, model: Any, params: Mapping[str, Any], training: Any = None, validation: Any = None) -> None:
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
            callback.training, callback.validation_data = training, validation

    def call(self, hook: str, *arguments: Any) -> None:
        for function in self._hooks[hook]:
            function(*arguments)


_registered: list[tuple[int, Callable[[], Callback]]] = []


def register_callback_constructor(verbosity_level: int, constructor: Callable[[], Callback]) -> None:
    """From now on every `fit` with `verbose` of at least this level makes such a callback and calls it.

    Raises:
        ArgumentError: the level is no whole number, or the constructor is registered already.
    """
    level = whole("verbosity_level", verbosity_level)
    if any(known is constructor for _, known in _registered):
        raise ArgumentError(f"register_callback_constructor: {constructor!r} is registered already.")
    _registered.append((level, constructor))


def clear_callback_constructors() -> None:
    """Forgets all that `register_callback_constructor` was told."""
    _registered.clear()


def _entries(callbacks: Any) -> Sequence[Any]:
    if callbacks is None:
        return ()
    return callbacks if isinstance(callbacks, (list, tuple)) else (callbacks,)


def _callback(entry: Any) -> Callback:
    if isinstance(entry, Callback):
        return entry
    if isinstance(entry, Mapping):
        return FunctionCallback(entry)
    takes = "callbacks takes Callback objects and dicts of functions"
    if isinstance(entry, type) and issubclass(entry, Callback):
        raise TypeError(f"{takes}; {entry.__name__} is a class: make an object of it, {entry.__name__}().")
    if isinstance(entry, str):
        raise TypeError(f'{takes}, not the text {entry!r}; write lf.callbacks.EarlyStopping(monitor="val_loss").')
    kind = type(entry)
    if kind.__name__ == "function" or inspect.ismethod(entry):
        raise TypeError(f'{takes}; say when to call {entry.__name__}: callbacks={{"on_epoch_end": {entry.__name__}}}.')
    raise TypeError(
        f"{takes}, not {kind.__module__}.{kind.__qualname__}; derive the class from lf.Callback, "
        'or write callbacks={"on_epoch_end": f}.'
    )
