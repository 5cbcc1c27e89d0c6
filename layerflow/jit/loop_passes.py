"""Passes on loops: those that share a body become one, bodies are simplified, what does not vary leaves them."""

from __future__ import annotations

from layerflow.graph import ops
from layerflow.graph.ir import Graph, substitute, topological
from layerflow.graph.ops.loop import body_input, is_number, is_sampled, loop_of, named_input, rebuild, slice_shape
from layerflow.graph.symbolic import Kind, Op, SymbolicTensor, layer_scope
from layerflow.jit.simplify import simplify, untranspose

LARGEST_PROJECTION = 1 << 16  # elements of a matrix that is read at every step rather than once
FIXED = ("length", "reverse", "sequences", "states")


def prepare_loops(graph: Graph) -> Graph:
    """Loops in the form in which they are compiled."""
    graph = merge_loops(graph)
    used, users = _used_parts(graph), graph.users()
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        if op.name == "loop_part":
            memo[op] = used[op.inputs[0]][op.attrs["at"]]
        elif op.name == "loop":
            _prepared(op, *_with_projections(op, inputs, users), used[op])
            memo[op] = op
        else:
            memo[op] = op if inputs == op.inputs else rebuild(op, inputs)
    return graph.with_roots([memo[r] for r in graph.roots])


def merge_loops(graph: Graph) -> Graph:
    """A loop whose results another one computes too, because a gradient wants more of it, gives way to that one."""
    loops = [op for op in graph.ops if op.name == "loop"]
    largest = {op: max((other for other in loops if _covers(other, op)), key=_results) for op in loops}
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        memo[op] = op if inputs == op.inputs else rebuild(op, inputs)
        if op.name == "loop" and largest[op] is not op:
            memo[op] = rebuild(largest[op], inputs)
    return graph.with_roots([memo[r] for r in graph.roots])


def _results(loop: Op) -> int:
    return len(loop.attrs["body"].graph.outputs)


def _covers(larger: Op, op: Op) -> bool:
    if larger.inputs != op.inputs or any(larger.attrs[k] != op.attrs[k] for k in FIXED):
        return False
    mine, theirs = op.attrs["body"].graph, larger.attrs["body"].graph
    return mine.inputs == theirs.inputs and theirs.outputs[: len(mine.outputs)] == mine.outputs


def _used_parts(graph: Graph) -> dict[Op, dict[int, Op]]:
    """Loop -> the numbers of its results that somebody reads."""
    found: dict[Op, dict[int, Op]] = {}
    for op in graph.ops:
        if op.name == "loop":
            found[op] = {}
        elif op.name == "loop_part":
            found[op.inputs[0]][op.attrs["at"]] = op
    return found


def _with_projections(op: Op, operands: tuple[Op, ...], users: dict[Op, list[Op]]) -> tuple[Graph, tuple[Op, ...]]:
    """The body and operands of a loop with small products of a sequence made step by step: their [batch, steps, units]
    stay in the cache."""
    body, n = op.attrs["body"].graph, op.attrs["sequences"]
    inputs, given, replaced = list(body.inputs), list(operands), {}
    for at in range(n):
        found = _projection(op.inputs[at], operands[at], users)
        if found is None:
            continue
        sequence, kernel, biases = found
        own = [body_input(kernel, f"kernel{at}"), *(body_input(b, f"bias{at}_{k}") for k, b in enumerate(biases))]
        part = named_input(slice_shape(sequence.shape), sequence.dtype, f"projected{at}")
        value = ops.matmul(SymbolicTensor(part), SymbolicTensor(own[0]))
        for bias in own[1:]:
            value = value + SymbolicTensor(bias)
        replaced[inputs[at]] = value.op
        inputs[at], given[at] = part, sequence
        inputs += own
        given += [kernel, *biases]
    if not replaced:
        return body, operands
    with layer_scope(op.layer):
        outputs = substitute(body.outputs, replaced, rebuild)
    return Graph(tuple(inputs), tuple(outputs)), tuple(given)


def _projection(old: Op, new: Op, users: dict[Op, list[Op]]) -> tuple[Op, Op, list[Op]] | None:
    """(sequence, kernel, biases) if a loop alone reads a product of a sequence with a small matrix, else None.

    Args:
        old: the operand in the graph of `users`.
        new: the same in the graph that is being made.
    """
    biases = []
    while old.name == "add" and len(users[old]) == 1:
        at = 0 if old.inputs[0].shape == old.shape else 1
        if old.inputs[1 - at].shape != old.shape[-1:]:
            return None
        biases.append(new.inputs[1 - at])
        old, new = old.inputs[at], new.inputs[at]
    rows = old.inputs[0] if old.name == "reshape" and len(users[old]) == 1 else old
    if rows.name != "matmul" or len(users[rows]) != 1 or rows.attrs["transpose_a"] or rows.attrs["transpose_b"]:
        return None
    merged, kernel = new.inputs[0].inputs
    sequence = merged.inputs[0] if merged.name == "reshape" else merged
    depth, columns = kernel.shape
    small = isinstance(depth, int) and isinstance(columns, int) and depth * columns <= LARGEST_PROJECTION
    fits = len(sequence.shape) == 3 and sequence.shape[:2] == old.shape[:2] and is_sampled(sequence.shape)
    return (sequence, kernel, biases[::-1]) if small and fits else None


def _prepared(op: Op, body: Graph, operands: tuple[Op, ...], parts: dict[int, Op]) -> None:
    """Puts the results of the loop in its new form into `parts`."""
    n, m = op.attrs["sequences"], op.attrs["states"]
    kept = [at for at in sorted(parts) if at >= m]
    outputs = (*body.outputs[:m], *(body.outputs[at] for at in kept))
    body = untranspose(simplify(Graph(body.inputs, outputs)))
    outer = dict(zip(body.inputs, operands, strict=True))
    own = set(body.inputs[: n + m])
    outside, inside = _hoisted(body, own, outer)
    outputs = substitute(body.outputs, inside, rebuild)
    read = set(topological(outputs))
    sequences = [x for x in body.inputs[:n] if x in read]
    shared = [x for x in body.inputs[n + m :] if x in read] + [x for x in inside.values() if x in read]
    outer.update(zip(inside.values(), outside, strict=True))
    inputs = (*sequences, *body.inputs[n : n + m], *shared)
    with layer_scope(op.layer):
        operands = tuple(outer[x] for x in inputs)
        new = loop_of(
            Graph(inputs, tuple(outputs)), operands, (len(sequences), m), op.attrs["length"], op.attrs["reverse"]
        )
    parts.update((at, new[at].op) for at in list(parts) if at < m)
    parts.update((at, new[m + k].op) for k, at in enumerate(kept))


def _hoisted(body: Graph, own: set[Op], outer: dict[Op, Op]) -> tuple[list[Op], dict[Op, Op]]:
    """What does not vary from step to step: values outside, and what stands for them inside."""
    varies: set[Op] = set()
    for op in body.ops:
        if op in own or any(i in varies for i in op.inputs):
            varies.add(op)
    read = [i for op in body.ops if op in varies for i in op.inputs if i not in varies]
    read += [op for op in body.outputs if op not in varies]
    wanted = [op for op in dict.fromkeys(read) if op.primitive.kind is not Kind.LEAF and not is_number(op)]
    outside = substitute(wanted, outer, rebuild)
    return outside, {op: body_input(op, f"hoisted{i}") for i, op in enumerate(wanted)}
