"""Layouts that suit products: who gets them, and that they change no bit."""

import re

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import ops
from layerflow.graph.ir import Graph
from layerflow.inspect import dump
from layerflow.jit import layouts, prefetching, target

HOST = target.host()
PANEL = HOST.vector_bytes // 4 * (4 if HOST.registers >= 32 else 2)  # columns
UNITS = 128  # of all layers here: rows of 512 bytes


def compiled(*layers):
    model = lf.sequential([*layers, lf.layers.dense(units=3, name="out")])
    model.compile(optimizer=lf.optimizers.Adam(0.01), loss="meanSquaredError")
    return model


def lstm():
    return compiled(lf.layers.lstm(units=UNITS, input_shape=[5, 6], name="memory"))


def gru():
    return compiled(lf.layers.gru(units=UNITS, input_shape=[5, 6], name="memory"))


def gru_reset_after():
    return compiled(lf.layers.gru(units=UNITS, input_shape=[5, 6], reset_after=True, name="memory"))


def any_length():
    return compiled(lf.layers.lstm(units=UNITS, input_shape=[None, 6], name="memory"))


def two_layers():
    first = lf.layers.lstm(units=UNITS, input_shape=[5, 6], return_sequences=True, name="first")
    return compiled(first, lf.layers.simple_rnn(units=2 * UNITS, name="second"))


def dense():
    first = lf.layers.dense(units=UNITS, activation="tanh", input_shape=[40], name="first")
    return compiled(first, lf.layers.dense(units=UNITS, activation="tanh", name="second"))


MODELS = {
    "lstm": lstm,
    "gru": gru,
    "gru_reset_after": gru_reset_after,
    "any_length": any_length,
    "two_layers": two_layers,
    "dense": dense,
}


def in_panels(model) -> list[str]:
    """Shapes of the training step's values that lie in panels."""
    return re.findall(rf"\[([\w,]+)\] in panels of {PANEL} columns", dump(model, "memory", mode="train"))


def trained(make) -> list[np.ndarray]:
    """Weights after steps of several batch sizes."""
    lf.random.set_seed(3)
    model, rng = make(), np.random.default_rng(0)
    shape = [n or 5 for n in model.inputs[0].shape[1:]]
    for rows in (8, 13, 1):
        model.train_on_batch(rng.standard_normal((rows, *shape)).astype(np.float32), rng.standard_normal((rows, 3)))
    return [np.array(w) for w in model.get_weights()]


def test_gradients_of_all_gates_lie_in_panels():
    """They are summed over samples and steps into the gradients of both kernels; the recurrent kernel is transposed."""
    assert sorted(in_panels(lstm())) == [f"{4 * UNITS},{UNITS}", f"B,5,{4 * UNITS}"]
    assert f"B,T1,{4 * UNITS}" in in_panels(any_length())


def test_a_stack_of_which_products_read_whole_panels_lies_in_panels():
    """A GRU's recurrent products read two thirds and one third of the columns that the input's product reads."""
    assert f"B,5,{3 * UNITS}" in in_panels(gru())


@pytest.mark.parametrize(("begin", "size", "whole"), [(0, 2, True), (2, 1, True), (0, 1.5, False), (0.5, 1, False)])
def test_part_of_a_panel_is_not_read_in_place(begin, size, whole):
    """Columns from `begin` panels on, of `size` panels."""
    stack = ops.placeholder((None, 5, 4 * PANEL), np.float32, "stack")
    part = stack[:, :, int(begin * PANEL) : int((begin + size) * PANEL)]
    users = Graph((stack.op,), (ops.square(part).op,)).users()
    assert (layouts._readers(stack.op, users, PANEL) is not None) is whole


def test_transposed_weights_lie_in_panels():
    assert in_panels(dense()) == [f"{UNITS},{UNITS}"]


def test_a_stack_that_is_read_otherwise_does_not():
    """Steps that are handed out are read by the next layer's loop, step by step; few columns fill no panels."""
    found = in_panels(two_layers())
    assert f"B,5,{2 * UNITS}" in found  # what the second one hands to its gradient
    assert f"B,5,{UNITS}" not in found
    assert in_panels(compiled(lf.layers.lstm(units=5, input_shape=[5, 6], name="narrow"))) == []


@pytest.mark.parametrize("name", MODELS)
def test_layouts_change_no_bit(name, monkeypatch):
    expected = trained(MODELS[name])
    monkeypatch.setattr(layouts, "choose", lambda *settings: None)
    assert in_panels(MODELS[name]()) == []
    for got, want in zip(trained(MODELS[name]), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["lstm", "dense"])
def test_prefetching_changes_no_bit(name, monkeypatch):
    """Lines are asked for where operands are large: here nowhere, then everywhere."""
    weights = []
    for large, asked in ((1 << 40, False), (1, True)):
        monkeypatch.setattr(prefetching, "LARGE", large)
        source = dump(MODELS[name](), "source", mode="train")
        assert bool(re.search(r"prefetch\(.*, 2\)", source)) is asked
        weights.append(trained(MODELS[name]))
    for got, want in zip(*weights, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("make", [lstm, dense])
def test_rows_have_the_same_bits_in_every_tile(make):
    """Tiles of fewer rows for what is left: a row's result does not depend on how many there are."""
    model = make()
    rng = np.random.default_rng(2)
    x = rng.standard_normal((29, *model.inputs[0].shape[1:])).astype(np.float32)
    expected = model.predict_on_batch(x)
    for rows in range(1, 29):
        np.testing.assert_array_equal(model.predict_on_batch(x[:rows]), expected[:rows])
