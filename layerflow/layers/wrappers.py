"""Layers around a layer.  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops, shapes
from layerflow.layers.base import Layer
from layerflow.layers.cells import state_shapes
from layerflow.layers.reading import deserialize
from layerflow.layers.rnn import RNN, TakesStates
from layerflow.layers.signatures import as_list, several, single
from layerflow.layers.stacked_cells import share_dtype
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory, option


def _inner(wrapper: str, layer: Any) -> Layer:
    """The layer to wrap, also from {class_name, config}."""
    made = deserialize(layer) if isinstance(layer, Mapping) else layer
    if not isinstance(made, Layer):
        raise ArgumentError(f"{wrapper}: layer must be a layer, got {type(made).__name__}.")
    return made


class Wrapper(Layer):
    """Base: a layer that holds another, and takes its input shape from it if it has none itself."""

    def __init__(self, layer: Any, **kwargs: Any):
        made = _inner(type(self).__name__, layer)
        if made.batch_input_shape is not None and not kwargs.keys() & {"input_shape", "batch_input_shape"}:
            kwargs["batch_input_shape"] = self._outer_shape(made.batch_input_shape)
        super().__init__(**kwargs)
        share_dtype(self, made, kwargs.get("dtype"))
        self._adopt(made)

    def _outer_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def _adopt(self, layer: Layer) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _adopt(layer).")

    def _entry(self, layer: Layer) -> dict[str, Any]:
        return {"class_name": layer.get_class_name(), "config": layer.get_config()}


class TimeDistributed(Wrapper):
    """A layer applied to every step of [batch, steps, ...], with the same weights.

    The steps are taken as so many examples, so that the layer runs once.

    Args:
        layer: what runs on each step; it has one input and one output.

    Raises:
        ShapeError: an input with less than 3 axes.

    >>> film = np.ones((2, 5, 16, 16, 3))  # five images each
    >>> layer = lf.layers.time_distributed(lf.layers.conv2d(filters=4, kernel_size=3))
    >>> layer.apply(film).shape
    (2, 5, 14, 14, 4)
    >>> layer.count_params()  # of one conv2d
    112
    """

    supports_masking = True

    def _outer_shape(self, shape):
        return (shape[0], None, *shape[1:])

    def _adopt(self, layer):
        self.layer = layer
        self.input_spec = InputSpec(min_ndim=3, remedy="TimeDistributed takes [batch, steps, ...].")

    @property
    def vocabulary(self) -> int | None:
        return getattr(self.layer, "vocabulary", None)

    def path_of(self, attribute: str, held: Any) -> str:
        return self.path  # as files of TF.js name the weights

    @property
    def stateful(self) -> bool:
        return self.layer.stateful

    def reset_states(self) -> None:
        self.layer.reset_states()

    def build(self, input_shape):
        self.layer._prepare([(None, *input_shape[2:])])
        self.input_spec = InputSpec(ndim=len(input_shape))

    def call(self, x, mask=None, training=False):
        inner_mask = None if mask is None or len(mask.shape) < 3 else _merged(mask)
        outputs, _ = self.layer.forward([_merged(x)], [inner_mask], training, [])
        if len(outputs) != 1:
            raise ArgumentError(f"{self.name}: the layer {self.layer.name!r} has {len(outputs)} outputs, not one.")
        y = outputs[0]
        return ops.reshape(y, (*ops.shape_of(x)[:2], *ops.shape_of(y)[1:]))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """A step counts if anything in it counts."""
        if mask is None or len(mask.shape) == 2:
            return mask
        return ops.any(mask, list(range(2, len(mask.shape))))

    def get_config(self):
        return {**super().get_config(), "layer": self._entry(self.layer)}


def _merged(x: Any) -> Any:
    """[batch, steps, ...] as [batch steps, ...]."""
    shape = ops.shape_of(x)
    return ops.reshape(x, (shapes.multiply(shape[0], shape[1]), *shape[2:]))


MERGE_MODES = ("concat", "sum", "mul", "ave")


class Bidirectional(TakesStates, Wrapper):
    """A recurrent layer run over the steps of [batch, steps, features] in both directions, by a copy each with weights
    of its own.

    Args:
        layer: a recurrent layer; its configuration is that of both copies.
        merge_mode: how the two outputs become one: "concat" (along the features), "sum", "mul", "ave" (mean), or None:
            a list of both.
        backward_layer: the layer for the other direction, if it is not to be like `layer`.

    Raises:
        ArgumentError: a layer that is not recurrent, or two that go in the same direction.

    >>> x = np.ones((2, 7, 3))
    >>> lf.layers.bidirectional(lf.layers.gru(units=4)).apply(x).shape
    (2, 8)
    >>> lf.layers.bidirectional(lf.layers.gru(units=4, return_sequences=True), merge_mode="sum").apply(x).shape
    (2, 7, 4)
    """

    supports_masking = True

    def __init__(self, layer: Any, merge_mode: str | None = "concat", backward_layer: Any = None, **kwargs: Any):
        self._given_backward = backward_layer
        super().__init__(layer, **kwargs)
        self.merge_mode = None if merge_mode is None else option(f"{self.name}: merge_mode", merge_mode, MERGE_MODES)

    def _adopt(self, layer):
        if not isinstance(layer, RNN):
            raise ArgumentError(
                f"{self.name}: layer must be a recurrent layer (lstm, gru, rnn, ...), got {layer.get_class_name()}."
            )
        settings = layer.get_config()
        self.layer_name = layer.name
        self.forward_layer = type(layer).from_config({**settings, "name": f"forward_{layer.name}"})
        if self._given_backward is None:
            other = {**settings, "name": f"backward_{layer.name}", "go_backwards": not layer.go_backwards}
            self.backward_layer = type(layer).from_config(other)
        else:
            self.backward_layer = _inner(self.name, self._given_backward)
            if getattr(self.backward_layer, "go_backwards", None) is layer.go_backwards:
                raise ArgumentError(f"{self.name}: backward_layer must go the other way: set its go_backwards.")
        self.return_sequences, self.return_state = layer.return_sequences, layer.return_state
        self.input_spec = layer.input_spec

    def path_of(self, attribute: str, held: Any) -> str:
        return f"{self.path}/{held.name}"

    @property
    def stateful(self) -> bool:
        return self.forward_layer.stateful

    def reset_states(self) -> None:
        self.forward_layer.reset_states()
        self.backward_layer.reset_states()

    def _check_inputs(self, shapes: list[Any]) -> None:
        for layer, mine in self._split(shapes):
            layer._check_inputs(mine)

    def _split(self, inputs: list[Any]) -> list[tuple[Any, list[Any]]]:
        """Each layer with its inputs: the sequence and its half of the states."""
        x, states = inputs[0], inputs[1:]
        half = len(states) // 2
        if len(states) % 2:
            raise ShapeError(
                f"{self.name}: {len(states)} initial states arrive; give those of the forward and of the backward "
                f"layer, {2 * len(state_shapes(self.forward_layer.cell))} in all."
            )
        return [(self.forward_layer, [x, *states[:half]]), (self.backward_layer, [x, *states[half:]])]

    def build(self, input_shape):
        shape = input_shape[0] if several(input_shape) else input_shape
        for layer in (self.forward_layer, self.backward_layer):
            layer._build_once([tuple(shape)])
        self.input_spec = self.forward_layer.input_spec

    def call(self, inputs, mask=None, training=False, initial_state=None):
        given = [*as_list(inputs), *(as_list(initial_state) if initial_state is not None else [])]
        first = mask[0] if isinstance(mask, list) else mask
        found = []
        for layer, mine in self._split(given):
            masks = [first, *[None] * (len(mine) - 1)]
            found.append(layer.forward(mine, masks, training, [])[0])
        (y, *ahead), (z, *back) = found
        z = ops.flip(z, 1) if self.return_sequences else z
        merged = as_list(self._merge(y, z))
        return single([*merged, *ahead, *back])

    def _merge(self, y: Any, z: Any) -> Any:
        if self.merge_mode is None:
            return [y, z]
        if self.merge_mode == "concat":
            return ops.concatenate([y, z], -1)
        return y * z if self.merge_mode == "mul" else y + z if self.merge_mode == "sum" else 0.5 * (y + z)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the input for sequences, none for last outputs and states."""
        first = mask[0] if isinstance(mask, list) else mask
        out = [first if self.return_sequences else None] * (2 if self.merge_mode is None else 1)
        states = 2 * len(state_shapes(self.forward_layer.cell)) if self.return_state else 0
        return [*out, *[None] * states]

    def get_config(self):
        inner = self._entry(self.forward_layer)
        inner["config"]["name"] = self.layer_name
        config = {**super().get_config(), "layer": inner, "merge_mode": self.merge_mode}
        config.pop("backward_layer", None)
        if self._given_backward is not None:
            config["backward_layer"] = self._entry(self.backward_layer)
        return config


time_distributed = factory(TimeDistributed)
bidirectional = factory(Bidirectional)
