"""The layer graph: nodes (one per symbolic call of a layer), input specifications, names."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph.shapes import text
from layerflow.registry import class_snake_case

if TYPE_CHECKING:
    from layerflow.graph.symbolic import SymbolicTensor
    from layerflow.layers.base import Layer

UserShape = tuple[int | None, ...]


class Origin(NamedTuple):
    """Where a symbol of the layer graph comes from: output `tensor` of call number `node` of `layer`."""

    layer: Layer
    node: int
    tensor: int


@dataclass(eq=False)
class Node:
    """One symbolic call of a layer: what went in, what came out."""

    layer: Layer
    inputs: list[SymbolicTensor]
    outputs: list[SymbolicTensor]
    kwargs: dict[str, Any] = field(default_factory=dict)
    index: int = 0

    def __post_init__(self) -> None:
        self.index = len(self.layer.inbound_nodes)
        self.layer.inbound_nodes.append(self)

    @property
    def origins(self) -> list[Origin]:
        """Origins of the inputs; none for the node of an input layer or of a model itself."""
        return [] if self.is_source else [tensor.source for tensor in self.inputs]

    @property
    def is_source(self) -> bool:
        """True for a node whose inputs are its own: an InputLayer's, or number 0 of a model."""
        return bool(self.inputs) and self.layer.owns_first_node and self.index == 0

    @property
    def input_shapes(self) -> list[UserShape]:
        return [tuple(tensor.shape) for tensor in self.inputs]

    @property
    def output_shapes(self) -> list[UserShape]:
        return [tuple(tensor.shape) for tensor in self.outputs]


@dataclass(frozen=True)
class InputSpec:
    """What an input of a layer must look like; None means anything.

    Attributes:
        remedy: for messages: what to do about another rank.
        one_short: the same for an input that lacks one axis.
    """

    ndim: int | None = None
    min_ndim: int | None = None
    max_ndim: int | None = None
    axes: Mapping[int, int] = field(default_factory=dict)
    remedy: str = ""
    one_short: str = ""

    def check(self, layer: str, shape: Sequence[int | None]) -> None:
        """Raises ShapeError if a shape (batch included) does not fit."""
        rank = len(shape)
        wanted = None
        if self.ndim is not None and rank != self.ndim:
            wanted = f"{self.ndim} axes (batch included)"
        elif self.max_ndim is not None and rank > self.max_ndim:
            wanted = f"at most {self.max_ndim} axes"
        elif self.min_ndim is not None and rank < self.min_ndim:
            wanted = f"at least {self.min_ndim} axes"
        if wanted:
            remedy = self.one_short or self.remedy if rank + 1 == self.ndim else self.remedy
            raise ShapeError(
                f"{layer}: expected an input of {wanted}, got shape {text(shape)} of {rank}. {remedy}".rstrip()
            )
        for axis, extent in self.axes.items():
            if shape[axis] not in (None, extent):
                raise ShapeError(
                    f"{layer}: the input has shape {text(shape)}, but the layer was built for {extent} at axis {axis}, "
                    f"not {shape[axis]}. Give it such an input, or make a new layer."
                )


_counters: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
_VALID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/]*")


def reset_names() -> None:
    """Numbers of layer names start at 1 again."""
    _counters.clear()


def new_name(prefix: str) -> str:
    """`prefix` and the next number of this prefix: input1, model1, sequential_1, dense_Dense1."""
    return f"{prefix}{next(_counters[prefix])}"


def layer_name(class_name: str) -> str:
    """The next name of a layer of this class, as the guides print it: dense_Dense1."""
    return new_name(f"{class_snake_case(class_name)}_{class_name}")


def checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _VALID.fullmatch(name):
        raise ArgumentError(
            f"{name!r} is no valid layer name: a letter or digit comes first, then letters, digits and -._/ only."
        )
    return name
