"""Cheap convolutions are computed again where their values are needed late, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow.inspect import dump


def network(channels: int = 1, residual: bool = False) -> lf.Model:
    lf.random.set_seed(5)
    layers = lf.layers
    x = lf.input(shape=[14, 13, channels])
    first = layers.conv2d(filters=20, kernel_size=3, padding="same", activation="relu").apply(x)
    filters = 20 if residual else 24
    y = layers.conv2d(filters=filters, kernel_size=3, padding="same", activation="relu").apply(first)
    y = layers.add().apply([y, first]) if residual else y
    for _ in range(2):
        y = layers.conv2d(filters=24, kernel_size=3, activation="relu").apply(y)
    y = layers.global_average_pooling2d().apply(y)
    return lf.model(inputs=x, outputs=layers.dense(units=3, activation="softmax").apply(y))


def compiled(model: lf.Model) -> lf.Model:
    model.compile(optimizer="adam", loss="sparseCategoricalCrossentropy")
    return model


def repeated(model: lf.Model) -> list[str]:
    lines = dump(compiled(model), "simplified", mode="train").splitlines()
    return [line for line in lines if "again=True" in line]


def test_the_first_convolution_is_made_again_for_its_gradient():
    """9 multiply-adds an element; the forward pass and the weight gradient each have their own."""
    (line,) = repeated(network())
    assert "= convolve [B,14,13,20]" in line
    assert "conv2d" in line
    schedule = dump(compiled(network()), "memory", mode="train")
    arena, _, own = schedule.partition("bytes a thread for groups of samples")
    assert "[B,14,13,20]" not in arena
    assert "[B,16,15,20]" not in arena
    assert own.count(" pad [B,16,15,20]") == 2


def test_dear_convolutions_are_kept():
    assert not repeated(network(channels=3))


def test_a_use_nearby_reads_what_is_there():
    """The shortcut of a residual block is one contraction away: it does not compute the block's input again."""
    lines = dump(compiled(network(residual=True)), "simplified", mode="predict").splitlines()
    assert not any("again" in line for line in lines)


@pytest.mark.parametrize("residual", [False, True])
def test_training_is_the_same(residual):
    """Compiled with recomputation as interpreted without it."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((21, 14, 13, 1)).astype(np.float32), rng.integers(0, 3, 21)

    def weights() -> list[np.ndarray]:
        model = compiled(network(residual=residual))
        model.fit(x, y, batch_size=11, epochs=2, verbose=0, shuffle=False)
        return model.get_weights()

    found = weights()
    config.set_jit(False)
    try:
        wanted = weights()
    finally:
        config.set_jit(True)
    for w, v in zip(found, wanted, strict=True):
        np.testing.assert_allclose(w, v, rtol=1e-3, atol=2e-5)
