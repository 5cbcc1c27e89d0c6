"""Tensors of one value with the shape of another."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow.graph import symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import movement
from layerflow.graph.ops.primitive import as_op, literal, numpy_op
from layerflow.graph.symbolic import SymbolicTensor


@numpy_op(np.zeros_like)
def zeros_like(x: Any, dtype: Any = None, **unused: Any) -> Any:
    return movement.broadcast_to(
        e.cast(0.0, dtype or _dtype(x)) if not symbolic.is_symbolic(x) else _filled(x, 0, dtype), movement._shape(x)
    )


@numpy_op(np.ones_like)
def ones_like(x: Any, dtype: Any = None, **unused: Any) -> Any:
    return movement.broadcast_to(
        e.cast(1.0, dtype or _dtype(x)) if not symbolic.is_symbolic(x) else _filled(x, 1, dtype), movement._shape(x)
    )


@numpy_op(np.full_like)
def full_like(x: Any, fill_value: float, dtype: Any = None, **unused: Any) -> Any:
    if symbolic.is_symbolic(x):
        return movement.broadcast_to(_filled(x, fill_value, dtype), movement._shape(x))
    return movement.broadcast_to(e.cast(fill_value, dtype or _dtype(x)), movement._shape(x))


def _dtype(x: Any) -> np.dtype:
    return as_op(x).dtype if symbolic.is_symbolic(x) else np.asarray(x).dtype


def _filled(x: Any, value: float, dtype: Any) -> SymbolicTensor:
    from_op = as_op(x)
    return SymbolicTensor(literal(value, dtype or from_op.dtype))
