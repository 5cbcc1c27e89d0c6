"""AUC: the area under the ROC or the precision-recall curve, over all batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.metrics.confusion import Histograms, buckets, checked_thresholds, even_thresholds
from layerflow.metrics.metric import METRIC_CLASSES, State
from layerflow.metrics.ratios import ratio

_BEYOND = 1e-7  # the outer thresholds lie this far outside [0, 1]


@METRIC_CLASSES.register()
class AUC(Histograms):
    """Area under a curve, from counts at thresholds (arguments, defaults and rules of Keras 3).

    Args:
        num_thresholds: how many, evenly in [0, 1].
        curve: "ROC", "PR" (precision over recall) or "PRGAIN" (Flach and Kull 2015).
        summation_method: "interpolation" (between thresholds; that of the PR curve is Davis and Goadrich's, 2006),
            "minoring" or "majoring" (the smaller or larger height of each step).
        thresholds: numbers in [0, 1] to use instead.
        multi_label: predictions [samples, labels], an area for each label, then their mean.
        num_labels: of `multi_label`, if it shall be checked.
        label_weights: weight of each label.
        from_logits: predictions are logits.

    Raises:
        ArgumentError: fewer than 2 thresholds, or thresholds outside [0, 1].
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        if thresholds is None and num_thresholds < 2:
            raise ArgumentError(f"AUC: num_thresholds must be at least 2, but is {num_thresholds!r}.")
        if thresholds is None:
            inner = even_thresholds(num_thresholds)[1:-1]
        else:
            inner = np.sort(checked_thresholds("AUC", thresholds, 0.5))
        self.thresholds = np.array([-_BEYOND, *inner, 1.0 + _BEYOND])
        self.curve = registry.option("curve", curve, ("ROC", "PR", "PRGAIN"))
        methods = ("interpolation", "majoring", "minoring")
        self.summation_method = registry.option("summation_method", summation_method, methods)
        if num_labels and not multi_label:
            raise ArgumentError("AUC: num_labels is for multi_label=True only.")
        self.multi_label, self.num_labels, self.from_logits = multi_label, num_labels, from_logits
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float32)

    def initial(self, shape: tuple[int | None, ...]) -> State:
        if not self.multi_label:
            return super().initial(shape)
        if len(shape) != 2 or self.num_labels not in (None, shape[-1]):
            wanted = "labels" if self.num_labels is None else self.num_labels
            raise ShapeError(f"{self.name}: multi_label needs predictions [samples, {wanted}], got {list(shape)}.")
        assert shape[-1] is not None, "a model knows the extent of the last axis of its outputs"
        zeros = np.zeros((len(self.thresholds) + 1, shape[-1]))
        return {"positives": zeros, "negatives": zeros}

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        p = ops.sigmoid(y_pred) if self.from_logits else y_pred
        if self.multi_label:
            return self._update_labels(state, *self.prepared(y_true, p, sample_weight))
        if self.label_weights is not None:
            own = ops.ones_like(p) * self.label_weights
            sample_weight = own if sample_weight is None else own * ops.expand_dims(sample_weight, -1)
        return super().update(state, y_true, p, sample_weight)

    def _update_labels(self, state: State, t: Any, p: Any, weight: Any) -> State:
        """One histogram a label: they lie side by side in the rows of one."""
        labels, count = p.shape[-1], len(self.thresholds) + 1
        place = ops.reshape(buckets(p, self.thresholds) * labels + np.arange(labels, dtype=np.int32), (-1,))
        new = {}
        for name, own in (("positives", t), ("negatives", 1.0 - t)):
            weighted = ops.reshape(own if weight is None else own * weight, (-1,))
            found = ops.scatter_add(place, weighted, count * labels)
            new[name] = state[name] + ops.reshape(found, (count, labels))
        return new

    def value(self, state: State) -> Any:
        tp, fp, fn, tn = self.counts(state)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = _interpolated(tp, fp, fn)
        else:
            x, y = self._curve(tp, fp, fn, tn)
            areas = (x[:-1] - x[1:]) * self._heights(y[:-1], y[1:])
        area = np.sum(areas, axis=0)
        if not self.multi_label:
            return area
        if self.label_weights is None:
            return np.mean(area)
        return ratio(np.sum(area * self.label_weights), np.sum(self.label_weights))

    def _heights(self, left: Any, right: Any) -> Any:
        if self.summation_method == "interpolation":
            return (left + right) / 2.0
        return np.minimum(left, right) if self.summation_method == "minoring" else np.maximum(left, right)

    def _curve(self, tp: Any, fp: Any, fn: Any, tn: Any) -> tuple[Any, Any]:
        recall = ratio(tp, tp + fn)
        if self.curve == "ROC":
            return ratio(fp, fp + tn), recall
        if self.curve == "PR":
            return recall, ratio(tp, tp + fp)
        scale = ratio(tp + fn, tn + fp)
        # Without true positives both gains are undefined; a recall below the share of positives counts as no gain.
        recall_gain = np.where(tp == 0, 0.0, np.maximum(1.0 - scale * ratio(fn, tp), 0.0))
        return recall_gain, np.where(tp == 0, 1.0, 1.0 - scale * ratio(fp, tp))


def _interpolated(tp: Any, fp: Any, fn: Any) -> Any:
    """Areas under the PR curve between thresholds: true positives grow in a straight line with all that is found."""
    found = tp + fp
    slope = ratio(tp[:-1] - tp[1:], np.maximum(found[:-1] - found[1:], 0.0))
    start = tp[1:] - slope * found[1:]
    both = (found[:-1] > 0) & (found[1:] > 0)
    growth = np.where(both, ratio(found[:-1], np.where(both, found[1:], 1.0)), 1.0)
    return ratio(slope * (tp[:-1] - tp[1:] + start * np.log(growth)), tp[1:] + fn[1:])
