"""check_layer: what every layer must do, by row of the table in test_layers.py."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from layers.check_training import check_training
from layers.checking import both_ways, joined, single_or_list

from layerflow import registry
from layerflow.errors import LayerflowError, LoadError
from layerflow.graph import autodiff, execution, ops, trace
from layerflow.layers import deserialize
from layerflow.layers.base import Layer, as_list
from layerflow.layers.input_layer import input as lf_input
from layerflow.layers.signatures import call_parameters
from layerflow.models.cloning import clone_model
from layerflow.models.functional import model
from layerflow.models.saving import load_layers_model


@dataclass
class Row:
    """A layer, inputs for it, and what is known about it.

    Attributes:
        gradient: False where the output has no gradient.
        low: least element of the inputs.
        whole: inputs are whole numbers below this.
        time: False where the extent of axis 1 must be known: the layer then says so.  None: one length is the point.
        trains: False where a compiled training step refuses the layer.
        mask_axis: axis of the steps that masks are about.
        across: True where an output of one step depends on all steps, masked or not.
    """

    cls: Any
    settings: dict[str, Any]
    shapes: Sequence[tuple[int, ...]]
    output: tuple[int, ...]
    gradient: bool = True
    low: float = -1.0
    whole: int | None = None
    time: bool | None = True
    trains: bool = True
    mask_axis: int = 1
    across: bool = False

    def arrays(self, rows: int | None = None, seed: int = 3) -> list[np.ndarray]:
        """Inputs in float64, or whole numbers."""
        rng = np.random.default_rng(seed)
        shapes = [(rows or s[0], *s[1:]) for s in self.shapes]
        if self.whole is not None:
            return [rng.integers(0, self.whole, s) for s in shapes]
        return [rng.uniform(self.low, 1.0, s) for s in shapes]

    def inputs(self, rows: int | None = None) -> list[np.ndarray]:
        return [a.astype(np.float32) for a in self.arrays(rows)]

    @property
    def sequences(self) -> bool:
        """Whether the first input has an axis of steps, or what stands there: [batch, steps, ...]."""
        return len(self.shapes[0]) > 2 or self.whole is not None


def check_layer(cls: Any, settings: dict, *shapes: tuple[int, ...], output: tuple[int, ...], tmp_path=None, **options):
    """All that a layer must do; `options` are those of `Row`."""
    row = Row(cls, settings, shapes, output, **options)
    layer, xs = cls(**settings), row.inputs()
    symbols = [lf_input(shape=s[1:]) for s in shapes]
    symbol = layer.apply(single_or_list(symbols))
    eager = layer.apply(single_or_list(xs))
    assert eager.shape == output
    assert all(a in (b, None if not row.trains else b) for a, b in zip(symbol.shape[1:], output[1:], strict=True))
    assert symbol.shape[0] is None
    check_config(layer, xs, eager)
    check_registration(layer)
    net = model(inputs=symbols, outputs=symbol)
    check_any_batch(net, layer, xs)
    check_copies(net, layer, xs)
    if row.gradient:
        for training in (False, True)[: 1 + (row.trains and "training" in call_parameters(cls.call)[0])]:
            check_gradients(cls, settings, row.arrays(), training)
    if row.sequences and row.time is not None:
        check_lengths(row)
    if row.sequences:
        check_masks(row)
    if row.trains:
        check_training(row)
    if tmp_path is not None:
        net.save(tmp_path)
        np.testing.assert_array_equal(load_layers_model(tmp_path).replay(xs)[0][0], eager)
    return layer


def check_config(layer: Layer, xs: Sequence[np.ndarray], eager: Any) -> None:
    """The configuration is JSON; in either spelling it makes a layer that computes the same with the same weights."""
    settings = layer.get_config()
    assert type(layer).from_config(settings).get_config() == settings
    for spelled in (settings, {registry.camel_case(name): value for name, value in settings.items()}):
        entry = json.loads(json.dumps({"class_name": layer.get_class_name(), "config": spelled}))
        again = deserialize(entry)
        assert again.get_config() == settings
        again.apply(single_or_list(xs))
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(again.apply(single_or_list(xs)), eager)


def check_registration(layer: Layer) -> None:
    """A subclass of the user's is known where it is registered, and nowhere else."""
    mine: Any = type(f"My{type(layer).__name__}", (type(layer),), {})
    entry = {"class_name": mine.__name__, "config": layer.get_config()}
    with registry.custom_objects({mine.__name__: mine}):
        assert type(deserialize(entry)) is mine
    assert type(deserialize(entry, {mine.__name__: mine})) is mine
    with pytest.raises(LoadError, match=mine.__name__):
        deserialize(entry)


