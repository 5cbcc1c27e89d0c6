"""The command line: demo, summary, dump, cache."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import layerflow as lf
from layerflow.callbacks import ProgressBar
from layerflow.inspect import STAGES, dump
from layerflow.jit import cache


class CommandError(Exception):
    """Something the user can put right: shown as one line, exit status 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 2 after an error, which is one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except BrokenPipeError:
        # `layerflow dump ... | head`: the reader has enough; at exit Python would complain about the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CommandError, OSError, ValueError, TypeError, RuntimeError, LookupError) as error:
        message = str(error) if not isinstance(error, KeyError) else str(error.args[0])
        print(f"layerflow: {' '.join(message.split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="layerflow", description="Train, look at and take apart layerflow models.")
    parser.add_argument("--version", action="version", version=f"layerflow {lf.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="train a convolutional network on 1,437 real digits, save it, load it again"
    )
    demo.add_argument("--epochs", type=_positive, default=20)
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument("--out", metavar="DIR", help="keep the saved model here (default: a temporary folder)")
    demo.set_defaults(run=_demo)

    model_help = "folder or model.json of a saved model, or module:attribute (a model, or a function that returns one)"
    summary = commands.add_parser("summary", help="print the layers of a model")
    summary.add_argument("model", metavar="MODEL", help=model_help)
    summary.set_defaults(run=_summary)

    dumping = commands.add_parser("dump", help="print a model at one stage of the compiler")
    dumping.add_argument("model", metavar="MODEL", help=model_help)
    dumping.add_argument("--stage", required=True, choices=STAGES)
    dumping.add_argument("--mode", choices=("train", "predict"), default="train")
    dumping.add_argument("--kernel", metavar="NAME", help="only this kernel (stages source, llvm, asm)")
    dumping.set_defaults(run=_dump)

    caching = commands.add_parser("cache", help="the folder of compiled code")
    caching.add_argument("action", choices=("info", "clear"))
    caching.set_defaults(run=_cache)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _demo(options: argparse.Namespace) -> None:
    lf.random.set_seed(options.seed)
    (x_train, y_train), (x_test, y_test) = lf.datasets.digits.load()
    x_train, x_test = (images[..., None].astype(np.float32) / 16 for images in (x_train, x_test))
    print(f"{len(x_train)} handwritten digits of 8 x 8 pixels to learn from, {len(x_test)} others to test with.")

    model = _digit_network()
    model.summary()
    model.compile(optimizer="adam", loss="sparseCategoricalCrossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    with _EpochBar(options.epochs) as bar:
        model.fit(x_train, y_train, epochs=options.epochs, verbose=0, callbacks={"on_epoch_end": bar})
    loss, accuracy = model.evaluate(x_test, y_test)
    print(f"{options.epochs} epochs in {time.perf_counter() - start:.1f} s, compiling included.")
    print(f"Test loss {loss:.4f}, test accuracy {accuracy:.4f}")
    if options.out:
        _save_and_reload(model, Path(options.out), x_test)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _save_and_reload(model, Path(folder) / "digits-model", x_test)


def _digit_network() -> Any:
    """The convolutional network of the guides, padded so that images of 8 x 8 pixels are large enough for it."""
    layers = lf.layers
    return lf.sequential(
        [
            layers.conv2d(filters=32, kernel_size=3, padding="same", activation="relu", input_shape=[8, 8, 1]),
            layers.conv2d(filters=32, kernel_size=3, padding="same", activation="relu"),
            layers.max_pooling2d(pool_size=2),
            layers.conv2d(filters=64, kernel_size=3, padding="same", activation="relu"),
            layers.conv2d(filters=64, kernel_size=3, padding="same", activation="relu"),
            layers.max_pooling2d(pool_size=2),
            layers.flatten(),
            layers.dropout(rate=0.25),
            layers.dense(units=128, activation="relu"),
            layers.dropout(rate=0.5),
            layers.dense(units=10, activation="softmax"),
        ]
    )


class _EpochBar:
    """One bar over all epochs: with epochs of a tenth of a second, one bar each would only scroll by."""

    def __init__(self, epochs: int):
        self._bar = ProgressBar(True, "Training", epochs, unit=" epochs")
        self._logs: Mapping[str, Any] = {}

    def __enter__(self) -> _EpochBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close(self._logs)

    def __call__(self, _epoch: int, logs: Mapping[str, Any]) -> None:
        self._logs = logs
        self._bar.advance(1, logs)


def _save_and_reload(model: Any, folder: Path, x_test: np.ndarray) -> None:
    model.save(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"Saved to {folder} ({', '.join(sorted(file.name for file in folder.iterdir()))}; {size / 1000:.0f} kB).")
    loaded = lf.load_layers_model(folder)
    if not np.array_equal(model.predict(x_test), loaded.predict(x_test)):
        raise CommandError("the reloaded model predicts something else; please report this.")
    print(f"Loaded it again: its predictions for the {len(x_test)} test digits are identical, bit for bit.")


def _summary(options: argparse.Namespace) -> None:
    _model(options.model).summary()


def _dump(options: argparse.Namespace) -> None:
    print(dump(_model(options.model), options.stage, mode=options.mode, kernel=options.kernel))


def _cache(options: argparse.Namespace) -> None:
    if options.action == "clear":
        print(f"Removed {cache.clear()} files.")
        return
    for name, value in cache.info().items():
        print(f"{name}: {value}")


def _model(place: str) -> Any:
    """The model that `place` names: a path, or module:attribute."""
    module, colon, attribute = place.partition(":")
    if os.path.exists(place) or not colon or not module.replace(".", "").isidentifier():
        if not os.path.exists(place):
            raise CommandError(f'there is no saved model at "{place}", and it is not of the form module:attribute.')
        return lf.load_layers_model(place)
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandError(f'cannot import "{module}" for {place}: {error}.') from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f'"{module}" has no "{part}", which {place} names.')
        found = getattr(found, part)
    model = found() if callable(found) and not hasattr(found, "layers") else found
    if not hasattr(model, "layers") or not hasattr(model, "summary"):
        raise CommandError(f"{place} is a {type(model).__name__}, not a model.")
    return model
