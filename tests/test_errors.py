"""Wrong input is refused: the message names the place, the shapes and the remedy, and nothing has changed."""

from __future__ import annotations

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError, LayerflowError, NotCompiledError, ShapeError, TraceError, UnknownNameError

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3
Y = np.eye(3, dtype=np.float32)[LABELS]
NAN = np.where(np.arange(48).reshape(12, 4) == 17, np.nan, X)


def make(loss="categoricalCrossentropy"):
    model = lf.sequential(
        [
            lf.layers.dense(units=5, activation="relu", input_shape=[4], name="first"),
            lf.layers.dense(units=3, activation="softmax", name="last"),
        ]
    )
    model.compile(optimizer="adam", loss=loss)
    return model


# name, x, y, what the message must hold
BAD_DATA = {
    "feature count": (X[:, :3], Y, ["first", "[12, 3]", "[batch,4]", "input_shape=[3]"]),
    "rank too low": (X[0], Y[:1], ["first", "[4]", "x[None]"]),
    "rank too high": (X.reshape(12, 2, 2), Y, ["[12, 2, 2]", "x.reshape(-1, 4)"]),
    "label width": (X, np.ones((12, 2)), ["last", "[12, 2]", "[batch,3]", "categorical"]),
    "class numbers for a one-hot loss": (X, LABELS, ["last", "np.eye(3)[y]", "sparseCategoricalCrossentropy"]),
    "no rows": (X[:0], Y[:0], ["empty", "[0, 4]"]),
    "no features": (X[:, :0], Y, ["empty", "[12, 0]"]),
    "different lengths": (X, Y[:7], ["12", "7", "same length"]),
    "NaN in x": (NAN, Y, ["first", "NaN", "1 of 12", "number 4"]),
    "NaN in y": (X, np.full_like(Y, np.nan), ["last", "NaN", "12 of 12"]),
    "infinity in x": (np.where(X > 1, np.inf, X), Y, ["infinity"]),
    "strings": (np.full((12, 4), "a"), Y, ["text", "encode"]),
    "numbers as strings": ([["1", "2", "3", "4"]], Y[:1], ["text", "np.asarray(x, np.float32)"]),
    "objects": (X.astype(object), Y, ["Python objects"]),
    "ragged": ([[1, 2, 3, 4], [1, 2]], Y[:2], ["ragged"]),
    "complex": (X.astype(np.complex64), Y, ["complex"]),
    "a number": (np.float32(3), Y, ["single number"]),
    "nothing": (None, Y, ["x is missing"]),
    "no labels": (X, None, ["y is missing"]),
    "too many arrays": ({"first_input": X, "other": X}, Y, ['"other"', "does not exist"]),
}


def bad_calls():
    """train_on_batch looks at types and shapes, not for NaN: that would cost as much as a small step."""
    methods = ("fit", "evaluate", "train_on_batch")
    return [
        (name, method)
        for name in BAD_DATA
        for method in methods
        if method != "train_on_batch" or "in" not in name.split()
    ]


