"""Masks on their way through a model into loss and metrics."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow import layers as L

WORDS = np.array([[3, 1, 2, 0, 0], [4, 0, 0, 0, 0], [1, 2, 3, 4, 1], [2, 2, 0, 0, 0]], np.int32)
KEPT = WORDS != 0
LABELS = np.random.default_rng(1).normal(size=(4, 5, 2)).astype(np.float32)


@pytest.fixture(params=["interpreted", "compiled"], autouse=True)
def mode(request):
    before = config.jit()
    config.set_jit(request.param == "compiled")
    yield
    config.set_jit(before)


def tagger():
    """A label for each word: the mask goes through the layers to the loss."""
    model = lf.sequential([L.embedding(input_dim=5, output_dim=3, mask_zero=True, input_length=5)])
    model.add(L.gru(units=3, return_sequences=True))
    model.add(L.dropout(rate=0.0))
    model.add(L.time_distributed(L.dense(units=2)))
    model.add(L.activation("tanh"))
    model.compile(optimizer=lf.train.sgd(0.5), loss="meanSquaredError", metrics=["mae"])
    return model


def test_what_the_mask_leaves_out_counts_in_no_mean():
    model = tagger()
    error = np.asarray(model.predict(WORDS)) - LABELS
    loss, mae = model.evaluate(WORDS, LABELS)
    assert loss == pytest.approx(np.square(error)[KEPT].mean(), rel=1e-5)
    assert mae == pytest.approx(np.abs(error)[KEPT].mean(), rel=1e-5)
    weights = np.array([1.0, 0.0, 2.0, 0.5], np.float32)
    loss, _ = model.evaluate(WORDS, LABELS, sample_weight=weights)
    assert loss == pytest.approx((np.square(error).mean(-1) * weights[:, None])[KEPT].mean(), rel=1e-5)


def test_labels_behind_the_mask_train_nothing():
    first, second = tagger(), tagger()
    second.set_weights(first.get_weights())
    other = np.where(KEPT[..., None], LABELS, 100)
    for model, labels in ((first, LABELS), (second, other)):
        model.fit(WORDS, labels, epochs=2, batch_size=3, verbose=0, shuffle=False)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_inside_a_model_hands_the_mask_on():
    inner = lf.sequential([L.embedding(input_dim=5, output_dim=2, mask_zero=True, input_length=5)])
    model = lf.sequential([inner])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    error = np.asarray(model.predict(WORDS)) - LABELS
    assert model.evaluate(WORDS, LABELS) == pytest.approx(np.square(error)[KEPT].mean(), rel=1e-5)


def test_merged_masks_are_both():
    x = lf.input(shape=[5, 2])
    a, b = L.masking().apply(x), L.masking(mask_value=1.0).apply(x)
    model = lf.model(inputs=x, outputs=L.add().apply([a, b]))
    model.compile(optimizer="sgd", loss="meanSquaredError")
    data = np.array([[[0, 0], [1, 1], [2, 1], [3, 0], [1, 1]]], np.float32)
    labels = np.zeros((1, 5, 2), np.float32)
    error = np.asarray(model.predict(data))[:, 2:4]
    assert model.evaluate(data, labels) == pytest.approx(np.square(error).mean(), rel=1e-5)


def test_all_masked_is_a_loss_of_zero():
    model = tagger()
    loss, mae = model.evaluate(np.zeros((2, 5), np.int32), LABELS[:2])
    assert loss == mae == 0
    before = model.get_weights()
    model.train_on_batch(np.zeros((2, 5), np.int32), LABELS[:2])
    assert all(np.isfinite(w).all() for w in model.get_weights())
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_two_directions_over_words_learn_which_came_first():
    """Sentiment in small: Embedding, masking, Bidirectional GRU; whether word 1 comes before word 2."""
    rng = np.random.default_rng(2)
    lf.random.set_seed(5)
    x = np.zeros((256, 8), np.int32)
    for row in x:
        length = rng.integers(4, 9)
        row[:length] = rng.integers(3, 6, length)
        row[rng.permutation(length)[:2]] = [1, 2]
    y = (np.argmax(x == 1, 1) < np.argmax(x == 2, 1)).astype(np.float32)[:, None]
    model = lf.sequential([L.embedding(input_dim=6, output_dim=8, mask_zero=True, input_length=8)])
    model.add(L.bidirectional(L.gru(units=8, reset_after=True)))
    model.add(L.dense(units=1, activation="sigmoid"))
    model.compile(optimizer=lf.train.adam(0.02), loss="binaryCrossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=15, verbose=0)
    assert model.evaluate(x, y)[1] > 0.95


def test_a_small_transformer_learns_to_copy():
    """Attention, normalization and dense layers, residual; the causal mask keeps later words out."""
    rng = np.random.default_rng(3)
    lf.random.set_seed(6)
    words = rng.integers(0, 6, (256, 6)).astype(np.int32)
    before = np.eye(6, dtype=np.float32)[np.roll(words, 1, axis=1)]  # the word before each word
    before[:, 0] = np.eye(6)[0]
    x = lf.input(shape=[6], dtype="int32")
    places = L.embedding(input_dim=6, output_dim=16).apply(lf.input(shape=[6], dtype="int32", name="places"))
    h = L.add().apply([L.embedding(input_dim=6, output_dim=16).apply(x), places])
    attended = L.multi_head_attention(num_heads=2, key_dim=8).apply(h, h, use_causal_mask=True)
    h = L.layer_normalization().apply(L.add().apply([h, attended]))
    y = L.dense(units=6, activation="softmax").apply(L.dense(units=32, activation="relu").apply(h))
    model = lf.model(inputs=[x, places.source.layer.input], outputs=y)
    model.compile(optimizer=lf.train.adam(0.01), loss="categoricalCrossentropy", metrics=["accuracy"])
    places = np.tile(np.arange(6, dtype=np.int32), (256, 1))
    model.fit([words, places], before, epochs=20, verbose=0)
    assert model.evaluate([words, places], before)[1] > 0.9
    changed = words.copy()
    changed[:, 4:] = 0
    a, b = (np.asarray(model.predict([w, places])) for w in (words, changed))
    np.testing.assert_allclose(a[:, :4], b[:, :4], rtol=1e-4, atol=1e-5)
