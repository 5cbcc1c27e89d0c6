"""What the README promises of training, for convolutional networks: same bits, one compile, no growth."""

from __future__ import annotations

import hashlib
import re
import sys

import numpy as np
import pytest
from test_promises import DOUBLE_ARITHMETIC, RESIDENT, run

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit import target, threads
from layerflow.jit.executable import Executable

ROWS, BATCH = 43, 13  # three batches of 13 and one of 4: no multiple of 8 among them, so that shards are uneven


def network() -> lf.Sequential:
    """Batch normalization in two places, dropout, and channels enough for Winograd's algorithm."""
    lf.reset_names()  # the masks of dropout are those of the layer's name
    lf.random.set_seed(7)
    layers = lf.layers
    model = lf.sequential(
        [
            layers.conv2d(filters=32, kernel_size=3, padding="same", use_bias=False, input_shape=[14, 13, 3]),
            layers.batch_normalization(),
            layers.activation(activation="relu"),
            layers.conv2d(filters=36, kernel_size=3, activation="relu"),
            layers.max_pooling2d(pool_size=2),
            layers.dropout(rate=0.3),
            layers.flatten(),
            layers.dense(units=16),
            layers.batch_normalization(),
            layers.dense(units=4, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categoricalCrossentropy")
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, 14, 13, 3)).astype(np.float32)
    return x, np.eye(4, dtype=np.float32)[rng.integers(0, 4, ROWS)]


def trained(epochs: int = 2) -> lf.Sequential:
    """After `fit`, which stays in native code for several steps."""
    model = network()
    model.fit(*data(), batch_size=BATCH, epochs=epochs, verbose=0, shuffle=False)
    return model


def digest(model: lf.Sequential) -> str:
    """Of all weights, moving statistics included."""
    return hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()


def test_the_network_under_test_has_what_the_promises_are_about():
    """Winograd's algorithm in all passes, sums over samples in shards, statistics that have moved."""
    text = dump(network(), "schedule")
    for pass_ in ("winograd_convolve", "winograd_gradients", "shards"):
        assert pass_ in text
    for before, after in zip(network().get_weights(), trained().get_weights(), strict=True):
        assert not np.array_equal(before, after)


def test_same_bits_on_one_two_and_three_threads(monkeypatch):
    """Teams are forced: the network is too small for more than one thread, and this machine may have no more."""
    teams: list[int] = []
    start = threads.Pool.run

    def counted(pool: threads.Pool, function: int, table: int, team: int) -> None:
        teams.append(team)
        start(pool, function, table, team)

    monkeypatch.setattr(threads.Pool, "run", counted)
    digests = set()
    for team in (1, 2, 3):
        monkeypatch.setattr(Executable, "_thread_count", lambda _program, _rows, team=team: team)
        digests.add(digest(trained()))
    assert len(digests) == 1
    assert set(teams) == {2, 3}


def test_same_bits_step_by_step():
    """`train_on_batch`, one call a step, ends at the bits of `fit`."""
    x, y = data()
    model = network()
    for _ in range(2):
        for at in range(0, ROWS, BATCH):
            model.train_on_batch(x[at : at + BATCH], y[at : at + BATCH])
    assert digest(model) == digest(trained())


IN_ANOTHER_PROCESS = "from test_promises_images import digest, trained; print(digest(trained()))"


def test_same_bits_in_another_process(request):
    folder = str(request.path.parent)
    assert run(IN_ANOTHER_PROCESS, PYTHONPATH=folder).split() == [digest(trained())]


def test_one_compile_serves_every_batch_size():
    x, y = data()
    model = network()
    with lf.debug.assert_max_compiles(1):
        for size in (BATCH, 1, ROWS, 8):
            model.fit(x, y, batch_size=size, verbose=0)
        model.train_on_batch(x[:3], y[:3])
    with lf.debug.assert_max_compiles(1):
        for rows in (1, 2, 33, ROWS):
            assert model.predict(x[:rows]).shape == (rows, 4)


STEP_AND_PRINT = """
from test_promises_images import data, network
x, y = data()
model = network()
def steps(count):
    for _ in range(count):
        model.train_on_batch(x, y)
    model.fit(x, y, batch_size=10, epochs=count // 5, verbose=0)
steps(50)
first = resident()
steps(400)
print(resident() - first)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_hundreds_of_steps_need_no_more_memory_than_fifty(request):
    assert int(run(RESIDENT + STEP_AND_PRINT, PYTHONPATH=str(request.path.parent))) < 1 << 20


IMAGE_KERNEL = re.compile(r"^(k\d+_\w*_(?:winograd_convolve|winograd_gradients|convolve|convolve_kernel)):")
MULTIPLY_ADD = re.compile(r"^\s+(vfn?m(?:add|sub)\d+\ws)\s.*%([xyz]mm)", re.MULTILINE)


def test_assembly_of_a_training_step():
    """Images are multiplied in whole vectors; nothing is in double precision; no call leaves layerflow's own code."""
    assembly = dump(network(), "asm", mode="train")
    assert not DOUBLE_ARITHMETIC.findall(assembly)
    defined = set(re.findall(r"^([\w.$]+):", assembly, re.MULTILINE))
    called = {name.split("@")[0] for name in re.findall(r"^\s+call\w*\s+([^\s*]\S*)", assembly, re.MULTILINE)}
    assert {name for name in called - defined if not name.startswith("lf_")} == set()
    if not target.host().has_avx512:
        pytest.skip("the rest is about vectors of 512 bits, which this target does not have")
    kernels = [k for k in re.split(r"^(?=\w+:)", assembly, flags=re.MULTILINE) if IMAGE_KERNEL.match(k)]
    assert len(kernels) == 4, "convolve and convolve_kernel of the first layer, Winograd's two of the second"
    for kernel in kernels:
        used = MULTIPLY_ADD.findall(kernel)
        assert len(used) > 20, kernel.split(":")[0]
        assert {(name[-2:], register) for name, register in used} == {("ps", "zmm")}, kernel.split(":")[0]
