"""Initializers: bounds, moments, seeds, names."""

import math

import numpy as np
import pytest

import layerflow as lf
from layerflow import initializers as I
from layerflow.errors import ArgumentError, ShapeError, UnknownNameError

SHAPE = (300, 200)
# name -> (mean, standard deviation, largest magnitude) for SHAPE
MOMENTS = {
    "zeros": (0, 0, 0),
    "ones": (1, 0, 1),
    "randomUniform": (0, 0.1 / math.sqrt(12), 0.05),
    "randomNormal": (0, 0.05, 0.5),
    "truncatedNormal": (0, 0.05 * I.TRUNCATED_DEVIATION, 0.1),
    "glorotUniform": (0, math.sqrt(2 / 500), math.sqrt(6 / 500)),
    "glorotNormal": (0, math.sqrt(2 / 500), 2 * math.sqrt(2 / 500) / I.TRUNCATED_DEVIATION),
    "heUniform": (0, math.sqrt(2 / 300), math.sqrt(6 / 300)),
    "heNormal": (0, math.sqrt(2 / 300), 2 * math.sqrt(2 / 300) / I.TRUNCATED_DEVIATION),
    "leCunUniform": (0, math.sqrt(1 / 300), math.sqrt(3 / 300)),
    "leCunNormal": (0, math.sqrt(1 / 300), 2 * math.sqrt(1 / 300) / I.TRUNCATED_DEVIATION),
    "varianceScaling": (0, math.sqrt(1 / 300), 2 * math.sqrt(1 / 300) / I.TRUNCATED_DEVIATION),
    "identity": (1 / 300, math.sqrt(1 / 300), 1),
    "orthogonal": (0, 1 / math.sqrt(300), 1),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name):
    mean, deviation, largest = MOMENTS[name]
    values = I.get(name)(SHAPE)
    assert values.shape == SHAPE
    assert values.dtype == np.float32
    assert abs(values.mean() - mean) < max(0.02 * deviation, 1e-7)
    assert values.std() == pytest.approx(deviation, rel=0.03, abs=1e-7)
    assert np.abs(values).max() <= largest * (1 + 1e-5)


def test_every_initializer_is_in_the_table():
    assert {n.lower() for n in MOMENTS} | {"constant"} == {n.lower() for n in I.INITIALIZERS.names()}


def test_orthogonal_rows_or_columns():
    for shape in ((5, 3), (3, 5), (2, 3, 4)):
        w = I.orthogonal(gain=2.0)(shape, "float64").reshape(-1, shape[-1])
        small = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_fans_of_convolutions_and_vectors():
    assert I.fans((3, 3, 8, 16)) == (72, 144)
    assert I.fans((7,)) == (7, 7)


def test_seeds():
    assert np.array_equal(I.random_normal(seed=3)(SHAPE), I.random_normal(seed=3)(SHAPE))
    assert not np.array_equal(I.random_normal()(SHAPE), I.random_normal()(SHAPE))
    lf.random.set_seed(1)
    first = I.he_normal()(SHAPE)
    lf.random.set_seed(1)
    assert np.array_equal(first, I.he_normal()(SHAPE))


@pytest.mark.parametrize("name", ["glorotNormal", "heUniform", "randomUniform", "zeros", "orthogonal"])
def test_config_round_trip(name):
    made = I.get(name)
    again = I.get({"class_name": made.get_class_name(), "config": made.get_config()})
    assert again.get_config() == made.get_config()
    lf.random.set_seed(1)
    first = made((3, 4))
    lf.random.set_seed(1)
    assert np.array_equal(first, again((3, 4)))


def test_callables_and_errors():
    weight = lf.layers.dense(units=2, kernel_initializer=lambda shape, dtype: np.full(shape, 7, dtype), input_shape=[3])
    lf.sequential([weight])
    assert (weight.kernel.value == 7).all()
    assert (I.constant(value=2.5)((2,)) == 2.5).all()
    for make, error, words in [
        (lambda: I.get("glorotNormall"), UnknownNameError, "GlorotNormal"),
        (lambda: I.constant(), TypeError, "value"),
        (lambda: I.identity()((2, 3, 4)), ShapeError, "matrices"),
        (lambda: I.variance_scaling(mode="fan"), ArgumentError, "fan_in"),
        (lambda: I.get(3), ArgumentError, "initializer"),
    ]:
        with pytest.raises(error, match=words):
            make()
