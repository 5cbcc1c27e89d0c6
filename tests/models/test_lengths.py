"""Models of unknown lengths: one compile serves them all, with the results that a model of the known length has."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow import layers as L
from layerflow.errors import LayerflowError
from layerflow.inspect.debug import assert_max_compiles
from tests.agreement import assert_interpreter_agrees

LENGTHS = (5, 12, 1, 40)
RNG = np.random.default_rng(0)


def floats(features):
    return lambda steps: RNG.standard_normal((7, steps, features)).astype(np.float32)


def numbers(steps):
    return RNG.integers(0, 11, (7, steps))


def rows(features):
    return lambda steps: RNG.standard_normal((7, features)).astype(np.float32)


def words(steps, **settings):
    return L.embedding(input_dim=11, output_dim=5, input_shape=[steps], **settings)


def two_inputs(steps):
    x, z = lf.input(shape=[steps, 3]), lf.input(shape=[None, 2])
    return lf.model(inputs=[x, z], outputs=L.concatenate().apply([L.lstm(units=4).apply(x), L.gru(units=3).apply(z)]))


MODELS = {
    "lstm": (lambda n: [L.lstm(units=16, input_shape=[n, 6]), L.dense(units=3)], floats(6), rows(3)),
    "steps of a gru": (
        lambda n: [L.gru(units=8, return_sequences=True, input_shape=[n, 6]), L.dense(units=3)],
        floats(6),
        floats(3),
    ),
    "reset after": (lambda n: [L.gru(units=8, reset_after=True, input_shape=[n, 6])], floats(6), rows(8)),
    "masked words": (
        lambda n: [words(n, mask_zero=True), L.bidirectional(L.gru(units=4)), L.dense(units=1)],
        numbers,
        rows(1),
    ),
    "both ways": (
        lambda n: [
            words(n, mask_zero=True),
            L.bidirectional(L.lstm(units=4, return_sequences=True)),
            L.time_distributed(L.dense(units=2)),
        ],
        numbers,
        floats(2),
    ),
    "mean of words": (lambda n: [words(n), L.global_average_pooling1d(), L.dense(units=2)], numbers, rows(2)),
    "largest of words": (lambda n: [words(n), L.global_max_pooling1d(), L.dense(units=2)], numbers, rows(2)),
    "backwards": (
        lambda n: [
            L.simple_rnn(units=4, go_backwards=True, return_sequences=True, input_shape=[n, 5]),
            L.layer_normalization(),
            L.dense(units=2),
        ],
        floats(5),
        floats(2),
    ),
    "masking": (lambda n: [L.masking(input_shape=[n, 5]), L.lstm(units=4), L.dense(units=2)], floats(5), rows(2)),
    "stacked": (
        lambda n: [
            L.rnn([L.lstm_cell(units=3), L.gru_cell(units=4)], return_sequences=True, input_shape=[n, 3]),
            L.leaky_relu(),
            L.lstm(units=3),
        ],
        floats(3),
        rows(3),
    ),
    "normalized": (
        lambda n: [L.batch_normalization(input_shape=[n, 4]), L.simple_rnn(units=4), L.dense(units=2)],
        floats(4),
        rows(2),
    ),
}
# Something in these needs the numbers: each length has a program of its own, with the same results.
CLOSED = {
    "convolution": (
        lambda n: [L.conv1d(filters=4, kernel_size=3, padding="same", input_shape=[n, 5]), L.lstm(units=2)],
        floats(5),
        rows(2),
    ),
}


def trained(layers, weights=None):
    model = lf.sequential(layers)
    model.compile(optimizer=lf.train.sgd(0.1), loss="meanSquaredError", metrics=["mae"])
    if weights is not None:
        model.set_weights(weights)
    return model


def check(make, x_of, y_of, compiles):
    model = trained(make(None))
    weights = model.get_weights()
    with assert_max_compiles(compiles):
        found = []
        for steps in LENGTHS:
            x, y = x_of(steps), y_of(steps)
            model.set_weights(weights)
            found.append((x, y, model.predict(x), model.train_on_batch(x, y), model.get_weights()))
    config.set_jit(False)  # a model of the known length needs no compiling to be compared with
    try:
        for x, y, output, results, after in found:
            known = trained(make(x.shape[1]), weights)
            np.testing.assert_allclose(output, known.predict(x), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(results, known.train_on_batch(x, y), rtol=1e-4, atol=1e-6)
            for mine, theirs in zip(after, known.get_weights(), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    finally:
        config.set_jit(True)


@pytest.mark.parametrize("name", MODELS)
def test_one_compile_serves_all_lengths(name):
    """One for predictions, one for training steps."""
    check(*MODELS[name], compiles=2)


@pytest.mark.parametrize("name", CLOSED)
def test_where_the_length_must_be_known_each_has_a_program(name):
    check(*CLOSED[name], compiles=2 * len(LENGTHS))


def test_lengths_from_5_to_500():
    model = trained([L.lstm(units=4, input_shape=[None, 3]), L.dense(units=1)])
    with assert_max_compiles(1):
        for steps in [5, 500, *range(6, 500, 26)]:
            assert np.isfinite(model.train_on_batch(np.ones((2, steps, 3)), np.zeros((2, 1)))[0])


def test_fit_takes_batches_of_any_length():
    """Elements of a dataset, and arrays in a shuffled order, with weights; the interpreter agrees."""
    batches = [(numbers(n), rows(1)(n)) for n in (4, 9, 6)]

    def seen() -> lf.Sequential:
        lf.random.set_seed(3)
        model = trained([words(None, mask_zero=True), L.lstm(units=3, dropout=0.3, name="drops"), L.dense(units=1)])
        with assert_max_compiles(2):  # with weights and without
            model.fit(lambda: iter(batches), epochs=2, verbose=0)
            for x, y in batches:
                model.fit(x, y, batch_size=3, verbose=0, sample_weight=np.arange(7))
        return model

    assert_interpreter_agrees(seen)


def test_the_same_bits_on_several_threads():
    x = {n: RNG.standard_normal((200, n, 20)).astype(np.float32) for n in (30, 17)}
    y = RNG.standard_normal((200, 1)).astype(np.float32)
    found = []
    before = config.num_threads()
    try:
        for threads in (1, 2, 3):
            config.set_num_threads(threads)
            lf.random.set_seed(3)
            model = trained(
                [L.lstm(units=24, return_sequences=True, input_shape=[None, 20]), L.gru(units=8), L.dense(1)]
            )
            for _ in range(2):
                for steps in x:
                    model.fit(x[steps], y, batch_size=70, verbose=0)
            found.append(model.get_weights())
    finally:
        config.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_several_open_inputs():
    model = two_inputs(None)
    with assert_max_compiles(1):
        results = {n: model.predict([np.ones((2, n, 3)), np.ones((2, 12 - n, 2))]) for n in (3, 4, 6)}
    for n, result in results.items():
        known = two_inputs(n)
        known.set_weights(model.get_weights())
        np.testing.assert_allclose(known.predict([np.ones((2, n, 3)), np.ones((2, 12 - n, 2))]), result, rtol=1e-5)


def test_labels_of_another_length_are_refused():
    """Also after batches that fit, whose program leaves the length open."""
    model = trained([L.lstm(units=4, return_sequences=True, input_shape=[None, 3])])
    x, y = np.ones((2, 6, 3)), np.zeros((2, 6, 4))
    before = model.train_on_batch(x, y)[0]
    with pytest.raises(LayerflowError, match=r"6.*5|5.*6"):
        model.train_on_batch(x, y[:, :5])
    assert model.train_on_batch(x, y)[0] < before
