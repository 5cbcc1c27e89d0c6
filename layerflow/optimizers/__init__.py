"""Optimizers with the formulas, argument names and defaults of Keras 3, and the base class of all optimizers.

Those of TF.js are in `lf.train`.  Settings that all of them have are described with `Optimizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerflow import registry
from layerflow.errors import ArgumentError
from layerflow.optimizers import schedules
from layerflow.optimizers.adaptive import Adafactor, Adam, Adamax, AdamW, Lamb, LazyAdam, Nadam
from layerflow.optimizers.base import Optimizer, decayed
from layerflow.optimizers.descent import OPTIMIZERS, SGD, Adadelta, Adagrad, Ftrl, Lion, RMSprop
from layerflow.optimizers.muon import Muon

SparseAdam = LazyAdam  # PyTorch's name

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "LazyAdam",
    "Lion",
    "Muon",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "SparseAdam",
    "decayed",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]


def get(identifier: Any) -> Optimizer:
    """The optimizer for a name (with Keras's defaults) or a {class_name, config} mapping; an Optimizer as it is.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, Mapping):
        return registry.construct(OPTIMIZERS, identifier)
    if isinstance(identifier, str):
        return (registry.custom(identifier) or OPTIMIZERS.get(identifier))()
    raise ArgumentError(
        'an optimizer must be a name such as "adamw" or an object such as lf.optimizers.AdamW(0.001), got '
        f"{identifier!r}."
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """The {class_name, config} mapping of an optimizer, without its state."""
    return registry.serialize_value(optimizer)


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
    """The optimizer of a {class_name, config} mapping; `custom_objects` has classes of yours by name."""
    with registry.custom_objects(custom_objects):
        return get(config)
