"""Batches like the last one: the short call gives the same bits, and sees everything that has changed since."""

import copy
import gc
import sys
import threading
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError, LayerflowError, NumericsError
from layerflow.jit import shortcuts

L = lf.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 6)).astype(np.float32), RNG.normal(size=(16, 2)).astype(np.float32)


def made(optimizer=None, metrics=None, dropout=0.0):
    lf.random.set_seed(1)
    model = lf.sequential(
        [L.dense(units=5, activation="tanh", input_shape=[6]), L.dropout(rate=dropout, name="drop"), L.dense(units=2)]
    )
    model.compile(optimizer=optimizer or lf.train.sgd(0.1), loss="mean_squared_error", metrics=metrics)
    return model


def warm(**options):
    """A model whose next batch takes the short way."""
    return both_warm(1, **options)[0]


def both_warm(count=2, **options):
    """Equal models; the next batch of each takes the short way."""
    models = [made(**options) for _ in range(count)]
    for _ in range(2):  # making a model ends the short ways of others
        for model in models:
            model.train_on_batch(X, Y)
    for model in models:
        assert model._train_again(X, Y) is not None
    return models


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        {"optimizer": "adam", "metrics": ["mse", "mae"]},
        {"dropout": 0.5},
        {"optimizer": "rmsprop", "dropout": 0.3},
    ],
    ids=str,
)
def test_same_bits_as_the_long_way(options):
    short, long = made(**options), made(**options)
    lf.random.set_seed(7)
    for _ in range(6):
        one = short.train_on_batch(X, Y)
        long._train_again = None
        assert one == long.train_on_batch(X, Y)
    last = short._train_again(X, Y)
    assert last is not None
    long._train_again = None
    assert long.train_on_batch(X, Y) == last
    assert same(short, long)
    assert short.optimizer.iterations == long.optimizer.iterations == 7


def test_dropout_draws_anew_each_time():
    model = warm(optimizer=lf.train.sgd(0.0), dropout=0.5)
    assert len({model.train_on_batch(X, Y) for _ in range(5)}) == 5


def test_the_learning_rate_is_read_at_each_batch():
    model = warm()
    model.optimizer.learning_rate = 0.0
    before = weights(model)
    model.train_on_batch(X, Y)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))


def frozen(model):
    model.layers[0].trainable = False


def another_rate(model):
    model.optimizer.learning_rate = lf.optimizers.schedules.PiecewiseConstantDecay([1000], [0.05, 0.0])


def recompiled(model):
    model.compile(optimizer=lf.train.momentum(0.1, 0.9), loss="mean_absolute_error")


def trained(model):
    model.fit(X[:8], Y[:8], epochs=1, batch_size=4, shuffle=False, verbose=0)


def other_batch(model):
    model.train_on_batch(X[:5], Y[:5])


def loaded(model):
    model.set_weights([np.ones_like(w) for w in weights(model)])


@pytest.mark.parametrize("change", [frozen, another_rate, recompiled, trained, other_batch, loaded])
def test_changes_are_seen(change):
    """As a model that never took the short way."""
    one, other = both_warm()
    other._train_again = None
    for model in (one, other):
        change(model)
    for _ in range(3):
        other._train_again = None
        assert one.train_on_batch(X, Y) == other.train_on_batch(X, Y)
    assert same(one, other)


@pytest.mark.parametrize("threads", [1, 2])
def test_settings_are_seen(threads):
    one, other = both_warm()
    other._train_again = None
    lf.set_num_threads(threads)
    try:
        assert one.train_on_batch(X, Y) == other.train_on_batch(X, Y)
        lf.config.set_jit(False)
        assert one.train_on_batch(X, Y) == pytest.approx(other.train_on_batch(X, Y), rel=1e-6)
    finally:
        lf.config.set_jit(True)
        lf.set_num_threads(None)
    assert one.train_on_batch(X, Y) == pytest.approx(other.train_on_batch(X, Y), rel=1e-6)


