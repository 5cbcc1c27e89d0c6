"""scan: one step of a recurrence, run for every position; values and gradients, eager, uncompiled and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerflow as lf
from layerflow import config
from layerflow.errors import ShapeError
from layerflow.graph import autodiff, ops
from layerflow.graph.ir import Graph
from layerflow.graph.ops import placeholder
from layerflow.graph.trace import tracing
from layerflow.jit import pipeline
from layerflow.jit.interpreter import interpret

UNITS = 5


def simple(states, slices, w, r, b):
    (h,) = states
    h = ops.tanh(ops.matmul(slices[0], w[:, :UNITS]) + ops.matmul(h, r[:, :UNITS]) + b[:UNITS])
    return [h], [h]


def gru(states, slices, w, r, b):
    """Reset before the recurrent product: a product of a value made in the step, whose sum over steps is taken out."""
    (h,) = states
    x = ops.matmul(slices[0], w[:, : 3 * UNITS]) + b[: 3 * UNITS]
    both = ops.sigmoid(x[:, : 2 * UNITS] + ops.matmul(h, r[:, : 2 * UNITS]))
    z, reset = both[:, :UNITS], both[:, UNITS:]
    new = ops.tanh(x[:, 2 * UNITS :] + ops.matmul(reset * h, r[:, 2 * UNITS : 3 * UNITS]))
    h = z * h + (1 - z) * new
    return [h], [h, reset]


def projected(states, slices, w, r, b):
    """The same of what was multiplied before: the gradients of both products are columns of the sequence's."""
    (h,), (x,) = states, slices
    both = ops.sigmoid(x[:, : 2 * UNITS] + ops.matmul(h, r[:, : 2 * UNITS]))
    z, reset = both[:, :UNITS], both[:, UNITS:]
    h = z * h + (1 - z) * ops.tanh(x[:, 2 * UNITS :] + ops.matmul(reset * h, r[:, 2 * UNITS : 3 * UNITS]))
    return [h], [h]


def gates_after(x, h, p):
    """A GRU's next state from the products of input and state, the reset gate after the latter."""
    both = ops.sigmoid(x[:, : 2 * UNITS] + p[:, : 2 * UNITS])
    z, reset = both[:, :UNITS], both[:, UNITS:]
    return z * h + (1 - z) * ops.tanh(x[:, 2 * UNITS :] + reset * p[:, 2 * UNITS :])


def projected_after(states, slices, w, r, b):
    """The gradients of both products have two thirds of their columns in common."""
    (h,), (x,) = states, slices
    h = gates_after(x, h, ops.matmul(h, r[:, : 3 * UNITS]) + b[: 3 * UNITS])
    return [h], [h]


def transposed_after(states, slices, w, r, b):
    """The same with weights whose gradient has those columns as rows."""
    (h,), (x,) = states, slices
    h = gates_after(x, h, ops.matmul(h, ops.reshape(r, (4 * UNITS, UNITS))[: 3 * UNITS], False, True))
    return [h], [h]


def swapped(states, slices, w, r, b):
    """The same columns in another order."""
    (h,), (x,) = states, slices
    p = ops.matmul(h, r[:, : 2 * UNITS])
    z, reset = ops.sigmoid(x[:, :UNITS] + p[:, UNITS:]), ops.sigmoid(x[:, UNITS : 2 * UNITS] + p[:, :UNITS])
    h = z * h + (1 - z) * ops.tanh(x[:, 2 * UNITS :] + reset * h)
    return [h], [h]


