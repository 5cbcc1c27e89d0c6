"""Loop: one step of a recurrence traced once, run for every position of a sequence.

The body is a graph of its own.  What it takes from outside and what does not change from step to step becomes an
operand of the loop.  The gradient is a loop in the other direction, over values that the forward loop keeps; sums over
steps and samples (gradients of weights) are taken out of it and made at once from stacked operands.
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
from layerflow.graph.ops.primitive import as_op, is_simple
from layerflow.graph.shapes import Dim, Extent, Shape
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
        return all(_is_sampled(op.shape) for op in varies)


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
    length = _length(sequences, length)
    if not any(map(symbolic.is_symbolic, (*states, *sequences))):
        return _eagerly(f, list(states), sequences, length, reverse)
    given, starts = [as_op(x) for x in sequences], [as_op(s) for s in states]
    slices = [SymbolicTensor(_input(slice_shape(x.shape), x.dtype, f"slice{i}")) for i, x in enumerate(given)]
    before = [SymbolicTensor(body_input(s, f"state{i}")) for i, s in enumerate(starts)]
    new, kept = f(list(before), list(slices))
    outputs = [*(as_op(s, b.dtype) for s, b in zip(new, before, strict=True)), *map(as_op, kept)]
    for i, (op, start) in enumerate(zip(outputs, starts, strict=False)):
        if op.shape != start.shape or op.dtype != start.dtype:
            raise ShapeError(
                f"scan: state {i} starts as {shapes.text(start.shape)} {start.dtype} and is "
                f"{shapes.text(op.shape)} {op.dtype} after a step; it must stay the same."
            )
    results = record([x.op for x in slices], [s.op for s in before], outputs, given, starts, length, reverse)
    return results[: len(starts)], results[len(starts) :]


def _length(sequences: Sequence[Any], length: int | None) -> int:
    lengths = {_steps_of(reduction.shape_of(x)) for x in sequences} | ({length} if length is not None else set())
    if len(lengths) != 1 or not isinstance(next(iter(lengths)), int):
        found = ", ".join(shapes.text(reduction.shape_of(x)) for x in sequences)
        wanted = "" if length is None else f" and length={length}"
        raise ShapeError(f"scan: sequences need one known number of steps (axis 1), got {found or 'none'}{wanted}.")
    return int(next(iter(lengths)))  # type: ignore[arg-type]


def _steps_of(shape: Shape) -> Extent:
    return shape[min(1, len(shape) - 1)] if shape else 0


def slice_shape(shape: Shape) -> Shape:
    """What a step sees of a sequence [batch, steps, ...], or of numbers [steps] that all samples share."""
    return (shape[0], *shape[2:]) if len(shape) > 1 else ()


def stack_shape(shape: Shape, length: int) -> Shape:
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
    length: int, reverse: bool,
) -> list[SymbolicTensor]:  # fmt: skip
    """The results of a loop whose step computes `outputs` (new states, kept values) from `slices` and `before`."""
    own = {*slices, *before}
    shared = _invariants(outputs, own)
    inside = [body_input(op, f"shared{i}") for i, op in enumerate(shared)]
    body = substitute(outputs, dict(zip(shared, inside, strict=True)), _rebuild)
    graph = Graph((*slices, *before, *inside), tuple(body))
    return loop_of(graph, (*sequences, *starts, *shared), (len(sequences), len(starts)), length, reverse)


def loop_of(
    graph: Graph, operands: Sequence[Op], counts: tuple[int, int], length: int, reverse: bool
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
    return _input(like.shape, like.dtype, name)


def _input(shape: Shape, dtype: np.dtype, name: str) -> Op:
    return Op(INPUT, (), {"name": name}, shape, dtype)


def _rebuild(op: Op, inputs: tuple[Op, ...]) -> Op:
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


# --- gradient ----------------------------------------------------------------

PULLBACK: list[Callable[..., list[SymbolicTensor | None]]] = []  # autodiff is above ops; it puts its function here


def _part_rule(g: Any, y: Any, loop: Any, at: int) -> Parts:
    return Parts({at: g})


def _loop_rule(g: Parts, y: SymbolicTensor, *operands: SymbolicTensor, **attrs: Any) -> tuple[Any, ...]:
    return _Backward(y.op, dict(g.cotangents)).results()


part_p.rule, loop_p.rule = _part_rule, _loop_rule


class _Backward:
    """The backward loop of one loop."""

    def __init__(self, loop: Op, cotangents: dict[int, SymbolicTensor]):
        self.loop, self.cotangents = loop, cotangents
        self.body: Graph = loop.attrs["body"].graph
        n, m = loop.attrs["sequences"], loop.attrs["states"]
        self.n, self.m = n, m
        inputs = self.body.inputs
        self.slices, self.before, self.shared = inputs[:n], inputs[n : n + m], inputs[n + m :]
        self.outer = dict(zip(inputs, loop.inputs, strict=True))
        # What each sum over steps and samples needs of the steps, and what the backward steps need of the forward ones.
        self.stacked: dict[Op, None] = {}
        self.kept: dict[Op, None] = {}

    def results(self) -> tuple[Any, ...]:
        """Cotangents of the loop's operands."""
        carried = [at for at in range(self.m) if self.before[at].dtype.kind == "f"]
        seeds = {at: self._arriving(at, "state") for at in carried}
        given = {at: self._arriving(at, "value") for at in self.cotangents if at >= self.m}
        pulled = self._pulled({**seeds, **given})
        marks = {x.op for x in (*seeds.values(), *given.values())}
        folds = {k: self._folds(k, pulled[k].op, marks) for k in self.shared if k in pulled}
        samples = [k for k, found in folds.items() if found is None]
        sums = {k: self._sum(pulled[k].op, found) for k, found in folds.items() if found is not None}
        add = {k: SymbolicTensor(body_input(k, f"gsum{i}")) for i, k in enumerate(samples)}
        new = [pulled[self.before[at]].op if self.before[at] in pulled else _zeros(self.before[at]) for at in carried]
        new += [(add[k] + pulled[k]).op for k in samples]
        wanted = [x for x in self.slices if x in pulled]
        values = [pulled[x].op for x in wanted]
        moving = [v for v in self.stacked if _depends(v, marks) and v not in values]
        roots = [*new, *values, *moving]
        self._keep(roots, marks)
        self._keep([v for v in self.stacked if not _depends(v, marks)], marks, whole=True)
        return self._assembled(roots, seeds, given, add, wanted, values, moving, sums)

    def _arriving(self, at: int, what: str) -> SymbolicTensor:
        """The symbol for the cotangent of an output of one step."""
        return SymbolicTensor(body_input(self.body.outputs[at], f"g{what}{at}"))

    def _pulled(self, seeds: Mapping[int, SymbolicTensor]) -> dict[Op, SymbolicTensor]:
        """Cotangents of the body's inputs in terms of the step's values and of the cotangents that arrive."""
        targets = [(self.body.outputs[at], seed) for at, seed in seeds.items()]
        sources = [x for x in self.body.inputs if x.dtype.kind == "f"]
        found = PULLBACK[0](targets, sources)
        return {x: _spread(g, x.shape) for x, g in zip(sources, found, strict=True) if g is not None}

    # --- sums over steps -----------------------------------------------------

    def _sum(self, gradient: Op, folds: Sequence[Op]) -> Callable[[Callable[[Op], Op]], Op]:
        """How the gradient of something that all steps share is made outside, from operands stacked over the steps."""
        for fold in folds:
            for operand in fold.inputs:
                if _is_sampled(operand.shape):
                    self.stacked[_unmerged(operand).op] = None

        def outside(stack: Callable[[Op], Op]) -> Op:
            replaced: dict[Op, Op] = {k: self.outer[k] for k in self.shared}
            for fold in folds:
                operands = tuple(
                    _merged(stack(_unmerged(x).op), x.shape)
                    if _is_sampled(x.shape)
                    else substitute([x], replaced, _rebuild)[0]
                    for x in fold.inputs
                )
                replaced[fold] = _rebuild(fold, operands)
            return substitute([gradient], replaced, _rebuild)[0]

        return outside

    def _folds(self, shared: Op, gradient: Op, marks: set[Op]) -> list[Op] | None:
        """The sums over samples that a gradient is made of; None if it has to be added up step by step."""
        if _is_sampled(shared.shape):
            return None
        found: dict[Op, None] = {}
        stack = [gradient]
        while stack:
            op = stack.pop()
            if any(_is_sampled(i.shape) for i in op.inputs):
                if op.primitive.kind not in (Kind.CONTRACT, Kind.REDUCE):
                    return None
                found[op] = None
            elif op in marks or op in self.slices or op in self.before:
                return None
            else:
                stack.extend(op.inputs)
        return sorted(found, key=lambda op: op.serial)

    # --- what is kept --------------------------------------------------------

    def _keep(self, roots: Sequence[Op], marks: set[Op], whole: bool = False) -> None:
        """Forward values that `roots` read: dear ones are kept, cheap ones are computed again from those."""
        stack, seen = list(roots), set()
        while stack:
            op = stack.pop()
            if op in seen or op in self.slices or op in self.shared:
                continue
            seen.add(op)
            dear = op.primitive.kind not in (Kind.MAP, Kind.MOVE) or not is_simple(op)
            forward = not _depends(op, marks)
            if op in self.before or (forward and (dear or whole) and self._is_inside(op)):
                self.kept[op] = None
            else:
                stack.extend(op.inputs)

    def _is_inside(self, op: Op) -> bool:
        return _depends(op, {*self.slices, *self.before})

    # --- putting it together -------------------------------------------------

    def _assembled(self, roots, seeds, given, add, wanted, values, moving, sums) -> tuple[Any, ...]:
        attrs = self.loop.attrs
        graph = Graph(self.body.inputs, (*self.body.outputs, *self.kept))
        results = loop_of(graph, self.loop.inputs, (self.n, self.m), attrs["length"], attrs["reverse"])
        stacks = dict(zip(self.kept, (r.op for r in results[len(self.body.outputs) :]), strict=True))
        stacks.update((x, self.outer[x]) for x in self.slices)
        inside = {op: body_input(op, f"kept{i}") for i, op in enumerate(self.kept)}
        outputs = substitute(roots, inside, _rebuild)
        used = {op for op in topological(outputs) if op.primitive is INPUT}
        slices = [(x, stacks[x]) for x in self.slices if x in used]
        slices += [(inside[op], stacks[op]) for op in self.kept if inside[op] in used]
        length = attrs["length"]
        for at in given:
            whole = _spread(self.cotangents[at], stack_shape(given[at].op.shape, length))
            slices.append((given[at].op, whole.op))
        states = [(seeds[at].op, self._start(at)) for at in seeds]
        states += [(add[k].op, _zeros(self.outer[k])) for k in add]
        shared = [(k, self.outer[k]) for k in self.shared if k in used]
        body = Graph(tuple(x for x, _ in (*slices, *states, *shared)), tuple(outputs))
        operands = [x for _, x in (*slices, *states, *shared)]
        done = loop_of(body, operands, (len(slices), len(states)), length, not attrs["reverse"])
        finals = dict(zip((*(self.before[at] for at in seeds), *add), done, strict=False))
        rest = done[len(states) :]
        stacks.update(zip(values, (r.op for r in rest), strict=False))
        finals.update(zip(wanted, rest, strict=False))
        stacks.update(zip(moving, (r.op for r in rest[len(wanted) :]), strict=True))
        finals.update((k, SymbolicTensor(outside(stacks.__getitem__))) for k, outside in sums.items())
        return tuple(finals.get(x) for x in self.body.inputs)

    def _start(self, at: int) -> Op:
        found, like = self.cotangents.get(at), self.outer[self.before[at]]
        return _zeros(like) if found is None else _spread(found, like.shape).op


