"""Batches of rows of arrays, which the native step gathers, train as the same batches made in Python do."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.models.feeds import StreamFeed
from layerflow.models.row_feed import RowFeed

data: Any = lf.data
RNG = np.random.default_rng(3)
X = RNG.standard_normal((50, 4), np.float32)
LABELS = X[:, :3].argmax(axis=1)
Y = np.eye(3, dtype=np.float32)[LABELS]


def model() -> Any:
    lf.random.set_seed(8)
    made = lf.sequential([lf.layers.dense(units=3, activation="softmax", input_shape=[4])])
    made.compile(optimizer=lf.train.adam(0.05), loss="categoricalCrossentropy", metrics=["accuracy"])
    return made


@pytest.fixture
def feeds(monkeypatch):
    """The classes of the feeds that trainings use."""
    used = []
    for kind in (RowFeed, StreamFeed):
        begin = kind.__dict__["_begin_elements"]

        def spy(self, begin=begin):
            used.append(type(self).__name__)
            begin(self)

        monkeypatch.setattr(kind, "_begin_elements", spy)
    return used


def rows(x: Any = X, y: Any = Y) -> Any:
    return data.array({"xs": x, "ys": y})


CHAINS: dict[str, Any] = {
    "in order": lambda d: d.batch(16),
    "one batch": lambda d: d.repeat(2).batch(64),
    "no small last batch": lambda d: d.batch(16, small_last_batch=False),
    "shuffled": lambda d: d.shuffle(50, seed=1).batch(16),
    "window": lambda d: d.shuffle(7, seed=1).batch(16),
    "part": lambda d: d.skip(3).take(40).batch(7),
    "repeated": lambda d: d.shuffle(50, seed=2).repeat(3).batch(16),
    "in order, repeated": lambda d: d.repeat(2).batch(16),
    "zip": lambda d: data.zip((data.array(X), data.array(Y))).shuffle(50, seed=1).batch(16),
    "weights": lambda d: data.zip((data.array(X), data.array(Y), data.array(np.linspace(0, 1, 50)))).batch(16),
    "prefetch": lambda d: d.shuffle(50, seed=1).batch(16).prefetch(2),
    "concatenated": lambda d: d.concatenate(d.take(9)).batch(16),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("options", [{}, {"batches_per_epoch": 1}, {"callbacks": {"on_batch_end": print}}], ids=str)
def test_equals_batches_made_in_python(name, options, feeds, capsys):
    made = []
    for change in (lambda d: d, lambda d: d.map(lambda e: e)):
        trained = model()
        dataset = change(CHAINS[name](rows()))
        history = trained.fit_dataset(dataset, epochs=2, verbose=0, **options)
        found = trained.evaluate_dataset(change(CHAINS[name](rows())))
        made.append((trained.get_weights(), history.history, found))
    assert set(feeds[: len(feeds) // 2]) == {"RowFeed"}
    assert set(feeds[len(feeds) // 2 :]) == {"StreamFeed"}
    for one, other in zip(made[0][0], made[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    for key, values in made[1][1].items():
        np.testing.assert_allclose(made[0][1][key], values, rtol=1e-5)
    np.testing.assert_allclose(made[0][2], made[1][2], rtol=1e-5)


def test_validation_and_events_of_batches(feeds):
    heard: list[list[Any]] = [[], []]
    for log, change in zip(heard, (lambda d: d, lambda d: d.map(lambda e: e)), strict=True):
        model().fit_dataset(
            change(rows().batch(16)),
            epochs=2,
            verbose=0,
            validation_data=change(rows(X[:20], Y[:20]).batch(8)),
            callbacks={
                "on_batch_end": lambda batch, logs, log=log: log.append((batch, logs["size"], logs["loss"])),
                "on_epoch_end": lambda epoch, logs, log=log: log.append((epoch, logs["val_acc"], logs["val_loss"])),
            },
        )
    np.testing.assert_allclose(heard[0], heard[1], rtol=1e-5)
    assert [size for _, size, _ in heard[0][:4]] == [16, 16, 16, 2]


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, bool])
def test_other_types(dtype, feeds):
    x = (X > 0).astype(dtype)
    one, other = model(), model()
    one.fit_dataset(rows(x).shuffle(50, seed=0).batch(16), verbose=0)
    other.fit_dataset(rows(x).shuffle(50, seed=0).batch(16).map(lambda e: e), verbose=0)
    assert feeds == ["RowFeed", "StreamFeed"]
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_files_in_memory_are_read_batch_by_batch(feeds, tmp_path):
    """Checking a memmap as a whole would read it twice, and might not fit in memory."""
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    one, other = model(), model()
    one.fit_dataset(rows(x).batch(16), verbose=0)
    other.fit_dataset(rows().batch(16), verbose=0)
    assert feeds == ["StreamFeed", "RowFeed"]
    np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], rtol=1e-5)


def test_nan_in_rows():
    """In rows that nobody reads they do not matter; else the batch that holds them is named."""
    x = X.copy()
    x[45] = np.nan
    model().fit_dataset(rows(x).take(40).batch(16), verbose=0)
    with pytest.raises(lf.errors.DataError, match=r"NaN.*Batch 2 of the dataset"):
        model().fit_dataset(rows(x).batch(16), verbose=0)


def test_many_batches_run_in_one_native_call(monkeypatch):
    """Otherwise the way through Python would cost as much as a small step."""
    x, y = np.tile(X, (40, 1)), np.tile(Y, (40, 1))
    trained = model()
    counts = []
    step = trained.step("train")
    run_many = step.run_many
    monkeypatch.setattr(step, "run_many", lambda *a: counts.append(a[-1]) or run_many(*a))
    trained.fit_dataset(rows(x, y).shuffle(100, seed=0).batch(10), epochs=2, verbose=0)
    assert sum(counts) == 400
    assert len(counts) < 100


def test_rows_in_several_orders_are_gathered_in_python(feeds):
    dataset = data.zip((data.array(X).shuffle(50, seed=1), data.array(Y).shuffle(50, seed=1))).batch(16)
    one, other = model(), model()
    one.fit_dataset(dataset, verbose=0)
    other.fit_dataset(rows().shuffle(50, seed=1).batch(16), verbose=0)
    assert feeds == ["StreamFeed", "RowFeed"]
    np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], rtol=1e-5)


def test_ends_and_endless_rows():
    trained = model()
    with pytest.warns(UserWarning, match="after 1 of the 2 batches"):
        trained.fit_dataset(rows().batch(20), epochs=2, batches_per_epoch=2, verbose=0)
    history = trained.fit_dataset(rows().shuffle(9).repeat().batch(20), epochs=3, batches_per_epoch=4, verbose=0)
    assert history.epoch == [0, 1, 2]
    losses = list(itertools.chain(history.history["loss"]))
    assert losses[-1] < losses[0]


def test_interpreted_too(monkeypatch):
    compiled = model()
    compiled.fit_dataset(rows().skip(1).repeat(2).batch(16), verbose=0)
    slow = model()
    monkeypatch.setitem(lf.config._settings, "jit", False)
    slow.fit_dataset(rows().skip(1).repeat(2).batch(16), verbose=0)
    np.testing.assert_allclose(compiled.get_weights()[0], slow.get_weights()[0], rtol=1e-4)
