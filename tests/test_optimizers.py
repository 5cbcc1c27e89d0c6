"""Optimizers: state, settings, names; their trajectories are compared with TF.js and Keras in tests/conformance."""

import numpy as np
import pytest

import layerflow as lf
from layerflow import optimizers, train
from layerflow.errors import ArgumentError, ShapeError, UnknownArgumentError, UnknownNameError

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


def test_bias_correction_is_precise_after_many_steps():
    for step in (1.0, 10.0, 1e5):
        got = np.asarray(train.decayed(0.999, np.float32(step)))
        assert float(got) == pytest.approx(1 - 0.999**step, rel=1e-6)


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


def test_names_and_spellings():
    assert train.get("adadelta").learning_rate == 1.0
    assert train.get("SGD").get_config() == {"learning_rate": 0.01}
    assert train.sgd(lr=0.2).learning_rate == train.sgd(learningRate=0.2).learning_rate == 0.2
    assert isinstance(
        train.get({"class_name": "RMSProp", "config": {"learningRate": 0.1, "decay": 0.8}}), train.RMSProp
    )
    assert isinstance(optimizers.get("rmsprop"), optimizers.RMSprop)
    for make, error, words in [
        (lambda: train.get("adm"), UnknownNameError, "Adam"),
        (lambda: train.adam(beta_3=1), UnknownArgumentError, "beta1|beta2"),
        (lambda: train.sgd("fast"), ArgumentError, "number"),
        (lambda: train.get(3), ArgumentError, "adam"),
    ]:
        with pytest.raises(error, match=words):
            make()
