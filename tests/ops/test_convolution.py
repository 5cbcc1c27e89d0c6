"""Convolution and pooling over random shapes: values by their definitions, gradients by finite differences."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerflow as lf
from layerflow.errors import ShapeError, UnknownNameError
from layerflow.graph import autodiff, ops
from layerflow.graph.ops.primitive import constant
from layerflow.graph.symbolic import SymbolicTensor
from tests.ops import naive

FORMATS = ("channelsLast", "channels_first")


@contextlib.contextmanager
def uncompiled():
    before = lf.config.jit()
    lf.config.set_jit(False)
    try:
        yield
    finally:
        lf.config.set_jit(before)


@st.composite
def windows(draw):
    """Extents, size, strides, dilations and padding that fit together; rank 1 to 3."""
    rank = draw(st.integers(1, 3))
    several = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    size, strides, dilations = several(1, 3), (1,) * rank, (1,) * rank
    if draw(st.booleans()):
        strides = several(1, 4)
    else:
        dilations = several(1, 3)
    padding = draw(st.sampled_from(["valid", "same", "causal" if rank == 1 else "same", 1, "pairs"]))
    if padding == "pairs":
        padding = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank)]
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    extents = tuple(r + draw(st.integers(0, 4 if rank < 3 else 2)) for r in reach)
    return extents, size, strides, dilations, padding


def to_format(x, data_format):
    return np.moveaxis(x, -1, 1) if data_format == "channels_first" else x


def slopes(f, arrays, seed):
    """(slope by the gradients, slope by central differences) of a weighted sum of f along a random direction."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(np.shape(f(*arrays)))
    steps = [rng.standard_normal(a.shape) for a in arrays]
    scalar = lambda *values: ops.sum(f(*values) * weights)  # noqa: E731
    slope = 0.0
    for at, step in enumerate(steps):
        one = lambda x, at=at: scalar(*[x if i == at else a for i, a in enumerate(arrays)])  # noqa: E731
        slope += float(np.sum(np.asarray(lf.grad(one)(arrays[at])) * step))
    h = 1e-5
    up, down = (float(scalar(*[a + sign * h * s for a, s in zip(arrays, steps, strict=True)])) for sign in (1, -1))
    return slope, (up - down) / (2 * h)


