"""The network that callbacks are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

import layerflow as lf

X = np.random.default_rng(0).standard_normal((48, 4), np.float32)
Y = X[:, :1] * 2


def make(optimizer: Any = "sgd", metrics: Any = ("mae",)) -> Any:
    lf.random.set_seed(4)
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[4])])
    model.compile(optimizer=optimizer, loss="mse", metrics=list(metrics))
    return model
