"""Streams: everything that gives batches when it is iterated - datasets, generators, loaders, sequences of batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from layerflow.data import Dataset
from layerflow.errors import ArgumentError


class Stream:
    """Anything whose elements are batches, under one face.

    Args:
        given: what the user gave; see `is_stream`.

    Attributes:
        size: batches, or None where nobody knows or there is no end.
        endless: whether it is known to have no end.
        once: whether it can be read only once (an iterator).
        restarts: whether it begins anew where it ends within an epoch of a given number of steps: what has a length,
            but no `lf.data` dataset, which ends there as in TensorFlow.js.
    """

    def __init__(self, given: Any):
        self.given = given
        self.once = hasattr(given, "__next__")
        self._indexed = not self.once and not hasattr(given, "__iter__") and hasattr(given, "__getitem__")
        size = given.size if isinstance(given, Dataset) else _length(given)
        self.endless = size == math.inf
        self.size = None if size is None or self.endless else int(size)
        self.restarts = self.size is not None and not isinstance(given, Dataset)

    def __iter__(self) -> Iterator[Any]:
        if self._indexed and self.size is not None:
            return (self.given[at] for at in range(self.size))
        made = self.given() if _is_function(self.given) else self.given
        try:
            return iter(made)
        except TypeError:
            raise ArgumentError(
                f"a function that stands for a dataset must return an iterator, but returned {type(made).__name__}; "
                "use yield."
            ) from None

    def end_epoch(self) -> None:
        """Tells a sequence of batches that an epoch is over, if it wants to know (Keras's `on_epoch_end`)."""
        tell: Callable[[], Any] | None = getattr(self.given, "on_epoch_end", None)
        if callable(tell):
            tell()


def is_stream(given: Any) -> bool:
    """Whether this is a source of batches, not data itself: no array, number, list, tuple, dict or frame."""
    if given is None or isinstance(given, (np.ndarray, np.generic, Mapping, list, tuple, str, bytes, int, float)):
        return False
    if isinstance(given, Dataset) or _is_function(given) or hasattr(given, "__next__"):
        return True
    if hasattr(given, "__array__") or hasattr(given, "to_numpy") or hasattr(given, "__array_interface__"):
        return False
    return hasattr(given, "__iter__") or (hasattr(given, "__getitem__") and hasattr(given, "__len__"))


def _is_function(given: Any) -> bool:
    return callable(given) and not hasattr(given, "__iter__") and not hasattr(given, "__getitem__")


def _length(given: Any) -> int | None:
    """The number of batches; None where it is not known, as for loaders of streams."""
    try:
        return len(given)
    except TypeError:
        return None


def stream_of(given: Any, method: str, argument: str, steps: int | None, epochs: int = 1) -> Stream:
    """The stream of something given, if it can be read to an end.

    Args:
        method, argument: for messages: who reads, and which argument says how much.
        steps: batches to read in an epoch, None: all.
        epochs: how often it is read.

    Raises:
        ArgumentError: no source of batches, one without end, or one that cannot be read that often.
    """
    if not is_stream(given):
        raise ArgumentError(
            f"{method}: expected a dataset, got {type(given).__name__}; make one with lf.data.generator or "
            "lf.data.array, or pass arrays to fit or evaluate."
        )
    stream = Stream(given)
    if steps is None and stream.endless:
        raise ArgumentError(f"{method}: the dataset is infinite; say with {argument} how many batches to use.")
    if steps is None and stream.once and epochs > 1:
        raise ArgumentError(
            f"{method}: a {type(given).__name__} can be read only once, but there are {epochs} epochs: give the "
            f"function that makes it (without calling it), or say with {argument} how many batches are an epoch."
        )
    return stream
