"""TF.js's care for memory: in Python tensors go when nobody holds them, so this is for code brought along.

`tidy` and `keep` change nothing, `dispose` makes a tensor unusable, `memory` counts what lives.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np

from layerflow.errors import ArgumentError
from layerflow.graph.tensor import DisposedTensor, Tensor
from layerflow.graph.variable import DisposedVariable, Variable


class Memory(TypedDict):
    """What `memory()` gives."""

    num_tensors: int
    num_data_buffers: int
    num_bytes: int


def tidy(name_or_fn: Any, fn: Callable[[], Any] | None = None) -> Any:
    """What `fn()` gives.  Tensors made inside that it does not give back are gone when it returns, as always in Python.

    Raises:
        ArgumentError: fn is a coroutine function; await outside of tidy.
    """
    function = name_or_fn if fn is None else fn
    if not callable(function):
        raise ArgumentError(f"tidy needs a function, got {type(function).__name__}.")
    result = function()
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ArgumentError("tidy: the function is asynchronous; await what it needs outside of tidy.")
    return result


def keep(tensor: Any) -> Any:
    """The tensor: nothing disposes of it but `dispose`."""
    return tensor


def dispose(container: Any) -> None:
    """Makes every tensor and variable in a container unusable: lists, tuples, dicts, nested; others are skipped."""
    if isinstance(container, (Tensor, Variable)):
        container.dispose()
    elif isinstance(container, Mapping):
        for value in container.values():
            dispose(value)
    elif isinstance(container, (list, tuple, set)):
        for value in container:
            dispose(value)
    elif callable(getattr(container, "dispose", None)):
        container.dispose()


def memory() -> Memory:
    """How many tensors and variables live, on how many blocks of memory, of how many bytes."""
    count, blocks = 0, {}
    for thing in gc.get_objects():
        kind = type(thing)
        if kind is DisposedTensor or kind is DisposedVariable:
            continue
        if issubclass(kind, (Tensor, Variable)):
            count += 1
            array = thing._storage if issubclass(kind, Variable) else thing
            owner = _owner(array)
            blocks[id(owner)] = owner.nbytes
    return {"num_tensors": count, "num_data_buffers": len(blocks), "num_bytes": sum(blocks.values())}


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
