"""Shape algebra: extents are integers, or multiples of symbols whose values are known only when a batch arrives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from layerflow.errors import ShapeError

BATCH = "B"


class UnknownExtentError(ShapeError):
    """An extent that would have to be known: one can try with a number in its place."""


_fresh = itertools.count(1)


def _undecided(name: str) -> Callable[[Dim, object], NoReturn]:
    def refuse(extent: Dim, other: object) -> NoReturn:
        raise UnknownExtentError(f"{extent} {name} {other} cannot be decided: {extent} is known only at run time.")

    return refuse


@dataclass(frozen=True, slots=True)
class Dim:
    """An extent known at run time: `factor` times the value of `symbol`; the factor may be one too.

    What would need its value raises UnknownExtentError, so that no part of the compiler takes a guess for granted.
    """

    symbol: str = BATCH
    factor: Extent = 1

    def __str__(self) -> str:
        return f"{'' if self.factor == 1 else self.factor}{self.symbol}"

    __repr__ = __str__

    def __mul__(self, other: Extent) -> Extent:
        return multiply(self, other)

    __rmul__ = __mul__
    __lt__, __le__, __gt__, __ge__ = map(_undecided, ("<", "<=", ">", ">="))
    __add__, __sub__, __floordiv__, __mod__ = map(_undecided, ("+", "-", "//", "%"))
    __radd__, __rsub__, __rfloordiv__, __rmod__ = map(_undecided, ("+", "-", "//", "%"))


Extent = int | Dim
Shape = tuple[Extent, ...]


def is_batch(extent: Extent) -> bool:
    """Whether an extent is that of the batch, or a multiple of it."""
    return isinstance(extent, Dim) and extent.symbol == BATCH


def symbols_of(extent: Extent) -> tuple[str, ...]:
    """The symbols that an extent is a multiple of, the batch first."""
    return (extent.symbol, *symbols_of(extent.factor)) if isinstance(extent, Dim) else ()


def number_of(extent: Extent) -> int:
    """An extent without its symbols."""
    return number_of(extent.factor) if isinstance(extent, Dim) else extent


def _monomial(symbols: Iterable[str], number: int) -> Extent:
    extent: Extent = number
    for symbol in sorted(symbols, key=lambda name: (name != BATCH, name), reverse=True) if number else ():
        extent = Dim(symbol, extent)
    return extent


def valued(extent: Extent, values: Mapping[str, int]) -> int:
    """An extent with the values of its symbols."""
    return values[extent.symbol] * valued(extent.factor, values) if isinstance(extent, Dim) else extent


TYPICAL = 64  # what a symbol but the batch counts for where the compiler weighs work


def typical(extent: Extent) -> int:
    """An extent for one sample, with a usual number in place of its other symbols."""
    factor = 1 if not isinstance(extent, Dim) or extent.symbol == BATCH else TYPICAL
    return factor * typical(extent.factor) if isinstance(extent, Dim) else extent


def bound_of(a: Extent, b: Extent) -> Extent:
    """An extent that is at least both: symbols stand for 1 or more."""
    if not a or not b:
        return a or b
    longer = max(symbols_of(a), symbols_of(b), key=len)
    if not all(longer.count(s) >= symbols_of(x).count(s) for x in (a, b) for s in symbols_of(x)):
        raise UnknownExtentError(f"which of {a} and {b} is larger is known only at run time.")
    return _monomial(longer, max(number_of(a), number_of(b)))


def code(extent: Extent) -> str:
    """An extent as an expression, with symbols as variables."""
    symbols, number = symbols_of(extent), number_of(extent)
    return " * ".join([*symbols, *([str(number)] if number != 1 or not symbols else [])])


def from_user(shape: Iterable[int | Dim | None]) -> Shape:
    """Shape with None for unknown extents: a leading None is the batch, any other one a symbol of its own."""
    out: list[Extent] = []
    for axis, extent in enumerate(shape):
        if extent is None:
            out.append(Dim(BATCH) if axis == 0 else Dim(f"d{next(_fresh)}"))
        elif isinstance(extent, Dim):
            out.append(extent)
        else:
            if int(extent) < 0:
                raise ShapeError(f"shape {tuple(shape)} has a negative extent; use None for an unknown one.")
            out.append(int(extent))
    return tuple(out)


def to_user(shape: Shape) -> tuple[int | None, ...]:
    """The same shape with None for every extent known only at run time."""
    return tuple(None if isinstance(extent, Dim) else extent for extent in shape)


def text(shape: Iterable[Extent | None]) -> str:
    """Printed as the guides print shapes: [null,32]."""
    return "[" + ",".join("null" if e is None or isinstance(e, Dim) else str(e) for e in shape) + "]"


def multiply(a: Extent, b: Extent) -> Extent:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return _monomial((*symbols_of(a), *symbols_of(b)), number_of(a) * number_of(b))


def add(a: Extent, b: Extent) -> Extent:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    if symbols_of(a) == symbols_of(b):
        return _monomial(symbols_of(a), number_of(a) + number_of(b))
    raise UnknownExtentError(
        f"the sum of the extents {a} and {b} is not supported: one of them is known only at run time."
    )


def quotient(a: Extent, b: Extent) -> Extent | None:
    """a / b if b divides a whatever the symbols stand for."""
    left = list(symbols_of(a))
    for symbol in symbols_of(b):
        if symbol not in left:
            return None
        left.remove(symbol)
    if not number_of(b) or number_of(a) % number_of(b):
        return None
    return _monomial(left, number_of(a) // number_of(b))


def divide(a: Extent, b: Extent) -> Extent:
    """Exact quotient a / b; ShapeError when b does not divide a."""
    found = quotient(a, b)
    if found is None:
        error = UnknownExtentError if isinstance(a, Dim) or isinstance(b, Dim) else ShapeError
        raise error(f"extent {a} is not divisible by {b}.")
    return found


def size(shape: Sequence[Extent]) -> Extent:
    total: Extent = 1
    for extent in shape:
        total = multiply(total, extent)
    return total


def static(extent: Extent) -> int:
    """An extent that has to be a number here."""
    if isinstance(extent, Dim):
        raise UnknownExtentError(f"the extent {extent} is known only at run time.")
    return extent


def is_static(shape: Sequence[Extent]) -> bool:
    return all(isinstance(extent, int) for extent in shape)


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    if not -rank <= axis < rank:
        raise ShapeError(f"{what} {axis} is out of range for a tensor of rank {rank}.")
    return axis % rank


def normalize_axes(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted, non-negative, unique axes; None means all of them."""
    if axis is None:
        return tuple(range(rank))
    axes = (axis,) if isinstance(axis, int) or not isinstance(axis, Iterable) else tuple(axis)
    out = tuple(sorted({normalize_axis(int(a), rank) for a in axes}))
    if len(out) != len(axes):
        raise ShapeError(f"axes {tuple(axes)} name the same axis twice for rank {rank}.")
    return out


