"""Statements and functions of the kernel language as closures that are run once for every (unrolled) occurrence."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_expressions import OPERATORS, expression, static
from layerflow.jit.language_flow import Assigned, Code, Frame, branch, loop
from layerflow.jit.language_types import Pointer, Value


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
    if not (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and isinstance(node.target, ast.Name)
        and not node.orelse
    ):
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
    names: set[str] = set()
    arrays: set[str] = set()
    _collect(nodes, names, arrays)
    return Assigned(frozenset(names), frozenset(arrays))


def _collect(nodes: list[ast.stmt], names: set[str], arrays: set[str]) -> None:
    # By statement, not by ast.walk: expressions assign nothing and are most of the tree.
    for node in nodes:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.For)):
            targets = [node.target]
        else:
            targets = []
        for one in targets:
            for part in one.elts if isinstance(one, ast.Tuple) else [one]:
                if isinstance(part, ast.Name):
                    names.add(part.id)
                elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
                    arrays.add(part.value.id)
        if isinstance(node, (ast.For, ast.While, ast.If)):
            _collect(node.body, names, arrays)
            _collect(node.orelse, names, arrays)


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
