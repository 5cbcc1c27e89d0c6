"""What of a model and of the random generators decides how a training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerflow.errors import DataError
from layerflow.graph.ops import random
from layerflow.graph.variable import Variable


def of_model(model: Any) -> dict[str, Any]:
    """Weights, which of them are trained, optimizer, states of metrics, random generators."""
    optimizer = model.optimizer
    kept = _with_slots(model)
    return {
        "weights": [weight.numpy() for weight in model.weights],
        "trainable": [weight.trainable for weight in model.weights],
        "optimizer": {"class": type(optimizer).__name__, "slots": optimizer.get_weights(_at(model, kept)), "of": kept},
        "metrics": [state.numpy() for state in model.metrics_variables],
        "learning_rate": _rate(optimizer),
        "random": random.get_state(),
    }


def restore_model(model: Any, state: Mapping[str, Any]) -> None:
    """Puts everything back that `of_model` gave.

    Raises:
        DataError: it is of another model or optimizer; nothing has changed then.
    """
    optimizer, written = model.optimizer, state["optimizer"]
    ours, theirs = _shapes(model.weights), _shapes(state["weights"])
    if ours != theirs:
        raise DataError(f"the backup is of a model with weights of shapes {theirs}, this one has {ours}.")
    if type(optimizer).__name__ != written["class"]:
        raise DataError(f"the backup was made with the optimizer {written['class']}, not {type(optimizer).__name__}.")
    if len(state["metrics"]) != len(model.metrics_variables):
        raise DataError("the backup was made with other metrics; compile the model with the same ones.")
    for weight, trainable in zip(model.weights, state["trainable"], strict=True):
        if weight.trainable != trainable:
            weight.trainable = trainable
    optimizer.set_weights(written["slots"], _at(model, written["of"]))
    for weight, values in zip(model.weights, state["weights"], strict=True):
        weight.assign(values)
    for variable, values in zip(model.metrics_variables, state["metrics"], strict=True):
        variable.assign(values)
    restore_moving(model, state)


def restore_moving(model: Any, state: Mapping[str, Any]) -> None:
    """What events of an epoch's beginning may have moved: learning rate, random generators."""
    rate = state["learning_rate"]
    # A schedule is a function of the number of updates, which is restored already: it is never set.
    if rate is not None and _rate(model.optimizer) != rate:
        model.optimizer.learning_rate = rate
    random.set_state(state["random"])


def _with_slots(model: Any) -> list[int]:
    """Numbers of the weights that the optimizer keeps something for: also those frozen meanwhile."""
    trained = {id(weight) for weight in model.trainable_weights}
    known = {id(variable) for variable in getattr(model.optimizer, "_slots", {})}
    return [at for at, weight in enumerate(model.weights) if id(weight) in trained | known]


def _at(model: Any, numbers: list[int]) -> list[Variable]:
    return [model.weights[at] for at in numbers]


def _rate(optimizer: Any) -> float | None:
    """The rate that was set; None for a schedule, which follows from the number of updates."""
    return None if optimizer.schedule is not None else float(optimizer.learning_rate)


def _shapes(arrays: Any) -> list[list[int]]:
    return [list(array.shape) for array in arrays]
