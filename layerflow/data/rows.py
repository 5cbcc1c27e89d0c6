"""Rows: datasets whose elements lie in arrays, so that they are taken, shuffled and batched many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow import config
from layerflow.data import blocks as streams
from layerflow.data.blocks import Block
from layerflow.data.structures import filled, leaves, mapped
from layerflow.graph.tensor import wrap

# Rows gathered at a time where they must be moved before they are batched.
_GATHERED = 1024


@dataclass(frozen=True)
class Rows:
    """Elements as blocks.

    Attributes:
        blocks: makes a new stream of blocks; what is random about it is drawn in this call.
        source: a structure of arrays, whose rows the blocks number; None if the blocks hold the rows themselves.
        whole: how many rows there are, if the blocks are the first rows of the source, in order.
        plain: columns of float64 are Python numbers: single elements hold floats, batches the float type of the models.
    """

    blocks: Callable[[], Iterator[Block]]
    source: Any = None
    whole: int | None = None
    plain: bool = False

    @classmethod
    def of(cls, source: Any, count: int) -> Rows:
        """The first `count` rows of arrays."""
        return cls(lambda: iter([range(count)] if count else []), source, count)

    def changed(self, change: Callable[[Iterator[Block]], Iterator[Block]]) -> Rows:
        """These rows with a change of their stream, such as `shuffled`."""
        return Rows(lambda: change(self.blocks()), self.source, None, self.plain)

    def taken(self, n: int) -> Rows:
        if self.whole is not None:
            return Rows.of(self.source, min(self.whole, n))
        return self.changed(lambda blocks: streams.taken(blocks, n))

    def elements(self) -> Iterator[Any]:
        return self._elements(self.blocks())

    def _elements(self, blocks: Iterator[Block]) -> Iterator[Any]:
        for block in blocks:
            structure, columns = self._columns(block)
            if isinstance(structure, dict) and not any(isinstance(e, (dict, list, tuple)) for e in structure.values()):
                for values in zip(*columns, strict=True):
                    yield dict(zip(structure, values, strict=True))
            else:
                for values in zip(*columns, strict=True):
                    yield filled(structure, iter(values))

    def _columns(self, block: Block) -> tuple[Any, list[Any]]:
        """The structure of an element, and per value an iterable over the rows of the block."""
        if self.source is None:
            plain = [self.plain and leaf.ndim == 1 and leaf.dtype in (np.float64, object) for leaf in leaves(block)]
            return block, [leaf.tolist() if p else leaf for leaf, p in zip(leaves(block), plain, strict=True)]
        if isinstance(block, range):
            return self.source, [leaf[block.start : block.stop] for leaf in leaves(self.source)]
        places = block.tolist()
        return self.source, [map(leaf.__getitem__, places) for leaf in leaves(self.source)]

    def batches(self, size: int, small_last: bool) -> Iterator[Any]:
        """Structures of tensors [size, ...], which are copies."""
        return map(self._batch, streams.groups(self.blocks(), size, small_last))

    def _batch(self, block: Block) -> Any:
        if self.source is None:
            return mapped(self._owned, block)
        if isinstance(block, range):
            return mapped(lambda leaf: wrap(np.array(leaf[block.start : block.stop])), self.source)
        return mapped(lambda leaf: wrap(np.asarray(leaf).take(block, axis=0)), self.source)

    def _owned(self, leaf: np.ndarray) -> Any:
        if self.plain and leaf.dtype == np.float64:
            return wrap(leaf.astype(config.floatx()))
        # Text has no fixed width while it is read; a batch of it has.
        return wrap(np.array(leaf, "U" if leaf.dtype == object else None))

    def gathered(self) -> Rows:
        """The same rows in blocks that hold them."""
        if self.source is None:
            return self
        source = self.source

        def rows_of(block: Block) -> Block:
            chosen = slice(block.start, block.stop) if isinstance(block, range) else block
            return mapped(lambda leaf: np.asarray(leaf)[chosen], source)

        return Rows(lambda: map(rows_of, streams.pieces(self.blocks(), _GATHERED)))


def zipped(structure: Any, parts: Sequence[Rows]) -> Rows | None:
    """Rows of several sources side by side in `structure`; None where single elements are needed."""
    if any(part.plain for part in parts):
        return None
    if all(part.whole is not None for part in parts):
        source = filled(structure, iter([part.source for part in parts]))
        return Rows.of(source, min(part.whole or 0 for part in parts))
    held = [part.gathered() for part in parts]
    return Rows(
        lambda: (filled(structure, iter(blocks)) for blocks in streams.aligned([part.blocks() for part in held]))
    )


def concatenated(first: Rows, second: Rows) -> Rows | None:
    """One after the other; None where single elements are needed because the rows differ."""
    if first.plain != second.plain or (first.source is None) != (second.source is None):
        return None
    if first.source is second.source and first.source is not None:
        return Rows(lambda: _chain(first.blocks(), second.blocks), first.source)
    if first.source is None or _kinds(first.source) != _kinds(second.source):
        return None
    one, two = first.gathered(), second.gathered()
    return Rows(lambda: _chain(one.blocks(), two.blocks))


def _chain(first: Iterator[Block], second: Callable[[], Iterator[Block]]) -> Iterator[Block]:
    yield from first
    yield from second()


def _kinds(source: Any) -> Any:
    """What must be equal for rows of two sources to stand in one array."""
    return mapped(lambda leaf: (str(leaf.dtype), leaf.shape[1:]), source)
