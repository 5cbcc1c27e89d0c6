"""The fixtures of real peers: the manifest, what each case needs, and what is still missing here."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.registry import fold

FOLDER = Path(os.environ.get("LAYERFLOW_CONFORMANCE") or Path(__file__).parent / "data")

Case = dict[str, Any]

_FORMATS = "files of Keras: an issue of its own"

# Capability -> why it is not there yet.  Nothing else makes a case skip.
PENDING: dict[str, str] = {
    **dict.fromkeys(["format.keras_v3", "format.keras_h5"], _FORMATS),
}


@cache
def cases() -> list[Case]:
    return json.loads((FOLDER / "cases.json").read_text())["cases"]


def arrays(relative: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / relative, allow_pickle=False) as stored:
        return dict(stored)


@cache
def _layer_capabilities() -> dict[str, str]:
    """Layer class -> capability, from the cases of single layers."""
    found: dict[str, str] = {}
    for case in cases():
        if case["kind"] == "layer":
            name = case["layer"]["class_name"]
            # GRU has two capabilities; the shorter name is the plain one.
            found[name] = min(found.get(name, case["capability"]), case["capability"], key=len)
    return found


@cache
def _optimizer_capabilities() -> dict[str, str]:
    return {fold(c["capability"].split(".")[1]): c["capability"] for c in cases() if c["kind"] == "optimizer"}


def needs(case: Case) -> set[str]:
    """Every capability of a case: its own, and those of the layers, optimizer and format it uses."""
    found = {case["capability"]}
    if "format" in case:
        found.add(f"format.{case['format']}")
    documents: list[Any] = [case.get("topology"), case.get("layer")]
    if case["kind"] == "summary":
        documents.append(json.loads((FOLDER / case["files"]["summary"]).read_text())["topology"])
    if case.get("format") == "tfjs_layers":
        documents.append(_json(FOLDER / case["path"]))
    for name in (name for document in documents for name in _class_names(document)):
        if name in _layer_capabilities():
            found.add(_layer_capabilities()[name])
        if fold(name) in _optimizer_capabilities() and case["kind"] == "saved_model":
            found.add(_optimizer_capabilities()[fold(name)])
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # some malformed cases are just that
        return None


def _class_names(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [document[key] for key in ("class_name", "className") if isinstance(document.get(key), str)]
        return own + [name for part in document.values() for name in _class_names(part)]
    if isinstance(document, list):
        return [name for part in document for name in _class_names(part)]
    return []


def missing(case: Case) -> dict[str, str]:
    """The pending capabilities a case needs, with the reasons."""
    return {capability: PENDING[capability] for capability in sorted(needs(case)) if capability in PENDING}
