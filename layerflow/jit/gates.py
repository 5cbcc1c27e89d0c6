"""Gates: a product whose columns are several parts of equal width, and the map that joins them, in one register tile.

A recurrent step multiplies its state by the kernels of all gates at once, [batch, n units], and makes one number of the
n parts of each unit.  A tile that holds the same columns of every part can do that while they are in registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layerflow.graph.ir import Graph
from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Kind, Op
from layerflow.jit import access
from layerflow.jit import index as ix
from layerflow.jit.groups import Group
from layerflow.jit.index import Ranges

PARTS = range(2, 7)  # more would leave too few rows to a tile
NARROW, WIDE = 16, 64  # units: whole vectors, or so many that a last one which is not full costs little


def join_gates(groups: Sequence[Group], graph: Graph) -> list[Group]:
    """Groups with products and the maps that read them in parts joined."""
    found = list(groups)
    for product in [g for g in groups if g.kind == "gemm" and len(g.domain) == 2]:
        homes = {op: at for at, group in enumerate(found) for op in group.stored}
        for gates in found[found.index(product) + 1 :]:
            if _joins(product, gates, homes, found.index(product)):
                found.remove(gates)
                _join(product, gates, found, graph)
                break
    return found


def _joins(product: Group, gates: Group, homes: dict[Op, int], at: int) -> bool:
    rows, columns = product.domain
    if gates.kind != "map" or len(gates.domain) != 2 or gates.domain[0] != rows:
        return False
    units = gates.domain[1]
    if not isinstance(columns, int) or not isinstance(units, int) or columns % units or columns // units not in PARTS:
        return False
    if units < NARROW or (units % NARROW and units < WIDE):
        return False
    reads = list(_reads(gates, homes))
    mine = [(op, index) for op, index in reads if op in product.members]
    before = all(op in product.members or homes.get(op, -1) < at for op, _ in reads)
    return bool(mine) and before and all(_is_part(index, units) for _, index in mine)


def _is_part(index: tuple[ix.Index, ...], units: int) -> bool:
    row, column = index
    return row == ix.var("i0") and column.terms == (("j", 1),) and column.const % units == 0


def _reads(group: Group, stored: dict[Op, int]) -> Iterator[tuple[Op, tuple[ix.Index, ...]]]:
    """What the members read of other groups, and where."""
    ranges, members = Ranges(), set(group.members)
    for op in group.members:
        for source, index in access.inline_references(
            op, group.index_of(op, ranges), lambda x: x in stored or x in members, ranges
        ):
            if source not in members:
                yield source, index


def _join(product: Group, gates: Group, others: Sequence[Group], graph: Graph) -> None:
    product.parts = static(product.domain[1]) // static(gates.domain[1])
    product.domain = gates.domain
    stored = {op for group in (*others, product, gates) for op in group.stored}
    wanted = {op for group in others if group is not product for op in sources(group, set(product.stored), stored)}
    kept = [op for op in product.stored if op in wanted or op in graph.roots]
    product.members = [*product.members, *gates.members]
    product.stored = [*kept, *gates.stored]


def sources(group: Group, among: set[Op], stored: set[Op]) -> set[Op]:
    """Those of `among` that a group reads."""
    found, stack, seen = set(), [i for op in group.members for i in op.inputs], set()
    stops = stored - set(group.members)
    while stack:
        op = stack.pop()
        if op in among:
            found.add(op)
        elif op not in seen and op not in stops and op.primitive.kind is not Kind.LEAF:
            seen.add(op)
            stack.extend(op.inputs)
    return found
