"""Walks of the layer graph from outputs to inputs: which nodes a model has, in what order, and whether it is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layerflow.errors import ModelError
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.layers.base import Layer
from layerflow.layers.topology import Node


@dataclass(frozen=True)
class LayerGraph:
    """What a model consists of.

    Attributes:
        nodes: calls in an order in which they can be computed (by decreasing depth, see `by_depth`).
        layers: by decreasing depth, equal depths in the order of the walk.
        by_depth: nodes of each depth, deepest first; depth 0 is nothing but outputs.
    """

    nodes: list[Node]
    layers: list[Layer]
    by_depth: list[list[Node]]


def node_of(tensor: SymbolicTensor) -> Node:
    return tensor.source.layer.inbound_nodes[tensor.source.node]


def walk(outputs: Sequence[SymbolicTensor], stop: Sequence[SymbolicTensor]) -> list[Node]:
    """Nodes that the outputs need, inputs before users; the walk does not go beyond the tensors of `stop`.

    Raises:
        ModelError: a cycle.
    """
    ends = {id(tensor) for tensor in stop}
    finished: dict[Node, None] = {}
    open_nodes: set[Node] = set()
    # Depth-first with a stack of our own: models may be deeper than Python's recursion limit.
    stack: list[tuple[Node, int]] = []
    for output in outputs:
        stack.append((node_of(output), 0))
        while stack:
            node, position = stack.pop()
            if position == 0:
                if node in finished:
                    continue
                if node in open_nodes:
                    raise ModelError(
                        f"the layer {node.layer.name!r} is part of a cycle: its output feeds its own input."
                    )
                open_nodes.add(node)
            feeding = [] if node.is_source else [x for x in node.inputs if id(x) not in ends or _is_source(x)]
            if position < len(feeding):
                stack.append((node, position + 1))
                stack.append((node_of(feeding[position]), 0))
            else:
                open_nodes.discard(node)
                finished[node] = None
    return list(finished)


def _is_source(tensor: SymbolicTensor) -> bool:
    return node_of(tensor).is_source


def arrange(inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> LayerGraph:
    """The layer graph between inputs and outputs.

    Raises:
        ModelError: a cycle; an output that depends on a tensor that is no input; an input that no output depends on;
            two layers of one name.
    """
    nodes = walk(outputs, inputs)
    _check_connected(nodes, inputs, outputs)
    first_seen: dict[Layer, int] = {}
    for node in _walk_order(outputs):
        first_seen.setdefault(node.layer, len(first_seen))
    depth: dict[Node, int] = {}
    layer_depth: dict[Layer, int] = {}
    for node in reversed(nodes):
        # A layer used twice has the depth of its deepest use.
        here = max(depth.get(node, 0), layer_depth.get(node.layer, 0))
        depth[node] = layer_depth[node.layer] = here
        for origin in node.origins:
            source = origin.layer.inbound_nodes[origin.node]
            depth[source] = max(depth.get(source, 0), here + 1)
    layers = sorted(layer_depth, key=lambda layer: (-layer_depth[layer], first_seen[layer]))
    _check_names(layers)
    order = {node: number for number, node in enumerate(nodes)}
    levels = sorted(set(depth.values()), reverse=True)
    by_depth = [[node for node in nodes if depth[node] == level] for level in levels]
    return LayerGraph(sorted(nodes, key=lambda n: (-depth[n], order[n])), layers, by_depth)


def _walk_order(outputs: Sequence[SymbolicTensor]) -> list[Node]:
    """Nodes in the order in which a walk from the outputs meets them: the tie rule of `layers`."""
    seen: dict[Node, None] = {}
    for output in outputs:
        stack = [node_of(output)]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen[node] = None
                stack.extend(o.layer.inbound_nodes[o.node] for o in reversed(node.origins))
    return list(seen)


def _check_connected(
    nodes: Sequence[Node], inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]
) -> None:
    given = {id(tensor) for tensor in inputs}
    known: set[int] = set()
    reached: list[str] = []
    for node in nodes:
        if node.is_source and any(id(y) not in given for y in node.outputs):
            raise ModelError(
                f"graph disconnected: the outputs need {node.layer.name!r}, which is not among the inputs. "
                f"Add it to inputs. Layers reached before it: {', '.join(reached) or 'none'}."
            )
        known.update(id(y) for y in node.outputs)
        reached.append(node.layer.name)
    for tensor in inputs:
        if id(tensor) not in known:
            names = ", ".join(repr(y.source.layer.name) for y in outputs)
            raise ModelError(
                f"graph disconnected: no output ({names}) depends on the input {tensor.source.layer.name!r}. "
                "Leave it out, or connect it."
            )


def _check_names(layers: Sequence[Any]) -> None:
    for name, count in Counter(layer.name for layer in layers).items():
        if count > 1:
            raise ModelError(
                f"the name {name!r} is used {count} times in the model; all layer names should be unique. "
                "Give one another name=."
            )
