"""Layers from {class_name, config} entries of files: known and registered classes only; nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerflow.errors import LayerflowError, LoadError, ShapeError, nearest
from layerflow.layers.base import Layer
from layerflow.registry import Names, custom, fold

LAYERS = Names("layer")
# What files say besides a layer's arguments, without a meaning here when it has one of these values.
_NOTHING = (None, False, {}, [], "")
_NOTES = {"module", "registered_name", "build_config", "batch_input_shape", "dtype", "ragged", "sparse", "optional"}


def deserialize(entry: Any, custom_objects: Mapping[str, Any] | None = None) -> Layer:
    """The layer of an entry of a file.

    Args:
        entry: {"class_name": ..., "config": {...}}.
        custom_objects: classes by name that are known in addition.

    Raises:
        LoadError: unknown class, or a configuration that the class does not take.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name", entry.get("className")), str):
        raise LoadError(f"a layer needs a class_name and a config, got {str(entry)[:80]}.", "invalid_topology")
    name = entry.get("class_name", entry.get("className"))
    config = entry.get("config")
    if config is None:
        config = {}
    cls = (custom_objects or {}).get(name) or custom(name) or (LAYERS.get(name) if name in LAYERS else None)
    if cls is None:
        if name == "Lambda":
            raise LoadError(
                "the file contains a Lambda layer, that is, program code; layerflow does not run code from files.",
                "unsafe_code",
            )
        raise LoadError(
            f"unknown layer class {name!r}.{nearest(name, LAYERS.names())} A layer of your own must be registered "
            "(lf.register_class) or given in custom_objects before loading.",
            "unknown_class",
        )
    try:
        return cls.from_config(known_settings(cls, config) if isinstance(config, Mapping) else config)
    except LoadError:
        raise
    except ShapeError as error:
        raise LoadError(f"{name}: {error}", "shape_mismatch") from error
    except (LayerflowError, TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise LoadError(f"{name}: {error}", "invalid_topology") from error


def known_settings(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without settings of other libraries that are switched off.

    Raises:
        LoadError: a setting that is on and that the class does not have.
    """
    known = getattr(cls, "accepted_arguments", None)
    if known is None or cls.from_config.__func__ is not Layer.from_config.__func__:
        return dict(config)
    accepted = known()
    kept = {}
    for key, value in config.items():
        if fold(key) in accepted:
            kept[key] = value
        elif value not in _NOTHING and key not in _NOTES | getattr(cls, "FILE_NOTES", frozenset()):
            raise LoadError(f"{cls.__name__}: the setting {key!r} = {value!r} is not supported.", "invalid_topology")
    return kept
