"""The library's own callbacks, and how callbacks are given to fit, evaluate and predict."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ArgumentError, UnknownArgumentError, UnknownNameError

X = np.random.default_rng(0).standard_normal((48, 4), np.float32)
Y = X[:, :1] * 2
callbacks = lf.callbacks


def make(optimizer: Any = "sgd", metrics: Any = ("mae",)) -> Any:
    lf.random.set_seed(4)
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[4])])
    model.compile(optimizer=optimizer, loss="mse", metrics=list(metrics))
    return model


class Script(lf.Callback):
    """Puts values into the logs of epochs, to be watched by callbacks behind it."""

    def __init__(self, **values: list[float]):
        self.values = values

    def on_epoch_end(self, epoch, logs: Any):
        logs.update({name: values[epoch] for name, values in self.values.items() if epoch < len(values)})


def epochs_of(watcher: Any, **values: list[float]) -> int:
    model = make()
    return len(model.fit(X, Y, epochs=20, verbose=0, callbacks=[Script(**values), watcher]).epoch)


# EarlyStopping


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({}, [3, 2, 1, 1, 0], 4),
        ({"patience": 2}, [3, 2, 4, 4, 0], 4),
        ({"patience": 2}, [3, 2, 4, 1, 4, 4], 6),
        ({"min_delta": 0.5}, [3, 2, 1.6], 3),
        ({"minDelta": -0.5}, [3, 2, 1.6], 3),
        ({"mode": "max"}, [1, 2, 3, 3], 4),
        ({"baseline": 2.5, "patience": 2}, [3, 2.9, 2.8, 2.8], 4),
        ({"baseline": 2.5, "patience": 2}, [3, 2.4, 2.4, 2.4], 4),
        ({"start_from_epoch": 3}, [1, 2, 3, 3, 2, 3], 6),
        ({}, [1, 1], 2),
        ({}, [math.nan, math.nan], 2),
    ],
)
def test_early_stopping(options, values, epochs):
    stop = callbacks.EarlyStopping(monitor="value", **options)
    assert epochs_of(stop, value=values) == epochs
    assert stop.stopped_epoch == epochs - 1


@pytest.mark.parametrize(
    ("name", "larger"),
    [
        ("loss", False),
        ("val_loss", False),
        ("val_acc", True),
        ("out_accuracy", True),
        ("val_auc_1", True),
        ("precision", True),
        ("meanIoU", True),
        ("mean_io_u", True),
        ("r2_score", True),
        ("mae", False),
        ("val_out_crossentropy", False),
    ],
)
def test_auto_mode(name, larger):
    watcher = callbacks.EarlyStopping(monitor=name)
    assert watcher.better(2, 1) is larger
    assert watcher.better(1, 2) is not larger


@pytest.mark.parametrize("ended", ["early", "by its epochs"])
def test_best_weights_are_restored(ended, capsys):
    kept = []
    patience = 2 if ended == "early" else 9
    stop = callbacks.EarlyStopping(monitor="value", patience=patience, restoreBestWeights=True, verbose=1)
    model, values = make(), Script(value=[3.0, 1, 2, 2, 2])
    keep = {"on_epoch_end": lambda epoch, logs: kept.append(model.get_weights())}
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[values, keep, stop])
    assert len(kept) == 4
    for one, other in zip(model.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert stop.best_epoch == 1
    said = capsys.readouterr().out
    assert "Weights of epoch 2 restored" in said
    assert ("Epoch 4: early stopping" in said) is (ended == "early")


def test_a_callback_can_be_used_again():
    stop = callbacks.EarlyStopping(monitor="value", patience=1)
    assert [epochs_of(stop, value=[3.0, 2, 2]) for _ in range(2)] == [3, 3]


def test_accuracy_is_found_by_either_name():
    model = lf.sequential([lf.layers.dense(units=2, activation="softmax", input_shape=[4])])
    model.compile(optimizer="sgd", loss="categoricalCrossentropy", metrics=["accuracy"])
    stop = callbacks.EarlyStopping(monitor="accuracy", min_delta=2)
    model.fit(X, np.eye(2)[(X[:, 0] > 0).astype(int)], epochs=5, verbose=0, callbacks=stop)
    assert stop.stopped_epoch == 1


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("val_loss", "Give fit validation_data or validation_split, or monitor one of: loss, mae"),
        ("los", "Did you mean 'loss'"),
        ("something", "Known: loss, mae"),
    ],
)
def test_a_missing_value_is_said_once(monitor, message):
    with pytest.warns(UserWarning, match=f'no "{monitor}" to monitor.*{message}') as heard:
        make().fit(X, Y, epochs=3, verbose=0, callbacks=callbacks.EarlyStopping(monitor=monitor))
    assert len(heard) == 1


def test_no_warning_in_epochs_without_validation():
    stop = callbacks.EarlyStopping(patience=3)
    make().fit(X, Y, epochs=4, verbose=0, validation_split=0.5, validation_freq=2, callbacks=stop)
    assert stop.best_epoch == 3


# Rates


def test_learning_rate_scheduler():
    model, seen = make(lf.train.sgd(0.5)), []
    note = {"on_epoch_begin": lambda epoch, logs: seen.append(model.optimizer.learning_rate)}
    one = callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[one, note])
    assert seen == history.history["learning_rate"] == pytest.approx([0.1, 0.05, 0.1 / 3])
    two = callbacks.learning_rate_scheduler(lambda epoch, rate: rate / 2)
    assert model.fit(X, Y, epochs=2, verbose=0, callbacks=two)["learning_rate"] == pytest.approx([0.1 / 6, 0.1 / 12])


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 2}, [3, 3, 3, 3, 3], [1, 1, 0.1, 0.1, 0.01]),
        ({"patience": 1, "cooldown": 2, "factor": 0.5}, [3, 3, 3, 3, 3], [1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "min_lr": 0.3, "factor": 0.5}, [3, 3, 3, 3], [1, 0.5, 0.3, 0.3]),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 3], [1, 1, 1, 0.1]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.4], [1, 0.1, 0.1]),
    ],
)
def test_reduce_lr_on_plateau(options, values, rates):
    model, seen = make(lf.train.sgd(1.0)), []
    reduce = callbacks.ReduceLROnPlateau(monitor="value", **options)
    after = {"on_epoch_end": lambda epoch, logs: seen.append(model.optimizer.learning_rate)}
    model.fit(X * 0, Y, epochs=len(values), verbose=0, callbacks=[Script(value=values), reduce, after])
    assert seen == pytest.approx(rates)


def test_a_schedule_and_a_callback_exclude_each_other():
    model = make()
    model.optimizer.schedule = lambda step: 0.1
    for callback in (callbacks.LearningRateScheduler(lambda epoch: 0.1), callbacks.ReduceLROnPlateau("loss")):
        with pytest.raises(ArgumentError, match=r"sets the learning rate, but the optimizer has a schedule"):
            model.fit(X, Y, verbose=0, callbacks=callback)


def test_callbacks_see_the_validation_data():
    seen = lf.Callback()
    make().fit(X, Y, verbose=0, validation_split=0.25, callbacks=seen)
    x, y = seen.validation_data
    np.testing.assert_array_equal(x, X[36:])
    np.testing.assert_array_equal(y, Y[36:])


# Files


def test_model_checkpoint_fills_in_names(tmp_path):
    check = callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}-{mean_absolute_error:.1f}-{val_loss:.1f}", verbose=1)
    model = make(metrics=["mean_absolute_error"])
    history = model.fit(X, Y, epochs=2, verbose=0, validation_split=0.5, callbacks=check)
    values = zip(history["mean_absolute_error"], history["val_loss"], strict=True)
    expected = [f"{epoch:02d}-{mae:.1f}-{loss:.1f}" for epoch, (mae, loss) in enumerate(values, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    again = lf.load_layers_model(tmp_path / expected[-1])
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_model_checkpoint_keeps_the_best(tmp_path):
    check = callbacks.ModelCheckpoint(
        tmp_path / "best.npz", monitor="value", save_best_only=True, save_weights_only=True, initial_value_threshold=2.5
    )
    saved = []
    model = make()
    see = {"on_epoch_end": lambda epoch, logs: saved.append(check.path_exists())}
    check.path_exists = lambda: (tmp_path / "best.npz").exists() and (tmp_path / "best.npz").stat().st_mtime_ns
    model.fit(X, Y, epochs=5, verbose=0, callbacks=[Script(value=[3.0, 2, 2.2, 1, 4]), check, see])
    assert saved[0] is False
    assert saved[1] == saved[2] < saved[3] == saved[4]
    assert check.best == 1


def test_model_checkpoint_every_so_many_batches(tmp_path):
    check = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=4)
    make().fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=check)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-4", "2-2", "2-6"]


def test_csv_logger(tmp_path):
    path = tmp_path / "new" / "log.csv"
    logger = callbacks.CSVLogger(path, separator=";")
    model = make()
    history = model.fit(X, Y, epochs=2, verbose=0, validation_split=0.5, validation_freq=2, callbacks=logger)
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch;loss;mae;val_loss;val_mae"
    assert lines[1].split(";")[3:] == ["", ""]
    row = [float(value) for value in lines[2].split(";")]
    assert row == [1, history["loss"][1], history["mae"][1], history["val_loss"][0], history["val_mae"][0]]
    model.fit(X, Y, verbose=0, callbacks=callbacks.CSVLogger(path, separator=";", append=True))
    assert path.read_text().splitlines()[:3] == lines
    model.fit(X, Y, verbose=0, callbacks=logger)
    assert len(path.read_text().splitlines()) == 2


def test_terminate_on_nan(capsys):
    model, seen = make(lf.train.sgd(1e30)), []
    history = model.fit(
        X, Y, batch_size=4, epochs=9, verbose=0,
        callbacks=[callbacks.TerminateOnNaN(), {"on_batch_end": lambda batch, logs: seen.append(logs["loss"])}],
    )  # fmt: skip
    assert len(seen) < 12
    assert not math.isfinite(seen[-1])
    assert np.isfinite(seen[:-1]).all()
    assert len(history.epoch) == 1
    assert f"in batch {len(seen) - 1} of epoch 1: training ends" in capsys.readouterr().out


@pytest.mark.parametrize("check_batches", [True, False])
def test_terminate_on_nan_in_native_runs(check_batches, capsys):
    model = make(lf.train.sgd(1e30))
    history = model.fit(X, Y, batch_size=4, epochs=9, verbose=0, callbacks=callbacks.TerminateOnNaN(check_batches))
    assert len(history.epoch) == 1
    assert ("batch" in capsys.readouterr().out) is check_batches


def events(folder) -> dict[tuple[str, int], Any]:
    """What the event files in a folder hold: values by tag and step, None for histograms."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs the extra `tensorboard`")
    found: dict[tuple[str, int], Any] = {}
    for path in folder.iterdir():
        raw, at = path.read_bytes(), 0
        while at < len(raw):  # records: length, its checksum, data, their checksum
            size = int.from_bytes(raw[at : at + 8], "little")
            event = event_pb2.Event.FromString(raw[at + 12 : at + 12 + size])
            for value in event.summary.value:
                found[value.tag, event.step] = None if value.HasField("histo") else value.simple_value
            at += size + 16
    return found


