"""The options that `fit` and `fit_dataset` share, checked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from layerflow.callbacks import CallbackList, verbosity
from layerflow.errors import ArgumentError
from layerflow.registry import positive, whole


def optional(name: str, value: Any) -> int | None:
    """As `positive`, or None."""
    return None if value is None else positive(name, value)


def common_settings(
    epochs: Any, initial_epoch: Any, verbose: Any, validation_freq: Any, yield_every: Any, callbacks: Any
) -> dict[str, Any]:
    """The settings of a training that do not depend on where its data come from.

    Raises:
        ArgumentError, TypeError: an impossible value; the message names the argument.
    """
    hooks = CallbackList(callbacks)
    every = _yielding(yield_every)
    if every == "never" and hooks.listens("on_yield"):
        raise ArgumentError('yield_every is "never", but a callback has on_yield; leave one of them out.')
    return {
        "epochs": whole("epochs", epochs),
        "initial_epoch": whole("initial_epoch", initial_epoch),
        "verbose": verbosity(verbose),
        "validation_freq": _frequency(validation_freq),
        "yield_every": every,
    }


def _frequency(value: Any) -> int | list[int]:
    if isinstance(value, Collection) and not isinstance(value, (str, bytes)):
        return [positive("validation_freq: the number of an epoch", entry) for entry in value]
    try:
        return positive("validation_freq", value)
    except ArgumentError:
        raise ArgumentError(
            f"validation_freq must be a whole number of epochs, at least 1, or a list of epochs, but is {value!r}."
        ) from None


def _yielding(value: Any) -> str | float:
    if value in ("auto", "batch", "epoch", "never"):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ArgumentError(
        f'yield_every must be "auto", "batch", "epoch", "never" or a number of milliseconds, but is {value!r}.'
    )
