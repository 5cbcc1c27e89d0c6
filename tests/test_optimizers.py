"""Optimizers: state, settings, names; their trajectories are compared with TF.js and Keras in tests/conformance."""

import copy

import numpy as np
import pytest

import layerflow as lf
from layerflow import optimizers, train
from layerflow.errors import ArgumentError, ShapeError, UnknownArgumentError, UnknownNameError
from layerflow.optimizers import schedules

MADE = [
    train.sgd(0.1),
    train.momentum(0.1, 0.9),
    train.adam(0.1),
    train.adagrad(0.1),
    train.adadelta(1.0),
    train.adamax(0.1),
    train.rmsprop(0.1),
    train.rmsprop(0.1, 0.9, 0.5, centered=True),
    optimizers.SGD(0.1),
    optimizers.SGD(0.1, 0.9, True),
    optimizers.Adam(0.1),
    optimizers.Adam(0.1, amsgrad=True),
    optimizers.RMSprop(0.1),
    optimizers.RMSprop(0.1, momentum=0.5, centered=True),
    optimizers.Adagrad(0.1),
    optimizers.Adadelta(1.0),
    optimizers.Adamax(0.1),
    optimizers.AdamW(0.1, weight_decay=0.1, use_ema=True),
    optimizers.Nadam(0.1, global_clipnorm=1.0),
    optimizers.Lion(0.1, clipvalue=0.5),
    optimizers.Ftrl(0.1),
    optimizers.Adafactor(0.1, clipnorm=1.0),
    optimizers.Lamb(0.1, name="mine"),
    optimizers.Muon(0.1),
    optimizers.SGD(schedules.ExponentialDecay(0.1, 10, 0.9), 0.9),
    train.adam(0.1, clipnorm=1.0),
]


@pytest.mark.parametrize("made", MADE, ids=repr)
def test_steps_down_and_state_round_trip(made):
    optimizer = type(made).from_config(made.get_config())
    assert optimizer.get_config() == made.get_config()
    w = lf.variable(np.array([1.0, -2.0], np.float32))
    costs = [float(optimizer.minimize(lambda: (w * w).sum(), return_cost=True, var_list=[w])) for _ in range(4)]
    assert costs == sorted(costs, reverse=True)
    assert optimizer.iterations == 4
    other, v = type(made).from_config(made.get_config()), lf.variable(w.numpy())
    other.set_weights(optimizer.get_weights([w]), [v])
    for o, x in ((optimizer, w), (other, v)):
        o.minimize(lambda x=x: (x * x).sum(), var_list=[x])
    assert np.array_equal(w.numpy(), v.numpy())


def test_learning_rate_may_change_between_steps():
    w = lf.variable(np.zeros(1, np.float32))
    optimizer = train.sgd(0.1)
    optimizer.minimize(lambda: lf.sum(w))
    optimizer.learning_rate = 1.0
    assert optimizer.minimize(lambda: lf.sum(w)) is None
    np.testing.assert_allclose(w.numpy(), [-1.1], rtol=1e-6)
    optimizer.apply_gradients([(np.ones(1, np.float32), w)])
    np.testing.assert_allclose(w.numpy(), [-2.1], rtol=1e-6)
    value, gradients = optimizer.compute_gradients(lambda: (3 * w).sum())
    assert float(value) == pytest.approx(-6.3)
    assert gradients[w.name] == pytest.approx([3.0])


def test_momentum_may_change_between_steps():
    w = lf.variable(np.zeros(1, np.float32))
    optimizer = train.momentum(1.0, 0.0)
    for momentum in (0.0, 0.5, 1.0):
        optimizer.set_momentum(momentum)
        optimizer.minimize(lambda: lf.sum(w))
    assert w.numpy() == [-1 - 1.5 - 2.5]
    assert optimizer.get_config()["momentum"] == 1.0


def test_bias_correction_is_precise_after_many_steps():
    for step in (1.0, 10.0, 1e5):
        got = np.asarray(train.decayed(0.999, np.float32(step)))
        assert float(got) == pytest.approx(1 - 0.999**step, rel=1e-6)


