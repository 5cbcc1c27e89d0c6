"""Control flow of the kernel language: run-time loops and branches as basic blocks with phi nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layerflow.errors import CompileError
from layerflow.jit.language_builder import Builder
from layerflow.jit.language_types import B1, I64, Pointer, Value, constant

Key = str | tuple[Any, ...]  # a variable, or an element of a local array: (name, index, ...)
Scope = dict[Key, Any]
_CARRIED = (Value, Pointer, int, float)  # what can change at run time; types and tuples cannot


class Frame:
    """A function being lowered: its builder and what its names stand for now."""

    __slots__ = ("builder", "functions", "line", "result", "scope")

    def __init__(self, builder: Builder, functions: dict[str, Any]):
        self.builder = builder
        self.functions = functions
        self.scope: Scope = {}
        self.line = 0
        self.result: Any = None


Code = Callable[[Frame], Any]


class Assigned:
    """What a block of statements may assign: plain names, and names of local arrays."""

    def __init__(self, names: frozenset[str], arrays: frozenset[str]):
        self.names = names
        self.arrays = arrays

    def __contains__(self, key: Key) -> bool:
        return key in self.names if isinstance(key, str) else key[0] in self.arrays


def carried_value(b: Builder, key: Key, value: Any) -> Any:
    """A value that may change at run time: Python integers become i64."""
    if isinstance(value, bool):
        return Value(B1, constant(B1, value))
    if isinstance(value, int):
        return Value(I64, str(value))
    if isinstance(value, float):
        raise CompileError(f"{key} starts as the untyped number {value}: give it a type, like f32({value})")
    if isinstance(value, Value) and value.const:
        return Value(I64, b.text(value), 0, value.natural)
    return value


def coerce(b: Builder, key: Key, value: Any, model: Any) -> str:
    """The operand that gives a variable its next value; a variable keeps its first type."""
    if isinstance(model, Pointer):
        if not isinstance(value, Pointer):
            raise CompileError(f"{key} was {model!r} and becomes {value!r}")
        return value.text
    if isinstance(value, Value) and value.type is not model.type and value.type.lanes:
        raise CompileError(f"{key} was {model!r} and becomes {value!r}")
    return b.text(b.typed(value, model.type))


def _llvm(value: Any) -> str:
    return "ptr" if isinstance(value, Pointer) else value.type.llvm


def _renamed(value: Any, text: str) -> Any:
    return Pointer(value.element, text) if isinstance(value, Pointer) else Value(value.type, text)


def loop(f: Frame, assigned: Assigned, index: tuple[str, Any, Any, int] | None, test: Code | None, body: Code) -> None:
    """A run-time loop.

    Args:
        assigned: what the body may assign; of these, variables that exist before become phi nodes.
        index: (name, start, stop, step) of a `for`, None for a `while`.
        test: condition of a `while`.
        body: the statements.
    """
    b, before, known = f.builder, f.scope, f.builder.known
    changing = {k: carried_value(b, k, v) for k, v in before.items() if k in assigned and isinstance(v, _CARRIED)}
    start = carried_value(b, "range", index[1]) if index else None
    stop = b.text(b.typed(index[2], I64)) if index else ""
    entry, head, inside, after = b.label, b.fresh_label("head"), b.fresh_label("body"), b.fresh_label("exit")
    b.jump(head)
    b.known = dict(known)
    b.start(head)
    phis = {key: _renamed(value, b.fresh_name()) for key, value in changing.items()}
    f.scope = {**before, **phis}
    first = len(b.lines)
    b.lines.extend([""] * (len(phis) + (index is not None)))  # the phi nodes, known when the body is
    counter = ""
    if index and start:
        counter = b.fresh_name()
        more = Value(B1, b.emit(f"icmp {'slt' if index[3] > 0 else 'sgt'} i64 {counter}, {stop}"))
        natural = index[3] > 0 and (start.natural or (start.is_constant and int(start.text) >= 0))
        f.scope[index[0]] = Value(I64, counter, 0, natural)
    else:
        assert test is not None
        more = b.condition(test(f))
    at_head = f.scope
    f.scope = dict(at_head)
    b.branch(more, inside, after)
    b.start(inside)
    body(f)
    rows = [(p.text, _llvm(p), changing[k].text, coerce(b, k, f.scope[k], p)) for k, p in phis.items()]
    if index and start:
        rows.append((counter, "i64", start.text, b.emit(f"add nsw i64 {counter}, {index[3]}")))
    for at, (name, type, initial, latest) in enumerate(rows, first):
        b.lines[at] = f"  {name} = phi {type} [ {initial}, %{entry} ], [ {latest}, %{b.label} ]"
    b.jump(head)
    b.start(after)
    b.known = known
    f.scope = {k: at_head[k] if k in phis else v for k, v in before.items()}


def branch(f: Frame, condition: Value, then: Code, other: Code | None) -> None:
    """A run-time `if`; variables that exist before or on both sides go on as phi nodes."""
    b, before, known = f.builder, f.scope, f.builder.known
    sides: list[tuple[Scope, str, int]] = []
    labels = [b.fresh_label("then"), b.fresh_label("else"), b.fresh_label("join")]
    b.branch(condition, labels[0], labels[1])
    for label, code in zip(labels, (then, other), strict=False):
        b.start(label)
        b.known = dict(known)
        f.scope = dict(before)
        if code is not None:
            code(f)
        # Conversions that the join needs go here, before the jump that is written last.
        sides.append((f.scope, b.label, len(b.lines)))
        b.lines.append(f"  br label %{labels[2]}")
    b.known = known
    f.scope = _join(f, sides, labels[2])


def _join(f: Frame, sides: list[tuple[Scope, str, int]], label: str) -> Scope:
    b = f.builder
    (left, left_label, left_end), (right, right_label, right_end) = sides
    merged: Scope = {}
    pending = []
    for key, mine in left.items():
        if key not in right:
            continue
        theirs = right[key]
        if mine is theirs or (isinstance(mine, (int, float, str)) and type(mine) is type(theirs) and mine == theirs):
            merged[key] = mine
        else:
            pending.append((key, mine, theirs))
    extra: list[list[str]] = [[], []]
    rows = []
    for key, mine, theirs in pending:
        model = (
            mine
            if isinstance(mine, (Value, Pointer))
            else theirs
            if isinstance(theirs, (Value, Pointer))
            else carried_value(b, key, mine)
        )
        texts = []
        for side, value in enumerate((mine, theirs)):
            # Written elsewhere first: the instructions belong to the end of that side.
            lines, known, b.lines, b.known = b.lines, b.known, extra[side], {}
            texts.append(coerce(b, key, value, model))
            b.lines, b.known = lines, known
        rows.append((key, model, texts))
    b.lines[right_end:right_end] = extra[1]
    b.lines[left_end:left_end] = extra[0]
    b.start(label)
    for key, model, (x, y) in rows:
        text = b.emit(f"phi {_llvm(model)} [ {x}, %{left_label} ], [ {y}, %{right_label} ]")
        merged[key] = _renamed(model, text)
    return merged
