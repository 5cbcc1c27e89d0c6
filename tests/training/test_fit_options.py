"""The options of fit, evaluate and predict, and the kinds of data they take."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ArgumentError, DataError

X = np.random.default_rng(0).standard_normal((50, 4), np.float32)
LABELS = X[:, :3].argmax(axis=1)
Y = np.eye(3, dtype=np.float32)[LABELS]


def make(loss: str = "categoricalCrossentropy") -> Any:
    lf.random.set_seed(8)
    model = lf.sequential([lf.layers.dense(units=3, activation="softmax", input_shape=[4])])
    model.compile(optimizer=lf.train.adam(0.05), loss=loss, metrics=["accuracy"])
    return model


def equal(one: Any, other: Any) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


# Steps, epochs, validation


@pytest.mark.parametrize("events", [False, True])
def test_epochs_of_steps_go_on_where_the_last_one_ended(events):
    """50 rows of 10: epochs of 3 batches see batches 012, 340, 123."""
    sizes: list[float] = []
    note = {"on_batch_end": lambda batch, logs: sizes.append(logs["size"])} if events else None
    stepped, plain = make(), make()
    history = stepped.fit(X, Y, batch_size=10, steps_per_epoch=3, epochs=3, shuffle=False, verbose=0, callbacks=note)
    order = np.arange(90) % 50
    plain.fit(X[order], Y[order], batch_size=10, shuffle=False, verbose=0)
    equal(stepped, plain)
    assert len(history.epoch) == 3
    assert sizes == ([10] * 9 if events else [])


def test_more_steps_than_batches():
    model = make()
    model.fit(X, Y, batch_size=20, verbose=0, stepsPerEpoch=7)
    assert model.optimizer.iterations == 7


@pytest.mark.parametrize(
    ("frequency", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), ([1, 4], [1, 4]), ({5}, [5]), (9, [])]
)
def test_validation_freq(frequency, epochs):
    heard = []
    model = make()
    values = {"on_test_begin": lambda logs: heard.append(model.optimizer.iterations)}
    history = model.fit(
        X,
        Y,
        batch_size=50,
        epochs=5,
        verbose=0,
        validation_split=0.5,
        callbacks=values,
        validationFreq=frequency,
    )
    assert heard == epochs
    assert len(history.history.get("val_loss", [])) == len(epochs)
    assert len(history.history["loss"]) == 5


def test_validation_steps_and_batch_size():
    sizes: list[int] = []
    note = {"on_test_batch_end": lambda batch, logs: sizes.append(logs["size"])}
    model = make()
    history = model.fit(
        X, Y, verbose=0, epochs=2, validation_data=[X, Y], validation_steps=2, validation_batch_size=15, callbacks=note
    )
    assert sizes == [15, 15] * 2
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X[:30], Y[:30])[0], rel=1e-6)


def test_validation_with_weights():
    weights = np.linspace(0, 2, 50)
    model = make()
    history = model.fit(X, Y, verbose=0, validation_data=(X, Y, weights))
    assert history["val_loss"][0] == pytest.approx(model.evaluate(X, Y, sample_weight=weights)[0], rel=1e-6)


def test_fewer_validation_batches_than_steps_warns():
    with pytest.warns(UserWarning, match="validation_steps is 9, but the data hold 2 batches"):
        make().fit(X, Y, verbose=0, validation_data=(X, Y), validation_steps=9)


def test_validation_data_wins_over_the_split():
    history = make().fit(X, Y, verbose=0, validation_split=0.5, validation_data=(X, Y))
    other = make().fit(X, Y, verbose=0, validation_data=(X, Y))
    assert history.history == other.history


def test_stop_before_anything_of_the_next_epoch():
    model = make()

    def stop(epoch, logs):
        model.stop_training = True

    assert model.fit(X, Y, epochs=5, verbose=0, callbacks={"on_epoch_begin": stop}).epoch == [0]


def test_history_is_there_during_training():
    seen = []
    model = make()
    look = {"on_epoch_begin": lambda epoch, logs: seen.append(list(model.history.epoch) if model.history else None)}
    model.fit(X, Y, epochs=3, verbose=0, callbacks=look)
    assert seen == [[], [0], [0, 1]]


def test_params():
    seen: dict[str, Any] = {}
    begin = lf.Callback()
    begin.on_train_begin = lambda logs: seen.update(begin.params)  # type: ignore[method-assign]
    make().fit(X, Y, epochs=2, batch_size=8, verbose=0, validation_split=0.2, callbacks=begin)
    expected = {
        "epochs": 2, "initial_epoch": 0, "steps": 5, "samples": 40, "batch_size": 8, "verbose": 0,
        "do_validation": True, "metrics": ["loss", "acc"],
    }  # fmt: skip
    assert expected.items() <= seen.items()


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_one_by_one_on_several_threads(threads):
    """Enough work for two threads; batches of 64 and a last one of 22, epochs that go on within a pass."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((150, 256), np.float32), rng.standard_normal((150, 8), np.float32)
    weights = []
    lf.set_num_threads(threads)
    try:
        for callbacks in (None, {"on_batch_end": lambda batch, logs: None}):
            lf.random.set_seed(2)
            model = lf.sequential(
                [lf.layers.dense(units=256, activation="relu", input_shape=[256]), lf.layers.dense(units=8)]
            )
            model.compile(optimizer="adam", loss="mse")
            options = {"batch_size": 64, "epochs": 3, "verbose": 0, "callbacks": callbacks}
            model.fit(x, y, steps_per_epoch=4, **options)
            model.fit(x, y, shuffle=False, sample_weight=np.arange(150), **options)
            weights.append(model.get_weights())
    finally:
        lf.set_num_threads(None)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


