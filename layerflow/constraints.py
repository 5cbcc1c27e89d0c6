"""Projections of weights after each update.  Formulas and defaults: INVENTORY 3.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerflow import config, registry
from layerflow.errors import ArgumentError
from layerflow.graph import ops

CONSTRAINTS = registry.Names("constraint")


class Constraint(registry.Configurable):
    """Base: override `__call__(w) -> w`, which keeps the shape, written with ops or NumPy."""

    def __call__(self, w: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w).")


def _norm(w: Any, axis: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(w), axis, keepdims=True))


@CONSTRAINTS.register()
class MaxNorm(Constraint):
    """Scales columns (norms along `axis`) down to at most `max_value`."""

    def __init__(self, max_value: float = 2.0, axis: Any = 0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Any:
        norm = _norm(w, self.axis)
        return w * (ops.clip(norm, 0.0, self.max_value) / (config.epsilon() + norm))


@CONSTRAINTS.register()
class UnitNorm(Constraint):
    """Scales columns to norm 1."""

    def __init__(self, axis: Any = 0):
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        return w / (config.epsilon() + _norm(w, self.axis))


@CONSTRAINTS.register()
class NonNeg(Constraint):
    """Negative weights become 0."""

    def __call__(self, w: Any) -> Any:
        return ops.relu(w)


@CONSTRAINTS.register()
class MinMaxNorm(Constraint):
    """Moves the norms of columns into [min_value, max_value], by the fraction `rate` of the way."""

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Any:
        norm = _norm(w, self.axis)
        wanted = self.rate * ops.clip(norm, self.min_value, self.max_value) + (1.0 - self.rate) * norm
        return w * (wanted / (config.epsilon() + norm))


max_norm = registry.factory(MaxNorm)
unit_norm = registry.factory(UnitNorm)
non_neg = registry.factory(NonNeg)
min_max_norm = registry.factory(MinMaxNorm)


def get(identifier: Any) -> Any:
    """The constraint for a name, a Constraint, a function, a {class_name, config} mapping, or None."""
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        return registry.construct(CONSTRAINTS, identifier)
    if isinstance(identifier, str):
        found = registry.custom(identifier) or CONSTRAINTS.get(identifier)
        return found() if isinstance(found, type) else found
    if callable(identifier):
        return identifier
    raise ArgumentError(f"a constraint must be a name, a Constraint or a function, got {identifier!r}.")
