"""Convolutions as the compiler lowers them: a whole step against the same graph run by the plain kernels."""

import numpy as np
import pytest

from layerflow.graph import autodiff, ops
from layerflow.graph.ops.convolution import convolve
from layerflow.graph.trace import tracing
from layerflow.graph.variable import Variable
from layerflow.jit import program
from layerflow.jit.interpreter import Interpreted

# input extents, kernel extents (taps, channels of a group, filters), strides, dilations, groups
SHAPES = {
    "3x3": ((9, 8, 5), (3, 3, 5, 20), (1, 1), (1, 1), 1),
    "one channel": ((12, 12, 1), (5, 5, 1, 8), (1, 1), (1, 1), 1),
    "strided": ((11, 10, 4), (3, 2, 4, 33), (2, 3), (1, 1), 1),
    "dilated": ((11, 12, 3), (3, 3, 3, 16), (1, 1), (2, 3), 1),
    "1x1": ((4, 5, 18), (1, 1, 18, 40), (1, 1), (1, 1), 1),
    "rank 1": ((15, 6), (4, 6, 10), (1,), (1,), 1),
    "rank 3": ((5, 6, 4, 2), (2, 3, 2, 2, 7), (1, 1, 1), (1, 1, 1), 1),
    "groups": ((6, 7, 12), (3, 3, 4, 30), (1, 1), (1, 1), 3),
    "wide groups": ((6, 7, 6), (3, 3, 3, 80), (1, 1), (1, 1), 2),
    "depthwise": ((8, 9, 21), (3, 3, 1, 21), (1, 1), (1, 1), 21),
    "depthwise, strided": ((8, 9, 40), (3, 2, 1, 40), (2, 2), (1, 1), 40),
    "by points": ((12, 14, 32), (3, 3, 32, 48), (1, 1), (1, 1), 1),
    "by points, odd": ((9, 11, 20), (3, 3, 20, 33), (1, 1), (1, 1), 1),
    "few filters": ((6, 30, 9), (3, 3, 9, 3), (1, 1), (1, 1), 1),
    "whole image": ((4, 4, 6), (4, 4, 6, 17), (1, 1), (1, 1), 1),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("batch", [1, 5, 37])
def test_step(name, batch):
    """Forward, bias, relu, both gradients and the update of one convolution and a dense layer behind it."""
    extents, size, strides, dilations, groups = SHAPES[name]
    rng = np.random.default_rng(0)
    w = Variable((rng.standard_normal(size) * 0.3).astype(np.float32))
    b = Variable(rng.standard_normal(size[-1]).astype(np.float32))
    with tracing() as record:
        x = ops.placeholder((None, *extents), np.float32, "x")
        y = ops.relu(convolve(x * 1.5, w, strides, dilations, groups) + b)
        y = convolve(
            y,
            np.float32(0.1) * np.ones((*[1] * len(strides), size[-1], 4), np.float32),
            (1,) * len(strides),
            (1,) * len(strides),
            1,
        )
        loss = ops.mean(ops.square(y))
        dx, dw, db = autodiff.gradients(loss, [x, w, b])
        assert dw is not None
        assert db is not None
        record.updates[w] = w - 0.1 * dw
        record.updates[b] = b - 0.1 * db
        graph = record.graph([x], [loss, dx, dw])
    data = [rng.standard_normal((batch, *extents)).astype(np.float32)]
    before = w.numpy(), b.numpy()
    compiled = program(graph).run_batches(data, {}, batch)
    after = w.numpy(), b.numpy()
    w.assign(before[0])
    b.assign(before[1])
    expected = Interpreted(graph).run_batches(data, {}, batch)
    for got, want in zip([*compiled, *after], [*expected, w.numpy(), b.numpy()], strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5 * max(1, np.abs(want).max()))
