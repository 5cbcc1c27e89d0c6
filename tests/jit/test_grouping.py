"""How many samples run through a run of kernels at a time."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.jit import grouping, pipeline

CACHE = 1 << 20


def steps_apart(units=64):
    """Layers whose weights meet every step of a sample."""
    dense = lf.layers.dense
    return [
        dense(units=units, activation="relu", input_shape=[128, 32]),
        dense(units=32),
        lf.layers.global_average_pooling1d(),
    ]


MODELS = {
    "dense": lambda: [lf.layers.dense(units=2048, activation="relu", input_shape=[2048]), lf.layers.dense(units=2048)],
    "steps": steps_apart,
    "lstm": lambda: [lf.layers.lstm(units=512, return_sequences=True, input_shape=[128, 32])],
}


def groups_of(layers):
    model = lf.sequential(layers)
    shape = [4, *model.inputs[0].shape[1:]]
    plan = pipeline.lower(model.step("predict").graph([np.zeros(shape, np.float32)])).plan
    runs = [run for phase in plan.phases for run in grouping._runs(phase)]
    return [grouping.group_size(plan, part, CACHE) for run in runs for part in grouping.segments(plan, run)]


@pytest.mark.parametrize(("name", "expected"), [("dense", 256), ("steps", 2), ("lstm", 256)])
def test_a_weight_is_used_for_256_rows_each_time_it_is_read(name, expected):
    assert groups_of(MODELS[name]()) == [expected]


def test_results_do_not_depend_on_the_group(monkeypatch):
    x = np.random.default_rng(0).normal(size=(7, 128, 32)).astype(np.float32)
    model = lf.sequential(steps_apart())
    expected = model.predict(x, batch_size=7)
    for uses in (1, 500, 1 << 20):
        monkeypatch.setattr(grouping, "MIN_USES", uses)
        assert groups_of(steps_apart()) != [2]
        again = lf.sequential(steps_apart())
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again.predict(x, batch_size=7), expected)
