"""History: what `fit` returns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from layerflow.callbacks.base import Callback

_LONG_NAMES = re.compile(r"(^|_)(accuracy|crossentropy)$")
_SHORT = {"accuracy": "acc", "crossentropy": "ce"}


class Logs(dict[str, Any]):
    """Values by name, as TF.js names them (`acc`, `val_acc`); the Keras names (`accuracy`) find them too."""

    def __missing__(self, name: str) -> Any:
        short = _LONG_NAMES.sub(lambda found: found[1] + _SHORT[found[2]], name)
        if short != name and short in self:
            return self[short]
        raise KeyError(f'"{name}" is not among {sorted(self)}')

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


class History(Callback):
    """The values of each epoch of one `fit`.

    Attributes:
        epoch: the numbers of the finished epochs.
        history: name -> one value per finished epoch: `loss`, metrics, and with validation data `val_loss`, ...
        interrupted: True when Ctrl-C ended the training.

    `history["accuracy"]` is short for `history.history["acc"]`.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: Logs = Logs()
        self.interrupted = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> Mapping[str, Any]:
        return {"epoch": self.epoch, "history": dict(self.history)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = list(state["epoch"])
        self.history = Logs({name: list(values) for name, values in state["history"].items()})

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"History(epochs={len(self.epoch)}{', ' if last else ''}{last})"
