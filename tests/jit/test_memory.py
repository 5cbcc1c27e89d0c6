"""The memory plan: no two values that live at the same time share a byte, and values that do not may."""

from hypothesis import given, settings
from hypothesis import strategies as st

from layerflow.graph import ops
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.jit import access, memory
from layerflow.jit.groups import Group
from layerflow.jit.schedule import Buffer, Kernel, Schedule


def plan_of(lives):
    """A schedule whose temporaries have the given (elements, first phase, last phase)."""
    leaf = ops.placeholder((None, 4), name="x").op
    phases = [[] for _ in range(8)]
    buffers = {}
    for at, (elements, first, last) in enumerate(lives):
        op = (SymbolicTensor(ops.placeholder((elements,), name=f"t{at}").op) * float(at + 2)).op
        buffers[op] = Buffer(op, access.dense(op.shape), "temporary")
        writer = Kernel(f"w{at}", Group("map", op, op.shape, members=[op], stored=[op]), False)
        reader = Kernel(f"r{at}", Group("map", leaf, leaf.shape), False, reads={op})
        phases[first].append(writer)
        phases[last].append(reader)
    return Schedule(None, [], phases, buffers, {})  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=12),
    st.integers(1, 40),
)
def test_values_alive_together_do_not_overlap(lives, rows):
    plan = plan_of([(n, min(a, b), max(a, b)) for n, a, b in lives])
    offsets, total = memory.allocate(plan, rows, 2)
    placed = [(offsets[life.buffer.op], memory.size_of(life.buffer, rows, 2), life) for life in memory.lives(plan)]
    for i, (at, size, one) in enumerate(placed):
        assert at % memory.LINE == 0
        assert at + size <= total
        for other_at, other_size, other in placed[:i]:
            if one.first <= other.last and other.first <= one.last:
                assert at + size <= other_at or other_at + other_size <= at


def test_memory_is_used_again():
    plan = plan_of([(1000, 0, 1), (1000, 2, 3)])
    _, total = memory.allocate(plan, 1, 1)
    assert total == memory.size_of(next(iter(plan.buffers.values())), 1, 1)
