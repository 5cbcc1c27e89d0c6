"""Builder: writes the IR text of one function.  Equal pure instructions are written once a dominating block."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_types import B1, I64, Pointer, Type, Value, constant, type_of

Static = (int, float, bool)

PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift, "**": operator.pow, "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
FLOAT = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
SIGNED = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl", ">>": "ashr"}
UNSIGNED = {**SIGNED, ">>": "lshr"}
BOOLEAN = {"&": "and", "|": "or", "^": "xor", "*": "and", "+": "or"}
ARITHMETIC = {"f": FLOAT, "i": SIGNED, "u": UNSIGNED, "b": BOOLEAN}
_ORDER = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
COMPARISON = {
    "f": {"==": "fcmp oeq", "!=": "fcmp une", **{k: f"fcmp o{v}" for k, v in _ORDER.items()}},
    "i": {"==": "icmp eq", "!=": "icmp ne", **{k: f"icmp s{v}" for k, v in _ORDER.items()}},
    "u": {"==": "icmp eq", "!=": "icmp ne", **{k: f"icmp u{v}" for k, v in _ORDER.items()}},
    "b": {"==": "icmp eq", "!=": "icmp ne", **{k: f"icmp u{v}" for k, v in _ORDER.items()}},
}


class Builder:
    """Instructions, labels and the values already computed."""

    def __init__(self, declare: Callable[[str, str], None], has_avx512: bool):
        self.declare = declare
        self.has_avx512 = has_avx512
        self.lines: list[str] = []
        self.known: dict[str, str] = {}  # text of a pure instruction -> its result
        self.count = 0
        self.label = "entry"
        self.lanes = 1

    # --- text ----------------------------------------------------------------

    def fresh_name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, instruction: str) -> str:
        """Appends an instruction with a result; its name."""
        name = self.fresh_name()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def pure(self, instruction: str) -> str:
        """The result of an instruction without effects, written now or before."""
        name = self.known.get(instruction)
        if name is None:
            name = self.known[instruction] = self.emit(instruction)
        return name

    def fresh_label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label

    def jump(self, label: str) -> None:
        self.lines.append(f"  br label %{label}")

    def branch(self, condition: Value, then: str, other: str) -> None:
        self.lines.append(f"  br i1 {condition.text}, label %{then}, label %{other}")

    def intrinsic(self, name: str, type: Type, *operands: str, pure: bool = True) -> Value:
        """A call of an overloaded intrinsic whose operands and result have one type."""
        full = f"llvm.{name}.{type.suffix}"
        self.declare(full, f"{type.llvm} @{full}({', '.join([type.llvm] * len(operands))})")
        args = ", ".join(f"{type.llvm} {o}" for o in operands)
        return Value(type, self.pure(f"call {type.llvm} @{full}({args})"))

    # --- operands ------------------------------------------------------------

    def text(self, value: Value) -> str:
        """The value as an operand."""
        if value.const:
            return self.pure(f"add i64 {value.text}, {value.const}")
        return value.text

    def vector_type(self, name: str) -> Type:
        """The kernel's vector of these elements; of one lane it is a scalar."""
        return type_of(name, self.lanes if self.lanes > 1 else 0)

    def splat(self, value: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        type = value.type.with_lanes(lanes)
        if value.is_constant and not value.const:
            return Value(type, f"splat ({value.type.code} {value.text})")
        one = self.pure(f"insertelement {type.llvm} poison, {value.type.llvm} {self.text(value)}, i64 0")
        return Value(
            type, self.pure(f"shufflevector {type.llvm} {one}, {type.llvm} poison, <{lanes} x i32> zeroinitializer")
        )

    def typed(self, value: Any, type: Type) -> Value:
        """A Python number as a constant of `type`, or a value that has this type or is splatted to it."""
        if isinstance(value, Value):
            if value.type is type:
                return value
            if value.type.name != type.name or value.type.lanes:
                raise CompileError(f"{value!r} where {type!r} is needed: cast it")
            return self.splat(value, type.lanes)
        if not isinstance(value, Static):
            raise CompileError(f"{value!r} where a value of type {type!r} is needed")
        return Value(type, constant(type, value))

    def common(self, *values: Any) -> Type:
        """The type that values take together: Python numbers adopt it, scalars are splatted to it."""
        found: Type | None = None
        for value in values:
            if isinstance(value, Value):
                type = value.type
                if found is None or (not found.lanes and type.lanes and found.name == type.name):
                    found = type
                elif found is not type and (found.name != type.name or (type.lanes and type.lanes != found.lanes)):
                    raise CompileError(f"{found!r} and {type!r} in one expression: cast one of them")
            elif not isinstance(value, Static):
                raise CompileError(f"{value!r} in arithmetic")
        if found is None:
            raise CompileError(f"untyped numbers {values}: give them a type, like f32({values[0]})")
        return found

    def unify(self, *values: Any) -> tuple[Type, list[str]]:
        """The common type and every value as an operand of it."""
        type = self.common(*values)
        return type, [self.text(self.typed(v, type)) for v in values]

    # --- arithmetic ----------------------------------------------------------

    def binary(self, op: str, a: Any, b: Any) -> Any:
        """a op b; Python numbers among themselves are folded."""
        if not isinstance(a, Value) and not isinstance(b, Value):
            if isinstance(a, Pointer) and op == "+":
                return Pointer(a.element, self.address(a, b))
            return PYTHON[op](a, b)
        if op in "+-*":
            whole = self._affine(op, a, b)
            if whole is not None:
                return whole
        type = self.common(a, b)
        if op in COMPARISON["f"]:
            x, y = self.text(self.typed(a, type)), self.text(self.typed(b, type))
            return Value(type.named("b1"), self.pure(f"{COMPARISON[type.kind][op]} {type.llvm} {x}, {y}"))
        if op in ("//", "%") and type.kind in "iu":
            return self._divide(op, type, a, b)
        instruction = ARITHMETIC[type.kind].get(op)
        if instruction is None:
            raise CompileError(f"{op} on {type!r}")
        x, y = self.text(self.typed(a, type)), self.text(self.typed(b, type))
        return Value(type, self.pure(f"{instruction} {type.llvm} {x}, {y}"))

    def _affine(self, op: str, a: Any, b: Any) -> Any:
        """Sums and multiples of scalar i64 with the constant apart, to become a displacement; None for others."""
        if isinstance(a, Value):
            if a.type is not I64:
                return None
            if isinstance(b, int):
                if op == "+":
                    return Value(I64, a.text, a.const + b, a.natural and b >= 0)
                if op == "-":
                    return Value(I64, a.text, a.const - b)
                if b == 0:
                    return 0
                text = a.text if b == 1 else self.pure(f"mul i64 {a.text}, {b}")
                return Value(I64, text, a.const * b, a.natural and b > 0)
            if isinstance(b, Value) and b.type is I64:
                natural = a.natural and b.natural
                if op == "+":
                    return Value(I64, self.pure(f"add i64 {a.text}, {b.text}"), a.const + b.const, natural)
                if op == "-":
                    return Value(I64, self.pure(f"sub i64 {a.text}, {b.text}"), a.const - b.const)
                return Value(I64, self.pure(f"mul i64 {self.text(a)}, {self.text(b)}"), 0, natural)
            return None
        if isinstance(a, int) and isinstance(b, Value) and b.type is I64:
            if op != "-":
                return self._affine(op, b, a)
            return Value(I64, self.pure(f"sub i64 {a - b.const}, {b.text}"))
        return None

    def _divide(self, op: str, type: Type, a: Any, b: Any) -> Value:
        """Floor division and its remainder; a divisor of zero gives zero, like NumPy."""
        natural = all(v >= 0 if isinstance(v, int) else isinstance(v, Value) and v.natural for v in (a, b))
        static = isinstance(b, int) and b > 0
        x, y = self.text(self.typed(a, type)), self.text(self.typed(b, type))
        if type.kind == "u" or natural or (static and b & (b - 1) == 0):
            return self._divide_plain(op, type, x, y, static and b, type.kind == "u" or natural)
        zero, one = constant(type, 0), constant(type, 1)
        divisor = y
        flag = type.named("b1").llvm
        if not static:
            none = self.pure(f"icmp eq {type.llvm} {y}, {zero}")
            minus = self.pure(f"icmp eq {type.llvm} {y}, {constant(type, -1)}")
            unsafe = self.pure(f"or {flag} {none}, {minus}")
            divisor = self.pure(f"select {flag} {unsafe}, {type.llvm} {one}, {type.llvm} {y}")
        q = self.pure(f"sdiv {type.llvm} {x}, {divisor}")
        r = self.pure(f"srem {type.llvm} {x}, {divisor}")
        if not static:
            negated = self.pure(f"sub {type.llvm} {zero}, {x}")
            q = self.pure(f"select {flag} {minus}, {type.llvm} {negated}, {type.llvm} {q}")
            q = self.pure(f"select {flag} {none}, {type.llvm} {zero}, {type.llvm} {q}")
        signs = self.pure(f"xor {type.llvm} {r}, {divisor}")
        differ = self.pure(f"icmp slt {type.llvm} {signs}, {zero}")
        rest = self.pure(f"icmp ne {type.llvm} {r}, {zero}")
        adjust = self.pure(f"and {flag} {differ}, {rest}")
        if op == "//":
            lower = self.pure(f"sub {type.llvm} {q}, {one}")
            return Value(type, self.pure(f"select {flag} {adjust}, {type.llvm} {lower}, {type.llvm} {q}"))
        upper = self.pure(f"add {type.llvm} {r}, {divisor}")
        return Value(type, self.pure(f"select {flag} {adjust}, {type.llvm} {upper}, {type.llvm} {r}"))

    def _divide_plain(self, op: str, type: Type, x: str, y: str, power: int, natural: bool) -> Value:
        """Operands that are not negative, or a divisor that is a power of two (then any dividend)."""
        if power and power & (power - 1) == 0:
            if op == "%":
                return Value(type, self.pure(f"and {type.llvm} {x}, {constant(type, power - 1)}"), 0, True)
            shift = "lshr" if natural else "ashr"
            return Value(
                type, self.pure(f"{shift} {type.llvm} {x}, {constant(type, power.bit_length() - 1)}"), 0, natural
            )
        if not power:
            none = self.pure(f"icmp eq {type.llvm} {y}, {constant(type, 0)}")
            flag = type.named("b1").llvm
            safe = self.pure(f"select {flag} {none}, {type.llvm} {constant(type, 1)}, {type.llvm} {y}")
            out = self.pure(f"{'udiv' if op == '//' else 'urem'} {type.llvm} {x}, {safe}")
            zero = constant(type, 0)
            return Value(type, self.pure(f"select {flag} {none}, {type.llvm} {zero}, {type.llvm} {out}"), 0, natural)
        return Value(type, self.pure(f"{'udiv' if op == '//' else 'urem'} {type.llvm} {x}, {y}"), 0, natural)

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        """a where the condition holds, else b."""
        if not isinstance(condition, Value):
            return a if condition else b
        if condition.type.kind != "b":
            raise CompileError(f"condition {condition!r}: compare it with something")
        type = self.common(a, b)
        if condition.type.lanes and not type.lanes:
            type = type.with_lanes(condition.type.lanes)
        x, y = self.text(self.typed(a, type)), self.text(self.typed(b, type))
        if type.lanes and not condition.type.lanes:
            condition = self.splat(condition, type.lanes)
        return Value(
            type, self.pure(f"select {condition.type.llvm} {condition.text}, {type.llvm} {x}, {type.llvm} {y}")
        )

    # --- memory --------------------------------------------------------------

    def address(self, pointer: Pointer, index: Any) -> str:
        """The address of an element: run-time part first, then the constant one, which the machine adds for free."""
        text, const = pointer.text, 0
        if isinstance(index, int):
            const = index
        elif isinstance(index, Value) and not index.type.lanes and index.type.kind in "iu":
            if index.type is not I64:
                index = Value(
                    I64,
                    self.pure(f"{'sext' if index.type.kind == 'i' else 'zext'} {index.type.llvm} {index.text} to i64"),
                )
            text = self.pure(f"getelementptr {pointer.element.llvm}, ptr {text}, i64 {index.text}")
            const = index.const
        else:
            raise CompileError(f"index {index!r}: an integer is needed")
        if const:
            text = self.pure(f"getelementptr i8, ptr {text}, i64 {const * pointer.element.size}")
        return text

    def load(self, pointer: Pointer, index: Any, type: Type) -> Value:
        return Value(type, self.emit(f"load {type.llvm}, ptr {self.address(pointer, index)}, align {type.size}"))

    def store(self, pointer: Pointer, index: Any, value: Value) -> None:
        where = self.address(pointer, index)
        self.lines.append(f"  store {value.type.llvm} {self.text(value)}, ptr {where}, align {value.type.size}")

    def condition(self, value: Any) -> Value:
        """A scalar truth value."""
        if isinstance(value, Value) and value.type is B1:
            return value
        raise CompileError(f"condition {value!r}: a scalar comparison is needed")
