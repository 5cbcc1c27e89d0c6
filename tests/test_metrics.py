"""Streaming metrics in training: states, logs, weights, files, own metrics; their formulas are compared in oracles/."""

from typing import ClassVar

import numpy as np
import pytest

import layerflow as lf
from layerflow import config, metrics
from layerflow.errors import ArgumentError, SaveError, ShapeError, UnknownNameError

M = lf.metrics


@pytest.fixture(params=[False, True], ids=["uncompiled", "compiled"])
def mode(request):
    before = config.jit()
    config.set_jit(request.param)
    yield request.param
    config.set_jit(before)


def data(rows=70, columns=3):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    return x, (x[:, :columns] * 2 + rng.normal(size=(rows, columns))).astype(np.float32)


def regression(*given, weighted=None, columns=3):
    model = lf.sequential([lf.layers.dense(units=columns, input_shape=[5])])
    model.compile("sgd", "mse", metrics=list(given), weighted_metrics=weighted)
    return model


def test_logs_hold_the_value_over_the_whole_epoch_not_a_mean_over_batches(mode):
    """With a learning rate of 0 the model stays, so that an epoch must equal an evaluation, and both the formula."""
    x, y = data()
    model = regression(M.RootMeanSquaredError(), M.R2Score(), "mae")
    model.optimizer.learning_rate = 0.0
    history = model.fit(x, y, epochs=2, batch_size=32, validation_data=(x[:30], y[:30]), verbose=0)
    p = np.asarray(model.predict(x)).astype(np.float64)
    rmse = np.sqrt(((y - p) ** 2).mean())
    r2 = (1 - ((y - p) ** 2).sum(0) / ((y - y.astype(np.float64).mean(0)) ** 2).sum(0)).mean()
    assert list(history.history) == [
        *("loss", "root_mean_squared_error", "r2_score", "mae"),
        *("val_loss", "val_root_mean_squared_error", "val_r2_score", "val_mae"),
    ]
    # Twice the same: states begin anew with each epoch.
    np.testing.assert_allclose(history.history["root_mean_squared_error"], [rmse, rmse], rtol=1e-5)
    np.testing.assert_allclose(history.history["r2_score"], [r2, r2], rtol=1e-4)
    assert history.history["val_root_mean_squared_error"][0] == pytest.approx(
        np.sqrt(((y - p)[:30] ** 2).mean()), rel=1e-5
    )
    np.testing.assert_allclose(model.evaluate(x, y)[1:3], [rmse, r2], rtol=1e-4)
    assert model.evaluate(x, y, return_dict=True)["r2_score"] == pytest.approx(r2, rel=1e-4)


def test_single_batches_go_on_until_the_metrics_are_reset(mode):
    x, y = data()
    model = regression(M.MeanSquaredError(name="own"))
    model.optimizer.learning_rate = 0.0
    first, second = model.train_on_batch(x[:20], y[:20]), model.train_on_batch(x[20:60], y[20:60])
    assert second[1] == pytest.approx((20 * first[1] + 40 * second[0]) / 60, rel=1e-5)
    assert model.test_on_batch(x[:20], y[:20])[1] == pytest.approx(first[1], rel=1e-5)  # a state of its own
    model.reset_metrics()
    assert model.train_on_batch(x[:20], y[:20])[1] == pytest.approx(first[1], rel=1e-6)


def test_callbacks_of_batches_see_the_running_value():
    x, y = data()
    seen = []
    model = regression(M.MeanSquaredError())
    model.optimizer.learning_rate = 0.0
    callbacks = {"on_batch_end": lambda batch, logs: seen.append((logs["loss"], logs["mean_squared_error"]))}
    model.fit(x, y, batch_size=35, verbose=0, shuffle=False, callbacks=callbacks)
    assert seen[0][0] == pytest.approx(seen[0][1], rel=1e-5)
    assert seen[1][1] == pytest.approx((seen[0][0] + seen[1][0]) / 2, rel=1e-5)


def test_datasets_give_what_arrays_do():
    x, y = data()
    model = regression(M.R2Score(), "mae")
    model.optimizer.learning_rate = 0.0
    whole = model.evaluate(x, y, return_dict=True)
    batches = lf.data.array([{"xs": a, "ys": b} for a, b in zip(x, y, strict=True)]).batch(32)
    history = model.fit_dataset(batches, epochs=2, validation_data=batches, verbose=0).history
    for name, value in whole.items():
        assert history[name] == history["val_" + name] == pytest.approx([value, value], rel=1e-5)
    assert model.evaluate_dataset(batches) == pytest.approx(list(whole.values()), rel=1e-5)


