"""Making tensors and variables: TF.js's creation functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError
from layerflow.graph import symbolic
from layerflow.graph.tensor import Tensor, tensor, wrap
from layerflow.graph.variable import Variable


def variable(initial: Any, trainable: bool = True, name: str | None = None, dtype: Any = None) -> Variable:
    """A variable that starts with these values."""
    return Variable(initial, trainable, name, dtype)


def scalar(value: Any, dtype: Any = None) -> Tensor:
    return _of_rank(value, None, dtype, 0)


def tensor1d(values: Any, dtype: Any = None) -> Tensor:
    return _of_rank(values, None, dtype, 1)


def tensor2d(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    """A matrix; flat values need `shape`."""
    return _of_rank(values, shape, dtype, 2)


def tensor3d(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    return _of_rank(values, shape, dtype, 3)


def tensor4d(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    return _of_rank(values, shape, dtype, 4)


def tensor5d(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    return _of_rank(values, shape, dtype, 5)


def tensor6d(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    return _of_rank(values, shape, dtype, 6)


def _of_rank(values: Any, shape: Sequence[int] | None, dtype: Any, rank: int) -> Tensor:
    made = tensor(values, shape, dtype)
    if made.ndim != rank:
        raise ShapeError(f"tensor{rank}d() got values of shape {list(made.shape)}; give a shape of {rank} axes.")
    return made


def zeros(shape: Sequence[int], dtype: Any = None) -> Tensor:
    return wrap(np.zeros(tuple(shape), dtype or config.floatx()))


def ones(shape: Sequence[int], dtype: Any = None) -> Tensor:
    return wrap(np.ones(tuple(shape), dtype or config.floatx()))


def fill(shape: Sequence[int], value: Any, dtype: Any = None) -> Tensor:
    return wrap(np.full(tuple(shape), value, dtype or config.floatx()))


def eye(rows: int, columns: int | None = None, batch_shape: Sequence[int] = (), dtype: Any = None) -> Tensor:
    """Ones on the diagonal of [*batch_shape, rows, columns], zeros elsewhere."""
    made = np.eye(rows, columns, dtype=dtype or config.floatx())
    return wrap(np.array(np.broadcast_to(made, (*batch_shape, *made.shape))) if batch_shape else made)


def clone(x: Any) -> Any:
    """A copy of a tensor; a symbol is its own copy."""
    return x if isinstance(x, symbolic.SymbolicTensor) else wrap(np.array(x))


def print_(x: Any, verbose: bool = False) -> None:
    """Prints a tensor; with `verbose` type, rank and shape before the values."""
    tensor(np.asarray(x)).print(verbose)


def linspace(start: float, stop: float, num: int) -> Tensor:
    """`num` numbers evenly from `start` to `stop`, both included."""
    return wrap(np.linspace(start, stop, num, dtype=config.floatx()))


def range_(start: float, stop: float, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below `stop`."""
    return wrap(np.arange(start, stop, step, dtype=dtype or config.floatx()))