def check_any_batch(net: Any, layer: Layer, xs: Sequence[np.ndarray]) -> None:
    """One model, compiled and interpreted, computes batches of any size as the layer does eagerly."""
    for rows in (len(xs[0]), 1, 2 * len(xs[0])):
        given = single_or_list([np.resize(x, (rows, *x.shape[1:])) for x in xs])
        eager = layer.apply(given)
        for jit in both_ways(net):
            np.testing.assert_allclose(net.predict(given), eager, rtol=1e-4, atol=1e-5, err_msg=f"{jit=}, {rows=}")


def check_copies(net: Any, layer: Layer, xs: Sequence[np.ndarray]) -> None:
    """Deep copies of layer and model have equal weights of their own; a clone of the model has new ones."""
    eager, first = layer.apply(single_or_list(xs)), layer.get_weights()
    other = copy.deepcopy(layer)
    assert other.name == layer.name
    np.testing.assert_array_equal(other.apply(single_or_list(xs)), eager)
    twin, clone = copy.deepcopy(net), clone_model(net)
    np.testing.assert_array_equal(twin.replay(xs)[0][0], eager)
    assert twin.get_config() == clone.get_config() == net.get_config()
    assert [w.shape for w in clone.weights] == [w.shape for w in net.weights]
    for made in (other, twin, clone):
        made.set_weights([w + 1 for w in made.get_weights()])
    for kept, now in zip(first, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def check_gradients(cls, settings: dict, arrays: Sequence[np.ndarray], training: bool = False) -> None:
    """d sum(output * cotangent) along one random direction, against a central difference, in float64."""
    layer = cls(**settings, dtype="float64")
    given = [np.array(a) for a in arrays]
    whole = {at for at, a in enumerate(given) if a.dtype.kind != "f"}  # whole numbers have no gradient
    shape = np.shape(as_list(layer.apply(single_or_list(given)))[0])
    rng = np.random.default_rng(4)
    cotangent = rng.normal(size=shape)
    points = [*given, *(w.numpy() + 0.1 * rng.normal(size=w.shape) for w in layer.weights)]
    directions = [rng.normal(size=p.shape) if at not in whole else 0 for at, p in enumerate(points)]
    symbols = [ops.placeholder(a.shape, a.dtype if i in whole else np.float64, f"x{i}") for i, a in enumerate(given)]
    with trace.tracing() as record:
        outputs, _ = layer.forward(list(symbols), [None] * len(symbols), training, [])
        loss = ops.sum(as_list(outputs)[0] * cotangent)
        found = autodiff.gradients(loss, [*symbols, *layer.weights])
    kept = [(g, d) for g, d in zip(found, directions, strict=True) if g is not None]
    graph, drawn = record.graph(symbols, [loss, *(g for g, _ in kept)]), execution.draw()

    def results(step: float) -> list[Any]:
        moved = [p + step * d for p, d in zip(points, directions, strict=True)]
        layer.set_weights(moved[len(given) :])
        return [np.asarray(r) for r in execution.run(graph, moved[: len(given)], drawn)]

    numeric = float(results(1e-5)[0] - results(-1e-5)[0]) / 2e-5
    exact = sum(float(np.sum(r * d)) for r, (_, d) in zip(results(0.0)[1:], kept, strict=True))
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-7, err_msg=f"{training=}")


