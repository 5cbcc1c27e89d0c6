"""Saving and loading whole models in the TF.js layers format (INVENTORY 5): architecture, weights, training state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NoReturn

import numpy as np

from layerflow import config, losses, metrics, optimizers, registry, train
from layerflow.errors import LayerflowError, LoadError, SaveError
from layerflow.graph.variable import Variable
from layerflow.io import artifacts
from layerflow.layers.base import weights_from
from layerflow.models.topology_json import model_from_topology, model_topology
from layerflow.registry import accepts_camel_case

# Optimizers whose state TF.js 4.22 can restore; the state of any other is kept under a key that it does not read.
_TFJS_OPTIMIZERS = (train.SGD, train.Momentum, train.Adagrad, train.Adadelta, train.Adam, train.RMSProp)
OWN_TRAINING = "layerflowTrainingConfig"
# Metric names that TF.js's compile takes, where they differ from ours.
_TFJS_METRICS = {
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "cosine_proximity": "cosine",
}
_TFJS_NAMES = {
    "loss": (
        "mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error "
        "squared_hinge hinge categorical_hinge logcosh categorical_crossentropy sparse_categorical_crossentropy "
        "binary_crossentropy kullback_leibler_divergence poisson cosine_proximity"
    ).split(),
    "metrics": (
        "accuracy crossentropy binary_accuracy categorical_accuracy precision categorical_crossentropy "
        "sparse_categorical_crossentropy mse mae mape cosine"
    ).split(),
}


def named_weights(model: Any) -> Iterator[tuple[str, Variable]]:
    """The weights with the names of files: their own, with _1, _2, ... where a nested model repeats a name."""
    seen: Counter[str] = Counter()
    for weight in model.weights:
        number = seen[weight.name]
        seen[weight.name] += 1
        yield (f"{weight.name}_{number}" if number else weight.name), weight


@accepts_camel_case
def save_model(
    model: Any, path: Any, include_optimizer: bool = True, trainable_only: bool = False, metadata: Any = None
) -> dict[str, Any]:
    """Writes a model to a folder: model.json and a weight file, which TF.js 4.22 opens too.

    The format holds floats as float32: of a float64 model the last digits are lost.

    Args:
        path: the folder, or the path of its model.json; a file:// URL too.
        include_optimizer: also the training configuration and the optimizer's state, if the model is compiled.
        trainable_only: leave out weights that are not trainable.
        metadata: JSON-able data of yours, kept as `userDefinedMetadata`.

    Returns:
        dict: `model_artifacts_info` with date and sizes.

    Raises:
        SaveError: something in the model has no form in the file; nothing is written.
    """
    if not model.outputs:
        raise SaveError(f"{model.name} has no layers; there is nothing to save.")
    artifacts.local_path(path, SaveError)
    trained = {id(w) for w in model.trainable_weights}
    stored: list[tuple[str, np.ndarray, str | None]] = [
        (name, w.numpy(), None) for name, w in named_weights(model) if not trainable_only or id(w) in trained
    ]
    description: dict[str, Any] = {
        "modelTopology": model_topology(model),
        "format": "layers-model",
        "generatedBy": f"layerflow {config.VERSION}",
        "convertedBy": None,
    }
    if include_optimizer and model.optimizer is not None:
        key, training = training_config(model)
        description[key] = training
        stored += _optimizer_state(model)
    if metadata is not None:
        description["userDefinedMetadata"] = metadata
    sizes = artifacts.write(path, description, stored)
    now = datetime.now(timezone.utc)
    return {"model_artifacts_info": {"date_saved": now.isoformat(), "model_topology_type": "JSON", **sizes}}


def training_config(model: Any) -> tuple[str, dict[str, Any]]:
    """The key under which a model's training configuration is written, and the configuration."""
    given, optimizer = model.compile_arguments, model.optimizer
    written = {
        "loss": _spread(given["loss"], _loss_name),
        "metrics": _spread(given["metrics"], _metric_name) if given["metrics"] is not None else [],
        "optimizer_config": {
            "class_name": optimizer.get_class_name(),
            "config": {registry.camel_case(k): v for k, v in optimizer.get_config().items()},
        },
    }
    weighted = given.get("weighted_metrics")
    plain = given["loss_weights"] is None and weighted is None and _plain_metrics(given["metrics"])
    if _of_tfjs(optimizer) and plain and _known_to_tfjs(written):
        return "trainingConfig", written
    if weighted is not None:
        written["weighted_metrics"] = _spread(weighted, _metric_name)
    return OWN_TRAINING, {**written, "loss_weights": given["loss_weights"], "api": optimizer.API}


