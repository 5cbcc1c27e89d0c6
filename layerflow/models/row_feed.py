"""RowFeed: batches of a dataset whose elements are rows of arrays, gathered by the native step itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.data import Dataset
from layerflow.data import blocks as row_blocks
from layerflow.data.dataset import RowBatches
from layerflow.data.structures import leaves
from layerflow.errors import DataError
from layerflow.models.batches import Data
from layerflow.models.feeds import StreamFeed
from layerflow.models.streams import Stream

# Arrays above this are checked and brought to the model's types a batch at a time, as any stream is.
MOST_BYTES = 2**31


class RowFeed(StreamFeed):
    """Batches of rows of arrays: many of them run in one native call, none becomes an array in Python.

    Args:
        data: all rows, checked.
        batches: which of them form the batches.
        others: the arguments of StreamFeed.
    """

    def __init__(self, data: Data, batches: RowBatches, *others: Any, **options: Any):
        super().__init__(*others, **options)
        self._data, self._batches = data, batches
        self._check: Callable[[Any], Any] = lambda block: block

    def _begin_elements(self) -> None:
        rows, size, small_last = self._batches
        self._elements = row_blocks.groups(rows.blocks(), size, small_last)

    def run(self, step: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
        chosen: list[Any] = [self._taken()]
        while len(chosen) < most and self.ready():
            chosen.append(self._taken())
        sizes = np.array([len(block) for block in chosen])
        data, order = self._data, np.concatenate([row_blocks.numbers(block) for block in chosen])
        values = step.run_many(data.xs, data.ys, data.ws, order, self._batches.size, 0, len(chosen))
        return values, sizes

    def run_one(self, step: Any) -> tuple[int, list[float]]:
        values, sizes = self.run(step, 1)
        return int(sizes[0]), values[0].tolist()


def feed_of(
    stream: Stream, check: Callable[[Any], Data], steps: int | None, argument: str, owner: str, goes_on: bool = True
) -> StreamFeed:
    """The feed of a stream: a RowFeed if its elements are batches of rows of arrays; arguments as for StreamFeed."""
    rest = (stream, check, steps, argument, owner, goes_on)
    batches = stream.given.row_batches if isinstance(stream.given, Dataset) else None
    if batches is None or batches.rows.source is None:
        return StreamFeed(*rest)
    parts = list(leaves(batches.rows.source))
    if any(isinstance(part, np.memmap) for part in parts) or sum(part.nbytes for part in parts) > MOST_BYTES:
        return StreamFeed(*rest)
    try:
        return RowFeed(check(batches.rows.source), batches, *rest)
    except DataError:
        # Perhaps in rows that nobody reads; if not, the batch that holds them is named.
        return StreamFeed(*rest)
