"""Shapes of a layer's outputs where extents of its inputs (the number of steps, say) are not known yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from layerflow.errors import ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import BATCH, Dim, Extent, Shape, UnknownExtentError, symbols_of, text, valued
from layerflow.graph.symbolic import SymbolicTensor

# What stands for the first unknown extent in two tries; further ones follow it.  Large, for windows to fit; where that
# is more than a layer takes, small.
LARGE, SMALL = (64, 96), (2, 3)
APART, ALIKE = 1, 0  # how much further the next one is: 0 where a layer wants extents to be equal

Trace = Callable[[list[SymbolicTensor]], list[SymbolicTensor]]


def by_example(inputs: Sequence[SymbolicTensor], trace: Trace) -> list[SymbolicTensor]:
    """Symbols with the shapes of the outputs: the layer is traced with two numbers in place of each unknown extent.

    What is the same in both outputs is known; what is the number itself is that unknown extent; anything else is
    another one.
    """
    refusals = []
    for sizes, step in ((LARGE, APART), (SMALL, APART), (LARGE, ALIKE), (SMALL, ALIKE)):
        try:
            return _by_example(inputs, trace, sizes, step)
        except ShapeError as error:
            refusals.append(error)
    raise refusals[0] from None


def _by_example(
    inputs: Sequence[SymbolicTensor], trace: Trace, sizes: tuple[int, int], step: int
) -> list[SymbolicTensor]:
    unknown = list(dict.fromkeys(s for x in inputs for n in x.op.shape[1:] for s in symbols_of(n) if s != BATCH))
    numbers = [{name: first + step * number for number, name in enumerate(unknown)} for first in sizes]
    tries = [trace([ops.placeholder(_with_numbers(x.op.shape, each), x.dtype) for x in inputs]) for each in numbers]
    results = []
    for one, other in zip(*tries, strict=True):
        pairs = zip(one.op.shape, other.op.shape, strict=True)
        results.append(ops.placeholder([_merged(pair, numbers) for pair in pairs], one.dtype))
    return results


def _with_numbers(shape: Shape, numbers: dict[str, int]) -> list[Any]:
    return [
        valued(n, numbers) if axis and isinstance(n, Dim) and numbers.keys() >= set(symbols_of(n)) else n
        for axis, n in enumerate(shape)
    ]


def _merged(pair: tuple[Extent, Extent], numbers: list[dict[str, int]]) -> Extent | None:
    first, second = pair
    if first == second:
        return first
    if len(set(numbers[0].values())) < len(numbers[0]):
        return None  # one of several extents that are equal; which one cannot be told
    for name in numbers[0]:
        if pair == (numbers[0][name], numbers[1][name]):
            return Dim(name)
    return None


def need_known(layer: str, *inputs: Any) -> None:
    """Raises UnknownExtentError unless all extents but the batch are known: the layer is then traced by example."""
    for x in inputs:
        if None in x.shape[1:]:
            raise UnknownExtentError(f"{layer}: the extents of an input of shape {text(x.shape)} must be known.")