def _of_tfjs(optimizer: Any) -> bool:
    """Whether TF.js can go on with the optimizer: it knows no schedules, clipping, weight decay or averages."""
    settings = {*optimizer.get_config()} - {*optimizer._arguments, "learning_rate"}
    return type(optimizer) in _TFJS_OPTIMIZERS and optimizer.schedule is None and not settings


def _known_to_tfjs(written: Mapping[str, Any]) -> bool:
    """Whether TF.js has all these losses and metrics: no objects, no names of Keras or of the user."""
    names = {"loss": _leaves(written["loss"]), "metrics": _leaves(written["metrics"])}
    return all(name in _TFJS_NAMES[kind] for kind, found in names.items() for name in found)


def _leaves(given: Any) -> list[Any]:
    """Names and configurations of objects in nested lists and dicts by output."""
    if isinstance(given, Mapping) and "class_name" not in given:
        return [leaf for value in given.values() for leaf in _leaves(value)]
    return [leaf for value in given for leaf in _leaves(value)] if isinstance(given, list) else [given]


def _plain_metrics(given: Any) -> bool:
    """Whether TF.js understands how the metrics are nested."""
    return not (isinstance(given, (list, tuple)) and any(isinstance(m, (list, tuple)) for m in given))


def _spread(given: Any, name: Any) -> Any:
    if isinstance(given, Mapping) and not {"class_name", "config"} <= set(given):
        return {key: _spread(value, name) for key, value in given.items()}
    return [_spread(value, name) for value in given] if isinstance(given, (list, tuple)) else name(given)


def _loss_name(identifier: Any) -> Any:
    found = losses.get(identifier)
    if isinstance(found, losses.Loss):
        return _described(found, losses.LOSS_CLASSES, "loss")
    name = losses.name_of(found) or _registered_name(found)
    return _nameless("loss", found) if name is None else name


def _metric_name(identifier: Any) -> Any:
    if isinstance(identifier, str):
        short = {"acc": "accuracy", "ce": "crossentropy"}.get(metrics.key(identifier))
        if short:
            return short
    found = metrics.get(identifier)
    if isinstance(found, metrics.Metric):
        return identifier if isinstance(identifier, str) else _described(found, metrics.METRIC_CLASSES, "metric")
    name = metrics.name_of(found) or losses.name_of(found)
    if name is not None:
        return _TFJS_METRICS.get(name, name)
    name = _registered_name(found)
    return _nameless("metric", found) if name is None else name


def _described(thing: Any, known: registry.Names, kind: str) -> dict[str, Any]:
    """A loss or metric object as its class and configuration; a class of the user must be registered."""
    name = thing.get_class_name()
    if registry.custom(name) is not type(thing) and not (name in known and known.get(name) is type(thing)):
        _nameless(kind, type(thing))
    return registry.serialize_value(thing)


def _nameless(kind: str, thing: Any) -> NoReturn:
    raise SaveError(
        f"the {kind} {getattr(thing, '__name__', thing)!r} has no name to save it by: register it with "
        "lf.register_class, or save with include_optimizer=False."
    )


def _registered_name(function: Any) -> str | None:
    name = getattr(function, "__name__", None)
    return name if name is not None and registry.custom(name) is function else None


def _optimizer_state(model: Any) -> list[tuple[str, np.ndarray, str | None]]:
    """The state by name; TF.js keeps only weights that were trained."""
    variables = model.trainable_weights
    names = {id(w): name for name, w in named_weights(model)}
    kept = [w for w in variables if id(w) in names]
    values = model.optimizer.get_weights(kept)
    labels = ["iter", *_state_labels(model.optimizer, kept, names)]
    return [(label, value, "optimizer") for label, value in zip(labels, values, strict=True)]


def _state_labels(optimizer: Any, variables: list[Variable], names: Mapping[int, str]) -> list[str]:
    """Names in files of the arrays that an optimizer keeps, in the order of its `get_weights`."""
    kept = optimizer.state(variables)
    return [f"{optimizer.name if owner is None else names[id(owner)]}/{slot}" for owner, slot, _ in kept]


