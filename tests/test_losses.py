"""Losses and metrics: names, stable forms, weights; their values are compared with TF.js in tests/conformance."""

import math

import numpy as np
import pytest

import layerflow as lf
from layerflow import losses, metrics
from layerflow.errors import ArgumentError, ShapeError, UnknownNameError
from layerflow.graph import ops

T = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
Z = np.array([[2.0, -1.0, 0.5], [300.0, -300.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("names", "function"),
    [
        (("mse", "meanSquaredError", "mean_squared_error"), losses.squared_error),
        (("mae", "meanAbsoluteError"), losses.mean_absolute_error),
        (("categoricalCrossentropy", "categorical_crossentropy"), losses.categorical_crossentropy),
        (("cosineProximity", "cosine_similarity"), losses.cosine_proximity),
        (("kld", "kullbackLeiblerDivergence"), losses.kullback_leibler_divergence),
        (("logcosh", "log_cosh"), losses.logcosh),
    ],
)
def test_every_spelling_gives_one_function(names, function):
    for name in names:
        assert losses.get(name) is function
        assert metrics.get(name) is function
    assert losses.is_builtin(function)


def test_unknown_names_say_the_nearest():
    with pytest.raises(UnknownNameError, match="categorical_crossentropy"):
        losses.get("categoricalCrossentropi")
    with pytest.raises(UnknownNameError, match="accuracy"):
        metrics.get("acuracy")
    with pytest.raises(ArgumentError):
        losses.get(3)
    assert not losses.is_builtin(lambda t, p: p)


@pytest.mark.parametrize("name", ["categoricalCrossentropy", "sparseCategoricalCrossentropy"])
def test_softmax_and_its_crossentropy_are_exact_for_any_logits(name):
    labels = T if name.startswith("cat") else T.argmax(1).reshape(-1, 1)
    value, gradient = lf.value_and_grad(lambda z: ops.sum(losses.get(name)(labels, ops.softmax(z))))(Z)
    shifted = Z.astype(np.float64) - Z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert float(value) == pytest.approx(-(T * log_p).sum(), rel=1e-6)
    np.testing.assert_allclose(gradient, np.exp(log_p) - T, atol=1e-6)


def test_sigmoid_and_its_crossentropy_are_exact_for_any_logits():
    z, t = np.array([[-200.0], [200.0], [0.0]], np.float32), np.ones((3, 1), np.float32)
    value, gradient = lf.value_and_grad(lambda z: ops.sum(losses.binary_crossentropy(t, ops.sigmoid(z))))(z)
    assert float(value) == pytest.approx(200 + math.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-1], [0], [-0.5]], atol=1e-6)


def test_per_sample_values_of_weighted_losses_are_used_in_compile():
    assert losses.get(lf.losses.mean_squared_error) is losses.squared_error
    assert losses.get(lf.losses.softmax_cross_entropy)(T, Z).shape == (2,)


CORE = [
    (lambda **k: losses.absolute_difference([[1, 2.0]], [[3, 5.0]], **k), [[2, 3]]),
    (lambda **k: losses.mean_squared_error([[1, 2.0]], [[3, 5.0]], **k), [[4, 9]]),
    (lambda **k: losses.hinge_loss([[0, 1.0]], [[0.5, 0.5]], **k), [[1.5, 0.5]]),
    (lambda **k: losses.huber_loss([[0, 0.0]], [[0.5, 3]], **k), [[0.125, 2.5]]),
    (lambda **k: losses.log_loss([[1, 0.0]], [[0.5, 0.5]], **k), [[math.log(2), math.log(2)]]),
    (lambda **k: losses.sigmoid_cross_entropy([[1, 0.0]], [[0, 0.0]], **k), [[math.log(2), math.log(2)]]),
    (lambda **k: losses.softmax_cross_entropy([[1, 0.0], [0, 1]], [[0, 0.0], [0, 0]], **k), [math.log(2), math.log(2)]),
    (lambda **k: losses.cosine_distance([[1, 0.0]], [[0.6, 0.8]], 1, **k), [[0.4]]),
]


@pytest.mark.parametrize(("call", "each"), CORE)
def test_core_losses_and_reductions(call, each):
    each = np.array(each)
    np.testing.assert_allclose(call(reduction="none"), each, rtol=1e-5)
    for reduction, value in (("mean", each.mean()), ("sum", each.sum()), ("sumByNonzeroWeights", each.mean())):
        assert float(call(reduction=reduction)) == pytest.approx(value, rel=1e-5)


