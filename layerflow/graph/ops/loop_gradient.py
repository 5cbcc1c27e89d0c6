"""The gradient of a loop: a loop in the other direction over values that the forward loop keeps.

Sums over steps and samples (gradients of weights) are taken out of it and made at once from stacked operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from layerflow.graph.ir import Graph, depending, substitute, terms, topological
from layerflow.graph.ops import movement
from layerflow.graph.ops.loop import Parts, body_input, is_sampled, loop_of, loop_p, part_p, rebuild, stack_shape
from layerflow.graph.ops.primitive import as_op, is_simple
from layerflow.graph.shapes import Dim, Extent, Shape, multiply, typical
from layerflow.graph.symbolic import INPUT, Kind, Op, SymbolicTensor, intern

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
        self.stacked: dict[Op, list[tuple[Op, Op]]] = {}  # value -> sums that read it, as which operand
        self.kept: dict[Op, None] = {}
        self.arriving: set[Op] = set()  # what depends on cotangents of later steps
        self.inside: set[Op] = set()  # what depends on the step

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
        everything = topological([*new, *values, *self.stacked])
        self.arriving = depending(everything, marks)
        self.inside = depending(everything, {*self.slices, *self.before})
        moving = [v for v in self.stacked if v in self.arriving and v not in values]
        pieces = {v: self._pieces(v, values) for v in moving}
        moving = list(dict.fromkeys(v for found in pieces.values() for v, _, _ in found if v not in values))
        roots = [*new, *values, *moving]
        self.kept = self._chosen(roots)
        self.kept |= self._needed([v for v in self.stacked if v not in self.arriving], whole=True)
        return self._assembled(roots, seeds, given, add, wanted, values, moving, pieces, sums)

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

    def _sum(self, gradient: Op, folds: Sequence[Op]) -> Callable[[Callable[[Op], list[Op]]], Op]:
        """How the gradient of something that all steps share is made outside, from operands stacked over the steps."""
        for fold in folds:
            for operand in fold.inputs:
                if is_sampled(operand.shape):
                    self.stacked.setdefault(_unmerged(operand).op, []).append((fold, operand))

        def outside(stacks: Callable[[Op], list[Op]]) -> Op:
            replaced: dict[Op, Op] = {k: self.outer[k] for k in self.shared}

            def given(x: Op) -> list[Op]:
                if is_sampled(x.shape):
                    return [_merged(stack, x.shape) for stack in stacks(_unmerged(x).op)]
                return substitute([x], replaced, rebuild)

            for fold in folds:
                replaced[fold] = _by_columns(fold, [given(x) for x in fold.inputs])
            return substitute([gradient], replaced, rebuild)[0]

        return outside

    def _folds(self, shared: Op, gradient: Op, marks: set[Op]) -> list[Op] | None:
        """The sums over samples that a gradient is made of; None if it has to be added up step by step."""
        if is_sampled(shared.shape):
            return None
        found: dict[Op, None] = {}
        stack = [gradient]
        while stack:
            op = stack.pop()
            if any(is_sampled(i.shape) for i in op.inputs):
                if op.primitive.kind not in (Kind.CONTRACT, Kind.REDUCE):
                    return None
                found[op] = None
            elif op in marks or op in self.slices or op in self.before:
                return None
            else:
                stack.extend(op.inputs)
        return sorted(found, key=lambda op: op.serial)

    def _pieces(self, value: Op, wholes: Sequence[Op]) -> list[tuple[Op, int, int | None]]:
        """The values, each with its first column and their number, that side by side are a value.

        What is among the columns of `wholes` is taken from there, if that is at least half and all that read the value
        can do so column by column.
        """
        found: list[tuple[Op, int, int]] = []
        for op in _columns(value):
            whole, first = next(((w, at) for w in wholes if (at := _column_of(op, w)) is not None), (op, 0))
            width = _width(op)
            if found and whole is found[-1][0] and first == sum(found[-1][1:]):
                width += found[-1][2]
                first = found.pop()[1]
            found.append((whole, first, width))
        shared = sum(width for whole, _, width in found if whole in wholes)
        if not shared or 2 * shared < _width(value) or (len(found) > 1 and not self._is_read_by_columns(value)):
            return [(value, 0, None)]
        return list(found)

    def _is_read_by_columns(self, value: Op) -> bool:
        return all(_keeps_columns(fold, operand) for fold, operand in self.stacked[value])

    # --- what is kept --------------------------------------------------------

    def _chosen(self, roots: Sequence[Op]) -> dict[Op, None]:
        """Forward values to keep for `roots`: parts of a value where only these are read of it."""
        best, parts = self._needed(roots), set()
        slices: dict[Op, set[Op]] = {}
        for op in topological(roots):
            if op.primitive.name == "slice" and op in self.inside and op not in self.arriving:
                slices.setdefault(op.inputs[0], set()).add(op)
        for of_one in slices.values():
            other = self._needed(roots, parts | of_one)
            if _size(other) < _size(best):
                best, parts = other, parts | of_one
        return best

    def _needed(self, roots: Sequence[Op], parts: Collection[Op] = (), whole: bool = False) -> dict[Op, None]:
        """Forward values that `roots` read: dear ones and `parts`, with `whole` all of them; others are made again."""
        stack, seen, found = list(roots), set(), {}
        while stack:
            op = stack.pop()
            if op in seen or op in self.slices or op in self.shared:
                continue
            seen.add(op)
            dear = whole or op in parts or _is_dear(op) or self._is_sum_of_kept(op)
            forward = op in self.inside and op not in self.arriving
            if op in self.before or (forward and dear):
                found[op] = None
            else:
                stack.extend(op.inputs)
        return found

    def _is_sum_of_kept(self, op: Op) -> bool:
        """Whether a sum takes the place of several values of steps that the backward loop would read for it."""
        added = [t for t in terms(op) if t not in self.shared]
        at_hand = all(_is_dear(t) or t in self.slices or t in self.before for t in added)
        return len(added) > 1 and at_hand and any(_is_dear(t) for t in added)

    # --- putting it together -------------------------------------------------

    def _assembled(self, roots, seeds, given, add, wanted, values, moving, pieces, sums) -> tuple[Any, ...]:
        attrs = self.loop.attrs
        graph = Graph(self.body.inputs, (*self.body.outputs, *self.kept))
        results = loop_of(graph, self.loop.inputs, (self.n, self.m), attrs["length"], attrs["reverse"])
        stacks = dict(zip(self.kept, (r.op for r in results[len(self.body.outputs) :]), strict=True))
        stacks.update((x, self.outer[x]) for x in self.slices)
        inside = {op: body_input(op, f"kept{i}") for i, op in enumerate(self.kept)}
        outputs = substitute(roots, inside, rebuild)
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

        def stacked(value: Op) -> list[Op]:
            return [_columns_of(stacks[v], *columns) for v, *columns in pieces.get(value, [(value, 0, None)])]

        finals.update((k, SymbolicTensor(outside(stacked))) for k, outside in sums.items())
        return tuple(finals.get(x) for x in self.body.inputs)

    def _start(self, at: int) -> Op:
        found, like = self.cotangents.get(at), self.outer[self.before[at]]
        return _zeros(like) if found is None else _spread(found, like.shape).op


def _is_dear(op: Op) -> bool:
    """Whether a value costs more to make than to keep."""
    kind = op.primitive.kind
    return kind is not Kind.LEAF and (kind not in (Kind.MAP, Kind.MOVE) or not is_simple(op))


def _keeps_columns(fold: Op, operand: Op) -> bool:
    """Whether the columns of a sum are made each from the same column of this operand."""
    if fold.name == "matmul":
        right = fold.inputs[1] is operand and fold.inputs[0] is not operand
        return right and not fold.attrs["transpose_b"] and len(fold.shape) == 2
    return fold.name == "sum" and len(fold.shape) == 1 and len(operand.shape) - 1 not in fold.attrs["axes"]


def _column_of(part: Op, whole: Op) -> int | None:
    """The first column where a value stands in another one."""
    at = 0
    for op in _columns(whole):
        if op is part:
            return at
        at += _width(op)
    return None


def _columns(op: Op) -> list[Op]:
    """The values that stand side by side in one; it alone if it is not made so."""
    added = terms(op)
    axes = len(op.shape)
    if not all(t.primitive.name == "pad" and t.attrs["value"] == 0 for t in added):
        return [op]
    placed = sorted(((t.attrs["widths"][-1][0], t) for t in added), key=lambda x: x[0])
    found, at = [], 0
    for first, t in placed:
        if first != at or any(w != (0, 0) for w in t.attrs["widths"][: axes - 1]):
            return [op]
        found.append(t.inputs[0])
        at += t.inputs[0].shape[-1]
    return found if at == op.shape[-1] else [op]


def _width(op: Op) -> int:
    """How many columns a value has, where that is known and it has any."""
    return op.shape[-1] if len(op.shape) > 1 and isinstance(op.shape[-1], int) else 0


def _columns_of(stack: Op, first: int, count: int | None) -> Op:
    """`count` columns of a stack [B, steps, ..., columns], or all."""
    if count in (None, stack.shape[-1]):
        return stack
    begin = (*([0] * (len(stack.shape) - 1)), first)
    return movement.slice_(SymbolicTensor(stack), begin, (*stack.shape[:-1], count)).op


def _by_columns(fold: Op, operands: Sequence[Sequence[Op]]) -> Op:
    """A sum of operands of which one may come in pieces, side by side: so do the columns of the sum."""
    pieces = max(operands, key=len)
    if len(pieces) == 1:
        return rebuild(fold, tuple(x for (x,) in operands))
    made = []
    for piece in pieces:
        inputs = tuple(piece if found is pieces else found[0] for found in operands)
        made.append(intern(fold.primitive, inputs, fold.attrs, (*fold.shape[:-1], piece.shape[-1]), fold.dtype))
    return movement.concatenate([SymbolicTensor(x) for x in made], -1).op


def _size(ops: Iterable[Op]) -> float:
    """Elements of values, about."""
    return sum(math.prod(map(typical, op.shape)) for op in ops)


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
    """A stack [B, steps, ...] with the steps among the rows, like the operand of this shape (but for the columns) in
    one step."""
    lead, steps = shape[0], stack.shape[1]
    assert isinstance(lead, Dim)
    rest = (*shape[1:-1], stack.shape[-1]) if len(shape) > 1 else ()
    return movement.reshape(SymbolicTensor(stack), (multiply(lead, steps), *rest)).op
