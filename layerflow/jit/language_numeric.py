"""Functions of the kernel language: selections, folds of a vector, multiply-add and fast approximations."""

from __future__ import annotations

from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_builder import Builder, Static
from layerflow.jit.language_calls import FUNCTIONS, TYPES, function
from layerflow.jit.language_types import Type, Value, constant


@function
def fma(b: Builder, x: Any, y: Any, z: Any) -> Value:
    """x * y + z, rounded once where the machine can."""
    type, operands = b.unify(x, y, z)
    return b.intrinsic("fmuladd", type, *operands)


@function
def abs_(b: Builder, x: Any) -> Any:
    if isinstance(x, Static):
        return abs(x)
    if x.type.kind == "f":
        return b.intrinsic("fabs", x.type, b.text(x))
    if x.type.kind != "i":
        return x
    name = f"llvm.abs.{x.type.suffix}"
    b.declare(name, f"{x.type.llvm} @{name}({x.type.llvm}, i1)")
    return Value(x.type, b.pure(f"call {x.type.llvm} @{name}({x.type.llvm} {b.text(x)}, i1 false)"))


@function
def sign(b: Builder, x: Any) -> Any:
    """-1, 0 or 1; nan stays nan."""
    above = b.select(b.binary(">", x, 0), 1, x)
    return b.select(b.binary("<", x, 0), 0 if x.type.kind == "u" else -1, above)


@function
def copysign(b: Builder, x: Any, y: Any) -> Value:
    """The magnitude of x with the sign of y."""
    type, operands = b.unify(x, y)
    return b.intrinsic("copysign", type, *operands)


@function
def isnan(b: Builder, x: Value) -> Any:
    return b.binary("!=", x, x)


@function
def isinf(b: Builder, x: Value) -> Any:
    return b.binary("==", abs_(b, x), float("inf"))


@function
def isfinite(b: Builder, x: Value) -> Any:
    return b.binary("<", abs_(b, x), float("inf"))


@function
def maximum(b: Builder, x: Any, y: Any) -> Any:
    """The larger; nan if either is nan."""
    return _extreme(b, ">", x, y)


@function
def minimum(b: Builder, x: Any, y: Any) -> Any:
    """The smaller; nan if either is nan."""
    return _extreme(b, "<", x, y)


def _extreme(b: Builder, op: str, x: Any, y: Any) -> Any:
    if isinstance(x, Static) and isinstance(y, Static):
        return max(x, y) if op == ">" else min(x, y)
    if isinstance(x, Static) or (isinstance(x, Value) and x.is_constant):
        x, y = y, x
    type = b.common(x, y)
    if type.kind != "f":
        picked = b.select(b.binary(op, x, y), x, y)
        picked.natural = all(v >= 0 if isinstance(v, int) else v.natural for v in (x, y))
        return picked
    # This order of operands is the machine's own max and min: where x is nan, it gives x.
    best = b.select(b.binary(op, y, x), y, x)
    if isinstance(y, Static) or y.is_constant:
        return best
    return b.select(b.binary("!=", y, y), y, best)


@function
def clip(b: Builder, x: Any, low: Any, high: Any) -> Any:
    return minimum(b, maximum(b, x, low), high)


@function
def like(b: Builder, model: Value, value: Any) -> Value:
    """The number (or scalar of the same type) as a value of the model's type."""
    return b.typed(value, model.type)


@function
def is_float(b: Builder, x: Any) -> bool:
    """Whether x is a float: known when the code is made."""
    return isinstance(x, Value) and x.type.kind == "f"


@function
def horner(b: Builder, x: Value, coefficients: tuple[float, ...]) -> Value:
    """A polynomial, coefficient of the highest power first."""
    sum_: Any = coefficients[0]
    for c in coefficients[1:]:
        sum_ = fma(b, sum_, x, c)
    return sum_


@function
def scale(b: Builder, x: Value, k: Value) -> Value:
    """x * 2**k for a whole k of the same type, also where 2**k alone would overflow or the result is denormal."""
    type = x.type
    bits = type.bits * type.lanes
    if b.has_avx512 and bits in (128, 256, 512):
        letter = "s" if type.bits == 32 else "d"
        name, mask = f"llvm.x86.avx512.mask.scalef.p{letter}.{bits}", f"i{max(8, type.lanes)}"
        rounding = ", i32" if bits == 512 else ""
        b.declare(name, f"{type.llvm} @{name}({type.llvm}, {type.llvm}, {type.llvm}, {mask}{rounding})")
        args = f"{type.llvm} {b.text(x)}, {type.llvm} {b.text(k)}, {type.llvm} zeroinitializer, {mask} -1"
        return Value(type, b.pure(f"call {type.llvm} @{name}({args}{', i32 4' if rounding else ''})"))
    whole, mantissa, bias = (TYPES["i32"], 23, 127) if type.bits == 32 else (TYPES["i64"], 52, 1023)
    n = FUNCTIONS["cast"](b, k, whole)
    first = b.binary(">>", n, 1)
    for part in (first, b.binary("-", n, first)):
        power = b.binary("<<", b.binary("+", part, bias), mantissa)
        x = b.binary("*", x, FUNCTIONS["bitcast"](b, power, type.with_lanes(0)))
    return x


# --- folds of a vector -------------------------------------------------------------


