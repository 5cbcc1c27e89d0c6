"""Layers written in plain NumPy train; their gradients are those of finite differences."""

import numpy as np
import pytest

import layerflow as lf


class SquaredSum(lf.layers.Layer):
    def call(self, x):
        return np.square(x).sum(axis=-1, keepdims=True)


class TotalSquaredSum(lf.layers.Layer):
    def call(self, x):
        return np.square(x).sum()


class Swish(lf.layers.Layer):
    """x / (1 + exp(-beta x)) with a trained beta."""

    def build(self, input_shape):
        self.beta = self.add_weight("beta", [1], initializer="ones")

    def call(self, x):
        return x / (1 + np.exp(-self.beta * x))


class Gated(lf.layers.Layer):
    """Slices, where, several NumPy functions, a bias of its own."""

    def build(self, input_shape):
        self.offset = self.add_weight("offset", [input_shape[-1] // 2], initializer="zeros")

    def call(self, x):
        half = x.shape[-1] // 2
        value, gate = x[:, :half], x[:, half:]
        soft = np.where(gate > 0, np.tanh(gate), 0.1 * gate)
        return np.concatenate([value * soft + self.offset, np.maximum(value, gate)], axis=-1)


class WithTrainingFlag(lf.layers.Layer):
    def call(self, x, training=False):
        return x * 2 if training else x


CUSTOM = [SquaredSum, Swish, Gated]


def model_with(layer, rows=None):
    model = lf.sequential(
        [lf.layers.dense(units=6, activation="tanh", input_shape=[4]), layer, lf.layers.dense(units=1)]
    )
    model.compile(optimizer=lf.train.adam(0.02), loss="meanSquaredError")
    return model


@pytest.mark.parametrize("kind", CUSTOM)
def test_trains(kind):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((128, 4), np.float32)
    y = np.sin(x[:, :1]) + x[:, 1:2] * 0.5
    model = model_with(kind())
    before = [w.copy() for w in model.get_weights()]
    losses = model.fit(x, y, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert all(not np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("kind", [*CUSTOM, TotalSquaredSum])
def test_input_gradient_is_the_finite_difference(kind):
    rng = np.random.default_rng(1)
    x, direction = rng.standard_normal((2, 3, 6))
    layer = kind()
    layer.apply(lf.tensor(x))

    def f(values):
        return (layer.call(values) * 1.5).sum()

    step = 1e-2
    analytic = float((lf.grad(f)(x.astype(np.float32)) * direction).sum())
    ahead, behind = (float(np.float64(f((x + s * direction).astype(np.float32)))) for s in (step, -step))
    assert analytic == pytest.approx((ahead - behind) / (2 * step), rel=2e-2, abs=2e-3)


@pytest.mark.parametrize("kind", [Swish, Gated])
def test_weight_gradient_is_the_finite_difference(kind):
    x = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)
    layer = kind()
    layer.apply(x)
    (weight,) = layer.weights
    _, gradients = lf.variable_grads(lambda: layer.call(x).sum())

    def shifted(by):
        before = weight.value.copy()
        weight.assign(before + by)
        total = float(layer.apply(x).sum())
        weight.assign(before)
        return total

    step = 1e-2
    assert float(gradients[weight.name].sum()) == pytest.approx((shifted(step) - shifted(-step)) / (2 * step), rel=1e-2)


@pytest.mark.parametrize("kind", CUSTOM)
def test_symbolic_shape_is_the_eager_one(kind):
    x = np.ones((3, 6), np.float32)
    assert kind().apply(lf.input(shape=[6])).shape == (None, *kind().apply(x).shape[1:])


def test_compiled_equals_eager():
    x = np.random.default_rng(3).standard_normal((7, 4), np.float32)
    for kind in CUSTOM:
        model = model_with(kind())
        eager = x
        for layer in model.layers:
            eager = layer.apply(eager)
        np.testing.assert_allclose(model.predict(x), eager, rtol=2e-5, atol=1e-6)


def test_training_flag_reaches_the_layer():
    model = lf.sequential([WithTrainingFlag(input_shape=[1])])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    x = np.ones((4, 1), np.float32)
    assert model.predict(x).tolist() == [[1.0]] * 4
    assert model.train_on_batch(x, 2 * x) == 0
    assert model.evaluate(x, 2 * x) == 1


def test_weights_are_named_after_the_layer():
    layer = Swish(name="mine")
    layer.apply(np.ones((1, 2), np.float32))
    assert [w.name for w in layer.weights] == ["mine/beta"]
    assert layer.beta.shape == (1,)
