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

from layerflow.errors import ShapeError, TraceError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ir import Graph, substitute, topological
from layerflow.graph.ops import movement, reduction
from layerflow.graph.ops.primitive import as_op, is_simple, placeholder
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
    f: Callable[..., tuple[Any, Any]], states: Sequence[Any], sequences: Sequence[Any], reverse: bool = False
) -> tuple[list[Any], list[Any]]:
    """`states, values = f(states, slices)` for every step of sequences, one after the other.

    Args:
        f: takes the list of states and the list of the sequences' slices [batch, ...] at one step, and returns the new
            states (of the same shapes) and a list of values to keep.  It is traced once.
        states: what the first step starts from, [batch, ...].
        sequences: [batch, steps, ...].
        reverse: from the last step to the first.

    Returns:
        The states after the last step, and each kept value for all steps, [batch, steps, ...]: where a step's slices
        were, its values are, whatever the direction.

    Raises:
        ShapeError: sequences of different or unknown lengths, or a state that changes its shape or type.
    """
    length = _length(sequences)
    if not any(map(symbolic.is_symbolic, (*states, *sequences))):
        return _eagerly(f, list(states), sequences, length, reverse)
    given, starts = [as_op(x) for x in sequences], [as_op(s) for s in states]
    slices = [placeholder((x.shape[0], *x.shape[2:]), x.dtype, f"slice{i}") for i, x in enumerate(given)]
    before = [placeholder(s.shape, s.dtype, f"state{i}") for i, s in enumerate(starts)]
    new, kept = f(list(before), list(slices))
    outputs = [*(as_op(s, b.dtype) for s, b in zip(new, before, strict=True)), *map(as_op, kept)]
    for i, (op, start) in enumerate(zip(outputs, starts, strict=False)):
        if op.shape != start.shape or op.dtype != start.dtype:
            raise ShapeError(
                f"scan: state {i} starts as {shapes.text(start.shape)} {start.dtype} and is "
                f"{shapes.text(op.shape)} {op.dtype} after a step; it must stay the same."
            )
    results = record([x.op for x in slices], [s.op for s in before], outputs, given, starts, reverse)
    return results[: len(starts)], results[len(starts) :]


def _length(sequences: Sequence[Any]) -> int:
    lengths = {reduction.shape_of(x)[1] for x in sequences}
    if len(lengths) != 1 or not isinstance(next(iter(lengths)), int):
        found = ", ".join(shapes.text(reduction.shape_of(x)) for x in sequences)
        raise ShapeError(f"scan: sequences need one known number of steps (axis 1), got {found}.")
    return int(next(iter(lengths)))


def _eagerly(f: Callable, states: list[Any], sequences: Sequence[Any], length: int, reverse: bool) -> Any:
    steps: list[list[Any]] = []
    for t in reversed(range(length)) if reverse else range(length):
        states, kept = f(states, [x[:, t] for x in sequences])
        steps.append(list(kept))
    ordered = steps[::-1] if reverse else steps
    return list(states), [movement.stack(values, 1) for values in zip(*ordered, strict=True)]


# --- recording ---------------------------------------------------------------


def record(
    slices: Sequence[Op], before: Sequence[Op], outputs: Sequence[Op], sequences: Sequence[Op], starts: Sequence[Op],
    reverse: bool,
) -> list[SymbolicTensor]:  # fmt: skip
    """The results of a loop whose step computes `outputs` (new states, kept values) from `slices` and `before`."""
    own = {*slices, *before}
    shared = _invariants(outputs, own)
    inside = [placeholder(op.shape, op.dtype, f"shared{i}").op for i, op in enumerate(shared)]
    body = substitute(outputs, dict(zip(shared, inside, strict=True)), _rebuild)
    graph = Graph((*slices, *before, *inside), tuple(body))
    return loop_of(graph, (*sequences, *starts, *shared), len(sequences), len(starts), reverse)


