"""Metrics: functions by name, whose values are averaged over batches, and streaming metrics, which keep a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerflow import losses, registry
from layerflow.errors import UnknownNameError
from layerflow.losses import cosine_proximity, log_cosh, mean_absolute_error, mean_absolute_percentage_error
from layerflow.metrics import functions
from layerflow.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from layerflow.metrics.curves import AUC
from layerflow.metrics.functions import (
    METRICS,
    accuracy_for,
    binary_accuracy,
    binary_crossentropy,
    categorical_accuracy,
    categorical_crossentropy,
    key,
    mean_squared_error,
    precision,
    r2_score,
    recall,
    sparse_categorical_accuracy,
    sparse_categorical_crossentropy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from layerflow.metrics.means import (
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanMetricWrapper,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    RootMeanSquaredError,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SquaredHinge,
    Sum,
    TopKCategoricalAccuracy,
)
from layerflow.metrics.metric import METRIC_CLASSES, Metric, Running
from layerflow.metrics.scores import (
    BinaryIoU,
    F1Score,
    FBetaScore,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
    R2Score,
)

_SHORT = {"acc", "accuracy", "ce", "crossentropy"}


def get(identifier: Any, loss: Any = None, output_shape: Sequence[int | None] = (None, None)) -> Any:
    """The metric for a name, a configuration, or what is one already.

    Args:
        identifier: a name, a Metric, the class of one, a {class_name, config} mapping, or a function (y_true, y_pred)
            -> score.  A name means the function of this name (TF.js's, or a loss); the exact name of a class
            ("Precision"), or a name that no function has ("auc"), means the streaming metric.
        loss: the loss of the output, or its name: with
        output_shape: (its shape, with the batch) it decides what "accuracy" and "crossentropy" mean.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, Mapping):
        return registry.construct(METRIC_CLASSES, identifier)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()
    if not isinstance(identifier, str):
        return functions.get(identifier)
    found = registry.custom(identifier)
    if found is not None:
        return found() if isinstance(found, type) else found
    folded = registry.fold(identifier)
    if identifier in METRIC_CLASSES and folded not in _SHORT:
        cls = METRIC_CLASSES.get(identifier)
        if identifier == cls.__name__ or not _is_function(identifier):
            return cls()
    if folded not in _SHORT and not _is_function(identifier):
        known = [*METRICS.names(), *losses.LOSSES.names(), *METRIC_CLASSES.names(), "accuracy", "mse", "mae", "mape"]
        raise UnknownNameError.of("metric", identifier, known)
    return functions.get(identifier, loss, output_shape)


def _is_function(name: str) -> bool:
    return name in METRICS or name in losses.LOSSES


def name_of(function: Any) -> str | None:
    """The name under which `get` finds this function, or None."""
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name in METRICS and METRICS.get(name) is function else None


registry.FUNCTION_NAMES.append(name_of)

__all__ = [
    name
    for name, value in list(globals().items())
    if (callable(value) or name in ("METRICS", "METRIC_CLASSES")) and not name.startswith("_")
]
