"""OpenLengths: one program for sequences of all lengths.

A model built on inputs of unknown extents (`input_shape=[None, 28]`) is traced with symbols in their place.  Where a
layer or the compiler has to know an extent, the program is compiled for the numbers that come.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from layerflow.errors import LayerflowError
from layerflow.graph.shapes import Dim, Extent, Shape

T = TypeVar("T")
Described = tuple[tuple[Shape, str], ...]


class OpenLengths:
    """Programs of a step for arrays whose extents are not all fixed."""

    def __init__(self, model: Any):
        self.model = model
        self.inputs = [tensor.op.shape[1:] for tensor in model.inputs]
        self.any = any(isinstance(n, Dim) for shape in self.inputs for n in shape)
        self.programs: dict[Any, Any] = {}

    def program(self, step: Any, signature: Any, xs: Any, ys: Any, ws: Any) -> Any:
        """The program for all arrays that differ from these only in open extents; None if there is none."""
        if not self.any or (wide := self._opened(signature)) == signature:
            return None
        if wide not in self.programs:
            self.programs[wide] = _tried(lambda: step.compile(wide, xs, ys, ws))
        return self.programs[wide]

    def widest(self, signature: Any, make: Callable[[Any], T]) -> T:
        """What `make` gives for the signature with open extents, or for this one if they must be known."""
        wide = self._opened(signature)
        made = _tried(lambda: make(wide)) if wide != signature else None
        return make(signature) if made is None else made

    def _opened(self, signature: Any) -> Any:
        """The signature with symbols for the extents that the model leaves open."""
        own: dict[str, tuple[Dim, int]] = {}  # symbol of the model's input -> ours, and what it stands for here
        xs = tuple(
            (self._input(shape, known, own), kind)
            for (shape, kind), known in zip(signature.xs, self.inputs, strict=True)
        )
        outputs = [tensor.op.shape[1:] for tensor in self.model.outputs]
        return dataclasses.replace(
            signature, xs=xs, ys=_like(signature.ys, outputs, own), ws=_like(signature.ws, outputs, own)
        )

    @staticmethod
    def _input(shape: Shape, known: Shape, own: dict[str, tuple[Dim, int]]) -> Shape:
        opened: list[Extent] = []
        for n, extent in zip(shape, known, strict=True):
            if isinstance(extent, Dim) and isinstance(n, int) and n:
                own[extent.symbol] = (Dim(f"T{len(own) + 1}"), n)
                opened.append(own[extent.symbol][0])
            else:
                opened.append(n)
        return tuple(opened)


def _tried(make: Callable[[], T]) -> T | None:
    """What `make` gives; None if something in it needs the numbers.

    If it is an error of the user's, it shows again with them.
    """
    try:
        return make()
    except (LayerflowError, TypeError):
        return None


def _like(described: Described, outputs: Sequence[Shape], own: dict[str, tuple[Dim, int]]) -> Described:
    """Labels or weights with the symbols of the outputs' axes that they agree with."""
    found = []
    for (shape, kind), output in zip(described, outputs, strict=False):
        opened: list[Extent] = []
        for axis, n in enumerate(shape):
            extent = output[axis] if axis < len(output) else n
            symbol, value = own.get(extent.symbol, (n, -1)) if isinstance(extent, Dim) else (n, -1)
            opened.append(symbol if value == n else n)
        found.append((tuple(opened), kind))
    return tuple(found)