def loop_of(graph: Graph, operands: Sequence[Op], sequences: int, states: int, reverse: bool) -> list[SymbolicTensor]:
    """The results of a loop over a given body."""
    length = operands[0].shape[1]
    attrs = {"body": Body(graph), "length": length, "reverse": reverse, "sequences": sequences, "states": states}
    loop = symbolic.intern(loop_p, operands, attrs, (), np.dtype(np.float32))
    results = []
    for at, op in enumerate(graph.outputs):
        shape = op.shape if at < states else (op.shape[0], length, *op.shape[1:])
        results.append(SymbolicTensor(symbolic.intern(part_p, (loop,), {"at": at}, shape, op.dtype)))
    return results


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
        # A loop without a batch adds up everything as it goes.
        batched = any(_is_sampled(x.shape) for x in self.body.inputs)
        samples = [k for k in self.shared if k in pulled and (_is_sampled(k.shape) or not batched)]
        sums = {k: self._sum(k, pulled[k].op) for k in self.shared if k in pulled and k not in samples}
        add = {k: placeholder(k.shape, k.dtype, f"gsum{i}") for i, k in enumerate(samples)}
        new = [pulled[self.before[at]].op if self.before[at] in pulled else _zeros(self.before[at]) for at in carried]
        new += [(add[k] + pulled[k]).op for k in samples]
        wanted = [x for x in self.slices if x in pulled]
        values = [pulled[x].op for x in wanted]
        marks = {x.op for x in (*seeds.values(), *given.values())}
        moving = [v for v in self.stacked if _depends(v, marks)]
        roots = [*new, *values, *moving]
        self._keep(roots, marks)
        self._keep([v for v in self.stacked if v not in moving], marks, whole=True)
        return self._assembled(roots, seeds, given, add, wanted, moving, sums)

    def _arriving(self, at: int, what: str) -> SymbolicTensor:
        """The symbol for the cotangent of an output of one step."""
        op = self.body.outputs[at]
        return placeholder(op.shape, op.dtype, f"g{what}{at}")

    def _pulled(self, seeds: Mapping[int, SymbolicTensor]) -> dict[Op, SymbolicTensor]:
        """Cotangents of the body's inputs in terms of the step's values and of the cotangents that arrive."""
        targets = [(self.body.outputs[at], seed) for at, seed in seeds.items()]
        sources = [x for x in self.body.inputs if x.dtype.kind == "f"]
        found = PULLBACK[0](targets, sources)
        return {x: g for x, g in zip(sources, found, strict=True) if g is not None}

    # --- sums over steps -----------------------------------------------------

    def _sum(self, shared: Op, gradient: Op) -> Callable[[Callable[[Op], Op]], Op]:
        """How the gradient of something that all steps share is made outside, from operands stacked over the steps."""
        folds = self._folds(shared, gradient)
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

    def _folds(self, shared: Op, gradient: Op) -> list[Op]:
        """The sums over samples that a gradient is made of."""
        found: dict[Op, None] = {}
        stack = [gradient]
        while stack:
            op = stack.pop()
            if any(_is_sampled(i.shape) for i in op.inputs):
                if op.primitive.kind not in (Kind.CONTRACT, Kind.REDUCE) or "shards" in op.attrs:
                    raise TraceError(
                        f"scan: the gradient of a value of shape {shapes.text(shared.shape)} that all steps share "
                        f"goes through {op.name}, which cannot be summed over the steps; give each sample its own."
                    )
                found[op] = None
            elif op.primitive.kind is not Kind.LEAF:
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

    def _assembled(self, roots, seeds, given, add, wanted, moving, sums) -> tuple[Any, ...]:
        attrs = self.loop.attrs
        graph = Graph(self.body.inputs, (*self.body.outputs, *self.kept))
        results = loop_of(graph, self.loop.inputs, self.n, self.m, attrs["reverse"])
        stacks = dict(zip(self.kept, (r.op for r in results[len(self.body.outputs) :]), strict=True))
        stacks.update((x, self.outer[x]) for x in self.slices)
        inside = {op: placeholder(op.shape, op.dtype, f"kept{i}").op for i, op in enumerate(self.kept)}
        outputs = substitute(roots, inside, _rebuild)
        used = {op for op in topological(outputs) if op.primitive is INPUT}
        slices = [(x, stacks[x]) for x in self.slices if x in used]
        slices += [(inside[op], stacks[op]) for op in self.kept if inside[op] in used]
        slices += [(given[at].op, self.cotangents[at].op) for at in given]
        states = [(seeds[at].op, self._start(at)) for at in seeds]
        states += [(add[k].op, _zeros(self.outer[k])) for k in add]
        shared = [(k, self.outer[k]) for k in self.shared if k in used]
        body = Graph(tuple(x for x, _ in (*slices, *states, *shared)), tuple(outputs))
        operands = [x for _, x in (*slices, *states, *shared)]
        done = loop_of(body, operands, len(slices), len(states), not attrs["reverse"])
        finals = dict(zip((*(self.before[at] for at in seeds), *add), done, strict=False))
        rest = done[len(states) :]
        finals.update(zip(wanted, rest, strict=False))
        stacks.update(zip(moving, (r.op for r in rest[len(wanted) :]), strict=True))
        finals.update((k, SymbolicTensor(outside(stacks.__getitem__))) for k, outside in sums.items())
        return tuple(finals.get(x) for x in self.body.inputs)

    def _start(self, at: int) -> Op:
        found = self.cotangents.get(at)
        return found.op if found is not None else _zeros(self.outer[self.before[at]])


def _depends(op: Op, marks: set[Op]) -> bool:
    return any(x in marks for x in topological([op]))


def _is_sampled(shape: Shape) -> bool:
    return bool(shape) and isinstance(shape[0], Dim)


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
