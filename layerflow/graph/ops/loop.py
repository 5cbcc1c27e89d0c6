"""Loop: one step of a recurrence traced once, run for every position of a sequence.

The body is a graph of its own.  What it takes from outside and what does not change from step to step becomes an
operand of the loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ir import Graph, substitute, topological
from layerflow.graph.ops import movement, reduction
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.shapes import Extent, Shape
from layerflow.graph.symbolic import INPUT, LITERAL, Kind, Op, SymbolicTensor


class LoopPrimitive:
    """`loop` and `loop_part`: recorded by this module, run by whoever runs graphs."""

    def __init__(self, name: str, kind: Kind):
        self.name, self.kind = name, kind
        self.rule: Callable | None = None


loop_p = LoopPrimitive("loop", Kind.LOOP)
part_p = LoopPrimitive("loop_part", Kind.LOOP)


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """One step.  Inputs of the graph: a slice of each sequence, the states, then what all steps share.  Outputs: the
    new states, then what is kept of each step."""

    graph: Graph

    @cached_property
    def signature(self) -> str:
        return self.graph.signature

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and other.signature == self.signature

    def __hash__(self) -> int:
        return hash(self.signature)

    def __lt__(self, other: Body) -> bool:
        return self.signature < other.signature

    def __str__(self) -> str:
        return self.signature[:8]

    def is_per_sample(self, own: int) -> bool:
        """Whether everything that changes from step to step belongs to a sample; the first `own` inputs change."""
        varies = set(self.graph.inputs[:own])
        for op in self.graph.ops:
            if any(i in varies for i in op.inputs):
                varies.add(op)
        return all(is_sampled(op.shape) for op in varies)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Cotangents of a loop's results by number."""

    cotangents: Mapping[int, SymbolicTensor]

    def __add__(self, other: Parts) -> Parts:
        both = dict(self.cotangents)
        for at, g in other.cotangents.items():
            both[at] = both[at] + g if at in both else g
        return Parts(both)


def scan(
    f: Callable[..., tuple[Any, Any]],
    states: Sequence[Any],
    sequences: Sequence[Any],
    reverse: bool = False,
    length: int | None = None,
) -> tuple[list[Any], list[Any]]:
    """`states, values = f(states, slices)` for every step of sequences, one after the other.

    Args:
        f: takes the list of states and the list of the sequences' slices [batch, ...] at one step, and returns the new
            states (of the same shapes) and a list of values to keep.  It is traced once.
        states: what the first step starts from, [batch, ...].
        sequences: [batch, steps, ...], or [steps]: one number a step for all samples.
        reverse: from the last step to the first.
        length: number of steps, needed if there are no sequences.

    Returns:
        The states after the last step, and each kept value for all steps, [batch, steps, ...]: where a step's slices
        were, its values are, whatever the direction.

    Raises:
        ShapeError: sequences of different or unknown lengths, or a state that changes its shape or type.
    """
    steps = _length(sequences, length)
    if not any(map(symbolic.is_symbolic, (*states, *sequences))):
        return _eagerly(f, list(states), sequences, shapes.static(steps), reverse)
    given, starts = [as_op(x) for x in sequences], [as_op(s) for s in states]
    slices = [SymbolicTensor(named_input(slice_shape(x.shape), x.dtype, f"slice{i}")) for i, x in enumerate(given)]
    before = [SymbolicTensor(body_input(s, f"state{i}")) for i, s in enumerate(starts)]
    new, kept = f(list(before), list(slices))
    outputs = [*(as_op(s, b.dtype) for s, b in zip(new, before, strict=True)), *map(as_op, kept)]
    for i, (op, start) in enumerate(zip(outputs, starts, strict=False)):
        if op.shape != start.shape or op.dtype != start.dtype:
            raise ShapeError(
                f"scan: state {i} starts as {shapes.text(start.shape)} {start.dtype} and is "
                f"{shapes.text(op.shape)} {op.dtype} after a step; it must stay the same."
            )
    results = record([x.op for x in slices], [s.op for s in before], outputs, given, starts, steps, reverse)
    return results[: len(starts)], results[len(starts) :]


