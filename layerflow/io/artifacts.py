"""`model.json` and its weight files: found, checked, read, written (INVENTORY 5.1, 5.2).

Sizes are checked against the bytes that are there before anything is made of them; no path leaves the model's folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import LoadError, SaveError

MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.bin"
_OWN_WEIGHTS = re.compile(r"weights(-[0-9a-f]{16})?\.bin")
_STORED = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4"), "bool": np.dtype("u1")}
_QUANTIZED = {"uint8": np.dtype("u1"), "uint16": np.dtype("<u2"), "float16": np.dtype("<f2")}


@dataclass(frozen=True)
class Entry:
    """One weight of a manifest: how it is stored, and its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Mapping[str, Any] | None
    group: str | None
    data: memoryview

    def values(self) -> np.ndarray:
        """The array, dequantized."""
        stored = np.frombuffer(self.data, _storage(self.name, self.dtype, self.quantization)).reshape(self.shape)
        target = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}[self.dtype]
        if self.quantization is None or self.quantization["dtype"] == "float16":
            return stored.astype(target)
        wide = stored.astype(np.float32) * np.float32(self.quantization["scale"]) + np.float32(self.quantization["min"])
        return (np.round(wide) if self.dtype == "int32" else wide).astype(target)


@dataclass
class Artifacts:
    """The contents of a model's files."""

    description: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)


def local_path(place: Any, error: type, *category: str) -> Path:
    """The path of a place given as path or file:// URL."""
    text = os.fspath(place)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme and scheme[1].lower() != "file":
        raise error(f"{text}: the scheme {scheme[1]}:// is not supported; give a path or a file:// URL.", *category)
    return Path(text[len("file://") :] if scheme else text)


def read(place: Any) -> Artifacts:
    """Reads a model: the folder, or its model.json.

    Raises:
        LoadError: see its categories.
    """
    path = local_path(place, LoadError, "unsupported_format")
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        raise LoadError(f"{path}: there is no such file.", "missing_file")
    try:
        description = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is no JSON text: {error}.", "invalid_json") from None
    if not isinstance(description, dict) or not isinstance(description.get("modelTopology"), dict):
        raise LoadError(f"{path} holds no layers model: there is no modelTopology.", "invalid_topology")
    if description.get("format", "layers-model") != "layers-model":
        raise LoadError(f"{path} holds a {description['format']!r}, not a layers-model.", "unsupported_format")
    groups = description.get("weightsManifest") or []
    if not isinstance(groups, list):
        raise LoadError("weightsManifest is no list.", "invalid_manifest")
    entries = [entry for group in groups for entry in _group(path.parent, group)]
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise LoadError(f"the weight {entry.name!r} is in the manifest twice.", "invalid_manifest")
        seen.add(entry.name)
    return Artifacts(description, entries)


def _group(folder: Path, group: Any) -> list[Entry]:
    if (
        not isinstance(group, Mapping)
        or not isinstance(group.get("paths"), list)
        or not isinstance(group.get("weights"), list)
    ):
        raise LoadError("a group of weightsManifest needs paths and weights.", "invalid_manifest")
    files = [inside(folder, name) for name in group["paths"]]
    available = sum(file.stat().st_size for file in files)
    layout = [_sized(weight) for weight in group["weights"]]
    needed = sum(size for *_, size in layout)
    if needed > available:
        raise LoadError(
            f"the weights declare {needed} bytes, {', '.join(group['paths'])} hold {available}.", "truncated_data"
        )
    data = memoryview(b"".join(file.read_bytes() for file in files))
    if len(data) < needed:
        raise LoadError("a weight file shrank while it was read.", "truncated_data")
    entries, at = [], 0
    for weight, shape, size in layout:
        entries.append(
            Entry(
                weight["name"],
                shape,
                weight["dtype"],
                weight.get("quantization"),
                weight.get("group"),
                data[at : at + size],
            )
        )
        at += size
    return entries


