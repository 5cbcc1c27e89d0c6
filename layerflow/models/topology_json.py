"""The architecture of a model as JSON-able data, in the TF.js layers format, and back (INVENTORY 5.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerflow import registry
from layerflow.errors import LayerflowError, LoadError, SaveError
from layerflow.layers.base import Layer, single
from layerflow.layers.reading import deserialize
from layerflow.layers.topology import Node

# The release of TF.js whose files these are.
KERAS_VERSION = "tfjs-layers 4.22.0"
BACKEND = "tensor_flow.js"


def model_topology(model: Any) -> dict[str, Any]:
    """The `modelTopology` of a file.

    Raises:
        SaveError: something in the configuration has no form in JSON.
    """
    entry = layer_entry(model)
    _check(entry)
    return {**entry, "keras_version": KERAS_VERSION, "backend": BACKEND}


def layer_entry(layer: Layer) -> dict[str, Any]:
    """{class_name, config} of a layer."""
    return {"class_name": layer.get_class_name(), "config": layer.get_config()}


def _check(entry: Mapping[str, Any]) -> None:
    """Raises SaveError, with the name of the innermost layer, for what JSON cannot hold."""
    try:
        json.dumps(entry, allow_nan=False)
    except (TypeError, ValueError) as error:
        config = entry["config"]
        for inner in config.get("layers", []) if isinstance(config, Mapping) else []:
            _check(inner)
        name = config.get("name", entry["class_name"]) if isinstance(config, Mapping) else entry["class_name"]
        raise SaveError(
            f"{name}: its configuration cannot be written ({error}). A function needs a name: register it with "
            "lf.register_class; other objects need a get_config of the layer that returns plain values."
        ) from None


def _calls(layer: Layer, within: set[Node]) -> list[Node]:
    return [node for node in layer.inbound_nodes if node in within and not node.is_source]


def graph_config(model: Any) -> dict[str, Any]:
    """Configuration of a functional model: layers, their calls, inputs and outputs."""
    within = set(model.nodes)
    # Calls are numbered among those of this model; number 0 of a nested model is its own.
    numbers = {
        node: number + layer.owns_first_node
        for layer in model.layers
        for number, node in enumerate(_calls(layer, within))
    }

    def reference(origin: Any) -> list[Any]:
        node = origin.layer.inbound_nodes[origin.node]
        return [origin.layer.name, numbers.get(node, 0), origin.tensor]

    layers = []
    for layer in model.layers:
        calls = [[[*reference(o), _stored(layer, node.kwargs)] for o in node.origins] for node in _calls(layer, within)]
        layers.append({"name": layer.name, **layer_entry(layer), "inbound_nodes": calls})
    return {
        "name": model.name,
        "layers": layers,
        "input_layers": [reference(x.source) for x in model.inputs],
        "output_layers": [reference(y.source) for y in model.outputs],
    }


def _stored(layer: Layer, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call as a file holds them: numbers, texts, and arrays as nested lists.

    Raises:
        SaveError: something else, such as another symbol.
    """
    stored: dict[str, Any] = {}
    for name, value in kwargs.items():
        if isinstance(value, (np.ndarray, np.generic, list, tuple)):
            value = np.asarray(value)
            stored[name] = value.tolist() if value.dtype.kind in "biuf" else None
        elif isinstance(value, (bool, int, float, str)):
            stored[name] = value
        if value is not None and stored.get(name) is None:
            raise SaveError(
                f"layer {layer.name!r} is called with {name}={type(value).__name__}, which has no serialized form. "
                f"Give {name} as an array, or make it inside of a layer of your own."
            )
    return stored


