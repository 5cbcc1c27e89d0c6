"""lf.data.csv and text_line: types, settings of columns, sources, and errors that name the row and the column."""

from __future__ import annotations

import gzip
import io
import math
import sys
import types
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.data.csv_files import ROWS

data: Any = lf.data

PEOPLE = 'age,name,tall\n31,Ann,true\n2.5,"Bob, ""B""",0\n,Cy,1\n'


def csv(text: str, **options: Any) -> Any:
    return data.csv(io.StringIO(text), **options)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a,b\n1,x\n2.5,\n", {}, [{"a": 1.0, "b": "x"}, {"a": 2.5, "b": ""}]),
        ("a\n1\n\n2\n\n", {}, [{"a": 1.0}, {"a": 2.0}]),
        ("a\r\n1\r\n2\r\n", {}, [{"a": 1.0}, {"a": 2.0}]),
        ("a\n1e3\n-.5\n", {}, [{"a": 1000.0}, {"a": -0.5}]),
        ("a\n1_000\n", {}, [{"a": "1_000"}]),
        ("a\n1\nx\n", {}, [{"a": "1"}, {"a": "x"}]),
        ('a,b\n"x\ny","1"\n', {}, [{"a": "x\ny", "b": 1.0}]),
        ("a;b\n1;2\n", {"delimiter": ";"}, [{"a": 1.0, "b": 2.0}]),
        ("a  b\n 1\t 2 \n", {"delimWhitespace": True}, [{"a": 1.0, "b": 2.0}]),
        ("1,2\n", {"hasHeader": False, "columnNames": ["a", "b"]}, [{"a": 1.0, "b": 2.0}]),
        ("p,q\n1,2\n", {"column_names": ["a", "b"]}, [{"a": 1.0, "b": 2.0}]),
        ("a,b\n1,2\n", {"column_configs": {"b": {}}, "configured_columns_only": True}, [{"b": 2.0}]),
        ("a,b\n1,2\n", {"column_configs": {"b": {"isLabel": True}}}, [{"xs": {"a": 1.0}, "ys": {"b": 2.0}}]),
        ("a,b\n,2\n", {"column_configs": {"a": {"default": 7}}}, [{"a": 7.0, "b": 2.0}]),
        ("a,b\n,2\n", {"column_configs": {"a": {"default": "no"}, "b": None}}, [{"a": "no", "b": 2.0}]),
        ("a\n2.7\n-2.7\n", {"column_configs": {"a": {"dtype": "int32"}}}, [{"a": 2}, {"a": -3}]),
        ("a\nTRUE\n0\n", {"column_configs": {"a": {"dtype": "bool"}}}, [{"a": True}, {"a": False}]),
        ("a\n12\n", {"column_configs": {"a": {"dtype": "string"}}}, [{"a": "12"}]),
        ("a\n", {}, []),
    ],
)
def test_elements(text, options, expected):
    dataset = csv(text, **options)
    assert list(dataset) == expected
    assert list(dataset) == expected, "every iteration starts anew"
    assert dataset.size is None


def test_types_of_elements_and_batches():
    configs = {"tall": {"dtype": "bool"}}
    dataset = csv(PEOPLE, column_configs=configs)
    assert dataset.column_names() == ["age", "name", "tall"]
    first, _, last = dataset
    assert type(first["age"]) is float
    assert type(first["name"]) is str
    assert math.isnan(last["age"])
    (batch,) = dataset.batch(3)
    assert [batch[name].dtype.kind for name in ("age", "name", "tall")] == ["f", "U", "b"]
    assert batch["age"].dtype == np.float32
    assert batch["name"].tolist() == ["Ann", 'Bob, "B"', "Cy"]
    assert dataset.statistics()["age"] == pytest.approx(
        {"min": 2.5, "max": 31, "mean": 16.75, "variance": 14.25**2, "stddev": 14.25, "length": 2, "missing": 1}
    )
    assert "name" not in dataset.statistics()


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", np.float32, np.int64, int, "bool"])
def test_declared_types_stay_in_batches(dtype):
    (batch,) = csv("a\n1\n0\n", column_configs={"a": {"dtype": dtype}}).map(lambda e: e).batch(2)
    assert batch["a"].dtype == np.dtype(dtype)
    (numbers,) = csv("a\n1\n0\n", column_configs={"a": {"dtype": float}}).map(lambda e: e).batch(2)
    assert numbers["a"].dtype == np.float32, "Python floats, as where nothing is declared"


