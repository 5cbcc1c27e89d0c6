"""Updates that read each other's old values: compiled code gives what the uncompiled kernels give."""

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from layerflow.graph import execution
from layerflow.graph.trace import tracing

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 10, np.float32)


def swapped(a, b):
    return {a: b * 1.0, b: a * 1.0}, []


def rotated_sums(a, b):
    """Each new value is a sum over the other's old one, in another order of loops."""
    return {a: b + a.sum(0, keepdims=True), b: a + b.sum(1, keepdims=True)}, []


def sign_before_mean(a, b):
    """As Lion does: a reads the old b, and nothing reads the new one."""
    return {b: 0.5 * b + a, a: a - lf.sign(b - a)}, []


def old_and_new(a, b):
    new = a + b
    return {a: new}, [lf.sum(a * lf.sum(new * new))]


def transposed(a, b):
    return {a: lf.reshape(lf.transpose(a), (2, 3)) + b}, [a * 2.0]


@pytest.mark.parametrize("made", [swapped, rotated_sums, sign_before_mean, old_and_new, transposed])
def test_old_values_are_read_before_they_are_overwritten(made):
    found = []
    for compiled in (False, True):
        before = config.jit()
        config.set_jit(compiled)
        try:
            a, b = lf.variable(A), lf.variable(B)
            with tracing() as record:
                updates, outputs = made(a, b)
                record.updates.update(updates)
            results = execution.run(record.graph([], outputs), [])
            found.append([a.numpy(), b.numpy(), *results])
        finally:
            config.set_jit(before)
    for eager, native in zip(*found, strict=True):
        np.testing.assert_allclose(native, eager, rtol=1e-6)
    assert not np.array_equal(found[1][0], A)
