"""`check_numerics`: the first op that made a NaN or infinity is named, with its layer, batch, epoch and inputs."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import NumericsError


def f32(values):
    return np.array(values, np.float32)


@pytest.fixture(params=[True, False], ids=["compiled", "interpreted"])
def jit(request):
    lf.config.set_jit(request.param)
    yield request.param
    lf.config.set_jit(True)


@pytest.fixture
def checked():
    with lf.config.numerics_checked(True):
        yield


def classifier(loss: Any = "categoricalCrossentropy", optimizer="sgd", **options):
    model = lf.sequential(
        [
            lf.layers.dense(units=8, input_shape=[4], activation="relu", **options),
            lf.layers.dense(units=3, activation="softmax"),
        ]
    )
    model.compile(optimizer=optimizer, loss=loss)
    return model


def data(rows=64):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 4), np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)]


def test_logarithm_of_zero_in_a_loss_of_ones_own(jit, fresh_names):
    x, y = data()
    x[37] = 1e4  # softmax gives exact zeros there

    def loss(t, p):
        return -lf.sum(t * lf.log(p), -1)

    model = classifier(loss)
    with pytest.raises(NumericsError) as caught:
        model.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0, check_numerics=True)
    error = caught.value
    assert (error.op, error.layer, error.backward) == ("log", "", False)
    assert (error.epoch, error.batch, error.step) == (0, 4, 5)
    text = str(error)
    assert text.startswith("epoch 1, batch 5, optimizer step 5: in the loss: log (at test_numerics.py:")
    assert "-inf among 24 values" in text
    assert "[8,3] float32: 0 to 1" in text
    assert "add a small number" in text


def test_weights_stay_as_before_the_batch(jit):
    x, y = data()
    x[37] = np.float32(3e38)
    model, same = classifier(), classifier()
    same.set_weights(model.get_weights())
    with pytest.raises(NumericsError):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, check_numerics=True)
    same.fit(x[:32], y[:32], batch_size=8, shuffle=False, verbose=0)
    assert model.optimizer.iterations == 4
    for a, b in zip(model.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(x[:8], y[:8], verbose=0)  # goes on


def test_nan_in_the_data(checked, jit):
    model = classifier()
    x, y = data(8)
    model.train_on_batch(x, y)
    x[3, 2] = np.nan
    with pytest.raises((NumericsError, lf.errors.DataError), match="NaN"):
        model.train_on_batch(x, y)
    ds = lf.data.array([{"xs": x, "ys": y}])
    with pytest.raises((NumericsError, lf.errors.DataError), match="NaN"):
        model.fit_dataset(ds, epochs=1, verbose=0)


def test_exploding_updates(jit, fresh_names):
    model = lf.sequential([lf.layers.dense(units=4, input_shape=[4]), lf.layers.dense(units=1)])
    model.compile(optimizer=lf.train.sgd(1e12), loss="meanSquaredError")
    x, _ = data()
    with pytest.raises(NumericsError) as caught:
        model.fit(x, x.sum(1) * 1e6, epochs=20, batch_size=32, verbose=0, check_numerics=True)
    assert "smaller learning rate" in str(caught.value)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    huge = lf.variable([1e30], name="huge")
    with lf.config.numerics_checked(True), pytest.raises(NumericsError, match=r"update of huge: multiply made 1 inf"):
        lf.train.sgd(1e36).minimize(lambda: (huge * 1e5).sum())
    assert huge.numpy() == np.float32(1e30)


def test_only_the_gradient_is_not_finite(jit, fresh_names):
    """sqrt at 0: its value is 0, its slope infinite."""

    class Length(lf.layers.Layer):
        def call(self, x):
            return np.sqrt(np.sum(x * x, -1, keepdims=True))

    model = lf.sequential([lf.layers.dense(units=2, input_shape=[4]), Length()])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    x = np.zeros((8, 4), np.float32)
    with pytest.raises(NumericsError) as caught:
        model.fit(x, np.ones(8), epochs=1, verbose=0, check_numerics=True)
    error = caught.value
    assert (error.op, error.backward) == ("sqrt", True)
    assert error.layer.startswith("length_Length")
    assert f"gradient of {error.layer}: sqrt" in str(error)
    assert "slope at 0 is infinite" in str(error)


def test_in_a_layer_of_ones_own(jit):
    class Inverse(lf.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight("scale", [1], initializer="zeros")

        def call(self, x):
            return x / self.scale

    model = lf.sequential([Inverse(name="upside_down", input_shape=[4]), lf.layers.dense(units=1)])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    with pytest.raises(
        NumericsError, match=r"in layer upside_down: divide \(at test_numerics.py:\d+\) made .*div_no_nan"
    ) as caught:
        model.fit(data()[0], np.ones(64), verbose=0, check_numerics=True)
    assert (caught.value.op, caught.value.layer) == ("divide", "upside_down")


def test_a_gradient_names_the_layer(jit, fresh_names):
    """As the issue has it: `gradient of dense_Dense2: ...`."""
    model = lf.sequential(
        [
            lf.layers.dense(units=3, input_shape=[4], activation="relu"),
            lf.layers.dense(units=2, activation=lf.sqrt, kernel_initializer="zeros"),
        ]
    )
    model.compile(optimizer="sgd", loss="meanSquaredError")
    with pytest.raises(NumericsError, match="gradient of dense_Dense2: sqrt"):
        model.fit(data()[0], np.ones((64, 2)), verbose=0, check_numerics=True)


def test_infinities_that_do_no_harm_are_left_alone(jit, checked):
    """The padding of a maximum is -inf, and a mask may be."""
    model = lf.sequential(
        [
            lf.layers.max_pooling2d(pool_size=2, padding="same", input_shape=[3, 3, 1]),
            lf.layers.flatten(),
            lf.layers.dense(units=2, activation="softmax"),
        ]
    )
    model.compile(optimizer="sgd", loss="sparseCategoricalCrossentropy")
    model.fit(np.ones((4, 3, 3, 1)), np.zeros(4, np.int32), verbose=0)
    w = lf.variable([1.0, 2.0])
    lf.train.sgd(0.1).minimize(lambda: lf.softmax(lf.where([True, False], w, -np.inf)).sum())
    assert lf.max_pool(lf.ones([1, 3, 3, 1]), 2, 2, "same").shape == (1, 2, 2, 1)


def test_closures_and_gradients(checked, jit):
    w, x = lf.variable([1.0, 0.0]), lf.tensor([2.0, 3.0])
    with pytest.raises(
        NumericsError, match=r"in the loss: log \(at test_numerics.py:\d+\) made 1 -inf among 2 values.*1 of 2 are 0"
    ):
        lf.train.sgd(0.1).minimize(lambda: (lf.log(w) * x).sum())
    assert w.numpy().tolist() == [1, 0]
    with pytest.raises(NumericsError, match="optimizer step 1: gradient of the loss: sqrt"):
        lf.train.sgd(0.1).minimize(lambda: (lf.sqrt(w) * x).sum())
    with pytest.raises(NumericsError, match="gradient of the loss: sqrt"):
        lf.variable_grads(lambda: (lf.sqrt(w) * x).sum())
    with pytest.raises(NumericsError, match="gradient of the loss: sqrt"):
        lf.grad(lambda v: lf.sqrt(v))([0.0, 1.0])
    with pytest.raises(NumericsError, match=r"reciprocal \(at test_numerics.py:\d+\) made 1 inf"):
        lf.jit(lambda v: lf.reciprocal(v))([0.0, 1.0])
    with pytest.raises(NumericsError, match="an array that the function uses holds 1 NaN"):
        lf.train.sgd(0.1).minimize(lambda: (w * f32([1, np.nan])).sum())
    w.assign([np.nan, 1.0])
    with pytest.raises(NumericsError, match=f"variable {w.name} holds 1 NaN"):
        lf.train.sgd(0.1).minimize(lambda: (w * x).sum())


def test_ops_that_run_at_once(checked):
    with pytest.raises(NumericsError, match=r"^log made 1 -inf among 2 values. Its input: \[2\] float32: 0 to 1"):
        lf.log(lf.tensor([0.0, 1.0]))
    with pytest.raises(NumericsError, match="divide made 1 NaN"):
        lf.tensor([0.0]).div(lf.tensor([0.0]))
    assert np.isnan(lf.tensor([np.nan]).add(1))  # it was there before
    layer = lf.layers.activation(activation=lf.log, name="logarithm")
    with pytest.raises(NumericsError, match="log made"):
        layer.apply(lf.tensor([0.0]))


def test_off_again():
    """Steps made while it was on do not stay, nor those made before."""
    x, y = data(8)
    model = classifier(lambda t, p: -lf.sum(t * lf.log(p * 0.0), -1))
    assert not np.isfinite(model.train_on_batch(x, y))
    model = classifier(lambda t, p: -lf.sum(t * lf.log(p * 0.0), -1))
    first = model.get_weights()
    lf.config.set_check_numerics(True)
    try:
        with pytest.raises(NumericsError):
            model.train_on_batch(x, y)
    finally:
        lf.config.set_check_numerics(False)
    assert all((a == b).all() for a, b in zip(first, model.get_weights(), strict=True))
    assert not np.isfinite(model.train_on_batch(x, y))
    assert lf.log(lf.tensor([0.0])) == -np.inf


def test_nothing_changes_while_numbers_are_finite():
    """The same bits with and without."""
    x, y = data()
    a, b = classifier(optimizer="adam"), classifier(optimizer="adam")
    b.set_weights(a.get_weights())
    plain = a.fit(x, y, epochs=2, verbose=0, shuffle=False).history
    watched = b.fit(x, y, epochs=2, verbose=0, shuffle=False, check_numerics=True).history
    assert plain == watched
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_environment():
    code = "import layerflow as lf; assert lf.config.check_numerics(); lf.log(lf.tensor([0.0]))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "LAYERFLOW_CHECK_NUMERICS": "1"},
    )
    assert "NumericsError: log made 1 -inf" in run.stderr
