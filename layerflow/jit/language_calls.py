"""Functions of the kernel language that become instructions.  Each takes the builder and evaluated arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_builder import Builder, Static
from layerflow.jit.language_types import I32, I64, NAMES, Pointer, Type, Value, constant, type_of

FUNCTIONS: dict[str, Callable[..., Any]] = {}
TYPES: dict[str, Type] = {name: type_of(name) for name in NAMES}
NUMBERS = {"inf": math.inf, "nan": math.nan, "pi": math.pi}


def function(f: Callable[..., Any]) -> Callable[..., Any]:
    """Makes `f` a function of the language; a trailing underscore is not part of its name."""
    FUNCTIONS[f.__name__.rstrip("_")] = f
    return f


# --- context and memory --------------------------------------------------------


@function
def pointer(b: Builder, ctx: Value, slot: Any, element: Type) -> Pointer:
    """The address in slot `slot` of the context table."""
    return Pointer(element, b.emit(f"load ptr, ptr {b.address(_table(b, ctx), slot)}, align 8"))


@function
def integer(b: Builder, ctx: Value, slot: Any) -> Value:
    """The int64 in slot `slot`; it counts as not negative."""
    return Value(I64, b.load(_table(b, ctx), slot, I64).text, 0, True)


@function
def set_integer(b: Builder, ctx: Value, slot: Any, value: Any) -> None:
    b.store(_table(b, ctx), slot, b.typed(value, I64))


def _table(b: Builder, ctx: Value) -> Pointer:
    return Pointer(I64, b.pure(f"inttoptr i64 {b.text(ctx)} to ptr"))


@function
def load(b: Builder, p: Pointer, index: Any, count: Any = None) -> Value:
    """A vector from unaligned memory; beyond the first `count` lanes nothing is read and the lanes are 0."""
    _pointer(p)
    type = b.vector_type(p.element.name)
    mask = _mask(b, type, count)
    if mask is None:
        return b.load(p, index, type)
    where = b.address(p, index)
    if not type.lanes:
        return _scalar_masked(b, p, where, mask)
    name, flags = f"llvm.masked.load.{type.suffix}.p0", type.named("b1").llvm
    b.declare(name, f"{type.llvm} @{name}(ptr, {flags}, {type.llvm})")
    zero = "zeroinitializer"
    return Value(
        type, b.emit(f"call {type.llvm} @{name}(ptr align {type.size} {where}, {flags} {mask}, {type.llvm} {zero})")
    )


@function
def store(b: Builder, p: Pointer, index: Any, value: Any, count: Any = None) -> None:
    """Writes a vector, or its first `count` lanes."""
    _pointer(p)
    type = b.vector_type(p.element.name)
    if isinstance(value, Value) and value.type.lanes not in (0, type.lanes):
        type = value.type
    value = b.typed(value, type)
    if type.name != p.element.name:
        raise CompileError(f"store of {value!r} through {p!r}: cast it")
    mask = _mask(b, type, count)
    if mask is None:
        b.store(p, index, value)
        return
    where, flags = b.address(p, index), type.named("b1").llvm
    if not type.lanes:
        type, flags, mask = type.with_lanes(1), "<1 x i1>", _one_flag(b, mask)
        value = Value(type, b.pure(f"insertelement {type.llvm} poison, {value.type.llvm} {b.text(value)}, i64 0"))
    name = f"llvm.masked.store.{type.suffix}.p0"
    b.declare(name, f"void @{name}({type.llvm}, ptr, {flags})")
    b.lines.append(f"  call void @{name}({type.llvm} {value.text}, ptr align {type.size} {where}, {flags} {mask})")


def _one_flag(b: Builder, mask: str) -> str:
    return b.pure(f"insertelement <1 x i1> poison, i1 {mask}, i64 0")


def _scalar_masked(b: Builder, p: Pointer, where: str, mask: str) -> Value:
    """A kernel of one lane reads a single number or none."""
    vector = p.element.with_lanes(1)
    name = f"llvm.masked.load.{vector.suffix}.p0"
    b.declare(name, f"{vector.llvm} @{name}(ptr, <1 x i1>, {vector.llvm})")
    args = f"ptr align {vector.size} {where}, <1 x i1> {_one_flag(b, mask)}, {vector.llvm} zeroinitializer"
    got = b.emit(f"call {vector.llvm} @{name}({args})")
    return Value(p.element, b.pure(f"extractelement {vector.llvm} {got}, i64 0"))


def _mask(b: Builder, type: Type, count: Any) -> str | None:
    """The flags of the first `count` lanes; None if they are all."""
    lanes = max(1, type.lanes)
    if count is None or (isinstance(count, int) and count >= lanes):
        return None
    if isinstance(count, int):
        if not type.lanes:
            return "false"
        return "<" + ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(lanes)) + ">"
    count = b.typed(count, I64)
    if not type.lanes:
        return b.pure(f"icmp sgt i64 {b.text(count)}, 0")
    b.declare("llvm.smin.i64", "i64 @llvm.smin.i64(i64, i64)")
    # The count may be far above the lanes; cut it before it is narrowed.
    clipped = b.pure(f"call i64 @llvm.smin.i64(i64 {b.text(count)}, i64 {lanes})")
    narrow = b.splat(Value(I32, b.pure(f"trunc i64 {clipped} to i32")), lanes)
    vector = narrow.type
    return b.pure(f"icmp slt {vector.llvm} {_iota_text(vector)}, {narrow.text}")


def _pointer(p: Any) -> None:
    if not isinstance(p, Pointer):
        raise CompileError(f"{p!r} is no pointer")


@function
def prefetch(b: Builder, p: Pointer, index: Any, level: int = 1) -> None:
    """Asks for a line to be brought into the cache of this level."""
    b.declare("llvm.prefetch.p0", "void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    b.lines.append(f"  call void @llvm.prefetch.p0(ptr {b.address(p, index)}, i32 0, i32 {4 - level}, i32 1)")


@function
def barrier(b: Builder, ctx: Any, tid: Any, threads: Any) -> None:
    """Waits until all threads are here; see layerflow.jit.runtime."""
    b.declare("lf_barrier", "void @lf_barrier(i64, i64, i64)")
    arguments = ", ".join(f"i64 {b.text(b.typed(a, I64))}" for a in (ctx, tid, threads))
    b.lines.append(f"  call void @lf_barrier({arguments})")


@function
def gather(b: Builder, p: Pointer, index: Value, count: Any = None) -> Value:
    """The elements at the positions in an integer vector; beyond `count` lanes nothing is read and lanes are 0."""
    if not index.type.lanes:
        return b.load(p, index, p.element) if count is None else load(b, p, index, count)
    type = p.element.with_lanes(index.type.lanes)
    lanes, flags = type.lanes, type.named("b1").llvm
    mask = _mask(b, type, count) or constant(type.named("b1"), True)
    where = b.pure(f"getelementptr {p.element.llvm}, ptr {p.text}, {index.type.llvm} {b.text(index)}")
    name = f"llvm.masked.gather.{type.suffix}.v{lanes}p0"
    b.declare(name, f"{type.llvm} @{name}(<{lanes} x ptr>, {flags}, {type.llvm})")
    args = f"<{lanes} x ptr> align {type.size} {where}, {flags} {mask}, {type.llvm} zeroinitializer"
    return Value(type, b.emit(f"call {type.llvm} @{name}({args})"))


# --- making and converting values ------------------------------------------------


@function
def zeros(b: Builder, element: Type) -> Value:
    type = b.vector_type(element.name)
    return Value(type, "zeroinitializer" if type.lanes else constant(type, 0))


@function
def splat(b: Builder, value: Any) -> Value:
    """A typed scalar in every lane of the kernel's vectors."""
    if not isinstance(value, Value):
        raise CompileError(f"splat of the untyped number {value!r}: give it a type")
    return value if value.type.lanes or b.lanes == 1 else b.splat(value, b.lanes)