def test_weighted_metrics_take_the_weights_and_metrics_do_not(mode):
    x, y = data()
    w = np.random.default_rng(0).uniform(0, 2, len(x)).astype(np.float32)
    model = regression("mae", M.MeanAbsoluteError(), weighted=["mae", M.R2Score()])
    p = np.asarray(model.predict(x))
    each = np.abs(p - y).mean(1)
    loss, plain, streaming, weighted, r2 = model.evaluate(x, y, sample_weight=w)
    assert model.metrics_names == ["loss", "mae_0", "mean_absolute_error", "mae_1", "r2_score"]
    assert loss == pytest.approx((((p - y) ** 2).mean(1) * w).mean(), rel=1e-5)
    assert plain == pytest.approx(each.mean(), rel=1e-5)
    assert streaming == pytest.approx(each.mean(), rel=1e-5)
    assert weighted == pytest.approx((each * w).sum() / w.sum(), rel=1e-5)
    mean = (y * w[:, None]).sum(0) / w.sum()
    right = 1 - ((y - p) ** 2 * w[:, None]).sum(0) / ((y - mean) ** 2 * w[:, None]).sum(0)
    assert r2 == pytest.approx(right.mean(), rel=1e-4)
    # Without weights both are the same.
    values = model.evaluate(x, y, return_dict=True)
    assert values["mae_0"] == pytest.approx(values["mae_1"], rel=1e-5)


def test_counts_are_exact_beyond_the_integers_of_float32():
    """2**24 + 1 is no float32: a state of that type would stop counting there."""
    model = lf.sequential([lf.layers.activation("linear", input_shape=[1])])
    model.compile("sgd", "mse", metrics=[M.TruePositives(), M.FalseNegatives()])
    x, y = np.ones((4096, 1), np.float32), np.ones((4096, 1), np.float32)
    assert model.compilation is not None
    state = model.compilation.running["test"]["true_positives"].variables["positives"]
    state.assign([0, 2**24])
    assert model.test_on_batch(x, y)[1] == 2**24 + 4096
    assert model.test_on_batch(x[:1], y[:1])[1:] == [2**24 + 4097, 0]
    metric = M.Mean()
    metric.update_state(np.ones(2**24 + 3, np.float32))
    assert metric._running is not None
    assert metric._running.variables["count"].numpy() == 2**24 + 3


def test_same_bits_on_any_number_of_threads():
    found = []
    x, y = data(rows=600)
    before = lf.get_num_threads()
    try:
        for threads in (1, 2):
            lf.set_num_threads(threads)
            lf.random.set_seed(3)
            model = lf.sequential([lf.layers.dense(units=256, input_shape=[5]), lf.layers.dense(units=3)])
            model.compile("adam", "mse", metrics=[M.R2Score(), M.RootMeanSquaredError(), M.AUC(num_thresholds=20)])
            history = model.fit(x, np.clip(y, 0, 1), epochs=2, batch_size=256, verbose=0).history
            found.append({name: history[name] for name in ("r2_score", "root_mean_squared_error", "auc")})
    finally:
        lf.set_num_threads(before)
    assert found[0] == found[1]


def test_vectors_in_the_logs(capsys):
    x, y = data()
    model = regression(M.F1Score(threshold=0.5))
    history = model.fit(x, np.round(np.clip(y, 0, 1)), epochs=2, verbose=1)
    assert [np.shape(value) for value in history.history["f1_score"]] == [(3,), (3,)]
    assert np.shape(model.evaluate(x, y)[1]) == (3,)


def test_outputs_have_states_of_their_own(mode):
    x, y = data()
    inputs = lf.input(shape=[5])
    outs = [lf.layers.dense(units=3, name=name).apply(inputs) for name in ("a", "b")]
    model = lf.model(inputs=inputs, outputs=outs)
    one = M.MeanSquaredError(name="error")
    weights = {"a": np.arange(70) % 2, "b": None}
    model.compile("sgd", {"a": "mse", "b": lf.losses.Huber(0.5)}, metrics={"a": one, "b": [one, "mae"]})
    model.evaluate(x, [y, y], sample_weight=weights)
    values = model.evaluate(x, [y, y], return_dict=True)
    assert list(values) == ["loss", "a_loss", "b_loss", "a_error", "b_error", "b_mae"]
    p = [np.asarray(q) for q in model.predict(x)]
    assert values["a_error"] == pytest.approx(((p[0] - y) ** 2).mean(), rel=1e-5)
    assert values["b_error"] == pytest.approx(((p[1] - y) ** 2).mean(), rel=1e-5)


