"""The first and the last step of a loop: what is left out, and that it changes no bit."""

import re

import numpy as np
import pytest

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit import recurrence

L = lf.layers
FIRST, LAST = "the first step without the product of zeros", "the last step without it"


class Shared(L.Layer):
    """A cell that multiplies some function of its state by a matrix."""

    state_size = 4

    def __init__(self, of, **settings):
        super().__init__(**settings)
        self.of = of

    def build(self, input_shape):
        self.w = self.add_weight("w", (4, 4), initializer="glorotNormal")

    def call(self, inputs, states):
        h = np.tanh(self.of(states[0]) @ self.w) + inputs
        return h, [h]


def lstm(**settings):
    return L.lstm(units=6, input_shape=[5, 3], name="memory", **settings)


MAKES = {
    "lstm": lambda: [lstm()],
    "gru": lambda: [L.gru(units=6, input_shape=[5, 3])],
    "simple": lambda: [L.simple_rnn(units=6, input_shape=[5, 3], return_sequences=True), L.flatten()],
    "one step": lambda: [L.lstm(units=6, input_shape=[1, 3])],
    "any length": lambda: [L.gru(units=6, input_shape=[None, 3], reset_after=True)],
    "backwards": lambda: [lstm(go_backwards=True)],
    "stateful": lambda: [L.lstm(units=6, batch_input_shape=[4, 5, 3], stateful=True)],
    "two ways": lambda: [L.bidirectional(layer=L.lstm(units=6), input_shape=[5, 3])],
}


def model_of(*layers):
    model = lf.sequential([*layers, L.dense(units=2, name="output")])
    model.compile(optimizer=lf.optimizers.Adam(0.01), loss="meanSquaredError")
    return model


def results(make):
    """Weights after steps, and a prediction."""
    lf.random.set_seed(1)
    model, rng = model_of(*make()), np.random.default_rng(0)
    shape = [n or 5 for n in model.inputs[0].shape[1:]]
    x = rng.standard_normal((4, *shape)).astype(np.float32)
    for _ in range(3):
        model.train_on_batch(x, rng.standard_normal((4, 2)))
    return [*(np.array(w) for w in model.get_weights()), np.array(model.predict_on_batch(x))]


@pytest.mark.parametrize("name", MAKES)
def test_nothing_changes(name, monkeypatch):
    """Zeros multiplied, and states made that nobody reads: the same bits."""
    expected = results(MAKES[name])
    monkeypatch.setattr(recurrence, "starts_with_zeros", lambda *parts: False)
    monkeypatch.setattr(recurrence, "unread_at_end", lambda *parts: set())
    text = dump(model_of(*MAKES[name]()), "schedule")
    assert FIRST not in text
    assert LAST not in text
    for got, want in zip(results(MAKES[name]), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def marked(model, mode="train"):
    text = dump(model, "schedule", mode=mode)
    return text.count(FIRST), text.count(LAST)


def test_who_begins_with_zeros_and_is_not_read_at_the_end():
    """Forwards the state is multiplied; backwards its gradient is made by the last kernel, for the step before."""
    assert marked(model_of(lstm())) == (1, 1)
    assert marked(model_of(lstm()), "predict") == (1, 0)
    assert marked(model_of(*MAKES["two ways"]())) == (2, 2)


def test_a_state_that_lives_on_is_multiplied():
    assert marked(model_of(*MAKES["stateful"]()), "predict")[0] == 0


def test_an_initial_state_gets_its_gradient():
    """Also at the first step of the sequence, which is the last one backwards; and it is multiplied by the kernel."""
    x, h = lf.input(shape=[5, 3]), lf.input(shape=[4])
    start = L.dense(units=4, name="start").apply(h)
    model = lf.model(inputs=[x, h], outputs=L.simple_rnn(units=4).apply(x, initial_state=[start]))
    model.compile(optimizer=lf.train.sgd(0.1), loss="meanSquaredError")
    assert marked(model) == (0, 0)


def test_zeros_may_be_scaled_but_not_shifted():
    """A multiple of a state of zeros is zero; a state plus one is not."""
    for of, expected in ((lambda h: 0.5 * h, 1), (lambda h: h + 1, 0)):
        model = lf.sequential([L.rnn(Shared(of), input_shape=[5, 4])])
        assert marked(model, "predict")[0] == expected


def test_the_loop_says_when_it_is_past_its_first_step():
    source = dump(model_of(lstm()), "source")
    assert len(re.findall(r"set_integer\(ctx, 19, minimum\(n, 1\)\)", source)) == 1
    assert "if n + 1 < 5:" in source