def _given(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call from a file."""
    known = {k: v for k, v in kwargs.items() if isinstance(v, (bool, int, float, str, list))}
    return {k: np.asarray(v) if isinstance(v, list) else v for k, v in known.items()}


def graph_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs, outputs and name of a functional model; its layers are made and called as the configuration says.

    Raises:
        LoadError: references that lead nowhere, or in a circle.
    """
    entries = config.get("layers")
    if not isinstance(entries, list) or not entries:
        raise LoadError("the model has no list of layers.", "invalid_topology")
    layers: dict[str, Layer] = {}
    waiting: dict[str, list[Any]] = {}
    for entry in entries:
        layer = deserialize(entry)
        name = entry.get("name", layer.name)
        if name in layers:
            raise LoadError(f"the layer name {name!r} is used twice.", "invalid_topology")
        layers[name] = layer
        waiting[name] = list(entry.get("inbound_nodes") or [])
    _call_all(layers, waiting)
    return {
        "inputs": [_tensor(layers, r) for r in _references(config, "input_layers")],
        "outputs": [_tensor(layers, r) for r in _references(config, "output_layers")],
        "name": config.get("name"),
        "trainable": config.get("trainable", True) is not False,
    }


def _call_all(layers: Mapping[str, Layer], waiting: Mapping[str, list[Any]]) -> None:
    """Makes the calls of every layer as soon as their inputs exist."""
    progress = True
    while progress and any(waiting.values()):
        progress = False
        for name, calls in waiting.items():
            while calls and all(_exists(layers, r) for r in _listed(calls[0])):
                references = _listed(calls.pop(0))
                kwargs = references[0][3] if len(references[0]) > 3 and isinstance(references[0][3], Mapping) else {}
                layers[name].apply(single([_tensor(layers, r) for r in references]), **_given(kwargs))
                progress = True
    stuck = [name for name, calls in waiting.items() if calls]
    if stuck:
        raise LoadError(
            f"the inputs of {', '.join(map(repr, stuck))} lead in a circle or to a layer or call that is missing.",
            "invalid_topology",
        )


def _listed(call: Any) -> list[Any]:
    """The references of one call; a malformed one is refused."""

    def well_formed(r: Any) -> bool:
        return isinstance(r, list) and len(r) >= 3 and [type(part) for part in r[:3]] == [str, int, int]

    if isinstance(call, list) and call and all(map(well_formed, call)):
        return call
    raise LoadError(
        f"inbound_nodes: {str(call)[:80]} is no list of [layer, node, tensor, arguments].", "invalid_topology"
    )


def _references(config: Mapping[str, Any], key: str) -> list[Any]:
    given = config.get(key)
    if not isinstance(given, list) or not given:
        raise LoadError(f"{key} is missing.", "invalid_topology")
    return _listed([given] if isinstance(given[0], str) else given)


def _exists(layers: Mapping[str, Layer], reference: list[Any]) -> bool:
    name, node, tensor = reference[:3]
    if name not in layers:
        raise LoadError(f"a layer refers to {name!r}, which does not exist.", "invalid_topology")
    nodes = layers[name].inbound_nodes
    return 0 <= node < len(nodes) and 0 <= tensor < len(nodes[node].outputs)


def _tensor(layers: Mapping[str, Layer], reference: list[Any]) -> Any:
    if not _exists(layers, reference):
        raise LoadError(f"there is no output {reference[:3]}.", "invalid_topology")
    name, node, tensor = reference[:3]
    return layers[name].inbound_nodes[node].outputs[tensor]


def layer_from_entry(entry: Any) -> Layer:
    return deserialize(entry)


def model_from_topology(topology: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a `modelTopology`, also in the form of Keras files ({model_config: ...}), weights as initialized.

    Raises:
        LoadError: not a model, or one with layers that are not known.
    """
    if isinstance(topology, Mapping) and "modelTopology" in topology:
        topology = topology["modelTopology"]
    if isinstance(topology, Mapping) and "model_config" in topology:
        topology = topology["model_config"]
    with registry.custom_objects(custom_objects):
        try:
            model = deserialize(topology)
        except LoadError:
            raise
        except (LayerflowError, RecursionError) as error:
            raise LoadError(f"the model cannot be built: {error}", "invalid_topology") from error
    if not hasattr(model, "replay"):
        raise LoadError(f"the topology is a {model.get_class_name()}, not a model.", "invalid_topology")
    return model


def model_from_json(topology: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """A model with new weights from its architecture: JSON text, or the object it stands for."""
    if isinstance(topology, (str, bytes)):
        try:
            topology = json.loads(topology)
        except ValueError as error:
            raise LoadError(f"this is not JSON: {error}.", "invalid_json") from None
    return model_from_topology(topology, custom_objects)
