"""Streams of blocks: many rows at a time, changed with a few NumPy calls a block.

A block is a structure of arrays of one length, whose rows are elements of a dataset; or the numbers of rows that lie in
arrays elsewhere: a `range` while they are in order (it costs nothing and says that no copy is needed), then an array.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from layerflow.data.structures import leaves, mapped
from layerflow.errors import DataError

Block = Any

# Rows that shuffling moves at a time: enough to forget NumPy's overhead, few enough that a block of images is small.
PIECE = 1024


def length(block: Block) -> int:
    return len(next(leaves(block)))


def part(block: Block, first: int, last: int) -> Block:
    """The rows [first, last), as views."""
    return mapped(lambda leaf: leaf[first:last], block)


def joined(blocks: Sequence[Block]) -> Block:
    """The rows of all blocks in one; a copy, unless there is only one block."""
    if len(blocks) == 1:
        return blocks[0]
    columns = zip(*(leaves(block) for block in blocks), strict=True)
    parts = iter([_concatenated(column) for column in columns])
    return mapped(lambda _: next(parts), blocks[0])


def _concatenated(parts: Sequence[Any]) -> Any:
    try:
        return np.concatenate([numbers(part) for part in parts])
    except ValueError:
        shapes = sorted({np.shape(part)[1:] for part in parts})
        raise DataError(
            f"rows of shapes {' and '.join(str(list(s)) for s in shapes)} follow each other, which cannot be one "
            "array; bring them to one shape with map()."
        ) from None


def numbers(leaf: Any) -> np.ndarray:
    """An array, also where row numbers are given as a range."""
    return np.arange(leaf.start, leaf.stop) if isinstance(leaf, range) else leaf


def taken(blocks: Iterator[Block], n: int) -> Iterator[Block]:
    """The first n rows; nothing is read after them."""
    while n > 0:
        block = next(blocks, None)
        if block is None:
            return
        rows = length(block)
        yield block if rows <= n else part(block, 0, n)
        n -= rows


def skipped(blocks: Iterator[Block], n: int) -> Iterator[Block]:
    """The rows after the first n."""
    for block in blocks:
        rows = length(block)
        if rows > n:
            yield part(block, n, rows) if n else block
        n = max(n - rows, 0)


def pieces(blocks: Iterator[Block], most: int) -> Iterator[Block]:
    """The same rows in blocks of at most `most`."""
    for block in blocks:
        for first in range(0, length(block), most):
            yield part(block, first, first + most)


def groups(blocks: Iterator[Block], size: int, small_last: bool) -> Iterator[Block]:
    """The same rows in blocks of exactly `size`, the last one perhaps smaller."""
    held: list[Block] = []
    missing = size
    for block in blocks:
        rows, first = length(block), 0
        while rows - first >= missing:
            held.append(part(block, first, first + missing))
            first += missing
            yield joined(held)
            held, missing = [], size
        if first < rows:
            held.append(part(block, first, rows))
            missing -= rows - first
    if held and small_last:
        yield joined(held)


def aligned(streams: Sequence[Iterator[Block]]) -> Iterator[list[Block]]:
    """Blocks of several streams cut to equal lengths, as far as the shortest stream goes."""
    held: list[Block] = [None] * len(streams)
    while True:
        for at, stream in enumerate(streams):
            while held[at] is None or not length(held[at]):
                held[at] = next(stream, None)
                if held[at] is None:
                    return
        rows = min(length(block) for block in held)
        yield [part(block, 0, rows) for block in held]
        held = [part(block, rows, length(block)) for block in held]


class Slots:
    """Places in a window of `window` elements, drawn one after the other.

    Drawn many at a time, and always as many, so that an order depends on the seed alone and not on how rows came.
    """

    def __init__(self, draw: np.random.Generator, window: int):
        self._draw, self._window = draw, window
        self._ready = np.empty(0, np.int64)

    def take(self, count: int) -> np.ndarray:
        while len(self._ready) < count:
            self._ready = np.concatenate([self._ready, self._draw.integers(self._window, size=PIECE)])
        drawn, self._ready = self._ready[:count], self._ready[count:]
        return drawn

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from self.take(PIECE).tolist()


def shuffled(blocks: Iterator[Block], window: int, draw: np.random.Generator) -> Iterator[Block]:
    """The rows as `Dataset.shuffle` orders them: the same order as for single elements, computed a block at a time."""
    first: list[Block] = []
    rest, missing = blocks, window
    for block in blocks:
        first.append(part(block, 0, missing))
        missing -= length(first[-1])
        if not missing:
            rest = itertools.chain([part(block, length(first[-1]), length(block))], blocks)
            break
    if not first:
        return
    # A copy, because it is written to.
    held = mapped(lambda leaf: np.array(numbers(leaf)), joined(first))
    slots = Slots(draw, window)
    for block in pieces(rest, PIECE):
        yield _exchanged(held, block, slots.take(length(block)))
    order = draw.permutation(length(held))
    for start in range(0, len(order), PIECE):
        yield mapped(_at(order[start : start + PIECE]), held)


def _at(order: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda leaf: leaf[order]


def _exchanged(held: Block, block: Block, at: np.ndarray) -> Block:
    """What lies at the places `at` of `held`, one after the other, each time replaced by the next row of the block."""
    # Where a place is drawn twice, the second draw finds the row that the first one left there.
    by_place = np.argsort(at, kind="stable")
    again = np.flatnonzero(at[by_place[1:]] == at[by_place[:-1]])
    later, earlier = by_place[again + 1], by_place[again]
    coming = iter([numbers(leaf) for leaf in leaves(block)])

    def exchange(leaf: np.ndarray) -> np.ndarray:
        new = next(coming)
        out = leaf[at]
        out[later] = new[earlier]
        leaf[at] = new  # of rows for one place the last one stays
        return out

    return mapped(exchange, held)
