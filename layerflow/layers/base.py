"""Layer: a named step of a model with weights of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from layerflow import activations, config, registry, regularizers
from layerflow.errors import (
    ArgumentError,
    LayerflowError,
    ModelError,
    NotBuiltError,
    ShapeError,
    TraceError,
    UnknownArgumentError,
)
from layerflow.graph import ops, trace
from layerflow.graph.shapes import UnknownExtentError, text
from layerflow.graph.symbolic import SymbolicTensor, layer_scope
from layerflow.graph.tensor import tensor, wrap
from layerflow.graph.variable import Variable
from layerflow.layers.signatures import (
    as_list,
    call_parameters,
    checked_shape,
    dtype_name,
    is_nested_numbers,
    several,
    single,
)
from layerflow.layers.topology import InputSpec, Node, Origin, UserShape, checked_name, layer_name
from layerflow.layers.unknown_extents import by_example
from layerflow.layers.weighted import Weighted, touch, weights_from

__all__ = ["Layer", "as_list", "single", "touch", "weights_from"]


class Layer(Weighted):
    """Base of layers.

    A custom layer overrides `call`, and `build` if it has weights; both may use plain NumPy functions.

    Args:
        name: by default made from the class name: dense_Dense1.
        trainable: whether training changes the weights.
        dtype: of the weights; floating inputs are brought to it.
        input_shape: shape of one example, for the first layer of a Sequential.
        batch_input_shape: the same with the batch, [None, ...].
        batch_size: the batch of `input_shape`, any by default.
        weights: initial values, in the order of `weights`.
        activity_regularizer: penalty on the outputs, added to the loss (divided by the batch size).

    >>> class Swish(lf.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.beta = self.add_weight("beta", (input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x / (1 + np.exp(-self.beta * x))
    >>> Swish().apply([[0.0, 50.0]]).print()
    [[ 0., 50.]]
    """

    BASE_ARGUMENTS: ClassVar[Mapping[str, str]] = {
        registry.fold(name): name
        for name in (
            "name",
            "trainable",
            "dtype",
            "input_shape",
            "batch_input_shape",
            "batch_size",
            "weights",
            "activity_regularizer",
            "input_dtype",
        )
    }
    FILE_NOTES: ClassVar[frozenset[str]] = frozenset()  # settings in files that mean nothing to this layer
    owns_first_node = False  # node 0 is the layer's own (input layers and models)
    supports_masking = False
    input_spec: InputSpec | Sequence[InputSpec] | None = None
    stateful = False

    def __init__(self, **kwargs: Any):
        self._setup(**{**self._base_arguments, **kwargs})

    def _setup(
        self,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        input_shape: Any = None,
        batch_input_shape: Any = None,
        batch_size: int | None = None,
        weights: Sequence[Any] | None = None,
        activity_regularizer: Any = None,
        input_dtype: Any = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise UnknownArgumentError(f"{self.get_class_name()}: unknown arguments {', '.join(unknown)}.")
        self.name = layer_name(self.get_class_name()) if name is None else checked_name(name)
        self.dtype = np.dtype(dtype_name(dtype) or input_dtype or config.floatx())
        if batch_input_shape is None and input_shape is not None:
            batch_input_shape = [batch_size, *checked_shape(self.name, input_shape)]
        self.batch_input_shape: UserShape | None = (
            None if batch_input_shape is None else checked_shape(self.name, batch_input_shape)
        )
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.inbound_nodes: list[Node] = []
        self.built = False
        self._setup_weights(trainable, weights)

    def _made(self) -> None:
        if "inbound_nodes" not in self.__dict__:
            raise ModelError(f"{type(self).__name__}.__init__ must call super().__init__() first.")

    def __repr__(self) -> str:
        return f"<{self.get_class_name()} {self.name!r}>"

    # What subclasses override

    def build(self, input_shape: Any) -> None:
        """Makes the weights; `input_shape` includes the batch (None), and is a list of shapes for several inputs."""

    def call(self, inputs: Any) -> Any:
        """The outputs for the inputs (a tensor, or a list of several).  It may also take `training` and `mask`."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape(s) of the outputs, batch included; found by tracing `call`."""
        shapes = [tuple(s) for s in input_shape] if several(input_shape) else [tuple(input_shape)]
        self._build_once(shapes)
        outputs, _ = self._trace([ops.placeholder(shape, self.dtype) for shape in shapes], {})
        return single([tuple(y.shape) for y in outputs])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Mask of the outputs: that of the (first) input if the layer supports masks, else none."""
        return (mask[0] if isinstance(mask, (list, tuple)) else mask) if self.supports_masking else None

    # Calls

    def apply(self, inputs: Any, **kwargs: Any) -> Any:
        """Calls the layer: on symbols it extends the layer graph, on arrays it computes.

        Args:
            inputs: a tensor or symbol, or a list of them.
            kwargs: `training`, `mask` and whatever else `call` takes.

        Raises:
            ShapeError: the inputs do not fit the layer.
            ArgumentError: symbols and arrays are mixed.
        """
        if self._disposed:
            raise ModelError(f"{self.name} was disposed of; make a new layer.")
        given = as_list(inputs) if not is_nested_numbers(inputs) else [inputs]
        symbolic = [isinstance(x, SymbolicTensor) for x in given]
        if trace.is_tracing():
            return self._nested_call(given, kwargs)
        if any(symbolic) and not all(symbolic):
            raise ArgumentError(
                f"{self.name}: arguments to apply() must be all symbols or all arrays, not some of each."
            )
        return self._apply_symbolic(given, kwargs) if any(symbolic) else self._apply_eager(given, kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return self.apply(inputs, **kwargs)

    def _nested_call(self, inputs: list[Any], kwargs: dict[str, Any]) -> Any:
        self._prepare([tuple(x.shape) for x in inputs])
        outputs, _ = self.forward(inputs, [None] * len(inputs), kwargs.pop("training", None), [], kwargs)
        return single(outputs)

    def _apply_eager(self, given: list[Any], kwargs: dict[str, Any]) -> Any:
        inputs = [self._as_input(x) for x in given]
        self._prepare([x.shape for x in inputs])
        mask = as_list(kwargs.pop("mask", None))
        masks = mask * len(inputs) if len(mask) == 1 else mask
        outputs, _ = self.forward(inputs, masks, kwargs.pop("training", None), [], kwargs)
        return single([wrap(np.array(y) if any(y is x for x in inputs) else y) for y in outputs])

    def _as_input(self, x: Any) -> Any:
        if not isinstance(x, (np.ndarray, Variable)):
            try:
                x = tensor(x)
            except ShapeError as error:
                raise ShapeError(f"{self.name}: the input is a {type(x).__name__}: {error}") from None
        x = wrap(np.asarray(x))
        if x.dtype.kind not in "fiub":
            raise ArgumentError(f"{self.name}: the input has dtype {x.dtype}; pass numbers.")
        return (
            wrap(x.astype(self.dtype))
            if x.dtype.kind == "f" and self.dtype.kind == "f" and x.dtype != self.dtype
            else x
        )

    def _apply_symbolic(self, inputs: list[SymbolicTensor], kwargs: dict[str, Any]) -> Any:
        for x in inputs:
            if x.source is None:
                raise ModelError(
                    f"{self.name}: its input {x!r} was not made by a layer. Use layers for it (lf.layers.add, ...), "
                    "or do the computation in `call` of a layer of your own."
                )
        for argument, value in kwargs.items():
            if isinstance(value, SymbolicTensor):
                raise ArgumentError(
                    f"{self.name}: {argument} is a symbol, but only the inputs of a layer in a model may be. Give "
                    f"{argument} as an array, or call the layer within `call` of a layer of your own that takes both."
                )
        shapes = [tuple(x.shape) for x in inputs]
        self._prepare(shapes)
        outputs, _ = self._trace(inputs, kwargs)
        self._compare_declared(shapes, outputs)
        number = len(self.inbound_nodes)
        name = f"{self.name}/{self.name}" + (f"_{number}" if number else "")
        # The shapes of the ops, not of the symbols: they keep extents such as twice the batch.
        shapes_with_batch: list[Any] = [y.op.shape for y in outputs]
        results = [ops.placeholder(s, y.dtype, name) for s, y in zip(shapes_with_batch, outputs, strict=True)]
        node = Node(self, inputs, results, dict(kwargs))
        for position, result in enumerate(results):
            result.source = Origin(self, node.index, position)
        return single(results)

    def _compare_declared(self, input_shapes: list[UserShape], outputs: list[SymbolicTensor]) -> None:
        """A `compute_output_shape` of a subclass must agree with what `call` gives."""
        if type(self).compute_output_shape in (Layer.compute_output_shape,):
            return
        declared = self.compute_output_shape(single(input_shapes))
        listed = [tuple(s) for s in declared] if several(declared) else [tuple(declared)]
        for said, output in zip(listed, outputs, strict=False):
            if len(said) != len(output.shape) or any(
                a != b for a, b in zip(said, output.shape, strict=True) if a is not None and b is not None
            ):
                raise ShapeError(
                    f"{self.name}: compute_output_shape says {text(said)}, but call gives {text(output.shape)}. "
                    "Correct it, or leave it out: the shape is found by tracing call."
                )

    def _prepare(self, shapes: list[UserShape]) -> None:
        """Checks input shapes and builds at the first call."""
        self._check_inputs(shapes)
        if not self.built:
            self._build_once(shapes)
            self._check_inputs(shapes)

    def _check_inputs(self, shapes: list[UserShape]) -> None:
        if self.input_spec is None:
            return
        specs = [self.input_spec] * len(shapes) if isinstance(self.input_spec, InputSpec) else list(self.input_spec)
        if len(specs) != len(shapes) or (isinstance(self.input_spec, InputSpec) and len(shapes) > 1):
            wanted = 1 if isinstance(self.input_spec, InputSpec) else len(specs)
            raise ArgumentError(f"{self.name} expects {wanted} input(s), but it received {len(shapes)} input tensors.")
        for spec, shape in zip(specs, shapes, strict=True):
            spec.check(self.name, shape)

    def _build_once(self, shapes: list[UserShape]) -> None:
        if self.built:
            return
        with trace.eager():
            self.build(single(shapes))
        self.built = True
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)

    def _trace(self, inputs: list[Any], kwargs: dict[str, Any]) -> tuple[list[SymbolicTensor], list[Any]]:
        def traced(symbols: list[Any]) -> tuple[list[SymbolicTensor], list[Any]]:
            options = dict(kwargs)
            with trace.tracing():
                return self.forward(symbols, [None] * len(symbols), options.pop("training", None), [], options)

        try:
            return traced(inputs)
        except UnknownExtentError:
            if all(n is not None for x in inputs for n in x.shape[1:]):
                raise
            outputs = by_example(inputs, lambda symbols: traced(symbols)[0])
            return outputs, [None] * len(outputs)

    def forward(
        self,
        inputs: list[Any],
        masks: list[Any],
        training: bool | None,
        penalties: list[Any],
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Outputs and their masks for inputs that were checked; activity penalties are appended to `penalties`."""
        with layer_scope(self.name):
            outputs = as_list(self._call(inputs, masks, training, kwargs or {}))
            for y in outputs:
                if trace.is_tracing() and not isinstance(y, SymbolicTensor):
                    raise TraceError(
                        f"{self.name}: call returned {type(y).__name__}, not a computation with its inputs or weights."
                    )
            if self.activity_regularizer is not None:
                penalties.extend(self.activity_regularizer(y) / ops.extent(y, 0) for y in outputs)
        if all(mask is None for mask in masks) and type(self).compute_mask is Layer.compute_mask:
            return outputs, [None] * len(outputs)
        out_mask = self.compute_mask(single(inputs), single(masks))
        return outputs, out_mask if isinstance(out_mask, list) else [out_mask] * len(outputs)

    def _call(self, inputs: list[Any], masks: list[Any], training: bool | None, kwargs: Mapping[str, Any]) -> Any:
        names, required, open_ended = call_parameters(type(self).call)
        given = {k: v for k, v in kwargs.items() if v is not None}
        if len(required) > 1:
            # TF.js's form call(inputs, kwargs): the second argument is a dictionary.
            return self.call(single(inputs), {"training": training, "mask": single(masks), **given})  # type: ignore[call-arg]
        unknown = [k for k in given if k not in names and not open_ended]
        if unknown:
            raise UnknownArgumentError(
                f"{self.name}: call() has no argument {unknown[0]!r}.{registry.nearest(unknown[0], names)}"
            )
        if "training" in names:
            given["training"] = bool(training)
        if "mask" in names:
            given.setdefault("mask", single(masks) if any(m is not None for m in masks) else None)
        try:
            return self.call(single(inputs), **given)
        except LayerflowError as error:
            if self.name not in str(error) and type(error) in (ShapeError, TraceError):
                shapes = " and ".join(text(x.shape) for x in inputs)
                raise type(error)(f"{self.name} (input {shapes}): {error}") from error
            raise

    # The layer graph

    def _only_node(self, what: str) -> Node:
        nodes = self.inbound_nodes
        if not nodes:
            raise NotBuiltError(f"{self.name} was never called on a symbol, so it has no {what}.")
        if len(nodes) > 1:
            raise AttributeError(
                f"{self.name} has {len(nodes)} inbound nodes: 'layer {what}' is ill-defined; use get_{what}_at(index)."
            )
        return nodes[0]

    @property
    def input(self) -> Any:
        return single(self._only_node("input").inputs)

    @property
    def output(self) -> Any:
        return single(self._only_node("output").outputs)

    def get_input_at(self, index: int) -> Any:
        return single(self.inbound_nodes[index].inputs)

    def get_output_at(self, index: int) -> Any:
        return single(self.inbound_nodes[index].outputs)

    @property
    def output_shape(self) -> Any:
        """Shape of the output; a list of shapes for several outputs.  Every call must have given the same."""
        shapes = {tuple(node.output_shapes) for node in self.inbound_nodes}
        if len(shapes) != 1:
            raise AttributeError(f"{self.name} has {'no output yet' if not shapes else 'outputs of several shapes'}.")
        return single(shapes.pop())

    def reset_states(self) -> None:
        if not self.stateful:
            raise ModelError(f"{self.name} is not stateful, so it has no states to reset.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, `name` and `trainable`; with these `from_config` makes an equal layer."""
        settings = {
            name: self._config_value(name, value)
            for name, value in self._arguments.items()
            if registry.fold(name) not in self.BASE_ARGUMENTS or name == "activity_regularizer"
        }
        settings["name"] = self.name
        settings["trainable"] = self.trainable
        if self.batch_input_shape is not None:
            settings["batch_input_shape"] = list(self.batch_input_shape)
            settings["dtype"] = self.dtype.name
        elif self.dtype != np.dtype("float32"):
            settings["dtype"] = self.dtype.name
        return settings

    def _config_value(self, name: str, given: Any) -> Any:
        made = self.__dict__.get(name)
        if isinstance(made, registry.Configurable) and not isinstance(made, Layer):
            return registry.serialize_value(made)
        return activations.name_of(made) or registry.serialize_value(given)
