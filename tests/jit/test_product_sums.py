"""Products that are only added up: which ones share a tile, and that the sums are right."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import ops
from layerflow.graph.ir import Graph
from layerflow.graph.ops.loop import named_input
from layerflow.graph.shapes import BATCH, Dim
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.inspect import dump
from layerflow.jit import fusion, recurrence
from layerflow.jit.gates import join_gates
from layerflow.jit.pipeline import BODY_PASSES
from layerflow.jit.product_sums import gather_products, join_sums

L = lf.layers
F32 = np.dtype(np.float32)


def operand(name, *shape):
    return SymbolicTensor(named_input(shape, F32, name))


B = Dim(BATCH)
X, H, E = operand("x", B, 3), operand("h", B, 8), operand("e", B, 5)
U, W, V, BIAS = operand("U", 8, 16), operand("W", 3, 16), operand("V", 5, 16), operand("b", 16)
INPUTS = tuple(t.op for t in (X, H, E, U, W, V, BIAS))


def graph(*outputs):
    return Graph(INPUTS, tuple(t.op for t in outputs))


def added(*outputs):
    """For each group with products: the steps of the one that its tile is made for, and of those that it adds."""
    body = gather_products(graph(*outputs))
    groups = join_sums(join_gates(fusion.fuse(body, side_by_side=True), body), body)
    depth = {g: [p.inputs[0].shape[-1] for p in (g.anchor, *g.added)] for g in groups}
    return [depth[g] for g in groups if g.kind == "gemm"]


def test_a_sum_begins_with_its_products_the_longest_first():
    """(x W + b) + h U, as a cell writes it, becomes (h U + x W) + b."""
    (found,) = gather_products(graph(X @ W + BIAS + H @ U)).outputs
    assert found is (H @ U + X @ W + BIAS).op
    (found,) = gather_products(graph(ops.tanh((X @ W + BIAS) + (E @ V + H @ U)))).outputs
    assert found is ops.tanh(H @ U + E @ V + X @ W + BIAS).op


def test_sums_with_one_product_or_with_readers_inside_stay():
    for outputs in ([X @ W + BIAS], [X @ W + BIAS, ops.tanh(H @ U)], [X @ W - H @ U]):
        assert gather_products(graph(*outputs)).outputs == graph(*outputs).outputs
    inner = X @ W + BIAS
    assert gather_products(graph(inner + H @ U, ops.exp(inner))).outputs == graph(inner + H @ U, ops.exp(inner)).outputs


def test_who_shares_a_tile():
    assert added(ops.tanh(X @ W + BIAS + H @ U)) == [[8, 3]]
    assert added(ops.tanh(X @ W + E @ V + BIAS + H @ U)) == [[8, 5, 3]]
    assert added(X @ W + H @ U) == [[8, 3]]  # also where the sum itself is a result


def test_a_product_that_somebody_reads_is_written():
    """Were another product added to it, its reader would see the sum."""
    one, other = X @ W, H @ U
    assert sorted(added(ops.tanh(one + other), one)) == [[3], [8]]
    assert sorted(added(ops.tanh(one + other), ops.exp(other))) == [[3], [8]]
    partly = H @ U + E @ V
    assert sorted(added(ops.tanh(partly + X @ W), partly)) == [[3], [8, 5]]


MAKES = {
    "lstm": lambda: L.lstm(units=20, input_shape=[5, 3]),
    "smooth lstm": lambda: L.lstm(units=20, recurrent_activation="sigmoid", input_shape=[5, 30]),
    "simple": lambda: L.simple_rnn(units=20, input_shape=[None, 3]),
    "without bias": lambda: L.simple_rnn(units=20, use_bias=False, input_shape=[5, 3]),
    "wide input": lambda: L.lstm(units=4, input_shape=[5, 70]),
    "cells": lambda: L.rnn([L.gru_cell(units=5), L.lstm_cell(units=4), L.simple_rnn_cell(units=6)], input_shape=[5, 3]),
    "dropout": lambda: L.lstm(units=20, dropout=0.3, recurrent_dropout=0.2, input_shape=[5, 3], name="memory"),
}


def results(make):
    """Losses of steps, weights after them, and predictions for one row and for several."""
    lf.random.set_seed(1)
    model, rng = lf.sequential([make(), L.dense(units=2)]), np.random.default_rng(0)
    model.compile(optimizer=lf.train.sgd(0.05), loss="meanSquaredError")
    x = rng.standard_normal((7, 5, model.inputs[0].shape[-1])).astype(np.float32)
    y = rng.standard_normal((7, 2)).astype(np.float32)
    losses = [model.train_on_batch(x, y) for _ in range(4)]
    return [losses, *model.get_weights(), model.predict_on_batch(x), model.predict_on_batch(x[:1])]


@pytest.mark.parametrize("name", MAKES)
def test_layers_compute_the_same(name, monkeypatch):
    """One tile or several: the same but for the order of additions."""
    expected = results(MAKES[name])
    monkeypatch.setattr(recurrence, "join_sums", lambda groups, graph: list(groups))
    for got, want in zip(results(MAKES[name]), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["lstm", "smooth lstm", "simple", "without bias", "dropout"])
@pytest.mark.parametrize("mode", ["train", "predict"])
def test_a_step_of_a_layer_multiplies_in_one_kernel(name, mode):
    """The loop forwards; the gradient's loop multiplies once anyway."""
    model = lf.sequential([MAKES[name]()])
    model.compile(optimizer=lf.train.sgd(0.05), loss="meanSquaredError")
    loop = dump(model, "schedule", mode=mode).partition(" steps\n")[2].partition("\n  k")[0]
    assert loop.count("_gemm: ") == 1


def test_the_pass_is_listed():
    assert ("gather_products", gather_products) in BODY_PASSES