def test_weights_of_core_losses():
    one, w = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[2.0], [0.0]], np.float32)
    reduce = losses.compute_weighted_loss
    assert float(reduce(one, w)) == pytest.approx(6 / 2)
    assert float(reduce(one, w, losses.Reduction.SUM)) == pytest.approx(6)
    assert float(reduce(one, w, "mean")) == pytest.approx(6 / 4)
    assert float(reduce(one, 0 * w)) == 0
    with pytest.raises(ShapeError, match=r"\[1\].*\[2\]"):
        losses.mean_squared_error([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("loss", "shape", "expected"),
    [
        ("mse", (None, 1), metrics.binary_accuracy),
        ("binaryCrossentropy", (None, 3), metrics.binary_accuracy),
        ("sparseCategoricalCrossentropy", (None, 3), metrics.sparse_categorical_accuracy),
        ("categoricalCrossentropy", (None, 3), metrics.categorical_accuracy),
    ],
)
def test_what_accuracy_means(loss, shape, expected):
    assert metrics.get("accuracy", losses.get(loss), shape) is metrics.get("acc", loss, shape) is expected
    assert metrics.key("accuracy") == "acc"
    assert metrics.key("crossentropy") == "ce"
    assert metrics.key("mse") == "mse"
    assert metrics.key(expected) == expected.__name__


# --- loss objects ---------------------------------------------------------------------------------------------------


def model_of(loss, units=3, activation=None, **compiled):
    model = lf.sequential([lf.layers.dense(units=units, activation=activation, input_shape=[4])])
    model.compile(lf.train.sgd(0.1), loss, **compiled)
    return model


def rows(count=12, units=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, 4)).astype("f"), rng.normal(size=(count, units)).astype("f"), rng.uniform(size=count)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "sum", "meanWithSampleWeight"])
def test_reductions_in_compile(reduction):
    x, y, w = rows()
    model = model_of(lf.losses.MeanSquaredError(reduction=reduction))
    each = ((np.asarray(model.predict(x)) - y) ** 2).mean(1)
    right = {"sum": (each * w).sum(), "meanWithSampleWeight": (each * w).sum() / w.sum()}
    value = model.evaluate(x, y, batch_size=12, sample_weight=w)
    assert value == pytest.approx(right.get(reduction, (each * w).mean()), rel=1e-5)
    plain = model.evaluate(x, y, batch_size=12)
    assert plain == pytest.approx(each.sum() if reduction == "sum" else each.mean(), rel=1e-5)


def test_an_object_trains_as_its_function_does():
    x, y, _ = rows()
    found = []
    for loss in ("huber", lf.losses.Huber(), lf.losses.Huber, {"class_name": "Huber", "config": {"delta": 1.0}}):
        lf.random.set_seed(1)
        found.append(model_of(loss).fit(x, y, epochs=3, verbose=0)["loss"])
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("ignored", [-1, 255])
def test_ignored_labels_do_not_count(ignored):
    x, y, _ = rows()
    labels = y.argmax(1)
    labels[::3] = ignored
    metric = lf.metrics.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored, name="entropy")
    loss = lf.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
    model = model_of(loss, metrics=[metric])
    z = np.asarray(model.predict(x)).astype(np.float64)
    entropies = np.log(np.exp(z).sum(1)) - z[np.arange(12), labels % 3]
    right = pytest.approx(entropies[labels != ignored].mean(), rel=1e-5)
    assert model.evaluate(x, labels) == [right, right]
    first = model.evaluate(x, labels)[0]
    assert model.fit(x, labels, epochs=20, verbose=0)["loss"][-1] < first
    labels[1] = 7
    with pytest.raises(lf.errors.DataError, match="label 7"):
        model.fit(x, labels, verbose=0)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e8])
@pytest.mark.parametrize(
    "loss",
    [
        lf.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        lf.losses.CategoricalFocalCrossentropy(from_logits=True, gamma=0.5),
        lf.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        lf.losses.BinaryFocalCrossentropy(from_logits=True, gamma=0.5, apply_class_balancing=True),
        lf.losses.LogCosh(),
        lf.losses.Huber(),
    ],
    ids=lambda loss: loss.name,
)
def test_extreme_logits_give_finite_losses_and_gradients(loss, scale):
    value, gradient = lf.value_and_grad(lambda z: loss(T, z))(Z * np.float32(scale))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CategoricalCrossentropy", lf.losses.CategoricalCrossentropy),
        ("categoricalCrossentropy", "categorical_crossentropy"),
        ("kl_divergence", "kullback_leibler_divergence"),
        ("KLDivergence", lf.losses.KLDivergence),
        ("binaryFocalCrossentropy", "binary_focal_crossentropy"),
        ("tversky", "tversky"),
        ("log_cosh", "logcosh"),
        ("LogCosh", lf.losses.LogCosh),
        ("BCE", "binary_crossentropy"),
    ],
)
def test_keras_names(name, expected):
    found = losses.get(name)
    assert found.__name__ == expected if isinstance(expected, str) else type(found) is expected


