"""Losses by name for `compile`, (y_true, y_pred) -> one value per sample, and the weighted losses of the Core API.

The training loss is the (weighted) mean of the per-sample values.  `mean_squared_error` here is the Core API's, which
gives a scalar; the one of `compile` is `squared_error`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from layerflow import config, registry
from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.weighted_losses import (
    Reduction,
    absolute_difference,
    as_operand,
    compute_weighted_loss,
    cosine_distance,
    hinge_loss,
    huber_loss,
    log_loss,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

__all__ = [
    "Reduction",
    "absolute_difference",
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_hinge",
    "compute_weighted_loss",
    "cosine_distance",
    "cosine_proximity",
    "get",
    "hinge",
    "hinge_loss",
    "huber",
    "huber_loss",
    "is_builtin",
    "kullback_leibler_divergence",
    "log_loss",
    "logcosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "name_of",
    "poisson",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_categorical_crossentropy",
    "squared_error",
    "squared_hinge",
]

Loss = Callable[[Any, Any], Any]
LOSSES = registry.Names("loss")
_LARGEST = 3.0e38  # just below the largest float32


def _loss(*aliases: str, name: str | None = None) -> Callable[[Loss], Loss]:
    def register(function: Loss) -> Loss:
        function.__name__ = name or function.__name__
        return LOSSES.add(function, function.__name__, *aliases)

    return register


@_loss("mse", name="mean_squared_error")
def squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean((p - t)**2)"""
    return ops.mean(ops.square(as_operand(y_pred) - y_true), -1)


@_loss("mae")
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """mean(|p - t|)"""
    return ops.mean(ops.abs(as_operand(y_pred) - y_true), -1)


@_loss("mape")
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """100 mean(|t - p| / max(|t|, epsilon))"""
    t = as_operand(y_true)
    return 100.0 * ops.mean(ops.abs((t - y_pred) / ops.clip(ops.abs(t), config.epsilon(), _LARGEST)), -1)


@_loss("msle")
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """mean((log(1 + p) - log(1 + t))**2), both clipped at epsilon from below"""
    t, p = (ops.log1p(ops.clip(as_operand(x), config.epsilon(), _LARGEST)) for x in (y_true, y_pred))
    return ops.mean(ops.square(p - t), -1)


@_loss()
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(0, 1 - t p)**2), labels -1 and 1"""
    return ops.mean(ops.square(ops.relu(1.0 - as_operand(y_true) * y_pred)), -1)


@_loss()
def hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(0, 1 - t p)), labels -1 and 1"""
    return ops.mean(ops.relu(1.0 - as_operand(y_true) * y_pred), -1)


@_loss()
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """max(0, 1 + max((1 - t) p) - sum(t p))"""
    t = as_operand(y_true)
    return ops.relu(1.0 + ops.max((1.0 - t) * y_pred, -1) - ops.sum(t * y_pred, -1))


@_loss("log_cosh")
def logcosh(y_true: Any, y_pred: Any) -> Any:
    """mean(log(cosh(p - t))), without overflow"""
    d = as_operand(y_pred) - y_true
    return ops.mean(d + ops.softplus(-2.0 * d) - math.log(2.0), -1)


@_loss()
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """mean of e**2 / 2 up to an error e of `delta`, linear beyond"""
    return ops.mean(huber_loss(y_true, y_pred, None, delta, Reduction.NONE), -1)


@_loss()
def categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """-sum(t log p); p is divided by its sum first, so that it need not be normalized"""
    t, p = as_operand(y_true), as_operand(y_pred)
    logits = _logits("softmax", p, from_logits)
    if logits is not None:
        return ops.softmax_cross_entropy(t, logits)
    epsilon = config.epsilon()
    p = ops.clip(p / ops.sum(p, -1, keepdims=True), epsilon, 1.0 - epsilon)
    return -ops.sum(t * ops.log(p), -1)


