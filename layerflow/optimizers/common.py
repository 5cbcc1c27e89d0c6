"""Settings that every optimizer has, as in Keras 3: weight decay, clipping, averages of weights, accumulation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError
from layerflow.graph.variable import Variable

DEFAULTS: dict[str, Any] = {
    "name": None,
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "gradient_accumulation_steps": None,
}
CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


def number(owner: Any, name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """The value of an argument, if it is a number between `least` and `most`.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ArgumentError(f"{type(owner).__name__}: {name} must be a number, got {value!r}.")
    if not least <= value <= most:
        limits = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise ArgumentError(f"{type(owner).__name__}: {name} must be {limits}, got {value!r}.")
    return float(value)


def check(optimizer: Any) -> None:
    """Refuses settings that make no sense.

    Raises:
        ArgumentError: names the setting.
    """
    for name in ("weight_decay", *CLIPPING):
        value = getattr(optimizer, name)
        if value is not None:
            number(optimizer, name, value, 0.0)
    given = [name for name in CLIPPING if getattr(optimizer, name) is not None]
    if len(given) > 1:
        raise ArgumentError(
            f"{type(optimizer).__name__}: only one of clipnorm, global_clipnorm and clipvalue may be given, got "
            f"{', '.join(f'{name}={getattr(optimizer, name)}' for name in given)}."
        )
    number(optimizer, "ema_momentum", optimizer.ema_momentum, 0.0, 1.0)
    prefix = f"{type(optimizer).__name__}: "
    if optimizer.ema_overwrite_frequency is not None:
        registry.whole(f"{prefix}ema_overwrite_frequency", optimizer.ema_overwrite_frequency, 1)
    if optimizer.gradient_accumulation_steps is not None:
        registry.whole(f"{prefix}gradient_accumulation_steps", optimizer.gradient_accumulation_steps, 2)


class Exclusions:
    """Weights that do not decay: given ones, and those whose name contains one of the regular expressions."""

    def __init__(self, variables: Iterable[Variable] = (), patterns: Iterable[str] = ()):
        self.variables = list(variables)
        self.patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for variable in self.variables:
            if not isinstance(variable, Variable):
                raise ArgumentError(f"exclude_from_weight_decay: var_list must hold variables, got {variable!r}.")

    def __contains__(self, variable: Variable) -> bool:
        return any(v is variable for v in self.variables) or any(re.search(p, variable.name) for p in self.patterns)

    def names(self) -> list[str]:
        """Patterns that exclude the same weights, for files."""
        return [*self.patterns, *(f"^{re.escape(v.name)}$" for v in self.variables)]
