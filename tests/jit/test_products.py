"""Products beyond the plain case: stacked weights changed in place, integers, truth values."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import autodiff, ops
from layerflow.graph.trace import tracing
from layerflow.graph.variable import Variable
from layerflow.jit import program
from layerflow.jit.interpreter import Interpreted


@pytest.mark.parametrize("rows", [3, 8, 20])
def test_stacked_weights_are_changed_once(rows):
    """[2, rows, 5] weights: the update is the epilogue of a stack of products, also for the rests of tiles."""
    rng = np.random.default_rng(0)
    w = Variable(rng.standard_normal((2, rows, 5)).astype(np.float32))
    x = rng.standard_normal((2, 7, rows)).astype(np.float32)
    with tracing() as record:
        batch = ops.placeholder((None, 1), np.float32, "b")
        loss = ops.sum(ops.square(ops.matmul(x, w))) + ops.mean(batch)
        (g,) = autodiff.gradients(loss, [w])
        assert g is not None
        record.updates[w] = w - 0.1 * g
        graph = record.graph([batch], [loss])
    before = w.numpy()
    data = [np.ones((4, 1), np.float32)]
    compiled = program(graph).run_batches(data, {}, 4)
    after = w.numpy()
    w.assign(before)
    expected = Interpreted(graph).run_batches(data, {}, 4)
    np.testing.assert_allclose(compiled[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(after, w.numpy(), rtol=1e-4, atol=1e-5)


def test_integers():
    a, b = np.arange(12, dtype=np.int32).reshape(3, 4), np.arange(20, dtype=np.int32).reshape(4, 5)
    assert (lf.jit(lambda p, q: p @ q)(a, b) == a @ b).all()


def test_truth_values_are_counted():
    a, b = np.array([[True, True, False]]), np.array([[1.0], [2.0], [4.0]], np.float32)
    assert lf.jit(lambda p, q: lf.matmul(p, q))(a, b).tolist() == [[3.0]]
    assert lf.matmul(a, b).tolist() == [[3.0]]
