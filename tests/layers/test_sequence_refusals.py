"""Wrong use of the layers on sequences is refused before anything runs; the message names layer, values and remedy."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow import layers as L
from layerflow.errors import ArgumentError, DataError, LayerflowError, ModelError, ShapeError

SEQUENCE = np.zeros((2, 5, 3), np.float32)
PAIR = [np.zeros((2, 4, 3), np.float32), np.zeros((2, 5, 3), np.float32)]


def _stateful(batch):
    return L.lstm(units=2, stateful=True, name="mine", batch_input_shape=batch)


def _reset(states):
    layer = _stateful([2, 5, 3])
    layer.apply(SEQUENCE)
    layer.reset_states(states)


# What is wrong, the error, and what the message must hold.
CASES = {
    "too few states": (
        lambda: L.lstm(units=4, name="mine").apply(SEQUENCE, initial_state=[np.zeros((2, 4))]),
        ShapeError,
        ["mine", "initial states", "2 arrays", "[2,4], [2,4]", "got [2,4]"],
    ),
    "state of another width": (
        lambda: L.gru(units=4, name="mine").apply(SEQUENCE, initial_state=np.zeros((2, 3))),
        ShapeError,
        ["mine", "[2,4]", "got [2,3]"],
    ),
    "state of another batch": (
        lambda: L.gru(units=4, name="mine").apply(SEQUENCE, initial_state=np.zeros((3, 4))),
        ShapeError,
        ["mine", "[2,4]", "[3,4]"],
    ),
    "symbolic state": (
        lambda: L.gru(units=4, name="mine").apply(L.input(shape=[5, 3]), initial_state=L.input(shape=[5])),
        ShapeError,
        ["mine", "[null,4]", "[null,5]"],
    ),
    "odd states of two directions": (
        lambda: L.bidirectional(L.gru(units=4), name="mine").apply(SEQUENCE, initial_state=[np.zeros((2, 4))]),
        ShapeError,
        ["mine", "1 initial states", "2 in all"],
    ),
    "states to start again from": (lambda: _reset([np.zeros((2, 3))] * 2), ShapeError, ["mine", "[2,2]", "[2,3]"]),
    "stateful without a batch size": (
        lambda: lf.sequential([_stateful([None, 5, 3])]),
        ArgumentError,
        ["mine", "batch size", "batch_input_shape"],
    ),
    "reset of what keeps nothing": (lambda: L.gru(units=1, name="mine").reset_states(), ModelError, ["not stateful"]),
    "mask of another length": (
        lambda: L.lstm(units=4, name="mine").apply(SEQUENCE, mask=np.ones((2, 4), bool)),
        ShapeError,
        ["mine", "mask", "[2,5]", "[2,4]"],
    ),
    "mask of another rank": (
        lambda: L.gru(units=4, name="mine").apply(SEQUENCE, mask=np.ones((2, 5, 3), bool)),
        ShapeError,
        ["mine", "[batch, steps]", "[2,5,3]"],
    ),
    "no steps": (lambda: L.lstm(units=4, name="mine").apply(np.zeros((2, 3))), ShapeError, ["mine", "[2,3]", "steps"]),
    "another width of the input": (
        lambda: [layer := L.gru(units=4, name="mine"), layer.apply(SEQUENCE), layer.apply(np.zeros((2, 5, 4)))],
        ShapeError,
        ["mine", "[2,5,4]", "3"],
    ),
    "unknown features": (
        lambda: L.lstm(units=4, name="mine").apply(L.input(shape=[5, None])),
        ShapeError,
        ["[null,null]", "features"],
    ),
    "units": (lambda: L.lstm(units=0, name="mine"), ArgumentError, ["mine", "units", "positive"]),
    "dropout of a cell": (
        lambda: L.gru(units=1, dropout=1.5, name="mine"),
        ArgumentError,
        ["mine", "dropout", "[0, 1]"],
    ),
    "no cell": (lambda: L.rnn(cell=L.dense(units=1, name="mine")), ArgumentError, ["mine", "state_size"]),
    "no cells": (lambda: L.stacked_rnn_cells(cells=[]), ArgumentError, ["at least one cell"]),
    "both directions of a dense layer": (
        lambda: L.bidirectional(L.dense(units=1), name="mine"),
        ArgumentError,
        ["mine", "recurrent", "Dense"],
    ),
    "a way to merge": (lambda: L.bidirectional(L.gru(units=1), merge_mode="cat"), ArgumentError, ["concat", "'cat'"]),
    "steps of nothing": (
        lambda: L.time_distributed(L.dense(units=1), name="mine").apply(np.zeros((2, 3))),
        ShapeError,
        ["mine", "at least 3"],
    ),
    "images smaller than the kernel": (
        lambda: L.conv_lstm2d(filters=1, kernel_size=5).apply(np.zeros((1, 2, 4, 4, 1))),
        ShapeError,
        ["[4,4,1]", "[5, 5]", "same"],
    ),
    "word outside of the vocabulary": (
        lambda: L.embedding(input_dim=4, output_dim=2, name="mine").apply(np.array([[1, 4]])),
        DataError,
        ["mine", "4", "0 to 3", "input_dim=5"],
    ),
    "negative word": (
        lambda: L.embedding(input_dim=4, output_dim=2, name="mine").apply(np.array([[-1, 2]])),
        DataError,
        ["mine", "-1", "0 to 3"],
    ),
    "half a word": (
        lambda: L.embedding(input_dim=4, output_dim=2, name="mine").apply(np.array([[0.5, 2]])),
        DataError,
        ["mine", "whole"],
    ),
    "other length of words": (
        lambda: L.embedding(input_dim=4, output_dim=2, input_length=3, name="mine").apply(np.zeros((2, 4), int)),
        ShapeError,
        ["mine", "[3]", "[2,4]"],
    ),
    "more places than there are": (
        lambda: L.position_embedding(sequence_length=3, name="mine").apply(SEQUENCE),
        ShapeError,
        ["mine", "0 to 5", "[2,5,3]", "sequence_length=3"],
    ),
    "category that is none": (
        lambda: L.category_encoding(num_tokens=3, name="mine").apply(np.array([[3, 1]])),
        DataError,
        ["mine", "3", "0 to 2"],
    ),
    "query heads in groups": (
        lambda: L.group_query_attention(head_dim=2, num_query_heads=4, num_key_value_heads=3, name="mine"),
        ArgumentError,
        ["mine", "4 query heads", "3 groups"],
    ),
    "no heads": (lambda: L.multi_head_attention(num_heads=0, key_dim=2), ArgumentError, ["num_heads", "positive"]),
    "attention of one input": (
        lambda: L.multi_head_attention(num_heads=1, key_dim=2, name="mine").apply(SEQUENCE),
        ArgumentError,
        ["mine", "[query, value]"],
    ),
    "attention mask": (
        lambda: L.multi_head_attention(num_heads=1, key_dim=2, name="mine").apply(
            PAIR, attention_mask=np.ones((2, 5, 4), bool)
        ),
        ShapeError,
        ["mine", "attention_mask", "[2,4,5]", "[2,5,4]"],
    ),
    "mask of the value": (
        lambda: L.attention(name="mine").apply(PAIR, mask=[None, np.ones((2, 4), bool)]),
        ShapeError,
        ["mine", "mask of the value", "[2,5]", "[2,4]"],
    ),
    "keys without values": (
        lambda: L.attention(name="mine").apply([*PAIR, PAIR[0]]),
        ShapeError,
        ["mine", "[2,5,3]", "[2,4,3]", "equally many"],
    ),
    "groups of channels": (
        lambda: L.group_normalization(groups=2, name="mine").apply(SEQUENCE),
        ShapeError,
        ["mine", "3 channels", "2 groups"],
    ),
    "equation": (lambda: L.einsum_dense("ab->b", 3, name="mine"), ArgumentError, ["mine", "ab->b", "abc,cd->abd"]),
    "output of an equation": (
        lambda: L.einsum_dense("abc,cd->abd", 3, name="mine").apply(SEQUENCE),
        ShapeError,
        ["mine", "2 entries", "'bd'"],
    ),
    "noise": (lambda: L.gaussian_noise(stddev=-1), ArgumentError, ["stddev", "-1"]),
    "rate of noise": (lambda: L.alpha_dropout(rate=1.0), ArgumentError, ["rate", "[0, 1)"]),
    "nothing to adapt to": (lambda: L.normalization(name="mine").adapt([]), ArgumentError, ["mine", "adapt"]),
    "bins": (lambda: L.discretization(name="mine"), ArgumentError, ["mine", "bin_boundaries", "num_bins"]),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_use_is_refused(case):
    make, error, words = CASES[case]
    with pytest.raises(LayerflowError) as caught:
        make()
    assert isinstance(caught.value, error), repr(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def _words():
    model = lf.sequential([L.embedding(input_dim=4, output_dim=2, input_length=3, name="words"), L.flatten()])
    model.add(L.dense(units=1))
    model.compile(optimizer="sgd", loss="meanSquaredError")
    return model


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "predict", "predict_on_batch"])
def test_words_outside_of_the_vocabulary_never_reach_a_model(method):
    model, x = _words(), np.array([[0, 1, 2], [3, 4, 0]])
    before = model.get_weights()
    labels = () if method.startswith("predict") else (np.zeros((2, 1)),)
    with pytest.raises(DataError, match=r'input "words_input".*4.*0 to 3'):
        getattr(model, method)(x, *labels)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    outer = lf.sequential([model])
    with pytest.raises(DataError, match="0 to 3"):
        outer.predict(x)


def test_batches_of_another_size_never_reach_a_stateful_model():
    layer = _stateful([2, 5, 3])
    model = lf.sequential([layer])
    model.compile(optimizer="sgd", loss="meanSquaredError")
    x, y = np.zeros((4, 5, 3), np.float32), np.zeros((4, 2), np.float32)
    for call in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.fit(x[:3], y[:3], batch_size=2, verbose=0),
        lambda: model.evaluate(x, y, batch_size=4),
        lambda: model.predict(x[:3]),
        lambda: model.train_on_batch(x, y),
    ):
        with pytest.raises(DataError, match=r"batches of 2 examples.*batch_size=2"):
            call()
    assert all((state == 0).all() for state in layer.states)
