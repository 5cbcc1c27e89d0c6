"""The printed summary; the four-column style is compared with TF.js in tests/conformance."""

import pytest

from layerflow import layers as L
from layerflow.errors import ArgumentError
from layerflow.models.functional import model
from layerflow.models.sequential import sequential

GUIDE = """\
_________________________________________________________________
Layer (type)                 Output shape              Param #
=================================================================
dense_Dense1 (Dense)         [null,32]                 25120
_________________________________________________________________
dense_Dense2 (Dense)         [null,10]                 330
=================================================================
Total params: 25450
Trainable params: 25450
Non-trainable params: 0
_________________________________________________________________
"""


@pytest.fixture(autouse=True)
def names(fresh_names):
    """The tests here look at automatic names."""


def text(net, *args, **kwargs):
    lines = []
    net.summary(*args, print_fn=lines.append, **kwargs)
    return "\n".join(lines) + "\n"


def mlp():
    return sequential(
        [L.dense(units=32, activation="relu", input_shape=[784]), L.dense(units=10, activation="softmax")]
    )


def test_the_guides_text():
    assert text(mlp()) == GUIDE


def test_line_length_and_positions_of_the_book():
    lines = text(mlp(), 30, [100, 50, 25]).splitlines()
    assert lines[:4] == ["_" * 30, "Layer (type)", "=" * 30, "dense_Dense1 (Dense)"]


def test_frozen_layers_count_as_not_trainable():
    net = mlp()
    net.layers[0].trainable = False
    assert "Trainable params: 330\nNon-trainable params: 25120\n" in text(net)


def test_general_graphs_name_their_inputs():
    a, b = L.input(shape=[2]), L.input(shape=[2])
    out = text(model(inputs=[a, b], outputs=L.add()([a, b])))
    assert "Receives inputs" in out
    assert "input1[0][0]\n" in out
    assert "input2[0][0]\n" in out


def test_tfjs_style():
    first = text(mlp(), style="tfjs4").splitlines()[3]
    assert first == "dense_Dense1 (Dense)        [[null,784]]              [null,32]                 25120     "
    with pytest.raises(ArgumentError, match="style"):
        mlp().summary(style="keras")