# What is shown


@pytest.mark.parametrize("verbose", [1, "auto", True])
def test_a_bar(verbose, capsys):
    make().fit(X, Y, epochs=2, verbose=verbose, batch_size=10)
    shown = capsys.readouterr()
    assert "Epoch 2/2" in shown.err
    assert "acc=" in shown.err
    assert not shown.out


def test_a_line_an_epoch(capsys):
    make().fit(X, Y, epochs=2, verbose=2, validation_split=0.2)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    number = r"[\d.e-]+"
    pattern = rf"Epoch 2/2 - {number}m?s - loss: {number} - acc: {number} - val_loss: {number} - val_acc: {number}"
    assert len(lines) == 2
    assert re.fullmatch(pattern, lines[1])
    assert not shown.err


def test_prog_bar_logger_shows_the_bar(capsys):
    make().fit(X, Y, verbose=0, callbacks=lf.callbacks.ProgbarLogger())
    assert "Epoch 1/1" in capsys.readouterr().err


def test_bars_of_evaluate_and_predict(capsys):
    model = make()
    model.evaluate(X, Y, verbose=1)
    model.predict(X, verbose=1)
    shown = capsys.readouterr().err
    assert "Evaluate: 100%" in shown
    assert "Predict: 100%" in shown


# Sources of batches


def batches(size: int = 10):
    for first in range(0, 50, size):
        yield X[first : first + size], Y[first : first + size]


class Sequence:
    """As Keras's: batches by number; told of the end of each epoch."""

    ended = 0

    def __len__(self):
        return 5

    def __getitem__(self, at):
        return list(batches())[at]

    def on_epoch_end(self):
        self.ended += 1


class Loader:
    """As torch's DataLoader: an iterable with a length, whose batches are lists."""

    def __len__(self):
        return 5

    def __iter__(self):
        return (list(batch) for batch in batches())


def rows():
    return lf.data.zip({"xs": lf.data.array(X), "ys": lf.data.array(Y)})


SOURCES = {
    "function": lambda: batches,
    "sequence": Sequence,
    "loader": Loader,
    "dataset": lambda: rows().batch(10),
    "iterable": lambda: IterOnly(),
}


