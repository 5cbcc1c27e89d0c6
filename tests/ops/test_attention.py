"""Attention without stored scores: the stored form's values and gradients, masks, threads, and what it stores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import layerflow as lf
from layerflow.errors import ShapeError, TraceError
from layerflow.graph import autodiff, ops
from layerflow.graph.ops import attention, random
from layerflow.graph.shapes import Dim
from layerflow.jit import cpus, memory, pipeline, target
from layerflow.models.step import Step

MASKS = ("none", "keys", "rows", "heads", "query")


@pytest.fixture(autouse=True)
def form():
    before = lf.config.fused_attention()
    yield
    lf.config.set_fused_attention(before)


@st.composite
def problems(draw):
    """Extents that end inside and at the end of blocks and vectors, a mask, and whether it is causal."""
    rows, keys = (draw(st.sampled_from([1, 3, 16, 33, 64, 65, 130])) for _ in range(2))
    shared = draw(st.integers(1, 2))
    heads = shared * draw(st.integers(1, 3))
    depth, width = (draw(st.sampled_from([1, 5, 16, 20, 48])) for _ in range(2))
    batch = draw(st.integers(1, 3))
    return (batch, rows, keys, heads, shared, depth, width), draw(st.sampled_from(MASKS)), draw(st.booleans())


def arrays_of(extents, dtype: Any = np.float32, seed=0):
    batch, rows, keys, heads, shared, depth, width = extents
    rng = np.random.default_rng(seed)
    shapes = (batch, rows, heads, depth), (batch, keys, shared, depth), (batch, keys, shared, width)
    return [rng.standard_normal(s).astype(dtype) for s in shapes], rng


def mask_of(kind, extents, rng):
    """A mask that hides everything from some rows, unless it is none."""
    batch, rows, keys, heads, *_ = extents
    shape = {
        "none": None, "keys": (batch, 1, 1, keys), "rows": (batch, 1, rows, keys), "heads": (1, heads, rows, keys),
        "query": (batch, 1, rows, 1),
    }[kind]  # fmt: skip
    if shape is None:
        return None
    mask = rng.random(shape) < 0.5
    mask[0, 0, -1] = False
    return mask


def by_definition(arrays, mask, causal):
    """The values in float64, score by score."""
    q, k, v = (x.astype(np.float64) for x in arrays)
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], 2) for x in (k, v))
    scores = np.einsum("bthd,bshd->bhts", q, k)
    seen = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    if causal:
        seen = seen & (np.arange(scores.shape[3]) <= np.arange(scores.shape[2])[:, None])
    scores = np.where(seen, scores, -1e9)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhts,bshe->bthe", p / p.sum(-1, keepdims=True), v)


def results(form, arrays, weights):
    """Values and the three gradients, from one compiled function."""

    def f(q, k, v):
        y = form(q, k, v)
        return [y, *autodiff.gradients(ops.sum(y * weights), [q, k, v])]

    return [np.asarray(r) for r in lf.jit(f)(*arrays)]


def check(extents, mask, causal, dropout=None, dtype: Any = np.float32, rtol=2e-4):
    """Values and gradients of both forms, compiled and not, and the definition agree."""
    arrays, rng = arrays_of(extents, dtype)
    weights = rng.standard_normal((*arrays[0].shape[:3], extents[-1])).astype(dtype)
    stored = results(lambda *x: attention.stored(x[0], x[1], x[2], mask, causal, dropout)[0], arrays, weights)
    fused = results(lambda *x: attention.fused(x[0], x[1], x[2], mask, causal, dropout), arrays, weights)
    lf.config.set_jit(False)
    try:
        uncompiled = results(lambda *x: attention.fused(x[0], x[1], x[2], mask, causal, dropout), arrays, weights)
    finally:
        lf.config.set_jit(True)
    if dropout is None:
        np.testing.assert_allclose(fused[0], by_definition(arrays, mask, causal), rtol=rtol, atol=rtol / 10)
    for found, plain, expected in zip(fused, uncompiled, stored, strict=True):
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10 * scale)
        np.testing.assert_allclose(plain, expected, rtol=rtol, atol=rtol / 10 * scale)
    return fused


@settings(max_examples=20, deadline=None, derandomize=True)
@given(problems())
def test_both_forms_agree_for_all_extents_and_masks(problem):
    extents, kind, causal = problem
    check(extents, mask_of(kind, extents, np.random.default_rng(5)), causal)


@pytest.mark.parametrize("causal", [False, True])
def test_double_precision(causal):
    extents = (2, 70, 140, 2, 1, 9, 12)
    check(extents, mask_of("rows", extents, np.random.default_rng(2)), causal, dtype=np.float64, rtol=1e-11)


def test_many_blocks_with_a_causal_mask():
    check((1, 300, 300, 2, 2, 16, 16), None, True)


def test_a_row_that_sees_nothing_is_the_mean_of_all_values_also_of_those_behind_it():
    """The first keys are padding, so that the first rows of a causal mask see nothing; keys fill several blocks."""
    extents = (2, 300, 300, 1, 1, 16, 16)
    mask = np.arange(300) >= np.array([[5], [0]])[:, None, None]
    y = check(extents, mask, True)[0]
    v = arrays_of(extents)[0][2]
    np.testing.assert_allclose(y[0, :5, 0], np.broadcast_to(v[0, :, 0].mean(0), (5, 16)), atol=1e-5)


def test_dropout_draws_the_numbers_of_the_stored_form():
    lf.random.set_seed(3)
    extents = (2, 70, 140, 4, 2, 16, 20)
    state = random.get_state()
    arrays, rng = arrays_of(extents)
    weights = rng.standard_normal((2, 70, 4, 20)).astype(np.float32)
    found = []
    for form in (
        lambda *x: attention.stored(*x, dropout=(0.3, 11))[0],
        lambda *x: attention.fused(*x, dropout=(0.3, 11)),
    ):
        random.set_state(state)
        found.append(results(form, arrays, weights))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)


def test_what_is_no_number_stays_in_its_row():
    arrays, _ = arrays_of((1, 70, 70, 1, 1, 8, 8))
    arrays[0][0, 3] = np.nan
    y = np.asarray(lf.jit(attention.fused)(*arrays))
    assert np.isnan(y[0, 3]).all()
    assert np.isfinite(np.delete(y, 3, 1)).all()


def test_large_scores_do_not_overflow():
    arrays, _ = arrays_of((1, 40, 200, 1, 1, 8, 8))
    arrays[0] *= 300
    y = np.asarray(lf.jit(attention.fused)(*arrays))
    np.testing.assert_allclose(y, by_definition(arrays, None, False), rtol=1e-3, atol=1e-3)


# --- models ----------------------------------------------------------------------


def encoder(steps, causal=False, dropout=0.0, **settings):
    x = lf.input(shape=[steps, 24])
    attend = lf.layers.multi_head_attention(num_heads=3, key_dim=8, dropout=dropout, name="attend", **settings)
    model = lf.model(inputs=x, outputs=attend.apply(x, x, use_causal_mask=causal))
    model.compile(optimizer=lf.train.sgd(0.5), loss="meanSquaredError")
    return model


def plan_of(model, steps, mode="train"):
    """The schedule of a step."""
    data = np.zeros((1, steps, 24), np.float32)
    graph = Step(model, mode).graph([data], [data] if mode == "train" else [])
    return pipeline.lower(graph).plan


@pytest.mark.parametrize("mode", ["train", "predict"])
def test_no_array_of_scores_is_stored(mode):
    """2048 steps: scores of a head would be 16 MiB a sample."""
    steps = 2048
    model = encoder(steps, True, 0.1)
    stored = plan_of(encoder(steps, True, 0.1, flash_attention=False), steps, mode)
    assert max(b.elements for b in stored.buffers.values()) >= 3 * steps**2
    plan = plan_of(model, steps, mode)
    assert max(b.elements for b in plan.buffers.values()) <= steps * 3 * 24
    assert (
        max(
            k.scratch[0]
            for k in pipeline.emit(plan, {op: op.dtype for op in plan.graph.inputs}, 64, 32, 1 << 20).plan.kernels
        )
        < 2**21
    )
    assert memory.allocate(plan, 2, 1)[1] < 2**24 < memory.allocate(stored, 2, 1)[1]


def test_small_scores_are_stored_and_the_setting_decides():
    def has(model, steps):
        return any(op.name == "attend" for op in plan_of(model, steps, "predict").graph.ops)

    assert has(encoder(64), 64)
    assert not has(encoder(32), 32)
    assert has(encoder(32, flash_attention=True), 32)
    assert not has(encoder(64, flash_attention=False), 64)
    lf.config.set_fused_attention(True)
    assert has(encoder(32), 32)
    lf.config.set_fused_attention(False)
    assert not has(encoder(64), 64)
    with pytest.raises(ValueError, match="fused_attention must be True, False"):
        lf.config.set_fused_attention("often")


def test_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 3)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((5, 200, 24)).astype(np.float32) for _ in range(2))
    found = []
    before = lf.config.num_threads()
    try:
        for threads in (1, 2, 3):
            lf.config.set_num_threads(threads)
            lf.random.set_seed(1)
            model = encoder(200, True, 0.2)
            model.fit(x, y, batch_size=5, epochs=2, verbose=0)
            found.append([*model.get_weights(), np.asarray(model.predict(x))])
    finally:
        lf.config.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["multi_head", "group_query", "attention", "scaled"])
def test_layers_train_alike_in_both_forms(kind):
    """Masks of query, value and attention, a causal mask and dropout, through fit."""
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((4, 70, 12)).astype(np.float32) for _ in range(2))
    x[:2, :9] = 0  # hidden steps in front: rows that see nothing

    def trained(fused):
        lf.config.set_fused_attention(fused)
        lf.random.set_seed(2)
        layer = {
            "multi_head": lambda: lf.layers.multi_head_attention(
                num_heads=2, key_dim=5, value_dim=7, dropout=0.2, name="a"
            ),
            "group_query": lambda: lf.layers.group_query_attention(6, 4, 2, dropout=0.2, name="a"),
            "attention": lambda: lf.layers.attention(dropout=0.2, name="a"),
            "scaled": lambda: lf.layers.attention(use_scale=True, name="a"),
        }[kind]()
        inputs = lf.input(shape=[70, 12])
        hidden = lf.layers.dense(units=12).apply(lf.layers.masking().apply(inputs))
        model = lf.model(inputs=inputs, outputs=layer.apply(hidden, hidden, use_causal_mask=True))
        model.compile(optimizer=lf.train.sgd(0.5), loss="meanSquaredError")
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        return [*model.get_weights(), np.asarray(model.predict(x))]

    for a, b in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


class Masked(lf.layers.Layer):
    """Attention of two heads with a mask from the model's own inputs."""

    def call(self, inputs):
        x, mask = inputs
        q = ops.reshape(x, (-1, 20, 2, 4))
        return ops.reshape(attention.fused(q, q, q, ops.expand_dims(ops.not_equal(mask, 0), 1)), (-1, 20, 8))


