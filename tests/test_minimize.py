"""`minimize(f)`: f runs at each call, what was compiled before is not compiled again, and no change is missed."""

import importlib
import threading

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import TraceError


def f32(values):
    return np.array(values, np.float32)


def i32(values):
    return np.array(values, np.int32)


pipeline = importlib.import_module("layerflow.jit.pipeline")
X = f32([[1, 2], [3, 4], [5, 7]])


@pytest.fixture
def compilations(monkeypatch):
    """A list that grows by one with each compilation; programs of other tests are forgotten."""
    pipeline.forget()
    done, compile = [], pipeline.compile

    def counted(graph, *rest):
        done.append(graph)
        return compile(graph, *rest)

    monkeypatch.setattr(pipeline, "compile", counted)
    return done


@pytest.fixture(params=[True, False], ids=["compiled", "interpreted"])
def jit(request):
    lf.config.set_jit(request.param)
    yield request.param
    lf.config.set_jit(True)


def moved(w, f, rate=0.5, **options):
    """How far one step of SGD moves w: the gradient of f, as minimize computes it."""
    before = w.numpy()
    lf.train.sgd(rate).minimize(f, **options)
    return (before - w.numpy()) / rate


def test_new_data_of_the_same_shape_is_not_compiled_again(jit, compilations):
    w, sgd = lf.variable([1.0, -1.0]), lf.train.sgd(0.1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, before = rng.standard_normal((3, 2), np.float32), w.numpy()
        cost = sgd.minimize(lambda x=x: lf.square(lf.mat_mul(x, w)).sum(), return_cost=True)
        assert cost == pytest.approx(np.square(x @ before).sum(), rel=1e-5)
        np.testing.assert_allclose(w.numpy(), before - 0.1 * 2 * x.T @ (x @ before), rtol=1e-4)
    assert len(compilations) == jit


def test_shapes_types_and_layouts_of_data_may_change(jit):
    w, sgd = lf.variable([1.0, -1.0]), lf.train.sgd(0.1)
    wide = np.arange(24, dtype=np.float32).reshape(6, 4)
    for x in (X, X[:2], X.astype(np.float64), X[::2], wide[:, ::2], wide.T[:2].T, X.astype(np.int32), X):
        before = w.numpy()
        sgd.minimize(lambda x=x: (x * w).sum())
        np.testing.assert_allclose(w.numpy(), before - 0.1 * x.sum(axis=0), rtol=1e-5)


def test_control_flow_on_python_values(jit, compilations):
    w, sgd = lf.variable([2.0]), lf.train.sgd(1.0)
    for step in range(12):
        before = w.numpy()

        def loss(step=step):
            y = w * 3
            if step % 3 == 0:
                y = y * 2
            for _ in range(step % 2):
                y = y + w
            return y.sum()

        sgd.minimize(loss)
        np.testing.assert_allclose(before - w.numpy(), [3 * (2 if step % 3 == 0 else 1) + step % 2], rtol=1e-5)
    assert len(compilations) <= 4 * jit


def test_control_flow_on_the_values_of_data(jit):
    w = lf.variable([2.0])

    def loss(x):
        return (w * (5.0 if x.sum() > 0 else -7.0)).sum() * float(x[0])

    for x, slope in ((f32([2.0]), 10.0), (f32([-2.0]), 14.0), (f32([3.0]), 15.0)):
        np.testing.assert_allclose(moved(w, lambda x=x: loss(x)), [slope])


def test_numbers_that_change_from_call_to_call(jit, compilations):
    w, sgd = lf.variable([1.0, 2.0, 3.0]), lf.train.sgd(0.1)
    for i in range(25):
        beta, before = 1.0 / (i + 1), w.numpy()
        cost = sgd.minimize(lambda beta=beta: (beta * w * w).sum() + 2.5 * (w - beta).sum(), return_cost=True)
        assert cost == pytest.approx((beta * before**2).sum() + 2.5 * (before - beta).sum(), rel=1e-5)
        np.testing.assert_allclose(w.numpy(), before - 0.1 * (2 * beta * before + 2.5), rtol=1e-5, atol=1e-6)
    assert len(compilations) <= 5 * jit  # then numbers are inputs of the code


@pytest.mark.parametrize("values", [(1, 1.0, True), (0.0, -0.0), (2, 2.5, np.float32(2)), (np.float64(3), 3)], ids=str)
def test_numbers_that_only_look_the_same(values, jit):
    sgd, w = lf.train.sgd(0.0), lf.variable([4.0])
    for value in values:
        w.assign([4.0])
        cost = sgd.minimize(lambda value=value: lf.divide(w, value).sum(), return_cost=True)
        with np.errstate(divide="ignore"):
            assert cost == np.float32(4) / np.float32(value)


def test_arrays_changed_in_place_between_calls(jit):
    w, sgd, x = lf.variable([1.0, -1.0]), lf.train.sgd(1.0), np.zeros((3, 2), np.float32)
    for k in range(4):
        x[...] = X * k
        before = w.numpy()
        sgd.minimize(lambda: (x * w).sum())
        np.testing.assert_allclose(before - w.numpy(), X.sum(axis=0) * k)


def test_the_same_array_twice_and_two_equal_arrays(jit):
    w, sgd = lf.variable([3.0, 3.0]), lf.train.sgd(0.0)
    a, b = f32([1, 2]), f32([10, 20])
    for x, y in ((a, a), (a, b), (b, a), (b, b), (a, a.copy())):
        cost = sgd.minimize(lambda x=x, y=y: (w * x).sum() - (w * y * 2).sum(), return_cost=True)
        assert cost == pytest.approx(3 * (x.sum() - 2 * y.sum()))


def test_order_in_which_arrays_are_met(jit):
    w, sgd = lf.variable([1.0, 1.0]), lf.train.sgd(0.0)
    a, b = f32([1, 2]), f32([10, 20])
    for swap in (False, True, False, True):

        def loss(swap=swap):
            first, second = ((w * b), (w * a * 5)) if swap else ((w * a * 5), (w * b))
            return (first - second).sum() * (-1.0 if swap else 1.0)

        assert sgd.minimize(loss, return_cost=True) == pytest.approx(15 - 30)


def test_values_computed_from_data_in_the_closure(jit):
    """What is computed from arrays alone is computed anew, also inside op functions."""
    w, sgd = lf.variable(np.ones((2, 3), np.float32)), lf.train.sgd(0.0)
    for x, labels in ((X, [0, 1, 2]), (X + 1, [2, 2, 0]), (X * 2, [1, 0, 1])):
        labels = i32(labels)

        def loss(x=x, labels=labels):
            scaled = (lf.tensor(x) - x.mean()).div(x.std())
            return (lf.one_hot(labels, 3) * lf.mat_mul(scaled, w)).sum() + lf.gather(w, labels % 2).sum() * float(
                x.max()
            )

        scaled = (x - x.mean()) / x.std()
        expected = np.take_along_axis(scaled @ np.ones((2, 3)), labels[:, None], 1).sum() + 9 * x.max()
        assert sgd.minimize(loss, return_cost=True) == pytest.approx(expected, rel=1e-5)


def test_rebound_variables_and_frozen_ones(jit):
    sgd = lf.train.sgd(1.0)
    kept = {"w": lf.variable([1.0])}
    a, b = kept["w"], lf.variable([5.0])
    sgd.minimize(lambda: (kept["w"] * 2).sum())
    kept["w"] = b
    sgd.minimize(lambda: (kept["w"] * 2).sum())
    assert (a.numpy()[0], b.numpy()[0]) == (-1.0, 3.0)

    def both():
        return (a * 2).sum() + (b * 3).sum()

    sgd.minimize(both)
    a.trainable = False
    sgd.minimize(both)
    sgd.minimize(both, var_list=[b])
    a.trainable = True
    assert (a.numpy()[0], b.numpy()[0]) == (-3.0, -6.0)
    sgd.minimize(both, var_list=[a])
    assert (a.numpy()[0], b.numpy()[0]) == (-5.0, -6.0)


def test_variables_assigned_in_between(jit):
    w, sgd = lf.variable([1.0]), lf.train.sgd(0.0)
    for value in (2.0, 5.0):
        w.assign([value])
        assert sgd.minimize(lambda: (w * w).sum(), return_cost=True) == value**2


def test_settings_of_the_optimizer_may_change(jit):
    w = lf.variable([1.0])
    optimizer = lf.train.momentum(1.0, 0.0)
    optimizer.minimize(lambda: w.sum())
    optimizer.learning_rate = 2.0
    optimizer.minimize(lambda: w.sum())
    assert w.numpy()[0] == -2.0
    optimizer.momentum = 1.0
    optimizer.minimize(lambda: w.sum())
    assert w.numpy()[0] == -6.0


def test_the_closure_runs_each_time(jit):
    w, sgd, seen = lf.variable([1.0]), lf.train.sgd(0.1), []
    for i in range(5):
        sgd.minimize(lambda i=i: (seen.append(i), (w * w).sum())[1])
    assert seen == list(range(5))


def test_assignments_inside_the_closure(jit):
    w, count, sgd = lf.variable([1.0]), lf.variable([0.0], trainable=False), lf.train.sgd(0.1)
    for i in range(5):

        def loss(by=1.0 + i % 2):
            lf.assign(count, count + by)
            return (w * w).sum()

        sgd.minimize(loss)
    assert count.numpy()[0] == 7.0


def test_random_numbers_are_new_in_each_step_and_in_each_place(jit):
    w, sgd = lf.variable(np.zeros(1000, np.float32)), lf.train.sgd(1.0)

    def loss():
        return (w * lf.random_uniform([1000]) - w * lf.random_uniform([1000])).sum()

    steps = []
    for _ in range(3):
        before = w.numpy()
        sgd.minimize(loss)
        steps.append(before - w.numpy())
    assert all(np.abs(s).max() > 0.5 for s in steps)
    assert np.abs(steps[0] - steps[1]).max() > 0.5


def test_two_optimizers_of_one_structure_take_turns(jit):
    """They share compiled code, each with its own variables."""
    a, b = lf.variable([1.0, 2.0]), lf.variable([10.0, 20.0])
    for _ in range(3):
        np.testing.assert_allclose(moved(a, lambda: (a * a).sum(), 0.25), 2 * (a.numpy() * 2), rtol=1e-5)
        np.testing.assert_allclose(moved(b, lambda: (b * b).sum(), 0.25), 2 * (b.numpy() * 2), rtol=1e-5)


def test_from_several_threads():
    """One optimizer, each thread with its own variable and data."""
    sgd = lf.train.sgd(1.0)
    ends = {}

    def work(k):
        w, x = lf.variable(np.zeros(50, np.float32)), np.full(50, k, np.float32)
        for _ in range(200):
            sgd.minimize(lambda: (w * x).sum())
        ends[k] = w.numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, w in ends.items():
        np.testing.assert_array_equal(w, np.full(50, -200.0 * k))


def test_many_structures_do_not_pile_up():
    w, sgd = lf.variable([1.0]), lf.train.sgd(0.0)
    lf.config.set_jit(False)
    try:
        for n in range(1, 80):
            sgd.minimize(lambda n=n: (w * np.ones(n, np.float32)).sum())
    finally:
        lf.config.set_jit(True)
    assert len(sgd._steps.forms) <= 64


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda w: 3.0, "cannot find a connection"),
        (lambda w: np.float32(3), "cannot find a connection"),
        (lambda w: None, "it returned NoneType"),
        (lambda w: w * 2, r"must return a scalar, got shape \[2\]"),
        (lambda w: lf.tensor([1.0]).sum(), "it returned numbers"),
    ],
)
def test_what_is_no_loss_is_refused(loss, message):
    w = lf.variable([1.0, 2.0])
    with pytest.raises(TraceError, match=message):
        lf.train.sgd(0.1).minimize(lambda: loss(w))


def test_refusals_about_variables():
    w = lf.variable([1.0], trainable=False, name="frozen")
    with pytest.raises(TraceError, match="not trainable"):
        lf.train.sgd(0.1).minimize(lambda: w.sum())
    counts = lf.variable(i32([1, 2]), name="counts")
    with pytest.raises(TraceError, match="'counts' is of dtype int32"):
        lf.train.sgd(0.1).minimize(lambda: lf.cast(counts, "float32").sum(), var_list=[counts])
    with pytest.raises(TraceError, match="var_list holds a str"):
        lf.train.sgd(0.1).minimize(lambda: counts.sum(), var_list=["counts"])