def inside(folder: Path, name: Any) -> Path:
    """The file of this name in the folder.

    Raises:
        LoadError: a path that leaves the folder, or no such file.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise LoadError(f"{name!r} is no file name.", "invalid_manifest")
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise LoadError(f"the path {name!r} leaves the folder of the model.", "unsafe_path")
    root = folder.resolve()
    path = root.joinpath(*parts).resolve()
    if not path.is_relative_to(root):
        raise LoadError(f"the path {name!r} leaves the folder of the model.", "unsafe_path")
    if not path.is_file():
        raise LoadError(f"the weight file {name!r} is missing in {folder}.", "missing_file")
    return path


def _sized(weight: Any) -> tuple[Mapping[str, Any], tuple[int, ...], int]:
    """A manifest entry, its shape and its size in bytes; arithmetic only."""
    if (
        not isinstance(weight, Mapping)
        or not isinstance(weight.get("name"), str)
        or not isinstance(weight.get("dtype"), str)
    ):
        raise LoadError(
            f"an entry of weightsManifest needs a name, shape and dtype, got {str(weight)[:80]}.", "invalid_manifest"
        )
    name, shape = weight["name"], weight.get("shape")
    if not isinstance(shape, list) or any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in shape):
        raise LoadError(f"{name}: {shape!r} is no shape.", "shape_mismatch")
    if len(shape) > 32:
        raise LoadError(f"{name}: a shape of {len(shape)} axes is not supported.", "size_limit")
    storage = _storage(name, weight["dtype"], weight.get("quantization"))
    return weight, tuple(shape), math.prod(shape) * storage.itemsize


def _storage(name: str, dtype: str, quantization: Any) -> np.dtype:
    if dtype not in _STORED:
        raise LoadError(
            f"{name}: the dtype {dtype!r} is not supported; known are {', '.join(_STORED)}.", "unsupported_dtype"
        )
    if quantization is None:
        return _STORED[dtype]
    kind = quantization.get("dtype") if isinstance(quantization, Mapping) else None
    if kind not in _QUANTIZED or (kind == "float16" and dtype != "float32"):
        raise LoadError(f"{name}: quantization of {dtype} to {kind!r} is not supported.", "unsupported_dtype")
    if kind != "float16" and not all(isinstance(quantization.get(k), (int, float)) for k in ("scale", "min")):
        raise LoadError(f"{name}: the quantization lacks its scale or min.", "invalid_manifest")
    return _QUANTIZED[kind]


def write(
    place: Any, description: dict[str, Any], weights: Sequence[tuple[str, np.ndarray, str | None]]
) -> dict[str, int]:
    """Writes model.json and one weight file; at any moment the folder holds the old model or the new one, whole.

    Args:
        place: folder, or the model.json in it; made if missing.
        description: what model.json says besides the manifest.
        weights: (name, array, group) in the order of the file.

    Returns:
        Sizes in bytes of the topology, the manifest and the data.
    """
    path = local_path(place, SaveError)
    folder, file = (path.parent, path) if path.suffix == ".json" else (path, path / MODEL_FILE)
    stored = [(name, *_bytes(name, array), group) for name, array, group in weights]
    data = b"".join(raw for _, raw, _, _, _ in stored)
    before = _referred(file)
    target = WEIGHTS_FILE if WEIGHTS_FILE not in before else f"weights-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    entries = [
        {"name": name, "shape": list(shape), "dtype": dtype, **({"group": group} if group else {})}
        for name, _, shape, dtype, group in stored
    ]
    manifest = [{"paths": [target], "weights": entries}]
    try:
        text = json.dumps({**description, "weightsManifest": manifest}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SaveError(f"{file}: the description of the model cannot be written as JSON: {error}.") from None
    folder.mkdir(parents=True, exist_ok=True)
    if target not in before:
        replace_file(folder / target, data)
    replace_file(file, text.encode("utf-8"))
    for name in before - {target}:
        if _OWN_WEIGHTS.fullmatch(name):
            (folder / name).unlink(missing_ok=True)
    return {
        "model_topology_bytes": len(json.dumps(description.get("modelTopology"))),
        "weight_specs_bytes": len(json.dumps(entries)),
        "weight_data_bytes": len(data),
    }


def _bytes(name: str, array: np.ndarray) -> tuple[bytes, tuple[int, ...], str]:
    array = np.asarray(array)
    dtype = (
        "bool"
        if array.dtype.kind == "b"
        else "int32"
        if array.dtype.kind in "iu"
        else "float32"
        if array.dtype.kind == "f"
        else ""
    )
    if not dtype:
        raise SaveError(f"{name}: values of dtype {array.dtype} cannot be saved.")
    return np.ascontiguousarray(array, _STORED[dtype]).tobytes(), array.shape, dtype


def _referred(file: Path) -> set[str]:
    """Weight files that an existing model.json names."""
    try:
        manifest = json.loads(file.read_bytes()).get("weightsManifest", [])
        return {name.removeprefix("./") for group in manifest for name in group["paths"] if isinstance(name, str)}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return set()


def replace_file(path: Path, data: bytes) -> None:
    """The file holds `data` and is on the disk, or is as it was."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
