"""Losses as objects with arguments and a reduction, with the names, formulas and defaults of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from layerflow import config, registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.losses import functions
from layerflow.weighted_losses import as_operand, count, same_rank

LOSS_CLASSES = registry.Names("loss class")
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")


class Loss(registry.Configurable):
    """Base of loss objects: `call` gives a value per sample, the reduction makes one number of them.

    A loss of your own defines `call(y_true, y_pred)` in plain NumPy; arguments of its `__init__` are saved with models.

    Args:
        reduction: "sum_over_batch_size" (or "mean"): sum of the weighted values over their number; "sum";
            "mean_with_sample_weight": sum of the weighted values over the sum of the weights; "none": all values.
        name: for messages.
        dtype: taken because files of Keras hold it; the values have the type of the predictions.

    Raises:
        ArgumentError: an unknown reduction.

    >>> class Pinball(lf.losses.Loss):
    ...     def __init__(self, quantile=0.5):
    ...         self.quantile = quantile
    ...     def call(self, y_true, y_pred):
    ...         error = y_true - y_pred
    ...         return np.mean(np.maximum(self.quantile * error, (self.quantile - 1) * error), axis=-1)
    """

    BASE_ARGUMENTS: ClassVar[Mapping[str, str]] = {"reduction": "reduction", "name": "name", "dtype": "dtype"}
    LABELS: ClassVar[str] = "any"  # shape of y_true: "same" as the output's, "classes" for class numbers, or "any"
    reduction: str
    name: str

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None):
        self._settle(reduction, name, dtype)

    def _made(self) -> None:
        if self._base_arguments or "reduction" not in vars(self):
            self._settle(**self._base_arguments)

    def _settle(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        self.reduction = registry.option("reduction", "none" if reduction is None else reduction, REDUCTIONS)
        self.name = name or registry.class_snake_case(self.get_class_name())

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A loss for each sample [batch, ...] of y_true and y_pred [batch, ..., d]."""
        raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred).")

    def counted(self, y_true: Any, y_pred: Any) -> Any:
        """Which of the values of `call` count, as booleans of their shape, or None for all."""
        return None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The reduced loss.

        Args:
            y_true, y_pred: labels and predictions.
            sample_weight: factors of the values of `call`: their shape, or that of their first axes.
        """
        y_true, y_pred = as_operand(y_true), as_operand(y_pred)
        return reduced(self.call(y_true, y_pred), sample_weight, self.reduction, self.counted(y_true, y_pred))

    def get_config(self) -> dict[str, Any]:
        own = {k: v for k, v in super().get_config().items() if registry.fold(k) not in self.BASE_ARGUMENTS}
        return {**own, "reduction": self.reduction, "name": self.name}


def spread(weight: Any, values: Any) -> Any:
    """Weights of the first axes of `values` as factors for all of it.

    Raises:
        ShapeError: weights of more axes than the values have.
    """
    values, weight = as_operand(values), as_operand(weight)
    extra = len(weight.shape) - len(values.shape)
    if extra == 1 and weight.shape[-1] == 1 and values.shape:
        return ops.squeeze(weight, -1)
    if extra > 0 and values.shape:
        raise ShapeError(
            f"sample_weight of shape {list(weight.shape)} does not fit values of shape {list(values.shape)}; "
            "give one weight a value, or one a sample."
        )
    return ops.reshape(weight, (*weight.shape, *[1] * -extra)) if extra < 0 else weight


def reduced(values: Any, weight: Any, reduction: str, counted: Any = None) -> Any:
    """Weighted values as one number, by a rule of REDUCTIONS; only those `counted`."""
    values = as_operand(values)
    if counted is not None:
        values = ops.where(counted, values, 0.0)
    factor = None if weight is None else spread(weight, values)
    weighted = values if factor is None else values * factor
    if reduction == "none":
        return weighted
    total = ops.sum(weighted)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and factor is not None:
        # All values as large as their weights: sums of both are over the same elements.
        shares = factor * ops.ones_like(values)
        return _ratio(total, ops.sum(shares if counted is None else ops.where(counted, shares, 0.0)))
    if counted is not None:
        return _ratio(total, ops.sum(ops.cast(counted, values.dtype)))
    return total / count(weighted.shape, weighted)


def _ratio(a: Any, b: Any) -> Any:
    """a / b, 0 where b is 0."""
    return ops.where(ops.equal(b, 0.0), 0.0, a / ops.where(ops.equal(b, 0.0), 1.0, b))


class _OfFunction(Loss):
    """A loss that is a function of `losses.functions`, with its own arguments."""

    LABELS = "same"
    FUNCTION: ClassVar[Callable[..., Any]]

    @property
    def function(self) -> Callable[..., Any]:
        """The function of the values per sample."""
        return type(self).FUNCTION

    def call(self, y_true: Any, y_pred: Any) -> Any:
        options = {k: v for k, v in self._arguments.items() if registry.fold(k) not in self.BASE_ARGUMENTS}
        return self.function(y_true, y_pred, **options)


@LOSS_CLASSES.register()
class MeanSquaredError(_OfFunction):
    """mean((p - t)**2)"""

    FUNCTION = staticmethod(functions.squared_error)


@LOSS_CLASSES.register()
class MeanAbsoluteError(_OfFunction):
    """mean(|p - t|)"""

    FUNCTION = staticmethod(functions.mean_absolute_error)


@LOSS_CLASSES.register()
class MeanAbsolutePercentageError(_OfFunction):
    """100 mean(|t - p| / max(|t|, epsilon))"""

    FUNCTION = staticmethod(functions.mean_absolute_percentage_error)


@LOSS_CLASSES.register()
class MeanSquaredLogarithmicError(_OfFunction):
    """mean((log(1 + p) - log(1 + t))**2), both at least epsilon"""

    FUNCTION = staticmethod(functions.mean_squared_logarithmic_error)


@LOSS_CLASSES.register()
class LogCosh(_OfFunction):
    """mean(log(cosh(p - t)))"""

    FUNCTION = staticmethod(functions.logcosh)


@LOSS_CLASSES.register()
class Poisson(_OfFunction):
    """mean(p - t log(p + epsilon))"""

    FUNCTION = staticmethod(functions.poisson)


@LOSS_CLASSES.register()
class CategoricalHinge(_OfFunction):
    """max(0, 1 + max((1 - t) p) - sum(t p))"""

    FUNCTION = staticmethod(functions.categorical_hinge)


@LOSS_CLASSES.register()
class KLDivergence(_OfFunction):
    """sum(t log(t / p)), both clipped to [epsilon, 1]"""

    FUNCTION = staticmethod(functions.kullback_leibler_divergence)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return super().call(ops.clip(y_true, config.epsilon(), 1.0), y_pred)


@LOSS_CLASSES.register()
class Huber(_OfFunction):
    """mean of e**2 / 2 up to an error e of `delta`, linear beyond (Huber 1964)"""

    FUNCTION = staticmethod(functions.huber)

    def __init__(self, delta: float = 1.0): ...


class _WithSigns(_OfFunction):
    """Labels -1 and 1; if all of them are 0 or 1, these stand for -1 and 1."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return super().call(signs(y_true), y_pred)


