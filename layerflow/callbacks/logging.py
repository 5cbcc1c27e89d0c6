"""Callbacks that keep the values of a training: CSVLogger, TensorBoard."""

from __future__ import annotations

import csv
import importlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerflow.callbacks.base import BuiltIn
from layerflow.callbacks.saving import EPOCH, Frequent
from layerflow.errors import ArgumentError
from layerflow.registry import whole


class CSVLogger(BuiltIn):
    """Writes the values of each epoch as a line of a CSV file: `epoch`, then the names of the history.

    The columns are settled by the first epoch: all metrics, those of validation too, and what other callbacks added to
    the logs.  A value that an epoch does not have is left empty.

    Args:
        filename: the file; folders on the way are made.
        separator: one character.
        append: go on with an existing file; otherwise it is written anew.

    Raises:
        ArgumentError: an impossible separator.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False):
        if not isinstance(separator, str) or len(separator) != 1:
            raise ArgumentError(f"CSVLogger: separator must be one character, but is {separator!r}.")
        self.path, self.separator, self.append = Path(filename), separator, bool(append)
        self._columns: list[str] = []
        self._size: int | None = None  # bytes written by this training; None: nothing yet

    def on_train_begin(self, logs: Mapping[str, Any]) -> None:
        self._columns, self._size = [], None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        # Opened for each line: a training that fails leaves no file open.  And not earlier: one that is resumed must
        # not have emptied the file before it knows that it goes on.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        goes_on = self._size is not None or self.append
        with open(self.path, "a" if goes_on else "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if not self._columns:
                self._columns = self._names(logs)
            if file.tell() == 0:
                writer.writerow(["epoch", *self._columns])
            writer.writerow([epoch, *(logs.get(name, "") for name in self._columns)])
            self._size = file.tell()

    def _names(self, logs: Mapping[str, Any]) -> list[str]:
        names = list(self.params.get("metrics", ()))
        validation = [f"val_{name}" for name in names] if self.params.get("do_validation") else []
        return [*names, *validation, *(name for name in logs if name not in {*names, *validation})]

    def get_state(self) -> Mapping[str, Any]:
        return {"size": self._size, "columns": self._columns}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._size, self._columns = state["size"], list(state["columns"])
        if self._size is not None and self.path.exists():  # lines of epochs that will be trained again
            os.truncate(self.path, min(self._size, self.path.stat().st_size))


class TensorBoard(Frequent):
    """Writes event files for TensorBoard; needs the extra `layerflow[tensorboard]`.

    `epoch_<name>` at step epoch + 1, `batch_<name>` at the number of batches so far, in the folders `train` and `val`
    of `log_dir`; histograms of the weights by their names in `train`.

    Args:
        log_dir: the folder; give each run its own to compare them.
        histogram_freq: histograms of all weights after every so many epochs; 0: none.
        update_freq: "epoch", "batch", or values of a batch after every so many batches.
        write_steps_per_second: also `epoch_steps_per_second`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
        ArgumentError: an impossible value of an argument.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        update_freq: str | int = EPOCH,
        write_steps_per_second: bool = False,
    ):
        self.set_frequency("update_freq", update_freq, "batch")
        self.log_dir = Path(log_dir)
        self.histogram_freq = whole("TensorBoard: histogram_freq", histogram_freq)
        self.write_steps_per_second = bool(write_steps_per_second)
        self._writer_class = _writer_class()
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Mapping[str, Any]) -> None:
        self._writers = {}
        self._begun = (time.perf_counter(), 0)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self._begun = (time.perf_counter(), self.training.batches)

    def on_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        for name, value in logs.items():
            if name not in ("batch", "size"):
                self._writer("train").add_scalar(f"batch_{name}", value, self.training.batches)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> None:
        values = dict(logs)
        if self.write_steps_per_second:
            since, batches = self._begun
            values["steps_per_second"] = (self.training.batches - batches) / max(time.perf_counter() - since, 1e-9)
        for name, value in values.items():
            folder = "val" if name.startswith("val_") else "train"
            self._writer(folder).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch + 1)
        if self.histogram_freq and (epoch + 1) % self.histogram_freq == 0:
            for weight in self.model.weights:
                self._writer("train").add_histogram(weight.name, weight.numpy(), epoch + 1)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Mapping[str, Any]) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            self._writers[folder] = self._writer_class(str(self.log_dir / folder))
        return self._writers[folder]


def _writer_class() -> Any:
    try:
        # Not at the top: it is an extra, and it loads protobuf.
        return importlib.import_module("tensorboardX").SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"TensorBoard needs the package {error.name}, which is not installed: pip install 'layerflow[tensorboard]'."
        ) from None
