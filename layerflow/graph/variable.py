"""Variable: storage that training updates in place."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow import config
from layerflow.errors import DisposedError, ShapeError, TraceError
from layerflow.graph import symbolic
from layerflow.graph.tensor import DisposedTensor, Tensor, wrap
from layerflow.pages import LINE, zeroed

_numbers = itertools.count(1)
_changes = [0]
PAGE_ALIAS = 2048  # rows whose length is a multiple of this many bytes fall into the same few sets of the L1 cache


def revision() -> int:
    """A number that grows whenever `trainable` of any variable is set, `config.check_numerics` changes, or `changed`
    is called."""
    return _changes[0] + config.revision()


def changed() -> None:
    """Says that something else has changed that compiled steps contain, such as a setting of an optimizer."""
    _changes[0] += 1
    config.changes.value += 1


def storage(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeroed array aligned to a vector; rows that would alias in L1 are padded by one vector, then it is strided."""
    row = shape[-1] * dtype.itemsize if shape else dtype.itemsize
    pad = LINE // dtype.itemsize if len(shape) > 1 and row and row % PAGE_ALIAS == 0 else 0
    pitch = (shape[-1] if shape else 1) + pad
    rows = int(np.prod(shape[:-1])) if shape else 1
    size = rows * pitch * dtype.itemsize
    block = zeroed(size + LINE)[:size].view(dtype)
    if not shape:
        return block.reshape(())
    return block.reshape(*shape[:-1], pitch)[..., : shape[-1]]


class Variable(symbolic.Operators):
    """A named array that can be assigned to and trained.

    Inside a trace a variable is an input of the graph; outside it is its array.  The storage never moves: compiled code
    keeps its address.

    Args:
        initial: first value (array, tensor, number).
        trainable: whether optimizers update it.
        name: by default `variable_<n>`.
        dtype: by default that of `initial` (float32 for Python numbers).
        constraint: function applied after each assignment and each optimizer step.
    """

    def __init__(
        self,
        initial: Any,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
        constraint: Callable | None = None,
    ):
        array = np.asarray(initial)
        if array.dtype == object or array.dtype.kind in "US":
            raise ShapeError(f"variable {name!r}: the initial value must be numbers, got dtype {array.dtype}.")
        if dtype is None:
            weak = not isinstance(initial, (np.ndarray, np.generic)) and array.dtype.kind in "iuf"
            dtype = np.float32 if weak else array.dtype
        self._storage = storage(array.shape, np.dtype(dtype))
        if any(array.strides) or (array.size and array.flat[0] != 0):
            self._storage[...] = array  # zeros are there already
        self.name = name or f"variable_{next(_numbers)}"
        self._trainable = trainable
        self.constraint = constraint
        self._op: symbolic.Op | None = None

    if TYPE_CHECKING:  # the methods of ops/chain.py

        def __getattr__(self, name: str) -> Any: ...

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        changed()

    @property
    def shape(self) -> tuple[int, ...]:
        return self._storage.shape

    @property
    def dtype(self) -> np.dtype:
        return self._storage.dtype

    @property
    def ndim(self) -> int:
        return self._storage.ndim

    @property
    def size(self) -> int:
        return self._storage.size

    @property
    def value(self) -> Tensor:
        """A view of the storage: it shows later updates; copy it to keep the numbers."""
        return wrap(self._storage)

    @property
    def val(self) -> Variable:
        """The guides' spelling: `w.val.assign(values)`."""
        return self

    def read(self) -> Tensor:
        """A copy of the values."""
        return wrap(self._storage.copy())

    def numpy(self) -> np.ndarray:
        return self._storage.copy()

    def print(self, verbose: bool = False) -> None:
        self.value.print(verbose)

    def assign(self, values: Any) -> Variable:
        """Copies `values` (same shape) into the storage."""
        array = np.asarray(values)
        if type(values) is DisposedTensor:
            values.shape  # noqa: B018 (raises)
        if array.shape != self.shape:
            raise ShapeError(
                f"variable {self.name!r} has shape {list(self.shape)}; values of shape {list(array.shape)} cannot be "
                "assigned to it."
            )
        if array.dtype.kind not in "fiub":
            raise ShapeError(f"variable {self.name!r}: values of dtype {array.dtype} are not numbers.")
        if self.dtype.kind != "f" and "biuf".index(array.dtype.kind) > "biuf".index(self.dtype.kind):
            raise ShapeError(
                f"variable {self.name!r} is of dtype {self.dtype}; values of dtype {array.dtype} cannot be assigned to "
                f'it. Use lf.cast(values, "{self.dtype}").'
            )
        self._storage[...] = array
        return self

    @property
    def is_disposed(self) -> bool:
        return False

    @property
    def rank(self) -> int:
        return self._storage.ndim

    def dispose(self) -> None:
        """Makes the variable unusable, also in functions that were traced with it."""
        self.__class__ = DisposedVariable  # type: ignore[assignment]

    def data(self) -> np.ndarray:
        """The values as a flat array (a copy)."""
        return self.value.data()

    def array(self) -> Any:
        """The values as nested lists."""
        return self._storage.tolist()

    @property
    def variable_op(self) -> symbolic.Op:
        """The leaf that stands for this variable in graphs."""
        if self._op is None:
            self._op = symbolic.Op(symbolic.PARAMETER, (), {}, self.shape, self.dtype, payload=self)
        return self._op

    def __array__(self, dtype=None, copy=None):
        if symbolic.current_trace.get() is not None:
            raise TraceError(
                f"variable {self.name!r} would become a constant and lose its gradient here; use NumPy functions on "
                "the variable itself."
            )
        return np.array(self._storage, dtype=dtype, copy=True if copy is None else copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        """A variable of its own with the same values; copying field by field would lose how the storage is aligned."""
        made = Variable(self._storage, self._trainable, self.name, self.dtype, copy.deepcopy(self.constraint, memo))
        memo[id(self)] = made
        return made

    def __len__(self) -> int:
        return len(self._storage)

    def __float__(self) -> float:
        return float(np.asarray(self))

    def __int__(self) -> int:
        return int(np.asarray(self))

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, shape={list(self.shape)}, dtype={self.dtype}, trainable={self.trainable})"


class DisposedVariable(Variable):
    """What a variable is after `dispose`."""

    def __getattribute__(self, name: str) -> Any:
        if name == "is_disposed":
            return True
        if name in ("__class__", "dispose", "name", "__repr__"):
            return object.__getattribute__(self, name)
        label = object.__getattribute__(self, "name")
        raise DisposedError(f"variable {label!r} was disposed of, so `{name}` is not possible; make it again.")

    def dispose(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, disposed)"

    def __array__(self, dtype=None, copy=None):
        raise DisposedError(f"variable {self.name!r} was disposed of; make it again.")
