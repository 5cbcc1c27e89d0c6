"""Functional models: names, order, sharing, nesting, what is no model."""

import numpy as np
import pytest

from layerflow import layers as L
from layerflow.errors import ArgumentError, ModelError, ShapeError
from layerflow.models.functional import Model, model
from layerflow.models.sequential import sequential


@pytest.fixture(autouse=True)
def names(fresh_names):
    """The tests here look at automatic names."""


def two_inputs():
    a, b = L.input(shape=[5]), L.input(shape=[5])
    shared = L.dense(units=4, activation="tanh")
    joined = L.concatenate()([shared(a), shared(b)])
    return model(inputs=[a, b], outputs=[L.dense(units=2)(joined), L.dense(units=3)(joined)])


def test_names_weights_and_layers():
    x = L.input(shape=[784])
    hidden = L.dense(units=32, activation="relu").apply(x)
    net = model(inputs=x, outputs=L.dense(units=10).apply(hidden))
    assert [layer.name for layer in net.layers] == ["input1", "dense_Dense1", "dense_Dense2"]
    assert net.name == "model1"
    assert [(w.name, w.shape) for w in net.weights] == [
        ("dense_Dense1/kernel", (784, 32)),
        ("dense_Dense1/bias", (32,)),
        ("dense_Dense2/kernel", (32, 10)),
        ("dense_Dense2/bias", (10,)),
    ]
    assert net.count_params() == 25450
    assert [layer.name for layer in net.input_layers] == ["input1"]
    assert [layer.name for layer in net.output_layers] == ["dense_Dense2"]
    assert net.get_layer("dense_Dense1") is net.get_layer(index=1) is net.layers[1]


def test_a_shared_layer_computes_with_the_same_weights():
    net = two_inputs()
    shared = net.layers[2]
    assert len(shared.inbound_nodes) == 2
    x = np.ones((2, 5), np.float32)
    (y1, y2), penalties = net.replay([x, x])
    assert y1.shape == (2, 2)
    assert y2.shape == (2, 3)
    assert penalties == []
    assert len(net.weights) == 6


def test_set_weights_checks_everything_first():
    net = two_inputs()
    before = net.get_weights()
    wrong = [*[w + 1 for w in before[:-1]], np.ones(7)]
    with pytest.raises(ShapeError, match="bias"):
        net.set_weights(wrong)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
    net.set_weights([w + 1 for w in before])
    assert np.array_equal(net.weights[0].numpy(), before[0] + 1)


def test_trainable_reaches_nested_layers_and_keeps_the_order():
    inner = sequential([L.dense(units=3, input_shape=[4])])
    x = L.input(shape=[4])
    net = model(inputs=x, outputs=L.dense(units=1)(inner(x)))
    order = [w.name for w in net.weights]
    inner.trainable = False
    assert [w.name for w in net.trainable_weights] == ["dense_Dense2/kernel", "dense_Dense2/bias"]
    assert [w.name for w in net.weights] == order
    net.trainable = True
    assert inner.layers[0].trainable
    assert len(net.trainable_weights) == 4


def test_models_nest_and_are_applied_again():
    base = two_inputs()
    a, b = L.input(shape=[5]), L.input(shape=[5])
    y1, _ = base([a, b])
    net = model(inputs=[a, b], outputs=y1)
    xs = [np.ones((3, 5), np.float32), np.zeros((3, 5), np.float32)]
    assert np.array_equal(net.replay(xs)[0][0], base.replay(xs)[0][0])
    assert np.array_equal(base(xs)[0], base.replay(xs)[0][0])
    again = Model.from_config(net.get_config())
    assert again.get_config() == net.get_config()


def test_deep_models_do_not_recurse():
    x = y = L.input(shape=[1])
    for _ in range(1500):
        y = L.relu()(y)
    assert len(model(inputs=x, outputs=y).layers) == 1501


def _cycle():
    x = L.input(shape=[2])
    a = L.relu()
    y = a(x)
    z = L.relu()(y)
    a.inbound_nodes[0].inputs[0] = z
    return model(inputs=x, outputs=z)


def _unused_input():
    x = L.input(shape=[2])
    return model(inputs=[x, L.input(shape=[2])], outputs=L.relu()(x))


def _missing_input():
    x, other = L.input(shape=[2]), L.input(shape=[2], name="other")
    return model(inputs=x, outputs=L.add()([x, other]))


def _twice():
    x = L.input(shape=[2])
    return model(inputs=[x, x], outputs=L.relu()(x))


def _same_name():
    x = L.input(shape=[2])
    return model(inputs=x, outputs=L.relu(name="a")(L.relu(name="a")(x)))


def _not_an_input():
    x = L.relu()(L.input(shape=[2]))
    return model(inputs=x, outputs=L.relu()(x))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (_cycle, ModelError, "cycle"),
        (_unused_input, ModelError, "disconnected.*input2"),
        (_missing_input, ModelError, "disconnected.*'other'"),
        (_twice, ArgumentError, "redundant"),
        (_same_name, ModelError, "'a' is used 2 times"),
        (_not_an_input, ArgumentError, "lf.input"),
        (lambda: model(inputs=L.input(shape=[2]), outputs=np.ones(2)), ArgumentError, "symbols"),
        (lambda: two_inputs()(np.ones((2, 5))), ArgumentError, "expects 2 inputs"),
        (lambda: two_inputs()([np.ones((2, 5)), np.ones((2, 4))]), ShapeError, "input2.*null,5"),
        (lambda: two_inputs().get_layer("x"), ArgumentError, "no layer named 'x'"),
    ],
)
def test_what_is_no_model_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_dispose():
    net = two_inputs()
    assert net.dispose()["num_disposed_variables"] == 6
    with pytest.raises(ModelError):
        net.dispose()
