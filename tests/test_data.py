"""lf.data, and training on datasets."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.callbacks.base import HOOKS

# Any, because the tests also pass what the types forbid, and camelCase arguments.
data: Any = lf.data


def numbers(count: int = 7) -> Any:
    return data.generator(lambda: iter(range(count)))


def listed(dataset: Any) -> list[Any]:
    """Elements as lists, so that they can be compared."""
    return [e.tolist() if isinstance(e, np.ndarray) else e for e in dataset]


@pytest.mark.parametrize(
    ("make", "expected", "size"),
    [
        (lambda: numbers(3), [0, 1, 2], None),
        (lambda: data.array([5, 6]), [5, 6], 2),
        (lambda: data.array(np.array([[1.0, 2.0]])), [[1.0, 2.0]], 1),
        (lambda: data.array([]), [], 0),
        (lambda: numbers(3).map(lambda e: e * e), [0, 1, 4], None),
        (lambda: data.array([1, 2]).map(str), ["1", "2"], 2),
        (lambda: data.array([1, 2, 3]).filter(lambda e: e % 2), [1, 3], None),
        (lambda: data.array([1, 2, 3]).take(2), [1, 2], 2),
        (lambda: data.array([1, 2, 3]).take(9), [1, 2, 3], 3),
        (lambda: data.array([1, 2, 3]).skip(2), [3], 1),
        (lambda: data.array([1, 2, 3]).skip(9), [], 0),
        (lambda: data.array([1, 2]).repeat(2), [1, 2, 1, 2], 4),
        (lambda: data.array([1, 2]).repeat(0), [], 0),
        (lambda: numbers(2).repeat().take(5), [0, 1, 0, 1, 0], None),
        (lambda: data.array([1, 2]).repeat().take(3), [1, 2, 1], 3),
        (lambda: data.array([]).repeat(), [], 0),
        (lambda: data.array([1, 2]).prefetch(4), [1, 2], 2),
        (lambda: data.array([1, 2, 3]).batch(2), [[1.0, 2.0], [3.0]], 2),
        (lambda: data.array([1, 2, 3]).batch(2, small_last_batch=False), [[1.0, 2.0]], 1),
        (lambda: data.array([1, 2, 3]).batch(2, smallLastBatch=False), [[1.0, 2.0]], 1),
        (lambda: data.array([1, 2, 3, 4]).batch(2), [[1.0, 2.0], [3.0, 4.0]], 2),
        (lambda: data.zip([numbers(2), data.array("ab".split() * 3)]), [[0, "ab"], [1, "ab"]], None),
        (lambda: data.zip((data.array([1, 2]), data.array([3]))), [(1, 3)], 1),
        (lambda: data.zip({"xs": data.array([1]), "ys": data.array([2])}), [{"xs": 1, "ys": 2}], 1),
        (lambda: data.zip({"xs": [numbers(1), numbers(1)], "ys": numbers(1)}), [{"xs": [0, 0], "ys": 0}], None),
    ],
)
def test_elements(make, expected, size):
    dataset = make()
    assert listed(dataset) == expected
    assert listed(dataset) == expected, "every iteration starts anew"
    assert listed(dataset.to_array()) == expected
    assert dataset.size == size


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([1, 2], np.array([1, 2], np.float32)),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.float32)),
        ([True, False], np.array([True, False])),
        ([np.int32(1), np.int32(2)], np.array([1, 2], np.int32)),
        ([np.ones(3), np.zeros(3)], np.array([[1.0] * 3, [0.0] * 3])),
        ([(1, [2, 3]), (4, [5, 6])], (np.array([1, 4], np.float32), np.array([[2, 3], [5, 6]], np.float32))),
        ([[np.ones(2)], [np.zeros(2)]], [np.array([[1.0, 1.0], [0.0, 0.0]])]),
        ([{"a": {"b": 1}}, {"a": {"b": 2}}], {"a": {"b": np.array([1, 2], np.float32)}}),
    ],
)
def test_batches_stack_structures(elements, expected):
    def compare(found, wanted):
        if isinstance(wanted, np.ndarray):
            assert isinstance(found, lf.Tensor)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
        elif isinstance(wanted, dict):
            assert found.keys() == wanted.keys()
            for key, part in wanted.items():
                compare(found[key], part)
        else:
            assert type(found) is type(wanted)
            for one, other in zip(found, wanted, strict=True):
                compare(one, other)

    (batch,) = data.array(elements).batch(2)
    compare(batch, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.generator(iter([1])), lf.errors.ArgumentError, "pass the generator function itself"),
        (lambda: list(data.generator(lambda: 3)), lf.errors.ArgumentError, "returned int; use yield"),
        (lambda: data.array(iter([1])), lf.errors.ArgumentError, "use lf.data.generator for iterators"),
        (lambda: data.array({"a": 1}), lf.errors.ArgumentError, "lf.data.zip for a dict"),
        (lambda: data.array({}), lf.errors.ArgumentError, "an empty one"),
        (lambda: data.array({"a": X, "b": X[1:]}), lf.errors.ArgumentError, r"'a': \[50, 4\], 'b': \[49, 4\]"),
        (lambda: data.zip({}), lf.errors.ArgumentError, "not empty, got dict"),
        (lambda: data.zip({"xs": np.ones(3)}), lf.errors.ArgumentError, "got ndarray"),
        (lambda: numbers().batch(0), lf.errors.ArgumentError, r"batch\(\): size must be a whole number of at least 1"),
        (lambda: numbers().take(-1), lf.errors.ArgumentError, r"take\(\): n .* at least 0"),
        (lambda: numbers().shuffle(1.5), lf.errors.ArgumentError, r"shuffle\(\): buffer_size"),
        (lambda: numbers().shuffle(), TypeError, "buffer_size"),
        (lambda: numbers().batch(2, small_last=True), lf.errors.UnknownArgumentError, "small_last_batch"),
        (lambda: data.array([1]).repeat().to_array(), lf.errors.ArgumentError, "infinite"),
        (
            lambda: list(data.array([{"a": [1]}, {"a": [1, 2]}]).batch(2)),
            lf.errors.DataError,
            r"element 0 is of shape \[1\], element 1 of shape \[2\] \(at element\['a'\]\)",
        ),
        (lambda: list(data.array([{"a": 1}, {"b": 1}]).batch(2)), lf.errors.DataError, "differ in their keys"),
        (lambda: list(data.array([(1,), (1, 2)]).batch(2)), lf.errors.DataError, "differ in length"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("window", [1, 3, 7, 50])
def test_shuffle_keeps_every_element_within_its_window(window):
    order = list(numbers(7).shuffle(window, seed=4))
    assert sorted(order) == list(range(7))
    assert all(element < place + window for place, element in enumerate(order))
    if window == 1:
        assert order == list(range(7))


def test_shuffle_seeds():
    def orders(dataset):
        return [list(dataset) for _ in range(3)]

    seeded = orders(numbers(20).shuffle(20, seed=1))
    assert seeded == orders(numbers(20).shuffle(20, seed=1))
    assert len(set(map(tuple, seeded))) == 3, "a new order each time"
    fixed = orders(numbers(20).shuffle(20, seed=1, reshuffleEachIteration=False))
    assert fixed == [seeded[0]] * 3
    by_process = []
    for _ in range(2):
        lf.random.set_seed(5)
        by_process.append(orders(numbers(20).shuffle(20)))
    assert by_process[0] == by_process[1]


def test_shuffle_is_even():
    """Each element comes first equally often: chi squared, 9 degrees of freedom, 0.1 percent at 27.9."""
    firsts = np.bincount([next(iter(numbers(10).shuffle(10, seed=s))) for s in range(2000)], minlength=10)
    assert ((firsts - 200) ** 2 / 200).sum() < 27.9


def test_nothing_is_read_before_it_is_needed():
    read = []
    dataset = data.generator(lambda: (read.append(i) or i for i in itertools.count())).map(lambda e: e + 1)
    assert read == []
    assert list(dataset.take(2)) == [1, 2]
    assert read == [0, 1]


def test_for_each():
    seen = []

    async def later(element):
        seen.append(element)

    numbers(2).for_each(seen.append)
    asyncio.run(numbers(2).for_each_async(seen.append))
    asyncio.run(numbers(2).for_each_async(later))
    assert seen == [0, 1] * 3


# Training


X = np.random.default_rng(3).standard_normal((50, 4), np.float32)
LABELS = X[:, :3].argmax(axis=1)
Y = np.eye(3, dtype=np.float32)[LABELS]


def model(loss: str = "categoricalCrossentropy", compiled: bool = True) -> Any:
    lf.random.set_seed(8)
    made = lf.sequential([lf.layers.dense(units=3, activation="softmax", input_shape=[4])])
    if compiled:
        made.compile(optimizer=lf.train.adam(0.05), loss=loss, metrics=["accuracy"])
    return made


def rows(x: Any = X, y: Any = Y) -> Any:
    return data.zip({"xs": data.array(x), "ys": data.array(y)})


def events(log: list[Any]) -> dict[str, Any]:
    """Callbacks that note everything they hear."""

    def note(hook):
        return lambda *arguments: log.append((hook, *(dict(a) if isinstance(a, dict) else a for a in arguments)))

    return {hook: note(hook) for hook in HOOKS}


@pytest.mark.parametrize(
    "element",
    [
        lambda batch: batch,
        lambda batch: (batch["xs"], batch["ys"]),
        lambda batch: [batch["xs"], batch["ys"]],
        lambda batch: (batch["xs"], batch["ys"], np.ones(len(batch["xs"]))),
        lambda batch: {"xs": [batch["xs"]], "ys": batch["ys"]},
    ],
    ids=["dict", "tuple", "list", "weights", "list of inputs"],
)
def test_same_events_history_and_weights_as_fit(element):
    fitted, streamed, heard = model(), model(), ([], [])
    quiet: Any = {"yield_every": "batch"}  # by itself it depends on the time
    history = fitted.fit(X, Y, epochs=3, batch_size=20, shuffle=False, verbose=0, callbacks=events(heard[0]), **quiet)
    dataset = rows().batch(20).map(element)
    other = streamed.fit_dataset(dataset, epochs=3, verbose=0, callbacks=events(heard[1]), **quiet)
    assert [entry[:2] for entry in heard[0]] == [entry[:2] for entry in heard[1]]
    for one, two in zip(heard[0], heard[1], strict=True):
        assert one[-1] == pytest.approx(two[-1], rel=1e-6)
    assert history.epoch == other.epoch
    for name, values in history.history.items():
        np.testing.assert_allclose(other.history[name], values, rtol=1e-6)
    for one, two in zip(fitted.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)
    assert streamed.history is other


@pytest.mark.parametrize("validation", ["arrays", "dataset"])
def test_validation(validation):
    given = (X[30:], Y[30:]) if validation == "arrays" else rows(X[30:], Y[30:]).batch(6)
    expected = model().fit(X[:30], Y[:30], epochs=2, shuffle=False, verbose=0, validation_data=(X[30:], Y[30:]))
    history = model().fit_dataset(rows(X[:30], Y[:30]).batch(32), epochs=2, verbose=0, validationData=given)
    assert list(history.history) == list(expected.history)
    for name, values in expected.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-5)


def test_weights_of_examples_and_classes():
    weights, classes = np.linspace(0, 2, 50, dtype=np.float32), {0: 1.0, 1: 3.0, 2: 0.5}
    fitted, streamed = model("sparseCategoricalCrossentropy"), model("sparseCategoricalCrossentropy")
    fitted.fit(X, LABELS, 25, shuffle=False, verbose=0, sample_weight=weights, class_weight=classes)
    dataset = data.zip((data.array(X), data.array(LABELS), data.array(weights))).batch(25)
    streamed.fit_dataset(dataset, verbose=0, classWeight=classes)
    for one, two in zip(fitted.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


def test_one_stream_over_all_epochs():
    """With batches_per_epoch the dataset is read once: two epochs of two batches see its first four."""
    started = []

    def batches():
        started.append(True)
        for first in range(0, 50, 10):
            yield X[first : first + 10], Y[first : first + 10]

    fitted, streamed = model(), model()
    streamed.fit_dataset(data.generator(batches), epochs=2, batches_per_epoch=2, verbose=0)
    fitted.fit(X[:40], Y[:40], batch_size=10, shuffle=False, verbose=0)
    assert started == [True]
    for one, two in zip(fitted.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize(
    ("per_epoch", "epochs", "message"),
    [
        (2, [0, 1, 2], "after 1 of the 2 batches of an epoch"),
        (5, [0], "after 1 epochs"),
        (1, list(range(5)), "after 5"),
    ],
)
def test_a_stream_that_ends_early(per_epoch, epochs, message):
    heard: list[Any] = []
    with pytest.warns(UserWarning, match=message):
        history = model().fit_dataset(
            rows().batch(10), epochs=9, batches_per_epoch=per_epoch, verbose=0, callbacks=events(heard)
        )
    assert history.epoch == epochs
    assert [entry[1] for entry in heard if entry[0] == "on_epoch_begin"] == epochs
    assert heard[-1][0] == "on_train_end"


def test_infinite_streams():
    dataset = rows().batch(10).repeat()
    history = model().fit_dataset(
        dataset, epochs=3, batches_per_epoch=4, verbose=0, validation_data=dataset, validation_batches=2
    )
    assert len(history.history["val_loss"]) == 3


def test_initial_epoch_stopping_and_params():
    params = {}

    class Stop(lf.Callback):
        def on_batch_end(self, batch, logs):
            params.update(self.params)
            self.model.stop_training = batch == 1

    history = model().fit_dataset(
        rows().batch(10), epochs=9, initial_epoch=4, verbose=0, callbacks=Stop(), validation_data=(X, Y)
    )
    assert history.epoch == [4]
    assert "val_loss" not in history.history, "an epoch that was broken off is not measured"
    assert params["steps"] == 5
    assert params["samples"] is None
    assert params["do_validation"]


@pytest.mark.parametrize("several", [False, True])
def test_evaluate_dataset(several):
    made = model()
    if not several:
        made.compile(optimizer="sgd", loss="categoricalCrossentropy")
    assert made.evaluate_dataset(rows().batch(16)) == pytest.approx(made.evaluate(X, Y), rel=1e-5)
    assert made.evaluate_dataset(rows().batch(16).repeat(), batches=1) == pytest.approx(made.evaluate(X[:16], Y[:16]))
    named = made.evaluate_dataset(rows().batch(16), returnDict=True)
    assert list(named) == made.metrics_names


def test_evaluate_dataset_with_too_few_batches():
    with pytest.warns(UserWarning, match="batches is 9, but the dataset ended after 2"):
        model().evaluate_dataset(rows().batch(25), batches=9)


def once() -> Any:
    """The mistake of returning the same iterator for every epoch."""
    batches = iter([(X, Y)])
    return data.generator(lambda: batches)


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        (lambda: (X, Y), {}, lf.errors.ArgumentError, "expected a dataset, got tuple"),
        (lambda: rows().batch(5).repeat(), {}, lf.errors.ArgumentError, "say with batches_per_epoch"),
        (lambda: rows(), {}, lf.errors.DataError, r"call dataset.batch\(32\) first"),
        (lambda: rows(X[:, :2]).batch(5), {}, lf.errors.DataError, r"x has shape \[5, 2\]"),
        (lambda: data.array([X]), {}, lf.errors.DataError, "is a Tensor|is a ndarray"),
        (lambda: data.array([{"x": X, "y": Y}]), {}, lf.errors.DataError, r"a dict of \['x', 'y'\]"),
        (lambda: data.array([(X, Y[:3])]), {}, lf.errors.DataError, "x has 50 examples, y has 3"),
        (lambda: data.array([(X, Y), (X * np.nan, Y)]), {}, lf.errors.DataError, "NaN.*Batch 1 of the dataset"),
        (lambda: data.array([]), {}, lf.errors.DataError, "gave no batch"),
        (once, {"epochs": 2}, lf.errors.DataError, "must return a new iterator"),
        (lambda: rows().batch(5), {"epochs": -1}, lf.errors.ArgumentError, "epochs must be"),
        (lambda: rows().batch(5), {"batches_per_epoch": 0}, lf.errors.ArgumentError, "batches_per_epoch must be"),
        (lambda: rows().batch(5), {"validation_data": X}, lf.errors.DataError, "validation_data must be"),
        (
            lambda: rows().batch(5),
            {"validation_data": rows().batch(5).repeat()},
            lf.errors.ArgumentError,
            "validation_batches",
        ),
        (lambda: rows().batch(5), {"validation_split": 0.1}, lf.errors.UnknownArgumentError, "validation_split"),
        (lambda: rows().batch(5), {"class_weight": {0: 1.0}}, lf.errors.DataError, "no weight for the classes"),
    ],
)
def test_refusals_of_fit_dataset(dataset, options, error, message):
    made = model()
    with pytest.raises(error, match=message):
        made.fit_dataset(dataset(), verbose=0, **options)
    made.fit_dataset(rows().batch(50), verbose=0)  # and the model can be trained afterwards


def test_needs_compile():
    for call in ("fit_dataset", "evaluate_dataset"):
        with pytest.raises(lf.errors.NotCompiledError, match=call):
            getattr(model(compiled=False), call)(rows().batch(5))


def test_progress_bar_counts_batches(capsys):
    model().fit_dataset(rows().batch(10), epochs=2)
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "batches" in shown


def test_size_of_infinite_datasets():
    assert rows().repeat().batch(3).size == math.inf
    assert rows().repeat().filter(bool).size == math.inf
