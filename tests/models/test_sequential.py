"""Sequential: grows, shrinks, refuses."""

from typing import Any

import numpy as np
import pytest

from layerflow import layers as L
from layerflow.errors import ArgumentError, ModelError, NotBuiltError, ShapeError
from layerflow.models.sequential import Sequential, sequential

ANY: Any = "no layer"


@pytest.fixture(autouse=True)
def names(fresh_names):
    """The tests here look at automatic names."""


def test_add_and_constructor_are_the_same():
    a = sequential()
    a.add(L.dense(units=3, input_shape=[4], name="one"))
    a.add(L.dense(units=2, name="two"))
    b = Sequential([L.Dense(3, input_shape=[4], name="one"), L.Dense(2, name="two")], name="sequential_1")
    assert a.get_config() == b.get_config()
    assert (a.name, a.inputs[0].shape, a.outputs[0].shape) == ("sequential_1", (None, 4), (None, 2))
    assert a.input_names == ["one_input"]
    assert [layer.name for layer in a.layers] == ["one", "two"]


def test_pop_and_add_again():
    net = sequential([L.dense(units=3, input_shape=[4]), L.dense(units=2)])
    last = net.pop()
    assert net.outputs[0].shape == (None, 3)
    net.add(last)
    assert net.outputs[0].shape == (None, 2)
    x = np.ones((2, 4), np.float32)
    assert net.replay([x])[0][0].shape == (2, 2)
    net.pop()
    net.pop()
    with pytest.raises(ModelError, match="no layer"):
        net.pop()
    with pytest.raises(NotBuiltError):
        net.summary()
    net.add(L.dense(units=1, input_shape=[7]))
    assert net.count_params() == 8


def test_a_model_as_first_layer_and_round_trip():
    base = sequential([L.dense(units=3, input_shape=[4])])
    net = sequential([base, L.dense(units=1)])
    assert net.count_params() == 19
    again = Sequential.from_config(net.get_config())
    assert again.get_config() == net.get_config()


def test_an_input_layer_may_come_first():
    net = sequential([L.input_layer(input_shape=[4]), L.dense(units=2)])
    assert [layer.name for layer in net.layers] == ["dense_Dense1"]
    assert Sequential.from_config(net.get_config()).count_params() == 10


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: sequential([L.dense(units=1)]), ArgumentError, "needs an input_shape"),
        (
            lambda: sequential([L.dense(units=1, input_shape=[2], name="a"), L.dense(units=1, name="a")]),
            ModelError,
            "'a'",
        ),
        (
            lambda: sequential([L.dense(units=1, input_shape=[2]), L.permute(dims=[2, 1])]),
            ShapeError,
            "permute.*3 axes",
        ),
        (lambda: Sequential.add(sequential(), ANY), ArgumentError, "takes a layer"),
        (lambda: sequential().count_params(), NotBuiltError, "no layers"),
    ],
)
def test_wrong_use_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_refused_layer_changes_nothing():
    net = sequential([L.dense(units=1, input_shape=[2])])
    with pytest.raises(ShapeError):
        net.add(L.permute(dims=[2, 1]))
    assert len(net.layers) == 1
    assert net.outputs[0].shape == (None, 1)
