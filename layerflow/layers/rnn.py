"""RNN: any cell run over the steps of a sequence.  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, ModelError, ShapeError
from layerflow.graph import ops
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.shapes import text
from layerflow.graph.symbolic import SymbolicTensor, is_symbolic
from layerflow.graph.variable import Variable
from layerflow.layers.base import Layer
from layerflow.layers.cells import Cell, state_shapes
from layerflow.layers.signatures import as_list, is_nested_numbers, several
from layerflow.layers.stacked_cells import as_cell, run_cell, share_dtype
from layerflow.layers.topology import InputSpec
from layerflow.registry import accepts_camel_case, factory

_OPTIONS = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")


class TakesStates(Layer):
    """Base of layers that may be told what states to start from; of both ways, the forward layer's come first."""

    @accepts_camel_case
    def apply(self, inputs: Any, initial_state: Any = None, **kwargs: Any) -> Any:
        """As `Layer.apply`; `initial_state` is a list of the states to start from, also given behind the input."""
        if initial_state is not None:
            given = [inputs] if is_nested_numbers(inputs) else as_list(inputs)
            inputs = [*given, *as_list(initial_state)]
        return super().apply(inputs, **kwargs)

    def __call__(self, inputs: Any, initial_state: Any = None, **kwargs: Any) -> Any:
        return self.apply(inputs, initial_state=initial_state, **kwargs)