def test_every_way_to_name_gradients_makes_the_same_step():
    def stepped(apply):
        u, v = lf.variable(np.array([1, 2], np.float32), name="u"), lf.variable(np.array([3, 4], np.float32), name="v")
        optimizer = optimizers.SGD(0.1)
        apply(optimizer, u, v)
        assert optimizer.iterations == 1
        return [u.numpy().tolist(), v.numpy().tolist()]

    def by_name(optimizer, u, v):
        value, gradients = optimizer.compute_gradients(lambda: (u * u).sum() + 0.5 * (v * v).sum())
        assert float(value) == 17.5
        optimizer.apply_gradients(gradients)

    g, h = np.array([2, 4], np.float32), np.array([3, 4], np.float32)
    ways = [
        by_name,
        lambda o, u, v: o.minimize(lambda: (u * u).sum() + 0.5 * (v * v).sum()),
        lambda o, u, v: o.apply_gradients([(g, u), (h, v)]),
        lambda o, u, v: o.apply_gradients(zip([g, h], [u, v], strict=True)),
        lambda o, u, v: o.apply_gradients([(u, g), (v, h)]),
        lambda o, u, v: o.apply_gradients([{"name": "u", "tensor": g}, {"name": "v", "tensor": h}], var_list=[u, v]),
        lambda o, u, v: o.apply([g, h], [u, v]),
        lambda o, u, v: (o.build([u, v]), o.apply([g, h])),
    ]
    assert [stepped(way) for way in ways] == [stepped(ways[0])] * len(ways)


def test_a_gradient_may_be_missing_but_must_fit():
    u, v = lf.variable(np.zeros(2, np.float32), name="kernel"), lf.variable(np.zeros(3, np.float32))
    optimizer = optimizers.Adam(0.1)
    optimizer.apply_gradients([(np.ones(2), u), (None, v)])
    assert not v.numpy().any()
    for given, error, words in [
        ([(None, v)], ArgumentError, "no gradient"),
        ([(np.ones(3), u)], ShapeError, r"'kernel' has shape \[3\], the variable \[2\]"),
        ({"kernle": np.ones(2)}, ArgumentError, "kernel.*var_list"),
        ([(np.ones(2), u), (np.ones(2), u)], ArgumentError, "twice"),
        ([np.ones(2)], ArgumentError, "pairs|gradient, variable"),
    ]:
        with pytest.raises(error, match=words):
            optimizer.apply_gradients(given)
    with pytest.raises(ArgumentError, match="3 gradients for 1 variables"):
        optimizer.apply([1, 2, 3])
    assert optimizer.iterations == 1


def test_set_weights_checks_before_it_changes():
    w = lf.variable(np.zeros(2, np.float32))
    optimizer = train.adam()
    optimizer.slot_variables(w)
    with pytest.raises(ShapeError, match="3 are kept"):
        optimizer.set_weights([np.int32(1)])
    with pytest.raises(ShapeError, match="/v"):
        optimizer.set_weights([np.int32(9), np.ones(2), np.ones(3)])
    assert optimizer.iterations == 0
    assert (optimizer.slot_variables(w)["m"].numpy() == 0).all()
    assert optimizer.weight_names([w]) == ["iter", f"{w.name}/m", f"{w.name}/v"]
    with pytest.raises(ShapeError, match="number of batches"):
        optimizer.set_weights([np.ones(2), np.ones(2), np.ones(2)])
    with pytest.raises(ShapeError, match=r"build\(variables\)"):
        train.adam().set_weights(optimizer.get_weights())