@pytest.mark.parametrize(("name", "method"), bad_calls())
def test_bad_data(name, method):
    x, y, parts = BAD_DATA[name]
    model = make()
    before = model.get_weights()
    with pytest.raises(DataError) as raised:
        getattr(model, method)(x, y)
    for part in parts:
        assert part in str(raised.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("name", ["feature count", "rank too low", "rank too high", "no rows", "strings", "ragged"])
@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_bad_data_for_predict(name, method):
    x, _, parts = BAD_DATA[name]
    with pytest.raises(DataError) as raised:
        getattr(make(), method)(x)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (LABELS + 1, "label 3.* 0 to 2"),
        (LABELS - 1, "label -1.* 0 to 2"),
        (LABELS + 0.5, "whole numbers"),
        (Y, r"argmax\(-1\)"),
    ],
)
def test_bad_sparse_labels(labels, part):
    model = make("sparseCategoricalCrossentropy")
    before = model.get_weights()
    with pytest.raises(DataError, match=part) as raised:
        model.fit(X, labels)
    assert '"last"' in str(raised.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


BAD_OPTIONS = {
    "unknown argument": ({"epoch": 3}, "epochs"),
    "batch size": ({"batch_size": 0}, "batch_size"),
    "epochs": ({"epochs": -1}, "epochs"),
    "empty validation side": ({"validation_split": 0.95}, "at least one"),
    "validation split": ({"validation_split": 1.5}, "validation_split"),
    "validation data": ({"validation_data": X}, "validation_data"),
    "bad validation data": ({"validation_data": (X[:, :2], Y)}, r"\[12, 2\]"),
    "callback name": ({"callbacks": {"on_batch_ends": print}}, "on_batch_end"),
    "callback kind": ({"callbacks": [3]}, "Callback"),
    "sample weights": ({"sample_weight": np.ones(3)}, "12 numbers"),
    "class weights": ({"class_weight": {0: 1.0, 1: 1.0}}, r"\[2\]"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_of_fit(name):
    options, part = BAD_OPTIONS[name]
    model = make()
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=part):
        model.fit(X, Y, **options)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


BAD_NAMES = {
    "activation": (lambda: lf.layers.dense(units=2, activation="rellu"), "relu"),
    "initializer": (lambda: lf.layers.dense(units=2, kernel_initializer="glorotnormall"), "[Gg]lorot"),
    "optimizer": (lambda: make().compile(optimizer="adamm", loss="mse"), "[Aa]dam"),
    "loss": (lambda: make().compile(optimizer="sgd", loss="meanSquaredEror"), "mean_?[Ss]quared_?[Ee]rror"),
    "metric": (lambda: make().compile(optimizer="sgd", loss="mse", metrics=["acuracy"]), "accuracy"),
    "output": (lambda: make().compile(optimizer="sgd", loss={"lasst": "mse"}), "last"),
    "layer argument": (lambda: lf.layers.dense(unit=3), "units"),
}


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_unknown_names_come_with_the_nearest(kind):
    call, nearest = BAD_NAMES[kind]
    with pytest.raises(LayerflowError, match=f"(?s)Did you mean.*{nearest}"):
        call()


def test_refused_compile_keeps_the_old_one():
    model = make()
    optimizer = model.optimizer
    with pytest.raises(UnknownNameError):
        model.compile(optimizer="sgd", loss="nothing at all")
    assert model.optimizer is optimizer
    model.train_on_batch(X, Y)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_before_compile(method):
    model = lf.sequential([lf.layers.dense(units=3, input_shape=[4])])
    with pytest.raises(NotCompiledError, match=r"model\.compile\("):
        getattr(model, method)(X, Y)


def test_compile_without_loss():
    with pytest.raises(ValueError, match="loss"):
        lf.sequential([lf.layers.dense(units=3, input_shape=[4])]).compile(optimizer="sgd")


def test_missing_input_shape():
    with pytest.raises(LayerflowError, match="input_shape"):
        lf.sequential([lf.layers.dense(units=3)]).predict(X)


def test_layer_named_twice():
    layers = [lf.layers.dense(units=3, input_shape=[4], name="same"), lf.layers.dense(units=3, name="same")]
    with pytest.raises(LayerflowError, match=r"['\"]same['\"]"):
        lf.sequential(layers).predict(X)


def test_disconnected_graph():
    a, b = lf.input(shape=[4]), lf.input(shape=[4])
    with pytest.raises(LayerflowError, match=r"(?i)disconnected"):
        lf.model(inputs=a, outputs=lf.layers.add().apply([a, b]))


def test_incompatible_layers_name_both():
    layer = lf.layers.dense(units=2, name="narrow")
    layer.apply(lf.input(shape=[4]))
    with pytest.raises(ShapeError, match=r"narrow.*4"):
        layer.apply(lf.input(shape=[5]))


def test_mixed_symbolic_and_concrete():
    with pytest.raises(LayerflowError, match="all symbols or all arrays"):
        lf.layers.add().apply([lf.input(shape=[4]), X])


SYMBOL_MISUSE = {
    "bool": bool,
    "float": float,
    "int": int,
    "len": len,
    "iteration": list,
    "asarray": np.asarray,
    "if": lambda x: 1 if x.sum() > 0 else 2,
    "max": lambda x: max(x, 0),
}


@pytest.mark.parametrize("kind", SYMBOL_MISUSE)
def test_symbols_are_no_values(kind):
    with pytest.raises(TraceError) as raised:
        SYMBOL_MISUSE[kind](lf.input(shape=[4]))
    assert len(str(raised.value)) > 40, "says what to write instead"
