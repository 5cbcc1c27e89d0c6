"""Gradients of functions and closures, with the rules of TF.js (INVENTORY 6.2), and what is refused."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DisposedError, ShapeError, TraceError


def f32(values):
    return np.array(values, np.float32)


def i32(values):
    return np.array(values, np.int32)


def i64(values):
    return np.array(values, np.int64)


X = lf.tensor([1, -2, 3])


def test_grad_and_its_weights():
    g = lf.grad(lambda x: x.square())
    np.testing.assert_allclose(g(X), 2 * X)
    np.testing.assert_allclose(g(X, dy=[1.0, 0.0, -1.0]), [2, 0, -6])
    with pytest.raises(ShapeError, match=r"dy has shape \[2\], but f\(x\) has \[3\]"):
        g(X, dy=[1.0, 2.0])


@pytest.mark.parametrize("call", [lambda g, a, b: g([a, b]), lambda g, a, b: g(a, b)], ids=["list", "arguments"])
def test_grads(call):
    a, b = lf.tensor([[1, 2]]), lf.tensor([[3], [5]])
    da, db = call(lf.grads(lambda x, y: x.mat_mul(y)), a, b)
    np.testing.assert_allclose(da, b.T)
    np.testing.assert_allclose(db, a.T)
    both = lf.value_and_grads(lambda x, y: x.mat_mul(y))([a, b])
    assert both.value.tolist() == [[13]]
    assert [g.shape for g in both.grads] == [(1, 2), (2, 1)]
    assert lf.grads(lambda x, y: x * y)([2.0, 3.0], dy=10.0) == [30, 20]


def test_value_and_grad():
    result = lf.value_and_grad(lambda x: (x * x).sum())(X)
    value, gradient = result
    assert value == result.value == 14
    np.testing.assert_allclose(gradient, 2 * X)


def test_other_arguments_and_nested_ones():
    assert lf.grad(lambda x, y: x * y)(2.0, 5.0) == 5
    by_name = lf.grad(lambda p: (p["w"] * 3 + p["b"] * 4).sum())({"w": X, "b": lf.tensor([1.0])})
    assert by_name["w"].tolist() == [3, 3, 3]
    assert by_name["b"].tolist() == [12]


def test_gradients_of_gradients():
    cube = lambda x: x * x * x  # noqa: E731
    assert lf.grad(cube)(2.0) == 12
    assert lf.grad(lf.grad(cube))(2.0) == 12
    assert lf.grad(lf.grad(lf.grad(cube)))(2.0) == 6
    # The inner function is differentiated for its own argument, not for the outer x of the same value.
    assert lf.grad(lambda x: lf.grad(lambda y: y * x)(x))(3.0) == 1
    assert lf.jit(lf.grad(lf.sin))(0.0) == 1
    # A gradient penalty: the slope of a loss that holds a slope.
    w = lf.variable([2.0])
    penalty = lambda: lf.square(lf.grad(lambda x: (w * x * x).sum())(lf.variable([3.0]) * 1)).sum()  # noqa: E731
    result = lf.variable_grads(penalty)
    assert result.value == 144
    assert result.grads[w.name].tolist() == [144]


def test_new_values_need_no_new_code(monkeypatch):
    import importlib

    pipeline = importlib.import_module("layerflow.jit.pipeline")
    done, compile = [], pipeline.compile
    monkeypatch.setattr(pipeline, "compile", lambda *a: (done.append(1), compile(*a))[1])
    y = f32([1, 2, 3])
    g = lf.grad(lambda x: (x * y * 1.25).sum())
    for k in range(5):
        y = f32([k, 2, 3])
        np.testing.assert_allclose(g(X + k), y * 1.25)
    w = lf.variable([1.0, 2.0, 3.0])
    for k in range(5):
        y = f32([k, 2, 4])
        result = lf.variable_grads(lambda y=y: (w * w * y * 1.75).sum())
        assert result.grads[w.name].tolist() == (3.5 * w * y).tolist()
    assert len(done) <= 2


def test_variable_grads():
    a, b = lf.variable([1.0, 2.0], name="a"), lf.variable([3.0, 4.0], name="b")
    c = lf.variable([5.0, 6.0], name="c", trainable=False)
    f = lambda: (a * b * c).sum()  # noqa: E731
    result = lf.variable_grads(f)
    assert result.value == 63
    assert {k: g.tolist() for k, g in result.grads.items()} == {"a": [15, 24], "b": [5, 12]}
    assert set(lf.variable_grads(f, [a]).grads) == {"a"}
    assert lf.variable_grads(f, [a, c]).grads["c"] is None


def test_conventions_at_kinks():
    """relu'(0) = 0, ties of reductions get all of it, of a pair the first, clip passes inside the closed range."""
    assert lf.grad(lf.relu)(lf.tensor([0.0])).tolist() == [0]
    assert lf.grad(lambda x: x.max())(lf.tensor([2, 2, 1])).tolist() == [1, 1, 0]
    assert [g.tolist() for g in lf.grads(lf.maximum)([lf.tensor([1.0]), lf.tensor([1.0])])] == [[1], [0]]
    assert lf.grad(lambda x: lf.clip_by_value(x, -1, 1))(lf.tensor([-1, 0, 1, 1.5])).tolist() == [1, 1, 1, 0]
    for f in (lf.floor, lf.ceil, lf.round, lf.sign, lf.step, lf.stop_gradient):
        assert lf.grad(f)(X).tolist() == [0, 0, 0]
    assert lf.grad(lambda x: lf.cast(x > 0, "float32"))(X).tolist() == [0, 0, 0]


