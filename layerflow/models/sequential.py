"""Sequential: a chain of layers, built as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerflow.errors import ArgumentError, ModelError, NotBuiltError
from layerflow.layers import LAYERS
from layerflow.layers.base import Layer, as_list, touch
from layerflow.layers.input_layer import InputLayer, input
from layerflow.layers.topology import new_name
from layerflow.models import topology_json
from layerflow.models.functional import Model
from layerflow.models.traversal import LayerGraph, node_of
from layerflow.registry import accepts_camel_case


class Sequential(Model):
    """Layers one after the other.  The first needs an input_shape.

    Args:
        layers: the chain so far.
        name: by default sequential_1, sequential_2, ...

    >>> model = lf.Sequential([lf.layers.Dense(32, "relu", input_shape=[784]), lf.layers.Dense(10, "softmax")])
    """

    CLASS_NAME = "Sequential"

    def __init__(
        self, layers: Sequence[Layer] | None = None, name: str | None = None, trainable: bool = True, **kwargs: Any
    ):
        Layer.__init__(self, name=name or new_name("sequential_"), trainable=trainable, **kwargs)
        self._chain: list[Layer] = []
        self._graph = LayerGraph([], [], [])
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.input_layers: list[Layer] = []
        self.output_layers: list[Layer] = []
        self.input_names: list[str] = []
        self.output_names: list[str] = []
        for layer in layers or []:
            self.add(layer)
        if not trainable:
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input that the first one implies."""
        return list(self._chain)

    def add(self, layer: Layer) -> None:
        """Appends a layer; the weights are made at once.

        Raises:
            ArgumentError: the first layer has no input_shape, or the layer has several inputs or outputs.
            ShapeError: the layer does not fit the output so far.
        """
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"{self.name}.add takes a layer, got {type(layer).__name__}. Make one first: lf.layers.dense(units=1)."
            )
        if any(layer is other for other in self._chain) or layer.name in {x.name for x in self._chain}:
            raise ModelError(
                f"{self.name}: there is a layer named {layer.name!r} already; all layer names should be unique."
            )
        if isinstance(layer, Model):
            _check_nested(self.name, layer)
        if not self.outputs:
            inputs, output = self._first(layer)
        else:
            inputs, output = self.inputs, layer.apply(self.outputs[0])
        if isinstance(output, list):
            raise ArgumentError(
                f"{self.name}: {layer.name!r} has {len(output)} outputs; layers of a Sequential must have exactly one."
            )
        if not (isinstance(layer, InputLayer) and not self._chain):
            self._chain.append(layer)
        self._rebuild(inputs, output)

    def _first(self, layer: Layer) -> tuple[list[Any], Any]:
        """Input and output of a chain that starts with `layer`."""
        if isinstance(layer, InputLayer):
            return [layer.inbound_nodes[0].outputs[0]], layer.inbound_nodes[0].outputs[0]
        if isinstance(layer, Model):
            start = layer.inputs[0]
            symbol = input(batch_shape=tuple(start.shape), dtype=start.dtype, name=f"{layer.name}_input")
            return [symbol], layer.apply(symbol)
        if layer.batch_input_shape is None:
            raise ArgumentError(
                f"{self.name}: the first layer, {layer.name!r}, needs an input_shape (without the batch), "
                "for example lf.layers.dense(units=32, input_shape=[784])."
            )
        if layer.inbound_nodes:
            raise ModelError(
                f"{self.name}: {layer.name!r} was applied before; the first layer of a Sequential must be a new one."
            )
        symbol = input(batch_shape=layer.batch_input_shape, dtype=layer.dtype, name=f"{layer.name}_input")
        return [symbol], layer.apply(symbol)

    def _rebuild(self, inputs: list[Any], output: Any) -> None:
        self._forget_steps()
        self._compilation = None
        self._connect(inputs, [output])

    def pop(self) -> Layer:
        """Removes the last layer and returns it."""
        if not self._chain:
            raise ModelError(f"{self.name}: there is no layer to remove.")
        layer = self._chain.pop()
        last = node_of(self.outputs[0])
        layer.inbound_nodes.remove(last)
        if self._chain:
            self._rebuild(self.inputs, last.inputs[0])
        else:
            self._graph = LayerGraph([], [], [])
            self.inputs, self.outputs, self.inbound_nodes, self.built = [], [], [], False
            self._forget_steps()
            touch()
        return layer

    def build(self, input_shape: Any = None) -> None:
        """Checks that there is something to run."""
        if not self.outputs:
            raise NotBuiltError(f"{self.name} has no layers; add some, the first with an input_shape.")

    def count_params(self) -> int:
        self.build()
        return super().count_params()

    def summary(self, *args: Any, **kwargs: Any) -> None:
        self.build()
        super().summary(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "layers": [topology_json.layer_entry(layer) for layer in self._chain_with_input()]}

    def _chain_with_input(self) -> list[Layer]:
        """The chain, with its input where the first layer does not say its shape itself."""
        if self._chain and self._chain[0].batch_input_shape is None and not isinstance(self._chain[0], Model):
            return [*self.input_layers, *self._chain]
        return list(self._chain) or list(self.input_layers)

    @classmethod
    def from_config(cls, config: Any) -> Any:
        entries = config.get("layers", []) if isinstance(config, Mapping) else config
        name = config.get("name") if isinstance(config, Mapping) else None
        made = super(Model, cls).from_config({"name": name})  # not Model's, which reads a graph
        for entry in entries:
            made.add(topology_json.layer_from_entry(entry))
        return made


def _check_nested(name: str, model: Model) -> None:
    if len(as_list(model.inputs)) != 1 or len(as_list(model.outputs)) != 1:
        raise ArgumentError(
            f"{name}: the model {model.name!r} must have one input and one output to be a layer here, it has "
            f"{len(model.inputs)} and {len(model.outputs)}."
        )


@accepts_camel_case
def sequential(layers: Sequence[Layer] | None = None, name: str | None = None) -> Sequential:
    """A model of layers one after the other; see `Sequential`."""
    return Sequential(layers=layers, name=name)


LAYERS.add(Sequential, "Sequential")