def signs(y_true: Any) -> Any:
    """Labels 2 t - 1 if all of them are 0 or 1, else as they are."""
    t = as_operand(y_true)
    binary = ops.all(ops.logical_or(ops.equal(t, 0), ops.equal(t, 1)))
    return ops.where(binary, 2.0 * t - 1.0, t)


@LOSS_CLASSES.register()
class Hinge(_WithSigns):
    """mean(max(0, 1 - t p)), labels -1 and 1, or 0 and 1"""

    FUNCTION = staticmethod(functions.hinge)


@LOSS_CLASSES.register()
class SquaredHinge(_WithSigns):
    """mean(max(0, 1 - t p)**2), labels -1 and 1, or 0 and 1"""

    FUNCTION = staticmethod(functions.squared_hinge)


@LOSS_CLASSES.register()
class CosineSimilarity(Loss):
    """-sum(t p) of the vectors along `axis` normalized to length 1"""

    LABELS = "same"

    def __init__(self, axis: int = -1):
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return cosine_similarity(y_true, y_pred, self.axis)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """-sum(t p) of the vectors along `axis` normalized to length 1; see `cosine_proximity` for TF.js's."""
    t, p = (ops.l2_normalize(x, axis, 1e-14) for x in same_rank(y_true, y_pred))
    return -ops.sum(t * p, axis)


