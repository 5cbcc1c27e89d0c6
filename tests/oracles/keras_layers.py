"""Writes data/keras_layers.npz: what Keras 3 computes for `layer_cases`.

KERAS_BACKEND=jax python tests/oracles/keras_layers.py
"""

from pathlib import Path

import jax  # pyright: ignore[reportMissingImports]
import keras  # pyright: ignore[reportMissingImports]
import numpy as np
from layer_cases import CASES


def masks(rng, call):
    """Keywords of Keras's call, and the arrays among them by name."""
    made, arrays = dict(call), {}
    if "masks" in made:
        steps = made.pop("masks")
        made["mask"] = [None if n is None else rng.random((2, n)) < 0.7 for n in steps]
        made["mask"] += [None] * (3 - len(made["mask"]))
        arrays = {f"mask{i}": m for i, m in enumerate(made["mask"]) if m is not None}
    for name in ("mask", "attention_mask"):
        if isinstance(made.get(name), tuple):
            made[name] = rng.random(made[name]) < 0.7
            arrays[name] = made[name]
    return made, arrays


def computed(cls, config, inputs, call, rng):
    """Weights, output and gradients of one layer, by name."""
    settings = dict(config)
    if "layer" in settings:
        inner = settings["layer"]
        settings["layer"] = getattr(keras.layers, inner["class_name"])(**inner["config"])
    layer = getattr(keras.layers, cls)(**settings)
    if cls in ("Attention", "AdditiveAttention") and call.get("mask") is not None:
        call["mask"] = call["mask"][: len(inputs)]

    def run(xs):
        if cls in ("MultiHeadAttention", "GroupQueryAttention"):
            return layer(*xs, **call)
        return layer(xs if len(xs) > 1 else xs[0], **call)

    found = {"out": np.asarray(run(inputs))}
    if cls not in ("Normalization", "Discretization"):
        weights = [rng.normal(size=w.shape).astype(np.float32) for w in layer.weights if "seed" not in w.path]
        layer.set_weights(weights)
        found = {f"w{i}": w for i, w in enumerate(weights)} | {"out": np.asarray(run(inputs))}
        found["cot"] = rng.normal(size=found["out"].shape).astype(np.float32)
        gradient = jax.grad(lambda xs: (run(xs) * found["cot"]).sum())([jax.numpy.asarray(x) for x in inputs])
        found.update({f"gin{i}": np.asarray(g) for i, g in enumerate(gradient)})
    return found


def main():
    out = {}
    for number, (case, (cls, config, shapes, call)) in enumerate(CASES.items()):
        rng = np.random.default_rng(number)
        inputs = [rng.normal(size=s).astype(np.float32) for s in shapes]
        made, arrays = masks(rng, call)
        arrays.update({f"in{i}": x for i, x in enumerate(inputs)})
        arrays.update(computed(cls, config, inputs, made, rng))
        out.update({f"{case}/{name}": array for name, array in arrays.items()})
    np.savez_compressed(Path(__file__).parent / "data" / "keras_layers.npz", **out)


if __name__ == "__main__":
    main()
