"""The kernel language: a restricted Python, lowered straight to LLVM IR text.

Source is parsed once into closures, which are then run for every (unrolled) statement: a loop over `static(n)` runs its body's
closures n times with a Python integer.  Functions whose first statement is `inline()` are lowered at each call; the library of
layerflow.jit.libm is there without an import.  Types and functions: layerflow.jit.language_calls and language_numeric.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit import libm
from layerflow.jit.language_builder import Builder
from layerflow.jit.language_calls import NUMBERS, TYPES
from layerflow.jit.language_flow import Assigned, Code, Frame, branch, loop
from layerflow.jit.language_numeric import FUNCTIONS, invert, negate
from layerflow.jit.language_types import I64, Pointer, Type, Value
from layerflow.jit.target import Target

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
VERSION = 1  # of the lowering: raise it when the same source would give other IR
FAST = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Function:
    """A parsed top-level function: a kernel, or an inline one."""

    def __init__(self, node: ast.FunctionDef):
        self.name = node.name
        self.parameters = [a.arg for a in node.args.args]
        body = node.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        self.inline = bool(body) and _called(body[0]) == "inline"
        self.line = node.lineno
        self.body = block(body[1:] if self.inline else body)


def _called(node: ast.AST) -> str | None:
    """The name of the function in a bare call statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
        return node.value.func.id
    return None


def parse(source: str) -> dict[str, Function]:
    """The functions of a source text by name."""
    functions = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            try:
                functions[node.name] = Function(node)
            except CompileError as error:
                raise CompileError(f"{node.name}: {error}") from None
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise CompileError(f"line {node.lineno}: only functions stand at the top level")
    return functions


# --- statements --------------------------------------------------------------------


def block(nodes: list[ast.stmt]) -> Code:
    """Runs statements in order; one that ends the function gives True."""
    codes = [statement(n) for n in nodes]

    def run(f: Frame) -> bool | None:
        for code, line in codes:
            f.line = line
            if code(f):
                return True
        return None

    return run


def statement(node: ast.stmt) -> tuple[Code, int]:
    make = STATEMENTS.get(type(node))
    if make is None:
        raise CompileError(f"line {node.lineno}: {type(node).__name__} is not part of the language")
    return make(node), node.lineno


def _assign(node: ast.Assign) -> Code:
    value = expression(node.value)
    stores = [target(t) for t in node.targets]
    if len(stores) == 1:
        (store,) = stores
        return lambda f: store(f, value(f))

    def run(f: Frame) -> None:
        result = value(f)
        for put in stores:
            put(f, result)

    return run


def _augmented(node: ast.AugAssign) -> Code:
    read = expression(ast.copy_location(_as_load(node.target), node))
    op, value, store = OPERATORS[type(node.op)], expression(node.value), target(node.target)
    return lambda f: store(f, f.builder.binary(op, read(f), value(f)))


def _as_load(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Name):
        return ast.Name(node.id, ast.Load())
    assert isinstance(node, ast.Subscript)
    return ast.copy_location(ast.Subscript(node.value, node.slice, ast.Load()), node)


def target(node: ast.expr) -> Callable[[Frame, Any], None]:
    """What puts a value into a variable, an element of a local array or of memory."""
    if isinstance(node, ast.Name):
        name = node.id

        def put(f: Frame, value: Any) -> None:
            f.scope[name] = value

        return put
    if isinstance(node, ast.Tuple):
        parts = [target(t) for t in node.elts]

        def unpack(f: Frame, value: Any) -> None:
            for part, item in zip(parts, value, strict=True):
                part(f, item)

        return unpack
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return _element_target(node.value.id, expression(node.slice))
    raise CompileError(f"line {node.lineno}: cannot assign to {ast.unparse(node)}")


def _element_target(name: str, index: Code) -> Callable[[Frame, Any], None]:
    def put(f: Frame, value: Any) -> None:
        where = f.scope.get(name)
        at = index(f)
        if isinstance(where, Pointer):
            b = f.builder
            if isinstance(value, Value) and value.type is not where.element:
                raise CompileError(f"store of {value!r} through {where!r}: cast it")
            b.store(where, at, b.typed(value, where.element))
            return
        f.scope[(name, *at) if isinstance(at, tuple) else (name, static(at))] = value

    return put


