"""check_layer: what every layer must do."""

from collections.abc import Sequence

import numpy as np

from layerflow import config
from layerflow.graph import autodiff, execution, ops, trace
from layerflow.layers import deserialize
from layerflow.layers.base import Layer, as_list
from layerflow.layers.input_layer import input as lf_input
from layerflow.models.functional import model
from layerflow.models.saving import load_layers_model


def check_layer(
    cls,
    settings: dict,
    *shapes: tuple[int, ...],
    output: tuple[int, ...],
    gradient: bool = True,
    tmp_path=None,
    low=-1.0,
    whole=None,
    time=False,
):
    """Config round trip, symbolic = eager shape, eager = compiled, gradients = differences, save and load.

    Args:
        whole: inputs are whole numbers below this.
        time: the layer takes any number of steps: one model of unknown length is tried with several.
    """
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(low, 1.0, s) if whole is None else rng.integers(0, whole, s) for s in shapes]
    layer = cls(**settings)
    x32 = [a.astype(np.float32) for a in arrays]
    given = x32 if len(x32) > 1 else x32[0]
    symbols = _inputs(shapes)
    symbol = layer.apply(symbols if len(symbols) > 1 else symbols[0])
    eager = layer.apply(given)
    assert eager.shape == output
    assert tuple(symbol.shape[1:]) == output[1:]
    assert symbol.shape[0] is None
    _check_config(layer)
    net = model(inputs=symbols, outputs=symbol)
    _check_compiled(net, x32, eager)
    if gradient:
        check_gradients(cls, settings, arrays)
    if time:
        _check_lengths(layer, shapes, x32)
    if tmp_path is not None:
        net.save(tmp_path)
        again = load_layers_model(tmp_path)
        np.testing.assert_array_equal(again.replay(x32)[0][0], eager)
    return layer


def _inputs(shapes, steps: bool = True) -> list:
    """Symbols for inputs of these shapes; without `steps` of any number of them."""
    return [lf_input(shape=s[1:] if steps or len(s) < 2 else (None, *s[2:])) for s in shapes]


def _check_lengths(layer: Layer, shapes, arrays: list[np.ndarray]) -> None:
    symbols = _inputs(shapes, steps=False)
    net = model(inputs=symbols, outputs=layer.apply(symbols if len(symbols) > 1 else symbols[0]))
    for more in (0, 2):
        longer = [np.concatenate([a, a[:, :more]], 1) for a in arrays]
        given = longer if len(longer) > 1 else longer[0]
        np.testing.assert_allclose(net.predict(given), layer.apply(given), rtol=1e-4, atol=1e-5)


def _check_config(layer: Layer) -> None:
    entry = {"class_name": layer.get_class_name(), "config": layer.get_config()}
    assert deserialize(entry).get_config() == layer.get_config()


def _check_compiled(net, arrays: Sequence[np.ndarray], eager) -> None:
    for jit in (False, True):
        before = config.jit()
        config.set_jit(jit)
        try:
            net._forget_steps()
            got = net.predict(arrays if len(arrays) > 1 else arrays[0])
        finally:
            config.set_jit(before)
        np.testing.assert_allclose(got, eager, rtol=1e-4, atol=1e-5, err_msg=f"jit={jit}")


def check_gradients(cls, settings: dict, arrays: Sequence[np.ndarray]) -> None:
    """d sum(output * cotangent) along one random direction, against a central difference, in float64."""
    layer = cls(**settings, dtype="float64")
    given = [np.array(a) for a in arrays]
    fixed = {at for at, a in enumerate(given) if a.dtype.kind != "f"}  # whole numbers have no gradient
    y = layer.apply(given if len(given) > 1 else given[0])
    rng = np.random.default_rng(4)
    cotangent = rng.normal(size=np.shape(y))
    points = [*given, *(w.numpy() + 0.1 * rng.normal(size=w.shape) for w in layer.weights)]
    directions = [rng.normal(size=p.shape) if at not in fixed else 0 for at, p in enumerate(points)]

    def value(step: float) -> float:
        moved = [p + step * d for p, d in zip(points, directions, strict=True)]
        layer.set_weights(moved[len(given) :])
        xs = moved[: len(given)]
        return float(np.sum(np.asarray(layer.apply(xs if len(xs) > 1 else xs[0])) * cotangent))

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    value(0.0)
    symbols = [ops.placeholder(a.shape, a.dtype if i in fixed else np.float64, f"x{i}") for i, a in enumerate(given)]
    with trace.tracing() as record:
        outputs, _ = layer.forward(list(symbols), [None] * len(symbols), False, [])
        loss = ops.sum(as_list(outputs)[0] * cotangent)
        found = autodiff.gradients(loss, [*symbols, *layer.weights])
    kept = [(g, d) for g, d in zip(found, directions, strict=True) if g is not None]
    results = execution.run(record.graph(symbols, [g for g, _ in kept]), given, execution.draw())
    exact = sum(float(np.sum(np.asarray(r) * d)) for r, (_, d) in zip(results, kept, strict=True))
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-7)
