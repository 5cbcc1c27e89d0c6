"""Graph: inputs, outputs and variable updates of a traced computation in topological order, printable, checkable."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

from layerflow.errors import TraceError
from layerflow.graph import shapes
from layerflow.graph.symbolic import CONSTANT, INPUT, LITERAL, PARAMETER, Kind, Op


def terms(op: Op, within: Callable[[Op], bool] = lambda inner: True) -> list[Op]:
    """What a sum of values of one shape adds up, also in the sums among its terms for which `within` holds; of
    anything else, that."""
    if op.name != "add":
        return [op]
    inner = [x for x in op.inputs if x.name == "add" and x.shape == op.shape and within(x)]
    return [t for x in op.inputs for t in (terms(x, within) if x in inner else [x])]


def depending(order: Iterable[Op], sources: Collection[Op]) -> set[Op]:
    """Which of `order`, where each op comes after its inputs, are among the sources or depend on them."""
    found: set[Op] = set()
    for op in order:
        if op in sources or any(x in found for x in op.inputs):
            found.add(op)
    return found


def topological(roots: Iterable[Op]) -> list[Op]:
    """Every op the roots need, each after its inputs; the order depends only on the structure."""
    order: list[Op] = []
    done: set[Op] = set()
    stack = [(op, False) for op in reversed(list(roots))]
    while stack:
        op, ready = stack.pop()
        if op in done:
            continue
        if ready:
            done.add(op)
            order.append(op)
            continue
        stack.append((op, True))
        stack.extend((i, False) for i in reversed(op.inputs) if i not in done)
    return order


@dataclasses.dataclass(frozen=True)
class Graph:
    """A computation: `outputs` and new values of variables (`updates`) as functions of the leaves.

    `inputs` lists the leaves that the caller feeds, in the order of its arguments.
    """

    inputs: tuple[Op, ...]
    outputs: tuple[Op, ...]
    updates: tuple[tuple[Op, Op], ...] = ()

    @cached_property
    def roots(self) -> tuple[Op, ...]:
        return (*self.outputs, *(value for _, value in self.updates))

    @cached_property
    def ops(self) -> list[Op]:
        """All ops in topological order, inputs first."""
        return topological((*self.inputs, *(p for p, _ in self.updates), *self.roots))

    @cached_property
    def parameters(self) -> list[Op]:
        return [op for op in self.ops if op.primitive is PARAMETER]

    @cached_property
    def constants(self) -> list[Op]:
        return [op for op in self.ops if op.primitive is CONSTANT]

    @cached_property
    def free_inputs(self) -> list[Op]:
        """Input leaves that are not arguments (seed, step, learning rate): the executable sets them by name."""
        return [op for op in self.ops if op.primitive is INPUT and op not in self.inputs]

    def with_roots(self, roots: Sequence[Op]) -> Graph:
        """The same graph with other values in place of its roots, in order."""
        n = len(self.outputs)
        updates = tuple((p, v) for (p, _), v in zip(self.updates, roots[n:], strict=True))
        return Graph(self.inputs, tuple(roots[:n]), updates)

    def users(self) -> dict[Op, list[Op]]:
        found: dict[Op, list[Op]] = {op: [] for op in self.ops}
        for op in self.ops:
            for i in op.inputs:
                found[i].append(op)
        return found

    def text(self) -> str:
        """One line an op: `%3 = add [B,32] float32 (%1, %2)  # layer`."""
        names = {op: f"%{i}" for i, op in enumerate(self.ops)}
        lines = [_line(op, names) for op in self.ops]
        lines += [f"output {names[op]}" for op in self.outputs]
        lines += [f"update {names[p]} <- {names[v]}" for p, v in self.updates]
        return "\n".join(lines)

    @cached_property
    def signature(self) -> str:
        """Hash of the structure: equal for graphs that differ only in data and names."""
        return self._digest(lambda op, names: _line(op, names, structure=True))

    @property
    def skeleton(self) -> str:
        """Hash of the structure without the values of its float literals."""

        def line(op: Op, names: dict[Op, str]) -> str:
            is_float = op.primitive is LITERAL and op.dtype.kind == "f"
            return f"{names[op]} = {op.dtype}" if is_float else _line(op, names, structure=True)

        return self._digest(line)

    def _digest(self, line: Callable[[Op, dict[Op, str]], str]) -> str:
        names = {op: f"%{i}" for i, op in enumerate(self.ops)}
        lines = [line(op, names) for op in self.ops]
        lines += [f"in {names[op]}" for op in self.inputs] + [f"out {names[op]}" for op in self.outputs]
        lines += [f"up {names[p]} {names[v]}" for p, v in self.updates]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _line(op: Op, names: dict[Op, str], structure: bool = False) -> str:
    extents = ",".join(map(str, op.shape))
    if op.primitive is LITERAL:
        return f"{names[op]} = {op.attrs['value']!r} {op.dtype}"
    label = ""
    if op.primitive is PARAMETER:
        pitch = op.payload._storage.strides if structure else op.payload.name
        label = f" {pitch}"
    elif op.primitive is INPUT:
        label = f" {op.attrs['name']}"
    elif op.attrs:
        label = " " + " ".join(f"{k}={_attribute(v)}" for k, v in op.attrs.items())
    operands = f" ({', '.join(names[i] for i in op.inputs)})" if op.inputs else ""
    tag = f"  # {op.layer}" if op.layer and not structure else ""
    return f"{names[op]} = {op.name} [{extents}] {op.dtype}{label}{operands}{tag}"


def _attribute(value: object) -> str:
    return "[" + ",".join(map(_attribute, value)) + "]" if isinstance(value, (tuple, list)) else str(value)


def verify(graph: Graph, after: str = "trace") -> None:
    """Checks that operands exist, shapes follow from the rules and updates fit their variables."""
    seen: set[Op] = set()
    for op in graph.ops:
        if any(i not in seen for i in op.inputs):
            raise TraceError(f"after {after}: {op!r} is used before it is computed.")
        seen.add(op)
        rule = getattr(op.primitive, "shape_rule", None)
        if op.primitive.kind is Kind.MAP:
            expected = shapes.broadcast(*[i.shape for i in op.inputs])
        elif rule is not None:
            attrs = {k: v for k, v in op.attrs.items() if k not in ("shards", "again")}
            expected = (*op.attrs.get("shards", ()), *rule(*[i.shape for i in op.inputs], **attrs))
        else:
            continue
        if expected != op.shape:
            raise TraceError(f"after {after}: {op!r} should have shape {shapes.text(expected)}.")
    for parameter, value in graph.updates:
        if parameter.shape != value.shape or parameter.dtype != value.dtype:
            raise TraceError(f"after {after}: update of {parameter.payload.name} with {value!r} does not fit.")


def substitute(roots: Sequence[Op], replace: dict[Op, Op], rebuild, always=lambda op: False) -> list[Op]:
    """The roots with ops replaced; `rebuild(op, inputs)` makes an op again when an input has changed, or `always`."""
    new: dict[Op, Op] = {}
    for op in topological(roots):
        if op in replace:
            new[op] = replace[op]
            continue
        inputs = tuple(new[i] for i in op.inputs)
        new[op] = op if inputs == op.inputs and not always(op) else rebuild(op, inputs)
    return [new[r] for r in roots]
