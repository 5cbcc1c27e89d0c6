"""Sparse updates: where only the rows of a table that a batch names can change, only these rows are touched.

The gradient of a gather is 0 but for the rows that were gathered.  If the new values of a table (and of the optimizer's
slots of its shape) are made from it element by element, and a gradient of 0 changes nothing, the step updates the named
rows in place.  Whether 0 changes nothing is found by computing with it; formulas that also move weights without a
gradient (momentum, Adam's means, weight decay, a regularizer) fail this and stay dense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from layerflow.graph import ops
from layerflow.graph.ir import Graph
from layerflow.graph.ops import rows
from layerflow.graph.shapes import static
from layerflow.graph.symbolic import LITERAL, Kind, Op, SymbolicTensor, layer_scope
from layerflow.jit.images import rebuilt

SHAPING = ("broadcast_to", "reshape")  # moves under a map that bring a number or a condition to the table's shape


def sparse_updates(graph: Graph) -> Graph:
    """The graph with updates of named rows where they are the same as updates of whole tables."""
    names = {op.name for op in graph.ops}
    memo: dict[Op, Op] = {}
    if "scatter_add" in names:
        users = graph.users()
        for family in _families(graph):
            if family.can_be_sparse(graph, users):
                memo.update(family.sparse())
    if not memo and "named_rows" not in names:
        return graph
    return _without_named_rows(graph.with_roots([memo.get(r, r) for r in graph.roots]))


def _without_named_rows(graph: Graph) -> Graph:
    """What is still asked about whole tables is found by adding ones to the named rows."""
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        memo[op] = rebuilt(op, tuple(memo[i] for i in op.inputs))
        if op.name == "named_rows":
            with layer_scope(op.layer):
                memo[op] = _counted(op).op
    return graph.with_roots([memo[r] for r in graph.roots])


def _counted(op: Op) -> SymbolicTensor:
    at = [SymbolicTensor(i) for i in op.inputs]
    counts = [ops.scatter_add(i, ops.cast(ops.ones_like(i), "int32"), op.attrs["rows"]) for i in at]
    return ops.reshape(ops.greater(sum(counts[1:], counts[0]), 0), op.shape)


def _families(graph: Graph) -> Iterator[_Family]:
    """Updates that are made from the same scatter_adds."""
    found: dict[frozenset[Op], _Family] = {}
    for parameter, value in graph.updates:
        tree = _tree(value)
        sums = [op for op in tree if op.name == "scatter_add"]
        if sums:
            family = found.setdefault(frozenset(sums), _Family(sums, {}, {}))
            family.updates[parameter] = value
            family.tree.update(dict.fromkeys(tree))
    yield from found.values()


def _tree(value: Op) -> list[Op]:
    """The maps that make a value, and what they are made from, operands first."""
    order: dict[Op, None] = {}
    stack = [(value, False)]
    while stack:
        op, ready = stack.pop()
        if op in order:
            continue
        if ready or not _is_inner(op):
            order[op] = None
            continue
        stack.append((op, True))
        stack.extend((i, False) for i in op.inputs)
    return list(order)


def _is_inner(op: Op) -> bool:
    return op.primitive.kind is Kind.MAP or op.name in SHAPING


@dataclasses.dataclass
class _Family:
    """Updates of one table and its slots, with the scatter_adds and the tree of maps that they are made from."""

    sums: list[Op]
    updates: dict[Op, Op]  # parameter -> new value
    tree: dict[Op, None]

    def can_be_sparse(self, graph: Graph, users: dict[Op, list[Op]]) -> bool:
        table = next(iter(self.updates))
        pairs = self._pairs()
        return (
            len(table.shape) == 2
            and all(p.shape == table.shape and p.dtype == table.dtype for p in self.updates)
            and all(s.shape == table.shape and s.dtype == table.dtype for s in self.sums)
            and pairs is not None
            and self._keeps_to_itself(graph, users)
            and self._reads_in_place()
            and all(untouched(p, v) for p, v in self.updates.items())
        )

    def _summed(self) -> set[Op]:
        """The scatter_adds and sums of nothing else."""
        found = set(self.sums)
        for op in self.tree:
            if op.name == "add" and all(i in found for i in op.inputs):
                found.add(op)
        return found

    def _total(self) -> Op | None:
        """The one sum that all the rest is made from; None if there are several."""
        summed = self._summed()
        read = {i for op in self.tree if op not in summed for i in op.inputs if i in summed}
        return read.pop() if len(read) == 1 and not summed.intersection(self.updates.values()) else None

    def _pairs(self) -> list[tuple[Op, Op]] | None:
        """(indices, updates) of all scatter_adds, without reshapes that keep rows; None if they are no single sum."""
        total, found = self._total(), []
        stack = [total] if total is not None else []
        while stack:
            op = stack.pop()
            if op.name == "add":
                stack += reversed(op.inputs)
            else:
                found.append((_unshaped(op.inputs[0]), _unshaped(op.inputs[1], op.shape[-1])))
        return found or None

    def _keeps_to_itself(self, graph: Graph, users: dict[Op, list[Op]]) -> bool:
        """Whether what is made from the sums is made element by element, and read here alone."""
        outputs, shape = set(graph.outputs), next(iter(self.updates)).shape
        inner = {op: None for op in self.tree if _is_inner(op)}
        made = set(self.sums)
        for op in inner:
            if any(i in made for i in op.inputs):
                made.add(op)
                if op.primitive.kind is not Kind.MAP or op.shape != shape:
                    return False
        return not any(op in outputs or any(u not in inner for u in users[op]) for op in made)

    def _reads_in_place(self) -> bool:
        """Whether all else is stored before, tables are read at the element being computed, and all that is asked
        about rows is which of them the sums name."""
        named = {op.inputs[0] for op in self.sums}
        for op in self.tree:
            if op.name == "named_rows":
                if set(op.inputs) != named:
                    return False
            elif op.name in SHAPING:
                if any(i in self.updates for i in _tree(op)):
                    return False
            elif op.primitive.kind in (Kind.MOVE, Kind.INDEX) and op.name not in ("scatter_add", "iota", "extent"):
                return False
        return True

    def sparse(self) -> dict[Op, Op]:
        """New value -> the part of an update of rows that takes its place."""
        total, pairs = self._total(), self._pairs()
        assert total is not None
        assert pairs is not None
        with layer_scope(self.sums[0].layer):
            memo = {total: rows.row_sums(pairs, static(total.shape[0]))}
            for op in self.tree:
                if op in memo:
                    continue
                if op.name == "where" and _asks_for_names(op.inputs[0]):
                    memo[op] = memo[op.inputs[1]]
                else:
                    memo[op] = rebuilt(op, tuple(memo.get(i, i) for i in op.inputs))
            indices = list(dict.fromkeys(i for i, _ in pairs))
            values = [memo[v] for v in self.updates.values()]
            parts = rows.update_rows(values, list(self.updates), indices)
        return dict(zip(self.updates.values(), parts, strict=True))


def _unshaped(op: Op, width: object = None) -> Op:
    """What a reshape was made from, if its last axis is still `width` long."""
    source = op.inputs[0] if op.name == "reshape" else op
    kept = width is None or (len(source.shape) > 1 and source.shape[-1] == width)
    return source if kept and source.primitive is not LITERAL else op


def _asks_for_names(condition: Op) -> bool:
    while condition.name in SHAPING:
        condition = condition.inputs[0]
    return condition.name == "named_rows"


def untouched(parameter: Op, value: Op) -> bool:
    """Whether a new value is the old one in rows that no index names, where scatter_adds are 0.

    0 times something counts as 0: an infinite learning rate spoils the named rows only.
    """
    known: dict[Op, Op | np.ndarray | None] = {}  # an op: the same value; an array: this number; None: anything else
    for op in _tree(value):
        known[op] = _at_zero(op, [known.get(i) for i in op.inputs])
    return known[value] is parameter


def _at_zero(op: Op, values: Sequence[Op | np.ndarray | None]) -> Op | np.ndarray | None:
    if op.name in ("scatter_add", "named_rows"):
        return np.zeros((), op.dtype)
    if op.primitive is LITERAL:
        return np.asarray(op.attrs["value"], op.dtype)
    if op.primitive.kind is not Kind.MAP:
        if op.name in SHAPING:
            return values[0] if isinstance(values[0], np.ndarray) else None
        return op
    if all(isinstance(v, np.ndarray) for v in values):
        with np.errstate(all="ignore"):
            return np.asarray(op.primitive.kernel(*values, **op.attrs)).astype(op.dtype)
    zero = [isinstance(v, np.ndarray) and not v.any() for v in values]
    match op.name:
        case "add" if True in zero:
            return values[1 - zero.index(True)]
        case "subtract" if zero[1]:
            return values[0]
        case "multiply" if True in zero:
            return np.zeros((), op.dtype)
        case "divide" if zero[0]:
            return np.zeros((), op.dtype)
        case "where" if isinstance(values[0], np.ndarray):
            return values[1 if values[0].any() else 2]
        case "where" if values[1] is values[2]:
            return values[1]
        case "stop_gradient":
            return values[0]
    return None


def computed_by_rows(graph: Graph) -> set[Op]:
    """Values that are made for the rows being updated and nowhere else."""
    found: set[Op] = set()
    for op in graph.ops:
        if op.name == "row_sums" or (op.primitive.kind is Kind.MAP and any(i in found for i in op.inputs)):
            found.add(op)
    return found
