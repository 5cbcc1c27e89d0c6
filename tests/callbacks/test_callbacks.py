"""The library's own callbacks."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ArgumentError
from tests.callbacks.network import X, Y, make

callbacks = lf.callbacks


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
