"""BackupAndRestore: a training that is killed at any moment goes on to the same bits."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ArgumentError, LoadError
from layerflow.io import states
from tests.callbacks import interrupted

PROGRAM = Path(__file__).with_name("interrupted.py")
KINDS = ["events", "runs", "epochs", "steps", "stream", "one stream"]
SECONDS = 0.35  # a kill falls within this time after the training began


def run(kind: str, folder: Path, after: float | None = None) -> bool:
    """Runs the program, with `after` killed so many seconds after its training began; whether it got to its end."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "error", str(PROGRAM), kind, str(folder), str(folder / "result.npz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "training\n"
        if after is not None:
            time.sleep(after)
            child.kill()
    assert after is not None or child.returncode == 0
    return child.returncode == 0


def same(one: object, other: object) -> bool:
    """Equal to the bit, arrays inside too."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def check_killed(kind: str, folder: Path, kills: int, seed: int) -> int:
    """Kills and resumes; the result is that of an undisturbed run.  Returns how many kills hit a running training."""
    run(kind, folder / "whole")
    expected = states.read(folder / "whole" / "result.npz")
    draw, hits, attempt = random.Random(seed), 0, 0
    while hits < kills:
        place = folder / f"killed{attempt}"
        attempt += 1
        ended = False
        while hits < kills and not ended:
            ended = run(kind, place, draw.uniform(0, SECONDS))
            hits += not ended
        if not ended:
            run(kind, place)
        found = states.read(place / "result.npz")
        for name, value in expected.items():
            assert same(value, found[name]), f"{name}: {value} became {found[name]}"
    return hits


@pytest.mark.parametrize("kind", ["events", "runs", "stream"])
def test_a_killed_training_goes_on_to_the_same_bits(kind, tmp_path):
    assert check_killed(kind, tmp_path, 2, seed=KINDS.index(kind)) == 2


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills(kind, tmp_path):
    assert check_killed(kind, tmp_path, 50, seed=100 + KINDS.index(kind)) == 50


class Crash(lf.Callback):
    """Ends the training by an error after so many batches of this process."""

    def __init__(self, after: int):
        self.left = after

    def on_batch_end(self, batch, logs):
        self.left -= 1
        if self.left == 0:
            raise MemoryError


@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_may_be_the_last(kind, tmp_path, monkeypatch):
    """In one process: the training fails every few batches, until it gets through."""
    model, history = interrupted.train(kind, tmp_path / "whole", 0)
    plain, after = lf.callbacks.CallbackList, 1

    def failing(callbacks, *rest):
        return plain([*callbacks, Crash(after)] if isinstance(callbacks, list) else callbacks, *rest)

    monkeypatch.setattr("layerflow.models.fitting.CallbackList", failing)
    for after in itertools.count(20):  # noqa: B007 (read by `failing`)
        try:
            again, other = interrupted.train(kind, tmp_path / "failing", 0)
            break
        except MemoryError:
            assert kind == "epochs" or (tmp_path / "failing" / "backup" / "backup.npz").exists()
    assert after > 21
    assert same(again.get_weights(), model.get_weights())
    assert same(again.optimizer.get_weights(again.weights), model.optimizer.get_weights(model.weights))
    assert other.history == history.history
    assert other.epoch == history.epoch
    assert (tmp_path / "failing/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()


X = np.random.default_rng(0).standard_normal((40, 4), np.float32)
Y = X[:, :1]


def small(units: int = 3, optimizer: str = "adam"):
    model = lf.sequential([lf.layers.dense(units=units, input_shape=[4]), lf.layers.dense(units=1)])
    model.compile(optimizer=optimizer, loss="mse")
    return model


def left_over(folder: Path, **options) -> lf.callbacks.BackupAndRestore:
    """A backup as a training that failed leaves it."""
    callbacks = [lf.callbacks.BackupAndRestore(folder, 1), Crash(2)]
    with pytest.raises(MemoryError):
        small().fit(X, Y, verbose=0, epochs=3, callbacks=callbacks, **options)
    return lf.callbacks.BackupAndRestore(folder)


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (lambda: small(units=5), (X, Y), {}, r"weights of shapes \[\[4, 3\]"),
        (lambda: small(optimizer="sgd"), (X, Y), {}, "optimizer Adam, not SGD"),
        (small, (X[:30], Y[:30]), {}, "rows=40, batch_size=32, these data have rows=30"),
        (small, (X, Y), {"batch_size": 8}, "these data have rows=40, batch_size=8"),
    ],
)
def test_backups_of_another_training_are_refused(model, data, options, message, tmp_path):
    backup, made = left_over(tmp_path / "b"), model()
    before = made.get_weights()
    with pytest.raises(ArgumentError, match=f"(?s){message}.*Delete .*backup.npz"):
        made.fit(*data, verbose=0, epochs=3, callbacks=backup, **options)
    assert same(made.get_weights(), before)
    assert made.optimizer.iterations == 0


@pytest.mark.parametrize("damage", [lambda raw: raw[:100], lambda raw: b"", lambda raw: raw[:500] + b"!" + raw[501:]])
def test_damaged_backups_are_refused(damage, tmp_path):
    backup = left_over(tmp_path / "b")
    backup.path.write_bytes(damage(backup.path.read_bytes()))
    with pytest.raises(LoadError, match=r"damaged.*Delete"):
        small().fit(X, Y, verbose=0, callbacks=backup)


def test_other_archives_are_refused(tmp_path):
    (tmp_path / "b").mkdir()
    states.write(tmp_path / "b/backup.npz", {"layerflow_training": 1, "feed": {}})
    with pytest.raises(LoadError, match="no backup"):
        small().fit(X, Y, verbose=0, callbacks=lf.callbacks.BackupAndRestore(tmp_path / "b"))


@pytest.mark.parametrize("delete", [True, False])
def test_the_backup_goes_when_training_has_ended(delete, tmp_path):
    backup = lf.callbacks.BackupAndRestore(tmp_path / "new/b", deleteCheckpoint=delete)
    small().fit(X, Y, verbose=0, callbacks=backup)
    assert backup.path.exists() is not delete
    assert backup.folder.exists() is not delete
    more = small()
    more.fit(X, Y, verbose=0, epochs=2, callbacks=backup)
    assert more.optimizer.iterations == 4, "one more epoch, or both"


def test_ctrl_c_keeps_the_backup(tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    backup = lf.callbacks.BackupAndRestore(tmp_path / "b")
    history = small().fit(X, Y, verbose=0, epochs=5, callbacks=[{"on_epoch_begin": interrupt}, backup])
    assert history.interrupted
    resumed = small().fit(X, Y, verbose=0, epochs=5, callbacks=[backup])
    assert resumed.epoch == [0, 1, 2, 3, 4]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    backup = lf.callbacks.BackupAndRestore(tmp_path / "b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/.backup.npz.0123").write_bytes(b"half")
    small().fit(X, Y, verbose=0, callbacks=backup)
    assert not list(tmp_path.glob("b/.*"))


def test_a_stopped_training_stays_stopped(tmp_path):
    """Killed between the event that stopped it and its end."""

    class Kill(lf.Callback):
        def on_train_end(self, logs):
            raise MemoryError

    def stop(epoch, logs):
        model.stop_training = epoch == 1

    backup = lf.callbacks.BackupAndRestore(tmp_path / "b")
    model = small()
    with pytest.raises(MemoryError):
        model.fit(X, Y, verbose=0, epochs=5, callbacks=[{"on_epoch_end": stop}, Kill(), backup])
    model = small()
    assert model.fit(X, Y, verbose=0, epochs=5, callbacks=backup).epoch == [0, 1]


def test_own_callbacks_keep_their_state(tmp_path):
    class Counting(lf.Callback):
        count = 0

        def on_batch_end(self, batch, logs):
            self.count += 1

        def get_state(self):
            return {"count": self.count, "sums": np.arange(3.0)}

        def set_state(self, state):
            assert state["sums"].tolist() == [0, 1, 2]
            self.count = state["count"]

    first, second = Counting(), Counting()
    backup = lf.callbacks.BackupAndRestore(tmp_path / "b", save_freq=1)
    with pytest.raises(MemoryError):
        small().fit(X, Y, verbose=0, epochs=3, callbacks=[first, backup, Crash(3)])
    small().fit(X, Y, verbose=0, epochs=3, callbacks=[second, backup])
    assert second.count == 6


def test_states_that_cannot_be_written_are_named(tmp_path):
    class Odd(lf.Callback):
        def get_state(self):
            return {"model": self.model}

    with pytest.raises(lf.errors.SaveError, match=r"state\['callbacks'\].*'model'.* is a Sequential"):
        small().fit(X, Y, verbose=0, callbacks=[Odd(), lf.callbacks.BackupAndRestore(tmp_path / "b")])
    assert not (tmp_path / "b/backup.npz").exists()
