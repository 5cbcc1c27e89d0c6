"""Overwriting: updates are stored in place, so whatever reads the old value of a variable comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import PRIMITIVES
from layerflow.graph.symbolic import Op, intern
from layerflow.jit.images import rebuilt

Needs = dict[Op, set[Op]]


def after_readers(needs: Needs, updates: Mapping[Op, Op], readers: Mapping[Op, Iterable[Op]]) -> Needs:
    """The needs of stored values, with each update after the readers of what it overwrites.

    A reader that itself needs the update is left out: it must be computed in the same loop, element by element, or
    read a copy.

    Args:
        needs: stored value -> stored values it is made from, in an order in which they can be computed.
        updates: stored value -> the parameter it overwrites.
        readers: parameter -> stored values that read it.
    """
    late: set[Op] = set()  # needs an update
    for op, before in needs.items():
        if any(s in updates or s in late for s in before):
            late.add(op)
    found = {op: set(before) for op, before in needs.items()}
    for value, parameter in updates.items():
        for reader in readers[parameter]:
            simple = reader not in late and reader not in updates
            if reader is not value and (simple or not _needs(found, reader, value)):
                found[value].add(reader)
    for value in updates:
        if value.name == "rows_part":  # all parts are stored where the first is
            whole = value.inputs[0]
            found[whole] |= {s for s in found[value] if not _needs(found, s, whole)}
    return found


def _needs(needs: Needs, op: Op, other: Op) -> bool:
    seen, stack = set(), [op]
    while stack:
        current = stack.pop()
        if current is other:
            return True
        if current not in seen:
            seen.add(current)
            stack.extend(needs[current])
    return False


class Overwritten(Exception):
    """Stored values that read parameters which an earlier loop overwrites: value -> parameters."""

    def __init__(self, clashes: dict[Op, set[Op]], stored: set[Op]):
        super().__init__(f"{len(clashes)} values read what is overwritten before")
        self.clashes, self.stored = clashes, stored


def read_copies(graph: Graph, clash: Overwritten) -> Graph:
    """The graph with the values that clash made from copies, which are stored before anything is overwritten."""
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        if op in clash.clashes:
            memo[op] = _on_copies(op, clash.clashes[op], clash.stored, memo)
        else:
            memo[op] = rebuilt(op, tuple(memo[i] for i in op.inputs))
    return graph.with_roots([memo[r] for r in graph.roots])


def _on_copies(value: Op, parameters: set[Op], stored: set[Op], memo: dict[Op, Op]) -> Op:
    def made(op: Op) -> Op:
        if op in parameters:
            return intern(PRIMITIVES["keep"], (op,), {}, op.shape, op.dtype)
        if op is not value and op in stored:
            return memo[op]
        return rebuilt(op, tuple(made(i) for i in op.inputs))

    return made(value)
