"""What recurrent layers do besides the numbers of one call: states, masks, training, cells of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow import layers as L
from layerflow.registry import custom_objects

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 5, 3)).astype(np.float32)
X[0, 3:] = 0
X[1, 0] = 0
X[2] = 0


class Leaky(L.Layer):
    """A cell in NumPy terms; its output is not one of its states."""

    state_size = 4

    def build(self, input_shape):
        self.w = self.add_weight("w", (input_shape[-1], 4), initializer="glorotNormal")

    def call(self, inputs, states):
        h = 0.9 * states[0] + 0.1 * np.tanh(inputs @ self.w)
        return np.square(h), [h]


class Counting(L.Layer):
    """A cell in TF.js's form; its second state is a number."""

    state_size = (3, 1)

    def call(self, inputs):
        x, h, n = inputs
        return [h + x, h + x, n + 1]


KINDS = {
    "simple_rnn": lambda: L.simple_rnn(units=4, return_sequences=True),
    "gru": lambda: L.gru(units=4, reset_after=True, go_backwards=True, return_sequences=True),
    "lstm": lambda: L.lstm(units=4, dropout=0.3, recurrent_dropout=0.2, seed=1, name="lstm"),
    "lstm of zeros": lambda: L.lstm(units=4, return_sequences=True, zero_output_for_mask=True),
    "bidirectional": lambda: L.bidirectional(L.gru(units=3, return_sequences=True)),
    "stacked": lambda: L.rnn([L.lstm_cell(units=3, name="a"), L.gru_cell(units=2, dropout=0.2, name="b")], name="rnn"),
    "own cell": lambda: L.rnn(Leaky(), return_sequences=True),
}


def trained(make, jit, masked):
    before = config.jit()
    config.set_jit(jit)
    try:
        lf.random.set_seed(3)
        first = L.masking(input_shape=[5, 3]) if masked else L.activation("linear", input_shape=[5, 3])
        model = lf.sequential([first, make()])
        model.compile(optimizer=lf.train.sgd(0.1), loss="meanSquaredError", metrics=["mae"])
        y = np.zeros((7, *model.output_shape[1:]), np.float32)
        y += X.sum((1, 2)).reshape(7, *[1] * (y.ndim - 1))
        history = model.fit(X, y, epochs=3, batch_size=3, verbose=0, shuffle=False).history
        return model.get_weights(), history
    finally:
        config.set_jit(before)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_compiled_and_interpreted(kind, masked):
    """The same weights and losses, batches of different sizes among them, and the loss falls."""
    weights, history = trained(KINDS[kind], False, masked)
    compiled, again = trained(KINDS[kind], True, masked)
    for a, b in zip(weights, compiled, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
    for key in history:
        np.testing.assert_allclose(again[key], history[key], rtol=1e-4)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("kind", ["simple_rnn", "gru", "lstm", "bidirectional", "own cell"])
def test_steps_behind_the_mask_change_nothing(kind):
    """What a masked step holds has no influence, on the last output, on states, on outputs of other steps."""
    layer = KINDS[kind]()
    mask = np.arange(5) < np.array([5, 3, 1, 4, 5, 2, 3])[:, None]
    y = np.asarray(layer.apply(X, mask=mask))
    other = np.where(mask[..., None], X, 100).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(layer.apply(other, mask=mask)), y)
    assert not np.allclose(np.asarray(layer.apply(other)), y)


def test_masked_steps_repeat_the_output_and_keep_the_states():
    layer = L.rnn(Counting(), return_sequences=True, return_state=True)
    mask = np.array([[False, True, False, True]])
    y, h, n = layer.apply(np.ones((1, 4, 3), np.float32), mask=mask)
    np.testing.assert_array_equal(np.asarray(y)[0, :, 0], [0, 1, 1, 2])
    assert (np.asarray(h) == 2).all()
    assert np.asarray(n).item() == 2


def test_initial_state_as_extra_inputs_of_a_model(tmp_path):
    """An encoder's states start a decoder; the model is saved and loaded with these connections."""
    x, z = lf.input(shape=[5, 3], name="x"), lf.input(shape=[4, 3], name="z")
    _, h, c = L.lstm(units=2, return_state=True).apply(x)
    y = L.lstm(units=2, return_sequences=True).apply(z, initialState=[h, c])
    model = lf.model(inputs=[x, z], outputs=y)
    given = [X, X[:, :4]]
    expected = model.predict(given)
    encoder, decoder = (layer for layer in model.layers if isinstance(layer, L.LSTM))
    _, *states = encoder.apply(X)
    np.testing.assert_allclose(decoder.apply(given[1], initial_state=states), expected, rtol=1e-5, atol=1e-6)
    model.save(tmp_path)
    np.testing.assert_array_equal(lf.load_layers_model(tmp_path).predict(given), expected)


def test_weights_are_named_as_in_files_of_tfjs():
    layer = L.bidirectional(L.lstm(units=1, name="l"), name="b")
    layer.apply(X)
    names = ["kernel", "recurrent_kernel", "bias"]
    assert [w.name for w in layer.weights] == [f"b/{way}_l/{n}" for way in ("forward", "backward") for n in names]
    stacked = L.rnn([L.gru_cell(units=1), L.gru_cell(units=1)], name="r")
    stacked.apply(X)
    assert [w.name for w in stacked.weights] == [f"r/RNNCell_{i}/{n}" for i in (0, 1) for n in names]


