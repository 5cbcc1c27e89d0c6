"""Runs a graph with the uncompiled kernels: the reference for compiled code, and the engine where LAYERFLOW_JIT=0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.graph.ir import Graph
from layerflow.graph.shapes import BATCH, Dim, valued
from layerflow.graph.symbolic import INPUT, LITERAL, PARAMETER, Kind, Op


def interpret(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: Mapping[str, float],
    rows: int = 0,
    captured: Mapping[Op, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Values of the outputs; updates are written into the variables' storage.

    Args:
        graph: what to compute.
        arguments: one array for each input of the graph.
        scalars: values of the free inputs by name (seed, step, iteration, learning_rate).
        rows: the batch size.
        captured: arrays to use in place of those captured when the graph was traced.
    """
    values = values_of(graph, arguments, scalars, rows, captured)
    outputs = [np.array(values[op]) for op in graph.outputs]
    new = [np.array(values[value]) for _, value in graph.updates]
    for (parameter, _), array in zip(graph.updates, new, strict=True):
        parameter.payload._storage[...] = array
    return outputs


def values_of(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: Mapping[str, float],
    rows: int = 0,
    captured: Mapping[Op, np.ndarray] | None = None,
) -> dict[Op, Any]:
    """The value of every op; nothing is written.  Arguments as `interpret`."""
    values: dict[Op, Any] = dict(zip(graph.inputs, map(_typed, graph.inputs, arguments), strict=True))
    extents = {BATCH: rows}
    for op, array in zip(graph.inputs, arguments, strict=True):
        extents.update((n.symbol, m) for n, m in zip(op.shape[1:], array.shape[1:], strict=True) if isinstance(n, Dim))
    values.update((op, _typed(op, array)) for op, array in (captured or {}).items())
    with np.errstate(all="ignore"):
        for op in graph.ops:
            if op not in values:
                values[op] = _leaf(op, scalars) if op.primitive.kind is Kind.LEAF else _run(op, values, extents)
    return values


def _typed(op: Op, array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(op.dtype, copy=False)


def _leaf(op: Op, scalars: Mapping[str, float]) -> np.ndarray:
    if op.primitive is LITERAL:
        return np.asarray(op.attrs["value"], op.dtype)
    if op.primitive is PARAMETER:
        return op.payload._storage
    if op.primitive is INPUT:
        return np.asarray(scalars[op.attrs["name"]]).astype(op.dtype)
    return op.payload


def _run(op: Op, values: Mapping[Op, Any], extents: Mapping[str, int]) -> Any:
    if op.name == "loop":
        return _loop(op, [values[i] for i in op.inputs], extents)
    if op.name == "loop_part":
        return values[op.inputs[0]][op.attrs["at"]]
    if op.name == "extent":
        return np.asarray(known(Dim(op.attrs["symbol"], op.attrs["factor"]), extents), op.dtype)
    attrs = {k: known(v, extents) for k, v in op.attrs.items()}
    result = op.primitive.kernel(*[values[i] for i in op.inputs], **attrs)
    return np.asarray(result).astype(op.dtype, copy=False)


def _loop(op: Op, operands: list[np.ndarray], extents: Mapping[str, int]) -> list[np.ndarray]:
    """The results of a loop: the last states, and the kept values of all steps."""
    attrs, graph = op.attrs, op.attrs["body"].graph
    n, m, length = attrs["sequences"], attrs["states"], known(attrs["length"], extents)
    sequences, states, shared = operands[:n], operands[n : n + m], operands[n + m :]
    kept: dict[int, list[np.ndarray]] = {}
    for t in reversed(range(length)) if attrs["reverse"] else range(length):
        given = [*(x[t] if x.ndim == 1 else x[:, t] for x in sequences), *states, *shared]
        values: dict[Op, Any] = dict(zip(graph.inputs, given, strict=True))
        for inner in graph.ops:
            if inner not in values:
                values[inner] = _leaf(inner, {}) if inner.primitive.kind is Kind.LEAF else _run(inner, values, extents)
        found = [np.asarray(values[o]) for o in graph.outputs]
        states, kept[t] = found[:m], found[m:]
    return [
        *states,
        *(np.stack(column, min(1, column[0].ndim)) for column in zip(*(kept[t] for t in range(length)), strict=True)),
    ]


def known(value: Any, extents: Mapping[str, int]) -> Any:
    """An attribute with run-time extents replaced by their values."""
    if isinstance(value, Dim):
        return valued(value, extents)
    return tuple(known(v, extents) for v in value) if isinstance(value, tuple) else value


class Interpreted:
    """A graph with the methods of a compiled program."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def run_batches(
        self,
        arguments: Sequence[np.ndarray],
        scalars: dict[str, float],
        batch_size: int,
        order: np.ndarray | None = None,
        first: int = 0,
        count: int | None = None,
    ) -> list[np.ndarray]:
        """See `Executable.run_batches`."""
        total = len(arguments[0]) if order is None else len(order)
        count = -(-total // batch_size) if count is None else count
        batches = []
        for b in range(count):
            rows = slice((first + b) * batch_size, (first + b + 1) * batch_size)
            taken = [a[rows] if order is None else a[order[rows]] for a in arguments]
            now = {k: v + b if k in ("step", "iteration") else v for k, v in scalars.items()}
            batches.append(interpret(self.graph, taken, now, len(taken[0])))
        joined = []
        for at, op in enumerate(self.graph.outputs):
            parts = [batch[at] for batch in batches]
            sampled = bool(op.shape) and isinstance(op.shape[0], Dim)
            joined.append(np.concatenate(parts) if sampled else np.stack(parts))
        return joined
