"""The Core API: every name of TF.js works eager, compiled and differentiated, or says why it is not here."""

import operator
import re

import numpy as np
import pytest

import layerflow as lf
from layerflow.absent import REASONS
from layerflow.errors import TraceError
from tests.ops import cases as primitive_cases
from tests.ops.core_cases import CASES, ELSEWHERE, METHODS, NAMES


def i32(values):
    return np.array(values, np.int32)


ASYNC = {"boolean_mask_async": "boolean_mask", "setdiff1d_async": "setdiff1d", "in_top_k_async": "in_top_k"}
SPECIAL = {
    "isNaN": "is_nan",
    "basicLSTMCell": "basic_lstm_cell",
    "multiRNNCell": "multi_rnn_cell",
    "inTopKAsync": "in_top_k_async",
}
# Neither a Case nor a primitive: names that make tensors or run functions, tested below and in test_gradients.py.
OTHER = set(NAMES["creation"].replace("*", "").split()) | set(NAMES["gradients"].split()) - {"diag"}
ARRAYS_ONLY = {"broadcast_args", "clone", "unique", "linalg.qr", "signal.hann_window", "signal.hamming_window"}


def snake(name: str) -> str:
    name = str(SPECIAL.get(name, name))
    name = re.sub(r"(ND|RGB|D)$", lambda m: "_" + str(m[0]).lower(), name) if name != "gatherND" else "gather_nd"
    name = re.sub(r"(?<=\d)_d$", "d", name)
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


ALL = [(snake(token.rstrip("*")), token.endswith("*")) for group in NAMES.values() for token in group.split()]


@pytest.mark.parametrize(("name", "differentiable"), ALL, ids=[n for n, _ in ALL])
def test_every_name_is_here_or_says_why_not(name, differentiable):
    if name in REASONS:
        with pytest.raises(AttributeError, match=re.escape(REASONS[name])):
            getattr(lf, name)
        name = ASYNC.get(name, "tensor")
    assert callable(operator.attrgetter(name)(lf))
    covered = {c.op for c in CASES if c.gradient or not differentiable} | ELSEWHERE | ARRAYS_ONLY
    assert name in covered or name in map(snake, OTHER) or name in ASYNC.values()


def test_names_tested_elsewhere_are():
    own = {
        "sub": "subtract",
        "mul": "multiply",
        "div": "divide",
        "pow": "power",
        "neg": "negative",
        "mat_mul": "matmul",
    }
    own |= {"is_nan": "isnan", "is_inf": "isinf", "is_finite": "isfinite", "floor_div": "floor_divide"}
    own |= {"concat": "concatenate", "image.resize_bilinear": "matmul"}
    windows = {"avg_pool", "max_pool", "pool", "avg_pool3d", "max_pool3d"}
    known = {c.op for c in primitive_cases.CASES}
    for name in ELSEWHERE - windows:
        assert own.get(name, name) in known or "conv" in name, name


@pytest.mark.parametrize("name", METHODS)
def test_chain_methods(name):
    for cls in (lf.Tensor, lf.SymbolicTensor, lf.Variable):
        assert callable(getattr(cls, snake(name)))


