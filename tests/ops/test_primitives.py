"""Every primitive: compiled, uncompiled and float64 values agree; gradients equal finite differences."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import ops
from layerflow.graph.ops.primitive import PRIMITIVES, MapPrimitive
from tests.ops.cases import CASES


def test_every_primitive_has_a_case():
    # `extent` exists only where a batch is known at run time: the training tests hold it.  Updates of rows are made by
    # the compiler alone: tests/jit/test_sparse.py has them.
    elsewhere = {"extent", "row_sums", "update_rows", "rows_part"}
    assert {c.op for c in CASES} | elsewhere == set(PRIMITIVES)


def test_every_map_is_one_expression():
    for primitive in PRIMITIVES.values():
        if isinstance(primitive, MapPrimitive) and primitive.name != "stop_gradient":
            names, expression = primitive.expression
            assert names
            assert expression is not None


@pytest.mark.parametrize("c", CASES, ids=str)
def test_compiled_equals_eager_equals_float64(c):
    arrays = c.inputs(np.float32)
    compiled = lf.jit(c.call)(*arrays)
    lf.config.set_jit(False)
    try:
        uncompiled = lf.jit(c.call)(*arrays)
    finally:
        lf.config.set_jit(True)
    reference = np.asarray(c.call(*[lf.tensor(a, dtype=np.float64) for a in arrays]))
    assert compiled.shape == uncompiled.shape == reference.shape
    assert compiled.dtype == uncompiled.dtype
    np.testing.assert_allclose(compiled, uncompiled, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(compiled.astype(np.float64), reference.astype(np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [c for c in CASES if c.gradient], ids=str)
def test_gradient_equals_finite_difference(c):
    """In float64, along one random direction of all operands; the compiled backward graph."""
    arrays = c.inputs(np.float64)
    rng = np.random.default_rng(3)
    weights = rng.standard_normal(np.shape(c.call(*arrays)))
    steps = [rng.standard_normal(a.shape) for a in arrays]

    def scalar(*values):
        return ops.sum(c.call(*values) * weights)

    slope = 0.0
    for at in range(len(arrays)):

        def of_one(x, at=at):
            return scalar(*[x if i == at else a for i, a in enumerate(arrays)])

        slope += float(np.sum(np.asarray(lf.grad(of_one)(arrays[at])) * steps[at]))
    h = 1e-6
    up = float(scalar(*[a + h * s for a, s in zip(arrays, steps, strict=True)]))
    down = float(scalar(*[a - h * s for a, s in zip(arrays, steps, strict=True)]))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-6)
