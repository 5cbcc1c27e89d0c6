"""Callbacks that write files of the training: ModelCheckpoint, BackupAndRestore."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from layerflow.callbacks.base import BuiltIn
from layerflow.callbacks.monitoring import Monitor, finite_number
from layerflow.callbacks.progress import say
from layerflow.errors import ArgumentError, LayerflowError, LoadError, nearest
from layerflow.io import states

EPOCH = "epoch"


class Frequent(BuiltIn):
    """Base of callbacks that do something after each epoch, or after every so many batches."""

    frequency: str | int = EPOCH

    def set_frequency(self, argument: str, value: Any, *words: str) -> None:
        """Settles when: "epoch", a number of batches, or one of `words` ("batch": after each).

        Raises:
            ArgumentError: something else.
        """
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not whole and value not in (EPOCH, *words):
            listed = ", ".join(f'"{word}"' for word in (EPOCH, *words))
            raise ArgumentError(
                f"{type(self).__name__}: {argument} must be {listed} or a number of batches, but is {value!r}."
            )
        self.frequency = value if value == EPOCH or whole else 1
        self.batch_interval = 1 if self.frequency == EPOCH else int(self.frequency)

    def hooks(self) -> dict[str, Callable[..., Any]]:
        found = super().hooks()
        if self.frequency == EPOCH:
            found.pop("on_batch_end", None)
        return found


class ModelCheckpoint(Frequent, Monitor):
    """Saves the model, or its weights, during training.

    Args:
        filepath: where to, as for `model.save`; `{epoch}` (from 1), `{batch}` and the names of the logs are filled in:
            `"run/{epoch:03d}-{val_loss:.3f}"`.
        monitor, mode: see `Monitor`; only for save_best_only.
        verbose: 1 says what is saved.
        save_best_only: only when the monitored value is better than ever.
        save_weights_only: `model.save_weights` in place of `model.save`.
        save_freq: "epoch", or after every so many batches; then the logs are those of the batch.
        initial_value_threshold: a value to get better than before anything is saved.

    Raises:
        ArgumentError: an impossible value; while training, a name in filepath that the logs do not have.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = EPOCH,
        initial_value_threshold: float | None = None,
    ):
        Monitor.__init__(self, monitor, mode)
        self.set_frequency("save_freq", save_freq)
        self.filepath = os.fspath(filepath)
        if not self.filepath:
            raise ArgumentError("ModelCheckpoint: filepath is empty.")
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        start = initial_value_threshold
        self.best = self.worst if start is None else finite_number("ModelCheckpoint", "initial_value_threshold", start)
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self._epoch = epoch

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        self._save({**logs, "batch": batch + 1})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self._epoch = epoch
        if self.frequency == EPOCH:
            self._save(logs)

    def _save(self, logs: Mapping[str, Any]) -> None:
        why = ""
        if self.save_best_only:
            value = self.watched(logs)
            if value is None or not self.better(value, self.best):
                return
            why = f" ({self.monitor} is {value:.4g})"
            self.best = value
        path = self._path(logs)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            say(f"Epoch {self._epoch + 1}: saved to {path}{why}")

    def _path(self, logs: Mapping[str, Any]) -> str:
        """The path with its names filled in, in either spelling of a metric."""
        names = set(re.findall(r"\{(\w+)", self.filepath)) - {"epoch"}
        values: dict[str, Any] = {"epoch": self._epoch + 1}
        for name in names:
            values[name] = logs.get(name)
            if values[name] is None:
                raise ArgumentError(
                    f'ModelCheckpoint: filepath "{self.filepath}" names {name!r}, which the logs do not have.'
                    f"{nearest(name, ['epoch', *logs])}"
                )
        return self.filepath.format(**values)

    def get_state(self) -> Mapping[str, Any]:
        return {"best": self.best}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]


class BackupAndRestore(Frequent):
    """Lets a training that was killed go on where it was, to the same bits.

    The backup holds all that decides what follows: weights, optimizer, random generators, position in the epoch and
    order of the data, history, and the state of the other callbacks.  `fit` with the same arguments in a new process
    goes on from it.  The file is replaced as a whole: at any moment there is a complete one.  Data that are a stream
    are read again from their beginning up to the position: they must give the same each time.

    Args:
        backup_dir: folder of the backup, for this training alone.
        save_freq: "epoch", or after every so many batches, counted over all epochs.
        delete_checkpoint: whether to delete the backup when training has come to its end.  It stays after Ctrl-C.

    Raises:
        ArgumentError: the backup is of another model or other data, when training begins.
    """

    saves_state = True
    FILE = "backup.npz"

    def __init__(
        self, backup_dir: str | os.PathLike[str], save_freq: str | int = EPOCH, delete_checkpoint: bool = True
    ):
        if not os.fspath(backup_dir):
            raise ArgumentError("BackupAndRestore: backup_dir is empty; name a folder for this training.")
        self.folder = Path(backup_dir)
        self.set_frequency("save_freq", save_freq)
        self.delete_checkpoint = bool(delete_checkpoint)

    @property
    def path(self) -> Path:
        """The file of the backup."""
        return self.folder / self.FILE

    def on_train_begin(self, logs: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f".{self.FILE}.*"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)
        if self.path.exists():
            remedy = f"Delete {self.path} to begin anew, or give this training another backup_dir."
            try:
                self.training.restore(states.read(self.path))
            except LoadError as error:
                raise LoadError(f"BackupAndRestore: {error}. {remedy}", error.category) from None
            except LayerflowError as error:
                raise ArgumentError(f"BackupAndRestore: {error} {remedy}") from None
            except (KeyError, TypeError, AttributeError, IndexError) as error:
                raise LoadError(
                    f"BackupAndRestore: {self.path} is no backup ({error!r}). {remedy}", "invalid_manifest"
                ) from error

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        self._save()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        if self.frequency == EPOCH:
            self._save()

    def on_train_end(self, logs: Mapping[str, Any]) -> None:
        if self.delete_checkpoint and not self.training.interrupted:
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else is in the folder
                self.folder.rmdir()

    def _save(self) -> None:
        states.write(self.path, self.training.state())
