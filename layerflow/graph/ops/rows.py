"""Rows of tables: which rows are named by indices, sums of what is added to them, and updates of these rows alone.

Optimizers ask which rows a gradient names; the compiler makes the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.graph import symbolic
from layerflow.graph.ops.primitive import Primitive
from layerflow.graph.symbolic import Kind, Op, SymbolicTensor


def _hit(positions: Sequence[np.ndarray], rows: int) -> np.ndarray:
    found = np.zeros(rows, bool)
    for i in positions:
        found[np.clip(i, 0, rows - 1)] = True
    return found


def _named_kernel(*positions, rows, rank):
    return _hit(positions, rows).reshape(rows, *(1,) * (rank - 1))


# [rows, 1, ..]: whether any of the operands names the row.
named_rows_p = Primitive(
    "named_rows", Kind.INDEX, _named_kernel, lambda *i, rows, rank: (rows, *(1,) * (rank - 1)), np.bool_
)


def _sums_kernel(*pairs, rows):
    width = pairs[1].shape[-1]
    out = np.zeros((rows, width), pairs[1].dtype)
    for i, updates in zip(pairs[::2], pairs[1::2], strict=True):
        np.add.at(out, np.clip(i, 0, rows - 1).reshape(-1), updates.reshape(-1, width))
    return out


class _RowSums(Primitive):
    def operand_dtype(self, ops: Sequence[Op]) -> np.dtype:
        return ops[1].dtype


# [rows, width]: the sum of scatter_adds of (indices, updates, indices, updates, ..) of any leading shapes.
row_sums_p = _RowSums("row_sums", Kind.INDEX, _sums_kernel, lambda *pairs, rows: (rows, pairs[1][-1]))


def _update_kernel(*operands, count):
    values, tables, positions = operands[:count], operands[count : 2 * count], operands[2 * count :]
    hit = _hit(positions, len(tables[0]))[:, None]
    return np.stack([np.where(hit, value, table) for value, table in zip(values, tables, strict=True)])


# Operands: `count` values, `count` tables, then indices.  Its parts are the tables with the values in the named rows.
update_rows_p = Primitive("update_rows", Kind.INDEX, _update_kernel, lambda *shapes, count: shapes[0])
rows_part_p = Primitive("rows_part", Kind.INDEX, lambda tables, at: tables[at], lambda tables, at: tables)


def named_rows(indices: Sequence[Any], rows: int, rank: int) -> Any:
    """bool [rows, 1, ..] of `rank` axes: whether any of the indices, clipped into the table, names the row."""
    return named_rows_p.bind(list(indices), rows=rows, rank=rank)


def row_sums(pairs: Sequence[tuple[Op, Op]], rows: int) -> Op:
    """The op that sums (indices, updates) into a table [rows, width]."""
    operands = tuple(x for pair in pairs for x in pair)
    updates = operands[1]
    return symbolic.intern(row_sums_p, operands, {"rows": rows}, (rows, updates.shape[-1]), updates.dtype)


def update_rows(values: Sequence[Op], tables: Sequence[Op], indices: Sequence[Op]) -> list[Op]:
    """The tables with rows of `values` where an index names the row."""
    operands, attrs = (*values, *tables, *indices), {"count": len(tables)}
    made = symbolic.intern(update_rows_p, operands, attrs, tables[0].shape, tables[0].dtype)
    return [symbolic.intern(rows_part_p, (made,), {"at": k}, t.shape, t.dtype) for k, t in enumerate(tables)]


def named_by(gradient: Any) -> list[SymbolicTensor] | None:
    """The indices of the rows that a gradient can differ from 0 in; None if it is no sum of scatter_adds."""
    found: dict[Op, None] = {}
    stack = [gradient.op]
    while stack:
        op = stack.pop()
        if op.name == "scatter_add":
            found[op.inputs[0]] = None
        elif op.name == "add":
            stack += reversed(op.inputs)
        else:
            return None
    return [SymbolicTensor(op) for op in found]
