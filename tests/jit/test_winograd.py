"""Winograd kernels against direct convolution in float64."""

import dataclasses

import numpy as np
import pytest
from jit.winograd_source import Case, direct, direct_gradients

from layerflow.jit import target
from layerflow.jit.winograd_tiling import Tiling

AVAILABLE = [
    n for n in ("generic", "avx2", "avx512") if n == "generic" or target.host().vector_bytes >= 32 * (n[3:] != "2") + 32
]
# rows, columns, channels, filters
SHAPES = [
    (24, 24, 32, 32), (10, 10, 32, 64), (8, 8, 64, 64), (4, 4, 3, 20), (5, 7, 10, 3), (6, 6, 20, 10), (7, 5, 16, 37),
    (9, 4, 1, 1), (4, 13, 40, 100),
]  # fmt: skip
NATIVE = target.host()


def data(case: Case, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(case.rows + 7 * case.columns + case.channels)
    x = case.filled(rng.standard_normal((batch, case.rows + 2, case.columns + 2, case.channels)))
    kernel = case.filled(rng.standard_normal((3, 3, case.channels, case.filters)) / np.sqrt(9 * case.channels))
    dy = case.filled(rng.standard_normal((batch, case.rows, case.columns, case.filters)))
    return x, kernel, dy


def transformed(case: Case, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    code = case.compiled(case.kernel_transform(), case.turned_kernel_transform())
    plain, turned = case.empty(36, case.channels, case.filters), case.empty(36, case.filters, case.channels)
    code("kernel", kernel, plain, hi=case.channels)
    code("turned", kernel, turned, case.empty(9 * case.lanes**2), hi=-(-case.filters // case.lanes))
    return plain, turned


def close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert np.isfinite(got).all()
    assert abs(got - expected).max() <= tolerance * abs(expected).max()


def check(case: Case, batch: int, tolerance: float = 5e-6) -> None:
    """All passes; what they may not touch or leave undone is nan."""
    x, kernel, dy = data(case, batch)
    plain, turned = transformed(case, kernel)
    np.testing.assert_array_equal(plain.transpose(0, 2, 1), turned)
    code = case.compiled(case.forward(), case.backward(), case.kernel_gradient())
    bias, y, work = case.filled(np.linspace(-1, 1, case.filters)), case.empty(*dy.shape), case.scratch()
    code("forward", x, plain, bias, y, work, hi=batch)
    close(y, np.maximum(direct(x, kernel) + bias, 0), tolerance)
    du, dx, dk = case.empty(*plain.shape), case.empty(*x.shape), case.empty(*kernel.shape)
    du[...] = 0
    code("both", x, dy, turned, du, dx, work, hi=batch)
    code("gradient", du, dk, hi=case.channels)
    expected_dx, expected_dk = direct_gradients(x, kernel, dy)
    close(dx, expected_dx, tolerance)
    close(dk, expected_dk, tolerance)


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_passes(shape, name):
    rows, columns, channels, filters = shape
    check(Case(rows, columns, channels, filters, target.named(name)), 3)


@pytest.mark.parametrize("channels", [3, 10, 20])
@pytest.mark.parametrize("extent", [4, 5, 6, 7])
def test_overlapping_tiles_and_odd_channels(extent, channels):
    check(Case(extent, 11 - extent, channels, 13 - channels // 2, NATIVE), 2)


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_batches(batch):
    check(Case(6, 8, 20, 32, NATIVE), batch)


def test_double_precision_is_exact():
    check(Case(7, 8, 12, 20, NATIVE, np.float64), 2, 1e-13)


def test_rows_with_room_for_whole_vectors():
    check(Case(7, 6, 20, 40, NATIVE, pad=NATIVE.lanes("f32")), 3)


@pytest.mark.parametrize("cache", [1 << 14, 1 << 22])
def test_groups_of_tiles_are_parts_of_samples_or_many(cache):
    """Results have the same bits whatever the working memory."""
    case = Case(17, 9, 8, 24, NATIVE)
    other = Case(17, 9, 8, 24, dataclasses.replace(NATIVE, l2_bytes=cache))
    assert other.tiling.group != case.tiling.group
    check(other, 5)
    for one, two in zip(gradients(case, [(0, 5)]), gradients(other, [(0, 5)]), strict=True):
        np.testing.assert_array_equal(one, two)


def gradients(case: Case, ranges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Of the transformed kernel and the inputs, in ranges of the samples."""
    x, kernel, dy = data(case, ranges[-1][1])
    _, turned = transformed(case, kernel)
    du, dx = case.filled(np.zeros((36, case.channels, case.filters))), case.empty(*x.shape)
    code, work = case.compiled(case.backward()), case.scratch()
    for lo, hi in ranges:
        code("both", x, dy, turned, du, dx, work, lo=lo, hi=hi)
    return du, dx


def test_ranges_of_samples_give_the_bits_of_the_whole():
    case = Case(6, 10, 16, 20, NATIVE)
    for one, two in zip(gradients(case, [(0, 7)]), gradients(case, [(0, 1), (1, 4), (4, 7)]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_gradient_alone():
    case = Case(6, 7, 16, 20, NATIVE)
    x, kernel, dy = data(case, 3)
    _, turned = transformed(case, kernel)
    du, dx = gradients(case, [(0, 3)])
    du_alone, dx_alone, work = case.filled(np.zeros(du.shape)), case.empty(*dx.shape), case.scratch()
    code = case.compiled(case.backward("weights"), case.backward("data"))
    code("weights", x, dy, turned, du_alone, dx_alone, work, hi=3)
    assert np.isnan(dx_alone).all()
    code("data", x, dy, turned, du_alone, dx_alone, work, hi=3)
    np.testing.assert_array_equal(du_alone, du)
    np.testing.assert_array_equal(dx_alone, dx)


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("channels", [3, 20, 64, 256])
@pytest.mark.parametrize("extent", [4, 8, 13, 56, 224])
def test_groups_fill_the_register_tiles(extent, channels, registers):
    lanes = 16 if registers == 32 else 8
    tiling = Tiling(extent, extent, channels, channels, 4, lanes, registers, 1 << 20)
    for panel in tiling.panels(channels):
        step = tiling.tile_rows(panel.vectors)
        assert tiling.tiles / (-(-tiling.tiles // step) * step) > 0.9
        assert step * panel.vectors <= (24 if registers == 32 else 12)
    assert tiling.plane(channels) * 4 // 64 % 2 == 1
