"""Activations: values against float64 formulas, gradients against finite differences, names."""

import math

import numpy as np
import pytest

from layerflow import activations
from layerflow.errors import UnknownNameError
from layerflow.graph import closures
from layerflow.registry import custom_objects

X = np.array([-30.0, -3.0, -0.7, -0.1, 0.2, 1.3, 2.6, 40.0])
ERF = np.vectorize(math.erf)
REFERENCE = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "softmax": lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
    "logSoftmax": lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
    "gelu": lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "exponential": lambda x: np.exp(x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
}


def test_every_activation_has_a_reference():
    spelled = {name.replace("_", "").lower() for name in REFERENCE}
    assert spelled == {name.replace("_", "").lower() for name in activations.ACTIVATIONS.names()}


@pytest.mark.parametrize("name", REFERENCE)
def test_values(name):
    got = activations.get(name)(X.astype(np.float32))
    np.testing.assert_allclose(got, REFERENCE[name](X), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFERENCE)
def test_gradients_are_finite_and_right(name):
    function, reference = activations.get(name), REFERENCE[name]
    x = X[:-1] if name == "exponential" else X
    cotangent = np.linspace(-1, 2, x.size)
    exact = closures.grad(lambda v: (function(v) * cotangent).sum())(x.copy())
    steps = 1e-6 * np.eye(x.size)
    numeric = [float(((reference(x + s) - reference(x - s)) * cotangent).sum()) / 2e-6 for s in steps]
    np.testing.assert_allclose(exact, numeric, rtol=2e-4, atol=1e-5)


def test_names_and_functions():
    assert activations.get(None) is activations.linear
    assert activations.get("hardSigmoid") is activations.get("hard_sigmoid") is activations.hard_sigmoid
    assert activations.get("silu") is activations.swish
    assert activations.serialize(activations.hard_sigmoid) == "hard_sigmoid"

    def mine(x):
        return x

    assert activations.get(mine) is mine
    with pytest.raises(UnknownNameError, match="register"):
        activations.serialize(mine)
    with custom_objects({"mine": mine}):
        assert activations.get("mine") is mine
        assert activations.serialize(mine) == "mine"
    with pytest.raises(UnknownNameError, match=r"'rleu'.*'relu'"):
        activations.get("rleu")
