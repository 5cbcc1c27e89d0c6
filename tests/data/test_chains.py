"""Chains of transformations do what the same chain does to a list, for elements one by one and for rows of arrays."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerflow as lf
from layerflow.data import blocks

data: Any = lf.data


def from_list(count: int) -> Any:
    return data.array(list(range(count)))


def from_array(count: int) -> Any:
    return data.array(np.arange(count))


def from_blocks(count: int) -> Any:
    """Rows that arrive in blocks of 1, 2, 3, 0, 1, 2, ... rows."""

    def parts():
        first = 0
        for size in itertools.cycle((1, 2, 3, 0)):
            yield np.arange(first, min(first + size, count))
            first += size
            if first >= count:
                return

    return data.generator(parts).unbatch()


SOURCES = {"list": from_list, "array": from_array, "blocks": from_blocks}
STEPS = st.one_of(
    st.tuples(st.just("take"), st.integers(0, 25)),
    st.tuples(st.just("skip"), st.integers(0, 25)),
    st.tuples(st.just("repeat"), st.integers(0, 3)),
    st.tuples(st.just("concatenate"), st.integers(0, 9)),
    st.tuples(st.just("shuffle"), st.integers(1, 30)),
    st.tuples(st.just("prefetch"), st.integers(1, 3)),
    st.tuples(st.just("map"), st.integers(0, 9)),
    st.tuples(st.just("filter"), st.integers(2, 4)),
)


def applied(dataset: Any, make: Any, step: tuple[str, int]) -> Any:
    name, value = step
    if name == "concatenate":
        return dataset.concatenate(make(value))
    if name == "shuffle":
        return dataset.shuffle(value, seed=value)
    if name == "map":
        return dataset.map(lambda e: e + value)
    if name == "filter":
        return dataset.filter(lambda e: e % value)
    return getattr(dataset, name)(value)


def model(elements: list[int], step: tuple[str, int]) -> list[int]:
    """What the step does to a list; shuffling is left out."""
    name, value = step
    return {
        "take": lambda: elements[:value],
        "skip": lambda: elements[value:],
        "repeat": lambda: elements * value,
        "concatenate": lambda: elements + list(range(value)),
        "map": lambda: [e + value for e in elements],
        "filter": lambda: [e for e in elements if e % value],
    }.get(name, lambda: elements)()


def listed(dataset: Any) -> list[int]:
    return [int(e) for e in dataset]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(SOURCES)), st.integers(0, 20), st.lists(STEPS.filter(lambda s: s[0] != "shuffle"), max_size=5)
)
def test_chains_equal_a_list(source, count, steps):
    make = SOURCES[source]
    dataset, expected = make(count), list(range(count))
    for step in steps:
        dataset, expected = applied(dataset, make, step), model(expected, step)
    assert listed(dataset) == expected
    assert listed(dataset) == expected, "every iteration starts anew"
    assert dataset.size in (None, len(expected))
    if dataset.size is not None:
        assert len(dataset) == len(expected)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 20), st.lists(STEPS, max_size=5), st.integers(1, 8), st.booleans())
def test_rows_and_single_elements_give_the_same(count, steps, size, small_last):
    """Shuffled or not: the order of a seed does not depend on the way, and batches are the elements of it."""
    results = []
    for make in SOURCES.values():
        dataset = make(count)
        for step in steps:
            dataset = applied(dataset, make, step)
        batches = [b.tolist() for b in dataset.batch(size, small_last)]
        assert all(len(b) == size for b in batches[:-1])
        if not any(step[0] == "shuffle" for step in steps):
            whole = listed(dataset)
            cut = [whole[i : i + size] for i in range(0, len(whole), size)]
            assert batches == [part for part in cut if small_last or len(part) == size]
        results.append(batches)
    assert results[0] == results[1] == results[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.integers(1, 3500), st.integers(0, 5))
def test_shuffle_permutes_and_keeps_to_its_window(count, window, seed):
    orders = [listed(make(count).shuffle(window, seed=seed)) for make in (from_list, from_array)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(count))
    assert all(element < place + window for place, element in enumerate(orders[0]))


def test_shuffle_over_several_pieces_in_blocks():
    """A window smaller than the data, and more rows than shuffling moves at a time."""
    rows = 5 * blocks.PIECE + 7
    x = np.arange(rows)
    for window in (1, 2, 3, 100, blocks.PIECE + 1):
        one = listed(data.generator(lambda: iter([x[:1500], x[1500:]])).unbatch().shuffle(window, seed=2))
        assert one == listed(from_list(rows).shuffle(window, seed=2))
        assert Counter(one) == Counter(range(rows))


NESTED = {"a": np.arange(6.0), "b": {"c": np.arange(12).reshape(6, 2)}}


@pytest.mark.parametrize("shuffled", [False, True])
def test_nested_structures_stay_together(shuffled):
    dataset = data.array(NESTED)
    assert dataset.size == len(dataset) == 6
    if shuffled:
        dataset = dataset.shuffle(4, seed=0)
    for element in dataset:
        assert element["b"]["c"].tolist() == [2 * element["a"], 2 * element["a"] + 1]
    batches = list(dataset.batch(4))
    assert [b["b"]["c"].shape for b in batches] == [(4, 2), (2, 2)]
    for batch in batches:
        np.testing.assert_array_equal(batch["b"]["c"][:, 0], 2 * batch["a"])
        assert batch["a"].dtype == np.float64
        assert isinstance(batch["a"], lf.Tensor)


def test_zip_of_rows_with_different_orders():
    x, y = data.array(np.arange(7)), data.array(np.arange(10) * 10)
    assert [tuple(map(int, e)) for e in data.zip((x.skip(2), y))] == list(
        zip(range(2, 7), range(0, 50, 10), strict=True)
    )
    fast = data.zip({"x": x.shuffle(9, seed=1), "y": y.shuffle(9, seed=2)}).batch(3)
    slow = data.zip(
        {
            "x": data.array(list(range(7))).shuffle(9, seed=1),
            "y": data.array(list(range(0, 100, 10))).shuffle(9, seed=2),
        }
    ).batch(3)
    for one, other in zip(fast, slow, strict=True):
        assert {k: v.tolist() for k, v in one.items()} == {k: v.tolist() for k, v in other.items()}


def test_a_batch_belongs_to_its_reader():
    """Writing to a batch changes neither the source nor the next epoch."""
    x = np.arange(8.0)
    parts = [np.arange(4.0), np.arange(4.0, 8)]
    for dataset in (data.array(x), data.array(x).shuffle(3), data.array(parts).unbatch()):
        for batch in dataset.batch(4):
            batch += 100
    assert x.tolist() == list(range(8))
    assert [p.tolist() for p in parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_concatenate_rows_that_do_not_fit_one_array():
    dataset = data.array(np.zeros(2, np.float32)).concatenate(data.array(np.ones((1, 2))))
    assert [np.shape(e) for e in dataset] == [(), (), (2,)]
    with pytest.raises(lf.errors.DataError, match=r"element 0 is of shape \[\], element 2 of shape \[2\]"):
        list(dataset.batch(3))
    with pytest.raises(lf.errors.DataError, match=r"rows of shapes \[2\] and \[3\] follow each other"):
        list(data.array([np.ones((1, 2)), np.ones((1, 3))]).unbatch().batch(2))


def test_frames_dicts_and_numbered_items_are_tables():
    class Frame(dict):
        """What pandas and polars have in common."""

        columns = ("a", "b")

        def __array__(self, dtype=None, copy=None):
            return np.array([[1, 2], [3, 4]])

    class Numbered:
        """As torch's datasets: a length and items by number."""

        def __len__(self):
            return 2

        def __getitem__(self, at):
            return [10, 20][at]

    assert [dict(e) for e in data.array(Frame(a=[1, 3], b=[2.0, 4.0]))] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert list(data.array(Numbered())) == [10, 20]