def test_numbers_are_checked_from_the_moment_that_is_asked():
    model = warm()
    lf.config.set_check_numerics(True)
    try:
        with pytest.raises(NumericsError):
            model.train_on_batch(np.full_like(X, np.inf), Y)
    finally:
        lf.config.set_check_numerics(False)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X[:, :5].copy(), Y),
        (X, Y[:7].copy()),
        (X.reshape(16, 6, 1), Y),
        (X, np.array([["a", "b"]] * 16)),
        (X[:0], Y[:0]),
        (None, Y),
    ],
)
def test_wrong_input_is_refused_as_ever(x, y):
    model = warm()
    before = weights(model)
    with pytest.raises((DataError, TypeError)):
        model.train_on_batch(x, y)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize(
    "as_given",
    [
        np.asfortranarray,
        lambda a: a.astype(np.float64),
        lambda a: np.repeat(a, 2, 0)[::2],
        np.ndarray.tolist,
        lf.tensor,
    ],
)
def test_other_layouts_and_types(as_given):
    one, other = both_warm()
    for x, y in ((as_given(X), Y), (X, as_given(Y)), (as_given(X), as_given(Y))):
        assert one.train_on_batch(x, y) == other.train_on_batch(X, Y)
        assert one.train_on_batch(X, Y) == other.train_on_batch(X, Y)
    assert same(one, other)


def test_copies_train_alone():
    model = warm()
    twin = copy.deepcopy(model)
    model.train_on_batch(X, Y)
    assert not same(model, twin)
    twin.train_on_batch(X, Y)
    assert same(model, twin)


def test_a_new_seed_is_seen():
    one, other = both_warm(dropout=0.5)
    for seed in (3, 4, 3):
        for model in (one, other):
            lf.random.set_seed(seed)
            state = lf.random.get_state()
            losses = [model.train_on_batch(X, Y) for _ in range(3)]
            lf.random.set_state(state)
            if model is one:
                expected = losses
                assert model.train_on_batch(X, Y) != losses[-1]
                other._train_again = None
            else:
                assert losses == expected
                model.train_on_batch(X, Y)
    assert same(one, other)


def test_the_number_of_batches_may_be_set():
    """Adam divides by 1 - beta**step: the step is read at each batch."""
    one, other = both_warm(optimizer="adam")
    for model in (one, other):
        model.optimizer.iterations = 1000
    other._train_again = None
    assert one.train_on_batch(X, Y) == other.train_on_batch(X, Y)
    assert one.optimizer.iterations == 1001
    assert same(one, other)


def test_other_numbers_of_arguments():
    model = warm()
    for arguments in ((), (X,), (X, Y, Y)):
        try:
            assert model._train_again(*arguments) is None
        except (TypeError, ValueError):
            assert not shortcuts.FIELDS
    assert model.optimizer.iterations == 3


def test_no_shortcut_is_made_for_settings_of_another_call():
    model = warm()
    direct = model.step("train")._direct
    direct.program.current = None
    arguments = (direct, X, Y, model.optimizer.scalars, model.optimizer.advance, model.optimizer.clock)
    assert shortcuts.training(*arguments)(X, Y) is None
    with direct.program.lock:
        direct._ready()
        call = shortcuts.training(*arguments)
    assert call(X, Y) is not None


def test_while_another_thread_runs_the_program():
    """Native code cannot wait for it; the long way does."""
    model = warm()
    program = model.step("train")._direct.program
    with program.lock:
        assert model._train_again(X, Y) is None or not shortcuts.FIELDS
    assert model._train_again(X, Y) is not None


def test_threads_of_python_train_one_model():
    model = warm(optimizer=lf.train.sgd(0.0))
    loss, found = model.train_on_batch(X, Y), []

    def work():
        found.extend(model.train_on_batch(X, Y) for _ in range(100))
        found.append(model.fit(X, Y, batch_size=16, epochs=1, shuffle=False, verbose=0).history["loss"][0])

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == pytest.approx([loss] * 404, rel=1e-6)


def test_a_shortcut_holds_what_it_needs():
    model = warm()
    expected = warm().train_on_batch(X, Y)
    call = model._train_again
    del model
    gc.collect()
    others = [warm() for _ in range(3)]
    assert call(X, Y) in (expected, None)
    assert [other.train_on_batch(X, Y) for other in others] == [expected] * 3


def test_objects_are_counted_right():
    """None of what native code returns is lost or freed too often."""
    model = warm(metrics=["mse", "mae"])
    kept = [X, Y, None, model._train_again]
    before = [sys.getrefcount(x) for x in kept]
    for _ in range(1000):
        numbers = model._train_again(X, Y)
        alike = [float(str(n)) for n in numbers]
        assert [sys.getrefcount(n) for n in numbers] == [sys.getrefcount(n) for n in alike]
        model._train_again(X, None)
    after = [sys.getrefcount(x) for x in kept]
    assert all(abs(a - b) < 50 for a, b in zip(before, after, strict=True))


