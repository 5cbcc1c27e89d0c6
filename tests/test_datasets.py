"""The data sets: shapes, ranges, a split that does not move, and MNIST's files."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from layerflow.datasets import digits, mnist


def test_digits():
    (x_train, y_train), (x_test, y_test) = digits.load()
    assert x_train.shape == (1437, 8, 8)
    assert x_test.shape == (360, 8, 8)
    assert x_train.dtype == y_train.dtype == np.uint8
    assert x_train.max() == 16
    assert np.bincount(y_test, minlength=10).min() > 20
    assert len(y_train) + len(y_test) == 1797


def test_the_split_of_digits_does_not_move():
    (_, y_train), _ = digits.load()
    assert hashlib.sha256(y_train.tobytes()).hexdigest()[:16] == "53f898fb81bedc19"


def write_idx(path, magic, array, pack):
    data = struct.pack(f">I{array.ndim}I", magic, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if pack else data)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, rows, pack in (("train", 5, True), ("t10k", 3, False)):
        end = ".gz" if pack else ""
        images = rng.integers(0, 256, (rows, 28, 28), np.uint8)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{end}", 2051, images, pack)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{end}", 2049, np.arange(rows, dtype=np.uint8), pack)
    return tmp_path


def test_mnist(folder, monkeypatch):
    (x_train, y_train), (x_test, _) = mnist.load(folder)
    assert x_train.shape == (5, 28, 28)
    assert y_train.tolist() == [0, 1, 2, 3, 4]
    assert x_test.shape == (3, 28, 28)
    monkeypatch.setenv("LAYERFLOW_MNIST", str(folder))
    np.testing.assert_array_equal(mnist.load()[0][0], x_train)


def test_mnist_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("LAYERFLOW_MNIST", raising=False)
    with pytest.raises(FileNotFoundError, match="LAYERFLOW_MNIST"):
        mnist.load()
    with pytest.raises(FileNotFoundError, match="train-images"):
        mnist.load(tmp_path)


def test_mnist_cut_short(folder):
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        mnist.load(folder)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no gzip", lambda data: data[:20] + data])
def test_mnist_that_cannot_be_unpacked(folder, damage):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz cannot be unpacked"):
        mnist.load(folder)


def test_mnist_with_another_header(folder):
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(b"\0" * 11)
    with pytest.raises(ValueError, match="IDX"):
        mnist.load(folder)
