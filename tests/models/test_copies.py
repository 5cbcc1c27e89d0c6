"""Deep copies and clones of models: what they keep, what they share (nothing), and that training goes on alike."""

import copy
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow import layers as L
from layerflow.errors import ArgumentError, ModelError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 5, 3)).astype(np.float32)
Y = RNG.normal(size=(12, 1)).astype(np.float32)


@lf.register_class
class Gate(L.Layer):
    """A layer of a user, with a layer, a function and a setting that no configuration tells."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = L.Dense(units, kernel_regularizer="l2")
        self.after = np.tanh
        self.scale = 1.0

    def call(self, x):
        return self.after(self.inner(x)) * self.scale


def chain() -> Any:
    model: Any = lf.sequential(
        [
            L.bidirectional(L.gru(units=3), input_shape=[5, 3]),
            L.batch_normalization(),
            Gate(4),
            L.dropout(rate=0.2),
            L.dense(units=1),
        ]
    )
    model.layers[2].scale = 2.0
    model.compile(
        optimizer=lf.train.adam(0.01), loss="meanSquaredError", metrics=["mae", lf.metrics.MeanSquaredError()]
    )
    return model


def shared() -> Any:
    """Two inputs, a layer that is used twice, a model inside, two outputs."""
    a, b = lf.input(shape=[5, 3]), lf.input(shape=[5, 3])
    both = L.lstm(units=2, activity_regularizer="l1")
    inner = lf.sequential([L.dense(units=3, input_shape=[4]), L.dense(units=1)])
    y = inner.apply(L.concatenate().apply([both.apply(a), both.apply(b)]))
    model: Any = lf.model(inputs=[a, b], outputs=[y, L.dense(units=1, trainable=False).apply(y)])
    model.compile(optimizer="sgd", loss=["meanSquaredError", "meanAbsoluteError"])
    return model


def equal(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [chain, shared])
def test_a_copy_trains_on_as_the_original_and_apart_from_it(make):
    model = make()
    xs, ys = (X, Y) if len(model.inputs) == 1 else ([X, -X], [Y, Y])
    model.fit(xs, ys, epochs=2, batch_size=5, verbose=0)
    twin = copy.deepcopy(model)
    equal(twin, model)
    assert twin.optimizer is not model.optimizer
    assert twin.optimizer.iterations == model.optimizer.iterations == 6
    assert [w.trainable for w in twin.weights] == [w.trainable for w in model.weights]
    assert not {id(w) for w in twin.weights} & {id(w) for w in model.weights}
    before = model.get_weights()
    lf.random.set_seed(1)
    there = twin.fit(xs, ys, epochs=2, batch_size=5, verbose=0).history
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    lf.random.set_seed(1)
    assert model.fit(xs, ys, epochs=2, batch_size=5, verbose=0).history == there
    equal(twin, model)


def test_a_copy_keeps_what_no_configuration_tells_and_a_clone_does_not():
    model = chain()
    assert copy.deepcopy(model).layers[2].scale == 2.0
    clone = lf.models.clone_model(model)
    assert clone.layers[2].scale == 1.0
    assert not clone.compiled
    assert [w.name for w in clone.weights] == [w.name for w in model.weights]


def test_a_copy_of_a_layer_belongs_to_no_model_and_serves_in_another():
    model = chain()
    gate: Any = copy.deepcopy(model.layers[2])
    assert gate.inbound_nodes == []
    assert gate.inner is not model.layers[2].inner
    assert len(gate.losses) == 1
    x = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(gate.apply(x), model.layers[2].apply(x))
    net = lf.sequential([L.dense(units=6, input_shape=[3]), gate])
    net.compile(optimizer="sgd", loss="meanSquaredError")
    kept = model.layers[2].get_weights()
    net.fit(X[:, 0], np.ones((12, 4)), verbose=0)
    np.testing.assert_array_equal(model.layers[2].get_weights()[0], kept[0])
    alone = copy.deepcopy(gate.inner)  # an inner layer alone is a layer of its own
    assert alone.path == alone.name


def test_the_penalty_of_a_copy_is_that_of_its_own_weights():
    layer = L.dense(units=2, kernel_regularizer="l2")
    layer.apply(np.ones((1, 3)))
    other = copy.deepcopy(layer)
    other.set_weights([np.full((3, 2), 10.0), np.zeros(2)])
    assert float(other.losses[0]()) == pytest.approx(0.01 * 600)
    assert float(layer.losses[0]()) < 1


def test_the_state_of_a_stateful_layer_goes_with_the_copy():
    model: Any = lf.sequential([L.gru(units=2, stateful=True, batch_input_shape=[4, 5, 3])])
    model.predict(X[:4])
    twin = copy.deepcopy(model)
    second = model.predict(X[:4])
    np.testing.assert_array_equal(twin.predict(X[:4]), second)
    model.reset_states()
    assert np.abs(twin.layers[0].states[0]).max() > 0


def test_frozen_models_and_weights_stay_frozen_in_a_copy():
    model = chain()
    model.layers[0].trainable = False
    twin = copy.deepcopy(model)
    assert len(twin.trainable_weights) == len(model.trainable_weights)
    model.trainable = False
    twin = copy.deepcopy(model)
    assert not twin.trainable
    assert twin.trainable_weights == []


def test_the_attributes_of_a_model_class_of_ones_own_are_copied():
    class Named(lf.Sequential):
        labels: list[str]

    model = Named([L.dense(units=1, input_shape=[2])])
    model.labels = ["a", "b"]
    twin = copy.deepcopy(model)
    assert type(twin) is Named
    assert twin.labels == ["a", "b"]
    assert twin.labels is not model.labels


def test_what_was_disposed_of_is_not_copied():
    model = chain()
    model.dispose()
    with pytest.raises(ModelError, match="disposed"):
        copy.deepcopy(model).predict(X)


def test_arrays_that_a_layer_was_called_with_are_kept(tmp_path):
    """An attention mask is part of the model: copies, clones and files have it too."""
    x = lf.input(shape=[5, 8])
    attention = lf.layers.multi_head_attention(num_heads=2, key_dim=4)
    model = lf.model(inputs=x, outputs=attention.apply(x, x, attention_mask=np.tri(5, dtype=bool)[None]))
    given = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    expected = model.predict(given)
    assert not np.allclose(expected, attention.apply(given, given))  # the mask matters
    clone = lf.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path)
    for other in (clone, copy.deepcopy(model), lf.load_layers_model(tmp_path)):
        np.testing.assert_array_equal(other.predict(given), expected)


def test_a_symbol_is_no_argument_of_a_call():
    x, mask = lf.input(shape=[5, 8]), lf.input(shape=[5, 5])
    with pytest.raises(ArgumentError, match=r"attention_mask is a symbol.*as an array"):
        lf.layers.multi_head_attention(num_heads=2, key_dim=4, name="mine").apply(x, x, attention_mask=mask)