def test_tensor_board(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra `tensorboard`")
    board = callbacks.TensorBoard(tmp_path, histogram_freq=2, updateFreq=2, write_steps_per_second=True)
    model = make()
    history = model.fit(X, Y, batch_size=8, epochs=2, validation_split=0.5, verbose=0, callbacks=board)
    train, val = events(tmp_path / "train"), events(tmp_path / "val")
    assert [train["epoch_loss", step] for step in (1, 2)] == pytest.approx(history["loss"], rel=1e-6)
    assert [val["epoch_mae", step] for step in (1, 2)] == pytest.approx(history["val_mae"], rel=1e-6)
    assert {step for tag, step in train if tag == "batch_loss"} == {2, 4, 6}
    assert {(tag, step) for (tag, step), value in train.items() if value is None} == {
        (weight.name, 2) for weight in model.weights
    }
    assert train["epoch_steps_per_second", 1] > 0
    assert {tag for tag, _ in val} == {"epoch_loss", "epoch_mae"}


def test_tensor_board_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'layerflow\[tensorboard\]'"):
        callbacks.TensorBoard()


def test_nothing_optional_is_imported():
    unwanted = ["pandas", "polars", "torch", "tensorboardX", "tqdm", "asyncio"]
    code = (
        "import sys, numpy as np, layerflow as lf\n"
        "m = lf.sequential([lf.layers.dense(units=1, input_shape=[2])]); m.compile(optimizer='sgd', loss='mse')\n"
        "m.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=lf.callbacks.EarlyStopping(monitor='loss'))\n"
        f"print([m for m in {unwanted!r} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# How they are given


HOOKS = [
    "begin",
    "epoch_begin",
    "batch_begin",
    "batch_end",
    "test_begin",
    "test_batch_end",
    "test_end",
    "epoch_end",
    "end",
]


def recorder(heard: list[str], camel: bool = False) -> dict[str, Any]:
    def note(name):
        return lambda *arguments: heard.append(" ".join([name, *(str(a) for a in arguments[:-1])]))

    if camel:
        return {"onEpochEnd": note("epoch"), "onTrainBatchEnd": note("batch")}
    names = {"begin": "on_train_begin", "end": "on_train_end"}
    return {names.get(name, f"on_{name}"): note(name) for name in HOOKS}


def test_order_of_events():
    """INVENTORY 4.3: the validation of an epoch comes before the event of its last batch."""
    heard: list[str] = []
    make().fit(X, Y, batch_size=16, epochs=2, verbose=0, validation_data=(X[:20], Y[:20]), callbacks=recorder(heard))
    batches = ["batch_begin 0", "batch_end 0", "batch_begin 1", "batch_end 1", "batch_begin 2"]
    test = ["test_begin", "test_batch_end 0", "test_batch_end 1", "test_end"]
    epochs = [[f"epoch_begin {n}", *batches, *test, "batch_end 2", f"epoch_end {n}"] for n in range(2)]
    assert heard == ["begin", *epochs[0], *epochs[1], "end"]


def test_hooks_of_evaluate_and_predict():
    heard: list[tuple[Any, ...]] = []

    class Recorder(lf.Callback):
        def on_test_begin(self, logs):
            heard.append(("begin",))

        def on_test_batch_end(self, batch, logs):
            heard.append(("batch", batch, logs["size"], round(logs["loss"], 3)))

        def on_test_end(self, logs):
            heard.append(("end", round(logs["loss"], 3)))

        def on_predict_batch_end(self, batch, logs):
            heard.append(("predicted", batch, logs["outputs"][0].shape))

    model = make(metrics=[])
    loss = model.evaluate(X, Y, callbacks=Recorder())
    first, last = model.evaluate(X[:32], Y[:32]), model.evaluate(X[32:], Y[32:])
    assert heard == [
        ("begin",),
        ("batch", 0, 32, round(first, 3)),
        ("batch", 1, 16, round(last, 3)),
        ("end", round(loss, 3)),
    ]
    heard.clear()
    model.predict(X, batch_size=40, callbacks=[Recorder()])
    assert heard == [("predicted", 0, (40, 1)), ("predicted", 1, (8, 1))]


def test_lambda_callback_dicts_and_camel_case():
    heard: list[str] = []
    own = callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: heard.append(f"lambda {epoch}"), onTrainEnd=None)
    make().fit(X, Y, verbose=0, batch_size=24, callbacks=[recorder(heard, camel=True), own])
    assert heard == ["lambda 0", "batch 0", "batch 1", "epoch 0"]


def test_batch_interval():
    """on_batch_end after every third batch, over all epochs; the logs are those of that batch."""
    heard, every = [], []

    class Third(lf.Callback):
        batch_interval = 3

        def on_batch_end(self, batch, logs):
            heard.append((self.training.epoch, batch, logs["batch"], logs["loss"]))

    make().fit(X, Y, batch_size=12, epochs=2, verbose=0, callbacks=Third())
    assert [entry[:3] for entry in heard] == [(0, 2, 2), (1, 1, 1)]
    note = {"on_batch_end": lambda batch, logs: every.append(logs["loss"])}
    make().fit(X, Y, batch_size=12, epochs=2, verbose=0, callbacks=note)
    assert [entry[3] for entry in heard] == [every[2], every[5]]


def test_factories_take_options_in_a_dict():
    stop = callbacks.early_stopping({"monitor": "val_loss", "minDelta": 0.5, "patience": 3})
    assert isinstance(stop, callbacks.EarlyStopping)
    assert (stop.monitor, stop.min_delta, stop.patience) == ("val_loss", 0.5, 3)
    assert callbacks.reduce_lr_on_plateau(factor=0.5).factor == 0.5


def test_registered_constructors():
    heard = []

    class Own(lf.Callback):
        def on_train_begin(self, logs):
            heard.append(self.params["verbose"])

    lf.callbacks.register_callback_constructor(2, Own)
    try:
        for verbose in (0, 1, 2):
            make().fit(X, Y, verbose=verbose)
        with pytest.raises(ArgumentError, match="registered already"):
            lf.callbacks.register_callback_constructor(1, Own)
    finally:
        lf.callbacks.clear_callback_constructors()
    assert heard == [2]


def test_coroutines_are_awaited_by_fit_async():
    order = []

    async def later(epoch, logs):
        await asyncio.sleep(0.01)
        order.append(epoch)

    async def run():
        await make().fit_async(X, Y, epochs=3, verbose=0, callbacks=[{"on_epoch_end": later}, Note()])

    class Note(lf.Callback):
        def on_epoch_end(self, epoch, logs):
            order.append(f"then {epoch}")

    asyncio.run(run())
    assert order == [0, "then 0", 1, "then 1", 2, "then 2"]
    with pytest.raises(TypeError, match=r"later is a coroutine function.*fit_async"):
        make().fit(X, Y, verbose=0, callbacks={"on_epoch_end": later})


@pytest.mark.parametrize(("every", "calls"), [("batch", 12), ("epoch", 2), (0, 12), (10_000_000, 0)])
def test_on_yield(every, calls):
    heard = []
    yields = {"onYield": lambda epoch, batch, logs: heard.append((epoch, batch, logs["loss"]))}
    make().fit(X, Y, epochs=2, batch_size=8, verbose=0, callbacks=yields, yieldEvery=every)
    assert len(heard) == calls or (every in ("batch", 0) and 2 <= len(heard) <= calls)
    with pytest.raises(ArgumentError, match='yield_every is "never"'):
        make().fit(X, Y, verbose=0, yield_every="never", callbacks=yields)


class Foreign:
    """A callback of another library."""


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (callbacks.EarlyStopping, TypeError, r"EarlyStopping is a class: make an object of it, EarlyStopping\(\)"),
        (["earlyStopping"], TypeError, "not the text 'earlyStopping'"),
        (print, TypeError, "builtin_function_or_method"),
        (recorder, TypeError, r'"on_epoch_end": recorder'),
        ([Foreign()], TypeError, r"not .*Foreign; derive the class from lf.Callback"),
        ({"on_epoch_ned": print}, UnknownNameError, "Did you mean 'on_epoch_end'"),
        ({"on_epoch_end": 3}, TypeError, '"on_epoch_end" must be a function, but is int'),
    ],
)
def test_wrong_callbacks_are_refused(given, error, message):
    for method in ("fit", "evaluate"):
        with pytest.raises(error, match=message):
            getattr(make(), method)(X, Y, verbose=0, callbacks=given)