class RNN(TakesStates):
    """A cell run over the steps of [batch, steps, features].

    The output is that of the last step, [batch, units], or with `return_sequences` those of all steps; with
    `return_state` a list of it and the last states.  A call with `initial_state` starts from these states, not from
    zeros.  A step that the mask leaves out keeps the states and repeats the output before it (zeros at the start).

    A cell of your own is any layer with `state_size` and a `call` of either form: `call(inputs, states)` that returns
    (output, new states), or `call([inputs, *states])` that returns [output, *new states].

    Args:
        cell: a cell, or a list of cells to stack.
        return_sequences: all outputs, [batch, steps, units].
        return_state: the last states too.
        go_backwards: from the last step to the first; the outputs come in that order.
        stateful: the states of a batch are what the next batch starts from, until `reset_states`.  The batch size must
            be fixed: batch_input_shape=[32, steps, features].
        unroll: accepted; it changes nothing here.
        zero_output_for_mask: steps that the mask leaves out give zeros.
        input_dim, input_length: short for input_shape=[input_length, input_dim].

    Raises:
        ArgumentError: something that is no cell; a stateful layer without a fixed batch size.
        ShapeError: an input, initial states or a mask of another shape.

    >>> class Largest(lf.layers.Layer):  # a cell of your own: the largest value so far
    ...     state_size = 1
    ...
    ...     def call(self, inputs, states):
    ...         h = np.maximum(inputs, states[0])
    ...         return h, [h]
    >>> layer = lf.layers.rnn(Largest(), return_sequences=True)
    >>> layer.apply([[[1.0], [3.0], [2.0]]]).reshape([1, 3]).print()
    [[1., 3., 3.]]
    """

    FILE_NOTES = frozenset({"cells", "time_major", "implementation"})
    supports_masking = True
    LAYOUT = "[batch, steps, features]"
    RANK = 3

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        input_dim: int | None = None,
        input_length: int | None = None,
        **kwargs: Any,
    ):
        if input_dim is not None and not kwargs.get("input_shape") and not kwargs.get("batch_input_shape"):
            kwargs["input_shape"] = [input_length, input_dim]
        super().__init__(**kwargs)
        self.cell = as_cell(cell)
        share_dtype(self, self.cell, kwargs.get("dtype"))
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful = bool(go_backwards), bool(stateful)
        self.unroll, self.zero_output_for_mask = bool(unroll), bool(zero_output_for_mask)
        self.input_spec = InputSpec(ndim=self.RANK, remedy=f"{self.get_class_name()} takes {self.LAYOUT}.")

    def path_of(self, attribute: str, held: Any) -> str:
        return self.path  # weights of the cell are named as the layer's own, as in files of TF.js

    # Calls

    def _check_inputs(self, shapes: list[Any]) -> None:
        super()._check_inputs(shapes[:1])
        if len(shapes) > 1:
            self._check_states([tuple(s) for s in shapes[1:]], self._state_shapes(shapes[0]), shapes[0][0], "initial")

    def _state_shapes(self, input_shape: Any) -> list[tuple[int, ...]]:
        return state_shapes(self.cell)

    def _check_states(self, found: list[Any], wanted: list[Any], batch: Any, what: str) -> None:
        full = [(batch, *shape) for shape in wanted]
        fits = len(found) == len(full) and all(
            len(a) == len(b) and all(m == n or None in (m, n) for m, n in zip(a, b, strict=True))
            for a, b in zip(found, full, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{self.name}: the {what} states must be {len(full)} arrays of shapes {_listed(full)}, "
                f"got {_listed(found)}."
            )

    def build(self, input_shape):
        shape = tuple(input_shape[0] if several(input_shape) else input_shape)
        self.cell._build_once([(shape[0], *shape[2:])])
        batch = None
        if self.stateful:
            batch = shape[0]
            if batch is None:
                raise ArgumentError(
                    f"{self.name}: a stateful layer needs a fixed batch size. Give it batch_input_shape="
                    "[batch, steps, features], or build on lf.input(batch_shape=[batch, steps, features])."
                )
            self._states = [
                Variable(np.zeros((batch, *s), self.dtype), False, f"{self.path}/state{i}")
                for i, s in enumerate(self._state_shapes(shape))
            ]
        last = self.RANK - 1
        axes = {**self._fixed_axes(shape), **({} if batch is None else {0: batch})}
        self.input_spec = InputSpec(ndim=last + 1, axes=axes, remedy=f"{self.get_class_name()} takes {self.LAYOUT}.")

    def _fixed_axes(self, shape: Sequence[Any]) -> dict[int, int]:
        return {axis: n for axis, n in enumerate(shape) if axis > 1 and n is not None}

    def call(self, inputs, mask=None, training=False, initial_state=None):
        x, *given = as_list(inputs)
        if initial_state is not None:
            given = as_list(initial_state)
            self._check_states([tuple(s.shape) for s in given], self._state_shapes(x.shape), x.shape[0], "initial")
        mask = self._checked_mask(mask[0] if isinstance(mask, list) else mask, x)
        states = given or self._first_states(x)
        y, last = self._scanned(x, states, mask, training)
        if self.stateful:
            for variable, value in zip(self._states, last, strict=True):
                ops.assign(variable, value)
        return [y, *last] if self.return_state else y

    def _checked_mask(self, mask: Any, x: Any) -> Any:
        if mask is None:
            return None
        shape = tuple(mask.shape)
        if len(shape) != 2 or any(m != n and None not in (m, n) for m, n in zip(shape, x.shape, strict=False)):
            raise ShapeError(
                f"{self.name}: the mask must have shape [batch, steps], here {text(x.shape[:2])}, got {text(shape)}."
            )
        return ops.cast(mask, bool) if mask.dtype.kind != "b" else mask

    def _first_states(self, x: Any) -> list[Any]:
        if self.stateful:
            return [ops.assigned(state) for state in self._states]
        dtype = x.dtype if x.dtype.kind == "f" else self.dtype
        return [zeros_for(x, shape, dtype) for shape in self._state_shapes(x.shape)]

    def _scanned(self, x: Any, states: list[Any], mask: Any, training: bool) -> tuple[Any, list[Any]]:
        """Output(s) and last states."""
        run, sequence = self._step_of(x, states, training)
        count, keep = len(states), self.return_sequences
        same = getattr(self.cell, "output_state", None)
        if same is None and (mask is not None or not keep):
            y, _ = run(sequence[:, 0], states)  # for its shape; the value is used nowhere
            states = [*states, ops.zeros_like(y)]

        def one(before: list[Any], slices: list[Any]) -> tuple[list[Any], list[Any]]:
            y, after = run(slices[0], before[:count])
            after = list(after) + ([y] if len(before) > count else [])
            if mask is not None:
                counts = [_spread(slices[1], state) for state in after]
                after = [ops.where(m, new, old) for m, new, old in zip(counts, after, before, strict=True)]
                y = after[same] if same is not None else after[count]
                y = ops.where(_spread(slices[1], y), y, 0.0) if self.zero_output_for_mask else y
            return after, [y] if keep else []

        sequences = [sequence] if mask is None else [sequence, mask]
        last, kept = ops.scan(one, states, sequences, reverse=self.go_backwards)
        if not keep:
            y = last[count] if same is None else last[same]
            if mask is not None and self.zero_output_for_mask:
                end = mask[:, 0] if self.go_backwards else mask[:, -1]
                y = ops.where(_spread(end, y), y, 0.0)
            return y, last[:count]
        return (ops.flip(kept[0], 1) if self.go_backwards else kept[0]), last[:count]

    def _step_of(self, x: Any, states: list[Any], training: bool) -> tuple[Any, Any]:
        """(input of a step, states) -> (output, new states), and the sequence of its inputs."""
        cell = self.cell
        if not isinstance(cell, Cell) or type(cell).step is Cell.step:
            return (lambda z, before: run_cell(cell, z, before, training)), x
        drawn = cell.draw(x, states, training)
        return (lambda z, before: cell.step(z, before, drawn, training)), cell.project(x, drawn)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the input for a sequence, none for the last output and for states."""
        first = mask[0] if isinstance(mask, list) else mask
        out = first if self.return_sequences else None
        return [out, *[None] * len(state_shapes(self.cell))] if self.return_state else out

    # States

    @property
    def states(self) -> list[np.ndarray]:
        """The states kept between batches (copies)."""
        return [state.numpy() for state in self._states]

    def reset_states(self, states: Any = None) -> None:
        """Zeros, or the given states, are what the next batch starts from.

        Raises:
            ModelError: the layer is not stateful, or was not built yet.
            ShapeError: states of another number or shape.
        """
        super().reset_states()
        if not self.built:
            raise ModelError(f"{self.name} has no states yet: apply it to an input first.")
        arrays = [np.zeros(s.shape) for s in self._states] if states is None else list(map(np.asarray, as_list(states)))
        wanted = [s.shape[1:] for s in self._states]
        self._check_states([a.shape for a in arrays], wanted, self._states[0].shape[0], "new")
        for state, array in zip(self._states, arrays, strict=True):
            state.assign(array)

    # Configuration

    def _config_value(self, name: str, given: Any) -> Any:
        if name not in self.__dict__ and name in self.cell.__dict__:
            return self.cell._config_value(name, given)
        return super()._config_value(name, given)

    def get_config(self):
        config = super().get_config()
        for short in ("input_dim", "input_length"):
            config.pop(short, None)
        config.update({name: getattr(self, name) for name in _OPTIONS if getattr(self, name) or name in _OPTIONS[:5]})
        if "cell" in config:
            config["cell"] = {"class_name": self.cell.get_class_name(), "config": self.cell.get_config()}
        return config


def _listed(shapes: Sequence[Any]) -> str:
    return ", ".join(text(shape) for shape in shapes) or "none"


def zeros_for(x: Any, shape: Sequence[int], dtype: Any) -> Any:
    """Zeros of [batch, *shape] for the batch of `x`."""
    if is_symbolic(x):
        lead = x.op.shape[0]
        return ops.broadcast_to(SymbolicTensor(as_op(0.0, np.dtype(dtype))), (lead, *shape))
    return np.zeros((len(x), *shape), dtype)


def _spread(mask: Any, like: Any) -> Any:
    """A mask of one truth value a sample, ready to be used with `like`."""
    for _ in range(len(like.shape) - 1):
        mask = ops.expand_dims(mask, -1)
    return mask


rnn = factory(RNN)
