"""Python's search for garbage is off while something is compiled, and as it was afterwards."""

import gc

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import CompileError
from layerflow.jit import garbage, library, pipeline


@pytest.fixture
def searching():
    """Whatever a test does, the search goes on after it."""
    assert gc.isenabled()
    yield
    gc.enable()


def fitted() -> None:
    model = lf.sequential([lf.layers.dense(units=2, input_shape=[3])])
    model.compile(optimizer="sgd", loss="mse")
    model.train_on_batch(np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))


def test_off_while_compiling_and_on_again(searching, monkeypatch):
    seen, build = [], library.build
    monkeypatch.setattr(pipeline.library, "build", lambda source: seen.append(gc.isenabled()) or build(source))
    fitted()
    assert seen == [False]
    assert gc.isenabled()


def test_on_again_after_an_error(searching, monkeypatch):
    def build(source):
        raise CompileError("no")

    monkeypatch.setattr(pipeline.library, "build", build)
    with pytest.raises(CompileError, match="no"):
        fitted()
    assert gc.isenabled()


def test_stays_off_where_it_was(searching):
    gc.disable()
    with garbage.left_alone():
        pass
    assert not gc.isenabled()
