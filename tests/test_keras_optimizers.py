"""Every optimizer and schedule of `lf.optimizers` against Keras 3, with its common settings, eagerly and compiled.

The numbers are data, written by tests/oracles/keras_optimizers.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow import config, constraints
from layerflow.optimizers import OPTIMIZERS, schedules

STORED = np.load(Path(__file__).parent / "oracles" / "data" / "keras_optimizers.npz", allow_pickle=False)
ABOUT = json.loads(str(STORED["about"]))
STARTS = [STORED[f"start_{i}"] for i in range(3)]
GRADIENTS = [STORED[f"gradient_{i}"] for i in range(3)]


@pytest.fixture(params=["eager", "compiled"])
def mode(request):
    before = config.jit()
    config.set_jit(request.param == "compiled")
    yield request.param
    config.set_jit(before)


def replay(name, arguments):
    """The weights after each step, and after `finalize_variable_values`."""
    arguments = dict(arguments)
    constraint, excluded = arguments.pop("constraint", None), arguments.pop("exclude", None)
    optimizer = getattr(lf.optimizers, name)(**arguments)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=excluded)
    weights = [
        lf.Variable(start, name=f"w{i}", constraint=constraints.get(constraint)) for i, start in enumerate(STARTS)
    ]
    path = []
    for step in range(len(GRADIENTS[0])):
        optimizer.apply_gradients([(g[step], w) for g, w in zip(GRADIENTS, weights, strict=True)])
        path.append([w.numpy() for w in weights])
    optimizer.finalize_variable_values(weights)
    return [*path, [w.numpy() for w in weights]]


@pytest.mark.parametrize("number", range(len(ABOUT["cases"])), ids=lambda n: f"{n}-{ABOUT['cases'][n][0]}")
def test_trajectory(number, mode):
    name, arguments = ABOUT["cases"][number]
    path = replay(name, arguments)
    for i in range(len(STARTS)):
        np.testing.assert_allclose(
            np.stack([weights[i] for weights in path]), STORED[f"path_{number}_{i}"], rtol=2e-5, atol=1e-5
        )


def test_every_optimizer_is_compared():
    # Keras has no lazy form: tests/jit/test_sparse.py compares it with torch.
    assert {*(name for name, _ in ABOUT["cases"]), "LazyAdam"} == set(OPTIMIZERS.names())


@pytest.mark.parametrize("number", range(len(ABOUT["schedules"])), ids=lambda n: ABOUT["schedules"][n][0]["class_name"])
def test_schedule(number):
    described, steps = ABOUT["schedules"][number]
    made = schedules.get(described)
    expected = STORED[f"rates_{number}"]
    np.testing.assert_allclose([float(made(step)) for step in steps], expected, rtol=1e-5, atol=1e-8)
    compiled = lf.jit(made)
    np.testing.assert_allclose([compiled(np.float32(step)) for step in steps], expected, rtol=2e-5, atol=1e-8)
    again = schedules.deserialize(schedules.serialize(made))
    assert [float(again(step)) for step in steps] == [float(made(step)) for step in steps]
