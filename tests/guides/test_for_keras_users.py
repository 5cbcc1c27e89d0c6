"""The examples of "Layers API for Keras users", in Python spelling."""

import numpy as np
import pytest

import layerflow as lf


@pytest.mark.parametrize(
    "make",
    [
        lambda: lf.Sequential([lf.layers.Dense(units=1, input_shape=[1])]),
        lambda: lf.sequential([lf.layers.dense(units=1, inputShape=[1])]),
    ],
    ids=["classes", "factories"],
)
@pytest.mark.parametrize("loss", ["mean_squared_error", "meanSquaredError"])
def test_linear_regression(make, loss, capsys):
    # Build and compile model.
    model = make()
    model.compile(optimizer="sgd", loss=loss)

    # Generate some synthetic data for training.
    xs = lf.tensor([[1], [2], [3], [4]], [4, 1])
    ys = lf.tensor([[1], [3], [5], [7]], [4, 1])

    # Train model with fit().
    history = model.fit(xs, ys, epochs=1000, verbose=0)
    assert len(history.history["loss"]) == 1000

    # Run inference with predict().
    prediction = model.predict(lf.tensor([[5]], [1, 1]))
    prediction.print()
    assert prediction == pytest.approx(np.array([[9]]), abs=0.1)
    assert capsys.readouterr().out


def test_integer_arrays_as_in_keras():
    model = lf.Sequential()
    model.add(lf.layers.Dense(units=1, input_shape=[1]))
    model.compile(optimizer="sgd", loss="mean_squared_error")
    xs, ys = np.array([[1], [2], [3], [4]]), np.array([[1], [3], [5], [7]])
    model.fit(xs, ys, epochs=1000, verbose=0)
    assert model.predict(np.array([[5]])) == pytest.approx(np.array([[9]]), abs=0.1)


def test_apply_on_symbols():
    my_input = lf.input(shape=[2, 4])
    flatten = lf.layers.flatten()
    assert flatten.apply(my_input).shape == (None, 8)


def test_apply_on_tensors(capsys):
    flatten = lf.layers.flatten()
    flatten.apply(lf.ones([2, 3, 4])).print()
    printed = capsys.readouterr().out
    assert printed.count("1.") == 24


def test_optimizer_spellings():
    assert lf.train.sgd(0.2).learning_rate == pytest.approx(0.2)
    assert lf.train.sgd(lr=0.2).learning_rate == pytest.approx(0.2)
    assert lf.train.sgd(learning_rate=0.2).learning_rate == pytest.approx(0.2)


@pytest.mark.parametrize("spelling", ["glorotNormal", "glorot_normal", "GlorotNormal"])
def test_option_strings(spelling):
    layer = lf.layers.dense(units=2, input_shape=[3], kernel_initializer=spelling)
    assert type(layer.kernel_initializer).__name__ == "GlorotNormal"


def test_load_layers_model(tmp_path):
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[1])])
    model.save(tmp_path)
    again = lf.load_layers_model(tmp_path / "model.json")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_dispose():
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[1])])
    model.predict(np.ones((1, 1), np.float32))
    model.dispose()
    with pytest.raises((ValueError, RuntimeError), match="dispose"):
        model.predict(np.ones((1, 1), np.float32))
