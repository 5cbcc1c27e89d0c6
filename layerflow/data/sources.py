"""What datasets start with: arrays, generators, functions, and other datasets side by side."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.data.dataset import Dataset
from layerflow.data.failures import noted
from layerflow.data.rows import Rows, zipped
from layerflow.data.structures import filled, leaves
from layerflow.errors import ArgumentError


def generator(fn: Callable[[], Iterable[Any]]) -> Dataset:
    """A dataset of what `fn()` yields; `fn` is called anew for each iteration.

    Args:
        fn: a generator function, or any function that returns a fresh iterable.

    Raises:
        ArgumentError: fn is no function (an iterator, say, which could be used only once).
    """
    if not callable(fn):
        raise ArgumentError(
            f"generator() takes a function that returns an iterator, got {type(fn).__name__}; "
            "pass the generator function itself, without calling it."
        )

    def elements() -> Iterator[Any]:
        made = fn()
        if not isinstance(made, Iterable):
            raise ArgumentError(
                f"generator(): the function must return an iterator, but returned {type(made).__name__}; use yield."
            )
        number = 0
        try:
            for element in made:
                yield element
                number += 1
        except Exception as error:
            noted(error, f"generator() of the dataset: raised by the function's iterator at element {number}.")
            raise

    return Dataset(elements)


def func(f: Callable[[], Any]) -> Dataset:
    """A dataset of f(), f(), ... until f raises StopIteration; a later iteration goes on where the last one ended.

    As in TensorFlow.js, f may also return `{"value": element, "done": whether there is none any more}`.
    """

    def elements() -> Iterator[Any]:
        for number in itertools.count():
            try:
                element = f()
            except StopIteration:
                return
            except Exception as error:
                noted(error, f"func() of the dataset: raised by the function at element {number}.")
                raise
            if isinstance(element, Mapping) and element.keys() == {"value", "done"}:
                if element["done"]:
                    return
                element = element["value"]
            yield element

    return Dataset(elements)


def array(items: Any) -> Dataset:
    """A dataset of the items of a list or tuple, or of the rows of an array.

    Args:
        items: a list or tuple of elements, or anything with a length and numbered items; an array [rows, ...]; a dict
            of arrays (nested, if need be), whose rows are dicts; a pandas or polars frame, whose rows are dicts by
            column.

    Raises:
        ArgumentError: something else; arrays that differ in length.
    """
    if hasattr(items, "columns") and hasattr(items, "__array__"):
        items = {str(name): np.asarray(items[name]) for name in items.columns}
    if isinstance(items, Mapping):
        return _table(items)
    readable = hasattr(items, "__len__") and (hasattr(items, "__iter__") or hasattr(items, "__getitem__"))
    if isinstance(items, (str, Dataset)) or not readable:
        raise ArgumentError(
            f"array() takes a list or an array, got {type(items).__name__}; "
            "use lf.data.generator for iterators, and lf.data.zip for a dict of datasets."
        )
    if isinstance(items, np.ndarray):
        return Dataset.of_rows(Rows.of(items, len(items)), len(items))
    return Dataset(lambda: iter(items) if hasattr(items, "__iter__") else _numbered(items), len(items))


def _numbered(items: Any) -> Iterator[Any]:
    return (items[number] for number in range(len(items)))


def _table(columns: Mapping[str, Any]) -> Dataset:
    lengths = {len(leaf) if getattr(leaf, "ndim", 0) else None for leaf in leaves(columns)}
    if len(lengths) != 1 or None in lengths:
        raise ArgumentError(
            "array() takes a dict of arrays of one length, got "
            f"{', '.join(f'{key!r}: {_shape(value)}' for key, value in columns.items()) or 'an empty one'}; "
            "use lf.data.zip for a dict of datasets."
        )
    (count,) = lengths
    assert count is not None
    return Dataset.of_rows(Rows.of(filled(columns, builtins.map(np.asanyarray, leaves(columns))), count), count)


def _shape(value: Any) -> str:
    return str(list(value.shape)) if hasattr(value, "shape") else f"a {type(value).__name__}"


def zip_(datasets: Any) -> Dataset:
    """Elements of several datasets side by side, as far as the shortest goes.

    Args:
        datasets: a dict, list or tuple of datasets, or of further such structures; elements have its form:
            `zip({"xs": xs, "ys": ys})` gives `{"xs": x, "ys": y}`.

    Raises:
        ArgumentError: something in the structure is no dataset, or it is empty.
    """
    parts: list[Dataset] = []

    def collect(structure: Any) -> None:
        if isinstance(structure, Dataset):
            parts.append(structure)
        elif isinstance(structure, (Mapping, list, tuple)) and structure:
            for entry in structure.values() if isinstance(structure, Mapping) else structure:
                collect(entry)
        else:
            raise ArgumentError(
                f"zip() takes datasets in a dict, list or tuple that is not empty, got {type(structure).__name__}; "
                "make datasets with lf.data.array or lf.data.generator."
            )

    collect(datasets)
    sizes: Sequence[float | None] = [part.size for part in parts]
    known = None if None in sizes else min(size for size in sizes if size is not None)
    rows = [part.rows for part in parts if part.rows is not None]
    side_by_side = zipped(datasets, rows) if len(rows) == len(parts) else None
    if side_by_side is not None:
        return Dataset.of_rows(side_by_side, known)

    def elements() -> Iterator[Any]:
        values = builtins.zip(*[iter(part) for part in parts], strict=False)
        return (filled(datasets, iter(row)) for row in values)

    return Dataset(elements, known)