def test_masks_come_from_inputs_turned_or_looked_up():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 20, 8)).astype(np.float32)
    numbers = rng.integers(0, 3, (4, 20)).astype(np.int32)
    table = (rng.random((3, 20)) < 0.5).astype(np.float32)
    mask = table[numbers]
    inputs = lf.input(shape=[20, 8])
    given, rows = lf.input(shape=[20, 20]), lf.input(shape=[20], dtype="int32")
    looked_up = lf.layers.embedding(input_dim=3, output_dim=20, weights=[table])
    q = x.reshape(4, 20, 2, 4)
    expected = by_definition([q, q, q], mask[:, None] != 0, False).reshape(4, 20, 8)
    for own, read, data in (
        (given, given, mask),
        (given, lf.layers.permute(dims=[2, 1]).apply(given), mask.transpose(0, 2, 1).copy()),
        (rows, looked_up.apply(rows), numbers),
    ):
        model = lf.model(inputs=[inputs, own], outputs=Masked().apply([inputs, read]))
        np.testing.assert_allclose(np.asarray(model.predict([x, data])), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["axes", "time_distributed"])
def test_several_sequences_of_a_sample(kind):
    def trained(fused):
        lf.config.set_fused_attention(fused)
        lf.random.set_seed(1)
        layers, x = lf.layers, lf.input(shape=[3, 20, 8])
        if kind == "axes":
            y = layers.multi_head_attention(num_heads=2, key_dim=4, attention_axes=2).apply(x, x)
        else:
            one = lf.input(shape=[20, 8])
            inner = lf.model(inputs=one, outputs=layers.multi_head_attention(num_heads=2, key_dim=4).apply(one, one))
            y = layers.time_distributed(inner).apply(x)
        model = lf.model(inputs=x, outputs=y)
        model.compile(optimizer=lf.train.sgd(0.1), loss="meanSquaredError")
        data = np.random.default_rng(0).standard_normal((5, 3, 20, 8)).astype(np.float32)
        model.fit(data, data, epochs=2, batch_size=3, shuffle=False, verbose=0)
        return [*model.get_weights(), np.asarray(model.predict(data))]

    for a, b in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_processors_with_short_vectors(monkeypatch):
    """16 registers of 8 numbers: other tiles, and blocks that end elsewhere."""
    host = target.host()
    narrow = dataclasses.replace(host, vector_bytes=32, registers=16)
    monkeypatch.setattr(target, "host", lambda: narrow)
    pipeline.forget()
    extents = (2, 70, 140, 2, 1, 9, 20)
    try:
        check(extents, mask_of("rows", extents, np.random.default_rng(2)), True)
    finally:
        pipeline.forget()