@LOSS_CLASSES.register()
class BinaryCrossentropy(_OfFunction):
    """Cross-entropy of labels 0 and 1 (or between) with probabilities, or with logits if `from_logits`.

    Args:
        label_smoothing: 0 to 1, how far labels are moved towards 1/2.
        axis: over which the values are averaged.
    """

    FUNCTION = staticmethod(functions.binary_crossentropy)

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1):
        check_smoothing(self, label_smoothing)


@LOSS_CLASSES.register()
class BinaryFocalCrossentropy(_OfFunction):
    """Binary cross-entropy in which easy samples count less; see `binary_focal_crossentropy`."""

    FUNCTION = staticmethod(functions.binary_focal_crossentropy)

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ):
        check_smoothing(self, label_smoothing)


@LOSS_CLASSES.register()
class CategoricalCrossentropy(_OfFunction):
    """Cross-entropy of one-hot labels with probabilities, or with logits if `from_logits`.

    Args:
        label_smoothing: 0 to 1, the share of each label that is spread over all classes.
        axis: of the classes.
    """

    FUNCTION = staticmethod(functions.categorical_crossentropy)

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1):
        check_smoothing(self, label_smoothing)


@LOSS_CLASSES.register()
class CategoricalFocalCrossentropy(_OfFunction):
    """Cross-entropy in which easy samples count less; see `categorical_focal_crossentropy`."""

    FUNCTION = staticmethod(functions.categorical_focal_crossentropy)

    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ):
        check_smoothing(self, label_smoothing)


@LOSS_CLASSES.register()
class SparseCategoricalCrossentropy(_OfFunction):
    """Cross-entropy of class numbers with probabilities, or with logits if `from_logits`.

    Args:
        ignore_class: label of what does not count, neither in the sum nor in the number of values.
        axis: of the classes.
    """

    LABELS = "classes"
    FUNCTION = staticmethod(functions.sparse_categorical_crossentropy)

    def __init__(self, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1):
        self.ignore_class, self.axis = ignore_class, axis

    def counted(self, y_true: Any, y_pred: Any) -> Any:
        if self.ignore_class is None:
            return None
        return ops.not_equal(functions.class_numbers(y_true, y_pred), self.ignore_class)


@LOSS_CLASSES.register()
class CategoricalGeneralizedCrossEntropy(_OfFunction):
    """(1 - p**q) / q for the probability p of the class: it bears wrong labels; y_true holds class numbers."""

    LABELS = "classes"
    FUNCTION = staticmethod(functions.categorical_generalized_cross_entropy)

    def __init__(self, q: float = 0.5):
        if not 0 < q < 1:
            raise ArgumentError(f"CategoricalGeneralizedCrossEntropy: q must be between 0 and 1, but is {q!r}.")


@LOSS_CLASSES.register()
class Dice(_OfFunction):
    """1 - 2 sum(t p) / (sum(t) + sum(p)) over `axis`, by default over the whole batch"""

    FUNCTION = staticmethod(functions.dice)

    def __init__(self, axis: Any = None): ...


@LOSS_CLASSES.register()
class Tversky(_OfFunction):
    """Dice with factors of what was missed (`alpha`) and what was found wrongly (`beta`)"""

    FUNCTION = staticmethod(functions.tversky)

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, axis: Any = None): ...


def check_smoothing(owner: Any, value: float) -> None:
    if not 0 <= value <= 1:
        raise ArgumentError(f"{type(owner).__name__}: label_smoothing must be from 0 to 1, but is {value!r}.")