def lstm(states, slices, w, r, b):
    h, c = states
    z = ops.matmul(slices[0], w) + ops.matmul(h, r) + b
    i, f, g, o = (z[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return [ops.sigmoid(o) * ops.tanh(c), c], [c, slices[0] * 2.0]


def reset_after(states, slices, w, r, b):
    """Reset after the recurrent product, of which the gradient reads a part; parts of its gradient are those of x."""
    (h,) = states
    x, p = ops.matmul(slices[0], w[:, : 3 * UNITS]) + b[: 3 * UNITS], ops.matmul(h, r[:, : 3 * UNITS])
    h = gates_after(x, h, p)
    return [h], [h]


def part_and_whole(states, slices, w, r, b):
    """The gradient reads a part of a product and all of it."""
    (h,) = states
    p = ops.matmul(h, r[:, : 2 * UNITS]) + ops.matmul(slices[0], w[:, : 2 * UNITS])
    whole = ops.sum(ops.square(p), axis=-1, keepdims=True)
    return [ops.tanh(p[:, UNITS:] * h + p[:, :UNITS]) * ops.tanh(whole)], [p]


def masked(states, slices, w, r, b):
    """What is shared by all steps and differs from sample to sample: its gradient is added up in the loop."""
    (h,) = states
    x, keep = slices
    new = ops.tanh(ops.matmul(x, w[:, :UNITS]) * h + ops.matmul(h, r[:, :UNITS]))
    return [ops.where(ops.expand_dims(keep, -1) > 0.5, new, h)], [new]


CELLS: dict[str, tuple[Callable[..., Any], int, int]] = {  # step, states, sequences
    "simple": (simple, 1, 1),
    "gru": (gru, 1, 1),
    "projected": (projected, 1, 1),
    "projected after": (projected_after, 1, 1),
    "transposed after": (transposed_after, 1, 1),
    "swapped": (swapped, 1, 1),
    "lstm": (lstm, 2, 1),
    "reset after": (reset_after, 1, 1),
    "part and whole": (part_and_whole, 1, 1),
    "masked": (masked, 1, 2),
}


def loss_of(name: str, reverse: bool, whole: bool) -> Callable[..., Any]:
    """A number made of the last states or of all values, as a function of x, keep, w, r, b and the first state."""
    cell, states, sequences = CELLS[name]

    def loss(x, keep, w, r, b, start):
        def step(state, slices):
            return cell(state, slices, w, r, b)

        if cell in (projected, projected_after, transposed_after, swapped):
            x = ops.matmul(x, w[:, : 3 * UNITS])

        last, values = lf.scan(step, [start * (k + 1.0) for k in range(states)], [x, keep][:sequences], reverse)
        if whole:
            return sum((ops.sum(ops.sin(v) * (k + 1.0)) for k, v in enumerate(values)), ops.sum(last[0]))
        return sum((ops.sum(ops.sin(s)) for s in last[1:]), ops.sum(ops.sin(last[0])))

    return loss


def data(steps: int, features: int, rows: int, dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(steps * 100 + features * 10 + rows)
    shapes = [
        (rows, steps, features),
        (rows, steps),
        (features, 4 * UNITS),
        (UNITS, 4 * UNITS),
        (4 * UNITS,),
        (rows, UNITS),
    ]
    arrays = [0.5 * rng.standard_normal(shape) for shape in shapes]
    arrays[1] = rng.integers(0, 2, (rows, steps)).astype(float)
    return [a.astype(dtype) for a in arrays]


def with_gradients(loss: Callable[..., Any], arrays: Sequence[np.ndarray], batch: bool) -> Graph:
    """The loss and its gradients; `batch`: for any number of rows."""
    sampled = (True, True, False, False, False, True)
    inputs = [
        placeholder((None, *a.shape[1:]) if s and batch else a.shape, a.dtype, f"x{k}")
        for k, (a, s) in enumerate(zip(arrays, sampled, strict=True))
    ]
    with tracing() as record:
        value = loss(*inputs)
        slopes = autodiff.gradients(value, [inputs[0], *inputs[2:]])
        zeros = [ops.zeros_like(x) if g is None else g for g, x in zip(slopes, [inputs[0], *inputs[2:]], strict=True)]
        return record.graph(inputs, [value, *zeros])


def slope(f: Callable[[], float], a: np.ndarray, step: float = 1e-6) -> np.ndarray:
    found = np.zeros_like(a)
    for at in np.ndindex(a.shape):
        old = a[at]
        a[at] = old + step
        above = f()
        a[at] = old - step
        found[at] = (above - f()) / (2 * step)
        a[at] = old
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_differences(name, reverse):
    """In float64, against finite differences of the eager loop; with and without a batch known only at run time."""
    arrays = data(3, 2, 3, np.float64)
    before = config.floatx()
    config.set_floatx("float64")
    try:
        for whole in (False, True):
            loss = loss_of(name, reverse, whole)

            def value(loss=loss) -> float:
                return float(np.asarray(loss(*arrays)))

            wanted = [value(), *(slope(value, arrays[k]) for k in (0, 2, 3, 4, 5))]
            for batch in (True, False):
                found = interpret(with_gradients(loss, arrays, batch), arrays, {}, 3)
                for a, b in zip(found, wanted, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    finally:
        config.set_floatx(before)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(CELLS)),
    st.booleans(),
    st.booleans(),
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 40),
)
def test_compiled_is_interpreted(name, reverse, whole, steps, features, rows):
    arrays = data(steps, features, rows, np.float32)
    loss = loss_of(name, reverse, whole)
    graph = with_gradients(loss, arrays, batch=False)
    wanted = interpret(graph, arrays, {}, rows)
    for found, value in zip(pipeline.compile(graph).run(arrays, {}, graph, {}), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=2e-4, atol=2e-5)


def test_a_value_read_by_nobody_and_a_sequence_read_by_nobody():
    x = np.ones((2, 3, 4), np.float32)

    def f(x):
        last, _ = lf.scan(lambda s, v: ([s[0] + 1.0], [v[0]]), [ops.zeros_like(x[:, 0])], [x])
        return last[0]

    np.testing.assert_array_equal(lf.jit(f)(x), np.full((2, 4), 3.0))
    np.testing.assert_array_equal(f(x), np.full((2, 4), 3.0))


def test_what_does_not_vary_is_taken_out():
    """Two products with a sum of weights: the sum is made once, not at every step."""
    x = placeholder((None, 3, 4), np.float32, "x")
    w = lf.variable(np.eye(4, dtype=np.float32))
    with tracing() as record:
        last, _ = lf.scan(lambda s, v: ([ops.matmul(s[0], w + w) + v[0]], []), [ops.zeros_like(x[:, 0])], [x])
        graph = record.graph([x], last)
    loop = next(op for op in graph.ops if op.name == "loop")
    assert "add" in {op.name for op in loop.inputs}
    assert [op.name for op in loop.attrs["body"].graph.ops].count("add") == 1


@pytest.mark.parametrize(("name", "widths"), [("reset after", [1, 1, 1, 2]), ("part and whole", [1, 1, 2])])
def test_a_part_is_kept_only_where_that_is_less(name, widths):
    """A third of a product beside gates, candidate and state; or all of one, where all is read, beside the state and
    what a tanh gave."""
    graph = with_gradients(loss_of(name, reverse=False, whole=False), data(3, 2, 4, np.float32), batch=True)
    *_, forward = (op for op in graph.ops if op.name == "loop" and not op.attrs["reverse"])  # the one that keeps values
    kept = [op.shape[-1] for op in graph.ops if op.name == "loop_part" and op.inputs[0] is forward and op.attrs["at"]]
    assert sorted(n for n in kept if n > 1) == [n * UNITS for n in widths]


def test_wrong_use_is_refused():
    x = np.ones((2, 3, 4), np.float32)
    start = np.zeros((2, 4), np.float32)
    with pytest.raises(ShapeError, match=r"one number of steps.*\[2,3,4\].*\[2,5,4\]"):
        lf.scan(lambda s, v: (s, []), [start], [x, np.ones((2, 5, 4), np.float32)])
    with pytest.raises(ShapeError, match=r"state 0 starts as \[2,4\] float32 and is \[2,8\] float32 after a step"):
        lf.jit(lambda x: lf.scan(lambda s, v: ([ops.concatenate([s[0], s[0]], 1)], []), [start], [x])[0][0])(x)


@pytest.mark.parametrize("layer", ["mixing", "counting"])
def test_a_step_that_does_not_belong_to_one_sample(layer):
    """It subtracts the mean over the batch, or counts the steps: one thread runs the loop for all samples."""

    def step(states, slices):
        if layer == "mixing":
            return [states[0] + slices[0] - ops.mean(slices[0], 0)], []
        return [states[0] * 0.5 + slices[0] * states[1], states[1] + 1.0], []

    class Recurrence(lf.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight("scale", [shape[-1]], initializer="ones")

        def call(self, x):
            starts = [ops.zeros_like(x[:, 0]), np.float32(1.0)]
            return lf.scan(step, starts[: 1 + (layer == "counting")], [x * self.scale])[0][0]

    x = np.random.default_rng(0).standard_normal((37, 3, 4)).astype(np.float32)
    results = []
    for compiled in (True, False):
        config.set_jit(compiled)
        try:
            model = lf.sequential([Recurrence(input_shape=[3, 4])])
            model.compile(optimizer="sgd", loss="meanSquaredError")
            results.append([model.predict(x), model.train_on_batch(x, x[:, 0]), *model.get_weights()])
        finally:
            config.set_jit(True)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
