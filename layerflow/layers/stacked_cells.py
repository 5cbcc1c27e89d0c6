"""Cells of any kind run and stacked.  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerflow.errors import ArgumentError
from layerflow.layers.base import Layer
from layerflow.layers.cells import Cell, state_shapes
from layerflow.layers.reading import deserialize
from layerflow.layers.signatures import as_list, call_parameters, several
from layerflow.registry import factory


def run_cell(cell: Any, x: Any, states: Sequence[Any], training: bool) -> tuple[Any, list[Any]]:
    """Output and new states of any cell at one step, in whichever form its `call` is written."""
    names, _, open_ended = call_parameters(type(cell).call)
    options = {"training": training} if "training" in names or open_ended else {}
    if "states" in names:
        y, new = cell.call(x, list(states), **options)
        return y, as_list(new)
    y, *new = as_list(cell.call([x, *states], **options))
    return y, new


class StackedRNNCells(Cell):
    """Cells on top of each other as one cell: the output of each is the input of the next.

    Args:
        cells: the cells, the lowest first.  The states are theirs in this order.

    Raises:
        ArgumentError: no cells, or a layer without `state_size`.

    >>> cell = lf.layers.stacked_rnn_cells([lf.layers.lstm_cell(units=8), lf.layers.gru_cell(units=4)])
    >>> cell.state_size
    [8, 8, 4]
    >>> lf.layers.rnn(cell, return_sequences=True).apply(np.ones((2, 7, 3))).shape
    (2, 7, 4)
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(cells, (list, tuple)) or not cells:
            raise ArgumentError(f"{self.name}: cells must be a list of at least one cell, got {cells!r}.")
        self.cells = [as_cell(cell) for cell in cells]
        for cell in self.cells:
            share_dtype(self, cell, kwargs.get("dtype"))
        self._counts = [len(state_shapes(cell)) for cell in self.cells]
        last = getattr(self.cells[-1], "output_state", None)
        self.output_state = None if last is None else sum(self._counts[:-1]) + last

    @property
    def state_size(self):
        return [shape if len(shape) != 1 else shape[0] for cell in self.cells for shape in state_shapes(cell)]

    def path_of(self, attribute: str, held: Any) -> str:
        return f"{self.path}/RNNCell_{self.cells.index(held)}"

    def build(self, input_shape):
        shape = tuple(input_shape[0] if several(input_shape) else input_shape)
        for cell in self.cells:
            cell._build_once([shape])
            output = getattr(cell, "output_size", None) or state_shapes(cell)[0]
            shape = (shape[0], *as_list(output))

    def _parts(self, states: Sequence[Any]) -> list[list[Any]]:
        left = list(states)
        return [[left.pop(0) for _ in range(count)] for count in self._counts]

    def draw(self, x, states, training, steps=True):
        """Masks of the first cell for its input, and those that the other cells draw for theirs."""
        drawn, below = [], x
        for cell, mine in zip(self.cells, self._parts(states), strict=True):
            drawn.append(cell.draw(below, mine, training, steps) if isinstance(cell, Cell) else None)
            below, steps = mine[getattr(cell, "output_state", None) or 0], False
        return drawn

    def project(self, x, drawn):
        first = self.cells[0]
        return first.project(x, drawn[0]) if isinstance(first, Cell) else x

    def step(self, z, states, drawn, training=False):
        new: list[Any] = []
        for number, (cell, mine) in enumerate(zip(self.cells, self._parts(states), strict=True)):
            if not isinstance(cell, Cell):
                z, found = run_cell(cell, z, mine, training)
            else:
                z, found = cell.step(cell.project(z, drawn[number]) if number else z, mine, drawn[number], training)
            new += found
        return z, new

    def get_config(self):
        cells = [{"class_name": c.get_class_name(), "config": c.get_config()} for c in self.cells]
        return {**super().get_config(), "cells": cells}


def share_dtype(outer: Layer, inner: Any, given: Any) -> None:
    """A layer and the one it holds have one dtype: that given to the outer, else that of the inner one."""
    if given is None:
        outer.dtype = inner.dtype
    elif not inner.built:
        inner.dtype = outer.dtype
        for held in inner._sublayers:
            share_dtype(inner, held, given)


def as_cell(given: Any) -> Any:
    """A cell: itself, made from {class_name, config}, or several stacked."""
    if isinstance(given, (list, tuple)):
        return StackedRNNCells(given)
    made = deserialize(given) if isinstance(given, Mapping) else given
    if not isinstance(made, Layer):
        raise ArgumentError(f"a cell is a layer with state_size and call, got {type(made).__name__}.")
    state_shapes(made)
    return made


stacked_rnn_cells = factory(StackedRNNCells)