@pytest.mark.parametrize("c", CASES, ids=str)
def test_compiled_equals_eager(c):
    arrays = c.inputs(np.float32)
    compiled = lf.jit(c.call)(*arrays)
    eager = np.asarray(c.call(*map(lf.tensor, arrays)))
    reference = np.asarray(c.call(*[lf.tensor(a, dtype=np.float64) for a in arrays]))
    assert compiled.shape == eager.shape == reference.shape
    assert compiled.dtype == eager.dtype
    np.testing.assert_allclose(compiled, eager, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(eager.astype(np.float64), reference.astype(np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [c for c in CASES if c.gradient], ids=str)
def test_gradient_equals_finite_difference(c):
    """In float64 along a random direction; uncompiled, for these are made of primitives whose code is tested."""
    arrays = c.inputs(np.float64)
    rng = np.random.default_rng(3)
    by = rng.standard_normal(np.shape(c.call(*map(lf.tensor, arrays))))
    steps = [rng.standard_normal(a.shape) for a in arrays]

    def scalar(*values):
        return lf.sum(c.call(*values) * by)

    lf.config.set_jit(False)
    try:
        slopes = lf.grads(scalar)(arrays)
    finally:
        lf.config.set_jit(True)
    slope = sum(float(np.sum(np.asarray(g) * s)) for g, s in zip(slopes, steps, strict=True))
    h = 1e-6
    up = float(scalar(*[lf.tensor(a + h * s) for a, s in zip(arrays, steps, strict=True)]))
    down = float(scalar(*[lf.tensor(a - h * s) for a, s in zip(arrays, steps, strict=True)]))
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (lambda x: lf.cumsum(x, 1), lambda x: np.cumsum(x, 1)),
        (lambda x: lf.cumprod(x, 0, reverse=True), lambda x: np.cumprod(x[::-1], 0)[::-1]),
        (lambda x: lf.cumsum(x, 1, exclusive=True), lambda x: np.cumsum(x, 1) - x),
        (lambda x: lf.sort(x, 1), lambda x: np.sort(x, 1)),
        (lambda x: lf.topk(x, 2)[1], lambda x: np.argsort(-x, 1, kind="stable")[:, :2]),
        (lambda x: lf.norm(x, 1, 0), lambda x: np.linalg.norm(x, 1, 0)),
        (lambda x: lf.norm(x, np.inf, (0, 1)), lambda x: np.linalg.norm(x, np.inf)),
        (lambda x: lf.mirror_pad(x, [(1, 2), (2, 1)]), lambda x: np.pad(x, [(1, 2), (2, 1)], "reflect")),
        (
            lambda x: lf.mirror_pad(x, [(1, 2), (2, 1)], "symmetric"),
            lambda x: np.pad(x, [(1, 2), (2, 1)], "symmetric"),
        ),
        (lambda x: lf.linalg.band_part(x, 1, 0), lambda x: np.tril(x) - np.tril(x, -2)),
        (lambda x: lf.search_sorted(x[0], x[1], "right"), lambda x: np.searchsorted(x[0], x[1], "right")),
        (lambda x: lf.strided_slice(x, [-1, 0], [0, 4], [-2, 3]), lambda x: x[-1:0:-2, 0:4:3]),
        (lambda x: lf.bincount(i32([1, 1, 5, 9]), None, 7), lambda x: np.bincount([1, 1, 5], minlength=7)),
        (lambda x: lf.meshgrid(x[0], x[1])[0], lambda x: np.meshgrid(x[0], x[1])[0]),
        (lambda x: lf.diag(x[0]), lambda x: np.diag(x[0])),
        (lambda x: lf.tensor(x).norm(keepDims=True), lambda x: np.linalg.norm(x).reshape(1, 1)),
    ],
)
def test_values_are_those_of_numpy(name, expected):
    x = np.sort(np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32), 1)
    np.testing.assert_allclose(np.asarray(name(x)), expected(x), rtol=1e-5, atol=1e-6)


def test_blocks_there_and_back():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    y = lf.space_to_batch_nd(x, [2, 3], [(0, 0), (0, 0)])
    assert y.shape == (12, 2, 2, 3)
    np.testing.assert_array_equal(y[2:4], x[:, ::2, 1::3])
    np.testing.assert_array_equal(lf.batch_to_space_nd(y, [2, 3], [(0, 0), (0, 0)]), x)
    deep = lf.depth_to_space(np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8), 2)
    np.testing.assert_array_equal(deep[0, :, :, 0], [[0, 2], [4, 6]])


def test_what_depends_on_values_is_for_arrays():
    values, where = lf.unique([3, 1, 3, 2, 1])
    assert (values.tolist(), where.tolist()) == ([3, 1, 2], [0, 1, 0, 2, 1])
    assert lf.boolean_mask(lf.tensor([[1, 2], [3, 4]]), [True, False]).tolist() == [[1, 2]]
    assert [t.tolist() for t in lf.setdiff1d([1, 2, 3, 4], [2, 4])] == [[1, 3], [0, 2]]
    assert lf.where_true(lf.tensor([[False, True], [True, False]])).tolist() == [[0, 1], [1, 0]]
    q, r = lf.linalg.qr(lf.tensor([[1, 2], [3, 4], [5, 6]]))
    np.testing.assert_allclose(q @ r, [[1, 2], [3, 4], [5, 6]], rtol=1e-5)
    for f in (lf.unique, lambda x: lf.boolean_mask(x, [True]), lf.where_true, lf.linalg.qr):
        with pytest.raises(TraceError, match=r"graph|gradient"):
            lf.grad(lambda x, f=f: f(x)[0].sum())(lf.tensor([[1.0]]))


def test_nothing_is_read_or_written_outside():
    x = lf.ones([3, 4])
    with pytest.raises(ValueError, match=r"\[3, 0\] lies outside of \[3, 4\]"):
        lf.gather_nd(x, [[3, 0]])
    with pytest.raises(ValueError, match="lies outside"):
        lf.scatter_nd([[-1]], [1.0], [4])
    assert lf.unsorted_segment_sum([1.0, 2.0, 4.0], [0, 7, -1], 2).tolist() == [1, 0]
    with pytest.raises(ValueError, match="k must be within"):
        lf.topk(x, 5)


