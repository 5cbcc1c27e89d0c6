"""What `compile` settles: optimizer, a loss for every output, metrics with their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow import losses, metrics, train
from layerflow.errors import ArgumentError, nearest
from layerflow.models.data_checks import Slot

Metric = tuple[str, Callable[..., Any]]


@dataclass(frozen=True)
class Compilation:
    """The resolved arguments of `compile`; `given` keeps them as they were written, for saving."""

    optimizer: Any
    loss_functions: list[Callable[..., Any]]
    loss_weights: list[float] | None
    metrics: list[list[Metric]]
    given: dict[str, Any]

    @property
    def loss_names(self) -> list[str]:
        return [_name(function) for function in self.loss_functions]


def resolve(model: Any, optimizer: Any, loss: Any, metric: Any, loss_weights: Any) -> Compilation:
    """Looks up names and spreads losses and metrics over the outputs of `model`.

    Raises:
        UnknownNameError: an unknown name; the message holds the nearest known one.
        ArgumentError: a missing or surplus loss, or an output that does not exist.
    """
    names = list(model.output_names)
    shapes = [tuple(output.shape) for output in model.outputs]
    chosen = [losses.get(entry) for entry in _losses(loss, names, model.name)]
    per_output = [
        [_metric(identifier, function, shape) for identifier in identifiers]
        for identifiers, function, shape in zip(_metrics(metric, names, model.name), chosen, shapes, strict=True)
    ]
    return Compilation(
        optimizer=train.get(optimizer),
        loss_functions=chosen,
        loss_weights=_weights(loss_weights, names, model.name),
        metrics=_keyed(per_output, names),
        given={"optimizer": optimizer, "loss": loss, "metrics": metric, "loss_weights": loss_weights},
    )


def _losses(loss: Any, names: Sequence[str], model: str) -> list[Any]:
    if loss is None:
        raise ArgumentError(f'{model}: compile needs a loss, for example loss="meanSquaredError".')
    if isinstance(loss, Mapping):
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


def _metrics(metric: Any, names: Sequence[str], model: str) -> list[list[Any]]:
    """The identifiers for each output: a plain list goes to every output."""
    if isinstance(metric, Mapping):
        _check_names(metric, names, f"{model}: metrics")
        return [_as_list(metric.get(name)) for name in names]
    entries = _as_list(metric)
    if any(isinstance(entry, (list, tuple)) for entry in entries):
        if len(entries) != len(names):
            raise ArgumentError(
                f"{model}: metrics has {len(entries)} lists for {len(names)} outputs; give one for each."
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
    return metrics.key(identifier), metrics.get(identifier, loss, shape)


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
    return getattr(function, "__name__", type(function).__name__)


def target_slots(model: Any, compilation: Compilation) -> list[Slot]:
    """What `y` must look like for each output: by its loss; any shape for a loss that is the user's own."""
    slots = []
    for name, output, loss in zip(model.output_names, model.outputs, compilation.loss_functions, strict=True):
        shape: tuple[int | None, ...] | None = tuple(output.shape[1:])
        classes = None
        if loss is losses.sparse_categorical_crossentropy:
            classes, shape = output.shape[-1], (*output.shape[1:-1], 1)
        elif not losses.is_builtin(loss):
            shape = None
        slots.append(Slot(f'model "{model.name}"', "y", name, shape, np.dtype(output.dtype), classes, _name(loss)))
    return slots


def input_slots(model: Any) -> list[Slot]:
    """What `x` must look like for each input."""
    return [
        Slot(f'model "{model.name}"', "x", name, tuple(tensor.shape[1:]), np.dtype(tensor.dtype), vocabulary=size)
        for name, tensor, size in zip(model.input_names, model.inputs, model.vocabularies, strict=True)
    ]
