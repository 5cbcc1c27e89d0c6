"""Trace: while one is active, variables are graph inputs and updates are recorded instead of done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from layerflow.errors import TraceError
from layerflow.graph import symbolic
from layerflow.graph.ir import Graph, substitute
from layerflow.graph.ops import custom
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.recall import Captures
from layerflow.graph.symbolic import Op, SymbolicTensor
from layerflow.graph.variable import Variable


class Trace:
    """What a traced function did besides returning values."""

    def __init__(self, captures: Captures | None = None) -> None:
        self.updates: dict[Variable, Any] = {}
        self.captures = captures
        self.custom = False  # whether a gradient of the user's own was met: a rule that is a new function each time
        self.draws = 0  # random numbers drawn so far: each draw has a salt of its own

    def graph(self, inputs: Sequence[SymbolicTensor], outputs: Sequence[Any]) -> Graph:
        """The Graph of what was recorded."""
        updates = []
        for variable, value in self.updates.items():
            op = as_op(value, variable.dtype)
            if op.shape != variable.shape:
                raise TraceError(
                    f"variable {variable.name!r} of shape {list(variable.shape)} cannot take a value of shape "
                    f"{list(op.shape)}."
                )
            updates.append((variable.variable_op, op))
        graph = Graph(tuple(x.op for x in inputs), tuple(as_op(y) for y in outputs), tuple(updates))
        return without_rules(graph) if self.custom else graph


def without_rules(graph: Graph) -> Graph:
    """The graph without gradient rules of the user's own: when the gradients are made, their use is over."""
    rules = [op for op in graph.ops if custom.is_rule(op)]
    if not rules:
        return graph

    def rebuild(op: Op, inputs: tuple[Op, ...]) -> Op:
        if custom.is_rule(op):
            return inputs[0]
        return symbolic.intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)

    return graph.with_roots(substitute(graph.roots, {}, rebuild, custom.is_rule))


@contextlib.contextmanager
def tracing(captures: Captures | None = None) -> Iterator[Trace]:
    """Inside, computations with variables are recorded; with `captures`, what earlier traces computed is recalled."""
    trace = Trace(captures)
    token = symbolic.current_trace.set(trace)
    try:
        yield trace
    finally:
        symbolic.current_trace.reset(token)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Inside, variables are their arrays again, also in the middle of a trace (for initial values, say)."""
    token = symbolic.current_trace.set(None)
    try:
        yield
    finally:
        symbolic.current_trace.reset(token)


def is_tracing() -> bool:
    return symbolic.current_trace.get() is not None


def flatten(value: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Leaves of nested tuples, lists and dicts, and the function that puts new leaves in their places."""
    if isinstance(value, (tuple, list)):
        parts = [flatten(v) for v in value]
        sizes = [len(leaves) for leaves, _ in parts]

        def rebuild(leaves: list[Any]) -> Any:
            out, at = [], 0
            for (_, build), n in zip(parts, sizes, strict=True):
                out.append(build(leaves[at : at + n]))
                at += n
            return type(value)(out) if not hasattr(value, "_fields") else type(value)(*out)

        return [leaf for leaves, _ in parts for leaf in leaves], rebuild
    if isinstance(value, dict):
        keys = list(value)
        leaves, build = flatten([value[k] for k in keys])
        return leaves, lambda new: dict(zip(keys, build(new), strict=True))
    if value is None:
        return [], lambda new: None
    return [value], lambda new: new[0]


def reachable_variables(outputs: Sequence[Op]) -> list[Variable]:
    """Variables the outputs depend on, in order of first use."""
    from_graph = Graph((), tuple(outputs))
    return [op.payload for op in from_graph.parameters]
