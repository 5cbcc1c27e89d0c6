"""Trees of numbers, text and arrays in one file: written whole or not at all, read without running anything of it.

The file is a zip archive as `numpy.load` reads it: the arrays, and `tree.json` with everything else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import LoadError, SaveError
from layerflow.io.artifacts import replace_file

_TREE = "tree"
_ARRAY = "__array__"


def write(path: Path, tree: Any) -> None:
    """Writes a tree of dicts (with text as keys), lists, numbers, text, None and arrays.

    Raises:
        SaveError: something else is in it; nothing is written.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(tree, arrays, "state"))
    data = io.BytesIO()
    arrays[_TREE] = np.frombuffer(text.encode(), np.uint8)
    np.savez(data, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data.getvalue())


def read(path: Path) -> Any:
    """The tree that `write` wrote.

    Raises:
        LoadError: there is no such file, or it is none of `write`.
    """
    # Not at the top: NumPy too loads it only to read such a file.
    from zipfile import BadZipFile

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return _unpacked(json.loads(stored[_TREE].tobytes()), stored)
    except FileNotFoundError:
        raise LoadError(f"{path}: there is no such file.", "missing_file") from None
    except (ValueError, KeyError, OSError, EOFError, TypeError, BadZipFile, RecursionError) as error:
        raise LoadError(
            f"{path} is no file that layerflow wrote, or it is damaged: {error}", "truncated_data"
        ) from None


def _packed(value: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != _ARRAY for key in value):
        return {key: _packed(entry, arrays, f"{place}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(entry, arrays, f"{place}[{i}]") for i, entry in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SaveError(
        f"{place} is a {type(value).__name__}: a state holds numbers, text, arrays, lists and dicts with text as keys."
    )


def _unpacked(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        return {key: _unpacked(entry, arrays) for key, entry in value.items()}
    return [_unpacked(entry, arrays) for entry in value] if isinstance(value, list) else value
