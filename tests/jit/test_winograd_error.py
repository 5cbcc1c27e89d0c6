"""Rounding errors of trainings by Winograd's algorithm, against the same training uncompiled in float64.

`python -m benchmarks.winograd_error` measures the same beside torch, on a network of real size.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow.inspect import dump

BATCH = 8


def network() -> lf.Sequential:
    layers = lf.layers
    return lf.sequential(
        [
            layers.conv2d(filters=16, kernel_size=3, activation="relu", input_shape=[16, 14, 3]),
            layers.conv2d(filters=32, kernel_size=3, activation="relu", padding="same"),
            layers.max_pooling2d(pool_size=2),
            layers.conv2d(filters=32, kernel_size=3, activation="relu"),
            layers.flatten(),
            layers.dense(units=5, activation="softmax"),
        ]
    )


def compiled(rate: float, winograd: bool, floatx: str = "float32") -> lf.Sequential:
    config.set_winograd(winograd)
    config.set_floatx(floatx)
    model = network()
    # Plain gradient descent: Adam makes full steps of gradients that are nothing but rounding errors.
    model.compile(optimizer=lf.train.sgd(rate), loss="categoricalCrossentropy")
    return model


@pytest.fixture
def train(monkeypatch):
    """train(steps, rate) -> weights in float64 of the trainings by Winograd's algorithm, directly, and exactly."""
    for name in ("winograd", "floatx", "jit"):  # put back afterwards
        monkeypatch.setitem(config._settings, name, config._settings[name])

    def run(steps: int, rate: float) -> list[list[np.ndarray]]:
        lf.random.set_seed(0)
        weights, rng = network().get_weights(), np.random.default_rng(0)
        x = rng.standard_normal((steps * BATCH, 16, 14, 3)).astype(np.float32)
        y = np.eye(5, dtype=np.float32)[rng.integers(0, 5, len(x))]
        found = []
        for winograd, floatx, jit in ((True, "float32", True), (False, "float32", True), (False, "float64", False)):
            config.set_jit(jit)
            model = compiled(rate, winograd, floatx)
            model.set_weights([w.astype(floatx) for w in weights])
            model.fit(x.astype(floatx), y.astype(floatx), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
            found.append([w.astype(np.float64) for w in model.get_weights()])
        return [*found, [w.astype(np.float64) for w in weights]]

    return run


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


@pytest.mark.skipif(not shutil.which("false"), reason="needs a program that fails")
def test_the_benchmark_says_what_it_lacks():
    command = [sys.executable, "-m", "benchmarks.winograd_error", "--peers-python", "false"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "skipped: false has no torch; name an interpreter that has in PEERS_PYTHON.\n"


def test_the_two_trainings_differ_in_the_algorithm(train):
    assert "winograd_gradients" in dump(compiled(0.1, True), "schedule")
    assert "winograd" not in dump(compiled(0.1, False), "schedule")


def test_weights_after_a_dozen_steps(train):
    """All weights, within three times the error of direct float32."""
    by_points, direct, exact, _ = (np.concatenate([w.ravel() for w in run]) for run in train(12, 0.05))
    assert rms(direct - exact) > 0
    assert rms(by_points - exact) <= 3 * rms(direct - exact)


def test_gradients(train):
    """Of each weight, relative to its size: a step so long that what is left of the weights before does not count.

    The transforms of F(4x4, 3x3) add and subtract numbers larger than their result: a kernel's gradient has 2 to 3
    times the error of direct float32 here.
    """
    by_points, direct, exact, start = train(1, 1e6)
    for got, plain, wanted, before in zip(by_points, direct, exact, start, strict=True):
        size = rms(wanted - before)
        assert rms(got - wanted) <= 5 * rms(plain - wanted) + 1e-7 * size
        assert rms(got - wanted) <= 3e-6 * size
