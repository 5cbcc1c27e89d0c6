"""Convolutional networks through the compiler: scales in kernels, padding read in place, groups of samples."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow.inspect import dump
from layerflow.jit import grouping
from tests.agreement import assert_interpreter_agrees


def network(padding: str = "same") -> lf.Sequential:
    lf.random.set_seed(3)
    layers = lf.layers
    return lf.sequential(
        [
            layers.conv2d(filters=20, kernel_size=3, padding=padding, use_bias=False, input_shape=[12, 11, 3]),
            layers.batch_normalization(),
            layers.activation(activation="relu"),
            layers.conv2d(filters=24, kernel_size=3, padding=padding, activation="relu"),
            layers.max_pooling2d(pool_size=2),
            layers.flatten(),
            layers.dense(units=4, activation="softmax"),
        ]
    )


def data(rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 12, 11, 3)).astype(np.float32)
    return x, np.eye(4, dtype=np.float32)[rng.integers(0, 4, rows)]


def trained(mode: bool | str = "auto", epochs: int = 2) -> list[np.ndarray]:
    """Weights after some steps with batches of 10 and a rest of 4."""
    before = config.winograd()
    config.set_winograd(mode)
    try:
        model = network()
        model.compile(optimizer=lf.train.sgd(0.05), loss="categoricalCrossentropy")
        model.fit(*data(), batch_size=10, epochs=epochs, verbose=0, shuffle=False)
        return model.get_weights()
    finally:
        config.set_winograd(before)


def test_normalization_is_in_the_kernel_when_predicting():
    """The convolution of a prediction multiplies with kernel * gamma / deviation; what is left is a shift."""
    model = network()
    rng = np.random.default_rng(1)
    statistics = model.layers[1]
    statistics.set_weights(
        [w + 0.3 * rng.uniform(0.5, 1, w.shape).astype(np.float32) for w in statistics.get_weights()]
    )
    x, _ = data()
    compiled = model.predict(x)
    config.set_jit(False)
    try:
        plain = model.predict(x)
    finally:
        config.set_jit(True)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)
    lines = dump(model, "simplified", mode="predict").splitlines()
    kernels = {line.split(" = ")[0]: line for line in lines if "[3,3,3,20]" in line}
    product = next(
        line for line in lines if "= convolve [B,12,11,20]" in line or "winograd_convolve [B,12,11,20]" in line
    )
    assert any("multiply" in line for line in kernels.values()), lines
    after = product.split(" = ")[0]
    assert not any("= multiply [B,12,11,20]" in line and f"{after}," in line for line in lines), product


def test_winograd_and_direct_agree():
    """The same training by either algorithm ends at the same weights within float32's rounding."""
    for by_points, direct in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(by_points, direct, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("last", "shape"),
    [
        (lf.layers.flatten, {}),
        (lf.layers.permute, {"dims": [3, 1, 2]}),
        (lf.layers.reshape, {"target_shape": [32, -1]}),
    ],
    ids=["flatten", "permute", "reshape"],
)
def test_a_winograd_convolution_whose_output_is_only_moved(last, shape):
    """The loss's gradient comes back through the move: it is no finish of the convolution's tiles."""
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 32)).astype(np.float32)

    def trained() -> lf.Sequential:
        lf.random.set_seed(2)
        first = lf.layers.conv2d(filters=16, kernel_size=3, padding="same", input_shape=[8, 8, 32])
        model = lf.sequential([first, last(**shape)])
        model.compile(optimizer=lf.train.sgd(10.0), loss="meanSquaredError")
        y = np.linspace(-1, 1, 6 * 1024, dtype=np.float32).reshape(6, *model.outputs[0].shape[1:])
        model.fit(x, y, batch_size=6, epochs=2, verbose=0, shuffle=False)
        return model

    assert_interpreter_agrees(trained)


def test_the_schedule_says_why():
    """The dump of the schedule gives both costs and the choice."""
    model = network()
    model.compile(optimizer=lf.train.sgd(0.05), loss="categoricalCrossentropy")
    text = dump(model, "schedule")
    assert "Winograd F(4x4, 3x3): direct" in text
    config.set_winograd(False)
    try:
        assert "Winograd F(4x4, 3x3): direct" not in dump(model, "schedule")
    finally:
        config.set_winograd("auto")


@pytest.mark.parametrize("share", [1e-9, 100.0], ids=["single samples", "all samples"])
def test_groups_of_samples_do_not_change_the_forward_pass(share, monkeypatch):
    """Predictions have the same bits whatever number of samples runs through the kernels together."""
    x, _ = data(37)
    model = network()
    usual = model.predict(x)
    monkeypatch.setattr(grouping, "CACHE_SHARE", share)
    again = network()
    again.set_weights(model.get_weights())
    assert (again.predict(x) == usual).all()


def test_values_of_a_group_have_memory_of_one_group():
    """What only the next kernel reads is not kept for the whole batch."""
    model = network()
    model.compile(optimizer=lf.train.sgd(0.05), loss="categoricalCrossentropy")
    text = dump(model, "memory")
    assert "bytes a thread for groups of samples" in text


def test_what_is_padded_is_stored_once():
    """The activations between two padded convolutions are read from the padded copy by the backward pass."""
    model = network()
    model.compile(optimizer=lf.train.sgd(0.05), loss="categoricalCrossentropy")
    written = [line for line in dump(model, "schedule").splitlines() if "writes" in line]
    assert any("pad[B,14,13,20]" in line for line in written)
    assert not any("relu[B,12,11,20]" in line for line in written)


def test_modes_are_checked():
    with pytest.raises(ValueError, match="winograd"):
        config.set_winograd("sometimes")