def test_func_goes_on_where_it_was():
    numbers = iter(range(5))
    dataset = data.func(lambda: next(numbers))
    assert list(dataset.take(2)) == [0, 1]
    assert list(dataset) == [2, 3, 4]
    counted = itertools.count()
    done = data.func(lambda: {"value": (n := next(counted)), "done": n >= 2})
    assert list(done) == [0, 1]


def test_row_major_batches_and_unbatch():
    assert list(from_list(5).row_major_batch(2)) == [[0, 1], [2, 3], [4]]
    assert list(from_list(5).row_major_batch(2, small_last_batch=False)) == [[0, 1], [2, 3]]
    assert listed(from_list(5).batch(2).unbatch()) == [0, 1, 2, 3, 4]
    with pytest.raises(lf.errors.DataError, match=r"unbatch\(\): element 1 has values of shapes \[2\] and \[3\]"):
        list(data.array([(np.ones(2), np.ones(2)), (np.ones(2), np.ones(3))]).unbatch())
    with pytest.raises(lf.errors.DataError, match="same number of rows"):
        list(from_list(2).unbatch())


@pytest.mark.parametrize(
    "dataset", [from_list(3).repeat(), data.generator(lambda: iter([1])), from_list(3).filter(bool)]
)
def test_no_length(dataset):
    assert dataset, "a dataset is true whatever its length"
    with pytest.raises(TypeError, match="size"):
        len(dataset)
    assert dataset.size in (None, math.inf)


