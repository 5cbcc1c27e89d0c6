"""compile, fit, evaluate, predict: what they do, report and keep."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

import layerflow as lf


def data(rows: int = 96, features: int = 6, classes: int = 3):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((rows, features), np.float32)
    labels = (x[:, :classes] * 2 + x[:, -classes:]).argmax(axis=1)
    return x, labels, np.eye(classes, dtype=np.float32)[labels]


def classifier(
    optimizer: Any = "sgd", metrics: Any = ("accuracy",), loss: Any = "categoricalCrossentropy", seed: int = 3
):
    lf.random.set_seed(seed)
    model = lf.sequential(
        [
            lf.layers.dense(units=8, activation="relu", input_shape=[6]),
            lf.layers.dense(units=3, activation="softmax"),
        ]
    )
    model.compile(optimizer=optimizer, loss=loss, metrics=list(metrics))
    return model


def test_history_and_learning():
    x, _, y = data()
    model = classifier(lf.train.adam(0.02))
    history = model.fit(x, y, epochs=30, batch_size=16, verbose=0)
    assert history.epoch == list(range(30))
    assert set(history.history) == {"loss", "acc"}
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert history["accuracy"][-1] > 0.9
    assert model.history is history


def test_epoch_values_are_means_of_batches():
    x, _, y = data(70)
    logs = []
    history = classifier().fit(
        x, y, epochs=2, batch_size=32, verbose=0, callbacks={"on_batch_end": lambda batch, log: logs.append(dict(log))}
    )
    assert [(log["batch"], log["size"]) for log in logs] == [(0, 32), (1, 32), (2, 6)] * 2
    for name in ("loss", "acc"):
        means = [sum(log[name] * log["size"] for log in part) / 70 for part in (logs[:3], logs[3:])]
        np.testing.assert_allclose(history.history[name], means, rtol=1e-6)


def test_same_bits_batch_by_batch_and_in_native_loops():
    x, _, y = data()
    runs = []
    for callbacks in (None, {"on_batch_end": lambda batch, logs: None}):
        model = classifier("adam")
        history = model.fit(x, y, epochs=5, batch_size=20, verbose=0, callbacks=callbacks)
        runs.append((model.get_weights(), history.history["loss"]))
    for one, other in zip(runs[0][0], runs[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-12)


def test_train_on_batch_equals_fit_without_shuffle():
    x, _, y = data(64)
    fitted, stepped = classifier(), classifier()
    history = fitted.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    first = stepped.train_on_batch(x[:32], y[:32])
    second = stepped.train_on_batch(x[32:], y[32:])
    for one, other in zip(fitted.get_weights(), stepped.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history.history["loss"][0] == pytest.approx((first[0] + second[0]) / 2, rel=1e-6)


def test_seed_fixes_everything():
    x, _, y = data()
    weights = []
    for seed in (1, 1, 2):
        model = classifier("adam", seed=seed)
        model.fit(x, y, epochs=2, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_validation_split_takes_the_last_rows_before_shuffling():
    x, _, y = data(80)
    split = classifier()
    one = split.fit(x, y, epochs=2, validation_split=0.25, verbose=0)
    other = classifier().fit(x[:60], y[:60], epochs=2, validation_data=(x[60:], y[60:]), verbose=0)
    assert set(one.history) == {"loss", "acc", "val_loss", "val_acc"}
    assert one.history == other.history
    assert one.history["val_loss"][-1] == pytest.approx(split.evaluate(x[60:], y[60:])[0], rel=1e-6)


def test_rank_one_data_becomes_a_column():
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[1])])
    model.compile(optimizer=lf.train.sgd(0.05), loss="meanSquaredError")
    model.fit(np.array([1.0, 2, 3, 4]), [1, 3, 5, 7], epochs=300, verbose=0)
    assert model.predict([5.0]).item() == pytest.approx(9, abs=0.1)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64, np.bool_, ">f4"])
def test_other_number_types_give_the_same(kind):
    x = np.arange(24).reshape(8, 3) % 2
    y = x.sum(axis=1, keepdims=True)
    results = []
    for dtype in (np.float32, kind):
        lf.random.set_seed(1)
        model = lf.sequential([lf.layers.dense(units=1, input_shape=[3])])
        model.compile(optimizer="sgd", loss="mse")
        model.fit(x.astype(dtype), y.astype(np.float32), epochs=2, verbose=0, shuffle=False)
        results.append(model.predict(x.astype(dtype)))
    np.testing.assert_array_equal(*results)


def test_arrays_in_any_layout():
    x, _, y = data(40)
    wide = np.asfortranarray(np.concatenate([x, x], axis=1))
    models = [classifier(), classifier()]
    losses = [
        model.fit(inputs, y, shuffle=False, verbose=0).history["loss"]
        for model, inputs in zip(models, (x, wide[:, :6]), strict=True)
    ]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(models[0].predict(x), models[0].predict(wide[:, :6]))


def test_evaluate_forms():
    x, _, y = data()
    model = classifier(metrics=[])
    assert isinstance(model.evaluate(x, y), float)
    model = classifier()
    values = model.evaluate(x, y, batch_size=7)
    assert values == pytest.approx(model.evaluate(x, y, batch_size=96), rel=1e-5)
    assert model.evaluate(x, y, return_dict=True) == dict(zip(model.metrics_names, model.evaluate(x, y), strict=True))
    assert model.test_on_batch(x, y) == pytest.approx(values, rel=1e-5)


def test_sparse_labels_equal_one_hot():
    x, labels, y = data()
    one_hot = classifier().fit(x, y, epochs=3, verbose=0).history
    for form in (labels, labels[:, None], labels.astype(np.uint8), labels.astype(np.float32)):
        sparse = classifier(loss="sparseCategoricalCrossentropy").fit(x, form, epochs=3, verbose=0).history
        np.testing.assert_allclose(sparse["loss"], one_hot["loss"], rtol=1e-5)
        np.testing.assert_allclose(sparse["acc"], one_hot["acc"])


def test_class_weight_is_a_sample_weight():
    x, labels, y = data()
    weight = {0: 2.0, 1: 0.5, 2: 1.0}
    by_class = classifier().fit(x, y, class_weight=weight, verbose=0).history["loss"]
    rows = np.array([weight[label] for label in labels], np.float32)
    by_row = classifier().fit(x, y, sample_weight=rows, verbose=0).history["loss"]
    both = classifier().fit(x, y, sample_weight=rows, class_weight=weight, verbose=0).history["loss"]
    assert by_class == by_row
    assert both != by_row


def test_predict_in_batches():
    x, _, _ = data()
    model = classifier()
    whole = model.predict(x)
    assert isinstance(whole, lf.Tensor)
    np.testing.assert_array_equal(model.predict(x, batchSize=10), whole)
    np.testing.assert_array_equal(model.predict_on_batch(x), whole)
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)


def two_by_two():
    a, b = lf.input(shape=[4], name="a"), lf.input(shape=[2], name="b")
    joined = lf.layers.concatenate().apply(
        [lf.layers.dense(units=5, activation="tanh").apply(a), lf.layers.dense(units=5).apply(b)]
    )
    one = lf.layers.dense(units=1, name="one").apply(joined)
    two = lf.layers.dense(units=3, activation="softmax", name="two").apply(joined)
    return lf.model(inputs=[a, b], outputs=[one, two])


def test_several_inputs_and_outputs():
    rng = np.random.default_rng(0)
    xa, xb = rng.standard_normal((50, 4), np.float32), rng.standard_normal((50, 2), np.float32)
    y1, y2 = xa[:, :1] + xb[:, 1:], rng.integers(0, 3, 50)
    model = two_by_two()
    model.compile(
        optimizer=lf.train.adam(0.01),
        loss={"one": "mse", "two": "sparseCategoricalCrossentropy"},
        metrics={"two": ["accuracy"]},
        loss_weights={"one": 2.0},
    )
    history = model.fit({"a": xa, "b": xb}, {"one": y1, "two": y2}, epochs=3, verbose=0).history
    assert list(history) == ["loss", "one_loss", "two_loss", "two_acc"]
    np.testing.assert_allclose(
        history["loss"], 2 * np.array(history["one_loss"]) + np.array(history["two_loss"]), rtol=1e-5
    )
    outputs = model.predict([xa, xb])
    assert [o.shape for o in outputs] == [(50, 1), (50, 3)]
    values = model.evaluate([xa, xb], [y1, y2])
    assert values[0] == pytest.approx(2 * values[1] + values[2], rel=1e-5)


def test_metrics_with_equal_keys_are_numbered():
    model = classifier(metrics=["accuracy", "acc"])
    assert model.metrics_names == ["loss", "acc_0", "acc_1"]


def test_functions_as_loss_and_metric():
    def squares(y_true, y_pred):
        return np.square(y_true - y_pred).mean(axis=-1)

    def largest(y_true, y_pred):
        return np.abs(y_true - y_pred).max()

    x, _, y = data()
    mine, builtin = classifier(loss=squares, metrics=[largest]), classifier(loss="mse", metrics=[])
    one, other = (model.fit(x, y, epochs=2, shuffle=False, verbose=0).history for model in (mine, builtin))
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
    assert 0 < one["largest"][0] < 2


def test_learning_rate_may_change_without_a_compile():
    x, _, y = data()
    model = classifier(lf.train.sgd(0.1))
    model.train_on_batch(x, y)
    before = model.get_weights()
    with lf.debug.assert_max_compiles(0):
        model.optimizer.learning_rate = 0.0
        model.train_on_batch(x, y)
        model.fit(x, y, callbacks={"on_batch_end": lambda batch, logs: None}, verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_freezing_takes_effect_at_once():
    x, _, y = data()
    model = classifier()
    model.train_on_batch(x, y)
    model.layers[0].trainable = False
    before = model.get_weights()
    model.train_on_batch(x, y)
    frozen = [np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)]
    assert sorted(frozen) == [False, False, True, True]


def test_callback_order_and_stop():
    x, _, y = data(64)
    heard = []

    class Recorder(lf.callbacks.Callback):
        def on_train_begin(self, logs):
            heard.append("begin")

        def on_epoch_begin(self, epoch, logs):
            heard.append(f"epoch {epoch}")

        def on_train_batch_begin(self, batch, logs):
            heard.append(f"batch {batch}")

        def on_epoch_end(self, epoch, logs):
            heard.append(f"end {epoch} {sorted(logs)}")
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs):
            heard.append("done")

    history = classifier().fit(x, y, epochs=9, callbacks=[Recorder()], verbose=0)
    epoch = ["batch 0", "batch 1"]
    assert heard == [
        "begin",
        *("epoch 0", *epoch, "end 0 ['acc', 'loss']"),
        *("epoch 1", *epoch, "end 1 ['acc', 'loss']"),
        "done",
    ]
    assert len(history.epoch) == 2


def test_stop_within_an_epoch():
    x, _, y = data(96)
    model = classifier()
    seen = []

    def stop(batch, logs):
        seen.append(batch)
        model.stop_training = batch == 1

    model.fit(x, y, epochs=5, batch_size=16, callbacks={"on_batch_end": stop}, verbose=0)
    assert seen == [0, 1]


def test_initial_epoch():
    x, _, y = data()
    assert classifier().fit(x, y, epochs=5, initial_epoch=3, verbose=0).epoch == [3, 4]


def test_progress_bar_shows_epochs_and_values(capsys):
    x, _, y = data()
    classifier().fit(x, y, epochs=2, validation_split=0.25)
    shown = capsys.readouterr().err
    assert "Epoch 2/2" in shown
    assert "val_acc=" in shown


def test_silent_fit_prints_nothing(capsys):
    x, _, y = data()
    classifier().fit(x, y, verbose=0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_the_history_so_far():
    x, _, y = data()
    model = classifier()

    def interrupt(epoch, logs):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    history = model.fit(x, y, epochs=10_000, callbacks={"on_epoch_begin": interrupt}, verbose=0)
    assert history.interrupted
    assert history.epoch == [0]
    assert model.fit(x, y, verbose=0).epoch == [0]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_answers_in_native_loops():
    x, _, y = data(2000)
    model = classifier()
    model.fit(x, y, verbose=0)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    history = model.fit(x, y, epochs=10**7, verbose=0)
    assert history.interrupted
    assert len(history.epoch) == len(history.history["loss"]) > 0


def test_two_fits_of_one_model_at_once_are_refused():
    x, _, y = data()
    model = classifier()

    def again(epoch, logs):
        model.fit(x, y, verbose=0)

    with pytest.raises(RuntimeError, match="another fit"):
        model.fit(x, y, callbacks={"on_epoch_end": again}, verbose=0)
    model.fit(x, y, verbose=0)


def test_evaluate_and_predict_within_fit():
    x, _, y = data()
    model = classifier()
    seen = []

    def look(epoch, logs):
        seen.append((model.evaluate(x, y)[0], model.predict(x[:1]).shape))

    model.fit(x, y, epochs=2, callbacks={"on_epoch_end": look}, verbose=0)
    assert [shape for _, shape in seen] == [(1, 3)] * 2


def test_fit_async_leaves_the_loop_free():
    import asyncio

    x, _, y = data(2000)
    model = classifier()

    async def both():
        training = asyncio.create_task(model.fit_async(x, y, epochs=200, verbose=0))
        ticks = 0
        while not training.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return await training, ticks

    history, ticks = asyncio.run(both())
    assert len(history.epoch) == 200
    assert ticks > 1


def test_fit_async_stops_when_cancelled():
    import asyncio

    x, _, y = data(500)
    model = classifier()

    async def start_and_cancel():
        training = asyncio.create_task(model.fit_async(x, y, epochs=10**7, verbose=0))
        await asyncio.sleep(0.2)
        training.cancel()
        with pytest.raises(asyncio.CancelledError):
            await training

    asyncio.run(start_and_cancel())
    assert model.stop_training
