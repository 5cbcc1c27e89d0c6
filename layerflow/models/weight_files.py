"""Weights alone in a file: an `.npz` archive with an array for each weight, by name."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import LoadError
from layerflow.io.artifacts import replace_file
from layerflow.models.saving import named_weights


def save_weights(model: Any, path: str | os.PathLike[str]) -> None:
    """Writes the weights of a model, as they are, to a file that `numpy.load` reads; it is replaced as a whole."""
    data = io.BytesIO()
    arrays: dict[str, Any] = {name: weight.numpy() for name, weight in named_weights(model)}
    np.savez(data, **arrays)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(path), data.getvalue())


def load_weights(model: Any, source: str | os.PathLike[str] | Mapping[str, Any]) -> None:
    """Gives a model the weights of a file that `save_weights` wrote, or of a dict by name.

    Weights are found by name; where names differ, as between two models made in one process, by order.

    Raises:
        LoadError: no such file, not a file of weights, or weights that do not fit; the model is as before then.
    """
    given = source if isinstance(source, Mapping) else _read(Path(source))
    weights = dict(named_weights(model))
    by_name = set(given) == set(weights)
    found = [np.asarray(given[name]) for name in (weights if by_name else given)]
    wanted = [list(weight.shape) for weight in weights.values()]
    shapes = [list(array.shape) for array in found]
    if shapes != wanted:
        raise LoadError(
            f'model "{model.name}" has weights of shapes {wanted}, the file has {shapes}; load them into a '
            "model of the same layers.",
            "shape_mismatch",
        )
    for weight, array in zip(weights.values(), found, strict=True):
        weight.assign(array)


def _read(path: Path) -> dict[str, np.ndarray]:
    # Not at the top: NumPy too loads it only to read such a file.
    from zipfile import BadZipFile

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise LoadError(f"{path}: there is no such file.", "missing_file") from None
    except (ValueError, KeyError, OSError, EOFError, AttributeError, TypeError, BadZipFile) as error:
        raise LoadError(f"{path} is no file of weights, or it is damaged: {error}", "truncated_data") from None
