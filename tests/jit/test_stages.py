"""Epilogues in stages: where they are cut, and that it changes no bit."""

import re

import numpy as np
import pytest

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit import stages

L = lf.layers
CELL = [
    "v1 = acc0[m] + b1",
    "v2 = sigmoid(v1)",
    "v3 = load(p1, i0 * 8 + c)",
    "v4 = v2 * v3",
    "v5 = load(p2, i0 * 8 + c)",
    "v6 = tanh(v4)",
    "v7 = v6 * v2 + v5",
    "store(p3, i0 * 8 + c, v4)",
    "store(p4, i0 * 8 + c, v7)",
]


def test_what_waits_for_a_second_function_comes_later():
    """Values of the first stage are kept for each row; what is read from memory is read where it is needed."""
    assert stages.cut(CELL) == [
        [
            "v1 = acc0[m] + b1",
            "v2[m] = sigmoid(v1)",
            "v3 = load(p1, i0 * 8 + c)",
            "v4[m] = v2[m] * v3",
            "store(p3, i0 * 8 + c, v4[m])",
        ],
        ["v5 = load(p2, i0 * 8 + c)", "v6 = tanh(v4[m])", "v7 = v6 * v2[m] + v5", "store(p4, i0 * 8 + c, v7)"],
    ]


def test_three_functions_one_after_the_other():
    lines = ["v1 = exp(acc0[m])", "v2 = tanh(v1)", "v3 = sigmoid(v2)", "store(p1, c, v3)"]
    expected = [["v1[m] = exp(acc0[m])"], ["v2[m] = tanh(v1[m])"], ["v3 = sigmoid(v2[m])", "store(p1, c, v3)"]]
    assert stages.cut(lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["v1 = tanh(acc0[m])", "v2 = v1 * v1", "store(p1, c, v2)"],  # one function
        ["v1 = tanh(acc0[m])", "v2 = sigmoid(acc1[m])", "store(p1, c, v1 * v2)"],  # two that do not wait
        ["v1 = rsqrt(acc0[m])", "v2 = square(v1)", "store(p1, c, v2)"],  # quick ones
        ["v1 = load(p1, c)", "v2 = tanh(v1)", "v3 = tanh(v2)", "store(p1, c, v3)"],  # a row is read and written
    ],
)
def test_what_is_left_in_one_piece(lines):
    assert stages.cut(lines) == [lines]


MAKES = {
    "lstm": lambda: L.lstm(units=48, recurrent_activation="sigmoid", input_shape=[5, 3]),
    "gru": lambda: L.gru(units=48, recurrent_activation="sigmoid", reset_after=True, input_shape=[5, 3]),
    "dense": lambda: L.dense(units=48, activation="gelu", input_shape=[9]),
}


def results(make):
    lf.random.set_seed(1)
    model, rng = lf.sequential([make(), L.dense(units=2)]), np.random.default_rng(0)
    model.compile(optimizer=lf.train.sgd(0.05), loss="meanSquaredError")
    x = rng.standard_normal((15, *model.inputs[0].shape[1:])).astype(np.float32)
    for _ in range(3):
        model.train_on_batch(x, rng.standard_normal((15, 2)).astype(np.float32))
    return [*model.get_weights(), model.predict_on_batch(x)]


@pytest.mark.parametrize("name", MAKES)
def test_cutting_changes_no_bit(name, monkeypatch):
    expected = results(MAKES[name])
    monkeypatch.setattr(stages, "cut", lambda lines: [list(lines)])
    for got, want in zip(results(MAKES[name]), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_lstm_finishes_its_memory_for_all_rows_first():
    source = dump(lf.sequential([MAKES["lstm"]()]), "source", mode="predict")
    again = r"v(\d+)\[m\] = fma.*?\n +for m in static\((\d+)\):\n +i0 = i \+ m\n +v\d+ = tanh\(v\1\[m\]\)"
    found = re.search(again, source, re.DOTALL)
    assert found
    assert int(found[2]) > 1


def classified(rows):
    """Weights, losses and the source after training with rows that are short enough to be held in registers."""
    lf.random.set_seed(1)
    model, rng = lf.sequential([L.dense(units=4, activation="softmax", input_shape=[6])]), np.random.default_rng(0)
    model.compile(optimizer=lf.train.sgd(0.5), loss="categoricalCrossentropy")
    x, y = rng.standard_normal((rows, 6)).astype(np.float32), np.eye(4, dtype=np.float32)[rng.integers(0, 4, rows)]
    losses = [model.train_on_batch(x, y) for _ in range(3)]
    return [*model.get_weights(), np.array(losses)], dump(model, "source", mode="train")


@pytest.mark.parametrize("rows", [1, 4, 15, 33])
def test_short_rows_come_side_by_side_to_the_same_bits(rows, monkeypatch):
    expected, source = classified(rows)
    together = re.search(
        r"for t in range\(\(hi - lo\) // (\d+)\):\n +for m in static\(\1\):.*?exp.*?\n +for m in", source, re.DOTALL
    )
    assert together, source
    monkeypatch.setattr(stages, "cut", lambda lines: [list(lines)])
    got, source = classified(rows)
    assert "for t in range((hi - lo) //" not in source
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_number_of_a_row_that_is_read_and_written_keeps_it_in_one_piece():
    lines = ["v1 = p1[i0]", "v2 = exp(v1)", "v3 = log(v2)", "p1[i0] = v3"]
    assert stages.cut(lines) == [lines]
    assert len(stages.cut([*lines[:3], "p2[i0] = v3"])) == 2
