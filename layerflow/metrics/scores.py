"""Scores of whole data sets: F scores, R2 and intersections over unions, with the formulas of Keras 3."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow import config, losses, registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.metrics.metric import METRIC_CLASSES, Metric, State
from layerflow.weighted_losses import as_operand, same_rank


def _columns(metric: Metric, shape: tuple[int | None, ...]) -> int:
    if len(shape) != 2 or shape[-1] is None:
        raise ShapeError(f"{metric.name} needs predictions [samples, columns], but they have shape {list(shape)}.")
    return shape[-1]


def _sums(values: Any, weight: Any, axis: int | None = 0) -> Any:
    """Weighted sums over the samples (axis None: over everything), in float64."""
    values = ops.cast(values, "float64")
    return ops.sum(values if weight is None else values * losses.spread(weight, values), axis)


@METRIC_CLASSES.register()
class FBetaScore(Metric):
    """(1 + beta**2) precision recall / (beta**2 precision + recall) of classes, over all batches.

    Args:
        average: None for a score a class, "macro" for their mean, "weighted" for the mean by frequency, "micro" for the
            score of all classes counted together.
        beta: how much more recall counts than precision.
        threshold: predictions above it count as 1; by default the largest of each sample does.

    Raises:
        ArgumentError: an unknown average, beta not above 0, threshold not in (0, 1].
    """

    NAME = "fbeta_score"
    LABELS = "same"
    _COUNTS = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")

    def __init__(self, average: str | None = None, beta: float = 1.0, threshold: float | None = None):
        self._take(average, beta, threshold)

    def _take(self, average: str | None, beta: float, threshold: float | None) -> None:
        name = type(self).__name__
        self.average = None if average is None else registry.option("average", average, ("micro", "macro", "weighted"))
        if beta <= 0:
            raise ArgumentError(f"{name}: beta must be above 0, but is {beta!r}.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ArgumentError(f"{name}: threshold must be above 0 and at most 1, but is {threshold!r}.")
        self.beta, self.threshold = float(beta), threshold

    def initial(self, shape: tuple[int | None, ...]) -> State:
        size = () if self.average == "micro" else (_columns(self, shape),)
        return {name: np.zeros(size) for name in self._COUNTS}

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        t, p = as_operand(y_true), as_operand(y_pred)
        if self.threshold is None:
            largest = ops.greater_equal(p, ops.max(p, -1, keepdims=True))
            found = ops.logical_and(largest, ops.abs(p) > 1e-9)
        else:
            found = p > self.threshold
        t, found = ops.cast(t, "float64"), ops.cast(found, "float64")
        parts = (found * t, found * (1.0 - t), (1.0 - found) * t, t)
        axis = None if self.average == "micro" else 0
        return {
            name: state[name] + _sums(part, sample_weight, axis) for name, part in zip(self._COUNTS, parts, strict=True)
        }

    def value(self, state: State) -> Any:
        tp, fp, fn, frequency = (state[name] for name in self._COUNTS)
        epsilon = config.epsilon()
        precision, recall = tp / (tp + fp + epsilon), tp / (tp + fn + epsilon)
        square = self.beta**2
        score = (1 + square) * precision * recall / (square * precision + recall + epsilon)
        if self.average == "weighted":
            return np.sum(score * frequency / (np.sum(frequency) + epsilon))
        return score if self.average is None else np.mean(score)


@METRIC_CLASSES.register()
class F1Score(FBetaScore):
    """2 precision recall / (precision + recall); arguments as those of `FBetaScore`"""

    NAME = "f1_score"

    def __init__(self, average: str | None = None, threshold: float | None = None):
        self._take(average, 1.0, threshold)


@METRIC_CLASSES.register()
class R2Score(Metric):
    """1 - sum((t - p)**2) / sum((t - mean t)**2) of each column, over all batches.

    Args:
        class_aggregation: "uniform_average", "variance_weighted_average", or None for a score a column.
        num_regressors: number of independent inputs, for the adjusted score; 0 leaves it as it is.

    Raises:
        ArgumentError: an unknown aggregation, or a negative number.
    """

    NAME = "r2_score"
    LABELS = "same"

    def __init__(self, class_aggregation: str | None = "uniform_average", num_regressors: int = 0):
        choices = ("uniform_average", "variance_weighted_average")
        self.class_aggregation = (
            None if class_aggregation is None else registry.option("class_aggregation", class_aggregation, choices)
        )
        self.num_regressors = registry.whole("num_regressors", num_regressors)

    def initial(self, shape: tuple[int | None, ...]) -> State:
        zeros = np.zeros(_columns(self, shape))
        return {"sum": zeros, "squared_sum": zeros, "residual": zeros, "count": zeros, "num_samples": 0.0}

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        t, p = same_rank(y_true, y_pred)
        ones = ops.ones_like(p)
        # Squares in float64: the difference of two large sums is what counts.
        wide = ops.cast(t, "float64")
        return {
            "sum": state["sum"] + _sums(wide, sample_weight),
            "squared_sum": state["squared_sum"] + _sums(wide * wide, sample_weight),
            "residual": state["residual"] + _sums(ops.square(t - p), sample_weight),
            "count": state["count"] + _sums(ones, sample_weight),
            "num_samples": state["num_samples"] + _sums(ones, None, None),
        }

    def value(self, state: State) -> Any:
        total = state["squared_sum"] - state["sum"] * (state["sum"] / state["count"])
        scores = 1.0 - state["residual"] / total
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = np.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = np.sum(total * scores) / np.sum(total)
        return self._adjusted(scores, float(state["num_samples"]))

    def _adjusted(self, score: Any, samples: float) -> Any:
        if not self.num_regressors:
            return score
        spare = samples - self.num_regressors - 1
        if spare <= 0:
            warnings.warn(
                f"{self.name}: {samples:.0f} samples are too few for {self.num_regressors} regressors; "
                "the score is not adjusted.",
                stacklevel=2,
            )
            return score
        return 1.0 - (1.0 - score) * (samples - 1.0) / spare


@METRIC_CLASSES.register()
class IoU(Metric):
    """Mean of intersection over union, tp / (tp + fp + fn), of some classes, over all batches.

    Args:
        num_classes: how many; labels and predictions outside 0 .. num_classes - 1 do not count.
        target_class_ids: the classes to average over.
        ignore_class: label that does not count.
        sparse_y_true, sparse_y_pred: class numbers, if false probabilities (or one-hot labels) along `axis`.
        axis: of the classes.

    Raises:
        ArgumentError: a target class that does not exist.
    """

    NAME = "io_u"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        self._take(num_classes, target_class_ids, ignore_class, (sparse_y_true, sparse_y_pred), axis)

    def _take(
        self, classes: int, targets: Sequence[int], ignored: int | None, sparse: tuple[bool, bool], axis: int
    ) -> None:
        self.num_classes, self.target_class_ids = registry.positive("num_classes", classes), list(targets)
        if not all(0 <= target < classes for target in self.target_class_ids):
            raise ArgumentError(
                f"{type(self).__name__}: target_class_ids {self.target_class_ids} must be from 0 to {classes - 1}."
            )
        self.ignore_class, self.sparse, self.axis = ignored, sparse, axis

    def initial(self, shape: tuple[int | None, ...]) -> State:
        return {"confusion": np.zeros((self.num_classes, self.num_classes))}

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        t, p = (
            ops.cast(x if sparse else ops.argmax(x, self.axis), "int32")
            for x, sparse in zip((as_operand(y_true), as_operand(y_pred)), self.sparse, strict=True)
        )
        t, p = same_rank(t, p)
        n = self.num_classes
        counted = ops.logical_and(_within(t, n), _within(p, n))
        if self.ignore_class is not None:
            counted = ops.logical_and(counted, ops.not_equal(t, self.ignore_class))
        weight = ops.cast(counted, "float64")
        if sample_weight is not None:
            weight = weight * losses.spread(sample_weight, weight)
        place = ops.where(counted, t * n + p, 0)
        found = ops.scatter_add(ops.reshape(place, (-1,)), ops.reshape(weight, (-1,)), n * n)
        return {"confusion": state["confusion"] + ops.reshape(found, (n, n))}

    def value(self, state: State) -> Any:
        matrix = state["confusion"]
        hits = np.diag(matrix)[self.target_class_ids]
        union = (np.sum(matrix, axis=0) + np.sum(matrix, axis=1))[self.target_class_ids] - hits
        present = union > 1e-9
        epsilon = config.epsilon()
        shares = np.where(present, hits / (union + epsilon), 0.0)
        return np.sum(shares) / (np.sum(present) + epsilon)


def _within(labels: Any, classes: int) -> Any:
    return ops.logical_and(ops.greater_equal(labels, 0), labels < classes)


@METRIC_CLASSES.register()
class BinaryIoU(IoU):
    """IoU of the classes 0 and 1; a prediction of at least `threshold` is class 1"""

    NAME = "binary_io_u"

    def __init__(self, target_class_ids: Sequence[int] = (0, 1), threshold: float = 0.5):
        self._take(2, target_class_ids, None, (True, True), -1)
        self.threshold = threshold

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        found = ops.cast(ops.greater_equal(as_operand(y_pred), self.threshold), "int32")
        return super().update(state, y_true, found, sample_weight)


@METRIC_CLASSES.register()
class MeanIoU(IoU):
    """Mean IoU of all classes; arguments as those of `IoU`"""

    NAME = "mean_io_u"

    def __init__(
        self,
        num_classes: int,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        self._take(num_classes, range(num_classes), ignore_class, (sparse_y_true, sparse_y_pred), axis)


@METRIC_CLASSES.register()
class OneHotIoU(IoU):
    """IoU of some classes for one-hot labels and probabilities; arguments as those of `IoU`"""

    NAME = "one_hot_io_u"

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ):
        self._take(num_classes, target_class_ids, ignore_class, (False, sparse_y_pred), axis)


@METRIC_CLASSES.register()
class OneHotMeanIoU(IoU):
    """Mean IoU of all classes for one-hot labels and probabilities"""

    NAME = "one_hot_mean_io_u"

    def __init__(self, num_classes: int, ignore_class: int | None = None, sparse_y_pred: bool = False, axis: int = -1):
        self._take(num_classes, range(num_classes), ignore_class, (False, sparse_y_pred), axis)