class Spread(M.Metric):
    """Largest less smallest error: a state that is no sum."""

    STATE: ClassVar = {"low": np.inf, "high": -np.inf}

    def __init__(self, factor=1.0):
        self.factor = factor

    def update(self, state, y_true, y_pred, sample_weight=None):
        error = self.factor * (y_pred - y_true)
        return {"low": np.minimum(state["low"], np.min(error)), "high": np.maximum(state["high"], np.max(error))}

    def value(self, state):
        return state["high"] - state["low"]


def test_a_metric_of_ones_own_is_compiled(mode, tmp_path):
    x, y = data()
    model = regression(Spread(factor=2.0))
    model.optimizer.learning_rate = 0.0
    error = 2 * (np.asarray(model.predict(x)) - y)
    right = pytest.approx(error.max() - error.min(), rel=1e-5)
    assert model.fit(x, y, epochs=2, verbose=0)["spread"] == [right, right]
    alone = Spread(factor=2.0)
    assert alone(y[:9], np.asarray(model.predict(x[:9]))) == pytest.approx(error[:9].max() - error[:9].min(), rel=1e-5)
    with pytest.raises(SaveError, match=r"Spread.*register_class"):
        model.save(tmp_path / "m")
    with lf.custom_objects({"Spread": Spread}):
        model.save(tmp_path / "m")
    again = lf.load_layers_model(tmp_path / "m", custom_objects={"Spread": Spread})
    assert again.evaluate(x, y)[1] == right


def test_metrics_come_back_from_files(tmp_path):
    x, y = data()
    y = np.round(np.clip(y, 0, 1))
    model = lf.sequential([lf.layers.dense(units=3, activation="sigmoid", input_shape=[5])])
    given = [M.AUC(num_thresholds=50, multi_label=True), "Precision", "f1_score", "binaryAccuracy"]
    loss = lf.losses.BinaryFocalCrossentropy(gamma=1.5)
    model.compile("adam", loss, metrics=given, weighted_metrics=[M.MeanMetricWrapper("mse", name="squares")])
    model.save(tmp_path / "m")
    again = lf.load_layers_model(tmp_path / "m")
    # A function is saved by its own name, the one that TF.js knows.
    assert again.metrics_names == ["loss", "auc", "Precision", "f1_score", "binary_accuracy", "squares"]
    for old, new in zip(model.evaluate(x, y), again.evaluate(x, y), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("Precision", M.Precision),
        ("auc", M.AUC),
        ("AUC", M.AUC),
        ("f1_score", M.F1Score),
        ("rootMeanSquaredError", M.RootMeanSquaredError),
        (M.Recall, M.Recall),
        ({"class_name": "IoU", "config": {"num_classes": 2, "target_class_ids": [1], "name": "i"}}, M.IoU),
    ],
)
def test_streaming_metrics_by_name(given, found):
    assert type(metrics.get(given)) is found


@pytest.mark.parametrize("name", ["precision", "recall", "mse", "binaryAccuracy", "topKCategoricalAccuracy"])
def test_names_of_functions_stay_functions(name):
    assert not isinstance(metrics.get(name), M.Metric)


def test_refusals():
    x, y = data()
    with pytest.raises(UnknownNameError, match="AUC"):
        metrics.get("aucc")
    with pytest.raises(ArgumentError, match="works alone"):
        regression(M.Mean())
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        M.Precision(thresholds=[0.5, 1.5])
    with pytest.raises(ArgumentError, match="target_class_ids"):
        M.IoU(num_classes=2, target_class_ids=[2])
    with pytest.raises(ArgumentError, match="update_state before result"):
        M.R2Score().result()
    with pytest.raises(ShapeError, match="r2_score needs predictions"):
        M.R2Score().update_state(np.zeros((2, 3, 4)), np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match="sample_weight of shape"):
        M.MeanSquaredError().update_state(y, y, np.ones((70, 3, 1)))

    class Wrong(M.Metric):
        STATE: ClassVar = {"total": 0.0}

        def update(self, state, y_true, y_pred, sample_weight=None):
            return {"total": state["total"] + y_true.sum(0)}

    with pytest.raises(ShapeError, match=r"'wrong'.*'total' the shape \[3\].*\[\]"):
        regression(Wrong()).evaluate(x, y)


def test_mean_and_sum_of_values():
    mean = M.Mean()
    mean.update_state([1, 3, 5, 7])
    assert mean.result() == 4
    mean.reset_state()
    mean.update_state([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
    assert mean.result() == 2
    total = M.Sum(name="all")
    assert total([[1, 2], [3, 4]], sample_weight=[1, 2]) == 17
    assert total.name == "all"
    assert M.Mean().result() == 0
