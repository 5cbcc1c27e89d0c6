"""Random graphs: whatever is fused, stored, computed again or moved, compiled code equals the interpreter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layerflow.graph import autodiff, ops
from layerflow.graph.ir import verify
from layerflow.graph.trace import tracing
from layerflow.graph.variable import Variable
from layerflow.jit import program
from layerflow.jit.interpreter import Interpreted
from layerflow.jit.pipeline import GRAPH_PASSES

UNARY = [
    ops.relu,
    ops.tanh,
    ops.square,
    ops.negative,
    lambda x: x * 0.5 + 0.25,
    lambda x: ops.exp(-ops.abs(x)),
    ops.sigmoid,
]
BINARY = [ops.add, ops.subtract, ops.multiply, ops.maximum, lambda a, b: ops.where(a > b, a, b * 0.5)]


@st.composite
def recipes(draw):
    """Widths, and a list of steps that say which op is applied to which earlier values."""
    width = draw(st.sampled_from([1, 3, 16, 20, 70]))
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 50), st.integers(0, 50), st.integers(0, 6)),
            min_size=2,
            max_size=9,
        )
    )
    return width, steps, draw(st.integers(1, 21))


def build(width, steps, weights):
    """Applies the steps; every value has shape [batch, something]."""
    x = ops.placeholder((None, width), np.float32, "x")
    y = ops.placeholder((None, 1), np.float32, "y")
    values = [x, y]
    for kind, a, b, which in steps:
        p, q = values[a % len(values)], values[b % len(values)]
        if kind < 2:
            values.append(UNARY[which % len(UNARY)](p))
        elif kind < 4 and (p.shape[1] == q.shape[1] or 1 in (p.shape[1], q.shape[1])):
            values.append(BINARY[which % len(BINARY)](p, q))
        elif kind == 4:
            values.append(ops.mean(p, -1, keepdims=True))
        elif kind == 5:
            values.append(ops.softmax(p))
        elif kind == 6:
            kernel, bias = weights(p.shape[1], [5, 16, 33][which % 3])
            values.append(p @ kernel + bias)
        else:
            values.append(ops.concatenate([p, q], -1))
    return [x, y], values


@settings(max_examples=80, deadline=None, derandomize=True)
@given(recipes())
def test_compiled_equals_interpreted(recipe):
    width, steps, rows = recipe
    rng = np.random.default_rng(1)
    made = []

    def weights(m, n):
        made.append(Variable((rng.standard_normal((m, n)) * 0.3).astype(np.float32)))
        made.append(Variable((rng.standard_normal(n) * 0.3).astype(np.float32)))
        return made[-2:]

    with tracing() as record:
        inputs, values = build(width, steps, weights)
        loss = ops.mean(values[-1]) + ops.mean(ops.square(values[-2]))
        used = [v for v in made if v.variable_op]
        for variable, g in zip(used, autodiff.gradients(loss, used), strict=True):
            if g is not None:
                record.updates[variable] = variable * 0.9 - 0.1 * g
        graph = record.graph(inputs, [loss, values[-1] * 1.0, ops.sum(values[-1], -1)])
    current = graph
    for name, run in GRAPH_PASSES:
        current = run(current)
        verify(current, after=name)
    arrays = [rng.standard_normal((rows, width)).astype(np.float32), rng.standard_normal((rows, 1)).astype(np.float32)]
    before = [v.numpy() for v in made]
    compiled = program(graph).run_batches(arrays, {}, 8)
    after = [v.numpy() for v in made]
    for variable, array in zip(made, before, strict=True):
        variable.assign(array)
    expected = Interpreted(graph).run_batches(arrays, {}, 8)
    for mine, theirs in zip([*compiled, *after], [*expected, *(v.numpy() for v in made)], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5)
