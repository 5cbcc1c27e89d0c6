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
    xs = lf.tensor2d([[1], [2], [3], [4]], [4, 1])
    ys = lf.tensor2d([[1], [3], [5], [7]], [4, 1])

    # Train model with fit().
    history = model.fit(xs, ys, epochs=1000, verbose=0)
    assert len(history.history["loss"]) == 1000

    # Run inference with predict().
    prediction = model.predict(lf.tensor2d([[5]], [1, 1]))
    prediction.print()
    assert prediction == pytest.approx(np.array([[9]]), abs=0.1)
    assert float(capsys.readouterr().out.strip(" []\n")) == pytest.approx(9, abs=0.1)


def test_integer_arrays_as_in_keras():
    model = lf.Sequential()
    model.add(lf.layers.Dense(units=1, input_shape=[1]))
    model.compile(optimizer="sgd", loss="mean_squared_error")
    xs, ys = np.array([[1], [2], [3], [4]]), np.array([[1], [3], [5], [7]])
    model.fit(xs, ys, epochs=1000, verbose=0)
    assert model.predict(np.array([[5]])) == pytest.approx(np.array([[9]]), abs=0.1)


def test_two_spellings_of_one_layer():
    by_class = lf.layers.Dense(units=1, inputShape=[1])
    by_factory = lf.layers.dense(units=1, inputShape=[1])
    assert type(by_class) is type(by_factory)
    assert by_class.get_config() == {**by_factory.get_config(), "name": by_class.name}


def test_tensor2d():
    xs = lf.tensor2d([[1], [2], [3], [4]], [4, 1])
    assert (xs.shape, xs.dtype) == ((4, 1), np.float32)
    assert xs.tolist() == np.array([[1], [2], [3], [4]]).tolist()


def test_factories_and_classes(fresh_names):
    """Constructors are fine in Python: the guide's warning is about `new` in JavaScript."""
    assert type(lf.Sequential()) is type(lf.sequential())
    layer = lf.layers.batch_normalization(axis=1)
    assert layer.get_config()["axis"] in (1, [1])
    assert isinstance(layer, lf.layers.BatchNormalization)


def test_layers_called_as_functions(capsys):
    my_input = lf.Input(shape=[2, 4])
    flatten = lf.layers.Flatten()
    print(flatten(my_input).shape)
    assert capsys.readouterr().out == "(None, 8)\n"


def test_apply_on_symbols(capsys):
    my_input = lf.input(shape=[2, 4])
    flatten = lf.layers.flatten()
    print(flatten.apply(my_input).shape)
    assert capsys.readouterr().out == "(None, 8)\n"


def test_apply_on_tensors(capsys):
    flatten = lf.layers.flatten()
    flatten.apply(lf.ones([2, 3, 4])).print()
    printed = capsys.readouterr().out
    assert printed.count("1.") == 24


def test_optimizer_spellings():
    assert lf.train.sgd(0.2).learning_rate == pytest.approx(0.2)
    assert lf.train.sgd(lr=0.2).learning_rate == pytest.approx(0.2)
    assert lf.train.sgd(learning_rate=0.2).learning_rate == pytest.approx(0.2)
    assert lf.optimizers.SGD(lr=0.2).learning_rate == pytest.approx(0.2)


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