def static(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise CompileError(f"{value!r} must be known when the code is made")


def _expression_statement(node: ast.Expr) -> Code:
    if isinstance(node.value, ast.Constant):
        return lambda f: None
    if _called(node) == "lanes":
        assert isinstance(node.value, ast.Call)
        count = expression(node.value.args[0])

        def set_lanes(f: Frame) -> None:
            f.builder.lanes = static(count(f))

        return set_lanes
    code = expression(node.value)

    def run(f: Frame) -> None:
        code(f)

    return run


def _for(node: ast.For) -> Code:
    call = node.iter
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and isinstance(node.target, ast.Name) and not node.orelse):
        raise CompileError(f"line {node.lineno}: a loop is `for name in range(...)` or `static(...)`")
    name, kind, body = node.target.id, call.func.id, block(node.body)
    bounds = [expression(a) for a in call.args]
    if kind == "static":

        def unroll(f: Frame) -> None:
            for value in range(*(static(bound(f)) for bound in bounds)):
                f.scope[name] = value
                body(f)

        return unroll
    if kind != "range":
        raise CompileError(f"line {node.lineno}: a loop over {kind}")
    assigned = assigned_by(node.body)

    def run(f: Frame) -> None:
        values = [bound(f) for bound in bounds]
        start, stop, step = (0, values[0], 1) if len(values) == 1 else (*values, 1)[:3]
        step = static(step)
        if isinstance(start, int) and isinstance(stop, int):
            trips = len(range(start, stop, step))
            if trips <= 1:
                if trips:
                    f.scope[name] = start
                    body(f)
                return
        loop(f, assigned, (name, start, stop, step), None, body)

    return run


def _while(node: ast.While) -> Code:
    test, body, assigned = expression(node.test), block(node.body), assigned_by(node.body)
    return lambda f: loop(f, assigned, None, test, body)


def assigned_by(nodes: list[ast.stmt]) -> Assigned:
    """Every name and local array that the statements may assign."""
    names, arrays = set(), set()
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                arrays.add(node.value.id)
    return Assigned(frozenset(names), frozenset(arrays))


def _if(node: ast.If) -> Code:
    test, then = expression(node.test), block(node.body)
    other = block(node.orelse) if node.orelse else None

    def run(f: Frame) -> bool | None:
        condition = test(f)
        if not isinstance(condition, Value):
            return then(f) if condition else other(f) if other else None
        branch(f, f.builder.condition(condition), then, other)
        return None

    return run


def _return(node: ast.Return) -> Code:
    value = expression(node.value) if node.value is not None else None

    def run(f: Frame) -> bool:
        f.result = value(f) if value else None
        return True

    return run


STATEMENTS: dict[type[ast.AST], Callable[[Any], Code]] = {
    ast.Assign: _assign,
    ast.AugAssign: _augmented,
    ast.Expr: _expression_statement,
    ast.For: _for,
    ast.While: _while,
    ast.If: _if,
    ast.Return: _return,
    ast.Pass: lambda node: lambda f: None,
}

# --- expressions -------------------------------------------------------------------


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


def invoke(f: Frame, function: Function, arguments: list[Any]) -> Any:
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

# --- modules -------------------------------------------------------------------------


class Functions(dict[str, Function]):
    """Functions of a source; others come from the library of mathematical functions."""

    def __missing__(self, name: str) -> Function:
        function = library_function(name)
        if function is None:
            raise CompileError(f"unknown function {name}")
        return function


@functools.cache
def library_function(name: str) -> Function | None:
    """A function of layerflow.jit.libm, parsed when it is first used."""
    text = libm.texts().get(name)
    return parse(text)[name] if text else None


class Module:
    """Text of one module under construction."""

    def __init__(self, functions: Functions, target: Target):
        self.functions = functions
        self.target = target
        self.declarations: dict[str, str] = {}
        self.defined: list[str] = []

    def declare(self, name: str, signature: str) -> None:
        self.declarations[name] = signature

    def define(self, function: Function) -> None:
        builder = Builder(self.declare, self.target.has_avx512)
        frame = Frame(builder, self.functions)
        for parameter in function.parameters:
            frame.scope[parameter] = Value(I64, f"%{parameter}", 0, True)
        try:
            function.body(frame)
        except CompileError as error:
            raise CompileError(f"{function.name}, line {frame.line}: {error}") from None
        head = ", ".join(f"i64 %{p}" for p in function.parameters)
        self.defined.append("\n".join([f"define void @{function.name}({head}) #0 {{", "entry:", *builder.lines, "  ret void", "}", ""]))

    def text(self) -> str:
        declared = [f"declare {signature}" for signature in self.declarations.values()]
        return "\n".join([*self.defined, *declared, f"attributes #0 = {{ {self.target.attributes} }}", ""])


def lower(source: str, target: Target) -> str:
    """The IR text of a module with one function for each kernel of `source`.

    Raises:
        CompileError: the source is not in the language; it names function and line.
    """
    functions = parse(source)
    module = Module(Functions(functions), target)
    for function in functions.values():
        if not function.inline:
            module.define(function)
    return module.text()
