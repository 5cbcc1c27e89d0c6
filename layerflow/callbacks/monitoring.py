"""Watching one value of the logs: which direction is better, whether it got better, what to say when it is missing."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

from layerflow import registry
from layerflow.callbacks.base import BuiltIn
from layerflow.errors import ArgumentError, nearest

# Metrics of which more is better; with any prefix (val_, the name of an output) and with numbers behind.
_LARGER = re.compile(
    r"(acc|accuracy|auc|precision|recall|f1_score|fbeta_score|f_score|iou|mean_io_u|r2|r2_score|sensitivity_\w+|"
    r"specificity_\w+|precision_at_recall|recall_at_precision|cosine_similarity|true_positives|true_negatives|"
    r"correlation)(_\d+)?$"
)


def larger_is_better(name: str) -> bool:
    """Whether a metric of this name is one to make large, as `mode="auto"` guesses."""
    return "acc" in name or _LARGER.search(registry.snake_case(name)) is not None


def finite_number(owner: str, name: str, value: Any) -> float:
    """The value of an argument as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ArgumentError(f"{owner}: {name} must be a finite number, but is {value!r}.")
    return float(value)


class Monitor(BuiltIn):
    """Base of callbacks that watch `logs[monitor]`.

    Args:
        monitor: name of the value.
        mode: "min" or "max": which is better; "auto" takes "max" for accuracies, AUC, precision, recall and the like.
        min_delta: a change below it is no improvement; its sign does not matter.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        owner = type(self).__name__
        if not isinstance(monitor, str) or not monitor:
            raise ArgumentError(f'{owner}: monitor must be a name such as "val_loss", but is {monitor!r}.')
        self.monitor = monitor
        self.mode = registry.option(f"{owner}: mode", mode, ("auto", "min", "max"))
        self.min_delta = abs(finite_number(owner, "min_delta", min_delta))
        larger = self.mode == "max" or (self.mode == "auto" and larger_is_better(monitor))
        self._sign = -1.0 if larger else 1.0
        self._warned = False

    @property
    def worst(self) -> float:
        """Any value is better than this."""
        return math.inf * self._sign

    def better(self, value: float, best: float) -> bool:
        """Whether `value` improves on `best` by more than `min_delta`; NaN never does."""
        return value * self._sign + self.min_delta < best * self._sign

    def watched(self, logs: Mapping[str, Any]) -> float | None:
        """The value, or None where there is none: then a warning says which there are, once."""
        value = logs.get(self.monitor)
        if value is not None:
            return float(value)
        sometimes = self.params.get("do_validation") and self.params.get("validation_freq", 1) != 1
        if not self._warned and not (self.monitor.startswith("val_") and sometimes):
            self._warned = True
            known = [str(name) for name in logs if name not in ("batch", "size")]
            hint = nearest(self.monitor, known) if known else " There are no values yet."
            if self.monitor.startswith("val_") and not self.params.get("do_validation"):
                hint = f" Give fit validation_data or validation_split, or monitor one of: {', '.join(known)}."
            warnings.warn(f'{type(self).__name__}: there is no "{self.monitor}" to monitor.{hint}', stacklevel=2)
        return None