@accepts_camel_case
def load_layers_model(
    path: Any, custom_objects: Mapping[str, Any] | None = None, strict: bool = True, compile: bool = True
) -> Any:
    """Loads a model that TF.js, its converter or layerflow wrote.

    Args:
        path: the folder or its model.json; a file:// URL too.
        custom_objects: your classes and functions by name.
        strict: every weight must have data, and all data a weight.
        compile: restore the training configuration and the optimizer's state, if the file has them.

    Raises:
        LoadError: the file is not well-formed, or not safe; its `category` says what is wrong.
    """
    found = artifacts.read(path)
    entries = {entry.name: entry for entry in found.entries if entry.group != "optimizer"}
    with weights_from(_first_values(entries, strict)):
        model = model_from_topology(found.description["modelTopology"], custom_objects)
    if not model.outputs:
        raise LoadError("the model has no layers.", "invalid_topology")
    if entries or strict:
        _assign(model, entries, strict)
    model.user_defined_metadata = found.description.get("userDefinedMetadata")
    if compile:
        with registry.custom_objects(custom_objects):
            _restore_training(model, found)
    return model


def _first_values(entries: Mapping[str, artifacts.Entry], strict: bool) -> Any:
    """What new weights start from: zeros that the file has data for: it cannot ask for more memory than that."""
    sizes: dict[str, set[tuple[int, ...]]] = {}
    for name, entry in entries.items():
        for spelling in {name, re.sub(r"_\d+$", "", name), _without_cell(name)}:
            sizes.setdefault(spelling, set()).add(entry.shape)

    def first(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if name not in sizes:
            if strict:
                raise LoadError(f"the file has no data for the weight {name!r}.", "missing_weight")
            if np.prod([float(n) for n in shape]) > 2**28:
                raise LoadError(
                    f"the weight {name!r} would have shape {list(shape)}, for which the file has no data.", "size_limit"
                )
        elif shape not in sizes[name]:
            raise LoadError(
                f"the weight {name!r} needs shape {list(shape)}, the file has {sorted(sizes[name])}.", "shape_mismatch"
            )
        return np.zeros(shape, dtype)

    return first


def _without_cell(name: str) -> str:
    """lstm/lstm_cell/kernel -> lstm/kernel, as converted files name the weights of recurrent layers."""
    parts = name.split("/")
    return "/".join([*parts[:-2], parts[-1]]) if len(parts) > 2 else name


def _assign(model: Any, entries: Mapping[str, artifacts.Entry], strict: bool) -> None:
    left = dict(entries)
    cells = {_without_cell(name): name for name in entries}
    missing, found = [], []
    for name, weight in named_weights(model):
        entry = left.pop(name, None) or left.pop(cells.get(name, ""), None)
        if entry is None:
            missing.append(name)
            continue
        if entry.shape != weight.shape:
            raise LoadError(
                f"the weight {name!r} needs shape {list(weight.shape)}, the file has {list(entry.shape)}.",
                "shape_mismatch",
            )
        found.append((weight, entry))
    if strict and missing:
        raise LoadError(f"the file has no data for {len(missing)} weights: {', '.join(missing)}.", "missing_weight")
    if strict and left:
        raise LoadError(
            f"the file has data for weights that the model does not have: {', '.join(left)}.", "unexpected_weight"
        )
    for weight, entry in found:
        weight.assign(entry.values())


def _restore_training(model: Any, found: artifacts.Artifacts) -> None:
    own = found.description.get(OWN_TRAINING)
    written = own or found.description.get("trainingConfig")
    if not isinstance(written, Mapping) or not isinstance(written.get("optimizer_config"), Mapping):
        return
    described = written["optimizer_config"]
    names = optimizers.OPTIMIZERS if (own or {}).get("api") == "keras" else train.OPTIMIZERS
    try:
        optimizer = registry.construct(names, described)
        model.compile(
            optimizer=optimizer,
            loss=written.get("loss"),
            metrics=written.get("metrics") or None,
            loss_weights=written.get("loss_weights"),
            weighted_metrics=written.get("weighted_metrics"),
        )
    except LayerflowError as error:
        raise LoadError(
            f"the training configuration cannot be restored ({error}); load with compile=False.", "invalid_topology"
        ) from error
    _restore_state(model, [entry for entry in found.entries if entry.group == "optimizer"])


def _restore_state(model: Any, entries: list[artifacts.Entry]) -> None:
    by_name = {entry.name: entry for entry in entries}
    if "iter" not in by_name:
        return
    names = {id(w): name for name, w in named_weights(model)}
    kept = [w for w in model.trainable_weights if id(w) in names]
    labels = _state_labels(model.optimizer, kept, names)
    # TF.js names a weight by its position when the same name exists elsewhere on the page: then the order decides.
    ordered = (
        [by_name[x] for x in labels] if all(x in by_name for x in labels) else [e for e in entries if e.name != "iter"]
    )
    try:
        model.optimizer.set_weights([by_name["iter"].values(), *(entry.values() for entry in ordered)], kept)
    except LayerflowError as error:
        raise LoadError(f"the optimizer's state does not fit: {error}", "shape_mismatch") from error