def _fold(b: Builder, v: Value, combine: Any) -> Value:
    """Halves combined until one lane is left: always in the same order."""
    while v.type.lanes > 1:
        lanes, half = v.type.lanes, v.type.lanes // 2
        parts = []
        for start in (0, half):
            order = ", ".join(f"i32 {start + i}" for i in range(half))
            text = b.pure(f"shufflevector {v.type.llvm} {b.text(v)}, {v.type.llvm} poison, <{half} x i32> <{order}>")
            parts.append(Value(v.type.with_lanes(half), text))
        v = combine(*parts)
        assert v.type.lanes == lanes // 2
    if v.type.lanes == 1:
        return Value(v.type.with_lanes(0), b.pure(f"extractelement {v.type.llvm} {v.text}, i64 0"))
    return v


@function
def reduce_add(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: b.binary("+", x, y))


@function
def reduce_mul(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: b.binary("*", x, y))


@function
def reduce_max(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: maximum(b, x, y))


@function
def reduce_min(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: minimum(b, x, y))


@function
def reduce_or(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: b.binary("|", x, y))


@function
def reduce_and(b: Builder, v: Value) -> Value:
    return _fold(b, v, lambda x, y: b.binary("&", x, y))


# --- fast approximations -------------------------------------------------------------


def _estimate(b: Builder, name: str, x: Value) -> Value | None:
    """AVX-512's 14-bit estimate of 1/sqrt(x) or 1/x; None where there is none."""
    bits = x.type.lanes * 32
    if not b.has_avx512 or x.type.name != "f32" or bits not in (128, 256, 512):
        return None
    full, mask = f"llvm.x86.avx512.{name}.ps.{bits}", f"i{max(8, x.type.lanes)}"
    b.declare(full, f"{x.type.llvm} @{full}({x.type.llvm}, {x.type.llvm}, {mask})")
    args = f"{x.type.llvm} {b.text(x)}, {x.type.llvm} zeroinitializer, {mask} -1"
    return Value(x.type, b.pure(f"call {x.type.llvm} @{full}({args})"))


def _one(type: Type) -> Value:
    return Value(type, constant(type, 1))


@function
def rsqrt_fast(b: Builder, x: Value) -> Value:
    """1 / sqrt(x) within 2 ulp: the estimate and one Newton step; exact at 0 and inf, nan below 0."""
    y = _estimate(b, "rsqrt14", x)
    if y is None:
        return b.binary("/", 1, b.intrinsic("sqrt", x.type, b.text(x)))
    error = fma(b, negate(b, b.binary("*", x, y)), y, 1)
    better = fma(b, b.binary("*", y, 0.5), error, y)
    return b.select(b.binary("!=", error, error), y, better)


@function
def recip_fast(b: Builder, x: Value) -> Value:
    """1 / x within 1 ulp: the estimate and one Newton step; denormal results may be off, 0 and inf are exact."""
    y = _estimate(b, "rcp14", x)
    if y is None:
        return b.binary("/", 1, x)
    error = fma(b, negate(b, x), y, 1)
    better = fma(b, y, error, y)
    return b.select(b.binary("!=", better, better), y, better)


@function
def sqrt_fast(b: Builder, x: Value) -> Value:
    """sqrt(x) within 1 ulp, through the estimate of its reciprocal."""
    y = _estimate(b, "rsqrt14", x)
    if y is None:
        return b.intrinsic("sqrt", x.type, b.text(x))
    root, half = b.binary("*", x, y), b.binary("*", y, 0.5)
    error = fma(b, negate(b, root), half, 0.5)
    better = fma(b, root, error, root)
    # At 0 and inf the estimate is inf or 0 and the product nan; there the root is the argument.
    plain = b.binary("|", b.binary("==", x, 0), b.binary("==", x, float("inf")))
    return b.select(plain, x, better)


@function
def div_fast(b: Builder, x: Any, y: Any) -> Value:
    """x / y within 1 ulp where 1 / y is a normal number; a zero or infinite y gives what division gives."""
    type = b.common(x, y)
    x, y = b.typed(x, type), b.typed(y, type)
    estimate = _estimate(b, "rcp14", y)
    if estimate is None:
        return b.binary("/", x, y)
    error = fma(b, negate(b, y), estimate, 1)
    inverse = fma(b, estimate, error, estimate)
    quotient = b.binary("*", x, inverse)
    better = fma(b, fma(b, negate(b, y), quotient, x), inverse, quotient)
    return b.select(b.binary("!=", better, better), b.binary("*", x, estimate), better)


def negate(b: Builder, x: Any) -> Any:
    """-x."""
    if not isinstance(x, Value):
        return -x
    if x.type.kind == "f":
        return Value(x.type, b.pure(f"fneg {x.type.llvm} {b.text(x)}"))
    if x.type.kind == "b":
        raise CompileError("minus of a truth value")
    return b.binary("-", 0, x)


def invert(b: Builder, x: Any) -> Any:
    """~x; of truth values, not x."""
    if not isinstance(x, Value):
        return (not x) if isinstance(x, bool) else ~x
    if x.type.kind == "f":
        raise CompileError(f"~ of {x!r}")
    return b.binary("^", x, True if x.type.kind == "b" else -1)


__all__ = ["FUNCTIONS", "invert", "negate"]
