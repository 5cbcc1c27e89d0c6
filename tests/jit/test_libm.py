"""Mathematical functions: errors in units of the last place, and their limits."""

import math

import numpy as np
import pytest
from jit.kernels import apply

from layerflow.jit import target

LONG = np.longdouble
RNG = np.random.default_rng(0)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40, -1e-40]


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _erf(x):
    return np.vectorize(math.erf, otypes=[float])(x.astype(float)).astype(LONG)


# name: (reference, lowest, highest argument, ulps allowed); "wide" takes every magnitude
FUNCTIONS = {
    "exp": (np.exp, -110, 95, 1.5),
    "expm1": (np.expm1, -40, 95, 2.5),
    "log": (np.log, "positive", 0, 1.5),
    "log2": (np.log2, "positive", 0, 2.5),
    "log1p": (np.log1p, "positive", 0, 1.5),
    "tanh": (np.tanh, -12, 12, 2.6),
    "sigmoid": (_sigmoid, -100, 100, 2.5),
    "softplus": (_softplus, -80, 80, 2.5),
    "sin": (np.sin, -1e4, 1e4, 4),
    "cos": (np.cos, -1e4, 1e4, 4),
    "tan": (np.tan, -1e4, 1e4, 4),
    "asin": (np.arcsin, -1, 1, 3),
    "acos": (np.arccos, -1, 1, 3),
    "atan": (np.arctan, -50, 50, 3),
    "sinh": (np.sinh, -89, 89, 4),
    "cosh": (np.cosh, -89, 89, 4),
    "asinh": (np.arcsinh, "wide", 0, 3),
    "acosh": (np.arccosh, 1, 100, 3),
    "atanh": (np.arctanh, -1, 1, 3),
    "erf": (_erf, -5, 5, 2),
    "rsqrt_fast": (lambda x: 1 / np.sqrt(x), "positive", 0, 2),
    "sqrt_fast": (np.sqrt, "positive", 0, 1.5),
}


def arguments(low, high, dtype) -> np.ndarray:
    top = 37 if dtype == np.float32 else 300
    n = 20000
    if low == "positive":
        x = np.concatenate([10 ** RNG.uniform(-top, top, n), RNG.uniform(0.5, 2, n)])
    elif low == "wide":
        x = 10 ** RNG.uniform(-top, top, n) * RNG.choice([-1, 1], n)
    else:
        small = 10 ** RNG.uniform(-top, 0, n) if low < 1 else RNG.uniform(1, 1.01, n)
        x = np.concatenate([RNG.uniform(low, high, n), small])
    return x.astype(dtype)


def ulps(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units of the last place of the rounded result."""
    rounded = exact.astype(got.dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.abs(got.astype(LONG) - exact) / np.spacing(np.abs(rounded)).astype(LONG)
    return float(np.where(same, 0, error).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error(name, dtype):
    reference, low, high, allowed = FUNCTIONS[name]
    x = arguments(low, high, dtype)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(LONG))
        got = apply(f"{name}(v0)", x, lanes=target.host().vector_bytes // x.itemsize)
        assert ulps(got, exact) <= allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if not n.endswith("_fast")])
def test_limits(name, dtype):
    x = np.array(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][0](x.astype(LONG)).astype(dtype)
        got = apply(f"{name}(v0)", x)
    np.testing.assert_allclose(got, expected, rtol=4e-7 if dtype == np.float32 else 1e-15, atol=0)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "expm1", "log1p", "erf", "sin", "asin"])
@pytest.mark.parametrize("which", ["generic", "avx2"])
def test_lesser_targets(name, which):
    if which == "avx2" and target.host().vector_bytes < 32:
        pytest.skip("no AVX2 here")
    reference, low, high, _ = FUNCTIONS[name]
    on = target.named(which)
    x = arguments(low, high, np.float32)
    with np.errstate(all="ignore"):
        assert ulps(apply(f"{name}(v0)", x, lanes=on.vector_bytes // 4, on=on), reference(x.astype(LONG))) <= 4


def test_sine_of_huge_numbers_stays_in_range():
    x = np.array([1e7, 1e30, -3e38], np.float32)
    assert (np.abs(apply("sin(v0)", x)) <= 1).all()
    assert (np.abs(apply("cos(v0)", x)) <= 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pow(dtype):
    x = RNG.uniform(0.01, 30, 5000).astype(dtype)
    y = RNG.uniform(-8, 8, 5000).astype(dtype)
    got = apply("pow(v0, v1)", x, y, lanes=8)
    assert ulps(got, x.astype(LONG) ** y.astype(LONG)) <= (1 if dtype == np.float32 else 60)  # f64: 1e-14 relative


def test_pow_limits():
    base = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, -2.0, np.inf, -np.inf, np.nan, 0.0, -8.0], np.float32)
    power = np.array([2.0, 3.0, np.nan, 3.0, -1.0, 3.0, 0.5, -2.0, 3.0, 0.0, -1.0, 2.0], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(apply("pow(v0, v1)", base, power), np.power(base, power))


def test_pow_of_integers():
    x, y = np.array([2, -3, 0, 1, -1, 7, 5], np.int32), np.array([10, 3, 0, -2, -3, 11, -1], np.int32)
    np.testing.assert_array_equal(apply("pow(v0, v1)", x, y), [1024, -27, 1, 1, -1, 7**11, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_floor_mod(dtype):
    x = RNG.integers(-50, 50, 200).astype(dtype)
    y = RNG.choice([-7, -2, 3, 4, 9], 200).astype(dtype)
    np.testing.assert_array_equal(apply("floor_mod(v0, v1)", x, y), np.mod(x, y))


def test_atan2():
    y, x = (g.ravel().astype(np.float32) for g in np.meshgrid(SPECIAL, SPECIAL))
    np.testing.assert_allclose(apply("atan2(v0, v1)", y, x), np.arctan2(y, x), rtol=5e-7)


def test_division_and_reciprocal_estimates():
    x = 10 ** RNG.uniform(-15, 15, 5000).astype(np.float32)
    y = 10 ** RNG.uniform(-15, 15, 5000).astype(np.float32)
    assert ulps(apply("div_fast(v0, v1)", x, y), x.astype(LONG) / y.astype(LONG)) <= 1
    assert ulps(apply("recip_fast(v0)", x), 1 / x.astype(LONG)) <= 1
    ends = np.array([0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(apply("recip_fast(v0)", ends), np.array([np.inf, 0, np.nan], np.float32))
    np.testing.assert_array_equal(apply("sqrt_fast(v0)", ends), ends)
    np.testing.assert_array_equal(apply("rsqrt_fast(v0)", ends), np.array([np.inf, 0, np.nan], np.float32))
    below = -x[:64]
    assert np.isnan(apply("sqrt_fast(v0)", below)).all()
    assert np.isnan(apply("rsqrt_fast(v0)", below)).all()