def distinct(rng, shape):
    """Values without ties, at least 0.01 apart."""
    return rng.permutation(int(np.prod(shape))).reshape(shape) * 0.01 - 0.3


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from(FORMATS), st.integers(0, 99))
def test_convolution(window, groups, inner, columns, data_format, seed):
    extents, size, strides, dilations, padding = window
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, *extents, groups * inner))
    kernel = rng.standard_normal((*size, inner, groups * columns))
    wanted = to_format(naive.conv(x, kernel, strides, padding, dilations, groups), data_format)

    def f(x, kernel):
        return ops.conv(x, kernel, strides, padding, data_format, dilations, groups)

    x = to_format(x, data_format)
    np.testing.assert_allclose(np.asarray(f(x, kernel)), wanted, rtol=1e-9, atol=1e-9)
    with uncompiled():
        np.testing.assert_allclose(*slopes(f, [x, kernel], seed), rtol=1e-6, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(windows(), st.integers(1, 2), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_compiled_convolution_equals_uncompiled(window, groups, inner, columns, seed):
    extents, size, strides, dilations, padding = window
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, *extents, groups * inner)).astype(np.float32)
    # Sums of about 1: the sine of larger ones would differ by more than the rounding of the convolution.
    kernel = rng.standard_normal((*size, inner, groups * columns)).astype(np.float32) / math.sqrt(
        math.prod(size) * inner
    )

    def f(x, kernel):
        return ops.conv(x, kernel, strides, padding, dilations=dilations, groups=groups)

    three = [lf.jit(f), lf.grad(lambda x: ops.sum(ops.sin(f(x, kernel)))), lf.grad(lambda k: ops.sum(ops.sin(f(x, k))))]
    arguments = [(x, kernel), (x,), (kernel,)]
    with uncompiled():
        wanted = [np.asarray(g(*a)) for g, a in zip(three, arguments, strict=True)]
    for g, a, w in zip(three, arguments, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(g(*a)), w, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(windows(), st.integers(0, 99))
def test_second_derivatives(window, seed):
    extents, size, strides, dilations, padding = window
    rng = np.random.default_rng(seed)
    x, kernel = rng.standard_normal((1, *extents, 2)), rng.standard_normal((*size, 2, 3))

    def cubes(x, kernel):
        return ops.sum(ops.conv(x, kernel, strides, padding, dilations=dilations) ** 3)

    def first(x, kernel):
        if not any(isinstance(v, SymbolicTensor) for v in (x, kernel)):
            return np.asarray(lf.grad(cubes)(x, kernel))
        x = x if isinstance(x, SymbolicTensor) else SymbolicTensor(constant(x))
        return autodiff.gradients(cubes(x, kernel), [x])[0]

    with uncompiled():
        np.testing.assert_allclose(*slopes(first, [x, kernel], seed), rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from(["valid", "same"]), st.sampled_from(FORMATS), st.integers(0, 99))
def test_transposed_convolution(window, padding, data_format, seed):
    extents, size, strides, _, _ = window
    rng = np.random.default_rng(seed)
    x, kernel = rng.standard_normal((2, *extents, 2)), rng.standard_normal((*size, 3, 2))
    wanted = to_format(naive.conv_transpose(x, kernel, strides, padding), data_format)

    def f(x, kernel):
        return ops.conv_transpose(x, kernel, strides, padding, data_format=data_format)

    x = to_format(x, data_format)
    np.testing.assert_allclose(np.asarray(f(x, kernel)), wanted, rtol=1e-9, atol=1e-9)
    with uncompiled():
        np.testing.assert_allclose(*slopes(f, [x, kernel], seed), rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(windows(), st.sampled_from(["max", "avg"]), st.sampled_from(FORMATS), st.integers(0, 99))
def test_pooling(window, method, data_format, seed):
    extents, size, strides, dilations, padding = window
    padding = padding if padding in ("valid", "same") else "same"
    x = distinct(np.random.default_rng(seed), (2, *extents, 3))
    wanted = to_format(naive.pool(x, size, method, strides, padding, dilations), data_format)

    def f(x):
        return ops.pool(x, size, method, strides, padding, data_format, dilations)

    x = to_format(x, data_format)
    np.testing.assert_allclose(np.asarray(f(x)), wanted, rtol=1e-9, atol=1e-9)
    with uncompiled():
        np.testing.assert_allclose(*slopes(f, [x], seed), rtol=1e-6, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(windows(), st.sampled_from(["max", "avg"]), st.integers(1, 20), st.integers(0, 99))
def test_compiled_pooling_equals_uncompiled(window, method, channels, seed):
    extents, size, strides, dilations, padding = window
    padding = padding if padding in ("valid", "same") else "same"
    # Ties on purpose: the first maximum takes the gradient in three.
    x = np.random.default_rng(seed).integers(-3, 3, (3, *extents, channels)).astype(np.float32)

    def f(x):
        return ops.sum(ops.sin(ops.pool(x, size, method, strides, padding, dilations=dilations) + 0.5))

    with uncompiled():
        wanted = np.asarray(lf.grad(f)(x))
    np.testing.assert_allclose(np.asarray(lf.grad(f)(x)), wanted, rtol=1e-5, atol=1e-5)


def test_the_first_of_equal_maxima_takes_the_gradient():
    x = np.zeros((1, 4, 4, 1), np.float32)
    g = np.asarray(lf.grad(lambda x: ops.sum(ops.max_pool(x, 2)))(x))[0, :, :, 0]
    np.testing.assert_array_equal(g, [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_padding_is_no_maximum_and_no_part_of_a_mean():
    x = np.full((1, 3, 1), -5.0, np.float32)
    np.testing.assert_array_equal(np.asarray(ops.max_pool(x, 2, 1, "same")), x)
    np.testing.assert_array_equal(np.asarray(ops.avg_pool(x, 3, 1, "same")), x)


def test_same_padding_puts_the_odd_element_behind():
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1)
    y = np.asarray(ops.conv1d(x, np.ones((2, 1, 1), np.float32), padding="same"))
    np.testing.assert_array_equal(y.ravel(), [3, 5, 7, 4])


def test_output_padding_adds_behind():
    x, kernel = np.ones((1, 2, 1), np.float32), np.ones((3, 1, 1), np.float32)
    assert ops.conv_transpose(x, kernel, 3, "valid", output_padding=0).shape == (1, 6, 1)
    assert ops.conv_transpose(x, kernel, 3, "valid", output_padding=2).shape == (1, 8, 1)
    assert ops.conv_transpose(x, kernel, 3, "valid").shape == (1, 6, 1)


def test_chain_methods():
    x: Any = lf.tensor(np.ones((1, 4, 4, 2)))
    assert x.conv2d(np.ones((3, 3, 2, 5))).max_pool(2).shape == (1, 1, 1, 5)
    assert x.depthwise_conv2d(np.ones((3, 3, 2, 2)), padding="same").avg_pool(2, 1).shape == (1, 3, 3, 4)
    assert x.resize_bilinear((8, 6)).shape == (1, 8, 6, 2)


@pytest.mark.parametrize("way", [{}, {"align_corners": True}, {"half_pixel_centers": True}], ids=str)
@pytest.mark.parametrize("size", [(7, 3), (4, 10), (8, 12), (2, 3)], ids=str)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resize(method, size, way):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 4, 6, 3))
    y = x
    for axis, n in enumerate(size, 1):
        extent, parts = x.shape[axis], []
        for i in range(n):
            place = i * extent / n
            if "align_corners" in way:
                place = i * (extent - 1) / (n - 1)
            if "half_pixel_centers" in way:
                place = (i + 0.5) * extent / n - 0.5
            if method == "nearest":
                place = np.floor(place + (0.5 if way else 0.0))
            place = min(max(place, 0), extent - 1)
            low = int(place)
            high = min(low + 1, extent - 1)
            parts.append(np.take(y, low, axis) * (1 - place + low) + np.take(y, high, axis) * (place - low))
        y = np.stack(parts, axis)
    f = lambda x: ops.resize(x, size, method, **way)  # noqa: E731
    np.testing.assert_allclose(np.asarray(f(x)), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(*slopes(f, [x], 0), rtol=1e-6, atol=1e-6)


X, K = np.ones((2, 5, 5, 4), np.float32), np.ones((3, 3, 4, 6), np.float32)
REFUSED = {
    "rank": (lambda: ops.conv2d(X[0], K), "rank 4"),
    "kernel rank": (lambda: ops.conv2d(X, K[0]), "kernel must have rank 4"),
    "large kernel": (lambda: ops.conv2d(X[:, :2], K), "larger than the padded input"),
    "spread kernel": (lambda: ops.conv2d(X, K, dilations=3), r"spreads over \[7, 7\]"),
    "channels": (lambda: ops.conv2d(X[..., :3], K), "for 4 channels"),
    "channel groups": (lambda: ops.conv2d(X, K, groups=3), "do not divide into 3 groups"),
    "filter groups": (lambda: ops.conv2d(X, K[:, :, :1], groups=4), "6 filters"),
    "stride": (lambda: ops.conv2d(X, K, strides=0), "at least 1"),
    "dilation": (lambda: ops.conv2d(X, K, dilations=(1, 0)), "at least 1"),
    "groups": (lambda: ops.conv2d(X, K, groups=0), "groups"),
    "both": (lambda: ops.conv2d(X, K, strides=2, dilations=2), "not defined"),
    "number of strides": (lambda: ops.conv2d(X, K, strides=(1, 2, 3)), "3 entries for 2"),
    "causal": (lambda: ops.conv2d(X, K, padding="causal"), "one spatial axis"),
    "negative padding": (lambda: ops.conv2d(X, K, padding=-1), "at least 0"),
    "window": (lambda: ops.max_pool(X, 6), "larger than the padded input"),
    "pool rank": (lambda: ops.avg_pool(X[0, 0], 2), "rank 3, 4 or 5"),
    "pool stride": (lambda: ops.avg_pool(X, 2, 0), "at least 1"),
    "transposed channels": (lambda: ops.conv2d_transpose(X, K), "for 6 channels"),
    "output padding": (lambda: ops.conv2d_transpose(X, K.swapaxes(2, 3), 2, output_padding=2), "smaller than"),
    "depth channels": (lambda: ops.depthwise_conv2d(X, K[:, :, :3]), "for 3 channels"),
    "point kernel": (lambda: ops.separable_conv2d(X, K, K), "1x1"),
    "resize": (lambda: ops.resize(X, 0), "at least 1"),
    "sample axes": (lambda: ops.conv2d(ops.placeholder((None, None, 5, 4)), K), "must be known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, message = REFUSED[name]
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv2d(X, K, padding="sane"), "Did you mean 'same'"),
        (lambda: ops.conv2d(X, K, data_format="channelslast"), "channelsLast|channels_last"),
        (lambda: ops.conv2d_transpose(X, K.swapaxes(2, 3), padding="full"), "padding"),
        (lambda: ops.pool(X, 2, "mean"), "pooling method"),
        (lambda: ops.resize(X, 2, "bilinar"), "bilinear"),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(UnknownNameError, match=message):
        call()
