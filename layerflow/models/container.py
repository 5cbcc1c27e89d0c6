"""Container: a graph of layers that is itself a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, ModelError
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.graph.variable import Variable
from layerflow.layers.base import Layer, as_list, single, touch
from layerflow.layers.input_layer import InputLayer
from layerflow.layers.topology import Node, new_name
from layerflow.models import summary as summary_text
from layerflow.models import traversal
from layerflow.registry import accepts_camel_case


class Container(Layer):
    """Layers between inputs and outputs; any acyclic graph, layers and models may be used several times.

    Args:
        inputs: symbols made by `lf.input`, one or a list.
        outputs: symbols that depend on them, one or a list.
        name: by default model1, model2, ...

    Raises:
        ModelError: cycle, disconnected input or output, two layers of one name.
    """

    CLASS_NAME = "Model"
    owns_first_node = True

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, trainable: bool = True, **kwargs: Any):
        super().__init__(name=name or new_name("model"), trainable=trainable, **kwargs)
        self._connect(as_list(inputs), as_list(outputs))
        if not trainable:
            self.trainable = False

    def _connect(self, inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> None:
        _check_tensors(self.name, inputs, outputs)
        graph = traversal.arrange(inputs, outputs)
        self.inputs, self.outputs = inputs, outputs
        self._graph = graph
        self.input_layers = [x.source.layer for x in inputs]
        self.output_layers = [y.source.layer for y in outputs]
        self.input_names = [layer.name for layer in self.input_layers]
        self.output_names = [layer.name for layer in self.output_layers]
        later, self.inbound_nodes = self.inbound_nodes[1:], []
        Node(self, list(inputs), list(outputs))
        self.inbound_nodes += later
        self.built = True
        self._vocabularies: list[int | None] | None = None
        touch()

    @property
    def layers(self) -> list[Layer]:
        """The layers, inputs first."""
        return self._graph.layers

    @property
    def nodes(self) -> list[Node]:
        """The calls of layers in the order in which they are computed."""
        return self._graph.nodes

    @property
    def nodes_by_depth(self) -> list[list[Node]]:
        return self._graph.by_depth

    @accepts_camel_case
    def get_layer(self, name: str | int | None = None, index: int | None = None) -> Layer:
        """The layer of this name, or at this place in `layers`."""
        if isinstance(name, int):
            name, index = None, name
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ArgumentError(f"{self.name} has {len(layers)} layers; there is none at index {index}.")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise ArgumentError(
            f"{self.name} has no layer named {name!r}; its layers are {', '.join(x.name for x in layers)}."
        )

    # Weights

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets it for every layer."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.layers:
            if not isinstance(layer, InputLayer):
                layer.trainable = value
        touch()

    def _made_weights(self, trainable: bool) -> list[Variable]:
        return [w for layer in self.layers for w in layer._made_weights(trainable)]

    @property
    def trainable_weights(self) -> list[Variable]:
        return [w for layer in self.layers for w in layer.trainable_weights] if self._trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        trained = {id(w) for w in self.trainable_weights}
        return [w for w in self.weights if id(w) not in trained]

    @property
    def state_variables(self) -> list[Variable]:
        return [v for layer in self.layers for v in layer.state_variables]

    @property
    def losses(self) -> list[Callable[[], Any]]:
        return [loss for layer in self.layers for loss in layer.losses]

    @property
    def vocabularies(self) -> list[int | None]:
        """For each input how many different whole numbers the layers that read it know, None where any goes."""
        if self._vocabularies is None:
            found: dict[int, int] = {}
            for node in self.nodes:
                known = getattr(node.layer, "vocabularies", None) or [getattr(node.layer, "vocabulary", None)]
                for x, size in zip(node.inputs, known, strict=False):
                    if size is not None and not node.is_source:
                        found[id(x)] = min(size, found.get(id(x), size))
            self._vocabularies = [found.get(id(x)) for x in self.inputs]
        return self._vocabularies

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        return any(layer.stateful for layer in self.layers)

    def reset_states(self) -> None:
        """Resets the states of every stateful layer."""
        for layer in self.layers:
            if layer.stateful:
                layer.reset_states()

    # Computation

    def replay(
        self, inputs: Sequence[Any], training: bool | None = False, masks: Sequence[Any] | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Computes the model on other symbols or arrays.

        Args:
            inputs: one per input of the model.
            training: whether layers behave as in training.
            masks: one per input, or None.

        Returns:
            The outputs, and the penalties (scalars) of activity regularizers.
        """
        outputs, _, penalties = self.replay_masked(inputs, training, masks)
        return outputs, penalties

    def replay_masked(
        self, inputs: Sequence[Any], training: bool | None = False, masks: Sequence[Any] | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As `replay`, with the masks of the outputs (or None) between them and the penalties."""
        given = list(masks) if masks is not None else [None] * len(inputs)
        values = {id(x): v for x, v in zip(self.inputs, inputs, strict=True)}
        mask_of = {id(x): m for x, m in zip(self.inputs, given, strict=True)}
        penalties: list[Any] = []
        for node in self.nodes:
            if node.is_source:
                continue
            arguments = [values[id(x)] for x in node.inputs]
            incoming = [mask_of[id(x)] for x in node.inputs]
            options = {k: v for k, v in node.kwargs.items() if k not in ("training", "mask")}
            mode = node.kwargs.get("training", training)
            outputs, out_masks = node.layer.forward(arguments, incoming, mode, penalties, options)
            for tensor, value, mask in zip(node.outputs, outputs, out_masks, strict=True):
                values[id(tensor)], mask_of[id(tensor)] = value, mask
        return [values[id(y)] for y in self.outputs], [mask_of[id(y)] for y in self.outputs], penalties

    def forward(self, inputs, masks, training, penalties, kwargs=None):
        outputs, out_masks, found = self.replay_masked(inputs, training, masks)
        penalties.extend(found)
        return outputs, out_masks

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        given = as_list(inputs)
        masks = as_list(mask) if mask is not None else None
        return single(self.replay_masked(given, training, masks)[0])

    def _check_inputs(self, shapes: list[Any]) -> None:
        if len(shapes) != len(self.inputs):
            raise ArgumentError(
                f"{self.name} expects {len(self.inputs)} inputs ({', '.join(self.input_names)}), got {len(shapes)}."
            )
        for shape, expected, name in zip(shapes, self.inputs, self.input_names, strict=True):
            wanted = tuple(expected.shape)
            if len(shape) != len(wanted) or any(
                a != b for a, b in zip(shape[1:], wanted[1:], strict=True) if None not in (a, b)
            ):
                raise summary_text.input_mismatch(self.name, name, shape, wanted)

    def build(self, input_shape: Any) -> None:
        """Does nothing: a container is built from its layers."""

    # Description

    @accepts_camel_case
    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] = print,
        style: str = "guide",
    ) -> None:
        """Prints the layers with output shapes and numbers of parameters.

        Args:
            line_length: characters in a line.
            positions: ends of the columns, as fractions of the line or as characters.
            print_fn: called with each line.
            style: "guide" (three columns) or "tfjs4" (as TF.js 4.22 prints it, with input shapes).
        """
        for line in summary_text.lines(self, line_length, positions, style):
            (print_fn or print)(line)

    def dispose(self) -> dict[str, int]:
        """Gives up the weights of every layer."""
        if self._disposed:
            raise ModelError(f"{self.name} was disposed of already.")
        counts = [layer.dispose()["num_disposed_variables"] for layer in self.layers if not layer._disposed]
        self._disposed = True
        touch()
        return {"ref_count_after_dispose": 0, "num_disposed_variables": int(np.sum(counts, dtype=int))}


def _check_tensors(name: str, inputs: list[Any], outputs: list[Any]) -> None:
    if not inputs or not outputs:
        raise ArgumentError(f"{name}: a model needs at least one input and one output.")
    for tensor in [*inputs, *outputs]:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentError(
                f"{name}: inputs and outputs must be symbols (of lf.input, layer.apply), got {type(tensor).__name__}."
            )
        if tensor.source is None:
            raise ModelError(f"{name}: {tensor!r} was not made by a layer; outputs must come from layers.")
    if len({id(x) for x in inputs}) < len(inputs):
        raise ArgumentError(f"{name}: the list of inputs passed to the model is redundant: an input is in it twice.")
    for tensor in inputs:
        if not isinstance(tensor.source.layer, InputLayer):
            raise ArgumentError(
                f"{name}: inputs of a model must come from lf.input; {tensor.name!r} is an output of a layer."
            )
