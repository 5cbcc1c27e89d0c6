"""Elements of a dataset stacked to a batch.

Dicts, tuples, and lists that hold arrays or further structures are structures, which batches keep; arrays, numbers and
(nested) lists of numbers are values, which become arrays with a batch axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.graph.tensor import tensor, wrap


def stacked(elements: Sequence[Any], place: str = "") -> Any:
    """The elements as one structure of arrays [len(elements), ...].

    Args:
        elements: at least one; all of one structure, with values of equal shapes.
        place: where in the structure this is, for messages.

    Raises:
        DataError: they differ in structure or shape.
    """
    first = elements[0]
    if isinstance(first, Mapping):
        if not all(isinstance(e, Mapping) and e.keys() == first.keys() for e in elements):
            raise DataError(f"batch(): the elements differ in their keys{_at(place)}; give every one {list(first)}.")
        return {key: stacked([e[key] for e in elements], f"{place}[{key!r}]") for key in first}
    if isinstance(first, tuple) or (isinstance(first, list) and not _numeric(first)):
        if not all(isinstance(e, type(first)) and len(e) == len(first) for e in elements):
            raise DataError(f"batch(): the elements differ in length or kind{_at(place)}; make them alike with map().")
        parts = [stacked([e[number] for e in elements], f"{place}[{number}]") for number in range(len(first))]
        return tuple(parts) if isinstance(first, tuple) else parts
    values = [np.asarray(e if isinstance(e, np.ndarray) else tensor(e)) for e in elements]
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        listed = " and ".join(str(list(shape)) for shape in shapes[:2])
        raise DataError(f"batch(): values of shapes {listed} cannot be stacked{_at(place)}; bring them to one shape.")
    return wrap(np.stack(values))


def _at(place: str) -> str:
    return f" (in element{place})" if place else ""


def _numeric(value: list[Any]) -> bool:
    """Whether a list holds nothing but numbers and lists of such."""
    return all(_numeric(v) if isinstance(v, list) else isinstance(v, (int, float, np.generic)) for v in value)