def check_lengths(row: Row) -> None:
    """A layer built with unknown steps gives for sequences of two lengths what one of known length gives; or, if
    `row.time` is False, says that it needs to know them."""
    layer = row.cls(**row.settings)
    symbols = [lf_input(shape=(None, *s[2:]) if len(s) > 1 + (row.whole is None) else s[1:]) for s in row.shapes]
    if not row.time:
        with pytest.raises(LayerflowError, match=layer.name):
            layer.apply(single_or_list(symbols))
        return
    net = model(inputs=symbols, outputs=layer.apply(single_or_list(symbols)))
    image = len(row.shapes[0]) > 3  # interpreted: an unknown height changes shapes, not how a loop is compiled
    for more in (0, 2):
        given = single_or_list([joined(x, more) if len(x.shape) > 2 or row.whole else x for x in row.inputs()])
        known = row.cls(**row.settings)
        known.apply(given)
        known.set_weights(layer.get_weights())
        found = net.replay(as_list(given))[0][0] if image else net.predict(given)
        np.testing.assert_allclose(found, known.apply(given), rtol=1e-4, atol=1e-5)


class Marked(Layer):
    """The first input, with the second one [batch, steps] as its mask."""

    def call(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs[1], 0.0)


def check_masks(row: Row) -> None:
    """Masks act in a model as they do eagerly, come out in the shape of the output, and what a masked step holds
    changes nothing that counts."""
    if row.whole is not None:
        return  # masks of indices come from the layer itself: test_sequence_refusals.py, test_masks.py
    rng = np.random.default_rng(5)
    xs, others = row.inputs(), [a.astype(np.float32) for a in row.arrays(seed=6)]
    kept = [rng.uniform(size=(len(x), x.shape[row.mask_axis])) < 0.6 if x.ndim > 2 else None for x in xs]
    for mask in kept:
        if mask is not None:
            mask[:, 0], mask[0, -1] = True, False
    layer = row.cls(**row.settings)
    symbols = [lf_input(shape=x.shape[1:]) for x in xs]
    marks = [None if m is None else lf_input(shape=m.shape[1:]) for m in kept]
    marked = [x if m is None else Marked().apply([x, m]) for x, m in zip(symbols, marks, strict=True)]
    outputs = layer.apply(single_or_list(marked))
    net = model(inputs=[*symbols, *(m for m in marks if m is not None)], outputs=outputs)
    numbers = [m.astype(np.float32) for m in kept if m is not None]
    eager = np.asarray(layer.apply(single_or_list(xs), mask=kept if len(kept) > 1 else kept[0]))
    for jit in both_ways(net):
        np.testing.assert_allclose(net.predict([*xs, *numbers]), eager, rtol=1e-4, atol=1e-5, err_msg=f"{jit=}")
    _, (mask,), _ = net.replay_masked([*xs, *numbers])
    assert layer.supports_masking or mask is None
    assert mask is None or mask.shape == eager.shape[: mask.ndim]
    if layer.supports_masking and not row.across:
        axis = row.mask_axis
        changed = [
            x if m is None else np.where(_spread(m, x, axis), x, y) for x, y, m in zip(xs, others, kept, strict=True)
        ]
        after = net.predict([*changed, *numbers])
        counts = np.ones((1,), bool) if mask is None else np.asarray(mask)
        seen = np.broadcast_to(_spread(counts, eager), eager.shape)
        np.testing.assert_allclose(after[seen], eager[seen], rtol=1e-4, atol=1e-5)


def _spread(mask: np.ndarray, like: np.ndarray, axis: int = 1) -> np.ndarray:
    """The mask with axes of 1, so that it broadcasts; its second axis becomes `axis`."""
    first, rest = mask.shape[:1], mask.shape[1:]
    return mask.reshape(*first, *[1] * (axis - 1), *rest, *[1] * (like.ndim - mask.ndim - axis + 1))
