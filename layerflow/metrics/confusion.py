"""Counts of true and false positives and negatives at thresholds, and the metrics made of them (as Keras 3 has them).

A state holds histograms: entry b is the weight of the positives (negatives) above exactly b of the sorted thresholds.
What is above threshold i is the sum from i + 1 on, taken when the value is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow import losses
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.metrics.metric import METRIC_CLASSES, Metric, State
from layerflow.metrics.ratios import ratio
from layerflow.weighted_losses import same_rank

NEVER = -1e10  # predictions that are not among the k largest


def even_thresholds(count: int) -> np.ndarray:
    """`count` numbers from 0 to 1."""
    return np.arange(count) / (count - 1) if count > 1 else np.array([0.5])


def checked_thresholds(owner: str, given: Any, default: float) -> list[float]:
    """The thresholds as a list.

    Raises:
        ArgumentError: one of them is not in [0, 1].
    """
    if given is None:
        return [default]
    found = [float(t) for t in np.atleast_1d(np.asarray(given, np.float64))]
    if any(not 0 <= t <= 1 for t in found):
        raise ArgumentError(f"{owner}: thresholds must be between 0 and 1, but are {found}.")
    return found


def is_even(thresholds: np.ndarray) -> bool:
    """Whether sorted thresholds, at least three, lie evenly from 0 to 1."""
    count = len(thresholds)
    return count >= 3 and bool(np.allclose(thresholds, even_thresholds(count), atol=1e-7))


def buckets(p: Any, thresholds: np.ndarray) -> Any:
    """How many of the sorted thresholds each prediction is above, int32."""
    count = len(thresholds)
    if count == 1:
        return ops.cast(p > np.float32(thresholds[0]).item(), "int32")
    if is_even(thresholds):
        # Those of AUC begin just below 0, so that every prediction is above the first.
        first = 1.0 if thresholds[0] < 0 else 0.0
        scaled = ops.ceil(ops.clip(p, 0.0, 1.0) * float(count - 1))
        return ops.cast(ops.maximum(scaled, first), "int32")
    above = ops.expand_dims(p, -1) > thresholds.astype(np.float32)
    return ops.sum(ops.cast(above, "int32"), -1)


class Histograms(Metric):
    """Base: weights of positives and negatives by the thresholds that they are above."""

    thresholds: np.ndarray  # sorted
    class_id: int | None = None
    top_k: int | None = None
    LABELS = "same"

    def initial(self, shape: tuple[int | None, ...]) -> State:
        zeros = np.zeros(len(self.thresholds) + 1)
        return {"positives": zeros, "negatives": zeros}

    def prepared(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Labels as 0 and 1, predictions, and weights of their shape (or None); only those of `class_id`."""
        t, p = same_rank(y_true, y_pred)
        if self.top_k is not None:
            p = _largest(p, self.top_k)
        if self.class_id is not None:
            if len(p.shape) < 2:
                raise ShapeError(f"{self.name}: class_id needs predictions [samples, classes], not one axis.")
            t, p = t[..., self.class_id : self.class_id + 1], p[..., self.class_id : self.class_id + 1]
        weight = None if sample_weight is None else losses.spread(sample_weight, p) * ops.ones_like(p)
        return ops.cast(ops.not_equal(t, 0), "float64"), p, weight

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        t, p, weight = self.prepared(y_true, y_pred, sample_weight)
        place = ops.reshape(buckets(p, self.thresholds), (-1,))
        positive, negative = t, 1.0 - t
        if weight is not None:
            positive, negative = positive * weight, negative * weight
        return {
            "positives": state["positives"] + self._counts(place, ops.reshape(positive, (-1,))),
            "negatives": state["negatives"] + self._counts(place, ops.reshape(negative, (-1,))),
        }

    def _counts(self, place: Any, weight: Any) -> Any:
        count = len(self.thresholds) + 1
        if count == 2:
            above = ops.sum(weight * ops.cast(place, "float64"))
            return ops.stack([ops.sum(weight) - above, above])
        return ops.scatter_add(place, weight, count)

    def counts(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """True and false positives, false and true negatives at each of the sorted thresholds (first axis)."""
        above = [np.cumsum(state[name][::-1], axis=0)[::-1][1:] for name in ("positives", "negatives")]
        sums = [np.sum(state[name], axis=0) for name in ("positives", "negatives")]
        (tp, fp), (all_positive, all_negative) = above, sums
        return tp, fp, all_positive - tp, all_negative - fp


def _largest(p: Any, k: int) -> Any:
    """`p` where it is among the k largest along the last axis (of equal ones the first), else a very small number."""
    a, b = ops.expand_dims(p, -1), ops.expand_dims(p, -2)
    classes = np.arange(p.shape[-1])
    before = classes[None, :] < classes[:, None]
    larger = ops.logical_or(b > a, ops.logical_and(ops.equal(b, a), before))
    return ops.where(ops.sum(ops.cast(larger, "int32"), -1) < k, p, NEVER)


class _AtThresholds(Histograms):
    """Base: thresholds in the order in which they were given; a single one gives a single value."""

    def _take(self, thresholds: Sequence[float]) -> None:
        self._order = np.argsort(thresholds, kind="stable")
        self.thresholds = np.asarray(thresholds, np.float64)[self._order]

    def given_order(self, values: np.ndarray) -> Any:
        out = np.empty_like(values)
        out[self._order] = values
        return out[0] if len(out) == 1 else out


class _Count(_AtThresholds):
    AT = 0  # of `counts`

    def __init__(self, thresholds: Any = None):
        self._take(checked_thresholds(type(self).__name__, thresholds, 0.5))

    def value(self, state: State) -> Any:
        return self.given_order(self.counts(state)[self.AT])


@METRIC_CLASSES.register()
class TruePositives(_Count):
    """Weight of the predictions above each of the `thresholds` (0.5) whose label is 1"""

    AT = 0


@METRIC_CLASSES.register()
class FalsePositives(_Count):
    """Weight of the predictions above each of the `thresholds` (0.5) whose label is 0"""

    AT = 1


@METRIC_CLASSES.register()
class FalseNegatives(_Count):
    """Weight of the predictions up to each of the `thresholds` (0.5) whose label is 1"""

    AT = 2


@METRIC_CLASSES.register()
class TrueNegatives(_Count):
    """Weight of the predictions up to each of the `thresholds` (0.5) whose label is 0"""

    AT = 3


class _Share(_AtThresholds):
    MISSED = 1  # of `counts`: what is compared with the true positives

    def __init__(self, thresholds: Any = None, top_k: int | None = None, class_id: int | None = None):
        self._take(checked_thresholds(type(self).__name__, thresholds, 0.5 if top_k is None else NEVER))
        self.top_k, self.class_id = top_k, class_id

    def value(self, state: State) -> Any:
        found = self.counts(state)
        return self.given_order(ratio(found[0], found[0] + found[self.MISSED]))


@METRIC_CLASSES.register()
class Precision(_Share):
    """True positives among what is predicted, over all batches.

    Args:
        thresholds: a prediction above it counts as 1; a number or a list, each in [0, 1], 0.5 by default.
        top_k: only the k largest predictions of a sample count as 1.
        class_id: look at this class only.
    """

    MISSED = 1


@METRIC_CLASSES.register()
class Recall(_Share):
    """True positives among the labels 1, over all batches; arguments as those of `Precision`"""

    MISSED = 2


class _AtLimit(Histograms):
    """Base: the best of one share where another one is at least a limit."""

    def _take(self, limit: str, value: float, num_thresholds: int, class_id: int | None) -> None:
        if not 0 <= value <= 1:
            raise ArgumentError(f"{type(self).__name__}: {limit} must be between 0 and 1, but is {value!r}.")
        if num_thresholds < 1:
            raise ArgumentError(f"{type(self).__name__}: num_thresholds must be at least 1, but is {num_thresholds!r}.")
        self.limit, self.class_id = value, class_id
        self.thresholds = even_thresholds(num_thresholds)

    def shares(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        """What is limited, and what is wanted."""
        raise NotImplementedError

    def value(self, state: State) -> Any:
        limited, wanted = self.shares(*self.counts(state))
        return np.max(np.where(limited >= self.limit, wanted, 0.0), initial=0.0)


@METRIC_CLASSES.register()
class SensitivityAtSpecificity(_AtLimit):
    """Largest sensitivity tp / (tp + fn) where the specificity tn / (tn + fp) is at least `specificity`"""

    def __init__(self, specificity: float, num_thresholds: int = 200, class_id: int | None = None):
        self._take("specificity", specificity, num_thresholds, class_id)

    def shares(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return ratio(tn, tn + fp), ratio(tp, tp + fn)


@METRIC_CLASSES.register()
class SpecificityAtSensitivity(_AtLimit):
    """Largest specificity tn / (tn + fp) where the sensitivity tp / (tp + fn) is at least `sensitivity`"""

    def __init__(self, sensitivity: float, num_thresholds: int = 200, class_id: int | None = None):
        self._take("sensitivity", sensitivity, num_thresholds, class_id)

    def shares(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return ratio(tp, tp + fn), ratio(tn, tn + fp)


@METRIC_CLASSES.register()
class PrecisionAtRecall(_AtLimit):
    """Largest precision where the recall is at least `recall`"""

    def __init__(self, recall: float, num_thresholds: int = 200, class_id: int | None = None):
        self._take("recall", recall, num_thresholds, class_id)

    def shares(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return ratio(tp, tp + fn), ratio(tp, tp + fp)


@METRIC_CLASSES.register()
class RecallAtPrecision(_AtLimit):
    """Largest recall where the precision is at least `precision`"""

    def __init__(self, precision: float, num_thresholds: int = 200, class_id: int | None = None):
        self._take("precision", precision, num_thresholds, class_id)

    def shares(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        return ratio(tp, tp + fp), ratio(tp, tp + fn)