def _length(sequences: Sequence[Any], length: Extent | None) -> Extent:
    found = {_steps_of(reduction.shape_of(x)) for x in sequences} | ({length} if length is not None else set())
    steps = next(iter(found), None)
    if len(found) == 1 and steps is not None:
        return steps
    listed = ", ".join(shapes.text(reduction.shape_of(x)) for x in sequences) or "none"
    wanted = "" if length is None else f" and length={length}"
    raise ShapeError(f"scan: sequences need one number of steps (axis 1), got {listed}{wanted}.")


def _steps_of(shape: Shape) -> Extent:
    return shape[min(1, len(shape) - 1)] if shape else 0


def slice_shape(shape: Shape) -> Shape:
    """What a step sees of a sequence [batch, steps, ...], or of numbers [steps] that all samples share."""
    return (shape[0], *shape[2:]) if len(shape) > 1 else ()


def stack_shape(shape: Shape, length: Extent) -> Shape:
    """What a value of one step is for all of them."""
    return (shape[0], length, *shape[1:]) if shape else (length,)


def _eagerly(f: Callable, states: list[Any], sequences: Sequence[Any], length: int, reverse: bool) -> Any:
    steps: list[list[Any]] = []
    for t in reversed(range(length)) if reverse else range(length):
        states, kept = f(states, [x[t] if len(x.shape) == 1 else x[:, t] for x in sequences])
        steps.append(list(kept))
    ordered = steps[::-1] if reverse else steps
    return list(states), [
        movement.stack(values, min(1, len(reduction.shape_of(values[0])))) for values in zip(*ordered, strict=True)
    ]


# --- recording ---------------------------------------------------------------


def record(
    slices: Sequence[Op], before: Sequence[Op], outputs: Sequence[Op], sequences: Sequence[Op], starts: Sequence[Op],
    length: Extent, reverse: bool,
) -> list[SymbolicTensor]:  # fmt: skip
    """The results of a loop whose step computes `outputs` (new states, kept values) from `slices` and `before`."""
    own = {*slices, *before}
    shared = _invariants(outputs, own)
    inside = [body_input(op, f"shared{i}") for i, op in enumerate(shared)]
    body = substitute(outputs, dict(zip(shared, inside, strict=True)), rebuild)
    graph = Graph((*slices, *before, *inside), tuple(body))
    return loop_of(graph, (*sequences, *starts, *shared), (len(sequences), len(starts)), length, reverse)


def loop_of(
    graph: Graph, operands: Sequence[Op], counts: tuple[int, int], length: Extent, reverse: bool
) -> list[SymbolicTensor]:
    """The results of a loop over a given body with so many sequences and states."""
    sequences, states = counts
    attrs = {"body": Body(graph), "length": length, "reverse": reverse, "sequences": sequences, "states": states}
    loop = symbolic.intern(loop_p, operands, attrs, (), np.dtype(np.float32))
    results = []
    for at, op in enumerate(graph.outputs):
        shape = op.shape if at < states else stack_shape(op.shape, length)
        results.append(SymbolicTensor(symbolic.intern(part_p, (loop,), {"at": at}, shape, op.dtype)))
    return results


def body_input(like: Op, name: str) -> Op:
    """What stands in a body for a value of this shape and type from outside."""
    return named_input(like.shape, like.dtype, name)


def named_input(shape: Shape, dtype: np.dtype, name: str) -> Op:
    return Op(INPUT, (), {"name": name}, shape, dtype)


def rebuild(op: Op, inputs: tuple[Op, ...]) -> Op:
    return symbolic.intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)


def _invariants(outputs: Sequence[Op], own: set[Op]) -> list[Op]:
    """What a step reads and does not change from step to step: computed once, outside."""
    varies: set[Op] = set()
    order = topological(outputs)
    for op in order:
        if op in own or any(i in varies for i in op.inputs):
            varies.add(op)
    read = [i for op in order if op in varies for i in op.inputs if i not in varies]
    read += [op for op in outputs if op not in varies]
    return [op for op in dict.fromkeys(read) if not is_number(op)]


def is_number(op: Op) -> bool:
    """Whether a value is a number of the code, also spread over a shape."""
    while op.primitive.kind is Kind.MOVE and len(op.inputs) == 1:
        op = op.inputs[0]
    return op.primitive is LITERAL


def is_sampled(shape: Shape) -> bool:
    return bool(shape) and shapes.is_batch(shape[0])
