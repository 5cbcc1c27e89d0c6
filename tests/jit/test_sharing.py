"""Kernels that differ in their arrays only are one function."""

from __future__ import annotations

import re

import numpy as np

import layerflow as lf
from layerflow.inspect import dump
from layerflow.jit.sharing import carried_out_by, share
from layerflow.jit.values import FIRST_SLOT
from tests.agreement import assert_interpreter_agrees

A, B, C = FIRST_SLOT, FIRST_SLOT + 1, FIRST_SLOT + 11  # slots of arrays

KERNEL = '''def {name}(ctx, lo, hi):
    """{layer}: add"""
    lanes(16)
    p{a} = pointer(ctx, {a}, f32)
    p{b} = pointer(ctx, {b}, f32)
    w = pointer(ctx, 17, f32)
    for i in range(lo, hi):
        v1 = load(p{a}, i * 16)
        store(p{b}, i * 16, v1 + load(w, {offset}))
'''


def kernel(name: str, a: int, b: int, offset: int = 0) -> str:
    return KERNEL.format(name=name, layer=name, a=a, b=b, offset=offset)


def test_alike_kernels_share_a_function():
    found = share([kernel("k0_one_map", A, B), kernel("k1_two_map", C, A), kernel("k2_other_map", A, B, 16)])
    assert [text.partition("(")[0] for text in found] == [
        "def shared0_map",
        "def k0_one_map",
        "def k1_two_map",
        "def k2_other_map",
    ]
    assert f"shared0_map(ctx, lo, hi, {A}, {B})" in found[1]
    assert f"shared0_map(ctx, lo, hi, {C}, {A})" in found[2]
    assert "two" in found[2]  # the layer stays readable
    assert "pointer(ctx, 17, f32)" in found[0]  # not an array of the plan
    assert "shared" not in found[3]
    text = "\n".join(found)
    assert [carried_out_by(text, name) for name in ("k1_two_map", "k2_other_map")] == ["shared0_map", "k2_other_map"]


def test_an_array_used_twice_is_not_like_two_arrays():
    found = share([kernel("k0_a_map", A, A), kernel("k1_b_map", A, B)])
    assert not any("shared" in text for text in found)


def blocks(count: int) -> lf.Sequential:
    lf.random.set_seed(2)
    layers = [
        lf.layers.dense(units=20, activation="tanh", **({"input_shape": [20]} if k == 0 else {})) for k in range(count)
    ]
    model = lf.sequential([*layers, lf.layers.dense(units=3)])
    model.compile(optimizer="adam", loss="meanSquaredError")
    return model


def test_blocks_of_a_network_are_lowered_once():
    """Two more layers like those there are: two calls of each kernel more, no loops."""
    sources = [dump(blocks(count), "source", mode="train") for count in (4, 6)]
    loops = [text.count("for k in range(") for text in sources]
    assert loops[0] == loops[1]
    assert sources[0].count("def k") < sources[1].count("def k")


def test_training_is_the_same():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 20)).astype(np.float32), rng.standard_normal((30, 3)).astype(np.float32)

    def trained() -> lf.Model:
        model = blocks(5)
        model.fit(x, y, epochs=3, batch_size=8, verbose=0, shuffle=False)
        return model

    assert_interpreter_agrees(trained)


def test_the_dump_of_a_kernel_shows_what_carries_it_out():
    model = blocks(4)
    source = dump(model, "source", mode="train")
    name = next(n for n in re.findall(r"def (k\w+)\(", source) if carried_out_by(source, n) != n)
    text = dump(model, "source", mode="train", kernel=name)
    assert text.count("def ") == 2
    assert "vfmadd" in dump(model, "asm", mode="train", kernel=name) or "fma(" not in text
