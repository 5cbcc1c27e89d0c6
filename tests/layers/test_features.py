"""Features, noise and functions: what `adapt` learns, what training does, what is saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow import layers as L
from layerflow.errors import NotBuiltError, SaveError

X = np.random.default_rng(0).normal(3, 2, (200, 4)).astype(np.float32)


def test_normalization_learns_from_arrays_and_datasets(tmp_path):
    layer, streamed = L.normalization(input_shape=[4]), L.normalization()
    layer.adapt(X)
    streamed.adapt(lf.data.array(X).batch(32))
    model = lf.sequential([layer])
    y = np.asarray(model.predict(X))
    np.testing.assert_allclose(y, (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(streamed.apply(X), y, rtol=1e-4, atol=1e-5)
    layer.adapt(X + 1)  # a model that holds the layer follows
    np.testing.assert_allclose(model.predict(X + 1), y, rtol=1e-4, atol=1e-4)
    model.save(tmp_path)
    np.testing.assert_array_equal(lf.load_layers_model(tmp_path).predict(X), model.predict(X))
    assert not layer.trainable_weights


def test_discretization_makes_bins_of_equal_numbers(tmp_path):
    layer = L.discretization(num_bins=4, input_shape=[4])
    with pytest.raises(NotBuiltError, match="adapt"):
        layer.apply(X)
    layer.adapt(X)
    model = lf.sequential([layer])
    bins = np.asarray(model.predict(X))
    assert np.bincount(bins.astype(int).ravel()).tolist() == [200, 200, 200, 200]
    model.save(tmp_path)
    np.testing.assert_array_equal(lf.load_layers_model(tmp_path).predict(X), bins)
    layer.adapt(X + 100)
    assert (np.asarray(model.predict(X)) == 0).all()


def test_counts_with_weights():
    layer = L.category_encoding(num_tokens=3, output_mode="count")
    y = layer.apply(np.array([[0, 2, 2]]), count_weights=np.array([[0.5, 1.0, 2.0]], np.float32))
    np.testing.assert_array_equal(y, [[0.5, 0, 3]])


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("layer", "mean", "deviation"),
    [
        (L.GaussianNoise(stddev=0.5), 1.0, 0.5),
        (L.GaussianDropout(rate=0.2), 1.0, 0.5),
    ],
    ids=["noise", "dropout"],
)
def test_noise_has_the_mean_and_deviation_it_says(layer, mean, deviation, jit):
    x = np.ones((400, 100), np.float32)
    run = lf.jit(lambda x: layer.call(x, training=True)) if jit else lambda x: layer.apply(x, training=True)
    y = np.asarray(run(x))
    assert y.mean() == pytest.approx(mean, abs=0.02)
    assert y.std() == pytest.approx(deviation, rel=0.02)
    np.testing.assert_array_equal(layer.apply(x), x)


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(1).standard_normal((500, 200)).astype(np.float32)
    y = np.asarray(L.alpha_dropout(rate=0.3).apply(x, training=True))
    assert y.mean() == pytest.approx(0, abs=0.02)
    assert y.std() == pytest.approx(1, abs=0.02)
    assert len(np.unique(y.round(4))) < 0.75 * y.size  # a third of them are the same number


def test_a_function_is_saved_if_it_is_registered(tmp_path):
    def halved(x):
        return x / 2

    model = lf.sequential([L.dense(units=2, input_shape=[4]), L.function(halved)])
    with pytest.raises(SaveError, match=r"function_Function.*register_class"):
        model.save(tmp_path / "no")
    assert not (tmp_path / "no").exists()
    with lf.custom_objects({"halved": halved}):
        model.save(tmp_path / "yes")
        again = lf.load_layers_model(tmp_path / "yes")
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    both = L.function(np.maximum).apply([X, -X])
    np.testing.assert_array_equal(both, np.abs(X))


def test_clone_model_takes_other_layers():
    model = lf.sequential([L.dense(units=3, input_shape=[4]), L.function(np.tanh)])
    assert lf.models.clone_model(model).predict(X).shape == (200, 3)

    def wider(layer):
        return L.dense(units=6) if isinstance(layer, L.Dense) else layer.from_config(layer.get_config())

    copied: Any = lf.models.clone_model
    assert copied(model, cloneFunction=wider).predict(X).shape == (200, 6)
    x = lf.input(shape=[4])
    graph = lf.model(inputs=x, outputs=L.add().apply([x, L.dense(units=4).apply(x)]))
    clone = lf.clone_model(graph)
    assert not np.array_equal(clone.predict(X), graph.predict(X))
    assert [layer.name for layer in clone.layers] == [layer.name for layer in graph.layers]


def test_one_hot_of_single_numbers():
    """An axis of one number is left out where that is known; a model of any number of steps keeps it."""
    layer = L.category_encoding(num_tokens=5, output_mode="oneHot")
    assert layer.apply(np.array([[1], [4]])).shape == (2, 5)
    x = lf.input(shape=[None], dtype="int32")
    model = lf.model(inputs=x, outputs=L.category_encoding(num_tokens=5, output_mode="oneHot").apply(x))
    assert model.outputs[0].shape == (None, None, 5)
    assert [model.predict(np.ones((2, n), np.int32)).shape for n in (3, 1)] == [(2, 3, 5), (2, 1, 5)]
