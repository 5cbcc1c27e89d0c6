"""Where data enter a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from layerflow.errors import ArgumentError, ModelError
from layerflow.graph import ops
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.layers.base import Layer
from layerflow.layers.topology import Node, Origin, new_name
from layerflow.registry import accepts_camel_case, factory


class InputLayer(Layer):
    """The symbol that stands for data; `lf.input(shape=...)` makes one and returns its output.

    Args:
        input_shape: shape of one example, None where any extent goes; or give
        batch_input_shape: shape with the batch, None for any.
        batch_size: the batch for `input_shape`.
        sparse: kept for files; sparse data are not supported.

    Raises:
        ArgumentError: both shapes or none.

    >>> model = lf.sequential([lf.layers.input_layer(input_shape=[4], name="measured"), lf.layers.dense(units=1)])
    >>> model.input_names
    ['measured']
    >>> x = lf.input(shape=[4])  # the same for a model of several inputs or outputs
    >>> lf.layers.dense(units=1).apply(x).shape
    (None, 1)
    """

    owns_first_node = True
    ALIASES: ClassVar[Mapping[str, str]] = {"shape": "input_shape", "batch_shape": "batch_input_shape"}

    def __init__(self, sparse: bool = False, **kwargs: Any):
        shape, batch_shape = kwargs.get("input_shape"), kwargs.get("batch_input_shape")
        if (shape is None) == (batch_shape is None):
            raise ArgumentError("an input needs exactly one of input_shape (without the batch) and batch_input_shape.")
        if batch_shape is not None and kwargs.get("batch_size") is not None:
            raise ArgumentError("batch_size goes with input_shape; batch_input_shape contains it already.")
        kwargs["name"] = kwargs.get("name") or new_name("input")
        kwargs["trainable"] = False
        super().__init__(**kwargs)
        self.sparse = bool(sparse)
        self.built = True
        symbol = ops.placeholder(self.batch_input_shape or (), self.dtype, self.name)
        symbol.source = Origin(self, 0, 0)
        Node(self, [symbol], [symbol])

    def apply(self, inputs: Any, **kwargs: Any) -> Any:
        raise ModelError(f"{self.name}: an input layer cannot be applied; use its output, as lf.input(...) returns it.")

    def __deepcopy__(self, memo: dict[int, Any]) -> InputLayer:
        """Another input of the same name and shape: its symbol is part of it."""
        memo[id(self)] = made = type(self).from_config(self.get_config())
        return made

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_input_shape": list(self.batch_input_shape or ()),
            "dtype": self.dtype.name,
            "sparse": self.sparse,
            "name": self.name,
        }

    def dispose(self) -> dict[str, int]:
        """Does nothing: an input has no weights."""
        return {"ref_count_after_dispose": 0, "num_disposed_variables": 0}


input_layer = factory(InputLayer)


@accepts_camel_case
def input(
    shape: Sequence[int | None] | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    dtype: Any = None,
    sparse: bool = False,
) -> SymbolicTensor:
    """The symbol for an input of a model.

    Args:
        shape: shape of one example, None where any size goes; or give
        batch_shape: shape with the batch.

    >>> x = lf.input(shape=[784])
    >>> model = lf.model(inputs=x, outputs=lf.layers.dense(units=10).apply(x))
    """
    given = {"input_shape": shape, "batch_input_shape": batch_shape, "name": name, "dtype": dtype, "sparse": sparse}
    return InputLayer(**{k: v for k, v in given.items() if v is not None}).inbound_nodes[0].outputs[0]