@_loss()
def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """-log of the probability of the class; y_true holds class numbers, [..., 1] or without that axis"""
    p = as_operand(y_pred)
    labels = class_numbers(y_true, p)
    logits = _logits("softmax", p, from_logits)
    if logits is not None:
        return ops.sparse_softmax_cross_entropy(labels, logits)
    return categorical_crossentropy(ops.one_hot(labels, p.shape[-1]), p)


def class_numbers(y_true: Any, y_pred: Any) -> Any:
    """Labels as integers of the shape of y_pred without its last axis."""
    labels = as_operand(y_true)
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, -1)
    return ops.cast(labels, "int32")


@_loss("bce")
def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Any:
    """mean(-t log p - (1 - t) log(1 - p))"""
    t, p = as_operand(y_true), as_operand(y_pred)
    logits = _logits("sigmoid", p, from_logits)
    if logits is not None:
        return ops.mean(ops.sigmoid_cross_entropy(t, logits), -1)
    epsilon = config.epsilon()
    p = ops.clip(p, epsilon, 1.0 - epsilon)
    return -ops.mean(t * ops.log(p) + (1.0 - t) * ops.log(1.0 - p), -1)


def _logits(kind: str, p: Any, from_logits: bool) -> Any:
    """The logits of the probabilities `p` where they are known: then the loss is exact for any of them."""
    if from_logits:
        return p
    found = ops.logits_of(p)
    return found[1] if found is not None and found[0] == kind else None


@_loss("kld", "kl_divergence")
def kullback_leibler_divergence(y_true: Any, y_pred: Any) -> Any:
    """sum(t log(t / p)), both clipped to [epsilon, 1] inside the logarithm"""
    t = as_operand(y_true)
    epsilon = config.epsilon()
    ratio = ops.clip(t, epsilon, 1.0) / ops.clip(as_operand(y_pred), epsilon, 1.0)
    return ops.sum(t * ops.log(ratio), -1)


@_loss()
def poisson(y_true: Any, y_pred: Any) -> Any:
    """mean(p - t log(p + epsilon))"""
    p = as_operand(y_pred)
    return ops.mean(p - y_true * ops.log(p + config.epsilon()), -1)


@_loss("cosine", "cosine_similarity")
def cosine_proximity(y_true: Any, y_pred: Any) -> Any:
    """-sum(t p) of the vectors normalized to length 1"""
    t, p = (ops.l2_normalize(as_operand(x), -1, config.epsilon()) for x in (y_true, y_pred))
    return -ops.sum(t * p, -1)


def _from_logits(loss: Callable) -> Loss:
    def per_sample(y_true: Any, logits: Any) -> Any:
        return loss(y_true, logits, reduction=Reduction.NONE)

    per_sample.__name__ = loss.__name__
    return per_sample


# A Core loss given to `compile` means its per-sample values there, so that sample weights work.
_CORE: dict[Any, Loss] = {
    mean_squared_error: squared_error,
    absolute_difference: mean_absolute_error,
    huber_loss: huber,
    **{f: _from_logits(f) for f in (softmax_cross_entropy, sigmoid_cross_entropy, hinge_loss, log_loss)},
}


def get(identifier: Any) -> Loss:
    """The loss for a name (any spelling, or a short form such as "mse") or a function (y_true, y_pred) -> loss.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, str):
        return registry.custom(identifier) or LOSSES.get(identifier)
    if callable(identifier):
        return _CORE.get(identifier, identifier)
    raise ArgumentError(
        f'a loss must be a name such as "meanSquaredError" or a function (y_true, y_pred) -> loss, got {identifier!r}.'
    )


def is_builtin(function: Any) -> bool:
    """True for a loss of ours, whose labels have the shape of the output (or are class numbers)."""
    return name_of(function) is not None or function in _CORE.values()


def name_of(function: Any) -> str | None:
    """The name under which `get` finds this function, or None."""
    name = getattr(function, "__name__", "")
    return name if name in LOSSES and LOSSES.get(name) is function else None