def _depends(op: Op, marks: set[Op]) -> bool:
    return any(x in marks for x in topological([op]))


def _is_sampled(shape: Shape) -> bool:
    return bool(shape) and isinstance(shape[0], Dim)


def _spread(g: SymbolicTensor, shape: Shape) -> SymbolicTensor:
    """A cotangent in the shape of its value: rules may leave it narrower, for a map to broadcast."""
    return g if g.op.shape == shape else movement.broadcast_to(g, shape)


def _zeros(like: Op) -> Op:
    return movement.broadcast_to(SymbolicTensor(as_op(0.0, like.dtype)), like.shape).op


def _unmerged(op: Op) -> SymbolicTensor:
    """A value with one row a sample: rows [k B, ...] as [B, k, ...]."""
    lead = op.shape[0]
    assert isinstance(lead, Dim)
    shape: tuple[Extent, ...] = op.shape if lead.factor == 1 else (Dim(lead.symbol), lead.factor, *op.shape[1:])
    return SymbolicTensor(op) if lead.factor == 1 else movement.reshape(SymbolicTensor(op), shape)


def _merged(stack: Op, shape: Shape) -> Op:
    """A stack [B, steps, ...] with the steps among the rows, like the operand of this shape in one step."""
    lead, steps = shape[0], stack.shape[1]
    assert isinstance(lead, Dim)
    assert isinstance(steps, int)
    return movement.reshape(SymbolicTensor(stack), (Dim(lead.symbol, lead.factor * steps), *shape[1:])).op
