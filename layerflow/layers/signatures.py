"""What callers may pass: one thing or a list, shapes, dtypes, keywords of `call`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError
from layerflow.layers.topology import UserShape


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def single(values: Sequence[Any]) -> Any:
    """The only element, or the list."""
    return values[0] if len(values) == 1 else list(values)


@functools.cache
def call_parameters(call: Callable) -> tuple[list[str], list[str], bool]:
    """Names of the parameters of `call`, those without default, and whether it takes any keyword."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY, p.KEYWORD_ONLY)]
    required = [
        p.name
        for p in plain
        if p.default is p.empty and p.name not in ("training", "mask") and p.kind is not p.KEYWORD_ONLY
    ]
    return [p.name for p in plain], required, any(p.kind is p.VAR_KEYWORD for p in parameters)


def several(shape: Any) -> bool:
    """True for a list of shapes."""
    return len(shape) > 0 and isinstance(shape[0], (list, tuple))


def is_nested_numbers(inputs: Any) -> bool:
    """True for an input written as (nested) lists of numbers."""
    while isinstance(inputs, (list, tuple)):
        if not inputs:
            return True
        inputs = inputs[0]
        if isinstance(inputs, (int, float, bool, np.generic)):
            return True
    return False


def checked_shape(layer: str, shape: Any) -> UserShape:
    try:
        listed = [shape] if isinstance(shape, (int, np.integer)) else list(shape)
        out = tuple(None if n is None else int(n) for n in listed)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{layer}: {shape!r} is no shape; write a list of numbers, such as input_shape=[784]."
        ) from None
    if any(n is not None and n < 0 for n in out):
        raise ArgumentError(f"{layer}: the shape {list(out)} has a negative extent; use None for an unknown one.")
    return out


def dtype_name(dtype: Any) -> Any:
    """The dtype, also of Keras 3's way to write one ({class_name: DTypePolicy, config: {name}})."""
    return dtype.get("config", {}).get("name") if isinstance(dtype, Mapping) else dtype
