"""Losses: functions by name for `compile`, objects with arguments, and the weighted losses of the Core API.

`mean_squared_error` here is the Core API's, which gives a scalar; the one of `compile` is `squared_error`, per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from layerflow import registry
from layerflow.errors import ArgumentError
from layerflow.losses.functions import (
    LOSSES,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    class_numbers,
    cosine_proximity,
    dice,
    hinge,
    huber,
    kullback_leibler_divergence,
    logcosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_error,
    squared_hinge,
    tversky,
)
from layerflow.losses.objects import (
    LOSS_CLASSES,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalGeneralizedCrossEntropy,
    CategoricalHinge,
    CosineSimilarity,
    Dice,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    Tversky,
    cosine_similarity,
    reduced,
    spread,
)
from layerflow.weighted_losses import (
    Reduction,
    absolute_difference,
    compute_weighted_loss,
    cosine_distance,
    hinge_loss,
    huber_loss,
    log_loss,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

log_cosh = logcosh
kl_divergence = kullback_leibler_divergence


def _per_sample(loss: Callable[..., Any]) -> Callable[..., Any]:
    def per_sample(y_true: Any, y_pred: Any) -> Any:
        return loss(y_true, y_pred, reduction=Reduction.NONE)

    per_sample.__name__ = loss.__name__
    return per_sample


# A Core loss given to `compile` means its per-sample values there, so that sample weights work.
_CORE: dict[Any, Callable[..., Any]] = {
    mean_squared_error: squared_error,
    absolute_difference: mean_absolute_error,
    huber_loss: huber,
    **{f: _per_sample(f) for f in (softmax_cross_entropy, sigmoid_cross_entropy, hinge_loss, log_loss)},
}
_SPARSE = (sparse_categorical_crossentropy, categorical_generalized_cross_entropy)


def get(identifier: Any) -> Callable[..., Any]:
    """The loss for a name (any spelling, or a short form such as "mse"), a configuration, or what is one already.

    Args:
        identifier: a name ("huber" is a function, the exact name of a class, "Huber", an object of it); a `Loss`, or
            the class of one; a {class_name, config} mapping; or a function (y_true, y_pred) -> loss per sample.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, str):
        found = registry.custom(identifier)
        if found is None and identifier in LOSS_CLASSES:
            cls = LOSS_CLASSES.get(identifier)
            found = cls if identifier == cls.__name__ or identifier not in LOSSES else None
        return get(found) if found is not None else LOSSES.get(identifier)
    if isinstance(identifier, Mapping):
        return registry.construct(LOSS_CLASSES, identifier)
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    if callable(identifier):
        return _CORE.get(identifier, identifier)
    raise ArgumentError(
        f'a loss must be a name such as "meanSquaredError", a loss object such as lf.losses.Huber() or a function '
        f"(y_true, y_pred) -> loss, got {identifier!r}."
    )


def is_builtin(loss: Any) -> bool:
    """True for a loss of ours whose labels have the shape of the output, or are class numbers."""
    if isinstance(loss, Loss):
        return loss.LABELS != "any"
    return name_of(loss) is not None or loss in _CORE.values()


def takes_class_numbers(loss: Any) -> bool:
    """True for a loss of ours whose labels are class numbers."""
    return loss.LABELS == "classes" if isinstance(loss, Loss) else loss in _SPARSE


def function_of(loss: Any) -> Any:
    """The function of the values per sample that a loss object stands for; any other loss as it is."""
    return getattr(loss, "function", loss)


def name_of(loss: Any) -> str | None:
    """The name under which `get` finds this function, or None."""
    name = getattr(loss, "__name__", "")
    return name if isinstance(name, str) and name in LOSSES and LOSSES.get(name) is loss else None


registry.FUNCTION_NAMES.append(name_of)

__all__ = [
    "LOSSES",
    "LOSS_CLASSES",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "Reduction",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "absolute_difference",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "class_numbers",
    "compute_weighted_loss",
    "cosine_distance",
    "cosine_proximity",
    "cosine_similarity",
    "dice",
    "function_of",
    "get",
    "hinge",
    "hinge_loss",
    "huber",
    "huber_loss",
    "is_builtin",
    "kl_divergence",
    "kullback_leibler_divergence",
    "log_cosh",
    "log_loss",
    "logcosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "name_of",
    "poisson",
    "reduced",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_categorical_crossentropy",
    "spread",
    "squared_error",
    "squared_hinge",
    "takes_class_numbers",
    "tversky",
]