class IterOnly:
    def __iter__(self):
        return batches()


@pytest.mark.parametrize("kind", SOURCES)
def test_everything_that_gives_batches(kind):
    fitted, streamed = make(), make()
    expected = fitted.fit(X, Y, batch_size=10, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y))
    source = SOURCES[kind]()
    history = streamed.fit(source, epochs=3, verbose=0, validation_data=SOURCES[kind]())
    equal(fitted, streamed)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)
    np.testing.assert_allclose(streamed.evaluate(source), fitted.evaluate(X, Y), rtol=1e-5)
    np.testing.assert_allclose(streamed.predict(source), fitted.predict(X), rtol=1e-5)
    assert streamed.evaluate(source, steps=2) == pytest.approx(fitted.evaluate(X[:20], Y[:20]), rel=1e-5)
    assert streamed.predict(source, steps=2).shape == (20, 3)
    if kind == "sequence":
        assert source.ended == 3 + 2


def test_a_generator_is_read_once():
    fitted, streamed = make(), make()
    fitted.fit(X, Y, batch_size=10, shuffle=False, verbose=0)
    history = streamed.fit(batches(), verbose=0)
    equal(fitted, streamed)
    assert history.epoch == [0]
    endless = itertools.chain.from_iterable(batches() for _ in itertools.count())
    assert make().fit(endless, steps_per_epoch=4, epochs=3, verbose=0).epoch == [0, 1, 2]
    with pytest.warns(UserWarning, match=r"ended after 2 of the 3 batches.*steps_per_epoch \* epochs"):
        assert make().fit(batches(), steps_per_epoch=3, epochs=3, verbose=0).epoch == [0, 1]


def test_what_has_a_length_begins_anew_within_steps():
    """As in Keras: 5 batches, epochs of 4."""
    model = make()
    assert model.fit(Loader(), steps_per_epoch=4, epochs=3, verbose=0).epoch == [0, 1, 2]
    assert model.optimizer.iterations == 12


def test_torch_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=10)
    fitted, streamed = make(), make()
    fitted.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    streamed.fit(loader, epochs=2, verbose=0)
    equal(fitted, streamed)


class Tensor:
    """A tensor as torch has them, with a gradient: np.asarray refuses it."""

    def __init__(self, array):
        self.array = array

    def __array__(self, *arguments, **options):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def __len__(self):
        return len(self.array)

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return self.array


def test_tensors_of_torch():
    one, other = make(), make()
    one.fit(X, Y, shuffle=False, verbose=0)
    other.fit(Tensor(X), Tensor(Y), shuffle=False, verbose=0)
    equal(one, other)


def test_inputs_by_name_from_a_stream():
    a, b = lf.input(shape=[2], name="a"), lf.input(shape=[2], name="b")
    model = lf.model(inputs=[a, b], outputs=lf.layers.dense(units=3).apply(lf.layers.concatenate().apply([a, b])))
    model.compile(optimizer="sgd", loss="mse")
    parts = {"a": X[:, :2], "b": X[:, 2:]}
    model.fit([(parts, Y)].__iter__(), verbose=0)
    expected = model.predict(parts)
    for element in (parts, {"xs": parts, "ys": Y}, (parts, Y), [X[:, :2], X[:, 2:]], ([X[:, :2], X[:, 2:]],)):
        np.testing.assert_array_equal(model.predict(iter([element])), expected)


# Frames


def frames():
    """Functions that make a frame of columns; of the packages that are there."""
    return [pytest.param(name, id=name) for name in ("pandas", "polars")]


