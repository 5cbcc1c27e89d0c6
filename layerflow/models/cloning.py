"""Copies of models: the same layers and connections, with weights of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from layerflow import registry
from layerflow.errors import ArgumentError
from layerflow.layers import LAYERS
from layerflow.layers.base import Layer, touch
from layerflow.layers.input_layer import InputLayer
from layerflow.models.topology_json import layer_entry
from layerflow.registry import accepts_camel_case


@accepts_camel_case
def clone_model(model: Any, clone_function: Callable[[Layer], Layer] | None = None) -> Any:
    """A model like this one, with new weights from the layers' initializers; compile it anew.

    Args:
        model: any model; classes of your own need no registration, only a `get_config` that their `__init__` takes.
        clone_function: gives the layer to use for each layer of the model, in place of a copy.

    Raises:
        ArgumentError: not a model.
    """
    if not hasattr(model, "replay"):
        raise ArgumentError(f"clone_model takes a model, got {type(model).__name__}.")
    return _cloned(model, clone_function)


def deep_copied(model: Any, memo: dict[int, Any]) -> Any:
    """What `copy.deepcopy` gives: the same weights, and if the model is compiled, optimizer and metrics where they are.

    Steps are compiled anew when they are needed; the history of a training stays with the original.
    """
    made = _cloned(model, lambda layer: copy.deepcopy(layer, memo))
    memo[id(model)] = made
    made._trainable = model._trainable
    made._compilation = copy.deepcopy(model._compilation, memo)
    for name, value in model.__dict__.items():
        if not name.startswith("_") and name not in made.__dict__ and name != "history":  # a subclass's own
            setattr(made, name, copy.deepcopy(value, memo))
    touch()
    return made


def _cloned(model: Any, clone_function: Callable[[Layer], Layer] | None) -> Any:
    known: dict[str, Any] = {name: cls for name, cls in _classes(model).items() if name not in LAYERS}
    config = layer_entry(model)["config"]
    for entry, layer in zip(config["layers"], _listed(model), strict=True):
        if clone_function is not None and not isinstance(layer, InputLayer):
            entry["class_name"] = f"given {layer.name}"
            known[entry["class_name"]] = _Given(clone_function(layer), layer)
    with registry.custom_objects(known):
        return type(model).from_config(config)


class _Given:
    """Stands for a class whose only layer exists already."""

    def __init__(self, layer: Any, like: Layer):
        if not isinstance(layer, Layer):
            raise ArgumentError(f"clone_function returned {type(layer).__name__}, not a layer.")
        if layer.batch_input_shape is None:
            layer.batch_input_shape = like.batch_input_shape
        self.layer = layer

    def from_config(self, config: Any) -> Layer:
        return self.layer


def _listed(model: Any) -> list[Layer]:
    """The layers as the configuration lists them."""
    return model._chain_with_input() if hasattr(model, "_chain_with_input") else model.layers


def _classes(layer: Any) -> dict[str, type]:
    """Classes of a layer and of all that it holds, by the names that files know them by."""
    found = {layer.get_class_name(): type(layer)}
    for inner in [*getattr(layer, "layers", []), *getattr(layer, "_sublayers", [])]:
        found.update(_classes(inner))
    return found
