"""Training of a small model around a layer."""

from typing import Any

import numpy as np
from layers.checking import both_ways, single_or_list

import layerflow as lf

ROWS, BATCH, EPOCHS = 5, 3, 12  # the second batch of an epoch is smaller


def around(row: Any) -> Any:
    """A model with the layer between dense layers: gradients go through its inputs and outputs."""
    symbols = [lf.input(shape=s[1:]) for s in row.shapes]
    ahead = symbols
    if row.gradient and row.whole is None:
        ahead = [
            lf.layers.dense(units=s[-1], kernel_initializer="identity").apply(x)
            for x, s in zip(symbols, row.shapes, strict=True)
        ]
    y = row.cls(**row.settings).apply(single_or_list(ahead))
    y = lf.layers.rescaling(scale=1.0).apply(y)  # whole numbers become floats
    y = lf.layers.dense(units=1).apply(lf.layers.flatten().apply(y))
    return lf.model(inputs=symbols, outputs=y)


def check_training(row: Any) -> None:
    """Training lowers the loss, and compiled it does what it does interpreted."""
    net = around(row)
    first, results = net.get_weights(), []
    xs, y = single_or_list(row.inputs(ROWS)), np.random.default_rng(8).normal(size=(ROWS, 1)).astype(np.float32)
    rate = min(0.05, 1 / net.layers[-1].weights[0].size)  # many features make large steps
    for jit in both_ways(net):
        net.set_weights(first)
        lf.random.set_seed(7)
        net.compile(optimizer=lf.train.sgd(rate), loss="meanSquaredError")
        losses = net.fit(xs, y, epochs=EPOCHS, batch_size=BATCH, shuffle=False, verbose=0).history["loss"]
        assert np.mean(losses[-3:]) < losses[0], f"{jit=}: {losses}"
        results.append(net.get_weights())
    assert any((a != b).any() for a, b in zip(first, results[0], strict=True))
    for weight, interpreted, compiled in zip(net.weights, *results, strict=True):
        np.testing.assert_allclose(compiled, interpreted, rtol=1e-3, atol=1e-4, err_msg=weight.name)
