"""Losses by name for `compile`: (y_true, y_pred) -> one value per sample.  Formulas: INVENTORY 3.4.

The training loss is the (weighted) mean of the per-sample values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow import config, registry
from layerflow.graph import ops
from layerflow.weighted_losses import Reduction, as_operand, huber_loss, same_rank

Loss = Callable[..., Any]
LOSSES = registry.Names("loss")
_LARGEST = 3.0e38  # just below the largest float32


def _loss(*aliases: str, name: str | None = None) -> Callable[[Loss], Loss]:
    def register(function: Loss) -> Loss:
        function.__name__ = name or function.__name__
        return LOSSES.add(registry.accepts_camel_case(function), function.__name__, *aliases)

    return register


@_loss("mse", name="mean_squared_error")
def squared_error(y_true: Any, y_pred: Any) -> Any:
    """mean((p - t)**2)"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(ops.square(p - t), -1)


@_loss("mae")
def mean_absolute_error(y_true: Any, y_pred: Any) -> Any:
    """mean(|p - t|)"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(ops.abs(p - t), -1)


@_loss("mape")
def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Any:
    """100 mean(|t - p| / max(|t|, epsilon))"""
    t, p = same_rank(y_true, y_pred)
    return 100.0 * ops.mean(ops.abs((t - p) / ops.clip(ops.abs(t), config.epsilon(), _LARGEST)), -1)


@_loss("msle")
def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Any:
    """mean((log(1 + p) - log(1 + t))**2), both clipped at epsilon from below"""
    t, p = (ops.log1p(ops.clip(x, config.epsilon(), _LARGEST)) for x in same_rank(y_true, y_pred))
    return ops.mean(ops.square(p - t), -1)


@_loss()
def squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(0, 1 - t p)**2), labels -1 and 1"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(ops.square(ops.relu(1.0 - t * p)), -1)


@_loss()
def hinge(y_true: Any, y_pred: Any) -> Any:
    """mean(max(0, 1 - t p)), labels -1 and 1"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(ops.relu(1.0 - t * p), -1)


@_loss()
def categorical_hinge(y_true: Any, y_pred: Any) -> Any:
    """max(0, 1 + max((1 - t) p) - sum(t p))"""
    t = as_operand(y_true)
    return ops.relu(1.0 + ops.max((1.0 - t) * y_pred, -1) - ops.sum(t * y_pred, -1))


@_loss("log_cosh")
def logcosh(y_true: Any, y_pred: Any) -> Any:
    """mean(log(cosh(p - t))), without overflow"""
    t, p = same_rank(y_true, y_pred)
    d = p - t
    return ops.mean(d + ops.softplus(-2.0 * d) - math.log(2.0), -1)


@_loss()
def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Any:
    """mean of e**2 / 2 up to an error e of `delta`, linear beyond"""
    return ops.mean(huber_loss(*same_rank(y_true, y_pred), None, delta, Reduction.NONE), -1)


@_loss()
def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """-sum(t log p); p is divided by its sum first, so that it need not be normalized

    With `label_smoothing` s the labels of n classes are (1 - s) t + s / n (Szegedy et al. 2016).
    """
    t, p = _classes_last(as_operand(y_true), axis), _classes_last(as_operand(y_pred), axis)
    return -ops.sum(_smoothed(t, label_smoothing) * _log_probabilities(p, from_logits), -1)


@_loss()
def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Any:
    """-log of the probability of the class; y_true holds class numbers, [..., 1] or without that axis

    The loss is 0 where the label is `ignore_class`.
    """
    p = _classes_last(as_operand(y_pred), axis)
    labels = class_numbers(y_true, p)
    counted = None if ignore_class is None else ops.not_equal(labels, ignore_class)
    if counted is not None:
        labels = ops.where(counted, labels, 0)
    each = -ops.sum(ops.one_hot(labels, p.shape[-1]) * _log_probabilities(p, from_logits), -1)
    return each if counted is None else ops.where(counted, each, 0.0)


@_loss()
def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """-sum(alpha (1 - p)**gamma t log p) (Lin et al. 2017); `alpha`: a factor, or one for each class"""
    t, p = _classes_last(as_operand(y_true), axis), _classes_last(as_operand(y_pred), axis)
    log_p = _log_probabilities(p, from_logits)
    factor = _power(1.0 - ops.exp(log_p), gamma) * (alpha if isinstance(alpha, float) else np.asarray(alpha, "float32"))
    return -ops.sum(factor * _smoothed(t, label_smoothing) * log_p, -1)


