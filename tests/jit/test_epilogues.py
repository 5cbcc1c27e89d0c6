"""Biases as the beginning of sums: what is taken out of an epilogue, what is left there, and that results are right."""

import re

import numpy as np
import pytest

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit.epilogues import Epilogue, begun

L = lf.layers
AT = {"i0": "i + m"}


def test_a_bias_is_where_the_sum_begins():
    """Its load goes before the accumulators; what else is computed for a column stays behind the products."""
    columns = ["v1 = load(p1, c)", "v2 = load(p2, c)"]
    lines = ["v3 = acc0[m] + v1", "v4 = maximum(v3, f32(0))", "v5 = v4 * v2", "store(p3, i0 * 8 + c, v5)"]
    first, starts, rest = begun(Epilogue(4, AT, columns, lines), ())
    assert (first, starts) == (["v1 = load(p1, c)"], {"acc0": "v1"})
    assert rest.columns == ["v2 = load(p2, c)"]
    assert rest.lines == ["v4 = maximum(acc0[m], f32(0))", "v5 = v4 * v2", "store(p3, i0 * 8 + c, v5)"]


def test_a_bias_known_before_the_tile():
    first, starts, rest = begun(Epilogue(1, AT, [], ["v3 = v1 + acc1[m]", "store(p3, c, v3)"]), {"v1"})
    assert (first, starts, rest.lines) == ([], {"acc1": "v1"}, ["store(p3, c, acc1[m])"])


@pytest.mark.parametrize(
    "lines",
    [
        ["v3 = acc0[m] + v1", "v4 = acc0[m] * v3", "store(p3, c, v4)"],  # the sum without it is wanted too
        ["v2 = load(p2, i0 * 8 + c)", "v3 = acc0[m] + v2", "store(p3, c, v3)"],  # another one for each row
        ["v3 = acc0[m] * v1", "store(p3, c, v3)"],  # not added
        ["v2 = v1 * v1", "v3 = acc0[m] + v2", "store(p3, c, v3)"],  # not as it is read
    ],
)
def test_what_is_left_in_the_epilogue(lines):
    epilogue = Epilogue(4, AT, ["v1 = load(p1, c)"], lines)
    assert begun(epilogue, ()) == ([], {}, epilogue)


MAKES = {
    "dense": lambda: L.dense(units=37, activation="tanh", input_shape=[23]),
    "conv2d": lambda: L.conv2d(filters=5, kernel_size=2, activation="relu", input_shape=[7, 6, 3]),
    "lstm": lambda: L.lstm(units=20, input_shape=[4, 3]),
}


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_layers_with_biases_compute_what_they_do_uncompiled(name, rows):
    """Compiled sums begin with the bias (the dump says so), uncompiled ones end with it."""
    model = lf.sequential([MAKES[name]()])
    rng = np.random.default_rng(3)
    for weight in model.weights:
        weight.val.assign(rng.normal(size=weight.shape).astype(np.float32))
    x = rng.normal(size=(rows, *model.inputs[0].shape[1:])).astype(np.float32)
    text = dump(model, "source", mode="predict")
    assert re.search(r"acc0\[m\] = v\d+", text)
    assert not re.search(r"= acc0\[m\] \+ ", text)
    compiled = model.predict(x)
    lf.config.set_jit(False)
    try:
        np.testing.assert_allclose(compiled, model.predict(x), rtol=2e-5, atol=2e-6)
    finally:
        lf.config.set_jit(True)


def test_results_do_not_depend_on_the_rows_beside():
    """Full tiles, tiles of what is left and single rows all begin alike: each row has the same bits in any batch."""
    model = lf.sequential([L.dense(units=40, input_shape=[19]), L.dense(units=10, activation="softmax")])
    model.weights[1].val.assign(np.linspace(-1, 1, 40, dtype=np.float32))
    x = np.random.default_rng(0).normal(size=(37, 19)).astype(np.float32)
    every = np.asarray(model.predict(x))
    for count in (1, 2, 5, 8, 13):
        assert np.array_equal(np.asarray(model.predict(x[:count].copy())), every[:count])
