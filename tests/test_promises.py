"""What the README promises of training as a whole: same bits, one compile, no growth, real data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit import target


def run(code: str, **environment: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAIN_AND_PRINT = """
import hashlib, numpy as np, layerflow as lf
lf.set_num_threads({threads})
lf.random.set_seed(7)
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 40), np.float32)
y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 300)]
model = lf.sequential([lf.layers.dense(units=64, activation="relu", input_shape=[40]), lf.layers.dropout(rate=0.3),
                       lf.layers.dense(units=10, activation="softmax")])
model.compile(optimizer="adam", loss="categoricalCrossentropy")
model.fit(x, y, epochs=3, batch_size=32, verbose=0)
print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


def test_same_bits_in_two_processes_and_on_two_threads():
    digests = set()
    for threads in (1, 2, 1):
        digests.add(run(TRAIN_AND_PRINT.format(threads=threads)))
    assert len(digests) == 1


def data(rows: int):
    rng = np.random.default_rng(5)
    return rng.standard_normal((rows, 6), np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, rows)]


def classifier():
    model = lf.sequential(
        [
            lf.layers.dense(units=8, activation="relu", input_shape=[6]),
            lf.layers.dense(units=3, activation="softmax"),
        ]
    )
    model.compile(optimizer="sgd", loss="categoricalCrossentropy", metrics=["accuracy"])
    return model


def test_one_compile_serves_every_batch_size():
    x, y = data(70)
    model = classifier()
    with lf.debug.assert_max_compiles(1):
        model.fit(x, y, batch_size=32, verbose=0)
        model.fit(x, y, batch_size=70, verbose=0)
        model.fit(x[:5], y[:5], batch_size=1, verbose=0)
    with lf.debug.assert_max_compiles(1):
        for rows in (1, 2, 33, 70):
            assert model.predict(x[:rows]).shape == (rows, 3)


def test_assert_max_compiles_notices():
    x, y = data(40)
    with pytest.raises(AssertionError, match="at most 0"), lf.debug.assert_max_compiles(0):
        classifier().fit(x, y, verbose=0)


# Memory in use, not the peak: a process inherits the peak of the one that started it, which would hide growth.
RESIDENT = """
import os
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""
STEP_AND_PRINT = """
import numpy as np, layerflow as lf
rng = np.random.default_rng(0)
x, y = rng.standard_normal((32, 784), np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, 32)]
model = lf.sequential([lf.layers.dense(units=32, activation="relu", input_shape=[784]),
                       lf.layers.dense(units=10, activation="softmax")])
model.compile(optimizer=lf.train.sgd(0.1), loss="categoricalCrossentropy")
for _ in range(100):
    model.train_on_batch(x, y)
first = resident()
for _ in range(9900):
    model.train_on_batch(x, y)
print(resident() - first)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_ten_thousand_steps_need_no_more_memory_than_a_hundred():
    assert int(run(RESIDENT + STEP_AND_PRINT)) < 1 << 20


DOUBLE_ARITHMETIC = re.compile(r"^\s+(v?(?:add|sub|mul|div|sqrt|min|max|fn?m(?:add|sub)\d+)[sp]d)\b", re.MULTILINE)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_assembly_of_a_training_step(optimizer):
    model = lf.sequential(
        [
            lf.layers.dense(units=32, activation="relu", input_shape=[784]),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )
    model.compile(optimizer=optimizer, loss="categoricalCrossentropy")
    assembly = dump(model, "asm", mode="train")
    if target.host().has_avx512:
        assert re.search(r"vfmadd\w+ps\s.*%zmm", assembly)
    assert not DOUBLE_ARITHMETIC.findall(assembly)
    defined = set(re.findall(r"^([\w.$]+):", assembly, re.MULTILINE))
    called = {name.split("@")[0] for name in re.findall(r"^\s+call\w*\s+([^\s*]\S*)", assembly, re.MULTILINE)}
    assert {name for name in called - defined if not name.startswith("lf_")} == set()


MNIST = Path(os.environ.get("LAYERFLOW_MNIST") or Path(__file__).parents[2] / "shared/data/mnist")


@pytest.mark.long
@pytest.mark.skipif(not MNIST.is_dir(), reason="needs the MNIST files: name their folder in LAYERFLOW_MNIST")
def test_mnist_reaches_96_percent_in_five_epochs():
    (x_train, y_train), (x_test, y_test) = lf.datasets.mnist.load(MNIST)
    lf.random.set_seed(1)
    model = lf.sequential(
        [
            lf.layers.dense(units=32, activation="relu", input_shape=[784]),
            lf.layers.dense(units=10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparseCategoricalCrossentropy", metrics=["accuracy"])
    x_train, x_test = (images.reshape(-1, 784).astype(np.float32) / 255 for images in (x_train, x_test))
    model.fit(x_train, y_train, epochs=5, verbose=0)
    _, accuracy = model.evaluate(x_test, y_test)
    assert accuracy >= 0.96
