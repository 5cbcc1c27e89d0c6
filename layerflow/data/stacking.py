"""Elements of a dataset stacked to a batch.

Dicts, tuples, and lists that hold arrays or further structures are structures, which batches keep; arrays, numbers and
(nested) lists of numbers are values, which become arrays with a batch axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.data.structures import like
from layerflow.errors import DataError, ShapeError
from layerflow.graph.tensor import tensor, wrap


def stacked(elements: Sequence[Any], number: int = 0, place: str = "") -> Any:
    """The elements as one structure of arrays [len(elements), ...].

    Args:
        elements: at least one; all of one structure, with values of equal shapes.
        number: which element of the dataset the first one is, for messages.
        place: where in the structure this is, for messages.

    Raises:
        DataError: they differ in structure or shape.
    """
    first = elements[0]
    if isinstance(first, Mapping):
        for at, e in enumerate(elements, number):
            if not isinstance(e, Mapping) or e.keys() != first.keys():
                found = f"keys {list(e)}" if isinstance(e, Mapping) else f"a {type(e).__name__}"
                raise DataError(
                    f"batch(): the elements differ in their keys{_at(place)}: element {at} has {found}, element "
                    f"{number} keys {list(first)}. Give every one the same."
                )
        return {key: stacked([e[key] for e in elements], number, f"{place}[{key!r}]") for key in first}
    if isinstance(first, tuple) or (isinstance(first, list) and not _numeric(first)):
        for at, e in enumerate(elements, number):
            if not isinstance(e, type(first)) or len(e) != len(first):
                raise DataError(
                    f"batch(): the elements differ in length or kind{_at(place)}: element {at} is {_described(e)}, "
                    f"element {number} {_described(first)}. Make them alike with map()."
                )
        parts = [stacked([e[i] for e in elements], number, f"{place}[{i}]") for i in range(len(first))]
        return like(first, parts)
    return wrap(_values(elements, number, place))


def _values(elements: Sequence[Any], number: int, place: str) -> np.ndarray:
    """Values of one shape in one array."""
    first = elements[0]
    if isinstance(first, np.ndarray) and all(isinstance(e, np.ndarray) and e.dtype == first.dtype for e in elements):
        _same_shapes(elements, number, place)
        out = np.empty((len(elements), *first.shape), first.dtype)
        for at, element in enumerate(elements):
            out[at] = element
        return out
    kinds = set(map(type, elements))
    if kinds <= {float, int}:
        return np.array(elements, np.float64).astype(config.floatx())
    if kinds == {str} or (len(kinds) == 1 and issubclass(type(first), (bool, np.generic))):
        return np.array(elements)
    values = [_value(e, at, place) for at, e in enumerate(elements, number)]
    _same_shapes(values, number, place)
    return np.stack(values)


def _value(element: Any, number: int, place: str) -> np.ndarray:
    try:
        return np.asarray(element if hasattr(element, "__array__") else tensor(element))
    except ShapeError as error:
        raise DataError(
            f"batch(): element {number}{_at(place)} is {_described(element)}, which cannot be stacked ({error}); "
            "turn it into numbers with map(), or drop it with filter()."
        ) from None


def _same_shapes(values: Sequence[np.ndarray], number: int, place: str) -> None:
    first = values[0].shape
    for at, value in enumerate(values, number):
        if value.shape != first:
            raise DataError(
                f"batch(): element {number} is of shape {list(first)}, element {at} of shape {list(value.shape)}"
                f"{_at(place)}, which cannot be stacked; bring them to one shape with map()."
            )


def _at(place: str) -> str:
    return f" (at element{place})" if place else ""


def _described(element: Any) -> str:
    counted = f" of {len(element)}" if isinstance(element, (list, tuple, Mapping)) else ""
    return f"a {type(element).__name__}{counted}"


def _numeric(value: list[Any]) -> bool:
    """Whether a list holds nothing but numbers and lists of such."""
    return all(_numeric(v) if isinstance(v, list) else isinstance(v, (int, float, np.generic)) for v in value)
