"""Reverse mode, from ops to ops: the backward computation is an ordinary graph, fused and compiled like the forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerflow import config
from layerflow.errors import TraceError
from layerflow.graph import ops, symbolic
from layerflow.graph.ir import depending, topological
from layerflow.graph.ops.loop_gradient import PULLBACK
from layerflow.graph.ops.movement import unbroadcast
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.symbolic import Kind, Op, SymbolicTensor


def gradients(y: Any, xs: Sequence[Any], seed: Any = None) -> list[SymbolicTensor | None]:
    """Cotangents of `xs`: the derivatives of `y` (summed, or weighted by `seed`) with respect to each.

    An x that `y` does not depend on differentiably gets None.
    """
    target = as_op(y)
    if target.dtype.kind != "f":
        raise TraceError(f"the gradient of a value of dtype {target.dtype} is not defined; it must be a float.")
    start = ops.broadcast_to(ops.ones_like(SymbolicTensor(target)), target.shape) if seed is None else seed
    return pullback([(target, start)], [as_op(x) for x in xs])


def pullback(targets: Sequence[tuple[Op, SymbolicTensor]], wanted: Sequence[Op]) -> list[SymbolicTensor | None]:
    """Cotangents of `wanted`, given those of several values."""
    order = topological([op for op, _ in targets])
    needed = depending(order, set(wanted))
    cotangents: dict[Op, SymbolicTensor] = {}
    for op, g in targets:
        cotangents[op] = cotangents[op] + g if op in cotangents else g
    known = set(order) if config.check_numerics() else None
    for op in reversed(order):
        if op not in needed or op not in cotangents or not op.inputs:
            continue
        with symbolic.layer_scope(op.layer):
            _visit(op, cotangents, needed)
        if known is not None:
            made = [cotangents.get(i) for i in op.inputs]
            _attribute([g.op for g in made if isinstance(g, SymbolicTensor)], op, known)
    return [cotangents.get(op) for op in wanted]


PULLBACK.append(pullback)


def _attribute(made: Sequence[Op], forward: Op, known: set[Op]) -> None:
    """Notes whose gradient new ops are part of."""
    stack = list(made)
    while stack:
        op = stack.pop()
        if op not in known:
            known.add(op)
            op.forward = forward
            stack.extend(op.inputs)


def _visit(op: Op, cotangents: dict[Op, SymbolicTensor], needed: set[Op]) -> None:
    """Applies one gradient rule and adds the results to the inputs' cotangents."""
    rule = getattr(op.primitive, "rule", None)
    if rule is None:
        return
    results = rule(cotangents[op], SymbolicTensor(op), *[SymbolicTensor(i) for i in op.inputs], **op.attrs)
    for source, g in zip(op.inputs, results if isinstance(results, tuple) else (results,), strict=True):
        if g is None or source not in needed or source.dtype.kind != "f":
            continue
        if op.primitive.kind is Kind.MAP:
            g = unbroadcast(g, source.shape)
        # A cotangent may arrive from several readers: sum before visiting the op.
        cotangents[source] = cotangents[source] + g if source in cotangents else g
