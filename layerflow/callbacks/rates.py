"""Callbacks that set the learning rate: LearningRateScheduler, ReduceLROnPlateau."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from layerflow.callbacks.base import BuiltIn
from layerflow.callbacks.monitoring import Monitor, finite_number
from layerflow.callbacks.progress import say
from layerflow.errors import ArgumentError
from layerflow.registry import whole


def learning_rate_of(model: Any, owner: str) -> float:
    """The learning rate of a model's optimizer.

    Raises:
        ArgumentError: it is a schedule, which nobody else may set.
    """
    schedule = getattr(model.optimizer, "schedule", None)
    if schedule is not None:
        raise ArgumentError(
            f"{owner} sets the learning rate, but the optimizer has a schedule for it ({type(schedule).__name__}); "
            "use one of the two."
        )
    return float(model.optimizer.learning_rate)


class LearningRateScheduler(BuiltIn):
    """Sets the learning rate at the beginning of each epoch.

    Args:
        schedule: function of the epoch (from 0) and the rate so far that returns the new rate; one of the epoch alone
            will do.
        verbose: 1 says the rate of each epoch.

    The logs of the epoch hold it as `learning_rate`.

    Raises:
        ArgumentError: schedule is no function, or returns no number.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        if not callable(schedule):
            raise ArgumentError(
                f"LearningRateScheduler: schedule must be a function (epoch, rate) -> rate, got {schedule!r}."
            )
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any]) -> None:
        rate = learning_rate_of(self.model, "LearningRateScheduler")
        new = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
        try:
            new = float(new)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"LearningRateScheduler: schedule returned {new!r} for epoch {epoch}; it must return a number."
            ) from None
        self.model.optimizer.learning_rate = new
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate {new:.6g}")

    def on_epoch_end(self, epoch: int, logs: MutableMapping[str, Any]) -> None:
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _takes_two(schedule: Callable[..., float]) -> bool:
    try:
        inspect.signature(schedule).bind(0, 0.0)
    except (TypeError, ValueError):
        return False
    return True


class ReduceLROnPlateau(Monitor):
    """Makes the learning rate smaller when a value stops improving.

    Args:
        monitor, mode, min_delta: see `Monitor`.
        factor: the new rate is the old one times this, between 0 and 1.
        patience: epochs without improvement before that.
        verbose: 1 says when it happens.
        cooldown: epochs after a reduction in which nothing is counted; as in Keras the last of them counts again.
        min_lr: the rate never falls below.

    The logs of the epoch hold the rate as `learning_rate`.

    Raises:
        ArgumentError: an impossible value of an argument.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.factor = finite_number("ReduceLROnPlateau", "factor", factor)
        if not 0 < self.factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor must be between 0 and 1, but is {factor!r}.")
        self.patience = whole("ReduceLROnPlateau: patience", patience)
        self.cooldown = whole("ReduceLROnPlateau: cooldown", cooldown)
        self.min_lr = finite_number("ReduceLROnPlateau", "min_lr", min_lr)
        self.verbose = verbose
        self.on_train_begin({})

    def on_train_begin(self, logs: Mapping[str, Any]) -> None:
        self.wait, self.cooling, self.best = 0, 0, self.worst

    def on_epoch_end(self, epoch: int, logs: MutableMapping[str, Any]) -> None:
        rate = learning_rate_of(self.model, "ReduceLROnPlateau")
        value = self.watched(logs)
        logs["learning_rate"] = rate
        if value is None:
            return
        if self.cooling:
            self.cooling, self.wait = self.cooling - 1, 0
        if self.better(value, self.best):
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self._reduce(epoch, rate)

    def _reduce(self, epoch: int, rate: float) -> None:
        new = max(rate * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = new
        self.cooling, self.wait = self.cooldown, 0
        if self.verbose:
            say(f"Epoch {epoch + 1}: the learning rate becomes {new:.6g}")

    def get_state(self) -> Mapping[str, Any]:
        return {"wait": self.wait, "cooling": self.cooling, "best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
