"""Dataset: a stream of examples that can be iterated as often as needed.

An element is anything; `batch` stacks structures of values, see `layerflow.data.stacking`.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.data.stacking import stacked
from layerflow.errors import ArgumentError
from layerflow.graph.ops import random
from layerflow.registry import accepts_camel_case, positive, whole

Size = float | None  # a whole number, math.inf, or None where nobody knows


class Dataset:
    """A stream of elements; nothing is computed before somebody iterates.

    Each iteration starts anew: `for element in dataset` may be written any number of times.  Made by
    `lf.data.generator`, `lf.data.array` and `lf.data.zip`; the methods give new datasets and leave this one as it is.

    Attributes:
        size: the number of elements, `math.inf`, or None if it is not known beforehand.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], size: Size = None):
        self._make = make
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        return self._make()

    def __repr__(self) -> str:
        return f"Dataset(size={self.size})"

    def map(self, f: Callable[[Any], Any]) -> Dataset:
        """f(element) for each element."""
        return Dataset(lambda: builtins.map(f, self), self.size)

    def filter(self, f: Callable[[Any], Any]) -> Dataset:
        """The elements for which f(element) is true."""
        return Dataset(lambda: builtins.filter(f, self), math.inf if self.size == math.inf else None)

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

        def batches() -> Iterator[Any]:
            elements = iter(self)
            while group := list(itertools.islice(elements, size)):
                if len(group) == size or small_last_batch:
                    yield stacked(group)

        known = self.size
        if known is not None and known != math.inf:
            known = -(-known // size) if small_last_batch else known // size
        return Dataset(batches, known)

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

        def shuffled() -> Iterator[Any]:
            again = next(iterations) if reshuffle_each_iteration else 0
            draw = random.generator() if seed is None else np.random.default_rng([seed, again])
            elements = iter(self)
            held = list(itertools.islice(elements, window))
            for following in elements:
                at = int(draw.integers(window))
                yield held[at]
                held[at] = following
            draw.shuffle(held)
            yield from held

        return Dataset(shuffled, self.size)

    def repeat(self, count: int | None = None) -> Dataset:
        """The elements `count` times over, each time from a new iterator; without a count, for ever."""
        if count is not None:
            count = whole("repeat(): count", count)

        def repeated() -> Iterator[Any]:
            for _ in itertools.count() if count is None else range(count):
                empty = True
                for element in self:
                    empty = False
                    yield element
                if empty:
                    return

        times = math.inf if count is None else count
        # Asked first, because 0 * math.inf is NaN.
        known = 0 if 0 in (self.size, times) else None if self.size is None else self.size * times
        return Dataset(repeated, known)

    def take(self, n: int) -> Dataset:
        """The first `n` elements; all of them if there are fewer."""
        n = whole("take(): n", n)
        return Dataset(lambda: itertools.islice(self, n), None if self.size is None else min(self.size, n))

    def skip(self, n: int) -> Dataset:
        """The elements after the first `n`."""
        n = whole("skip(): n", n)
        return Dataset(lambda: itertools.islice(self, n, None), None if self.size is None else max(self.size - n, 0))

    @accepts_camel_case
    def prefetch(self, buffer_size: int) -> Dataset:
        """This dataset.  It is here so that programs from TF.js run: nothing is computed ahead of time."""
        whole("prefetch(): buffer_size", buffer_size)
        return self

    def for_each(self, f: Callable[[Any], Any]) -> None:
        """Calls f(element) for each element."""
        for element in self:
            f(element)

    async def for_each_async(self, f: Callable[[Any], Any]) -> None:
        """Calls f(element) for each element, awaits what it returns if that can be awaited.

        Other tasks of the event loop get a turn after each element; the elements themselves are made in this thread.
        """
        # Not at the top: asyncio takes a third of layerflow's time to import, and few programs call this.
        import asyncio

        for element in self:
            result = f(element)
            if inspect.isawaitable(result):
                await result
            await asyncio.sleep(0)

    def to_array(self) -> list[Any]:
        """All elements in a list.

        Raises:
            ArgumentError: the dataset is infinite.
        """
        if self.size == math.inf:
            raise ArgumentError("to_array(): the dataset is infinite; take a part of it, dataset.take(n).to_array().")
        return list(self)


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
        yield from made

    return Dataset(elements)


def array(items: Sequence[Any] | np.ndarray) -> Dataset:
    """A dataset of the items of a list or tuple, or of the rows of an array."""
    if isinstance(items, (Mapping, str)) or not hasattr(items, "__len__") or not isinstance(items, Iterable):
        raise ArgumentError(
            f"array() takes a list or an array, got {type(items).__name__}; "
            "use lf.data.generator for iterators, and lf.data.zip for a dict of datasets."
        )
    return Dataset(lambda: iter(items), len(items))


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

    def formed(structure: Any, values: Iterator[Any]) -> Any:
        if isinstance(structure, Dataset):
            return next(values)
        if isinstance(structure, Mapping):
            return {key: formed(entry, values) for key, entry in structure.items()}
        entries = [formed(entry, values) for entry in structure]
        return tuple(entries) if isinstance(structure, tuple) else entries

    collect(datasets)
    sizes = [part.size for part in parts]
    known = None if None in sizes else min(size for size in sizes if size is not None)
    return Dataset(lambda: (formed(datasets, iter(values)) for values in builtins.zip(*parts, strict=False)), known)