def test_names_and_spellings():
    assert train.get("adadelta").learning_rate == 1.0
    assert train.get("SGD").get_config() == {"learning_rate": 0.01}
    assert train.sgd(lr=0.2).learning_rate == train.sgd(learningRate=0.2).learning_rate == 0.2
    assert isinstance(
        train.get({"class_name": "RMSProp", "config": {"learningRate": 0.1, "decay": 0.8}}), train.RMSProp
    )
    assert isinstance(optimizers.get("rmsprop"), optimizers.RMSprop)
    assert type(optimizers.get("adamw")) is type(train.get("AdamW")) is optimizers.AdamW
    assert type(train.get("adam")) is train.Adam
    assert optimizers.get({"class_name": "Lion", "config": {"learningRate": 0.5}}).lr == 0.5
    assert optimizers.deserialize(optimizers.serialize(optimizers.Nadam(0.3))).learning_rate == 0.3
    for make, error, words in [
        (lambda: train.get("adm"), UnknownNameError, "Adam"),
        (lambda: optimizers.get("nadm"), UnknownNameError, "Nadam"),
        (lambda: optimizers.get(3), ArgumentError, "adamw"),
        (lambda: train.adam(beta_3=1), UnknownArgumentError, "beta1|beta2"),
        (lambda: optimizers.Adam(clip_nrom=1), UnknownArgumentError, "clipnorm"),
        (lambda: train.sgd("fast"), ArgumentError, "number"),
        (lambda: train.get(3), ArgumentError, "adam"),
        (lambda: train.sgd(schedules.CosineDecay), ArgumentError, "CosineDecay\\(0.1, 1000\\)"),
        (lambda: optimizers.SGD(float("nan")), ArgumentError, "learning_rate"),
        (lambda: optimizers.SGD(clipnorm=-1), ArgumentError, "clipnorm must be at least 0"),
        (lambda: optimizers.SGD(clipvalue="1"), ArgumentError, "clipvalue must be a number"),
        (lambda: optimizers.SGD(clipvalue=1, global_clipnorm=2), ArgumentError, "global_clipnorm=2, clipvalue=1"),
        (lambda: optimizers.SGD(ema_momentum=1.1), ArgumentError, "ema_momentum must be from 0 to 1"),
        (lambda: optimizers.SGD(ema_overwrite_frequency=0), ArgumentError, "ema_overwrite_frequency"),
        (lambda: optimizers.SGD(gradient_accumulation_steps=1), ArgumentError, "at least 2"),
        (lambda: optimizers.SGD(weight_decay=-0.1), ArgumentError, "weight_decay"),
        (lambda: optimizers.SGD(momentum=2), ArgumentError, "momentum must be from 0 to 1"),
        (lambda: optimizers.AdamW(weight_decay=None), ArgumentError, "use Adam"),
        (lambda: optimizers.Lion(beta_1=0), ArgumentError, "beta_1"),
        (lambda: optimizers.Ftrl(learning_rate_power=1), ArgumentError, "learning_rate_power"),
        (lambda: schedules.CosineDecay(0.1, 0), ArgumentError, "decay_steps"),
        (lambda: schedules.CosineDecay(0.1, 10, warmup_target=1), ArgumentError, "warmup_steps"),
        (lambda: schedules.PiecewiseConstantDecay([1], [1]), ArgumentError, "2 values"),
        (lambda: schedules.get({"class_name": "CosinDecay"}), UnknownNameError, "CosineDecay"),
        (lambda: schedules.get(0.1), ArgumentError, "function of the step"),
        (lambda: schedules.serialize(lambda step: 0.1), ArgumentError, "register_class"),
        (lambda: optimizers.Adam().exclude_from_weight_decay(["bias"]), ArgumentError, "variables"),
    ]:
        with pytest.raises(error, match=words):
            make()
    keras_writes = {"class_name": "Adam", "config": {**optimizers.Adam(0.5).get_config(), "loss_scale_factor": None}}
    assert optimizers.get(keras_writes).learning_rate == 0.5
    optimizer = optimizers.SGD()
    with pytest.raises(ArgumentError, match="clipnorm"):
        optimizer.clipnorm = -1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_have_a_rate_and_a_count_of_their_own(copied):
    one = lf.train.adam(0.25)
    one.iterations = 7
    other = copied(one)
    other.learning_rate, other.iterations = 0.5, 9
    assert (one.learning_rate, one.iterations) == (0.25, 7)
    assert (other.learning_rate, other.iterations) == (0.5, 9)
