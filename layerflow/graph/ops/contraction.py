"""Kind *contract*: products summed over a shared axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise, movement, reduction
from layerflow.graph.ops.primitive import Primitive, as_op, numpy_op
from layerflow.graph.symbolic import Kind


def _matmul_kernel(a, b, transpose_a, transpose_b):
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    return np.matmul(a, np.swapaxes(b, -1, -2) if transpose_b else b)


matmul_p = Primitive("matmul", Kind.CONTRACT, _matmul_kernel, shapes.matmul)


@matmul_p.vjp
def _(g, y, a, b, transpose_a, transpose_b):
    # With A = op(a), B = op(b): dA = g B', dB = A' g; a transposed operand gets the transposed product.
    if not transpose_a:
        da = matmul_p.bind([g, b], transpose_a=False, transpose_b=not transpose_b)
    else:
        da = matmul_p.bind([b, g], transpose_a=transpose_b, transpose_b=True)
    if not transpose_b:
        db = matmul_p.bind([a, g], transpose_a=not transpose_a, transpose_b=False)
    else:
        db = matmul_p.bind([g, a], transpose_a=True, transpose_b=transpose_a)
    return da, db


def _numbers(x: Any) -> Any:
    """`x`, with booleans as floats: truth values are counted, not combined."""
    dtype = as_op(x).dtype if symbolic.is_symbolic(x) else np.asarray(x).dtype
    return elementwise.cast(x, config.floatx()) if dtype.kind == "b" else x


@numpy_op(np.matmul)
def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Matrix product over the last two axes; leading axes broadcast; rank-1 operands as in NumPy.

    A left operand of rank 3 or more with a matrix on the right is one product of merged rows.
    """
    sa, sb = movement._shape(a), movement._shape(b)
    if len(sa) == 0 or len(sb) == 0:
        raise ShapeError("matmul needs operands of rank 1 or more; multiply scalars with `*`.")
    if len(sa) == 1:
        return movement.squeeze(matmul(movement.expand_dims(a, 0), b, False, transpose_b), -2 if len(sb) > 1 else 0)
    if len(sb) == 1:
        return movement.squeeze(matmul(a, movement.expand_dims(b, -1), transpose_a), -1)
    a, b = _numbers(a), _numbers(b)
    shape = shapes.matmul(sa, sb, transpose_a, transpose_b)
    if len(sa) > 2 and len(sb) == 2 and not transpose_a:
        rows = shapes.size(sa[:-1])
        y = matmul_p.bind([movement.reshape(a, (rows, sa[-1])), b], transpose_a=False, transpose_b=transpose_b)
        return movement.reshape(y, shape)
    return matmul_p.bind([a, b], transpose_a=transpose_a, transpose_b=transpose_b)


@numpy_op(np.dot)
def dot(a: Any, b: Any) -> Any:
    """Inner product of vectors, matrix product of matrices, scaling by a scalar."""
    ra, rb = len(movement._shape(a)), len(movement._shape(b))
    if ra == 0 or rb == 0:
        return a * b
    if ra == 1 and rb == 1:
        return reduction.sum_(a * b)
    if rb > 2:
        raise ShapeError(f"dot: an operand of rank {rb} on the right is ambiguous; use matmul or einsum.")
    return matmul(a, b)


def outer_product(a: Any, b: Any) -> Any:
    return movement.expand_dims(a, 1) * movement.expand_dims(b, 0)


NP_OUTER = numpy_op(np.outer)(outer_product)


@numpy_op(np.einsum)
def einsum(equation: str, *operands: Any, **unused: Any) -> Any:
    """Einstein summation over one or two operands, without repeated letters inside an operand."""
    left, _, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not out and "->" not in equation:
        letters = sorted(set(left.replace(",", "")))
        out = "".join(c for c in letters if left.count(c) == 1)
    if len(terms) != len(operands) or len(terms) > 2 or any(len(set(t)) != len(t) for t in terms) or "." in equation:
        raise ShapeError(
            f"einsum {equation!r}: one or two operands without repeated letters or ellipsis are supported."
        )
    operands = tuple(
        reduction.sum_(x, [i for i, c in enumerate(t) if c not in out and sum(c in u for u in terms) == 1])
        for t, x in zip(terms, operands, strict=True)
    )
    terms = ["".join(c for c in t if c in out or sum(c in u for u in terms) > 1) for t in terms]
    if len(terms) == 1:
        return movement.transpose(operands[0], [terms[0].index(c) for c in out])
    return _einsum_pair(terms, operands, out)


def _einsum_pair(terms: list[str], operands: tuple[Any, ...], out: str) -> Any:
    """Two operands: batch letters in front, then rows or columns, the summed letters merged."""
    a, b = terms
    batch = [c for c in a if c in b and c in out]
    inner = [c for c in a if c in b and c not in out]
    rows = [c for c in a if c not in b]
    cols = [c for c in b if c not in a]
    extent = {c: n for t, x in zip(terms, operands, strict=True) for c, n in zip(t, movement._shape(x), strict=True)}
    merge = lambda letters: shapes.size([extent[c] for c in letters])  # noqa: E731
    lead = [extent[c] for c in batch]
    x = movement.transpose(operands[0], [a.index(c) for c in (*batch, *rows, *inner)])
    y = movement.transpose(operands[1], [b.index(c) for c in (*batch, *inner, *cols)])
    z = matmul(
        movement.reshape(x, [*lead, merge(rows), merge(inner)]), movement.reshape(y, [*lead, merge(inner), merge(cols)])
    )
    letters = [*batch, *rows, *cols]
    z = movement.reshape(z, [extent[c] for c in letters])
    return movement.transpose(z, [letters.index(c) for c in out])