def test_custom_grad():
    @lf.custom_grad
    def clipped(x):
        return lf.square(x), lambda dy: lf.clip(dy * 2 * x, -1, 1)

    assert lf.grad(clipped)(lf.tensor([0.25, 5.0, -9.0])).tolist() == [0.5, 1, -1]
    assert clipped(lf.tensor([3.0])).tolist() == [9]
    assert lf.grad(lambda x: (clipped(x) * 3).sum() + x.sum())(lf.tensor([1.0])).tolist() == [2]


def test_custom_grad_as_in_tfjs():
    def f(x, y, save):
        save([x, y])
        return {"value": x * y, "gradFunc": lambda dy, saved: [dy * saved[1] * 10, dy * saved[0] * 100]}

    da, db = lf.grads(lf.custom_grad(f))([lf.tensor([2.0]), lf.tensor([3.0])])
    assert (da.tolist(), db.tolist()) == ([30], [200])


def test_custom_grad_in_training():
    """In a closure that is minimized, in jit and in a model's layer: the rule holds, and nothing of it stays behind."""

    @lf.custom_grad
    def backwards(x):
        return x * 1.0, lambda dy: -dy

    w, sgd = lf.variable([1.0]), lf.train.sgd(0.5)
    for k in range(3):
        sgd.minimize(lambda k=k: (backwards(w) * (k + 1.0)).sum())
    assert w.numpy().tolist() == [1 + 0.5 * 6]
    assert lf.jit(backwards)([2.0]).tolist() == [2]

    class Backwards(lf.layers.Layer):
        def call(self, x):
            return backwards(x)

    model = lf.sequential([lf.layers.dense(units=1, input_shape=[1], kernel_initializer="ones"), Backwards()])
    model.compile(optimizer=lf.train.sgd(0.1), loss="meanSquaredError")
    model.fit([[1.0]], [[0.0]], verbose=0)
    assert model.get_weights()[0].item() == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda x: x, "must return"),
        (lambda x: (x, lambda dy: [dy, dy]), "2 gradients for 1 arguments"),
        (lambda x: (x, lambda dy: dy.sum()), r"a gradient of shape \[\] for an argument of shape \[3\]"),
    ],
)
def test_custom_grad_refuses_rules_that_do_not_fit(rule, message):
    with pytest.raises((TraceError, ShapeError), match=message):
        lf.grad(lf.custom_grad(rule))(X)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: 3.0, "returned float, not one tensor"),
        (lambda x: (x, x), "returned several values"),
        (lambda x: lf.variable([1.0]) * 1, "y does not depend on it"),
        (lambda x: lf.arg_max(x), "must be a float"),
        (lambda x: lf.unique(x)[0], "has no gradient"),
        (lambda x: lf.linalg.qr(x)[0], "has no gradient"),
    ],
)
def test_functions_without_a_gradient(f, message):
    with pytest.raises(TraceError, match=message):
        lf.grad(f)(X)


