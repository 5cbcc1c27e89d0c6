"""Activation functions by name, with the formulas of TF.js: `hard_sigmoid` is clip(0.2 x + 0.5, 0, 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from layerflow import registry
from layerflow.errors import UnknownNameError
from layerflow.graph import ops

Activation = Callable[[Any], Any]
ACTIVATIONS = registry.Names("activation")


@ACTIVATIONS.register()
def linear(x: Any) -> Any:
    """x"""
    return x


@ACTIVATIONS.register()
def relu(x: Any) -> Any:
    """max(x, 0)"""
    return ops.relu(x)


@ACTIVATIONS.register()
def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)"""
    return ops.relu6(x)


@ACTIVATIONS.register()
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x) - 1)"""
    return ops.elu(x, alpha)


@ACTIVATIONS.register()
def selu(x: Any) -> Any:
    """scale * elu(x, alpha) with the constants of Klambauer et al. 2017"""
    return ops.selu(x)


@ACTIVATIONS.register()
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))"""
    return ops.sigmoid(x)


@ACTIVATIONS.register()
def hard_sigmoid(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1)"""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@ACTIVATIONS.register()
def softplus(x: Any) -> Any:
    """log(1 + exp(x))"""
    return ops.softplus(x)


@ACTIVATIONS.register()
def softsign(x: Any) -> Any:
    """x / (1 + |x|)"""
    return x / (1.0 + ops.abs(x))


@ACTIVATIONS.register()
def tanh(x: Any) -> Any:
    """tanh(x)"""
    return ops.tanh(x)


@ACTIVATIONS.register()
def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along the last axis"""
    return ops.softmax(x, axis)


@ACTIVATIONS.register()
def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x))"""
    return ops.log_softmax(x, axis)


@ACTIVATIONS.register()
def gelu(x: Any) -> Any:
    """x/2 (1 + erf(x / sqrt 2)), exact"""
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


@ACTIVATIONS.register()
def gelu_new(x: Any) -> Any:
    """gelu by its tanh approximation (Hendrycks and Gimpel 2016)"""
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


@ACTIVATIONS.register()
def mish(x: Any) -> Any:
    """x tanh(softplus(x))"""
    return x * ops.tanh(ops.softplus(x))


@ACTIVATIONS.register("silu")
def swish(x: Any) -> Any:
    """x sigmoid(x)"""
    return x * ops.sigmoid(x)


@ACTIVATIONS.register()
def exponential(x: Any) -> Any:
    """exp(x)"""
    return ops.exp(x)


@ACTIVATIONS.register()
def leaky_relu(x: Any, alpha: float = 0.2) -> Any:
    """x where x > 0, else alpha x"""
    return ops.leaky_relu(x, alpha)


def get(identifier: Any) -> Activation:
    """The activation for a name in any spelling, a function, a {class_name, config} mapping, or None (linear).

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, Mapping):
        return registry.construct(ACTIVATIONS, identifier)
    if callable(identifier):
        return identifier
    return registry.custom(identifier) or ACTIVATIONS.get(identifier)


def serialize(function: Activation) -> str:
    """The name of an activation in files (snake_case).

    Raises:
        UnknownNameError: a function that is neither built in nor registered.
    """
    name = name_of(function)
    if name is None:
        called = getattr(function, "__name__", repr(function))
        raise UnknownNameError(
            f"the activation {called!r} has no name to save it by; register it with lf.register_class({called})."
        )
    return name


def name_of(function: Any) -> str | None:
    """The name under which `get` finds this function, or None."""
    name = getattr(function, "__name__", None)
    if name is None:
        return None
    found = registry.custom(name) or (ACTIVATIONS.get(name) if name in ACTIVATIONS else None)
    return name if found is function else None


registry.FUNCTION_NAMES.append(name_of)
