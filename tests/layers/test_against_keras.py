"""Layers that TF.js lacks or leaves half done, against what Keras 3 computes (tests/oracles)."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow import config
from tests.oracles.layer_cases import CASES

STORED = Path(__file__).parents[1] / "oracles" / "data" / "keras_layers.npz"


@functools.cache
def stored() -> dict[str, np.ndarray]:
    with np.load(STORED, allow_pickle=False) as file:
        return dict(file)


def arrays(case: str, prefix: str) -> list[np.ndarray]:
    found = stored()
    return [found[f"{case}/{prefix}{i}"] for i in range(9) if f"{case}/{prefix}{i}" in found]


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_layer_gives_what_keras_gives(case, jit):
    cls, settings, _, call = CASES[case]
    before = config.jit()
    config.set_jit(jit)
    try:
        layer = lf.layers.deserialize({"class_name": cls, "config": settings})
        inputs, options = arrays(case, "in"), dict(call)
        if "masks" in options:
            steps = options.pop("masks")
            options["mask"] = [stored().get(f"{case}/mask{i}") for i in range(len(steps))]
        options.update(
            {k: stored()[f"{case}/{k}"] for k in ("mask", "attention_mask") if isinstance(call.get(k), tuple)}
        )
        layer.apply(inputs if len(inputs) > 1 else inputs[0])
        layer.set_weights(arrays(case, "w"))

        def run(xs):
            return layer.call(xs if len(xs) > 1 else xs[0], **options)

        np.testing.assert_allclose(lf.jit(run)(inputs), stored()[f"{case}/out"], rtol=2e-4, atol=2e-5)
        gradients = arrays(case, "gin")
        if gradients:
            found = lf.grad(lambda xs: (run(xs) * stored()[f"{case}/cot"]).sum())(inputs)
            for actual, right in zip(found, gradients, strict=True):
                np.testing.assert_allclose(actual, right, rtol=5e-4, atol=5e-5)
        np.testing.assert_allclose(
            layer.apply(inputs if len(inputs) > 1 else inputs[0], **options),
            stored()[f"{case}/out"],
            rtol=2e-4,
            atol=2e-5,
        )
    finally:
        config.set_jit(before)