def test_models_of_float64():
    lf.config.set_floatx("float64")
    try:
        short, long = made(optimizer="adam"), made(optimizer="adam")
        x, y = X.astype(np.float64), Y.astype(np.float64)
        for _ in range(4):
            one = short.train_on_batch(x, y)
            long._train_again = None
            assert one == long.train_on_batch(x, y)
        assert short._train_again(x, y) is not None
    finally:
        lf.config.set_floatx("float32")


def test_a_disposed_model_refuses():
    model = warm()
    model.predict(X)
    model.dispose()
    with pytest.raises(LayerflowError):
        model.train_on_batch(X, Y)
    with pytest.raises(LayerflowError):
        model.predict(X)


def test_streaming_metrics_go_on_counting():
    model = made(metrics=[lf.metrics.MeanSquaredError()])
    model.train_on_batch(X, Y)
    first = model.train_on_batch(X, Y)
    assert model._train_again is None
    assert model.train_on_batch(X, Y) != first


def test_predictions_are_arrays_of_their_own():
    model = warm()
    one = model.predict(X)
    kept = np.array(one)
    assert model._predict_again is not None
    other, third = model.predict(-X), model.predict_on_batch(X)
    assert isinstance(other, lf.Tensor)
    assert not np.shares_memory(other, third)
    assert np.array_equal(one, kept)
    assert np.array_equal(third, kept)
    model._predict_again = None
    assert np.array_equal(other, model.predict(-X))


@pytest.mark.parametrize("size", [5, 15, 16, 100])
def test_predictions_by_batch_size(size):
    model = warm()
    expected = np.array(model.predict(X))
    assert np.array_equal(model.predict(X, batch_size=size), expected)
    wrong: list[Any] = [0, -1, 2.5, True]
    for number in wrong:
        with pytest.raises(LayerflowError):
            model.predict(X, batch_size=number)


def test_predictions_see_new_weights():
    model = warm()
    before = np.array(model.predict(X))
    model.train_on_batch(X, Y)
    after = model.predict(X)
    assert not np.array_equal(before, after)
    model.set_weights([np.zeros_like(w) for w in weights(model)])
    assert not np.any(model.predict(X))


@pytest.mark.parametrize(
    "other",
    [
        X.tolist(),
        None,
        7,
        X.astype(np.float64),
        X[:-1],
        X.reshape(16, 3, 2),
        X.reshape(-1),
        X[:, ::-1],
        np.asfortranarray(X),
        X.view(np.int32),
        X.view(np.recarray),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'shape', '')} {getattr(x, 'dtype', '')}",
)
@pytest.mark.parametrize("fields", [True, False])
def test_the_short_way_is_for_arrays_just_like_the_last_ones(other, fields, monkeypatch):
    """Whether native code or Python looks at them; nothing runs with others."""
    monkeypatch.setattr(shortcuts, "FIELDS", fields and shortcuts.FIELDS)
    model = warm()
    before = weights(model)
    assert model._train_again(other, Y) is None
    assert model._train_again(X, other) is None
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert model._train_again(X.copy(), Y.copy()) is not None


def test_without_the_layout_of_array_objects(monkeypatch):
    """Where native code cannot read addresses from the objects, Python does."""
    one, other = both_warm()
    monkeypatch.setattr(shortcuts, "FIELDS", False)
    one._train_again = None
    one.train_on_batch(X, Y)
    other.train_on_batch(X, Y)
    for _ in range(3):
        assert one._train_again(X, Y) == other._train_again(X, Y)
    assert np.array_equal(one.predict(X), other.predict(X))
    assert np.array_equal(one._predict_again(-X), other._predict_again(-X))


def test_steps_for_several_threads():
    """A step that is worth waking another thread for goes to the pool, to the same bits."""
    lf.random.set_seed(1)
    model = lf.sequential([L.dense(units=256, activation="relu", input_shape=[256]), L.dense(units=256)])
    model.compile(optimizer=lf.train.sgd(0.01), loss="mean_squared_error")
    x = RNG.normal(size=(256, 256)).astype(np.float32)
    start, found = model.get_weights(), []
    for threads in (1, 2):
        lf.set_num_threads(threads)
        try:
            model.set_weights(start)
            losses = [model.train_on_batch(x, x)]
            losses += [model._train_again(x, x) for _ in range(3)]
            found.append([losses, *weights(model), np.array(model.predict(x)), np.array(model._predict_again(x))])
            assert model.step("train")._direct.team == threads
        finally:
            lf.set_num_threads(None)
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)