class Pinball(lf.losses.Loss):
    def __init__(self, quantile=0.5):
        self.quantile = quantile

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        return np.mean(np.maximum(self.quantile * error, (self.quantile - 1) * error), axis=-1)


def test_a_loss_of_ones_own_with_arguments(tmp_path):
    x, y, w = rows(count=200)
    model = model_of(Pinball(quantile=0.9, reduction="sum"), metrics=[Pinball(quantile=0.9)])
    error = y - np.asarray(model.predict(x))
    each = np.maximum(0.9 * error, -0.1 * error).mean(1)
    assert model.evaluate(x, y, batch_size=200, sample_weight=w)[0] == pytest.approx((each * w).sum(), rel=1e-5)
    lf.register_class(Pinball)
    model.compile("adam", Pinball(quantile=0.9, reduction="sum", name="quantiles"))
    model.save(tmp_path / "m")
    again = lf.load_layers_model(tmp_path / "m")
    assert again.evaluate(x, y) == model.evaluate(x, y)
    assert again.loss["config"] == {"quantile": 0.9, "reduction": "sum", "name": "quantiles"}


def test_losses_with_arguments_come_back_from_files(tmp_path):
    x, y, _ = rows()
    loss = lf.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2, reduction="sum")
    model = model_of(loss, metrics=["accuracy"])
    labels = np.eye(3, dtype="f")[y.argmax(1)]
    model.save(tmp_path / "m")
    again = lf.load_layers_model(tmp_path / "m")
    assert again.evaluate(x, labels) == model.evaluate(x, labels)
    assert again.loss_functions[0].get_config() == loss.get_config()


def test_accuracy_follows_the_loss_object():
    x, y, _ = rows()
    sparse = model_of(lf.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    z = np.asarray(sparse.predict(x))
    assert sparse.evaluate(x, y.argmax(1))[1] == pytest.approx((z.argmax(1) == y.argmax(1)).mean())
    binary = model_of(lf.losses.BinaryCrossentropy(), activation="sigmoid", metrics=["accuracy"])
    p = np.asarray(binary.predict(x))
    assert binary.evaluate(x, (y > 0).astype("f"))[1] == pytest.approx(((p > 0.5) == (y > 0)).mean())


def test_weights_for_each_value_of_an_example():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)).astype("f"), rng.normal(size=(6, 2, 2)).astype("f")
    w = rng.uniform(size=(6, 2)).astype("f")
    model = lf.sequential([lf.layers.dense(units=4, input_shape=[4]), lf.layers.reshape(target_shape=[2, 2])])
    model.compile("sgd", "mse", weighted_metrics=["mse"])
    each = ((np.asarray(model.predict(x)) - y) ** 2).mean(-1)
    weighted = (each * w).sum() / w.sum()
    for given in (w, w[..., None]):
        found = model.evaluate(x, y, sample_weight=given)
        np.testing.assert_allclose(found, [(each * w).mean(), weighted], rtol=1e-5)
    with pytest.raises(lf.errors.DataError, match=r"or \[6, 2\] for each"):
        model.evaluate(x, y, sample_weight=np.ones((6, 3)))


def test_refusals_of_loss_objects():
    with pytest.raises(ArgumentError, match='reduction="none"'):
        model_of(lf.losses.MeanSquaredError(reduction="none"))
    with pytest.raises(ArgumentError, match=r"reduction must be one of.*'summ'"):
        lf.losses.Huber(reduction="summ")
    with pytest.raises(ArgumentError, match="label_smoothing must be from 0 to 1"):
        lf.losses.BinaryCrossentropy(label_smoothing=2)
    with pytest.raises(lf.errors.UnknownArgumentError, match="from_logits"):
        lf.losses.CategoricalCrossentropy(from_logit=True)
    with pytest.raises(ShapeError, match="sample_weight of shape"):
        lf.losses.MeanSquaredError()(T, Z, np.ones((2, 3)))
