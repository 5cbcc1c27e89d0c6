"""The kernel language: a restricted Python, lowered straight to LLVM IR text.

Source is parsed once into closures, which are then run for every (unrolled) statement: a loop over `static(n)` runs
its body's closures n times with a Python integer.  Functions whose first statement is `inline()` are lowered at each
call; those of layerflow.jit.libm and winograd_transforms are there without an import.  Functions: language_calls and
language_numeric.
"""

from __future__ import annotations

import functools

from layerflow.errors import CompileError
from layerflow.jit import libm, winograd_transforms
from layerflow.jit.language_builder import Builder
from layerflow.jit.language_flow import Frame
from layerflow.jit.language_statements import Function, parse
from layerflow.jit.language_types import I64, Value
from layerflow.jit.target import Target


class Functions(dict[str, Function]):
    """Functions of a source; others come from the library of mathematical functions."""

    def __missing__(self, name: str) -> Function:
        function = library_function(name)
        if function is None:
            raise CompileError(f"unknown function {name}")
        return function


@functools.cache
def library_function(name: str) -> Function | None:
    """A function of libm or of winograd_transforms, parsed when it is first used."""
    text = libm.texts().get(name) or winograd_transforms.texts().get(name)
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
        self.defined.append(
            "\n".join([f"define void @{function.name}({head}) #0 {{", "entry:", *builder.lines, "  ret void", "}", ""])
        )

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
