"""random_width: widths drawn outside of programs, nothing in inference, and training only on data of such widths."""

import numpy as np
import pytest

import layerflow as lf
from layerflow import layers as L
from layerflow.errors import ArgumentError, ModelError

X = np.arange(2 * 3 * 20 * 2, dtype=np.float32).reshape(2, 3, 20, 2)


def widths(layer, calls=60):
    return [layer.apply(X, training=True).shape[2] for _ in range(calls)]


def test_widths_cover_the_range_and_a_seed_fixes_them():
    found = widths(L.random_width(factor=[-0.2, 0.3], seed=1))
    assert set(found) == set(range(16, 27))
    assert found == widths(L.RandomWidth((-0.2, 0.3), seed=1))
    assert found != widths(L.RandomWidth((-0.2, 0.3), seed=2))
    lf.random.set_seed(3)
    first = widths(L.random_width(factor=0.5))
    assert min(first) < 13
    assert max(first) > 27
    lf.random.set_seed(3)
    assert first == widths(L.random_width(factor=0.5))


def test_images_are_resampled_and_stay_as_they_are_in_inference():
    layer = L.random_width(factor=[1.0, 1.0], interpolation="nearest")
    np.testing.assert_array_equal(layer.apply(X, training=True), np.repeat(X, 2, 2))
    np.testing.assert_array_equal(layer.apply(X), X)
    first = L.random_width(factor=[1.0, 1.0], dataFormat="channelsFirst", autoVectorize=True)
    assert first.apply(X.transpose(0, 3, 1, 2), training=True).shape == (2, 2, 3, 40)
    whole = L.random_width(factor=[-0.99, -0.99]).apply(X.astype(np.uint8), training=True)
    assert whole.shape == (2, 3, 1, 2)
    assert whole.dtype == np.float32


def network(inputs):
    return lf.sequential(
        [*inputs, L.conv2d(filters=4, kernel_size=3, padding="same"), L.global_average_pooling2d(), L.dense(units=1)]
    )


def test_the_width_behind_it_is_unknown_and_fit_says_what_to_do():
    model = network([L.random_width(factor=0.2, input_shape=[3, 20, 2])])
    assert model.layers[0].output_shape == (None, 3, None, 2)
    assert model.layers[1].output_shape == (None, 3, None, 4)
    assert model.predict(X).shape == (2, 1)
    model.compile(optimizer="sgd", loss="meanSquaredError")
    model.evaluate(X, np.zeros((2, 1)), verbose=0)
    weights = model.get_weights()
    with pytest.raises(ModelError, match=r"random_width_RandomWidth\d+: .* dataset.map"):
        model.fit(X, np.zeros((2, 1)), verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])
    assert model(X, training=True).shape == (2, 1)  # computed at once, it draws


def test_what_the_message_says_works():
    layer = L.random_width(factor=[0.0, 0.1], seed=0)
    dataset = lf.data.array({"xs": np.repeat(X, 4, 0), "ys": np.ones((8, 1), np.float32)}).batch(4)
    stretched = dataset.map(lambda e: {**e, "xs": layer.apply(e["xs"], training=True)})
    model = network([L.input_layer(input_shape=[3, None, 2]), L.rescaling(scale=1 / 240)])
    model.compile(optimizer="adam", loss="meanSquaredError")
    losses = model.fit_dataset(stretched, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("factor", [-0.1, 1.0, [0.3, 0.2], [-1.0, 0.0], [0.1], [0.1, 0.2, 0.3]])
def test_factors_that_make_no_sense_are_refused(factor):
    with pytest.raises(ArgumentError, match="factor"):
        L.random_width(factor=factor)
