"""BatchNormalization while training, in use and frozen; what the rows of the table do not show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import autodiff, execution, ops, trace
from layerflow.models.functional import model as functional

RNG = np.random.default_rng(5)
X = (3 * RNG.standard_normal((24, 4)) + [10, -5, 0, 2]).astype(np.float32)
IMAGES = (2 * RNG.standard_normal((6, 4, 3, 2)) + [1, -3]).astype(np.float32)
Y = RNG.standard_normal((24, 1)).astype(np.float32)


def statistics(x, axis=-1):
    """Mean and biased variance for each channel, in float64."""
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return x.mean(others, np.float64), x.var(others, np.float64)


def make(**settings):
    model = lf.sequential([lf.layers.batch_normalization(input_shape=[4], **settings), lf.layers.dense(units=1)])
    model.compile(optimizer=lf.train.sgd(0.0), loss="meanSquaredError")
    return model


@pytest.mark.parametrize("axis", [-1, 1])
def test_training_uses_the_batch_and_moves_the_statistics(axis):
    layer = lf.layers.batch_normalization(momentum=0.9, axis=axis)
    y = np.asarray(layer.apply(IMAGES, training=True))
    mean, variance = statistics(IMAGES, axis)
    found = statistics(y, axis)
    np.testing.assert_allclose(found[0], 0, atol=1e-6)
    np.testing.assert_allclose(found[1], variance / (variance + 1e-3), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-5)


def test_inference_uses_the_moving_statistics_and_leaves_them():
    layer = lf.layers.batch_normalization(epsilon=0.01)
    layer.apply(X)
    values = [np.full(4, n, np.float32) for n in (2.0, 0.5, 3.0, 4.0)]
    layer.set_weights(values)
    expected = (X - 3) / np.sqrt(4.01) * 2 + 0.5
    for y in (layer.apply(X), layer.apply(X, training=False)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    for weight, value in zip(layer.weights, values, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_frozen_is_inference():
    layer = lf.layers.batch_normalization(trainable=False)
    y = layer.apply(X, training=True)
    np.testing.assert_allclose(y, X / np.sqrt(1.001), rtol=1e-6)
    assert layer.trainable_weights == []
    assert (layer.moving_mean.numpy() == 0).all()


def test_weights_and_what_is_trained():
    layer = lf.layers.batch_normalization(name="bn", input_shape=[4])
    model = lf.sequential([layer])
    assert [w.name for w in layer.weights] == [f"bn/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    assert layer.trainable_weights == layer.weights[:2]
    assert model.count_params() == 16
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert [line.rstrip() for line in lines if "arams: " in line] == [
        "Total params: 16", "Trainable params: 8", "Non-trainable params: 8",
    ]  # fmt: skip


def test_fit_moves_the_statistics_once_a_step():
    model = make(momentum=0.5)
    bn: Any = model.layers[0]
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    mean, variance = np.zeros(4), np.ones(4)
    for start in (0, 8, 16) * 2:
        batch_mean, batch_variance = statistics(X[start : start + 8])
        mean, variance = (mean + batch_mean) / 2, (variance + batch_variance) / 2
    np.testing.assert_allclose(bn.moving_mean.numpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(bn.moving_variance.numpy(), variance, rtol=1e-4)


def test_the_last_smaller_batch_counts_its_own_rows():
    model = make(momentum=0.0)
    model.fit(X[:11], Y[:11], batch_size=8, shuffle=False, verbose=0)
    mean, variance = statistics(X[8:11])
    bn: Any = model.layers[0]
    np.testing.assert_allclose(bn.moving_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(bn.moving_variance.numpy(), variance, rtol=1e-4)


def test_evaluate_and_predict_move_nothing():
    model = make()
    before = model.get_weights()
    model.evaluate(X, Y)
    model.predict(X)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_freezing_and_thawing_between_fits():
    model = make()
    bn = model.layers[0]
    bn.trainable = False
    model.compile(optimizer=lf.train.sgd(0.01), loss="meanSquaredError")
    before = bn.get_weights()
    model.fit(X, Y, verbose=0)
    for old, new in zip(before, bn.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    bn.trainable = True
    model.compile(optimizer=lf.train.sgd(0.01), loss="meanSquaredError")
    model.fit(X, Y, verbose=0)
    for old, new in zip(before, bn.get_weights(), strict=True):
        assert (old != new).any()


def test_a_shared_layer_moves_its_statistics_for_each_use():
    a, b = lf.input(shape=[4]), lf.input(shape=[4])
    layer = lf.layers.batch_normalization(momentum=0.5)
    out = lf.layers.dense(units=1).apply(lf.layers.add().apply([layer.apply(a), layer.apply(b)]))
    model = functional(inputs=[a, b], outputs=out)
    model.compile(optimizer=lf.train.sgd(0.0), loss="meanSquaredError")
    other = X[::-1] * 2
    model.train_on_batch([X, other], Y)
    np.testing.assert_allclose(
        layer.moving_mean.numpy(), (statistics(X)[0] / 2 + statistics(other)[0]) / 2, rtol=1e-4, atol=1e-6
    )


def test_large_means_leave_the_variance_right():
    """One pass (E[x^2] - E[x]^2) in float32 would find a variance of 0 here, or a negative one."""
    x = (X[:, :1] + 20000).astype(np.float32)
    layer = lf.layers.batch_normalization(momentum=0.0)
    layer.apply(x, training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), statistics(x)[1], rtol=1e-2)


def test_bytes_are_normalized_as_floats():
    layer = lf.layers.batch_normalization()
    y = layer.apply(np.arange(24, dtype=np.uint8).reshape(6, 4), training=True)
    assert y.dtype == np.float32
    np.testing.assert_allclose(np.asarray(y).mean(0), 0, atol=1e-6)


GRADIENTS = [
    (lf.layers.BatchNormalization, {}, X[:7]),
    (lf.layers.BatchNormalization, {"axis": 1}, IMAGES),
    (lf.layers.BatchNormalization, {"scale": False}, IMAGES),
    (lf.layers.BatchNormalization, {"center": False, "epsilon": 0.1}, IMAGES),
    (lf.layers.LayerNormalization, {"axis": [2, 3]}, IMAGES),
]


@pytest.mark.parametrize(("cls", "settings", "x"), GRADIENTS)
def test_gradients_while_training(cls, settings, x):
    layer = cls(**settings, dtype="float64")
    x = x.astype(np.float64)
    training = {"training": True} if cls is lf.layers.BatchNormalization else {}
    y = np.asarray(layer.apply(x, **training))
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=y.shape)
    weights = layer.trainable_weights
    points = [x, *(w.numpy() + 0.2 * rng.normal(size=w.shape) for w in weights)]
    directions = [rng.normal(size=p.shape) for p in points]

    def value(step):
        moved = [p + step * d for p, d in zip(points, directions, strict=True)]
        for weight, array in zip(weights, moved[1:], strict=True):
            weight.assign(array)
        return float((np.asarray(layer.apply(moved[0], **training)) * cotangent).sum())

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    value(0.0)
    symbol = ops.placeholder(x.shape, np.float64, "x")
    with trace.tracing() as record:
        loss = ops.sum(layer.apply(symbol, **training) * cotangent)
        found = autodiff.gradients(loss, [symbol, *weights])
    kept = [g for g in found if g is not None]
    assert len(kept) == len(points)
    results = execution.run(record.graph([symbol], kept), [x], execution.draw())
    exact = sum(float((np.asarray(g) * d).sum()) for g, d in zip(results, directions, strict=True))
    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=1e-8)


def test_masked_mean_of_steps():
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.array([[True, True, False], [False, False, False]])
    layer = lf.layers.global_average_pooling1d()
    np.testing.assert_allclose(layer.apply(x, mask=mask), [[1, 2], [0, 0]])
    np.testing.assert_allclose(layer.apply(x), x.mean(1))


def test_spatial_dropout_drops_whole_channels():
    x = np.ones((50, 4, 3, 8), np.float32)
    for layer, axes in [
        (lf.layers.spatial_dropout2d(rate=0.5), (1, 2)),
        (lf.layers.spatial_dropout2d(rate=0.5, data_format="channelsFirst"), (2, 3)),
    ]:
        y = np.asarray(layer.apply(x, training=True))
        assert set(np.unique(y)) == {0.0, 2.0}
        assert (y.min(axes) == y.max(axes)).all()
        np.testing.assert_array_equal(layer.apply(x), x)
