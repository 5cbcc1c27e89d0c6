"""Tensor: a NumPy array that also has TF.js's chain methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.errors import DisposedError, ShapeError


class Tensor(np.ndarray):
    """An ndarray with chain methods (`x.square().sum().print()`); every ndarray is accepted where a Tensor is."""

    if TYPE_CHECKING:  # the methods of ops/chain.py

        def __getattr__(self, name: str) -> Any: ...

    def print(self, verbose: bool = False) -> None:
        """Prints the values; with `verbose` type, rank and shape before them."""
        text = np.array2string(np.asarray(self), separator=", ")
        if verbose:
            head = f"Tensor\n  dtype: {self.dtype}\n  rank: {self.ndim}\n  shape: {list(self.shape)}\n  values:\n"
            text = head + "\n".join(f"    {line}" for line in text.split("\n"))
        print(text)

    @property
    def rank(self) -> int:
        return self.ndim

    @property
    def is_disposed(self) -> bool:
        return False

    def dispose(self) -> None:
        """Makes the tensor unusable; its memory goes when no view of it is left."""
        self.__class__ = DisposedTensor  # type: ignore[assignment]

    def clone(self) -> Tensor:
        """A copy."""
        return wrap(np.array(self))

    def bytes(self) -> bytes:
        """The values as they lie in memory."""
        return np.asarray(self).tobytes()

    def data(self) -> np.ndarray:  # type: ignore[override]
        """The values as a flat array (a copy), as TF.js's `data()`."""
        return np.asarray(self).ravel().copy()

    def array(self) -> Any:
        """The values as nested lists."""
        return self.tolist()

    def numpy(self) -> np.ndarray:
        return np.asarray(self)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(Tensor)

    def __reduce__(self):  # pickles as what it is; the view type is put back by `tensor`
        return (tensor, (np.array(self, copy=True),))


class DisposedTensor(Tensor):
    """What a tensor is after `dispose`."""

    def __getattribute__(self, name: str) -> Any:
        if name == "is_disposed":
            return True
        if name in ("__class__", "dispose", "__repr__", "__array_finalize__"):
            return object.__getattribute__(self, name)
        raise DisposedError(f"this tensor was disposed of, so `{name}` is not possible; keep it, or compute it again.")

    def dispose(self) -> None:
        pass

    def __repr__(self) -> str:
        return "Tensor(disposed)"

    __str__ = __repr__

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        raise DisposedError(f"np.{ufunc.__name__} of a tensor that was disposed of; keep it, or compute it again.")

    def __getitem__(self, key):
        raise DisposedError("a part of a tensor that was disposed of; keep it, or compute it again.")


def wrap(array: Any) -> Tensor:
    """A Tensor that shares the array's memory."""
    return np.asarray(array).view(Tensor)


def tensor(values: Any, shape: Sequence[int] | None = None, dtype: Any = None) -> Tensor:
    """A Tensor of the values; Python numbers become float32, booleans bool.

    Args:
        values: number, nested lists or array.
        shape: the shape to give the values; by default their own.
        dtype: NumPy dtype or its name.

    Raises:
        ShapeError: the values are ragged or do not fill `shape`.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"tensor(): the nested lists are ragged: {error}.") from None
    if array.dtype == object:
        raise ShapeError("tensor(): the values are not numbers, or the nested lists are ragged.")
    if dtype is not None:
        array = array.astype(dtype)
    elif not isinstance(values, (np.ndarray, np.generic)) and array.dtype.kind in "iuf":
        array = array.astype(np.float32)
    if shape is not None:
        if int(np.prod(shape)) != array.size:
            raise ShapeError(f"tensor(): {array.size} values do not fill shape {list(shape)}.")
        array = array.reshape(tuple(shape))
    return array.view(Tensor)