@pytest.mark.parametrize("package", frames())
def test_frames(package):
    module = pytest.importorskip(package, reason="needs the extra `frames`")
    frame = module.DataFrame({f"feature {i}": X[:, i] for i in range(4)})
    labels = module.Series("label", LABELS) if package == "polars" else module.Series(LABELS, name="label")
    one_hot = module.DataFrame({f"class {i}": Y[:, i] for i in range(3)})
    for y, given in ((LABELS, labels), (LABELS, labels.to_frame()), (Y, one_hot)):
        loss = "categoricalCrossentropy" if y.ndim == 2 else "sparseCategoricalCrossentropy"
        arrays, framed = make(loss), make(loss)
        arrays.fit(X, y, shuffle=False, verbose=0, validation_data=(X, y))
        framed.fit(frame, given, shuffle=False, verbose=0, validation_data=(frame, given))
        equal(arrays, framed)
        assert framed.evaluate(frame, given) == pytest.approx(arrays.evaluate(X, y))
        np.testing.assert_array_equal(framed.predict(frame), arrays.predict(X))
        assert framed.train_on_batch(frame, given) == pytest.approx(arrays.train_on_batch(X, y))


@pytest.mark.parametrize("package", frames())
def test_columns_by_the_names_of_inputs(package):
    module = pytest.importorskip(package, reason="needs the extra `frames`")
    inputs = [lf.input(shape=[1], name=name) for name in ("age", "size")]
    model = lf.model(inputs=inputs, outputs=lf.layers.concatenate().apply(inputs))
    frame = module.DataFrame({"size": [3.0, 4.0], "other": ["a", "b"], "age": [1, 2]})
    assert model.predict(frame).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("package", frames())
def test_frames_that_are_refused(package):
    module = pytest.importorskip(package, reason="needs the extra `frames`")
    good = {"a": X[:, 0], "b": X[:, 1], "c": [True, False] * 25}
    text = module.DataFrame({**good, "name": ["x"] * 50})
    with pytest.raises(DataError, match=r"columns that hold no numbers: name. Leave them out, or encode"):
        make().fit(text, Y, verbose=0)
    missing = module.DataFrame({**good, "age": [None, *range(49)]})
    with pytest.raises(DataError, match=r"missing values \(NaN\) in the columns age"):
        make().fit(missing, Y, verbose=0)
    if package == "pandas":
        nullable = module.DataFrame({**good, "age": module.array([None, *range(49)], dtype="Int64")})
        with pytest.raises(DataError, match=r"missing values \(NaN\) in the columns age"):
            make().fit(nullable, Y, verbose=0)


# Single batches


def test_results_of_single_batches_by_name():
    model = make()
    assert model.test_on_batch(X, Y, return_dict=True) == dict(
        zip(["loss", "acc"], model.test_on_batch(X, Y), strict=True)
    )
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss", "acc"}


@pytest.mark.parametrize("batch_size", [None, 7])
def test_predict_some_steps(batch_size):
    model = make()
    expected = model.predict(X)[: 2 * (batch_size or 32)]
    np.testing.assert_allclose(model.predict(X, batch_size=batch_size, steps=2), expected, rtol=1e-6)


# Async


def test_cancelling_ends_the_thread_first():
    model = make()
    heard: list[str] = []

    async def run():
        task = asyncio.create_task(
            model.fit_async(X, Y, epochs=10**6, verbose=0, callbacks={"on_train_end": lambda logs: heard.append("end")})
        )
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        heard.append("cancelled")

    asyncio.run(run())
    assert heard == ["end", "cancelled"]
    assert model.history is not None
    assert model.history.interrupted
    assert model.fit(X, Y, verbose=0).epoch == [0]


def test_fit_dataset_async():
    history = asyncio.run(make().fit_dataset_async(rows().batch(10), epochs=2, verbose=0))
    assert history.epoch == [0, 1]


# Misuse