def test_scores_that_are_wanted_are_stored():
    layer = lf.layers.multi_head_attention(num_heads=2, key_dim=4, flash_attention=True)
    x = np.random.default_rng(0).standard_normal((2, 70, 6)).astype(np.float32)
    y, scores = layer.apply(x, x, return_attention_scores=True)
    assert np.shape(scores) == (2, 2, 70, 70)
    np.testing.assert_allclose(np.asarray(y), np.asarray(layer.apply(x, x)), rtol=1e-4, atol=1e-5)


def test_a_batch_of_one_value_for_many_queries_takes_the_stored_form():
    lf.config.set_fused_attention(True)
    layer = lf.layers.attention()
    rng = np.random.default_rng(0)
    q, v = rng.standard_normal((3, 5, 4)).astype(np.float32), rng.standard_normal((1, 6, 4)).astype(np.float32)
    assert np.shape(layer.apply(q, v)) == (3, 5, 4)


# --- refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        (((2, 3, 2, 4), (2, 3, 2, 5), (2, 3, 2, 4)), "features those of query"),
        (((2, 3, 2, 4), (2, 3, 2, 4), (2, 4, 2, 4)), "do not fit"),
        (((2, 3, 3, 4), (2, 3, 2, 4), (2, 3, 2, 4)), "must divide"),
        (((2, 3, 4), (2, 3, 4), (2, 3, 4)), "must be .batch, steps, heads, features."),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, match):
    with pytest.raises(ShapeError, match=match):
        attention.attend_p.bind([ops.placeholder(s) for s in shapes], causal=False, masked=False, dropped=False)


def test_a_mask_of_another_shape_is_refused():
    q, k, v = (ops.placeholder((Dim(), 3, 2, 4)) for _ in range(3))
    with pytest.raises(ShapeError, match=r"do not broadcast|not for scores"):
        attention.fused(q, k, v, ops.placeholder((1, 1, 3, 4), bool))


def test_a_second_derivative_is_refused_with_the_way_out():
    arrays, _ = arrays_of((1, 3, 3, 1, 1, 2, 2))

    def slope(q):
        return ops.sum(lf.grad(lambda x: ops.sum(attention.fused(x, arrays[1], arrays[2])))(q) ** 2)

    with pytest.raises(TraceError, match="set_fused_attention"):
        lf.grad(slope)(arrays[0])
