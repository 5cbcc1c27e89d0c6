"""Statistics of the values of a dataset, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from layerflow.errors import DataError

Statistics = dict[str, Any]


class _Column:
    """Counts, extremes and central moments, brought together block by block.

    Means and squared deviations of two parts are combined as in Chan, Golub, LeVeque: "Updating formulae and a pairwise
    algorithm for computing sample variances" (1979).
    """

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.low, self.high = math.inf, -math.inf
        self.mean = self.squares = 0.0

    def add(self, values: np.ndarray) -> None:
        values = np.asarray(values, np.float64).ravel()
        known = values[~np.isnan(values)]
        self.missing += len(values) - len(known)
        if not len(known):
            return
        mean, count = float(known.mean()), len(known)
        total, apart = self.count + count, mean - self.mean
        self.squares += float(((known - mean) ** 2).sum()) + apart * apart * self.count * count / total
        self.mean += apart * count / total
        self.count = total
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))

    def summary(self) -> dict[str, float]:
        known = self.count > 0
        variance = self.squares / self.count if known else math.nan
        return {
            "min": self.low if known else math.nan,
            "max": self.high if known else math.nan,
            "mean": self.mean if known else math.nan,
            "variance": variance,
            "stddev": math.sqrt(variance),
            "length": self.count,
            "missing": self.missing,
        }


def measured(blocks: Iterable[Any]) -> Statistics:
    """Statistics of the columns of blocks; see `Dataset.statistics`."""
    columns: dict[tuple[str, ...], _Column] = {}
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        raise DataError("statistics(): the dataset is empty.")
    if not isinstance(first, Mapping):
        raise DataError(
            f"statistics(): elements must be dicts of numbers, as those of lf.data.csv, but are of type "
            f"{type(first).__name__}; "
            'give the values names with map(lambda element: {"x": element}).'
        )

    def add(block: Any, path: tuple[str, ...]) -> None:
        if isinstance(block, Mapping):
            for key, entry in block.items():
                add(entry, (*path, key))
        elif np.asarray(block).dtype.kind in "fiub":
            columns.setdefault(path, _Column()).add(block)

    while first is not None:
        add(first, ())
        first = next(blocks, None)
    return _nested(columns)


def _nested(columns: Mapping[tuple[str, ...], _Column]) -> Statistics:
    result: Statistics = {}
    for path, column in columns.items():
        inner = result
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = column.summary()
    return result


def scale_to_01(low: float, high: float) -> Callable[[Any], Any]:
    """A function for `map` that brings values from [low, high] to [0, 1]; with `low == high` everything becomes 0."""
    width = high - low
    return lambda value: (value - low) / width if width else value * 0.0
