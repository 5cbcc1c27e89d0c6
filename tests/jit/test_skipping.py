"""Products that leave out what is multiplied by zero: the same bits, used where there are zeros, refused elsewhere."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.graph import ops
from layerflow.graph.symbolic import Op
from layerflow.graph.trace import tracing
from layerflow.inspect import dump
from layerflow.jit import skipping
from tests.agreement import assert_interpreter_agrees

BATCHES = (300, 37, 24, 5, 70)


@pytest.fixture(autouse=True)
def _settings():
    before = lf.config.skip_zeros(), lf.config.num_threads()
    yield
    lf.config.set_skip_zeros(before[0])
    lf.config.set_num_threads(before[1])


def plain():
    """Extents that no vector, tile or panel divides."""
    return [
        lf.layers.dense(units=275, activation="relu", input_shape=[301]),
        lf.layers.dense(units=263, activation="relu", kernel_regularizer="l2"),
        lf.layers.dense(units=4),
    ]


def even():
    return [
        lf.layers.dense(units=256, activation="relu", use_bias=False, input_shape=[256]),
        lf.layers.dense(units=640, activation="relu"),
        lf.layers.dense(units=128, activation="relu"),
        lf.layers.dense(units=4),
    ]


def dropped():
    return [
        lf.layers.dropout(rate=0.5, input_shape=[300], name="first"),
        lf.layers.dense(units=260, activation="tanh"),
        lf.layers.dropout(rate=0.4, name="second"),
        lf.layers.dense(units=256),
        lf.layers.dense(units=4),
    ]


def of_steps():
    """Seven rows a sample."""
    return [
        lf.layers.dense(units=520, activation="relu", input_shape=[7, 130]),
        lf.layers.dense(units=136),
        lf.layers.global_average_pooling1d(),
        lf.layers.dense(units=4),
    ]


MODELS = {"plain": plain, "even": even, "dropped": dropped, "of_steps": of_steps}


def compiled(make, optimizer: str = "adam"):
    lf.random.set_seed(3)
    model = lf.sequential(make())
    model.compile(optimizer=optimizer, loss="meanSquaredError")
    return model


def batch(model, rows: int, zeros: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, *model.inputs[0].shape[1:])).astype(np.float32)
    return x * (rng.random(x.shape) >= zeros), rng.standard_normal((rows, 4)).astype(np.float32)


def outcome(make, zeros: float, skip: bool, threads: int = 1, optimizer: str = "adam") -> list[np.ndarray]:
    """Weights after steps of several batch sizes, and predictions."""
    lf.config.set_skip_zeros(skip)
    lf.config.set_num_threads(threads)
    model = compiled(make, optimizer)
    for seed, rows in enumerate(BATCHES):
        model.train_on_batch(*batch(model, rows, zeros, seed))
    seen = [model.predict(batch(model, rows, zeros, 9)[0], batch_size=rows) for rows in (1, 90)]
    return [*(np.array(w) for w in model.get_weights()), *map(np.array, seen)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("zeros", [0.0, 0.6])
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_those_of_tiles(name, zeros):
    found = outcome(MODELS[name], zeros, skip=True)
    assert all(np.isfinite(x).all() for x in found)
    assert same(found, outcome(MODELS[name], zeros, skip=False))


@pytest.mark.parametrize("name", ["plain", "even"])
def test_the_bits_do_not_depend_on_threads(name):
    assert same(outcome(MODELS[name], 0.5, skip=True), outcome(MODELS[name], 0.5, skip=True, threads=2))


def test_other_optimizers_change_each_weight_once():
    assert same(outcome(plain, 0.8, True, optimizer="sgd"), outcome(plain, 0.8, False, optimizer="sgd"))


def test_a_batch_too_deep_for_lists():
    """The gradient of weights is a sum over more samples than lists are kept for."""
    found = []
    for skip in (True, False):
        lf.config.set_skip_zeros(skip)
        model = compiled(plain)
        model.train_on_batch(*batch(model, skipping.MOST_STEPS + 9, 0.5, 0))
        found.append(list(map(np.array, model.get_weights())))
    assert same(*found)


def test_the_interpreter_agrees():
    def trained():
        model = compiled(plain, "sgd")
        for seed, rows in enumerate(BATCHES):
            model.train_on_batch(*batch(model, rows, 0.5, seed))
        return model

    assert_interpreter_agrees(trained)


# --- where zeros are skipped -----------------------------------------------------------


def predicted_behind_infinity(zeros_elsewhere: float) -> np.ndarray:
    """Predictions where one feature is always zero and its weights are infinite."""
    model = compiled(plain)
    kernel, *others = map(np.array, model.get_weights())
    kernel[17] = np.inf
    model.set_weights([kernel, *others])
    x, _ = batch(model, 64, zeros_elsewhere, 1)
    x[:, 17] = 0
    return np.array(model.predict(x, batch_size=64))


def test_infinity_behind_a_zero_shows_only_without_skipping():
    assert np.isfinite(predicted_behind_infinity(0.5)).all()
    lf.config.set_skip_zeros(False)
    assert np.isnan(predicted_behind_infinity(0.5)).all()


def test_tiles_take_what_has_few_zeros():
    assert np.isnan(predicted_behind_infinity(0.1)).all()


def functions(make) -> set[str]:
    """Kinds of the functions of products in the training step."""
    text = dump(compiled(make), "source", mode="train")
    names = [line.split("(")[0] for line in text.splitlines() if line.startswith("def k") and "_gemm_" in line]
    return {name.rpartition("_gemm_")[2] for name in names}


def test_forms():
    lists = {"tiles", "sample", "list", "zeros"}
    assert functions(plain) == lists | {"right", "right_sample", "right_list", "right_zeros"}
    assert functions(dropped) == lists
    assert functions(lambda: [lf.layers.dense(units=64, activation="relu", input_shape=[64])]) == set()
    lf.config.set_skip_zeros(False)
    assert functions(plain) == set()


def test_the_schedule_says_so():
    text = dump(compiled(plain), "schedule", mode="train")
    assert text.count("skips zeros on the left, if there are enough") == 4
    assert text.count("skips zeros on the left, or else on the right, if there are enough") == 1


def test_what_is_often_zero():
    with tracing():
        x = ops.placeholder((None, 6), np.float32, "x")
        relu = ops.relu(x)
        often = {
            "relu": relu,
            "moved": ops.reshape(relu, (-1, 2, 3)),
            "chosen": ops.where(x > 0.5, x, 0),
            "multiplied": ops.tanh(x) * relu,
        }
        seldom = {"x": x, "tanh": ops.tanh(x), "sum": relu + x, "one or": ops.where(x > 0.5, x, 1)}

        def op(value) -> Op:
            return value.op

        assert [name for name, value in often.items() if not skipping.often_zero(op(value))] == []
        assert [name for name, value in seldom.items() if skipping.often_zero(op(value))] == []
