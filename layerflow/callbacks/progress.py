"""What `fit`, `evaluate` and `predict` show: a bar, or one line an epoch."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from layerflow.callbacks.base import BuiltIn
from layerflow.errors import ArgumentError

SILENT, BAR, LINES = 0, 1, 2


def verbosity(value: Any) -> int:
    """`verbose` as a number: 0 nothing, 1 (or "auto", True) a bar, 2 one line an epoch.

    Raises:
        ArgumentError: something else.
    """
    if value == "auto":
        return BAR
    if isinstance(value, (bool, int)) and 0 <= value <= 2:
        return int(value)
    raise ArgumentError(f'verbose must be 0 (nothing), 1 or "auto" (a bar) or 2 (a line an epoch), but is {value!r}.')


def say(text: str) -> None:
    """A line on the standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class ProgressBar:
    """A tqdm bar with values behind it, in a terminal and in a notebook.

    With `shown` False it does nothing; with `total` None it counts without an end.
    """

    def __init__(self, shown: bool, title: str, total: int | None, unit: str = " rows"):
        self.shown, self.unit = shown, unit
        self._bar: Any = None
        if shown:
            # Not at the top: tqdm.auto imports asyncio and looks for a notebook, a tenth of a second for silent runs.
            # In a notebook without ipywidgets it warns that its bar is text; nobody who calls fit can act on that.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

                self._bar = tqdm(
                    total=total, desc=title, unit=unit, unit_scale=(total or 0) >= 10_000, dynamic_ncols=True
                )

    def advance(self, count: int, values: Mapping[str, Any]) -> None:
        """`count` more are done; show the mean values so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(values), refresh=False)
            self._bar.update(count)

    def close(self, values: Mapping[str, Any]) -> None:
        """Ends the bar; the final values stay on the screen."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(values), refresh=True)
            self._bar.close()


class EpochLine(ProgressBar):
    """One line at the end, with the time it took: `Epoch 3/10 - 1.2s - loss: 0.3081 - val_loss: 0.3312`."""

    def __init__(self, title: str):
        super().__init__(False, title, None)
        self._title, self._begin = title, time.perf_counter()

    def close(self, values: Mapping[str, Any]) -> None:
        if not values:  # broken off
            return
        took = time.perf_counter() - self._begin
        duration = f"{took:.1f}s" if took >= 1 else f"{took * 1000:.0f}ms"
        say(" - ".join([self._title, duration, *(f"{name}: {number(value)}" for name, value in values.items())]))


class ProgbarLogger(BuiltIn):
    """Shows the progress bar, also where `verbose` is 0.  Nobody needs it: `verbose=1` shows the same bar."""


def number(value: float) -> str:
    return f"{value:.4g}"


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={number(value)}" for name, value in values.items())
