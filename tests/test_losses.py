"""Losses and metrics: names, stable forms, weights; their values are compared with TF.js in tests/conformance."""

import math

import numpy as np
import pytest

import layerflow as lf
from layerflow import losses, metrics
from layerflow.errors import ArgumentError, ShapeError, UnknownNameError
from layerflow.graph import ops

T = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
Z = np.array([[2.0, -1.0, 0.5], [300.0, -300.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("names", "function"),
    [
        (("mse", "meanSquaredError", "mean_squared_error"), losses.squared_error),
        (("mae", "meanAbsoluteError"), losses.mean_absolute_error),
        (("categoricalCrossentropy", "categorical_crossentropy"), losses.categorical_crossentropy),
        (("cosineProximity", "cosine_similarity"), losses.cosine_proximity),
        (("kld", "kullbackLeiblerDivergence"), losses.kullback_leibler_divergence),
        (("logcosh", "log_cosh"), losses.logcosh),
    ],
)
def test_every_spelling_gives_one_function(names, function):
    for name in names:
        assert losses.get(name) is function
        assert metrics.get(name) is function
    assert losses.is_builtin(function)


def test_unknown_names_say_the_nearest():
    with pytest.raises(UnknownNameError, match="categorical_crossentropy"):
        losses.get("categoricalCrossentropi")
    with pytest.raises(UnknownNameError, match="accuracy"):
        metrics.get("acuracy")
    with pytest.raises(ArgumentError):
        losses.get(3)
    assert not losses.is_builtin(lambda t, p: p)


@pytest.mark.parametrize("name", ["categoricalCrossentropy", "sparseCategoricalCrossentropy"])
def test_softmax_and_its_crossentropy_are_exact_for_any_logits(name):
    labels = T if name.startswith("cat") else T.argmax(1).reshape(-1, 1)
    value, gradient = lf.value_and_grad(lambda z: ops.sum(losses.get(name)(labels, ops.softmax(z))))(Z)
    shifted = Z.astype(np.float64) - Z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert float(value) == pytest.approx(-(T * log_p).sum(), rel=1e-6)
    np.testing.assert_allclose(gradient, np.exp(log_p) - T, atol=1e-6)


def test_sigmoid_and_its_crossentropy_are_exact_for_any_logits():
    z, t = np.array([[-200.0], [200.0], [0.0]], np.float32), np.ones((3, 1), np.float32)
    value, gradient = lf.value_and_grad(lambda z: ops.sum(losses.binary_crossentropy(t, ops.sigmoid(z))))(z)
    assert float(value) == pytest.approx(200 + math.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-1], [0], [-0.5]], atol=1e-6)


def test_per_sample_values_of_weighted_losses_are_used_in_compile():
    assert losses.get(lf.losses.mean_squared_error) is losses.squared_error
    assert losses.get(lf.losses.softmax_cross_entropy)(T, Z).shape == (2,)


CORE = [
    (lambda **k: losses.absolute_difference([[1, 2.0]], [[3, 5.0]], **k), [[2, 3]]),
    (lambda **k: losses.mean_squared_error([[1, 2.0]], [[3, 5.0]], **k), [[4, 9]]),
    (lambda **k: losses.hinge_loss([[0, 1.0]], [[0.5, 0.5]], **k), [[1.5, 0.5]]),
    (lambda **k: losses.huber_loss([[0, 0.0]], [[0.5, 3]], **k), [[0.125, 2.5]]),
    (lambda **k: losses.log_loss([[1, 0.0]], [[0.5, 0.5]], **k), [[math.log(2), math.log(2)]]),
    (lambda **k: losses.sigmoid_cross_entropy([[1, 0.0]], [[0, 0.0]], **k), [[math.log(2), math.log(2)]]),
    (lambda **k: losses.softmax_cross_entropy([[1, 0.0], [0, 1]], [[0, 0.0], [0, 0]], **k), [math.log(2), math.log(2)]),
    (lambda **k: losses.cosine_distance([[1, 0.0]], [[0.6, 0.8]], 1, **k), [[0.4]]),
]


@pytest.mark.parametrize(("call", "each"), CORE)
def test_core_losses_and_reductions(call, each):
    each = np.array(each)
    np.testing.assert_allclose(call(reduction="none"), each, rtol=1e-5)
    for reduction, value in (("mean", each.mean()), ("sum", each.sum()), ("sumByNonzeroWeights", each.mean())):
        assert float(call(reduction=reduction)) == pytest.approx(value, rel=1e-5)


def test_weights_of_core_losses():
    one, w = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[2.0], [0.0]], np.float32)
    reduce = losses.compute_weighted_loss
    assert float(reduce(one, w)) == pytest.approx(6 / 2)
    assert float(reduce(one, w, losses.Reduction.SUM)) == pytest.approx(6)
    assert float(reduce(one, w, "mean")) == pytest.approx(6 / 4)
    assert float(reduce(one, 0 * w)) == 0
    with pytest.raises(ShapeError, match=r"\[1\].*\[2\]"):
        losses.mean_squared_error([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("loss", "shape", "expected"),
    [
        ("mse", (None, 1), metrics.binary_accuracy),
        ("binaryCrossentropy", (None, 3), metrics.binary_accuracy),
        ("sparseCategoricalCrossentropy", (None, 3), metrics.sparse_categorical_accuracy),
        ("categoricalCrossentropy", (None, 3), metrics.categorical_accuracy),
    ],
)
def test_what_accuracy_means(loss, shape, expected):
    assert metrics.get("accuracy", losses.get(loss), shape) is metrics.get("acc", loss, shape) is expected
    assert metrics.key("accuracy") == "acc"
    assert metrics.key("crossentropy") == "ce"
    assert metrics.key("mse") == "mse"
    assert metrics.key(expected) == expected.__name__
