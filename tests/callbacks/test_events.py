"""How callbacks are given to fit, evaluate and predict, and what they are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import layerflow as lf
from layerflow.errors import ArgumentError, UnknownArgumentError, UnknownNameError
from tests.callbacks.network import X, Y, make

callbacks = lf.callbacks


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