@function
def iota(b: Builder, element: Type) -> Value:
    """<0, 1, 2, ...>."""
    type = b.vector_type(element.name)
    return Value(type, _iota_text(type) if type.lanes else constant(type, 0))


def _iota_text(type: Type) -> str:
    scalar = type.with_lanes(0)
    return "<" + ", ".join(f"{scalar.llvm} {constant(scalar, i)}" for i in range(type.lanes)) + ">"


@function
def cast(b: Builder, value: Any, element: Type) -> Value:
    """The value as another element type; floats are cut towards zero, integers wrap."""
    if not isinstance(value, Value):
        return Value(element, constant(element, int(value) if element.kind in "iu" else value))
    source, target = value.type, element.with_lanes(value.type.lanes)
    if source is target:
        return value
    text = b.text(value)
    if target.kind == "b":
        zero = constant(source, 0)
        compare = (
            f"fcmp une {source.llvm} {text}, {zero}" if source.kind == "f" else f"icmp ne {source.llvm} {text}, {zero}"
        )
        return Value(target, b.pure(compare))
    if source.kind == "f" and target.kind in "iu" and target.size < 4:
        # Through 32 bits, so that values out of range wrap as NumPy's do.
        return cast(b, cast(b, value, TYPES["i32"]), element)
    if source.kind == "f" and target.name == "u32":
        return cast(b, cast(b, value, TYPES["i64"]), element)
    if source.kind != "f" and target.kind != "f" and source.bits == target.bits:
        return Value(target, text, 0, value.natural and target.kind == "i")
    natural = source.kind in "ub" or value.natural
    return Value(
        target,
        b.pure(f"{_conversion(source, target)} {source.llvm} {text} to {target.llvm}"),
        0,
        natural and target is I64,
    )


