"""The losses of the Core API (`tf.losses.*`): labels and predictions to one weighted number."""

from __future__ import annotations

import enum
import math
from typing import Any

from layerflow.errors import ShapeError
from layerflow.graph import ops
from layerflow.graph.tensor import tensor
from layerflow.registry import accepts_camel_case, option


class Reduction(str, enum.Enum):
    """How a tensor of losses becomes the result."""

    NONE = "none"
    MEAN = "mean"
    SUM = "sum"
    SUM_BY_NONZERO_WEIGHTS = "sum_by_nonzero_weights"


def as_operand(x: Any) -> Any:
    """`x`, or its tensor if it is a list or a number."""
    return x if hasattr(x, "shape") else tensor(x)


def same_rank(a: Any, b: Any) -> tuple[Any, Any]:
    """Both operands; where one has a last axis of 1 that the other lacks, both have it, or from rank 3 neither."""
    a, b = as_operand(a), as_operand(b)
    if len(a.shape) == len(b.shape) + 1 and a.shape[-1] == 1:
        return (a, ops.expand_dims(b, -1)) if len(b.shape) == 1 else (ops.squeeze(a, -1), b)
    if len(b.shape) == len(a.shape) + 1 and b.shape[-1] == 1:
        return (ops.expand_dims(a, -1), b) if len(a.shape) == 1 else (a, ops.squeeze(b, -1))
    return a, b


def _pair(name: str, labels: Any, predictions: Any) -> tuple[Any, Any]:
    labels, predictions = as_operand(labels), as_operand(predictions)
    if tuple(labels.shape) != tuple(predictions.shape):
        raise ShapeError(
            f"{name}: labels of shape {list(labels.shape)}, predictions of {list(predictions.shape)} must be equal."
        )
    return labels, predictions


def count(shape: Any, x: Any) -> Any:
    """Number of elements of a shape: a number, or a scalar symbol where it holds the batch."""
    known = math.prod(n for n in shape if n is not None)
    unknown = [axis for axis, n in enumerate(shape) if n is None]
    total: Any = float(known)
    for axis in unknown:
        total = total * ops.extent(x, axis)
    return total


@accepts_camel_case
def compute_weighted_loss(losses: Any, weights: Any = None, reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Any:
    """Weights `losses` and reduces them.

    Args:
        losses: tensor of any shape.
        weights: factors that broadcast to it.
        reduction: a Reduction or its name.
    """
    losses = as_operand(losses)
    name = option("reduction", getattr(reduction, "value", reduction), [r.value for r in Reduction])
    weights = None if weights is None else as_operand(weights)
    weighted = losses if weights is None else losses * weights
    if name == "none":
        return weighted
    if name == "sum":
        return ops.sum(weighted)
    if weights is None:
        return ops.mean(losses)
    if name == "mean":
        repeats = count(losses.shape, losses) / count(weights.shape, weights)
        return ops.sum(weighted) / (ops.sum(weights) * repeats)
    broadcast = weights * ops.ones_like(losses)
    nonzero = ops.sum(ops.cast(ops.not_equal(broadcast, 0.0), broadcast.dtype))
    # All weights zero: TF.js divides 0 by 0 here; the loss is 0.
    return ops.sum(weighted) / ops.maximum(nonzero, 1.0)


@accepts_camel_case
def absolute_difference(
    labels: Any, predictions: Any, weights: Any = None, reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Any:
    """|labels - predictions|"""
    t, p = _pair("absolute_difference", labels, predictions)
    return compute_weighted_loss(ops.abs(t - p), weights, reduction)


@accepts_camel_case
def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = None, reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Any:
    """(labels - predictions)**2"""
    t, p = _pair("mean_squared_error", labels, predictions)
    return compute_weighted_loss(ops.square(t - p), weights, reduction)


@accepts_camel_case
def cosine_distance(
    labels: Any, predictions: Any, axis: int, weights: Any = None, reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Any:
    """1 - sum(labels * predictions) along `axis`; both must be normalized."""
    t, p = _pair("cosine_distance", labels, predictions)
    return compute_weighted_loss(1.0 - ops.sum(t * p, axis, keepdims=True), weights, reduction)


@accepts_camel_case
def hinge_loss(
    labels: Any, predictions: Any, weights: Any = None, reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS
) -> Any:
    """max(0, 1 - t p) for labels 0 and 1, which count as t = -1 and 1."""
    t, p = _pair("hinge_loss", labels, predictions)
    return compute_weighted_loss(ops.relu(1.0 - (2.0 * t - 1.0) * p), weights, reduction)


@accepts_camel_case
def huber_loss(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    delta: float = 1.0,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """e**2 / 2 up to an error e of `delta`, linear beyond (Huber 1964)."""
    t, p = _pair("huber_loss", labels, predictions)
    error = ops.abs(p - t)
    small = ops.minimum(error, delta)
    return compute_weighted_loss(0.5 * ops.square(small) + delta * (error - small), weights, reduction)


@accepts_camel_case
def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    epsilon: float = 1e-7,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """-t log(p + epsilon) - (1 - t) log(1 - p + epsilon)"""
    t, p = _pair("log_loss", labels, predictions)
    losses = -t * ops.log(p + epsilon) - (1.0 - t) * ops.log(1.0 - p + epsilon)
    return compute_weighted_loss(losses, weights, reduction)


@accepts_camel_case
def sigmoid_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = None,
    label_smoothing: float = 0.0,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of sigmoid(logits) with labels in [0, 1], per element."""
    t, x = _pair("sigmoid_cross_entropy", labels, logits)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return compute_weighted_loss(ops.sigmoid_cross_entropy(t, x), weights, reduction)


@accepts_camel_case
def softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = None,
    label_smoothing: float = 0.0,
    reduction: Any = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Cross-entropy of softmax(logits) along the last axis with one-hot (or soft) labels.

    >>> lf.train.sgd(0.1).minimize(lambda: lf.losses.softmax_cross_entropy(ys, net(xs)))
    """
    t, x = _pair("softmax_cross_entropy", labels, logits)
    if label_smoothing:
        t = t * (1.0 - label_smoothing) + label_smoothing / t.shape[-1]
    return compute_weighted_loss(ops.softmax_cross_entropy(t, x), weights, reduction)