@pytest.mark.parametrize("jit", [False, True], ids=["interpreted", "compiled"])
def test_states_go_on_from_batch_to_batch(jit):
    """A stateful model given a sequence in pieces computes what a plain one computes of the whole."""
    before = config.jit()
    config.set_jit(jit)
    try:
        whole = L.lstm(units=2, name="whole")
        expected = whole.apply(X[:2, :4])
        layer: Any = L.lstm(units=2, stateful=True, batch_input_shape=[2, 2, 3])
        model = lf.sequential([layer])
        model.set_weights(whole.get_weights())
        model.predict(X[:2, :2])
        np.testing.assert_allclose(model.predict(X[:2, 2:4]), expected, rtol=1e-5, atol=1e-6)
        # Four examples are two batches, one after the other.
        model.reset_states()
        np.testing.assert_allclose(
            model.predict(np.concatenate([X[:2, :2], X[:2, 2:4]]))[2:], expected, rtol=1e-5, atol=1e-6
        )
        assert len(model.weights) == 3  # states are no weights
        model.compile(optimizer=lf.train.sgd(0.0), loss="meanSquaredError")
        model.reset_states()
        model.fit(X[:2, :2], np.zeros((2, 2)), batch_size=2, verbose=0)
        np.testing.assert_allclose(model.predict(X[:2, 2:4]), expected, rtol=1e-5, atol=1e-6)
        layer.reset_states([np.ones((2, 2)), np.zeros((2, 2))])
        assert (layer.states[0] == 1).all()
    finally:
        config.set_jit(before)


def test_dropout_is_the_same_at_every_step():
    """One mask a call: what is dropped of the input at one step is dropped at all."""
    layer = L.rnn(L.simple_rnn_cell(units=3, dropout=0.5, activation="linear", use_bias=False), return_sequences=True)
    x = np.ones((40, 4, 3), np.float32)
    layer.apply(x)
    layer.set_weights([np.eye(3), np.zeros((3, 3))])
    y = np.asarray(layer.apply(x, training=True))
    assert set(np.unique(y)) == {0, 2}
    assert (y == y[:, :1]).all()
    assert 0.3 < (y == 0).mean() < 0.7
    assert (np.asarray(layer.apply(x)) == 1).all()


def test_a_model_with_a_cell_of_ones_own_is_saved_and_cloned(tmp_path):
    with custom_objects({"Leaky": Leaky}):
        model = lf.sequential([L.rnn(Leaky(), input_shape=[5, 3])])
        model.save(tmp_path)
        np.testing.assert_array_equal(lf.load_layers_model(tmp_path).predict(X), model.predict(X))
    clone = lf.models.clone_model(model)
    assert not np.array_equal(clone.predict(X), model.predict(X))
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(X), model.predict(X))


def test_defaults_are_those_of_tfjs():
    config = L.lstm(units=1).get_config()
    assert config["recurrent_activation"] == "hard_sigmoid"
    assert not config["unit_forget_bias"]
    assert L.gru(units=1).get_config()["reset_after"] is False
    layer = L.lstm(units=2, unitForgetBias=True)
    layer.apply(X)
    np.testing.assert_array_equal(layer.get_weights()[2], [0, 0, 1, 1, 0, 0, 0, 0])


def test_any_length_through_one_model():
    """A tagger of words: every layer of it takes unknown lengths, and trains with several."""
    model = lf.sequential([L.embedding(input_dim=5, output_dim=4), L.conv1d(filters=4, kernel_size=2, padding="same")])
    model.add(L.bidirectional(L.lstm(units=3, return_sequences=True)))
    model.add(L.dense(units=2, activation="softmax"))
    assert model.output_shape == (None, None, 2)
    model.compile(optimizer=lf.train.adam(0.05), loss="sparseCategoricalCrossentropy")
    losses = []
    for _ in range(8):
        for length in (3, 7):
            words = np.random.default_rng(length).integers(0, 5, (8, length))
            losses.append(model.train_on_batch(words, words[..., None] % 2))
    assert losses[-1] < 0.5 * losses[0]
    shorter = L.max_pooling1d().apply(L.input(shape=[None, 4]))
    assert shorter.shape == (None, None, 4)
    assert L.rnn(L.lstm_cell(units=2)).apply(shorter).shape == (None, 2)


def test_images_of_any_size_through_one_model():
    model = lf.sequential([L.conv2d(filters=2, kernel_size=3, strides=2, input_shape=[None, None, 1])])
    assert model.output_shape == (None, None, None, 2)
    model.add(L.max_pooling2d())
    model.add(L.global_average_pooling2d())
    for size in ([8, 8], [9, 12]):
        x = RNG.normal(size=(2, *size, 1)).astype(np.float32)
        y = x
        for layer in model.layers:
            y = layer.apply(y)
        np.testing.assert_allclose(model.predict(x), y, rtol=1e-4, atol=1e-5)
