"""A training that may be killed at any moment and started again: `python interrupted.py KIND FOLDER RESULT`.

Says "training" when it begins, and writes what came out of it to RESULT.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import layerflow as lf
from layerflow.io import states

ROWS, BATCH, EPOCHS = 210, 10, 6


class Slow(lf.Callback):
    """Spreads the training over time, so that a kill can fall anywhere."""

    def __init__(self, seconds: float, batch_interval: int):
        self.seconds, self.batch_interval = seconds, batch_interval

    def on_train_begin(self, logs):
        if self.seconds:
            print("training", flush=True)

    def on_batch_end(self, batch, logs):
        time.sleep(self.seconds)


class Moody(lf.Callback):
    """Draws from the generator that orders the data and moves the learning rate, where a resumed epoch begins anew."""

    def on_epoch_begin(self, epoch, logs):
        self.model.optimizer.learning_rate *= 1 + 0.01 * lf.random.generator().random()

    def on_epoch_end(self, epoch, logs):
        if epoch == 2:
            self.model.layers[0].trainable = False


def data():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, 6), np.float32)
    return x, (x[:, :2].sum(1) > 0).astype(np.int64)


def stream(x, y, seed):
    rows = lf.data.zip({"xs": lf.data.array(x), "ys": lf.data.array(y)})
    return rows.shuffle(50, seed=seed).batch(BATCH)


def make():
    lf.reset_names()  # as in a new process: masks of dropout depend on the name of the layer
    lf.random.set_seed(7)
    model = lf.sequential(
        [
            lf.layers.dense(units=8, activation="relu", input_shape=[6]),
            lf.layers.batch_normalization(),
            lf.layers.dropout(rate=0.3),
            lf.layers.dense(units=2, activation="softmax"),
        ]
    )
    model.compile(optimizer=lf.train.adam(0.02), loss="sparseCategoricalCrossentropy", metrics=["accuracy"])
    return model


def train(kind: str, folder: Path, pause: float = 0.002):
    model, (x, y) = make(), data()
    # Interval 1: every batch has its events; 3: native runs between backups.
    interval = 1 if kind == "events" else 3
    backup = lf.callbacks.BackupAndRestore(folder / "backup", save_freq="epoch" if kind == "epochs" else 3)
    callbacks = [
        backup,  # first, and still it saves what the others have become
        Slow(pause * interval, interval),
        Moody(),
        lf.callbacks.EarlyStopping(monitor="val_loss", patience=50, restore_best_weights=True),
        lf.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, factor=0.5, min_delta=0.01),
        lf.callbacks.CSVLogger(folder / "log.csv"),
    ]
    options = {"epochs": EPOCHS, "verbose": 0, "callbacks": callbacks}
    if kind == "stream":
        history = model.fit(stream(x[:160], y[:160], 3), validation_data=stream(x[160:], y[160:], None), **options)
    elif kind == "one stream":
        endless = stream(x[:160], y[:160], 3).repeat()
        history = model.fit_dataset(endless, batches_per_epoch=11, validation_data=(x[160:], y[160:]), **options)
    else:
        steps = {"steps_per_epoch": 13} if kind == "steps" else {}
        history = model.fit(x, y, batch_size=BATCH, validation_split=0.25, **steps, **options)
    assert not backup.path.exists()
    return model, history


if __name__ == "__main__":
    kind, folder, result = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model, history = train(kind, folder)
    states.write(
        result,
        {
            "weights": model.get_weights(),
            "optimizer": model.optimizer.get_weights(model.weights),
            "history": dict(history.history),
            "epochs": history.epoch,
            "rate": model.optimizer.learning_rate,
            "log": (folder / "log.csv").read_text(),
            "next": float(lf.random.generator().random()),
        },
    )