def broadcast(*operands: Shape, what: str = "operands") -> Shape:
    """NumPy's broadcasting rule; a run-time extent fits only itself or 1."""
    rank = max((len(s) for s in operands), default=0)
    out: list[Extent] = []
    for axis in range(rank):
        extent: Extent = 1
        for shape in operands:
            at = axis - (rank - len(shape))
            if at < 0 or shape[at] == 1 or shape[at] == extent:
                continue
            if extent != 1:
                listed = " and ".join(text(s) for s in operands)
                raise ShapeError(f"shapes {listed} of the {what} do not broadcast: {extent} against {shape[at]}.")
            extent = shape[at]
        out.append(extent)
    return tuple(out)


def reduced(shape: Shape, axes: Sequence[int], keepdims: bool = False) -> Shape:
    if keepdims:
        return tuple(1 if i in axes else e for i, e in enumerate(shape))
    return tuple(e for i, e in enumerate(shape) if i not in axes)


def reshape(shape: Shape, target: Sequence[Extent | None]) -> Shape:
    """Resolves -1 (inferred) and None (inferred, or the batch of the first axis) in a target shape."""
    wanted: list[Extent] = []
    unknown: list[int] = []
    for axis, extent in enumerate(target):
        if extent is None and axis == 0 and shape and isinstance(shape[0], Dim):
            wanted.append(shape[0])
        elif extent is None or (isinstance(extent, int) and extent == -1):
            unknown.append(axis)
            wanted.append(1)
        else:
            wanted.append(extent if isinstance(extent, Dim) else int(extent))
    if len(unknown) > 1:
        # A batch that was already placed leaves nothing to infer for a second unknown.
        raise ShapeError(f"can only infer one unknown extent, but the target shape {list(target)} has {len(unknown)}.")
    total = size(shape)
    if unknown:
        try:
            wanted[unknown[0]] = divide(total, size(wanted))
        except ShapeError:
            raise ShapeError(f"cannot reshape {text(shape)} to {list(target)}: total size must be unchanged.") from None
    if size(wanted) != total:
        raise ShapeError(f"cannot reshape {text(shape)} to {text(wanted)}: total size must be unchanged.")
    return tuple(wanted)


def matmul(a: Shape, b: Shape, transpose_a: bool = False, transpose_b: bool = False) -> Shape:
    """[..., m, k] times [..., k, n]; batch extents broadcast."""
    if len(a) < 2 or len(b) < 2:
        raise ShapeError(f"matmul needs operands of rank 2 or more, got {text(a)} and {text(b)}.")
    m, k = (a[-1], a[-2]) if transpose_a else (a[-2], a[-1])
    k2, n = (b[-1], b[-2]) if transpose_b else (b[-2], b[-1])
    if k != k2:
        raise ShapeError(f"matmul of {text(a)} with {text(b)}: the inner extents {k} and {k2} differ.")
    return (*broadcast(a[:-2], b[:-2], what="batch axes of matmul"), m, n)