def changing():
    yield X[:10], Y[:10]
    yield X[:10, :3], Y[:10]


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (X, {"y": Y, "validation_split": 1.0}, DataError, "validation_split=1.0 of 50 examples leaves 0"),
        (X, {"y": Y, "validation_split": -0.5}, DataError, "validation_split=-0.5"),
        (X, {"y": Y, "validation_steps": 3}, ArgumentError, "validation_steps is 3.*give validation_data"),
        (X, {"y": Y, "validation_data": X}, DataError, r"validation_data must be \(x, y\).*ndarray"),
        (X, {"y": Y, "validation_freq": 0}, ArgumentError, "validation_freq must be a whole number of epochs"),
        (X, {"y": Y, "validation_freq": "all"}, ArgumentError, "validation_freq"),
        (X, {"y": Y, "steps_per_epoch": 0}, ArgumentError, "steps_per_epoch must be a whole number"),
        (X, {"y": Y, "steps_per_epoch": 2.5}, ArgumentError, "steps_per_epoch"),
        (X, {"y": Y, "batch_size": 0}, ArgumentError, "batch_size must be"),
        (X, {"y": Y, "epochs": 1.5}, ArgumentError, "epochs must be"),
        (X, {"y": Y, "shuffle": "batch"}, ArgumentError, "shuffle must be True or False, but is 'batch'"),
        (X, {"y": Y, "verbose": 3}, ArgumentError, "verbose must be 0"),
        (X, {"y": Y, "yield_every": "often"}, ArgumentError, "yield_every must be"),
        (X, {"y": Y, "step_per_epoch": 3}, lf.errors.UnknownArgumentError, "Did you mean 'steps_per_epoch'"),
        (X, {}, DataError, "y is missing"),
        (None, {}, DataError, "x is missing"),
        (batches, {"y": Y}, ArgumentError, "y cannot be given where x gives batches; its elements hold the labels"),
        (batches, {"batch_size": 3}, ArgumentError, "batch_size cannot be given.*its elements are the batches"),
        (batches, {"validation_split": 0.5}, ArgumentError, "validation_split cannot.*give validation_data"),
        (batches, {"sample_weight": Y}, ArgumentError, r"sample_weight cannot.*\(x, y, sample_weight\)"),
        (lambda: 3, {}, ArgumentError, "must return an iterator, but returned int"),
        (lambda: iter([]), {}, DataError, "gave no batch"),
        (lambda: iter([X]), {}, DataError, r"an element must be .* but is a ndarray"),
        (changing, {}, DataError, r"x has shape \[10, 3\].*Batch 1 of the dataset"),
        (lambda: iter([(X, LABELS)]), {}, DataError, r"np.eye\(3\)\[y\].*Batch 0"),
    ],
)
def test_misuse_of_fit(x, options, error, message):
    model = make()
    with pytest.raises(error, match=f"(?s){message}"):
        model.fit(x, verbose=options.pop("verbose", 0), **options)
    model.fit(X, Y, verbose=0)  # and it can be trained afterwards


def test_iterators_that_are_used_up():
    with pytest.raises(ArgumentError, match=r"generator can be read only once.* 2 epochs.*steps_per_epoch"):
        make().fit(batches(), epochs=2, verbose=0)
    with pytest.raises(ArgumentError, match="infinite; say with steps_per_epoch"):
        make().fit(rows().batch(5).repeat(), verbose=0)
    with pytest.raises(ArgumentError, match="infinite; say with validation_steps"):
        make().fit(X, Y, validation_data=rows().batch(5).repeat(), verbose=0)
    with pytest.raises(ArgumentError, match="infinite; say with steps"):
        make().predict(rows().batch(5).repeat())
    with pytest.raises(DataError, match="the dataset to predict is empty"):
        make().predict(iter([]))
    with pytest.raises(DataError, match="the dataset to measure with is empty"):
        make().evaluate(iter([]))


def test_labels_out_of_range_name_the_batch():
    model = make("sparseCategoricalCrossentropy")
    with pytest.raises(DataError, match=r"y holds the label 3.*from 0 to 2.*Batch 1"):
        model.fit(lambda: iter([(X, LABELS), (X, LABELS + 1)]), verbose=0)
    assert math.isfinite(model.evaluate(X, LABELS)[0])
