"""Types and values of the kernel language."""

from __future__ import annotations

import functools
import struct
from typing import Any

from layerflow.errors import CompileError

_LLVM = {
    "f32": "float", "f64": "double", "b1": "i1", "i8": "i8", "u8": "i8", "i16": "i16", "u16": "i16",
    "i32": "i32", "u32": "i32", "i64": "i64", "u64": "i64",
}  # fmt: skip
NAMES = tuple(_LLVM)


class Type:
    """A scalar (`lanes` 0) or a vector type; one object a type, so that `is` compares."""

    __slots__ = ("bits", "code", "kind", "lanes", "llvm", "name", "size", "suffix")

    def __init__(self, name: str, lanes: int):
        self.name = name  # f32, i64, b1, ...
        self.lanes = lanes
        self.kind = name[0]  # f, i, u, b
        self.bits = int(name[1:])
        self.size = max(1, self.bits // 8)
        self.code = _LLVM[name]
        self.llvm = f"<{lanes} x {self.code}>" if lanes else self.code
        scalar = f"f{self.bits}" if self.kind == "f" else f"i{self.bits}"
        self.suffix = f"v{lanes}{scalar}" if lanes else scalar  # as intrinsics' names have it

    def __repr__(self) -> str:
        return f"{self.lanes} x {self.name}" if self.lanes else self.name

    def with_lanes(self, lanes: int) -> Type:
        return self if lanes == self.lanes else type_of(self.name, lanes)

    def named(self, name: str) -> Type:
        """The type of another element, as many lanes."""
        return type_of(name, self.lanes)


_types: dict[tuple[str, int], Type] = {}


def type_of(name: str, lanes: int = 0) -> Type:
    """The type of that name: f32 f64 b1 i8 .. i64 u8 .. u64.  `lanes` 0 is a scalar."""
    found = _types.get((name, lanes))
    if found is None:
        found = _types.setdefault((name, lanes), Type(name, lanes))
    return found


I64 = type_of("i64")
I32 = type_of("i32")
B1 = type_of("b1")


class Value:
    """An SSA value or constant.  A scalar i64 may have a constant still to be added: `text + const`.

    `natural` says that it is known not to be negative.
    """

    __slots__ = ("const", "natural", "text", "type")

    def __init__(self, type: Type, text: str, const: int = 0, natural: bool = False):
        self.type = type
        self.text = text
        self.const = const
        self.natural = natural

    @property
    def is_constant(self) -> bool:
        return self.text[0] != "%"

    def __repr__(self) -> str:
        return f"{self.text} of type {self.type!r}"


class Pointer:
    """An address of elements of one scalar type."""

    __slots__ = ("element", "text")

    def __init__(self, element: Type, text: str):
        self.element = element
        self.text = text

    def __repr__(self) -> str:
        return f"pointer {self.text} to {self.element!r}"


def scalar_constant(type: Type, value: Any) -> str:
    """The text of a number as an element of `type`."""
    if type.kind == "f":
        number = float(value)
        if type.bits == 32 and abs(number) != float("inf") and number == number:
            try:
                (number,) = struct.unpack("f", struct.pack("f", number))
            except OverflowError:
                number = float("inf") if number > 0 else float("-inf")
        return f"0x{struct.unpack('Q', struct.pack('d', number))[0]:016X}"
    if isinstance(value, float) and value != int(value):
        raise CompileError(f"the number {value} in an expression of type {type!r}")
    if type.kind == "b":
        return "true" if value else "false"
    limit = 1 << type.bits
    whole = int(value) % limit
    return str(whole - limit if whole >= limit // 2 else whole)


# The key must tell 1 from 1.0 and 0.0 from -0.0, which Python's dicts take for equal.
@functools.lru_cache(maxsize=4096)
def _constant(type: Type, value: Any, key: str) -> str:
    text = scalar_constant(type, value)
    if not type.lanes:
        return text
    return f"splat ({type.code} {text})"


def constant(type: Type, value: Any) -> str:
    """The text of a number in every lane of `type`."""
    return _constant(type, value, repr(value)) if type.kind == "f" else _constant(type, value, "")
