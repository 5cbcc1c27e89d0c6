"""The examples of the guide "Models and layers", in Python spelling, with the outputs printed there.

Its Portuguese twin, models_and_layers.pt.md, has the same code blocks (see test_blocks.py): this is its test, too.
"""

import numpy as np
import pytest

import layerflow as lf

TABLE = [
    "Layer (type)                 Output shape              Param #",
    "dense_Dense1 (Dense)         [null,32]                 25120",
    "dense_Dense2 (Dense)         [null,10]                 330",
    "Total params: 25450",
    "Trainable params: 25450",
    "Non-trainable params: 0",
]


def sequential():
    return lf.sequential(
        layers=[
            lf.layers.dense(input_shape=[784], units=32, activation="relu"),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )


def sequential_by_add():
    model = lf.sequential()
    model.add(lf.layers.dense(inputShape=[784], units=32, activation="relu"))
    model.add(lf.layers.dense(units=10, activation="softmax"))
    return model


def functional():
    input = lf.input(shape=[784])
    dense1 = lf.layers.dense(units=32, activation="relu").apply(input)
    dense2 = lf.layers.dense(units=10, activation="softmax").apply(dense1)
    return lf.model(inputs=input, outputs=dense2)


@pytest.mark.parametrize("make", [sequential, sequential_by_add, functional])
def test_three_ways_to_the_same_model(make, fresh_names):
    model = make()
    dense = [layer.name for layer in model.layers if isinstance(layer, lf.layers.Dense)]
    assert dense == ["dense_Dense1", "dense_Dense2"]
    assert [layer.name for layer in model.output_layers] == ["dense_Dense2"]
    assert len(model.input_layers) == 1
    assert model.outputs[0].shape == (None, 10)
    assert model.count_params() == 25450


@pytest.mark.parametrize("make", [sequential, sequential_by_add])
def test_summary(make, fresh_names):
    lines: list[str] = []
    make().summary(print_fn=lines.append)
    text = [line.rstrip() for line in lines if not set(line) <= set("_=")]
    assert text == TABLE


def test_symbolic_apply_gives_symbolic_tensors():
    input = lf.input(shape=[784])
    output = lf.layers.dense(units=32, activation="relu").apply(input)
    assert isinstance(output, lf.SymbolicTensor)
    assert output.shape == (None, 32)


def test_eager_activation_prints(capsys):
    t = lf.tensor([-2, 1, 0, 5])
    o = lf.layers.activation(activation="relu").apply(t)
    o.print()
    assert o.tolist() == [0, 1, 0, 5]
    assert capsys.readouterr().out.split() == ["[0.,", "1.,", "0.,", "5.]"]


def test_validation_of_consecutive_layers():
    model = sequential()
    with pytest.raises(ValueError, match="784"):
        model.predict(np.zeros((2, 783), np.float32))


def test_save_and_load(tmp_path):
    model = sequential()
    model.save(tmp_path / "my-model-1")
    again = lf.load_layers_model(tmp_path / "my-model-1")
    x = np.random.default_rng(0).standard_normal((3, 784), np.float32)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


class SquaredSumLayer(lf.layers.Layer):
    def __init__(self):
        super().__init__()

    # In this case, the output is a scalar.
    def compute_output_shape(self, input_shape):
        return []

    # call() is where we do the computation.
    def call(self, input, **kwargs):
        return input.square().sum()

    # Every layer needs a unique name.
    def get_class_name(self):
        return "SquaredSum"


def test_custom_layer_prints_30(capsys):
    t = lf.tensor([-2, 1, 0, 5])
    o = SquaredSumLayer().apply(t)
    o.print()
    assert o == 30
    assert float(capsys.readouterr().out) == 30


def test_core_api_model():
    # The weights and biases for the two dense layers.
    w1 = lf.variable(lf.random_normal([784, 32]))
    b1 = lf.variable(lf.random_normal([32]))
    w2 = lf.variable(lf.random_normal([32, 10]))
    b2 = lf.variable(lf.random_normal([10]))

    def model(x):
        return x.mat_mul(w1).add(b1).relu().mat_mul(w2).add(b2).softmax()

    def with_operators(x):
        return lf.softmax(lf.relu(x @ w1 + b1) @ w2 + b2)

    x = lf.random_normal([3, 784])
    y = model(x)
    assert y.shape == (3, 10)
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(with_operators(x), y, rtol=1e-5, atol=1e-7)
