"""Optimizers inside models: schedules in native loops, what is compiled again, averages, resuming, classes of users."""

from typing import ClassVar

import numpy as np
import pytest

import layerflow as lf
from layerflow import config, optimizers, train
from layerflow.errors import ArgumentError
from layerflow.jit.counts import compile_count
from layerflow.optimizers import schedules

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(48, 4)).astype(np.float32), RNG.normal(size=(48, 2)).astype(np.float32)


def network(optimizer, **options):
    lf.random.set_seed(5)
    model = lf.sequential(
        [lf.layers.dense(units=6, activation="tanh", input_shape=[4], **options), lf.layers.dense(units=2)]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return model


def fitted(model, epochs=1):
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def same(a, b):
    return all(np.array_equal(u, v) for u, v in zip(a.get_weights(), b.get_weights(), strict=True))


def test_native_loops_see_a_new_rate_at_each_batch():
    schedule = schedules.PiecewiseConstantDecay([0, 2, 3], [0.1, 0.05, 0.0, 0.2])
    by_schedule, by_hand = network(optimizers.SGD(schedule)), network(optimizers.SGD(0.1))
    fitted(by_schedule)
    for batch, rate in enumerate([0.1, 0.05, 0.05, 0.0, 0.2, 0.2]):
        by_hand.optimizer.learning_rate = rate
        by_hand.train_on_batch(X[8 * batch : 8 * batch + 8], Y[8 * batch : 8 * batch + 8])
    assert same(by_schedule, by_hand)
    assert by_schedule.optimizer.iterations == 6
    assert by_schedule.optimizer.learning_rate == by_schedule.optimizer.lr == 0.2


def test_setting_a_rate_compiles_nothing_and_replacing_a_schedule_compiles_once():
    model = fitted(network(train.adam(0.1)))
    before = compile_count()
    for rate in (0.01, 0.5):
        model.optimizer.learning_rate = rate
        fitted(model)
    model.optimizer.lr = 0.25
    model.optimizer.set_learning_rate(model.optimizer.learning_rate / 2)
    assert model.optimizer.learning_rate == 0.125
    assert compile_count() == before
    model.optimizer.learning_rate = schedules.CosineDecay(0.1, 10)
    fitted(model)
    assert compile_count() <= before + 1
    before = compile_count()
    kept = model.get_weights()
    model.optimizer.learning_rate = 0.0
    fitted(model, 2)
    assert compile_count() <= before + 1
    assert all(np.array_equal(a, b) for a, b in zip(kept, model.get_weights(), strict=True))
    assert model.optimizer.learning_rate == 0.0


def test_other_settings_take_effect_at_once():
    model = fitted(network(optimizers.SGD(0.0, weight_decay=0.5)))
    plain = network(optimizers.SGD(0.0))
    assert same(model, plain)
    model.optimizer.learning_rate, model.optimizer.weight_decay = 1.0, 1.0
    model.optimizer.exclude_from_weight_decay(var_names=["bias"], var_list=[model.layers[1].weights[0]])
    model.optimizer.clipvalue = 1e-30
    fitted(model)
    assert np.abs(model.get_weights()[0]).max() < 1e-20
    assert all(
        np.allclose(a, b, atol=1e-20) for a, b in zip(model.get_weights()[1:], plain.get_weights()[1:], strict=True)
    )


def test_a_function_may_be_the_schedule():
    def falling(step):
        return 0.1 / (1.0 + step)

    by_function = fitted(network(optimizers.SGD(falling)))
    by_class = fitted(network(optimizers.SGD(schedules.InverseTimeDecay(0.1, 1, 1.0))))
    assert same(by_function, by_class)
    w = lf.variable(np.array([1.0], np.float32))
    optimizer = optimizers.SGD(lambda step: np.where(step < 1, 0.5, 0.25))
    for _ in range(2):
        optimizer.minimize(lambda: lf.sum(w))
    assert w.numpy() == [0.25]


@pytest.mark.parametrize("compiled", [False, True])
def test_fit_ends_with_averages_that_respect_constraints(compiled):
    before = config.jit()
    config.set_jit(compiled)
    try:
        options = {"kernel_constraint": "nonNeg"}
        model = network(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), **options)
        by_hand = network(optimizers.SGD(0.1), **options)
        fitted(model)
        averages: list[np.ndarray] = []
        for batch in range(6):
            by_hand.train_on_batch(X[8 * batch : 8 * batch + 8], Y[8 * batch : 8 * batch + 8])
            now = by_hand.get_weights()
            averages = [0.5 * a + 0.5 * w for a, w in zip(averages, now, strict=True)] if averages else now
    finally:
        config.set_jit(before)
    for got, expected in zip(model.get_weights(), averages, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    assert (model.get_weights()[0] >= 0).all()


def test_accumulated_batches_are_one_large_batch():
    whole = network(optimizers.Adam(0.1))
    parts = network(optimizers.Adam(0.1, gradient_accumulation_steps=3))
    for _ in range(2):
        whole.train_on_batch(X[:24], Y[:24])
        for at in (0, 8, 16):
            parts.train_on_batch(X[at : at + 8], Y[at : at + 8])
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert parts.optimizer.iterations == 2
    seen = []
    parts.fit(
        X, Y, batch_size=8, verbose=0, callbacks={"on_batch_end": lambda *_: seen.append(parts.optimizer.iterations)}
    )
    assert seen == [2, 2, 3, 3, 3, 4]


def test_float64_models_keep_their_precision():
    before = config.floatx()
    config.set_floatx("float64")
    try:
        w = lf.variable(np.array([1.0, -2.0]))
        optimizer = optimizers.Nadam(0.1)
        m = v = np.zeros(2)
        expected, product = w.numpy(), 1.0
        for t in range(1, 6):
            optimizer.apply_gradients([(expected, w)])
            m, v = 0.9 * m + 0.1 * expected, 0.999 * v + 0.001 * expected**2
            now, after = (0.9 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
            product *= now
            mean = after * m / (1 - product * after) + (1 - now) * expected / (1 - product)
            expected = expected - 0.1 * mean / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-12)
    finally:
        config.set_floatx(before)


COSINE = schedules.CosineDecay(0.0, 20, warmup_target=0.05, warmup_steps=4)
RESUMED = [
    optimizers.SGD(COSINE, momentum=0.9, nesterov=True, weight_decay=0.1),
    optimizers.RMSprop(0.01, momentum=0.5, centered=True, global_clipnorm=0.1),
    optimizers.Adam(0.01, amsgrad=True, gradient_accumulation_steps=4),
    optimizers.AdamW(schedules.CosineDecayRestarts(0.1, 5), use_ema=True, ema_overwrite_frequency=4),
    optimizers.Adamax(schedules.ExponentialDecay(0.1, 5, 0.5, staircase=True), clipvalue=0.01),
    optimizers.Nadam(0.01, gradient_accumulation_steps=4, use_ema=True, ema_momentum=0.7),
    optimizers.Adagrad(schedules.PolynomialDecay(0.1, 20), clipnorm=0.01),
    optimizers.Adadelta(1.0),
    optimizers.Lion(schedules.InverseTimeDecay(0.1, 5, 0.5)),
    optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
    optimizers.Adafactor(schedules.PiecewiseConstantDecay([4, 15], [0.1, 0.05, 0.2])),
    optimizers.Lamb(0.1, weight_decay=0.01),
    optimizers.Muon(COSINE),
    train.adam(COSINE, clipnorm=0.1),
    train.momentum(0.1, 0.9, weight_decay=0.1),
]


@pytest.mark.parametrize("made", RESUMED, ids=lambda o: f"{o.API}.{type(o).__name__}")
def test_a_saved_model_goes_on_bit_by_bit(made, tmp_path):
    def trained(model, times):
        for _ in range(times):
            for at in range(0, 48, 8):
                model.train_on_batch(X[at : at + 8], Y[at : at + 8])
        return model

    def fresh():
        optimizer = type(made).from_config(made.get_config())
        if optimizer.weight_decay:
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        return network(optimizer)

    whole, first = trained(fresh(), 4), trained(fresh(), 1)
    first.save(tmp_path)
    second = lf.load_layers_model(tmp_path)
    assert type(second.optimizer) is type(made)
    trained(second, 1)  # 12 batches, then once more through a file
    second.save(tmp_path / "again")
    third = trained(lf.load_layers_model(tmp_path / "again"), 2)
    assert same(whole, third)
    assert third.optimizer.iterations == whole.optimizer.iterations
    assert third.optimizer.get_config() == whole.optimizer.get_config()
    states = [m.optimizer.get_weights(m.trainable_weights) for m in (whole, third)]
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


@lf.register_class
class SignMomentum(optimizers.Optimizer):
    """What docs/optimizers.md shows, with a scalar and a slot of its own shape besides."""

    SHARED: ClassVar = {"moved": 0.0}

    def __init__(self, learning_rate=0.01, beta=0.9):
        super().__init__(learning_rate)
        self.beta = beta

    def slots_of(self, variable):
        return {"m": 0.0, "count": np.zeros(variable.shape[-1:], variable.dtype)}

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta * slots["m"] + (1 - self.beta) * grad
        count = slots["count"] + 1.0
        return param - learning_rate * np.sign(m), {"m": m, "count": count, "moved": slots["moved"] + learning_rate}


@lf.register_class
class Halving(schedules.LearningRateSchedule):
    def __init__(self, first, every):
        self.first, self.every = first, every

    def __call__(self, step):
        return self.first * 0.5 ** np.floor(step / self.every)


def test_a_class_of_ones_own_is_compiled_saved_and_takes_the_common_settings(tmp_path):
    model = network(SignMomentum(Halving(0.5, 2), beta=0.5, weight_decay=0.1, clipnorm=1.0))
    weights = [w.astype(np.float64) for w in model.get_weights()]
    fitted(model)
    assert model.optimizer.learning_rate == 0.0625
    model.save(tmp_path)
    again = lf.load_layers_model(tmp_path)
    assert isinstance(again.optimizer, SignMomentum)
    assert again.optimizer.get_config()["clipnorm"] == 1.0
    assert same(fitted(model), fitted(again))
    state = dict(
        zip(
            again.optimizer.weight_names(again.trainable_weights),
            again.optimizer.get_weights(again.trainable_weights),
            strict=True,
        )
    )
    assert state["iter"] == 12
    assert state[f"{model.optimizer.name}/moved"] == pytest.approx(2 * (0.5 + 0.25 + 0.125) + 0.0625 * 2 * 1.75)
    assert any(name.endswith("/count") and value.tolist() == [12.0] * 6 for name, value in state.items())
    assert any(not np.allclose(a, b) for a, b in zip(weights, again.get_weights(), strict=True))


def test_mistakes_in_a_class_of_ones_own_are_explained():
    class NoInit(optimizers.Optimizer):
        def __init__(self):
            self.beta = 0.9

    class Undeclared(optimizers.Optimizer):
        def update(self, param, grad, slots, step, learning_rate):
            return param, {"m": grad}

    class Branching(schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1 if step < 10 else 0.01

    with pytest.raises(ArgumentError, match="super"):
        NoInit()
    with pytest.raises(ArgumentError, match="SLOTS"):
        fitted(network(Undeclared(0.1)))
    with pytest.raises(NotImplementedError, match="update"):
        fitted(network(optimizers.Optimizer(0.1)))
    with pytest.raises(TypeError, match="where"):
        fitted(network(optimizers.SGD(Branching())))
