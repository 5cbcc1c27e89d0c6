"""The progress bar of `fit`, `evaluate` and `predict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ProgressBar:
    """A tqdm bar with values behind it, in a terminal and in a notebook.

    With `shown` False it does nothing; with `total` None it counts without an end.
    """

    def __init__(self, shown: bool, title: str, total: int | None, unit: str = " rows"):
        self.shown = shown
        self._bar: Any = None
        if shown:
            # Not at the top: tqdm.auto imports asyncio and looks for a notebook, a tenth of a second for silent runs.
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=title, unit=unit, unit_scale=(total or 0) >= 10_000, dynamic_ncols=True)

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


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in values.items())
