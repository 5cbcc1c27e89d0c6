"""Attention as one operation, whose scores are never stored: softmax(q k') v, tile by tile.

Dao et al. 2022, "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", algorithms 1 and 4: the
forward pass keeps of each row of scores the largest one and the sum of exp(score - largest); from these the backward
pass makes the softmax again.  With P the softmax, F the factors of dropout and g the gradient of the result:

    dv = (P F)' g,   dS = P (F (g v') - delta),   dq = dS k,   dk = dS' q,   delta = rows of g * result summed

Arrays are [batch, steps, heads, features], as projections make them.  Hidden scores count as HIDDEN, not as minus
infinity: a row that sees nothing is the mean of all values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError, TraceError
from layerflow.graph import shapes
from layerflow.graph.ops import composite, contraction, indexing, movement, reduction
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import random as rnd
from layerflow.graph.ops.primitive import Primitive
from layerflow.graph.shapes import Shape
from layerflow.graph.symbolic import Kind, is_symbolic

HIDDEN = -1e9  # score of what a mask hides: its share of the softmax is 0
# Scores of one head from which on they are not stored: from here on that is faster too (docs/compiler.md).
LARGE = 64 * 64

# --- uncompiled ------------------------------------------------------------------


def _examples(q, k, extra, causal, masked, dropped) -> Iterator[tuple[int, Any, Any, Any]]:
    """For each example: its number, scores [heads, rows, keys], what is visible, factors (None: all, ones)."""
    mask, factor = (list(extra[:1]) if masked else [None]) + (list(extra[-1:]) if dropped else [None])
    for b in range(len(q)):
        keys = _for_heads(k[b], q.shape[2])
        scores = q[b].swapaxes(0, 1) @ keys.transpose(1, 2, 0)
        seen = np.tri(q.shape[1], k.shape[1], dtype=bool) if causal else None
        if mask is not None:
            own = mask[b % len(mask)]
            seen = own if seen is None else own & seen
        if seen is not None:
            scores = np.where(seen, scores, scores.dtype.type(HIDDEN))
        yield b, scores, seen, None if factor is None else factor[b % len(factor)]


def _for_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """[steps, shared heads, features] with each head repeated for those of the query that it serves."""
    return np.repeat(x, heads // x.shape[1], 1)


def _attend(q, k, v, *extra, causal, masked, dropped):
    y = np.empty((*q.shape[:3], v.shape[-1]), q.dtype)
    for b, scores, _, factor in _examples(q, k, extra, causal, masked, dropped):
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p = p / p.sum(-1, keepdims=True)
        p = p if factor is None else p * factor
        y[b] = (p @ _for_heads(v[b], q.shape[2]).swapaxes(0, 1)).swapaxes(0, 1)
    return y


def _sums(q, k, v, *extra, causal, masked, dropped):
    out = np.empty((*q.shape[:3], 2), q.dtype)
    for b, scores, _, _ in _examples(q, k, extra, causal, masked, dropped):
        top = scores.max(-1, keepdims=True)
        out[b, ..., 0], out[b, ..., 1] = top[..., 0].T, np.exp(scores - top).sum(-1).T
    return out


def _backward(q, k, v, sums, delta, g, *extra, **attrs) -> Iterator[tuple[int, Any, Any]]:
    """For each example: its number, the softmax after dropout and the gradient of the scores, [heads, rows, keys]."""
    for b, scores, seen, factor in _examples(q, k, extra, **attrs):
        p = np.exp(scores - sums[b, ..., 0].T[..., None]) / sums[b, ..., 1].T[..., None]
        dp = g[b].swapaxes(0, 1) @ _for_heads(v[b], q.shape[2]).transpose(1, 2, 0)
        used, dp = (p, dp) if factor is None else (p * factor, dp * factor)
        ds = p * (dp - delta[b].T[..., None])
        yield b, used, ds if seen is None else np.where(seen, ds, ds.dtype.type(0))


def _for_shared(x: np.ndarray, shared: int) -> np.ndarray:
    """[heads, steps, features] as [steps, shared heads, features], summed over the heads that share."""
    heads, steps, features = x.shape
    return x.reshape(shared, heads // shared, steps, features).sum(1).swapaxes(0, 1)


def _query(q, k, v, sums, delta, g, *extra, **attrs):
    out = np.empty_like(q)
    for b, _, ds in _backward(q, k, v, sums, delta, g, *extra, **attrs):
        out[b] = (ds @ _for_heads(k[b], q.shape[2]).swapaxes(0, 1)).swapaxes(0, 1)
    return out


def _key(q, k, v, sums, delta, g, *extra, **attrs):
    out = np.empty_like(k)
    for b, _, ds in _backward(q, k, v, sums, delta, g, *extra, **attrs):
        out[b] = _for_shared(ds.swapaxes(1, 2) @ q[b].swapaxes(0, 1), k.shape[2])
    return out


def _value(q, k, v, sums, delta, g, *extra, **attrs):
    out = np.empty_like(v)
    for b, used, _ in _backward(q, k, v, sums, delta, g, *extra, **attrs):
        out[b] = _for_shared(used.swapaxes(1, 2) @ g[b].swapaxes(0, 1), v.shape[2])
    return out


# --- declared --------------------------------------------------------------------


def _attend_shape(q: Shape, k: Shape, v: Shape, *extra: Shape, causal, masked, dropped) -> Shape:
    if not len(q) == len(k) == len(v) == 4:
        listed = ", ".join(map(shapes.text, (q, k, v)))
        raise ShapeError(f"attend: query, key and value must be [batch, steps, heads, features], got {listed}.")
    if q[0] != k[0] or k[:3] != v[:3] or q[3] != k[3] or shapes.static(q[2]) % shapes.static(k[2]):
        listed = ", ".join(map(shapes.text, (q, k, v)))
        raise ShapeError(
            f"attend: query, key and value {listed} do not fit: the batch must be the same, features those of query "
            "and key, steps and heads those of key and value; the heads of the key must divide those of the query."
        )
    scores = (q[0], q[2], q[1], k[1])
    for other in extra:
        if shapes.broadcast(other, scores) != scores:
            raise ShapeError(f"attend: a mask of {shapes.text(other)} is not for scores {shapes.text(scores)}.")
    return (*q[:3], v[3])


attend_p = Primitive("attend", Kind.CONTRACT, _attend, _attend_shape)
sums_p = Primitive("attend_sums", Kind.CONTRACT, _sums, lambda q, *rest, **attrs: (*q[:3], 2))
query_p = Primitive("attend_query", Kind.CONTRACT, _query, lambda q, *rest, **attrs: q)
key_p = Primitive("attend_key", Kind.CONTRACT, _key, lambda q, k, *rest, **attrs: k)
value_p = Primitive("attend_value", Kind.CONTRACT, _value, lambda q, k, v, *rest, **attrs: v)


@attend_p.vjp
def _(g, y, q, k, v, *extra, **attrs):
    sums = sums_p.bind([q, k, v, *extra], **attrs)
    delta = reduction.sum_(g * y, -1)
    operands = [q, k, v, sums, delta, g, *extra]
    found = (p.bind(operands, **attrs) for p in (query_p, key_p, value_p))
    return (*found, *(None for _ in extra))


def _once(g, y, *operands, **attrs):
    raise TraceError(
        "attention that does not store its scores has no second derivative; lf.config.set_fused_attention(False) "
        "before the model is traced takes the form that has one."
    )


for _p in (sums_p, query_p, key_p, value_p):
    _p.vjp(_once)

# --- for layers --------------------------------------------------------------------


def fits(q: Any, k: Any, v: Any, wanted: bool | None = None) -> bool:
    """Whether scores of q and k, [batch, steps, ..., features] each, are better not stored; `wanted` decides if given.

    Query, key and value of different batches broadcast in the stored form alone.
    """
    mode = config.fused_attention() if wanted is None else wanted
    rows, keys = (shapes.static(reduction.shape_of(x)[1]) for x in (q, k))
    large = rows * keys >= LARGE if mode == "auto" else bool(mode)
    return large and len({reduction.shape_of(x)[0] for x in (q, k, v)}) == 1


def fused(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, dropout: Any = None) -> Any:
    """softmax(q k') v without the scores; arguments and result as `stored`."""
    b, rows, heads, _ = reduction.shape_of(q)
    extra = [] if mask is None else [mask]
    if dropout is not None:
        rate, salt = dropout
        # The numbers that `dropout` of the stored scores would draw.
        drawn = rnd.unit((b, heads, rows, reduction.shape_of(k)[1]), salt, is_symbolic(q))
        extra.append(e.where(drawn >= rate, 1.0 / (1.0 - rate), 0.0))
    return attend_p.bind([q, k, v, *extra], causal=causal, masked=mask is not None, dropped=dropout is not None)


def stored(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, dropout: tuple[float, int] | None = None
) -> tuple[Any, Any]:
    """softmax(q k') v, and the softmax.

    Args:
        q, k, v: [batch, steps, heads, features]; heads of k and v may be fewer, each for several of q.
        mask: boolean, broadcasts to [batch, heads, rows, keys]; True is visible.
        causal: whether a row sees no key behind it.
        dropout: share of the softmax that is dropped, and the salt of its random numbers.

    Returns:
        [batch, rows, heads, features of v], and [batch, heads, rows, keys] before dropout.
    """
    q, k, v = (movement.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
    heads, rows = map(shapes.static, reduction.shape_of(q)[1:3])
    shared, keys = map(shapes.static, reduction.shape_of(k)[1:3])
    if heads != shared:
        k, v = (movement.repeat(x, heads // shared, 1) for x in (k, v))
    if causal:
        below = lower(rows, keys, is_symbolic(q))
        mask = below if mask is None else e.logical_and(mask, below)
    weights = softmax(contraction.matmul(q, k, transpose_b=True), mask)
    used = weights if dropout is None else rnd.dropout(weights, dropout[0], salt=dropout[1])
    return movement.transpose(contraction.matmul(used, v), (0, 2, 1, 3)), weights


def softmax(scores: Any, mask: Any) -> Any:
    """Softmax along the last axis over what the mask (broadcast to the scores) lets through."""
    return composite.softmax(scores if mask is None else e.where(mask, scores, HIDDEN), -1)


def lower(rows: int, columns: int, symbol: bool) -> Any:
    """[rows, columns], True where the column is not later than the row."""
    if not symbol:
        return np.tri(rows, columns, dtype=bool)
    return e.greater_equal(indexing.positions((rows, columns), 0), indexing.positions((rows, columns), 1))
