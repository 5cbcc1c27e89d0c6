"""Metrics that are means of a value per sample, with the names and formulas of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from layerflow import config, losses, registry
from layerflow.graph import ops
from layerflow.losses.objects import check_smoothing, signs
from layerflow.metrics import functions
from layerflow.metrics.metric import METRIC_CLASSES, Metric, State
from layerflow.metrics.ratios import ratio
from layerflow.weighted_losses import as_operand, same_rank


def total(x: Any) -> Any:
    """Sum of all elements in float64: counts are exact and means do not drift."""
    return ops.sum(ops.cast(x, "float64"))


def per_sample(values: Any, weight: Any) -> tuple[Any, Any]:
    """Weighted values and their weights, both one a sample: means over what a sample holds.

    Without weights: the values and None.
    """
    values = ops.cast(as_operand(values), "float32") if as_operand(values).dtype.kind != "f" else as_operand(values)
    if weight is not None:
        weight = as_operand(weight)
        values, weight = same_rank(values, weight)
        rank = len(weight.shape)
        losses.spread(weight, values)  # refuses weights that do not fit
        values = ops.mean(values, range(rank, len(values.shape))) if len(values.shape) > rank else values
        weight = weight * ops.ones_like(values)
        values = values * weight
        weight = ops.mean(weight, range(1, rank)) if rank > 1 else weight
    rank = len(values.shape)
    return ops.mean(values, range(1, rank)) if rank > 1 else values, weight


def added(state: State, values: Any, weight: Any) -> State:
    """Sums of weighted values and of weights, with one batch more."""
    values, weight = per_sample(values, weight)
    return {
        "total": state["total"] + total(values),
        "count": state["count"] + (total(ops.ones_like(values)) if weight is None else total(weight)),
    }


@METRIC_CLASSES.register()
class Mean(Metric):
    """Weighted mean of values: `update_state(values, sample_weight)`, without a model only."""

    STATE: ClassVar[Mapping[str, Any]] = {"total": 0.0, "count": 0.0}

    def update_state(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        """Takes values (and, as the second argument or by name, their weights) into the metric's own state."""
        super().update_state(y_true, None, y_pred if sample_weight is None else sample_weight)

    def update(self, state: State, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> State:
        return added(state, y_true, y_pred if sample_weight is None else sample_weight)

    def value(self, state: State) -> Any:
        return ratio(state["total"], state["count"])


@METRIC_CLASSES.register()
class Sum(Mean):
    """Weighted sum of values: `update_state(values, sample_weight)`, without a model only."""

    STATE: ClassVar[Mapping[str, Any]] = {"total": 0.0}

    def update(self, state: State, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> State:
        weight = y_pred if sample_weight is None else sample_weight
        values = as_operand(y_true)
        return {"total": state["total"] + total(values if weight is None else values * losses.spread(weight, values))}

    def value(self, state: State) -> Any:
        return state["total"]


class _MeanOf(Metric):
    """Weighted mean of `values(y_true, y_pred)`."""

    STATE: ClassVar[Mapping[str, Any]] = {"total": 0.0, "count": 0.0}
    LABELS = "same"

    def values(self, y_true: Any, y_pred: Any) -> Any:
        """A value a sample [batch, ...]."""
        raise NotImplementedError(f"{type(self).__name__} must define values(y_true, y_pred).")

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        return added(state, self.values(y_true, y_pred), sample_weight)

    def value(self, state: State) -> Any:
        return ratio(state["total"], state["count"])


@METRIC_CLASSES.register()
class MeanMetricWrapper(_MeanOf):
    """Weighted mean over all batches of a function's values.

    Args:
        fn: (y_true, y_pred, **options) -> values [batch, ...], or its name.
        options: further arguments of `fn`.
    """

    LABELS = "any"

    def __init__(self, fn: Any, name: str | None = None, dtype: Any = None, **options: Any):
        self.fn = functions.get(fn)
        super().__init__(name or functions.key(fn), dtype)
        self.options = options

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return self.fn(y_true, y_pred, **self.options)


class _OfFunction(_MeanOf):
    """Mean of the values of FUNCTION, called with the metric's own arguments."""

    FUNCTION: ClassVar[Callable[..., Any]]

    def values(self, y_true: Any, y_pred: Any) -> Any:
        options = {k: v for k, v in self._arguments.items() if registry.fold(k) not in self.BASE_ARGUMENTS}
        return type(self).FUNCTION(y_true, y_pred, **options)


def _mean_of(name: str, function: Callable[..., Any], log_name: str = "", labels: str = "same") -> Any:
    """A class of metrics without arguments of their own."""
    described = {
        "__doc__": f"Mean over all batches of: {function.__doc__}",
        "__module__": __name__,
        "FUNCTION": staticmethod(function),
        "NAME": log_name,
        "LABELS": labels,
    }
    return METRIC_CLASSES.add(type(_OfFunction)(name, (_OfFunction,), described), name)


def _hinge(y_true: Any, y_pred: Any) -> Any:
    """max(0, 1 - t p), labels -1 and 1, or 0 and 1"""
    return losses.hinge(signs(y_true), y_pred)


def _squared_hinge(y_true: Any, y_pred: Any) -> Any:
    """max(0, 1 - t p)**2, labels -1 and 1, or 0 and 1"""
    return losses.squared_hinge(signs(y_true), y_pred)


def _divergence(y_true: Any, y_pred: Any) -> Any:
    """sum(t log(t / p)), both clipped to [epsilon, 1]"""
    return losses.KLDivergence().call(as_operand(y_true), y_pred)


Accuracy = _mean_of("Accuracy", functions.exact_accuracy, labels="any")
CategoricalAccuracy = _mean_of("CategoricalAccuracy", functions.categorical_accuracy)
SparseCategoricalAccuracy = _mean_of(
    "SparseCategoricalAccuracy", functions.sparse_categorical_accuracy, labels="classes"
)
MeanSquaredError = _mean_of("MeanSquaredError", losses.squared_error)
MeanAbsoluteError = _mean_of("MeanAbsoluteError", losses.mean_absolute_error)
MeanAbsolutePercentageError = _mean_of("MeanAbsolutePercentageError", losses.mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _mean_of("MeanSquaredLogarithmicError", losses.mean_squared_logarithmic_error)
LogCoshError = _mean_of("LogCoshError", losses.logcosh, "logcosh")
Poisson = _mean_of("Poisson", losses.poisson)
KLDivergence = _mean_of("KLDivergence", _divergence, "kl_divergence")
Hinge = _mean_of("Hinge", _hinge)
SquaredHinge = _mean_of("SquaredHinge", _squared_hinge)
CategoricalHinge = _mean_of("CategoricalHinge", losses.categorical_hinge)


@METRIC_CLASSES.register()
class RootMeanSquaredError(_MeanOf):
    """sqrt(mean((p - t)**2)) over all batches"""

    def values(self, y_true: Any, y_pred: Any) -> Any:
        t, p = same_rank(y_true, y_pred)
        return ops.square(p - t)

    def value(self, state: State) -> Any:
        return super().value(state) ** 0.5


@METRIC_CLASSES.register()
class CosineSimilarity(_MeanOf):
    """Mean of the cosine between t and p along `axis`"""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def values(self, y_true: Any, y_pred: Any) -> Any:
        return -losses.cosine_similarity(y_true, y_pred, self.axis)


@METRIC_CLASSES.register()
class BinaryAccuracy(_OfFunction):
    """Share of labels 0 and 1 that p > `threshold` finds"""

    FUNCTION = staticmethod(functions.binary_accuracy)

    def __init__(self, threshold: float = 0.5): ...


@METRIC_CLASSES.register()
class TopKCategoricalAccuracy(_OfFunction):
    """Share of samples whose class is among the k likeliest; y_true is one-hot"""

    FUNCTION = staticmethod(functions.top_k_categorical_accuracy)

    def __init__(self, k: int = 5): ...


@METRIC_CLASSES.register()
class SparseTopKCategoricalAccuracy(_OfFunction):
    """Share of samples whose class is among the k likeliest; y_true holds class numbers

    Args:
        from_sorted_ids: y_pred holds class numbers, the likeliest first.
    """

    LABELS = "classes"
    FUNCTION = staticmethod(functions.sparse_top_k_categorical_accuracy)

    def __init__(self, k: int = 5, from_sorted_ids: bool = False): ...


@METRIC_CLASSES.register()
class BinaryCrossentropy(_OfFunction):
    """Mean of the cross-entropy; arguments as those of the loss"""

    FUNCTION = staticmethod(losses.binary_crossentropy)

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0):
        check_smoothing(self, label_smoothing)


@METRIC_CLASSES.register()
class CategoricalCrossentropy(_OfFunction):
    """Mean of the cross-entropy with one-hot labels; arguments as those of the loss"""

    FUNCTION = staticmethod(losses.categorical_crossentropy)

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1):
        check_smoothing(self, label_smoothing)


@METRIC_CLASSES.register()
class SparseCategoricalCrossentropy(_OfFunction):
    """Mean of the cross-entropy with class numbers; `ignore_class` does not count"""

    LABELS = "classes"
    FUNCTION = staticmethod(losses.sparse_categorical_crossentropy)

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1):
        self.ignore_class = ignore_class

    def update(self, state: State, y_true: Any, y_pred: Any, sample_weight: Any = None) -> State:
        if self.ignore_class is not None:
            labels = losses.class_numbers(y_true, as_operand(y_pred))
            counted = ops.cast(ops.not_equal(labels, self.ignore_class), "float32")
            sample_weight = counted if sample_weight is None else counted * losses.spread(sample_weight, counted)
        return super().update(state, y_true, y_pred, sample_weight)


@METRIC_CLASSES.register()
class PearsonCorrelation(_MeanOf):
    """Mean of the correlation of t and p along `axis`"""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def values(self, y_true: Any, y_pred: Any) -> Any:
        t, p = (x - ops.mean(x, self.axis, keepdims=True) for x in same_rank(y_true, y_pred))
        spread = ops.std(t, self.axis) * ops.std(p, self.axis)
        return ops.mean(t * p, self.axis) / spread


@METRIC_CLASSES.register()
class ConcordanceCorrelation(_MeanOf):
    """Mean of 2 cov(t, p) / (var t + var p + (mean t - mean p)**2) along `axis` (Lin 1989)"""

    def __init__(self, axis: int = -1):
        self.axis = axis

    def values(self, y_true: Any, y_pred: Any) -> Any:
        t, p = same_rank(y_true, y_pred)
        shift = ops.mean(t, self.axis) - ops.mean(p, self.axis)
        together = ops.mean(t * (p - ops.mean(p, self.axis, keepdims=True)), self.axis)
        spread = ops.variance(t, self.axis) + ops.variance(p, self.axis) + ops.square(shift)
        return 2.0 * together / (spread + config.epsilon())
