"""What `compile` settles: optimizer, a loss for every output, metrics with their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from layerflow import losses, metrics, train
from layerflow.errors import ArgumentError, nearest
from layerflow.models.data_checks import Slot

Metric = tuple[str, Callable[..., Any]]
MODES = ("train", "test")  # training and evaluation: streaming metrics have a state for each


@dataclass(frozen=True)
class Compilation:
    """The resolved arguments of `compile`; `given` keeps them as they were written, for saving."""

    optimizer: Any
    loss_functions: list[Callable[..., Any]]
    loss_weights: list[float] | None
    metrics: list[list[Metric]]
    given: dict[str, Any]
    weighted: frozenset[str]  # keys of the metrics that take the sample weights
    running: dict[str, dict[str, metrics.Running]]  # by mode ("train", "test") the states of streaming metrics by key

    @property
    def loss_names(self) -> list[str]:
        return [_name(function) for function in self.loss_functions]


def resolve(
    model: Any, optimizer: Any, loss: Any, metric: Any, loss_weights: Any, weighted_metrics: Any = None
) -> Compilation:
    """Looks up names and spreads losses and metrics over the outputs of `model`.

    Raises:
        UnknownNameError: an unknown name; the message holds the nearest known one.
        ArgumentError: a missing or surplus loss, or an output that does not exist.
    """
    names = list(model.output_names)
    shapes = [tuple(output.shape) for output in model.outputs]
    chosen = [losses.get(entry) for entry in _losses(loss, names, model.name)]
    for each in chosen:
        if isinstance(each, losses.Loss) and each.reduction == "none":
            raise ArgumentError(
                f'{model.name}: the loss {each.name} has reduction="none", but training needs one number; '
                'use "sum_over_batch_size" or "sum".'
            )
    plain = _metrics(metric, names, model.name, "metrics")
    weighted = _metrics(weighted_metrics, names, model.name, "weighted_metrics")
    per_output = [
        [_metric(m, function, shape) for m in own] + [_weighted(m, function, shape) for m in with_weights]
        for own, with_weights, function, shape in zip(plain, weighted, chosen, shapes, strict=True)
    ]
    keyed = _keyed(per_output, names)
    given = {"optimizer": optimizer, "loss": loss, "metrics": metric, "loss_weights": loss_weights}
    return Compilation(
        optimizer=train.get(optimizer),
        loss_functions=chosen,
        loss_weights=_weights(loss_weights, names, model.name),
        metrics=keyed,
        given=given if weighted_metrics is None else {**given, "weighted_metrics": weighted_metrics},
        running={mode: _states(keyed, shapes) for mode in MODES},
        weighted=frozenset(key for entries, own in zip(keyed, plain, strict=True) for key, _ in entries[len(own) :]),
    )


def _states(keyed: list[list[Metric]], shapes: Sequence[tuple[int | None, ...]]) -> dict[str, metrics.Running]:
    """A state for each streaming metric, by its key in the logs."""
    return {
        key: metrics.Running(found, shape)
        for entries, shape in zip(keyed, shapes, strict=True)
        for key, found in entries
        if isinstance(found, metrics.Metric)
    }


def _losses(loss: Any, names: Sequence[str], model: str) -> list[Any]:
    if loss is None:
        raise ArgumentError(f'{model}: compile needs a loss, for example loss="meanSquaredError".')
    if isinstance(loss, Mapping) and not _is_configuration(loss):
        _check_names(loss, names, f"{model}: loss")
        missing = [name for name in names if name not in loss]
        if missing:
            raise ArgumentError(f"{model}: loss has no entry for the outputs {missing}; every output needs one.")
        return [loss[name] for name in names]
    if isinstance(loss, (list, tuple)):
        if len(loss) != len(names):
            raise ArgumentError(
                f"{model}: {len(loss)} losses for {len(names)} outputs ({', '.join(names)}); give one for each."
            )
        return list(loss)
    return [loss] * len(names)


def _is_configuration(given: Any) -> bool:
    """Whether a mapping describes an object, instead of naming outputs."""
    return isinstance(given, Mapping) and set(given) >= {"class_name", "config"}


def _metrics(metric: Any, names: Sequence[str], model: str, argument: str) -> list[list[Any]]:
    """The identifiers for each output: a plain list goes to every output."""
    if isinstance(metric, Mapping) and not _is_configuration(metric):
        _check_names(metric, names, f"{model}: {argument}")
        return [_as_list(metric.get(name)) for name in names]
    entries = _as_list(metric)
    if any(isinstance(entry, (list, tuple)) for entry in entries):
        if len(entries) != len(names):
            raise ArgumentError(
                f"{model}: {argument} has {len(entries)} lists for {len(names)} outputs; give one for each."
            )
        return [_as_list(entry) for entry in entries]
    return [entries] * len(names)


def _as_list(entry: Any) -> list[Any]:
    if entry is None:
        return []
    return list(entry) if isinstance(entry, (list, tuple)) else [entry]


def _weights(weights: Any, names: Sequence[str], model: str) -> list[float] | None:
    if weights is None:
        return None
    if isinstance(weights, Mapping):
        _check_names(weights, names, f"{model}: loss_weights")
        return [float(weights.get(name, 1.0)) for name in names]
    if not isinstance(weights, (list, tuple)) or len(weights) != len(names):
        raise ArgumentError(f"{model}: loss_weights must be {len(names)} numbers, one per output ({', '.join(names)}).")
    return [float(weight) for weight in weights]


def _check_names(given: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    for name in given:
        if name not in names:
            raise ArgumentError(f'{what} names the output "{name}", which does not exist.{nearest(str(name), names)}')


def _metric(identifier: Any, loss: Callable[..., Any], shape: tuple[int | None, ...]) -> Metric:
    found = metrics.get(identifier, loss, shape)
    if isinstance(found, metrics.Mean):
        raise ArgumentError(f"the metric {found.name!r} takes values, not labels and predictions; it works alone only.")
    return found.name if _is_configuration(identifier) else metrics.key(identifier), found


def _weighted(identifier: Any, loss: Callable[..., Any], shape: tuple[int | None, ...]) -> Metric:
    """As `_metric`, for a metric that takes the sample weights: a function becomes the weighted mean of its values."""
    key, found = _metric(identifier, loss, shape)
    return key, found if isinstance(found, metrics.Metric) else metrics.MeanMetricWrapper(found, name=key)


def _keyed(per_output: list[list[Metric]], names: Sequence[str]) -> list[list[Metric]]:
    """Final log keys: prefixed by the output when there are several, numbered when two are equal (as TF.js does)."""
    prefixes = [f"{name}_" for name in names] if len(names) > 1 else [""]
    keys = [prefix + key for prefix, entries in zip(prefixes, per_output, strict=True) for key, _ in entries]
    totals, seen, final = Counter(keys), Counter[str](), []
    for key in keys:
        final.append(f"{key}_{seen[key]}" if totals[key] > 1 else key)
        seen[key] += 1
    keyed = iter(final)
    return [[(next(keyed), function) for _, function in entries] for entries in per_output]


def _name(function: Callable[..., Any]) -> str:
    """A loss by the name that users write, for messages."""
    return getattr(function, "__name__", None) or getattr(function, "name", type(function).__name__)


def target_slots(model: Any, compilation: Compilation) -> list[Slot]:
    """What `y` must look like for each output: by its loss; any shape for a loss that is the user's own."""
    slots = []
    for name, output, loss in zip(model.output_names, model.outputs, compilation.loss_functions, strict=True):
        shape: tuple[int | None, ...] | None = tuple(output.shape[1:])
        classes, sparse, axis = None, losses.takes_class_numbers(loss), getattr(loss, "axis", -1)
        if sparse and axis in (-1, len(output.shape) - 1):
            classes, shape = output.shape[-1], (*output.shape[1:-1], 1)
        elif sparse or not losses.is_builtin(loss):
            shape = None
        slots.append(Slot(f'model "{model.name}"', "y", name, shape, np.dtype(output.dtype), classes, _name(loss)))
        if getattr(loss, "ignore_class", None) is not None:
            slots[-1] = replace(slots[-1], ignored=loss.ignore_class)
    return slots


def input_slots(model: Any) -> list[Slot]:
    """What `x` must look like for each input."""
    return [
        Slot(f'model "{model.name}"', "x", name, tuple(tensor.shape[1:]), np.dtype(tensor.dtype), vocabulary=size)
        for name, tensor, size in zip(model.input_names, model.inputs, model.vocabularies, strict=True)
    ]
