"""Every layer through one checker, by table (images: test_spatial_layers.py); then what is particular to some."""

import copy
import json

import numpy as np
import pytest
from layers.check import Row, check_gradients, check_layer, check_registration
from layers.sequence_cases import CELLS, FEATURES, SEQUENCES
from layers.spatial_cases import SPATIAL

from layerflow import layers as L
from layerflow.errors import ArgumentError, ModelError, ShapeError, UnknownArgumentError, UnknownNameError
from layerflow.graph.tensor import tensor
from layerflow.registry import custom_objects

_FIXED = {"time": False}
_SEQUENCE = [(2, 4, 3)]

CASES = [
    (L.Dense, {"units": 4}, [(2, 3)], (2, 4)),
    (L.Dense, {"units": 4, "activation": "tanh", "use_bias": False}, [(2, 3)], (2, 4)),
    (L.Dense, {"units": 5, "activation": "softmax", "kernel_initializer": "heUniform"}, [(2, 4, 3)], (2, 4, 5)),
    (L.Activation, {"activation": "gelu"}, [(2, 4, 3)], (2, 4, 3)),
    (L.Dropout, {"rate": 0.5}, [(2, 4, 3)], (2, 4, 3)),
    (L.Flatten, {}, [(2, 3, 4)], (2, 12), _FIXED),
    (L.Flatten, {"data_format": "channelsFirst"}, [(2, 3, 4, 5)], (2, 60), _FIXED),
    (L.Flatten, {}, [(2, 3)], (2, 3)),
    (L.Reshape, {"target_shape": [4, 3]}, [(2, 12)], (2, 4, 3)),
    (L.Reshape, {"target_shape": [None, 2]}, [(2, 3, 4)], (2, 6, 2)),
    (L.Permute, {"dims": [2, 1]}, [(2, 3, 4)], (2, 4, 3)),
    (L.RepeatVector, {"n": 3}, [(2, 4)], (2, 3, 4)),
    (L.Add, {}, [(2, 4, 3), (2, 4, 3), (2, 4, 3)], (2, 4, 3)),
    (L.Subtract, {}, [(2, 4, 3), (2, 4, 3)], (2, 4, 3)),
    (L.Multiply, {}, [(2, 4, 3), (2, 3)], (2, 4, 3)),
    (L.Average, {}, [(2, 4, 3), (2, 4, 3)], (2, 4, 3)),
    (L.Maximum, {}, [(2, 4, 3), (2, 4, 3)], (2, 4, 3)),
    (L.Minimum, {}, [(2, 4, 3), (2, 4, 3)], (2, 4, 3)),
    (L.Concatenate, {}, [(2, 3), (2, 4)], (2, 7)),
    (L.Concatenate, {}, [(2, 4, 3), (2, 4, 2)], (2, 4, 5)),
    (L.Concatenate, {"axis": 1}, [(2, 3, 2), (2, 4, 2)], (2, 7, 2)),
    (L.Dot, {"axes": 1}, [(2, 3), (2, 3)], (2, 1)),
    (L.Dot, {"axes": [2, 1], "normalize": True}, [(2, 4, 3), (2, 3, 5)], (2, 4, 5), _FIXED),
    (L.Dot, {"axes": [1, 2]}, [(2, 3), (2, 4, 3)], (2, 4)),
    (L.ReLU, {"max_value": 0.5}, _SEQUENCE, (2, 4, 3)),
    (L.ELU, {"alpha": 0.7}, _SEQUENCE, (2, 4, 3)),
    (L.LeakyReLU, {}, _SEQUENCE, (2, 4, 3)),
    (L.ThresholdedReLU, {"theta": 0.2}, _SEQUENCE, (2, 4, 3)),
    (L.PReLU, {"alpha_initializer": "ones", "shared_axes": [1]}, [(2, 3, 4)], (2, 3, 4)),
    (L.Softmax, {}, _SEQUENCE, (2, 4, 3)),
    *SEQUENCES,
    *FEATURES,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_layer(case, tmp_path):
    cls, settings, shapes, output, *options = case
    check_layer(cls, settings, *shapes, output=output, tmp_path=tmp_path, **(options[0] if options else {}))


@pytest.mark.parametrize(("cls", "settings", "states"), CELLS, ids=lambda v: getattr(v, "__name__", None))
def test_cell(cls, settings, states):
    """A cell alone gives the output and as many states as it takes; the output is that of the layer with one step."""
    rng = np.random.default_rng(0)
    cell = cls(**settings)
    image = (3, 3) if "filters" in settings else ()
    x = rng.normal(size=(2, *image, 4)).astype(np.float32)
    widths = [3, 4, 4] if states == 3 else [4] * states
    given = [rng.normal(size=(2, *image, n)).astype(np.float32) for n in widths]
    y, *new = cell.apply([x, *given])
    assert [np.shape(s) for s in new] == [s.shape for s in given]
    output, again = cell(x, given)
    np.testing.assert_array_equal(output, y)
    np.testing.assert_array_equal(again[-1], new[-1])
    entry = {"class_name": cell.get_class_name(), "config": cell.get_config()}
    assert L.deserialize(entry).get_config() == cell.get_config()
    check_registration(cell)
    np.testing.assert_array_equal(copy.deepcopy(cell).apply([x, *given])[0], y)
    for training in (False, True):
        check_gradients(cls, settings, [x, *given], training)
    layer = (L.ConvLSTM2D if image else L.RNN)(**settings if image else {"cell": entry}, return_state=True)
    layer.apply(x[:, None])
    layer.set_weights(cell.get_weights())
    np.testing.assert_allclose(layer.apply(x[:, None], initial_state=given)[0], y, rtol=1e-5, atol=1e-6)


def test_every_layer_has_a_case():
    exported = {getattr(L, name) for name in L.__all__}
    layers = {one for one in exported if isinstance(one, type) and issubclass(one, L.Layer)}
    assert {row[0] for row in (*CASES, *SPATIAL, *CELLS)} == layers - {L.Layer, L.InputLayer}


def test_every_layer_that_takes_masks_has_a_case_with_steps():
    """Masks are of steps, [batch, steps, ...]: a layer with cases of [batch, features] only would go unchecked."""
    rows = [Row(*row[:4], **(row[4] if len(row) > 4 else {})) for row in (*CASES, *SPATIAL)]
    taking = {row.cls for row in rows if row.cls(**row.settings).supports_masking}
    assert taking == {row.cls for row in rows if row.sequences and row.cls in taking}


def test_the_input_layer_is_copied_and_written_like_the_others():
    layer = L.input_layer(input_shape=[4, None], dtype="int32")
    entry = json.loads(json.dumps({"class_name": "InputLayer", "config": layer.get_config()}))
    for other in (L.deserialize(entry), copy.deepcopy(layer)):
        assert other.get_config() == layer.get_config()
        assert other.output is not layer.output
        assert other.output.shape == (None, 4, None)


class Swish(L.Layer):
    """A custom layer in plain NumPy: `-self.beta` has no symbolic operand, and must still be differentiated."""

    def build(self, input_shape):
        self.beta = self.add_weight("beta", (input_shape[-1],), "ones")

    def call(self, x):
        return x / (1 + np.exp(-self.beta * x))


class SquaredSum(L.Layer):
    def compute_output_shape(self, input_shape):
        return []

    def call(self, input, kwargs):
        return np.square(input).sum()

    def get_class_name(self):
        return "SquaredSum"


class Scale(L.Layer):
    """Takes no base arguments itself, and contains a layer."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.inner = L.Dense(2, use_bias=False)

    def call(self, x, training=False):
        return self.inner(x) * (self.factor if training else 1.0)


def test_custom_layers(tmp_path):
    with custom_objects({"Swish": Swish, "Scale": Scale}):
        check_layer(Swish, {}, (2, 3), output=(2, 3), tmp_path=tmp_path / "a")
        layer = check_layer(Scale, {"factor": 3}, (2, 3), output=(2, 2), gradient=False, tmp_path=tmp_path / "b")
    assert layer.get_config() == {"factor": 3, "name": layer.name, "trainable": True}
    assert [w.shape for w in layer.weights] == [(3, 2)]
    x = np.ones((2, 3))
    np.testing.assert_allclose(layer(x, training=True), 3 * layer(x), rtol=1e-6)
    layer.trainable = False
    assert layer.trainable_weights == []
    assert not layer.inner.trainable


def test_the_custom_layer_of_the_guides():
    assert float(SquaredSum().apply([-2, 1, 0, 5])) == 30
    assert SquaredSum().apply(L.input(shape=[3])).shape == ()
    check_gradients(SquaredSum, {}, [np.ones((2, 3))])


def test_factories_and_both_spellings_make_the_same_layer():
    a = L.dense(units=3, useBias=False, kernelInitializer="glorotUniform", inputShape=[4], name="d")
    b = L.Dense(3, use_bias=False, kernel_initializer="glorot_uniform", input_shape=[4], name="d")
    assert a.get_config() == b.get_config()
    assert float(np.asarray(L.add([np.ones((1, 1)), np.ones((1, 1))]))[0, 0]) == 2


def test_activation_prints_as_in_the_guides(capsys):
    L.activation(activation="relu").apply(tensor([-2, 1, 0, 5])).print()
    assert capsys.readouterr().out == "[0., 1., 0., 5.]\n"


def test_dropout_acts_in_training_only():
    x = np.ones((1000, 4), np.float32)
    layer = L.dropout(rate=0.25)
    assert np.array_equal(layer(x), x)
    y = np.asarray(layer(x, training=True))
    assert set(np.unique(y).round(5)) == {0, np.float32(1 / 0.75).round(5)}
    assert abs(float(y.mean()) - 1) < 0.1
    assert (np.asarray(L.dropout(rate=0.5, noise_shape=[None, 1])(x, training=True)).std(axis=1) == 0).all()


def test_activity_regularizer_is_collected():
    x = L.input(shape=[3])
    layer = L.dense(
        units=3, kernel_initializer="identity", activity_regularizer={"class_name": "L1", "config": {"l1": 1}}
    )
    net = layer(x).source.layer
    penalties = []
    net.forward([np.full((2, 3), 2.0, np.float32)], [None], True, penalties)
    assert [float(p) for p in penalties] == [6.0]


def _symbolic_dense(**settings):
    return L.dense(**settings)(L.input(shape=[4]))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: L.dense(unit=3), UnknownArgumentError, ["Dense", "'unit'", "'units'"]),
        (lambda: L.dense(), UnknownArgumentError, ["units"]),
        (lambda: L.dense(units=0), ArgumentError, ["units", "positive integer"]),
        (lambda: L.dense(units=1, activation="rellu"), UnknownNameError, ["rellu", "'relu'"]),
        (lambda: L.dense(units=1, name="-x"), ArgumentError, ["-x", "name"]),
        (lambda: L.dense(units=1)(np.ones(3)), ShapeError, ["dense_", "[3]", "at least 2"]),
        (lambda: _symbolic_dense(units=2).source.layer(np.ones((2, 5))), ShapeError, ["[2,5]", "4"]),
        (lambda: L.add()([L.input(shape=[2]), np.ones((1, 2))]), ArgumentError, ["symbols", "arrays"]),
        (lambda: L.add()([np.ones((2, 3)), np.ones((2, 4))]), ShapeError, ["[2,3]", "[2,4]"]),
        (lambda: L.add()(np.ones((2, 3))), ArgumentError, ["at least 2"]),
        (lambda: L.concatenate()([np.ones((2, 3)), np.ones((3, 4))]), ShapeError, ["[2,3]", "[3,4]"]),
        (lambda: L.reshape([5])(np.ones((2, 4))), ShapeError, ["4", "5", "total size"]),
        (lambda: L.reshape([-1, -1]), ArgumentError, ["one unknown"]),
        (lambda: L.permute(dims=[1, 3]), ArgumentError, ["1 to 2"]),
        (lambda: L.flatten()(L.input(shape=[None, 3])), ShapeError, ["flatten", "[null,null,3]"]),
        (lambda: L.dropout(rate=1.5), ArgumentError, ["rate"]),
        (lambda: L.dense(units=1)(L.input(shape=[2]) + 1), ModelError, ["not made by a layer"]),
        (lambda: L.input(), ArgumentError, ["exactly one"]),
        (lambda: L.dense(units=1)(L.input(shape=[2]), trainig=True), UnknownArgumentError, ["trainig"]),
    ],
)
def test_wrong_use_is_refused_with_a_reason(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)
