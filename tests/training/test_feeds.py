"""The kinds of data that fit, evaluate and predict take."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError
from tests.training.network import LABELS, X, Y, batches, equal, make, rows


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