def _conversion(source: Type, target: Type) -> str:
    if source.kind == "f" and target.kind == "f":
        return "fpext" if target.bits > source.bits else "fptrunc"
    if source.kind == "f":
        return "fptosi" if target.kind == "i" else "fptoui"
    if target.kind == "f":
        return "sitofp" if source.kind == "i" else "uitofp"
    if target.bits < source.bits:
        return "trunc"
    return "sext" if source.kind == "i" else "zext"


@function
def bitcast(b: Builder, value: Value, element: Type) -> Value:
    """The same bits as elements of another type of the same width."""
    if value.type.bits != element.bits:
        raise CompileError(f"bitcast of {value!r} to {element!r}: another width")
    target = element.with_lanes(value.type.lanes)
    if target.code == value.type.code:
        return Value(target, b.text(value))
    return Value(target, b.pure(f"bitcast {value.type.llvm} {b.text(value)} to {target.llvm}"))


@function
def shuffle(b: Builder, x: Value, y: Value, order: tuple[int, ...]) -> Value:
    """The lanes of `x` followed by those of `y`, in the order given."""
    type, (left, right) = b.unify(x, y)
    picks = ", ".join(f"i32 {i}" for i in order)
    text = b.pure(f"shufflevector {type.llvm} {left}, {type.llvm} {right}, <{len(order)} x i32> <{picks}>")
    return Value(type.with_lanes(len(order)), text)


@function
def extract(b: Builder, v: Value, lane: Any) -> Value:
    """One lane as a scalar."""
    if not v.type.lanes:
        return v
    return Value(
        v.type.with_lanes(0), b.pure(f"extractelement {v.type.llvm} {v.text}, i64 {b.text(b.typed(lane, I64))}")
    )


@function
def insert(b: Builder, v: Value, lane: Any, scalar: Any) -> Value:
    """The vector with one lane replaced."""
    element = b.typed(scalar, v.type.with_lanes(0))
    if not v.type.lanes:
        return element
    where = b.text(b.typed(lane, I64))
    return Value(
        v.type, b.pure(f"insertelement {v.type.llvm} {v.text}, {element.type.llvm} {b.text(element)}, i64 {where}")
    )


@function
def compress(b: Builder, v: Value, flags: Value) -> Value:
    """The lanes with their flag set, moved together in order to the front; what the others hold is not defined."""
    type = v.type
    if not type.lanes:
        return v
    # As integers: LLVM takes no others on machines without an instruction for it.
    whole = TYPES["i32" if type.bits == 32 else "i64"].with_lanes(type.lanes)
    name, mask = f"llvm.experimental.vector.compress.{whole.suffix}", flags.type.llvm
    b.declare(name, f"{whole.llvm} @{name}({whole.llvm}, {mask}, {whole.llvm})")
    bits = bitcast(b, v, whole.with_lanes(0))
    args = f"{whole.llvm} {b.text(bits)}, {mask} {flags.text}, {whole.llvm} poison"
    return bitcast(b, Value(whole, b.pure(f"call {whole.llvm} @{name}({args})")), type.with_lanes(0))


@function
def count_set(b: Builder, flags: Value) -> Value:
    """How many lanes have their flag set."""
    if not flags.type.lanes:
        return cast(b, flags, I64)
    whole = f"i{flags.type.lanes}"
    b.declare(f"llvm.ctpop.{whole}", f"{whole} @llvm.ctpop.{whole}({whole})")
    bits = b.pure(f"bitcast {flags.type.llvm} {flags.text} to {whole}")
    number = b.pure(f"call {whole} @llvm.ctpop.{whole}({whole} {bits})")
    return Value(I64, b.pure(f"zext {whole} {number} to i64"), 0, True)


@function
def where(b: Builder, condition: Any, x: Any, y: Any) -> Any:
    return b.select(condition, x, y)


@function
def is_f64(b: Builder, value: Any) -> bool:
    """Whether the value is a double: known when the code is made."""
    return isinstance(value, Value) and value.type.name == "f64"


@function
def has_avx512(b: Builder) -> bool:
    return b.has_avx512


@function
def lanes_of(b: Builder, value: Value) -> int:
    return max(1, value.type.lanes)


def _intrinsic(name: str) -> Callable[..., Any]:
    def call(b: Builder, x: Any) -> Any:
        if isinstance(x, Static):
            raise CompileError(f"{name} of the untyped number {x!r}")
        if x.type.kind != "f":
            raise CompileError(f"{name} of {x!r}: cast it to a float")
        return b.intrinsic(name, x.type, b.text(x))

    return call


for _name in ("sqrt", "floor", "ceil", "rint", "trunc"):
    FUNCTIONS[_name] = _intrinsic(_name)
