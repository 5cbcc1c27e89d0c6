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


def cube_step(kind, p, q, which, make):
    """One step on values of shape [batch, a, b] that may move or mix samples; None if it does not fit."""
    a, b = p.shape[1], p.shape[2]
    match kind:
        case 0:
            return UNARY[which % len(UNARY)](p)
        case 1 if p.shape == q.shape:
            return BINARY[which % len(BINARY)](p, q)
        case 2:
            return ops.transpose(p, (0, 2, 1))
        case 3:  # statistics of the batch, as a normalization uses them
            mean = ops.mean(p, 0)
            return (p - mean) * ops.rsqrt(ops.mean(ops.square(p - mean), 0) + 0.1)
        case 4:
            return ops.reshape(p, (None, b, a))
        case 5:
            return ops.matmul(p, q, transpose_b=True) * 0.3 if p.shape[2] == q.shape[2] else None
        case 6:
            return p @ make(b, [4, 17][which % 2])
        case 7:
            return ops.concatenate([p, q], 1) if p.shape[2] == q.shape[2] else None
        case 8 if a > 1:
            return ops.slice_(p, (0, 1, 0), (-1, a - 1, -1))
        case 9:
            return ops.softmax(p) - ops.max(p, 1, keepdims=True) * 0.1
        case 10:
            return ops.pad(ops.flip(p, 2), [(0, 0), (1, 0), (0, 2)], 0.5)
    return None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(st.sampled_from([1, 2, 5, 16]), st.sampled_from([1, 3, 18])),
    st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 30), st.integers(0, 30), st.integers(0, 6)), min_size=2, max_size=7
    ),
    st.integers(1, 11),
)
def test_cubes_compiled_equals_interpreted(shape, steps, rows):
    rng = np.random.default_rng(2)
    made: list[Variable] = []

    def make(m, n):
        made.append(Variable((rng.standard_normal((m, n)) * 0.3).astype(np.float32)))
        return made[-1]

    with tracing() as record:
        values = [ops.placeholder((None, *shape), np.float32, "x")]
        for kind, a, b, which in steps:
            value = cube_step(kind, values[a % len(values)], values[b % len(values)], which, make)
            if value is not None and value.shape[1] * value.shape[2] < 2000:
                values.append(value)
        loss = ops.mean(ops.square(values[-1]))
        for variable, g in zip(made, autodiff.gradients(loss, made), strict=True):
            if g is not None:
                record.updates[variable] = variable * 0.9 - 0.1 * g
        graph = record.graph(values[:1], [loss, values[-1] * 1.0])
    arrays = [rng.standard_normal((rows, *shape)).astype(np.float32)]
    before = [v.numpy() for v in made]
    compiled = program(graph).run_batches(arrays, {}, 6)
    after = [v.numpy() for v in made]
    for variable, array in zip(made, before, strict=True):
        variable.assign(array)
    expected = Interpreted(graph).run_batches(arrays, {}, 6)
    for mine, theirs in zip([*compiled, *after], [*expected, *(v.numpy() for v in made)], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
