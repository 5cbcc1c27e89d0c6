"""Regularizers and constraints: formulas, defaults, names, and that training uses both."""

import numpy as np
import pytest

import layerflow as lf
from layerflow import constraints, regularizers
from layerflow.errors import ArgumentError, ShapeError, UnknownNameError

W = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (regularizers.l1(), 0.065),
        (regularizers.l2(l2=0.1), 1.425),
        (regularizers.l1l2(), 0.065 + 0.1425),
        (regularizers.get("l1"), 0.065),
        (regularizers.get({"class_name": "L1L2", "config": {"l1": 1, "l2": 0}}), 6.5),
        (regularizers.l1l2(l1=0, l2=0), 0),
        # As Keras 3.15 has it, 0.29408580 for factor 1; the columns by hand.
        (regularizers.orthogonal_regularizer(factor=0.1), 0.02940858),
        (regularizers.OrthogonalRegularizer(1.0, mode="columns"), 0.5 / (10 * 4.25) ** 0.5),
    ],
)
def test_penalties(made, value):
    assert float(made(W)) == pytest.approx(value)
    again = regularizers.get({"class_name": made.get_class_name(), "config": made.get_config()})
    assert float(again(W)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("made", "norms"),
    [
        (constraints.max_norm(max_value=2), [2, 2]),
        (constraints.unit_norm(), [1, 1]),
        (constraints.get("unitNorm"), [1, 1]),
        (constraints.min_max_norm(min_value=2.5, max_value=3), [3, 2.5]),
        (constraints.min_max_norm(min_value=0, max_value=1, rate=0.5), [(1 + 10**0.5) / 2, (1 + 4.25**0.5) / 2]),
    ],
)
def test_norms_of_columns(made, norms):
    np.testing.assert_allclose(np.linalg.norm(np.asarray(made(W)), axis=0), norms, rtol=1e-6)
    again = constraints.get({"class_name": made.get_class_name(), "config": made.get_config()})
    np.testing.assert_array_equal(again(W), made(W))


def test_non_negative():
    assert (np.asarray(constraints.get("nonNeg")(W)) == np.maximum(W, 0)).all()


def test_names():
    assert regularizers.get(None) is constraints.get(None) is None
    with pytest.raises(UnknownNameError, match="'l3'"):
        regularizers.get("l3")
    with pytest.raises(UnknownNameError, match="MaxNorm"):
        constraints.get("maxNorn")
    with pytest.raises(ArgumentError, match="rows"):
        regularizers.OrthogonalRegularizer(mode="row")
    with pytest.raises(ArgumentError, match="at least 0"):
        regularizers.OrthogonalRegularizer(-1)
    with pytest.raises(ShapeError, match="matrix"):
        regularizers.OrthogonalRegularizer()(W[0])


def test_orthogonal_regularizer_makes_rows_orthogonal_in_training():
    layer = lf.layers.dense(units=3, input_shape=[2], kernel_regularizer=regularizers.orthogonal_regularizer(factor=1))
    layer_weights = np.array([[1.0, 1.0, 0.2], [0.5, 1.0, 0.1]], np.float32)
    model = lf.sequential([layer])
    model.compile(optimizer=lf.train.sgd(0.05), loss=lambda y, p: 0.0 * p)
    layer.set_weights([layer_weights, np.zeros(3, np.float32)])
    model.fit(np.ones((8, 2)), np.ones((8, 3)), epochs=100, batch_size=8, verbose=0)
    a, b = layer.get_weights()[0]
    assert abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)) < 0.1


def test_training_applies_constraints_and_penalties():
    layer = lf.layers.dense(
        units=2,
        input_shape=[2],
        use_bias=False,
        kernel_constraint="nonNeg",
        kernel_regularizer="l2",
        activity_regularizer="l1",
        weights=[W],
    )
    model = lf.sequential([layer])
    model.compile(optimizer=lf.train.sgd(0.0), loss="mse")
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32)
    out = np.abs(x @ W)
    expected = np.square(out).mean() + 0.01 * np.square(W).sum() + 0.01 * out.sum() / 4
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    model.fit(x, y, epochs=1, verbose=0)
    assert (model.get_weights()[0] == np.maximum(W, 0)).all()
