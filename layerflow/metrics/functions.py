"""Metrics as functions: (y_true, y_pred) -> a value per sample or a scalar.  Formulas and keys: INVENTORY 3.5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from layerflow import losses, registry
from layerflow.errors import ArgumentError, UnknownNameError
from layerflow.graph import ops
from layerflow.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
    squared_error,
)
from layerflow.weighted_losses import as_operand, same_rank

Metric = Callable[..., Any]
METRICS = registry.Names("metric")
mean_squared_error = squared_error
_ACCURACY = ("accuracy", "acc")
_CROSSENTROPY = ("crossentropy", "ce")


def _float(condition: Any) -> Any:
    return ops.cast(condition, "float32")


@METRICS.register()
def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Any:
    """Share of t == (p > 0.5) along the last axis"""
    t, p = same_rank(y_true, y_pred)
    return ops.mean(_float(ops.equal(t, _float(p > threshold))), -1)


def exact_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where p == t"""
    t, p = same_rank(y_true, y_pred)
    return _float(ops.equal(t, p))


@METRICS.register()
def categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest of t and of p are at the same place"""
    return _float(ops.equal(ops.argmax(as_operand(y_true), -1), ops.argmax(as_operand(y_pred), -1)))


@METRICS.register()
def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Any:
    """1 where the largest of p is at the class number t"""
    p = as_operand(y_pred)
    return _float(ops.equal(losses.class_numbers(y_true, p), ops.argmax(p, -1)))


@METRICS.register()
def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Any:
    """1 where fewer than k of p are larger than that of the class where t is largest"""
    return _among_first(ops.argmax(as_operand(y_true), -1), as_operand(y_pred), k)


@METRICS.register()
def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Any:
    """1 where fewer than k of p are larger than that of the class t

    With `from_sorted_ids` p holds class numbers, the likeliest first.
    """
    p = as_operand(y_pred)
    labels = losses.class_numbers(y_true, p)
    if from_sorted_ids:
        first = ops.cast(p[..., :k], "int32")
        return _float(ops.any(ops.equal(first, ops.expand_dims(labels, -1)), -1))
    return _among_first(labels, p, k)


def _among_first(labels: Any, p: Any, k: int) -> Any:
    own = ops.sum(ops.where(ops.equal(ops.one_hot(labels, p.shape[-1]), 1.0), p, 0.0), -1, keepdims=True)
    return _float(ops.sum(_float(p > own), -1) < k)


def _confusion(y_true: Any, y_pred: Any, true_value: float, predicted: float) -> Any:
    both = ops.logical_and(ops.equal(as_operand(y_true), true_value), ops.equal(as_operand(y_pred), predicted))
    return ops.sum(_float(both))


def _ratio(a: Any, b: Any) -> Any:
    """a / (a + b), 0 if both are 0."""
    return a / ops.maximum(a + b, 1.0)


@METRICS.register()
def precision(y_true: Any, y_pred: Any) -> Any:
    """True positives among the predictions that are exactly 1, over the whole batch"""
    return _ratio(_confusion(y_true, y_pred, 1.0, 1.0), _confusion(y_true, y_pred, 0.0, 1.0))


@METRICS.register()
def recall(y_true: Any, y_pred: Any) -> Any:
    """True positives among the labels that are 1, over the whole batch"""
    return _ratio(_confusion(y_true, y_pred, 1.0, 1.0), _confusion(y_true, y_pred, 1.0, 0.0))


@METRICS.register()
def r2_score(y_true: Any, y_pred: Any) -> Any:
    """1 - sum((t - p)**2) / sum((t - mean t)**2), over the whole batch"""
    t = as_operand(y_true)
    return 1.0 - ops.sum(ops.square(t - y_pred)) / ops.sum(ops.square(t - ops.mean(t)))


def _by_loss(loss: Any, output_shape: Sequence[int | None]) -> str:
    if output_shape[-1] == 1 or losses.function_of(loss) in (binary_crossentropy, losses.binary_focal_crossentropy):
        return "binary"
    return "sparse" if losses.takes_class_numbers(loss) else "categorical"


def accuracy_for(loss: Any, output_shape: Sequence[int | None]) -> Metric:
    """What "accuracy" means for an output of this shape trained with this loss."""
    kinds = {"binary": binary_accuracy, "sparse": sparse_categorical_accuracy, "categorical": categorical_accuracy}
    return kinds[_by_loss(loss, output_shape)]


def _crossentropy_for(loss: Any, output_shape: Sequence[int | None]) -> Metric:
    kinds = {
        "binary": binary_crossentropy,
        "sparse": sparse_categorical_crossentropy,
        "categorical": categorical_crossentropy,
    }
    return kinds[_by_loss(loss, output_shape)]


def get(identifier: Any, loss: Any = None, output_shape: Sequence[int | None] = (None, None)) -> Metric:
    """The metric for a name or a function (y_true, y_pred) -> score.

    Args:
        identifier: a metric, any loss name, "accuracy" or "crossentropy"; the last two depend on:
        loss: the loss function of the output, or its name.
        output_shape: shape of the output, with the batch.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if not isinstance(identifier, str):
        if callable(identifier):
            return losses.get(identifier)
        raise ArgumentError(
            f'a metric must be a name such as "accuracy" or a function (y_true, y_pred) -> score, got {identifier!r}.'
        )
    loss = losses.get(loss) if isinstance(loss, str) else loss
    folded = registry.fold(identifier)
    if folded in _ACCURACY:
        return accuracy_for(loss, output_shape)
    if folded in _CROSSENTROPY:
        return _crossentropy_for(loss, output_shape)
    found = registry.custom(identifier)
    if found is not None:
        return found
    for names in (METRICS, losses.LOSSES):
        if identifier in names:
            return names.get(identifier)
    raise UnknownNameError.of(
        "metric", identifier, [*METRICS.names(), *losses.LOSSES.names(), "accuracy", "mse", "mae", "mape"]
    )


def key(identifier: Any) -> str:
    """The name of a metric in logs: `acc`, `ce`, the string as written, or the name of the function or object."""
    if isinstance(identifier, str):
        folded = registry.fold(identifier)
        return "acc" if folded in _ACCURACY else "ce" if folded in _CROSSENTROPY else identifier
    return getattr(identifier, "name", None) or getattr(identifier, "__name__", None) or type(identifier).__name__