def test_rows_by_rows_and_by_blocks_are_the_same():
    """Several blocks; shuffled, cut, repeated, with and without passing single elements through Python."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * ROWS + 100, 2)).round(3)
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in x.tolist())
    for chain in (
        lambda d: d.batch(100),
        lambda d: d.skip(ROWS - 3).shuffle(50, seed=1).take(ROWS).repeat(2).batch(33),
        lambda d: data.zip({"xs": d, "ys": d.skip(1)}).batch(500),
        lambda d: d.concatenate(d).batch(999),
    ):
        fast, slow = list(chain(csv(text))), list(chain(csv(text).map(lambda e: e)))
        assert str(fast) == str(slow)
        assert len(fast) > 1
    np.testing.assert_array_equal(np.concatenate([b["a"] for b in csv(text).batch(64)]), x[:, 0].astype(np.float32))


def test_sources(tmp_path):
    plain, packed = tmp_path / "people.csv", tmp_path / "people.csv.gz"
    plain.write_text("\ufeff" + PEOPLE, encoding="utf-8")
    packed.write_bytes(gzip.compress(PEOPLE.encode()))
    expected = str(list(csv(PEOPLE)))
    with plain.open("rb") as raw, plain.open(encoding="utf-8-sig") as text:
        for source in (plain, str(plain), plain.as_uri(), packed, raw, text, io.BytesIO(PEOPLE.encode())):
            dataset = data.csv(source)
            assert str(list(dataset)) == expected
            assert str(list(dataset)) == expected
        assert not raw.closed
        assert not text.closed
    with plain.open() as file:
        file.readline()
        assert len(list(data.csv(file, hasHeader=False, columnNames=["a", "b", "c"]))) == 3


def test_two_iterations_of_one_text():
    dataset = csv("a\n" + "1\n2\n" * ROWS)
    assert all(one == other for one, other in zip(dataset, dataset, strict=True))


def test_urls_go_through_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(lf.errors.ArgumentError, match=r"layerflow\[remote\]"):
        data.csv("https://example.org/a.csv")
    asked = []

    class Opened:
        def open(self):
            return io.StringIO(PEOPLE)

    stub: Any = types.ModuleType("fsspec")
    stub.open = lambda url, mode, **options: asked.append((url, options["compression"])) or Opened()
    monkeypatch.setitem(sys.modules, "fsspec", stub)
    assert len(list(data.csv("https://example.org/a.csv"))) == 3
    assert set(asked) == {("https://example.org/a.csv", "infer")}


def test_files_are_closed(tmp_path):
    """A warning of an open file would be an error here."""
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "1\n" * 5000)
    elements = iter(data.csv(path).batch(10))
    next(elements)
    del elements
    assert len(list(data.csv(path).take(1))) == 1
    assert next(iter(data.text_line(path))) == "a"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: data.csv("no/such.csv"), FileNotFoundError, "such.csv"),
        (lambda: data.csv(["a", "b"]), lf.errors.ArgumentError, "a path, a URL or a file object that can seek"),
        (lambda: csv(""), lf.errors.DataError, "is empty"),
        (lambda: csv("a,a,b\n1,2,3"), lf.errors.DataError, "'a' exist twice"),
        (lambda: csv("1,2\n", has_header=False), lf.errors.ArgumentError, "give column_names; the first row has 2"),
        (lambda: csv("a,b\n", column_names=["a"]), lf.errors.ArgumentError, "has 1 names, .* 2 cells"),
        (lambda: csv("age\n", column_configs={"aeg": {}}), lf.errors.UnknownNameError, "Did you mean 'age'"),
        (lambda: csv("a\n", column_configs={"a": {"lable": 1}}), lf.errors.UnknownArgumentError, "Did you mean 'is_l"),
        (lambda: csv("a\n", column_configs={"a": {"dtype": "float23"}}), lf.errors.ArgumentError, "mean 'float32'"),
        (lambda: csv("a\n", column_configs={"a": 3}), lf.errors.ArgumentError, "must be a dict, got int"),
        (lambda: csv("a\n", configured_columns_only=True), lf.errors.ArgumentError, "must name a column"),
        (lambda: csv("a\n", delimiter=", "), lf.errors.ArgumentError, "one character"),
        (lambda: csv("a\n", delimeter=";"), lf.errors.UnknownArgumentError, "Did you mean 'delimiter'"),
        (lambda: list(csv("a,b\n1,2\n3\n")), lf.errors.DataError, r"row 2 has 1 cells, but the file has 2 columns"),
        (
            lambda: list(csv("a,b\n1,2\n,2\n", column_configs={"a": {"required": True}})),
            lf.errors.DataError,
            'row 2, column "a" is empty, but the column is required',
        ),
        (
            lambda: list(csv("a,b\n1,2\n1,\n", column_configs={"b": {"is_label": True}})),
            lf.errors.DataError,
            'row 2, column "b" is empty, but the column is a label',
        ),
        (
            lambda: list(csv("a,b\n,2\n", column_configs={"a": {"dtype": "int32"}})),
            lf.errors.DataError,
            'row 1, column "a" is empty, but the column is of dtype int32',
        ),
        (
            lambda: list(csv("a\n1\nx\n", column_configs={"a": {"dtype": "float32"}})),
            lf.errors.DataError,
            "row 2, column \"a\": 'x' is not a number, but the column is of dtype float32",
        ),
        (
            lambda: list(csv("a\n3e9\n", column_configs={"a": {"dtype": "int32"}})),
            lf.errors.DataError,
            "'3e9' does not fit in int32",
        ),
        (
            lambda: list(csv("a\nyes\n", column_configs={"a": {"dtype": "bool"}})),
            lf.errors.DataError,
            "'yes' is not true, false, 1 or 0",
        ),
        (
            lambda: list(csv("a\n" + "1\n" * ROWS + "x\n")),
            lf.errors.DataError,
            f"row {ROWS + 1}, column \"a\": 'x' is not a number, but the cells before it are numbers",
        ),
        (lambda: list(csv("a\n" + "x" * 200_000)), lf.errors.DataError, "cannot be read after row 0: field larger"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_text_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("one\r\ntwo\n\nvier ü".encode())
    dataset = data.text_line(path)
    assert list(dataset) == list(dataset) == ["one", "two", "", "vier ü"]
    path.write_bytes("ü".encode("latin-1"))
    assert list(data.text_line(path, "latin-1")) == ["ü"]
    with pytest.raises(UnicodeDecodeError) as caught:
        list(data.text_line(path))
    assert "say with encoding" in caught.value.__notes__[0] if sys.version_info >= (3, 11) else True
    with pytest.raises(FileNotFoundError):
        list(data.text_line(tmp_path / "none"))


def test_training_on_a_csv_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2))
    path = tmp_path / "line.csv"
    path.write_text("a,b,y\n" + "".join(f"{a},{b},{2 * a - b}\n" for a, b in x.tolist()))

    def columns(batch):
        return {part: np.stack(list(batch[part].values()), axis=1) for part in ("xs", "ys")}

    rows = data.csv(path, columnConfigs={"y": {"isLabel": True}}).shuffle(300, seed=1)
    model = lf.sequential([lf.layers.dense(units=1, input_shape=[2])])
    model.compile(optimizer=lf.train.sgd(0.3), loss="meanSquaredError")
    model.fit_dataset(rows.batch(32).map(columns).prefetch(), epochs=10, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0].ravel(), [2, -1], atol=1e-3)
