"""Expressions of the kernel language as closures: from a frame to a value, or to a Python number where it is known."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_builder import Builder
from layerflow.jit.language_calls import NUMBERS, TYPES
from layerflow.jit.language_flow import Code, Frame
from layerflow.jit.language_numeric import FUNCTIONS, invert, negate
from layerflow.jit.language_types import I64, Pointer, Type, Value

OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.Pow: "**", ast.Eq: "==", ast.NotEq: "!=",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
UNARY: dict[type[ast.AST], Callable[[Builder, Any], Any]] = {
    ast.USub: negate,
    ast.UAdd: lambda b, x: x,
    ast.Not: lambda b, x: invert(b, x) if isinstance(x, Value) else not x,
    ast.Invert: invert,
}
FAST = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def static(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise CompileError(f"{value!r} must be known when the code is made")


def expression(node: ast.expr) -> Code:
    make = EXPRESSIONS.get(type(node))
    if make is None:
        raise CompileError(f"line {node.lineno}: {ast.unparse(node)} is not part of the language")
    return make(node)


def _constant(node: ast.Constant) -> Code:
    value = node.value
    return lambda f: value


def _name(node: ast.Name) -> Code:
    name = node.id
    fixed = TYPES.get(name, NUMBERS.get(name))

    def read(f: Frame) -> Any:
        try:
            return f.scope[name]
        except KeyError:
            if fixed is None:
                raise CompileError(f"unknown name {name}") from None
            return fixed

    return read


def _binary(node: ast.BinOp) -> Code:
    op, left, right = OPERATORS[type(node.op)], expression(node.left), expression(node.right)
    quick = FAST.get(op)

    def run(f: Frame) -> Any:
        a, b = left(f), right(f)
        if quick is not None and type(a) is int and type(b) is int:
            return quick(a, b)
        return f.builder.binary(op, a, b)

    return run


def _unary(node: ast.UnaryOp) -> Code:
    apply, operand = UNARY[type(node.op)], expression(node.operand)
    return lambda f: apply(f.builder, operand(f))


def _compare(node: ast.Compare) -> Code:
    if len(node.ops) != 1:
        raise CompileError(f"line {node.lineno}: chained comparison")
    op, left, right = OPERATORS[type(node.ops[0])], expression(node.left), expression(node.comparators[0])
    return lambda f: f.builder.binary(op, left(f), right(f))


def _boolean(node: ast.BoolOp) -> Code:
    parts, is_and = [expression(v) for v in node.values], isinstance(node.op, ast.And)

    def run(f: Frame) -> Any:
        result: Any = is_and
        for part in parts:
            value = part(f)
            if isinstance(result, Value) or isinstance(value, Value):
                result = f.builder.binary("&" if is_and else "|", result, value)
            else:
                result = (result and value) if is_and else (result or value)
                if bool(result) is not is_and:
                    return result
        return result

    return run


def _conditional(node: ast.IfExp) -> Code:
    test, then, other = expression(node.test), expression(node.body), expression(node.orelse)

    def run(f: Frame) -> Any:
        condition = test(f)
        if not isinstance(condition, Value):
            return then(f) if condition else other(f)
        return f.builder.select(condition, then(f), other(f))

    return run


def _tuple(node: ast.Tuple) -> Code:
    parts = [expression(e) for e in node.elts]
    return lambda f: tuple([part(f) for part in parts])


def _subscript(node: ast.Subscript) -> Code:
    if not isinstance(node.value, ast.Name):
        raise CompileError(f"line {node.lineno}: only variables are indexed")
    name, index = node.value.id, expression(node.slice)

    def run(f: Frame) -> Any:
        where, at = f.scope.get(name), index(f)
        if isinstance(where, Pointer):
            return f.builder.load(where, at, where.element)
        if isinstance(where, tuple):
            return where[static(at)]
        try:
            return f.scope[(name, *at) if isinstance(at, tuple) else (name, static(at))]
        except KeyError:
            raise CompileError(f"{name}[{at}] has no value yet") from None

    return run


def _call(node: ast.Call) -> Code:
    if not isinstance(node.func, ast.Name) or node.keywords:
        raise CompileError(f"line {node.lineno}: call of {ast.unparse(node.func)}, or with keywords")
    name, arguments = node.func.id, [expression(a) for a in node.args]
    if name in TYPES:
        element = TYPES[name]
        cast = FUNCTIONS["cast"]
        (only,) = arguments
        return lambda f: _typed_number(f.builder, cast, only(f), element)
    if name in FUNCTIONS:
        apply = FUNCTIONS[name]
        return lambda f: apply(f.builder, *[a(f) for a in arguments])

    def call(f: Frame) -> Any:
        return invoke(f, f.functions[name], [a(f) for a in arguments])

    return call


def _typed_number(b: Builder, cast: Callable[..., Any], value: Any, element: Type) -> Value:
    return cast(b, value, element) if isinstance(value, Value) else b.typed(value, element)


def invoke(f: Frame, function: Any, arguments: list[Any]) -> Any:
    """Lowers an inline function here, or writes a call of a kernel."""
    if len(arguments) != len(function.parameters):
        raise CompileError(f"{function.name} takes {len(function.parameters)} arguments, {len(arguments)} given")
    if not function.inline:
        b = f.builder
        values = ", ".join(f"i64 {b.text(b.typed(a, I64))}" for a in arguments)
        b.lines.append(f"  call void @{function.name}({values})")
        return None
    scope, line = f.scope, f.line
    f.scope, f.result = dict(zip(function.parameters, arguments, strict=True)), None
    try:
        function.body(f)
    except CompileError as error:
        raise CompileError(f"{error} (in {function.name}, line {f.line})") from None
    f.scope, f.line = scope, line
    return f.result


EXPRESSIONS: dict[type[ast.AST], Callable[[Any], Code]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: _conditional,
    ast.Tuple: _tuple,
    ast.Subscript: _subscript,
    ast.Call: _call,
}