@_loss()
def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Any:
    """(1 - p**q) / q for the probability p of the class that y_true numbers (Zhang and Sabuncu 2018)

    Between the cross-entropy (q near 0) and the absolute error (q near 1), which bears wrong labels better.
    """
    p = as_operand(y_pred)
    chosen = ops.sum(ops.one_hot(class_numbers(y_true, p), p.shape[-1]) * p, -1)
    return (1.0 - _power(chosen, q)) / q


def class_numbers(y_true: Any, y_pred: Any) -> Any:
    """Labels as integers of the shape of y_pred without its last axis."""
    labels = as_operand(y_true)
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, -1)
    return ops.cast(labels, "int32")


def _classes_last(x: Any, axis: int) -> Any:
    """`x` with the axis of the classes at the end."""
    rank = len(x.shape)
    if axis in (-1, rank - 1):
        return x
    return ops.transpose(x, [*(i for i in range(rank) if i != axis % rank), axis % rank])


def _smoothed(t: Any, smoothing: float) -> Any:
    return t * (1.0 - smoothing) + smoothing / t.shape[-1] if smoothing else t


def _power(base: Any, exponent: float) -> Any:
    """base**exponent for a base of at least 0; at 0 a power below 1 would have no gradient."""
    return ops.power(ops.maximum(base, config.epsilon()), exponent)


def _log_probabilities(p: Any, from_logits: bool) -> Any:
    """log p along the last axis: exact where the logits are known, else of p divided by its sum and clipped."""
    logits = _logits("softmax", p, from_logits)
    if logits is not None:
        return ops.log_softmax(logits)
    epsilon = config.epsilon()
    return ops.log(ops.clip(p / ops.sum(p, -1, keepdims=True), epsilon, 1.0 - epsilon))


@_loss("bce")
def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Any:
    """mean(-t log p - (1 - t) log(1 - p)); with `label_smoothing` s the labels are (1 - s) t + s / 2"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(_binary_entropies(_towards_half(t, label_smoothing), p, from_logits), axis)


@_loss()
def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Any:
    """mean((1 - q)**gamma (-log q)) for the probability q of the label's class (Lin et al. 2017)

    With `apply_class_balancing` class 1 has the factor `alpha`, class 0 the factor 1 - alpha.
    """
    t, p = same_rank(y_true, y_pred)
    t = _towards_half(t, label_smoothing)
    each = _binary_entropies(t, p, from_logits)
    p = ops.sigmoid(p) if from_logits else p
    each = each * _power(t * (1.0 - p) + (1.0 - t) * p, gamma)
    if apply_class_balancing:
        each = each * (t * alpha + (1.0 - t) * (1.0 - alpha))
    return ops.mean(each, axis)


def _towards_half(t: Any, smoothing: float) -> Any:
    return t * (1.0 - smoothing) + 0.5 * smoothing if smoothing else t


def _binary_entropies(t: Any, p: Any, from_logits: bool) -> Any:
    """-t log p - (1 - t) log(1 - p) by element."""
    logits = _logits("sigmoid", p, from_logits)
    if logits is not None:
        return ops.sigmoid_cross_entropy(t, logits)
    epsilon = config.epsilon()
    p = ops.clip(p, epsilon, 1.0 - epsilon)
    return -(t * ops.log(p) + (1.0 - t) * ops.log(1.0 - p))


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
    t, p = same_rank(y_true, y_pred)
    return ops.mean(p - t * ops.log(p + config.epsilon()), -1)


@_loss("cosine", "cosine_similarity")
def cosine_proximity(y_true: Any, y_pred: Any) -> Any:
    """-sum(t p) of the vectors normalized to length 1"""
    t, p = (ops.l2_normalize(x, -1, config.epsilon()) for x in same_rank(y_true, y_pred))
    return -ops.sum(t * p, -1)


@_loss()
def dice(y_true: Any, y_pred: Any, axis: Any = None) -> Any:
    """1 - 2 sum(t p) / (sum(t) + sum(p)) over `axis`, by default over everything (Milletari et al. 2016)"""
    t, p = same_rank(y_true, y_pred)
    both = ops.sum(t, axis) + ops.sum(p, axis)
    return 1.0 - 2.0 * ops.sum(t * p, axis) / (both + config.epsilon())


@_loss()
def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Any = None) -> Any:
    """1 - h / (h + alpha sum(t (1 - p)) + beta sum((1 - t) p)) with hits h = sum(t p) (Salehi et al. 2017)"""
    t, p = same_rank(y_true, y_pred)
    hits = ops.sum(t * p, axis)
    missed = alpha * ops.sum(t * (1.0 - p), axis) + beta * ops.sum((1.0 - t) * p, axis)
    return 1.0 - hits / (hits + missed + config.epsilon())
