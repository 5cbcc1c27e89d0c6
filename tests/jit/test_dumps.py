"""Golden dumps of the compiler's stages; `pytest --update-expected` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit import target

EXPECTED = Path(__file__).parent / "expected"


def mlp():
    model = lf.sequential(
        [
            lf.layers.dense(units=8, activation="relu", input_shape=[12], name="hidden"),
            lf.layers.dense(units=3, activation="softmax", name="output"),
        ],
        name="mlp",
    )
    model.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy", metrics=["accuracy"])
    return model


def regression():
    model = lf.sequential(
        [
            lf.layers.dense(units=20, activation="tanh", input_shape=[5], name="hidden", kernel_regularizer="l1l2"),
            lf.layers.dense(units=1, name="output"),
        ],
        name="regression",
    )
    model.compile(optimizer=lf.train.adam(), loss="meanSquaredError")
    return model


def cnn():
    model = lf.sequential(
        [
            lf.layers.conv2d(filters=16, kernel_size=3, padding="same", input_shape=[8, 8, 1], name="first"),
            lf.layers.batch_normalization(name="normal"),
            lf.layers.activation(activation="relu", name="relu"),
            lf.layers.conv2d(filters=32, kernel_size=3, activation="relu", name="second"),
            lf.layers.max_pooling2d(pool_size=2, name="pool"),
            lf.layers.flatten(name="flat"),
            lf.layers.dense(units=3, activation="softmax", name="output"),
        ],
        name="cnn",
    )
    model.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(autouse=True)
def fixed_target(monkeypatch):
    """The dumps are those for vectors of 64 bytes, whatever machine the test runs on."""
    wide = target.Target("any", "", 64, 32, 48 << 10, 2 << 20, True)
    monkeypatch.setattr(target, "host", lambda: wide)


@pytest.mark.parametrize("stage", ["layers", "graph", "grad", "simplified", "fused", "schedule"])
@pytest.mark.parametrize("make", [mlp, regression, cnn], ids=lambda f: f.__name__)
def test_stage(make, stage, request):
    text = dump(make(), stage) + "\n"
    path = EXPECTED / f"{make.__name__}_{stage}.txt"
    if request.config.getoption("--update-expected"):
        path.write_text(text)
    assert text == path.read_text()


def test_source_is_what_was_lowered_by_kind():
    """The whole step of the MLP as source: a function a kernel of the schedule, products as tiles, the driver."""
    source = dump(mlp(), "source")
    assert source.count("def k") == len(
        [line for line in dump(mlp(), "schedule").splitlines() if line.startswith("  k")]
    )
    assert "acc0[m] = fma(a, b0, acc0[m])" in source
    assert "def step(ctx, tid, threads):" in source
