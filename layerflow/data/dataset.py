"""Dataset: a stream of elements that can be iterated as often as needed.

Two ways lead through a chain of datasets.  Elements go one by one through generators; where they are rows of arrays
(see `layerflow.data.rows`), `take`, `skip`, `repeat`, `shuffle`, `concatenate` and `batch` move many at a
time.  Both give the same elements in the same order.

The seeds of an iteration are drawn when `iter` is called, in the thread that calls it, and not by a thread of prefetch.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from layerflow.data import asynchronous, blocks
from layerflow.data.failures import located
from layerflow.data.prefetching import Prefetching, Trace
from layerflow.data.rows import Rows, concatenated
from layerflow.data.stacking import stacked
from layerflow.data.statistics import Statistics, measured
from layerflow.data.structures import leaves, mapped
from layerflow.errors import ArgumentError, DataError
from layerflow.graph.ops import random
from layerflow.registry import accepts_camel_case, positive, whole

Size = float | None  # a whole number, math.inf, or None where nobody knows


class RowBatches(NamedTuple):
    """What a training loop needs to gather batches itself: the rows, and how many make a batch."""

    rows: Rows
    size: int
    small_last: bool


class Dataset:
    """A stream of elements; nothing is computed before somebody iterates.

    Each iteration starts anew: `for element in dataset` may be written any number of times.  Made by
    `lf.data.array`, `generator`, `csv`, `text_line` and `zip`; the methods give new datasets and leave this one as it
    is.

    Attributes:
        size: the number of elements, `math.inf`, or None if it is not known beforehand.
        row_batches: for batches of rows of arrays how they come about, else None; see RowBatches.
    """

    row_batches: RowBatches | None = None

    def __init__(self, make: Callable[[], Iterator[Any]], size: Size = None, rows: Rows | None = None):
        self._make = make
        self._rows = rows
        self.size = size

    @classmethod
    def of_rows(cls, rows: Rows, size: Size) -> Dataset:
        return Dataset(rows.elements, size, rows)

    @property
    def rows(self) -> Rows | None:
        """The elements as rows of arrays, if they are such."""
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return self._make()

    def iterator(self) -> Iterator[Any]:
        """A new iterator over the elements."""
        return iter(self)

    def __len__(self) -> int:
        if self.size is None or self.size == math.inf:
            why = "is infinite" if self.size else "is not known before all elements have been read"
            raise TypeError(f"the size of this dataset {why}; dataset.size tells without an error.")
        return int(self.size)

    def __bool__(self) -> bool:
        return True  # whatever its length is, and though nobody may know it

    def __repr__(self) -> str:
        return f"Dataset(size={self.size})"

    def map(self, f: Callable[[Any], Any]) -> Dataset:
        """f(element) for each element."""

        def results(elements: Iterator[Any]) -> Iterator[Any]:
            for number, element in enumerate(elements):
                try:
                    result = f(element)
                except Exception as error:
                    located(error, "map()", f, number)
                    raise
                yield result

        return Dataset(lambda: results(iter(self)), self.size)

    def map_async(self, f: Callable[[Any], Any], parallel: int = 1) -> Dataset:
        """As `map`, for what takes time but no processor: an `async` function is awaited, another one runs in a thread.

        Args:
            f: an `async` function, or an ordinary one (which then must be safe to call from several threads).
            parallel: how many elements are under way at once.  Results come in the order of the elements.
        """
        parallel = positive("map_async(): parallel", parallel)
        return Dataset(lambda: asynchronous.results(iter(self), f, parallel), self.size)

    def filter(self, f: Callable[[Any], Any]) -> Dataset:
        """The elements for which f(element) is true."""

        def chosen(elements: Iterator[Any]) -> Iterator[Any]:
            for number, element in enumerate(elements):
                try:
                    wanted = bool(f(element))
                except Exception as error:
                    located(error, "filter()", f, number)
                    raise
                if wanted:
                    yield element

        return Dataset(lambda: chosen(iter(self)), math.inf if self.size == math.inf else None)

    @accepts_camel_case
    def batch(self, size: int, small_last_batch: bool = True) -> Dataset:
        """Stacks `size` elements at a time: values become arrays [size, ...], structures stay what they are.

        Args:
            size: elements per batch.
            small_last_batch: whether the rest, if it is smaller, is a batch too.

        Raises:
            DataError: while iterating, when elements differ in structure or in the shape of a value.
        """
        size = positive("batch(): size", size)
        known, rows = _groups(self.size, size, small_last_batch), self._rows
        if rows is not None:
            dataset = Dataset(lambda: rows.batches(size, small_last_batch), known)
            dataset.row_batches = RowBatches(rows, size, small_last_batch)
            return dataset
        groups = self.row_major_batch(size, small_last_batch)
        return Dataset(lambda: (stacked(g, number * size) for number, g in enumerate(groups)), known)

    @accepts_camel_case
    def row_major_batch(self, size: int, small_last_batch: bool = True) -> Dataset:
        """Lists of `size` elements, as they are."""
        size = positive("row_major_batch(): size", size)

        def groups(elements: Iterator[Any]) -> Iterator[list[Any]]:
            while group := list(itertools.islice(elements, size)):
                if len(group) == size or small_last_batch:
                    yield group

        return Dataset(lambda: groups(iter(self)), _groups(self.size, size, small_last_batch))

    def unbatch(self) -> Dataset:
        """The rows of the elements, one by one; `batch` turned round.

        Elements are structures of arrays [rows, ...], of any number of rows.  What follows moves them many at a time: a
        generator of large arrays is shuffled and cut to batches at the speed of memory with
        `generator(parts).unbatch().shuffle(10_000).batch(32)`.

        Raises:
            DataError: while iterating, when arrays of an element differ in length or have no axis.
        """

        def arrays() -> Iterator[Any]:
            return builtins.map(_rows_of, itertools.count(), iter(self))

        return Dataset.of_rows(Rows(arrays), None if self.size != math.inf else math.inf)

    @accepts_camel_case
    def shuffle(self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True) -> Dataset:
        """The elements in random order, each drawn from a window of the next `buffer_size`.

        Args:
            buffer_size: how many elements are held in memory.  At least the size of the dataset mixes it evenly.
            seed: fixes the order on its own; without it, the generator that `lf.random.set_seed` fixes is used.
            reshuffle_each_iteration: False repeats the order of the first iteration.
        """
        window = positive("shuffle(): buffer_size", buffer_size)
        if seed is None and not reshuffle_each_iteration:
            seed = int(random.generator().integers(2**32))
        iterations = itertools.count()

        def draw() -> np.random.Generator:
            if seed is None:
                # A generator of its own: a thread that draws from it disturbs nobody else's numbers.  Made of one draw
                # alone, so that a training that goes on in another process gets the same order.
                return np.random.default_rng(int(random.generator().integers(2**32)))
            return np.random.default_rng([seed, next(iterations) if reshuffle_each_iteration else 0])

        if self._rows is not None:
            return Dataset.of_rows(self._rows.changed(lambda rows: blocks.shuffled(rows, window, draw())), self.size)
        return Dataset(lambda: _shuffled(iter(self), window, draw()), self.size)

    def repeat(self, count: int | None = None) -> Dataset:
        """The elements `count` times over, each time from a new iterator; without a count, for ever."""
        if count is not None:
            count = whole("repeat(): count", count)
        times = math.inf if count is None else count
        # Asked first, because 0 * math.inf is NaN.
        known = 0 if 0 in (self.size, times) else None if self.size is None else self.size * times
        rows = self._rows
        if rows is not None:
            again = Rows(lambda: _repeated(rows.blocks, count), rows.source, None, rows.plain)
            return Dataset.of_rows(again, known)
        return Dataset(lambda: _repeated(self.iterator, count), known)

    def take(self, n: int) -> Dataset:
        """The first `n` elements; all of them if there are fewer."""
        n = whole("take(): n", n)
        known = None if self.size is None else min(self.size, n)
        if self._rows is not None:
            return Dataset.of_rows(self._rows.taken(n), known)
        return Dataset(lambda: itertools.islice(iter(self), n), known)

    def skip(self, n: int) -> Dataset:
        """The elements after the first `n`."""
        n = whole("skip(): n", n)
        known = None if self.size is None else max(self.size - n, 0)
        if self._rows is not None:
            return Dataset.of_rows(self._rows.changed(lambda rows: blocks.skipped(rows, n)), known)
        return Dataset(lambda: itertools.islice(iter(self), n, None), known)

    def concatenate(self, other: Dataset) -> Dataset:
        """The elements of this dataset, then those of the other."""
        if not isinstance(other, Dataset):
            raise ArgumentError(f"concatenate() takes a dataset, got {type(other).__name__}; lf.data.array makes one.")
        known = None if self.size is None or other.size is None else self.size + other.size
        rows = None
        if self._rows is not None and other._rows is not None:
            rows = concatenated(self._rows, other._rows)
        if rows is not None:
            return Dataset.of_rows(rows, known)
        return Dataset(lambda: _one_after_the_other(iter(self), other), known)

    @accepts_camel_case
    def prefetch(self, buffer_size: int = 2, trace: Trace | None = None) -> Dataset:
        """These elements, made ahead of time by a thread: while a step runs, the next batch is gathered.

        The thread starts with the first element and ends with the iteration, or when its iterator is dropped.  What it
        does in NumPy or native code runs beside the step, which does not hold Python's lock.  An error in the thread is
        raised where the element is asked for.

        Args:
            buffer_size: how many elements are ready or being made at most; as many are in memory, and the one in use.
            trace: notes for each element when it was begun, ready, asked for and taken; see `lf.data.Trace`.
        """
        ahead = positive("prefetch(): buffer_size", buffer_size)
        dataset = Dataset(lambda: Prefetching(iter(self), ahead, trace), self.size)
        # A loop that gathers rows itself does so in native code, with nothing to wait for.
        dataset.row_batches = self.row_batches if trace is None else None
        return dataset

    def for_each(self, f: Callable[[Any], Any]) -> None:
        """Calls f(element) for each element."""
        for number, element in enumerate(self):
            try:
                f(element)
            except Exception as error:
                located(error, "for_each()", f, number)
                raise

    async def for_each_async(self, f: Callable[[Any], Any]) -> None:
        """Calls f(element) for each element, awaits what it returns if that can be awaited.

        Other tasks of the event loop get a turn after each element; the elements themselves are made in this thread.
        """
        # Not at the top: asyncio takes a third of layerflow's time to import, and few programs call this.
        import asyncio

        for number, element in enumerate(self):
            try:
                result = f(element)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                located(error, "for_each_async()", f, number)
                raise
            await asyncio.sleep(0)

    def to_array(self) -> list[Any]:
        """All elements in a list.

        Raises:
            ArgumentError: the dataset is infinite.
        """
        if self.size == math.inf:
            raise ArgumentError("to_array(): the dataset is infinite; take a part of it, dataset.take(n).to_array().")
        return list(self)

    @accepts_camel_case
    def statistics(self, sample_size: int | None = None, shuffle_window: int | None = None) -> Statistics:
        """Minimum, maximum, mean, variance and standard deviation of each value, such as the columns of a CSV file.

        Args:
            sample_size: how many elements to look at; by default all.
            shuffle_window: draw the sample from a shuffle with this buffer.

        Returns:
            For elements that are dicts of numbers a dict by the same names (nested where the elements are), of
            `{"min", "max", "mean", "variance", "stddev", "length", "missing"}`: the variance divides by the length, the
            NaNs counted as missing enter nothing else.  Columns of text are left out.

        Raises:
            ArgumentError: the dataset is infinite and no sample_size given.
            DataError: it is empty, or its elements are no dicts of numbers.
        """
        if self.size == math.inf and sample_size is None:
            raise ArgumentError("statistics(): the dataset is infinite; say with sample_size how many elements to use.")
        sample = self if shuffle_window is None else self.shuffle(shuffle_window)
        if sample_size is not None:
            sample = sample.take(positive("statistics(): sample_size", sample_size))
        rows = sample.rows
        return measured(sample.batch(1024) if rows is None else rows.gathered().blocks())


def _groups(size: Size, of: int, small_last: bool) -> Size:
    """How many groups there are of so many elements."""
    if size is None or size == math.inf:
        return size
    return -(-size // of) if small_last else size // of


def _rows_of(number: int, element: Any) -> Any:
    """An element as a block of rows."""
    block = mapped(np.asarray, element)
    shapes = [leaf.shape for leaf in leaves(block)]
    if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise DataError(
            f"unbatch(): element {number} has values of shapes {' and '.join(str(list(s)) for s in shapes)}; each must "
            "be an array, with the same number of rows as the others."
        )
    return block


def _shuffled(elements: Iterator[Any], window: int, draw: np.random.Generator) -> Iterator[Any]:
    held = list(itertools.islice(elements, window))
    for following, at in builtins.zip(elements, blocks.Slots(draw, window), strict=False):
        yield held[at]
        held[at] = following
    for at in draw.permutation(len(held)).tolist():
        yield held[at]


def _repeated(make: Callable[[], Iterator[Any]], count: int | None) -> Iterator[Any]:
    """What `make` gives, `count` times; the first time it is called here and now."""
    return iter(()) if count == 0 else _again(make(), make, count)


def _again(first: Iterator[Any], make: Callable[[], Iterator[Any]], count: int | None) -> Iterator[Any]:
    for number in itertools.count() if count is None else range(count):
        empty = True
        for element in first if number == 0 else make():
            empty = False
            yield element
        if empty:
            return


def _one_after_the_other(first: Iterator[Any], second: Dataset) -> Iterator[Any]:
    yield from first
    yield from second