def test_gradients_of_integers_are_refused():
    with pytest.raises(TraceError, match=r"x is of dtype int32; gradients are of floats. Use lf.cast"):
        lf.grad(lambda x: lf.cast(x, "float32"))(i32([1, 2]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"has shape \[2\]; values of shape \[1\]"),
        (["a", "b"], "not numbers"),
        ([[1.0, 2.0]], "cannot be assigned"),
    ],
)
def test_assignments_that_do_not_fit(values, message):
    w = lf.variable([1.0, 2.0], name="w")
    with pytest.raises(ShapeError, match=f"variable 'w'.*{message}"):
        w.assign(values)
    assert w.numpy().tolist() == [1, 2]


def test_assigning_floats_to_whole_numbers_is_refused():
    n = lf.variable(i32([1, 2]), name="n")
    with pytest.raises(ShapeError, match=r"'n' is of dtype int32.*lf.cast\(values, \"int32\"\)"):
        n.assign(lf.tensor([1.5, 2.5]))
    n.assign(i64([5, 6]))
    assert n.numpy().tolist() == [5, 6]


def test_disposed_tensors_and_variables():
    t, w = lf.tensor([1.0]), lf.variable([1.0], name="gone")
    kept = lf.keep(lf.tensor([2.0]))
    lf.dispose({"a": [t], "b": (w,)})
    assert t.is_disposed
    assert w.is_disposed
    assert not kept.is_disposed
    for use in (lambda: t + 1, lambda: 1 + t, lambda: lf.exp(t), lambda: t[0], lambda: kept * t, lambda: np.sin(t)):
        with pytest.raises(DisposedError, match="disposed of"):
            use()
    for use in (lambda: w + 1, lambda: lf.exp(w), lambda: w.assign([2.0]), lambda: w.numpy(), lambda: np.asarray(w)):
        with pytest.raises(DisposedError, match="'gone'"):
            use()
    with pytest.raises(DisposedError, match="'gone'"):
        lf.train.sgd(0.1).minimize(lambda: (w * w).sum())
    assert "disposed" in repr(t) + repr(w)
    lf.dispose([t, w])  # again: nothing happens


def test_memory_counts_what_lives():
    before = lf.memory()
    held = [lf.zeros([100]), lf.variable(lf.zeros([50]))]
    view = held[0][10:]
    now = lf.memory()
    assert now["num_tensors"] == before["num_tensors"] + 3
    assert now["num_data_buffers"] == before["num_data_buffers"] + 2
    assert now["num_bytes"] >= before["num_bytes"] + 600
    del held, view
    assert lf.memory() == before


def test_tidy():
    before = lf.memory()["num_tensors"]
    y = lf.tidy("name", lambda: lf.zeros([3]).add(1).square())
    assert y.tolist() == [1, 1, 1]
    assert lf.memory()["num_tensors"] == before + 1

    async def later():
        return 1

    with pytest.raises(ValueError, match="asynchronous"):
        lf.tidy(later)


def test_print(capsys):
    lf.print(lf.tensor([[1, 2]]))
    lf.tensor([[1, 2]]).print(True)
    lf.variable([1.5]).print()
    plain, *verbose = capsys.readouterr().out.splitlines()
    assert plain == "[[1., 2.]]"
    assert verbose == [
        "Tensor", "  dtype: float32", "  rank: 2", "  shape: [1, 2]", "  values:", "    [[1., 2.]]", "[1.5]",
    ]  # fmt: skip