@pytest.mark.parametrize(
    ("construct", "error", "message"),
    [
        (lambda: callbacks.EarlyStopping(patince=3), UnknownArgumentError, "EarlyStopping.*Did you mean 'patience'"),
        (lambda: callbacks.EarlyStopping(patience=-1), ArgumentError, "patience must be a whole number"),
        (lambda: callbacks.EarlyStopping(mode="larger"), ArgumentError, "mode must be one of auto, min, max"),
        (lambda: callbacks.EarlyStopping(min_delta="a"), ArgumentError, "min_delta must be a finite number"),
        (lambda: callbacks.EarlyStopping(monitor=3), ArgumentError, "monitor must be a name"),
        (lambda: callbacks.ModelCheckpoint(""), ArgumentError, "filepath is empty"),
        (
            lambda: callbacks.ModelCheckpoint("a", save_freq="batch"),
            ArgumentError,
            'save_freq must be "epoch" or a number',
        ),
        (lambda: callbacks.BackupAndRestore("a", save_freq=0), ArgumentError, "save_freq"),
        (lambda: callbacks.BackupAndRestore(""), ArgumentError, "backup_dir is empty"),
        (lambda: callbacks.ReduceLROnPlateau(factor=1.5), ArgumentError, "factor must be between 0 and 1"),
        (lambda: callbacks.LearningRateScheduler(0.1), ArgumentError, "schedule must be a function"),
        (lambda: callbacks.CSVLogger("a", separator=", "), ArgumentError, "separator must be one character"),
    ],
)
def test_wrong_arguments_of_callbacks(construct, error, message):
    with pytest.raises(error, match=message):
        construct()


def test_wrong_names_show_while_training(tmp_path):
    with pytest.raises(ArgumentError, match=r"names 'val_los', which the logs do not have. Did you mean 'val_loss'"):
        make().fit(
            X, Y, verbose=0, validation_split=0.5, callbacks=callbacks.ModelCheckpoint(str(tmp_path / "{val_los:.2f}"))
        )
    with pytest.raises(ArgumentError, match="schedule returned None for epoch 0"):
        make().fit(X, Y, verbose=0, callbacks=callbacks.LearningRateScheduler(lambda epoch: None))
