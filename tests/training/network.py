"""The network and the data that fit is tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

import layerflow as lf

X = np.random.default_rng(0).standard_normal((50, 4), np.float32)
LABELS = X[:, :3].argmax(axis=1)
Y = np.eye(3, dtype=np.float32)[LABELS]


def make(loss: str = "categoricalCrossentropy") -> Any:
    lf.random.set_seed(8)
    model = lf.sequential([lf.layers.dense(units=3, activation="softmax", input_shape=[4])])
    model.compile(optimizer=lf.train.adam(0.05), loss=loss, metrics=["accuracy"])
    return model


def equal(one: Any, other: Any) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def batches(size: int = 10) -> Any:
    """The rows in order, as a generator of (x, y)."""
    for first in range(0, 50, size):
        yield X[first : first + size], Y[first : first + size]


def rows() -> lf.data.Dataset:
    return lf.data.zip({"xs": lf.data.array(X), "ys": lf.data.array(Y)})
