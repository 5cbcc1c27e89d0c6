"""Writes keras_layers.npz: what Keras 3 computes for `layer_cases`.

KERAS_BACKEND=jax python tests/oracles/keras_layers.py
"""

from pathlib import Path

import jax
import keras
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


def main():
    out = {}
    for number, (case, (cls, config, shapes, call)) in enumerate(CASES.items()):
        rng = np.random.default_rng(number)
        inputs = [rng.normal(size=s).astype(np.float32) for s in shapes]
        made, arrays = masks(rng, call)
        settings = dict(config)
        if "layer" in settings:
            inner = settings["layer"]
            settings["layer"] = getattr(keras.layers, inner["class_name"])(**inner["config"])
        layer = getattr(keras.layers, cls)(**settings)
        named = cls in ("MultiHeadAttention", "GroupQueryAttention")
        if cls in ("Attention", "AdditiveAttention") and made.get("mask") is not None:
            made["mask"] = made["mask"][: len(inputs)]
        run = (lambda xs: layer(*xs, **made)) if named else (lambda xs: layer(xs if len(xs) > 1 else xs[0], **made))
        run(inputs)
        weights = [rng.normal(size=w.shape).astype(np.float32) for w in layer.weights if "seed" not in w.path]
        if cls not in ("Normalization", "Discretization"):
            layer.set_weights(weights)
            cotangent = rng.normal(size=np.shape(run(inputs))).astype(np.float32)
            gradient = jax.grad(lambda xs: (run(xs) * cotangent).sum())([jax.numpy.asarray(x) for x in inputs])
            arrays["cot"] = cotangent
            arrays.update({f"gin{i}": np.asarray(g) for i, g in enumerate(gradient)})
        else:
            weights = []
        arrays.update({f"in{i}": x for i, x in enumerate(inputs)})
        arrays.update({f"w{i}": w for i, w in enumerate(weights)})
        arrays["out"] = np.asarray(run(inputs))
        out.update({f"{case}/{name}": array for name, array in arrays.items()})
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **out)


if __name__ == "__main__":
    main()