def test_map_and_batch_read_no_more_than_needed():
    read = []
    dataset = data.generator(lambda: (read.append(i) or i for i in itertools.count())).map(lambda e: e).batch(3)
    assert next(iter(dataset)).tolist() == [0, 1, 2]
    assert read == [0, 1, 2]


def test_rows_of_an_endless_dataset():
    assert [b.tolist() for b in from_array(3).repeat().shuffle(2, seed=0).batch(2).take(2)] == [
        b.tolist() for b in from_list(3).repeat().shuffle(2, seed=0).batch(2).take(2)
    ]


def fails(element: int) -> int:
    if element == 2:
        raise KeyError("mine")
    return element


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (lambda: list(from_list(4).map(fails)), r"map\(\) of the dataset called fails for element 2"),
        (lambda: list(from_array(4).skip(1).map(fails)), r"map\(\) .* for element 1"),
        (lambda: list(from_list(4).filter(fails).batch(2)), r"filter\(\) .* fails for element 2"),
        (lambda: list(from_list(4).map(fails).prefetch(2)), r"map\(\) .* fails for element 2"),
        (lambda: list(from_list(4).map_async(fails)), r"map_async\(\) .* fails for element 2"),
        (lambda: list(from_list(4).map_async(fails, parallel=3)), r"map_async\(\) .* fails for element 2"),
        (lambda: from_list(4).for_each(fails), r"for_each\(\) .* fails for element 2"),
        (lambda: list(data.generator(lambda: map(fails, range(4)))), r"generator\(\) .* at element 2"),
        (lambda: list(data.func(lambda: fails(2))), r"func\(\) .* at element 0"),
    ],
)
def test_errors_of_the_users_functions_tell_where(run, note):
    """They keep their type, so that one can catch them."""
    with pytest.raises(KeyError, match="mine") as caught:
        run()
    notes = getattr(caught.value, "__notes__", [str(caught.value)])
    assert len(notes) == 1
    assert re.search(note, notes[0]), notes


def test_statistics():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(5000) * 3 + 1e3
    x[7] = np.nan
    known = np.delete(x, 7)
    expected = {name: getattr(known, name)() for name in ("min", "max", "mean")}
    expected |= {"variance": known.var(), "stddev": known.std()}
    parts = data.generator(lambda: ({"x": p, "t": {"y": p}} for p in np.array_split(x, 9))).unbatch()
    for dataset in (data.array({"x": x, "t": {"y": x}}), parts, parts.map(lambda e: e)):
        found = dataset.statistics()
        assert found["x"] == found["t"]["y"] == pytest.approx({**expected, "length": 4999, "missing": 1}, rel=1e-9)
    small = data.array({"x": np.arange(10.0)}).statistics(sampleSize=4)["x"]
    assert (small["min"], small["max"], small["length"]) == (0, 3, 4)
    scale = data.scale_to_01(0, 4)
    assert list(data.array([0.0, 1.0, 4.0]).map(scale)) == [0, 0.25, 1]
    assert data.scale_to_01(2, 2)(2.0) == 0


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: data.array({"x": np.ones(3)}).repeat().statistics(), lf.errors.ArgumentError, "infinite"),
        (lambda: data.array([]).statistics(), lf.errors.DataError, "empty"),
        (lambda: from_array(3).statistics(), lf.errors.DataError, "dicts of numbers"),
        (lambda: from_list(3).concatenate([1]), lf.errors.ArgumentError, r"concatenate\(\) takes a dataset, got list"),
        (lambda: from_list(3).repeat(-1), lf.errors.ArgumentError, r"repeat\(\): count .* at least 0"),
        (lambda: from_list(3).skip(-1), lf.errors.ArgumentError, r"skip\(\): n"),
        (lambda: from_list(3).prefetch(0), lf.errors.ArgumentError, r"prefetch\(\): buffer_size"),
        (lambda: from_list(3).map_async(str, parallel=0), lf.errors.ArgumentError, r"map_async\(\): parallel"),
        (lambda: data.array(from_list(3)), lf.errors.ArgumentError, "got Dataset"),
        (
            lambda: list(data.array([1, 2, [1, 2]]).batch(3)),
            lf.errors.DataError,
            r"element 0 is of shape \[\], element 2 of shape \[2\]",
        ),
        (
            lambda: list(data.array([[1, 2]] * 5 + [[1]]).batch(2)),
            lf.errors.DataError,
            r"element 4 is of shape \[2\], element 5 of shape \[1\]",
        ),
        (lambda: list(data.array([None, 1]).batch(2)), lf.errors.DataError, "element 0 is a NoneType, which cannot"),
    ],
)
def test_refusals(run, error, message):
    with pytest.raises(error, match=message):
        run()
