"""Sums of products: products of one shape that are only added up are made in one register tile.

A recurrent step adds the product of its state to that of its input: the second goes into the sums of the first, and is
not written and read again.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerflow.graph import ops
from layerflow.graph.ir import Graph, terms
from layerflow.graph.ops.loop import rebuild
from layerflow.graph.symbolic import Op, SymbolicTensor, layer_scope
from layerflow.jit.access import batch_of
from layerflow.jit.gates import sources
from layerflow.jit.groups import Group

Users = dict[Op, list[Op]]


def gather_products(graph: Graph) -> Graph:
    """The graph with sums of several terms begun with the products among them, the one with the most steps first."""
    users = graph.users()
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        memo[op] = op if inputs == op.inputs else rebuild(op, inputs)
        parts = _terms(op, users) if op.name == "add" and not _is_inner(op, users) else []
        products = [t for t in parts if _is_product(t, op, users)]
        if len(products) > 1:
            products.sort(key=_depth, reverse=True)
            rest = [t for t in parts if t not in products]
            with layer_scope(op.layer):
                total = SymbolicTensor(memo[products[0]])
                for term in (*products[1:], *rest):
                    total = ops.add(total, SymbolicTensor(memo[term]))
            memo[op] = total.op
    return graph.with_roots([memo[r] for r in graph.roots])


def _is_inner(op: Op, users: Users) -> bool:
    """Whether a sum is nothing but a term of another one."""
    return len(users[op]) == 1 and users[op][0].name == "add" and users[op][0].shape == op.shape


def _terms(op: Op, users: Users) -> list[Op]:
    return terms(op, lambda inner: _is_inner(inner, users))


def _is_product(op: Op, total: Op, users: Users) -> bool:
    plain = op.name == "matmul" and not op.attrs["transpose_a"] and not op.attrs["transpose_b"]
    return plain and op.shape == total.shape and len(op.shape) == 2 and len(users[op]) == 1


def _depth(op: Op) -> int:
    steps = op.inputs[0].shape[-1]
    return steps if isinstance(steps, int) else 0


def join_sums(groups: Sequence[Group], graph: Graph) -> list[Group]:
    """Groups with the products that others only add to their own in the tiles of these."""
    found, users = list(groups), graph.users()
    for total in graph.ops:
        products = _terms(total, users) if total.name == "add" else []
        inside = products and all(_is_product(p, total, users) and p not in graph.roots for p in products)
        if inside and not _continues(total, graph, users):
            _join(total, products, found)
    return found


def _continues(total: Op, graph: Graph, users: Users) -> bool:
    """Whether a sum of products is only a part of a larger one."""
    if not _is_inner(total, users) or total in graph.roots:
        return False
    (larger,) = users[total]
    return all(_is_product(p, larger, users) for p in _terms(larger, users))


def _join(total: Op, products: Sequence[Op], groups: list[Group]) -> None:
    """Leaves one of the groups with these products, if nobody else reads the others'."""
    mine = [g for g in groups if g.kind == "gemm" and g.anchor in products and batch_of(g.domain) is not None]
    stored = {op for g in groups for op in g.stored}
    readers = [g for g in groups if sources(g, set(products), stored) - {g.anchor}]
    if len(mine) != len(products) or len(readers) != 1 or readers[0] not in mine:
        return
    (reader,) = readers
    if any(g is not reader and g.members != [g.anchor] for g in mine):
        return
    deepest = max(products, key=_depth)  # the one that the tile is made for
    reader.anchor = reader.members[0] = deepest
    reader.total, reader.added = total, [p for p in products if p is not deepest]
    groups[:] = [g for g in groups if g is reader or g not in mine]
