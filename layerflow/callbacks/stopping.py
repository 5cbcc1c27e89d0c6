"""Callbacks that end training: EarlyStopping, TerminateOnNaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerflow.callbacks.base import BuiltIn
from layerflow.callbacks.monitoring import Monitor, finite_number
from layerflow.callbacks.progress import say
from layerflow.registry import whole


class EarlyStopping(Monitor):
    """Ends training when a value stops improving.

    Args:
        monitor, min_delta, mode: see `Monitor`.
        patience: epochs without improvement to wait; training ends at the first one beyond, but not after the first
            epoch of all.
        verbose: 1 says when it happens.
        baseline: a value to get better than: as long as it is not reached, the epochs count as without improvement.
        restore_best_weights: put the weights of the best epoch back when training ends, whether early or not.
        start_from_epoch: epochs before this number are not looked at.

    Attributes:
        best, best_epoch, stopped_epoch: what was found; `stopped_epoch` is None if training was not ended early.

    Raises:
        ArgumentError: an impossible value of an argument.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = whole("EarlyStopping: patience", patience)
        self.verbose = verbose
        self.baseline = None if baseline is None else finite_number("EarlyStopping", "baseline", baseline)
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = whole("EarlyStopping: start_from_epoch", start_from_epoch)
        self.on_train_begin({})

    def on_train_begin(self, logs: Mapping[str, Any]) -> None:
        self.wait, self.best = 0, self.worst
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.best_weights: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        value = self.watched(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self.better(value, self.best)
        if improved or (self.restore_best_weights and self.best_weights is None):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        if improved:
            self.best = value
            if self.baseline is None or self.better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any]) -> None:
        if self.stopped_epoch is not None and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                say(f"Weights of epoch {(self.best_epoch or 0) + 1} restored")
            self.model.set_weights(self.best_weights)
            self.best_weights = None

    def get_state(self) -> Mapping[str, Any]:
        names = ("wait", "best", "best_epoch", "stopped_epoch", "best_weights")
        return {name: getattr(self, name) for name in names}

    def set_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


class TerminateOnNaN(BuiltIn):
    """Ends training when the loss is NaN or infinite.

    It looks at every batch, without Python between batches: when the values of a native run hold such a loss, training
    ends after that run, at most some hundredths of a second later.

    Args:
        check_batches: False looks only at the end of epochs.
    """

    def __init__(self, check_batches: bool = True):
        self.check_batches = bool(check_batches)

    def on_losses(self, epoch: int, first: int, losses: np.ndarray) -> None:
        """Looks at the losses of the batches from number `first` on."""
        if self.check_batches and not np.isfinite(losses).all():
            at = int(np.flatnonzero(~np.isfinite(losses))[0])
            self._stop(f"batch {first + at} of epoch {epoch + 1}", float(losses[at]))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(loss) and not self.model.stop_training:
            self._stop(f"epoch {epoch + 1}", loss)

    def _stop(self, where: str, loss: float) -> None:
        say(f"The loss is {loss:.4g} in {where}: training ends.")
        self.model.stop_training = True