def test_creation():
    assert lf.tensor5d(np.zeros(8), [1, 2, 2, 2, 1]).rank == 5
    assert lf.tensor6d(np.zeros(8), [1, 2, 2, 2, 1, 1]).shape == (1, 2, 2, 2, 1, 1)
    with pytest.raises(ValueError, match="tensor5d"):
        lf.tensor5d([1.0])
    assert lf.eye(2, 3, [4]).shape == (4, 2, 3)
    assert lf.range(0, 5, 2).tolist() == [0, 2, 4]
    assert lf.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert lf.fill([2], 7, "int32").dtype == np.int32
    x = lf.tensor([1, 2])
    y = lf.clone(x)
    y[0] = 5
    assert x.tolist() == [1, 2]


def test_methods_with_arguments_of_their_own():
    x, w = lf.tensor([[1, -2], [3, 4]]), lf.variable([[1.0, 0.0], [0.0, 1.0]])
    assert x.where(lf.tensor([[True, False], [False, True]]), x * 0).tolist() == [[1, 0], [0, 4]]
    assert x.concat(x, 1).shape == (2, 4)
    assert x.concat([x, x]).shape == (6, 2)
    assert x.stack(x).shape == (2, 2, 2)
    assert x.mat_mul(w).add(1).relu().sum().tolist() == 11
    assert w.mul(2).to_int().dtype == np.int32
    assert x.to_bool().all()
    assert x.as1d().shape == (4,)
    assert x.as2d(4, 1).shape == (4, 1)
    assert x.sum().as_scalar().shape == ()
    assert x.reshape_as(lf.zeros([4])).shape == (4,)
    assert x.square().sum(axis=1, keepDims=True).shape == (2, 1)
    y = lf.input(shape=[3, 4])
    assert y.mean(axis=-1).expand_dims(1).to_float().shape == (None, 1, 3)
    for thing in (x, w, y):
        with pytest.raises(AttributeError, match="Did you mean 'sigmoid'"):
            thing.sigmoidd()


def test_random_numbers():
    lf.random.set_seed(3)
    first = [lf.random_gamma([2000], 2.0, 0.5), lf.random_poisson([2000], 4.0), lf.rand_bernoulli([2000], 0.3)]
    lf.random.set_seed(3)
    again = [lf.random_gamma([2000], 2.0, 0.5), lf.random_poisson([2000], 4.0), lf.rand_bernoulli([2000], 0.3)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for values, mean in zip(first, (4.0, 4.0, 0.3), strict=True):
        assert np.mean(values) == pytest.approx(mean, rel=0.12)
    assert (lf.random_normal([5], seed=1) == lf.random_normal([5], seed=1)).all()
    assert lf.rand([2, 2], lambda: 0.5).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    whole = lf.random_uniform_int([500], 2, 5)
    assert set(whole.tolist()) == {2, 3, 4}
    draws = lf.multinomial(lf.log([0.1, 0.7, 0.2]), 3000)
    np.testing.assert_allclose(np.bincount(draws) / 3000, [0.1, 0.7, 0.2], atol=0.05)
    assert lf.multinomial([[0.5, 0.5], [0.0, 1.0]], 4, normalized=True).shape == (2, 4)


@pytest.mark.parametrize("draw", [
    lambda: lf.truncated_normal([4000]), lambda: lf.random_uniform_int([4000], 0, 3), lambda: lf.random_normal([4000]),
    lambda: lf.rand_bernoulli([4000], 0.25), lambda: lf.multinomial([0.0, 0.0], 4000),
], ids=["truncated", "int", "normal", "bernoulli", "multinomial"])  # fmt: skip
def test_random_numbers_in_compiled_functions(draw):
    """A function of the step: another draw in each call and in each place, the same bits on any number of threads."""
    f = lf.jit(lambda: (draw(), draw()))
    runs = []
    for threads in (1, 2):
        lf.set_num_threads(threads)
        lf.random.set_seed(5)
        runs.append([np.concatenate([np.asarray(a, np.float32) for a in f()]) for _ in range(2)])
    lf.set_num_threads(None)
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (runs[0][0] != runs[0][1]).any()
    assert (runs[0][0][:4000] != runs[0][0][4000:]).any()
    eager = np.asarray(draw(), np.float32)
    assert runs[0][0].mean() == pytest.approx(eager.mean(), abs=0.08)
    assert runs[0][0].std() == pytest.approx(eager.std(), abs=0.08)
    assert np.abs(runs[0][0]).max() <= max(np.abs(eager).max() * 1.5, 2)


def test_draws_that_take_unknown_tries_are_refused_in_graphs():
    with pytest.raises(TraceError, match="draw outside"):
        lf.jit(lambda x: x * lf.random_gamma([1], 2.0))([1.0])
