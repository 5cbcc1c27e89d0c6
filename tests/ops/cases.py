"""One row for every primitive: how to call it, with what shapes, and the range its operands are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.graph import ops
from layerflow.graph.ops import attention, convolution, indexing, movement, rows
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import random as rnd
from layerflow.graph.ops import windows as win


@dataclasses.dataclass(frozen=True)
class Case:
    """`op` names the primitive that `call` uses; operands are uniform in [low, high)."""

    op: str
    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    low: float = -1.5
    high: float = 1.5
    gradient: bool = True
    note: str = ""

    def inputs(self, dtype: Any) -> list[np.ndarray]:
        rng = np.random.default_rng(len(self.op) * 7 + len(self.note))
        return [rng.uniform(self.low, self.high, s).astype(dtype) for s in self.shapes]

    def __str__(self) -> str:
        return f"{self.op}{'-' + self.note if self.note else ''}"


def case(op: str, call: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> Case:
    return Case(op, call, shapes, **options)


A, ROW, WIDE = (3, 5), (5,), (4, 37)
WINDOW: dict[str, Any] = {"size": (2, 3), "strides": (1, 2), "dilations": (1, 1)}

QKV = ((2, 7, 4, 5), (2, 9, 2, 5), (2, 9, 2, 6))
SEEN = np.arange(9) >= np.array([[0], [3]])[..., None, None]
PLAIN: dict[str, Any] = {"causal": False, "masked": False, "dropped": False}

CASES = [
    # --- map: same shapes, broadcasting, lengths that are no multiple of a vector
    case("add", ops.add, A, ROW),
    case("subtract", ops.subtract, WIDE, WIDE),
    case("multiply", ops.multiply, A, (3, 1)),
    case("divide", ops.divide, A, A, low=0.5),
    case("floor_divide", ops.floor_divide, A, A, low=0.5, high=4.0, gradient=False),
    case("mod", ops.mod, A, A, low=0.6, high=4.0),
    case("power", ops.power, A, A, low=0.3),
    case("maximum", ops.maximum, WIDE, (37,)),
    case("minimum", ops.minimum, A, A),
    case("negative", ops.negative, (70,)),
    case("abs", ops.abs, A),
    case("sign", ops.sign, A, gradient=False),
    case("exp", ops.exp, WIDE),
    case("expm1", ops.expm1, A),
    case("log", ops.log, A, low=0.1),
    case("log1p", ops.log1p, A, low=-0.8),
    case("sqrt", ops.sqrt, A, low=0.1),
    case("rsqrt", ops.rsqrt, A, low=0.1),
    case("square", ops.square, A),
    case("reciprocal", ops.reciprocal, A, low=0.3),
    case("sin", ops.sin, A),
    case("cos", ops.cos, A),
    case("tan", ops.tan, A, low=-1.0, high=1.0),
    case("asin", ops.asin, A, low=-0.9, high=0.9),
    case("acos", ops.acos, A, low=-0.9, high=0.9),
    case("atan", ops.atan, A),
    case("atan2", ops.atan2, A, A, low=0.2),
    case("sinh", ops.sinh, A),
    case("cosh", ops.cosh, A),
    case("asinh", ops.asinh, A),
    case("acosh", ops.acosh, A, low=1.2, high=3.0),
    case("atanh", ops.atanh, A, low=-0.9, high=0.9),
    case("tanh", ops.tanh, WIDE),
    case("sigmoid", e.sigmoid, WIDE, low=-6.0, high=6.0),
    case("softplus", ops.softplus, A, low=-6.0, high=6.0),
    case("relu", ops.relu, A),
    case("erf", ops.erf, A),
    case("floor", ops.floor, A, gradient=False),
    case("ceil", ops.ceil, A, gradient=False),
    case("round", ops.round, A, gradient=False),
    case("equal", lambda a, b: ops.equal(ops.round(a), ops.round(b)), A, A, gradient=False),
    case("not_equal", lambda a, b: ops.not_equal(ops.round(a), ops.round(b)), A, A, gradient=False),
    case("less", ops.less, A, A, gradient=False),
    case("less_equal", ops.less_equal, A, A, gradient=False),
    case("greater", ops.greater, A, A, gradient=False),
    case("greater_equal", ops.greater_equal, A, A, gradient=False),
    case("logical_and", lambda a, b: ops.logical_and(a > 0, b > 0), A, A, gradient=False),
    case("logical_or", lambda a, b: ops.logical_or(a > 0, b > 0), A, A, gradient=False),
    case("logical_xor", lambda a, b: ops.logical_xor(a > 0, b > 0), A, A, gradient=False),
    case("logical_not", lambda a: ops.logical_not(a > 0), A, gradient=False),
    case("isnan", lambda a: ops.isnan(ops.log(a)), A, gradient=False),
    case("isinf", lambda a: ops.isinf(ops.divide(1.0, ops.floor(a))), A, gradient=False),
    case("isfinite", lambda a: ops.isfinite(ops.log(a)), A, gradient=False),
    case("where", lambda a, b: ops.where(a > 0.2, a * b, b), A, A),
    case("cast", lambda a: ops.cast(ops.cast(a * 10, np.int32), np.float32), A, gradient=False),
    case("stop_gradient", lambda a: a * 2 + ops.stop_gradient(a * 0), A),
    case("bitwise_and", lambda a: ops.bitwise_and(ops.cast(ops.abs(a) * 1000, np.int32), 77), A, gradient=False),
    case("with_gradient", lambda a: ops.with_gradient(ops.square(a), [a], lambda g: [g * 2 * a]), A),
    case("right_shift", lambda a: rnd.right_shift(ops.cast(ops.abs(a) * 1000, np.uint32), 3), A, gradient=False),
    case("bitwise_xor", lambda a: rnd.bitwise_xor(ops.cast(ops.abs(a) * 1000, np.uint32), 77), A, gradient=False),
    # --- reduce: last axis short and long, another axis, several, all
    case("sum", lambda a: ops.sum(a, -1), A),
    case("sum", lambda a: ops.sum(a, 0), WIDE, note="columns"),
    case("sum", lambda a: ops.sum(a, (0, 2)), (3, 4, 5), note="two axes"),
    case("sum", lambda a: ops.sum(ops.square(a)), (3, 90), note="all, long rows"),
    case("sum", lambda a: ops.sum(a * a, -1, keepdims=True) * a, (4, 130), note="used beside its row"),
    case("max", lambda a: ops.max(a, -1), WIDE),
    case("max", lambda a: ops.max(a, 1), (3, 4, 5), note="middle"),
    case("min", lambda a: ops.min(a, 0), A),
    case("prod", lambda a: ops.prod(a, -1), A, low=0.5),
    # --- contract
    case("matmul", ops.matmul, (3, 5), (5, 7)),
    case("matmul", ops.matmul, (33, 70), (70, 50), note="tails everywhere"),
    case("matmul", ops.matmul, (1, 1), (1, 1), note="one number"),
    case("matmul", ops.matmul, (20, 3), (3, 1), note="one column"),
    case("matmul", lambda a, b: ops.matmul(a, b, transpose_a=True), (6, 4), (6, 5), note="left transposed"),
    case("matmul", lambda a, b: ops.matmul(a, b, transpose_b=True), (18, 40), (35, 40), note="right transposed"),
    case("matmul", lambda a, b: ops.matmul(a, b, True, True), (4, 6), (5, 4), note="both transposed"),
    case("matmul", ops.matmul, (2, 3, 4), (2, 4, 5), note="batches"),
    case("matmul", ops.matmul, (2, 1, 3, 4), (3, 4, 5), note="batches broadcast"),
    case("matmul", ops.matmul, (2, 3, 4), (4, 5), note="matrix on the right"),
    case("matmul", lambda a, b: ops.relu(a @ b) * 2 + 1, (9, 130), (130, 200), note="packed, with an epilogue"),
    case("convolve", lambda x, k: ops.conv2d(x, k, padding="same"), (2, 6, 5, 3), (3, 3, 3, 20), note="same"),
    case("convolve", lambda x, k: ops.conv2d(x, k, 2), (2, 7, 6, 20), (3, 2, 20, 10), note="strides"),
    case("convolve", lambda x, k: ops.conv2d(x, k, dilations=2), (2, 7, 6, 4), (3, 2, 4, 7), note="dilations"),
    case("convolve", lambda x, k: ops.conv2d(x, k, groups=3), (2, 5, 5, 6), (2, 2, 2, 9), note="groups"),
    case("convolve", lambda x, k: ops.relu(ops.conv2d(x, k)) * 2 + 1, (2, 4, 4, 16), (3, 3, 16, 32), note="epilogue"),
    case("convolve", lambda x, k: ops.conv1d(x, k, padding="causal", dilations=2), (2, 9, 3), (3, 3, 5), note="line"),
    case("convolve", lambda x, k: ops.conv3d(x, k, 2), (2, 5, 4, 6, 2), (2, 3, 2, 2, 5), note="volume"),
    case("convolve", lambda x, k: ops.conv2d(x, k), (2, 3, 3, 8), (1, 1, 8, 3), note="1x1"),
    case(
        "convolve", lambda x, k: ops.depthwise_conv2d(x, k, padding="same"), (2, 5, 4, 18), (3, 3, 18, 1), note="depth"
    ),
    case("convolve", lambda x, k: ops.depthwise_conv2d(x, k, 2), (2, 5, 4, 3), (3, 3, 3, 4), note="multiplied depth"),
    case("convolve", ops.separable_conv2d, (2, 4, 4, 3), (2, 2, 3, 2), (1, 1, 6, 5), note="separable"),
    case("convolve", lambda x, k: ops.conv2d_transpose(x, k, 2, "same"), (2, 3, 4, 5), (3, 3, 6, 5), note="transposed"),
    case(
        "convolve", lambda x, k: ops.conv3d_transpose(x, k, 2), (1, 2, 2, 3, 2), (3, 1, 2, 4, 2), note="transposed 3D"
    ),
    case(
        "convolve",
        lambda x, k: ops.conv2d(x, k, padding=1, data_format="channelsFirst"),
        (2, 3, 5, 4),
        (3, 3, 3, 5),
        note="channels first",
    ),
    case(
        "convolve_kernel",
        lambda x, g: convolution.convolve_kernel_p.bind(
            [x, g], size=(3, 2), strides=(2, 1), dilations=(1, 2), groups=1
        ),
        (3, 7, 6, 5),
        (3, 3, 4, 18),
    ),
    case(
        "convolve_kernel",
        lambda x, g: convolution.convolve_kernel_p.bind([x, g], size=(3,), strides=(1,), dilations=(1,), groups=2),
        (3, 7, 6),
        (3, 5, 4),
        note="groups",
    ),
    *(
        case("attend", lambda q, k, v, at=at: attention.fused(q, k, v, causal=at), *QKV, note="causal" if at else "")
        for at in (False, True)
    ),
    case("attend", lambda q, k, v: attention.fused(q, k, v, SEEN, True), *QKV, note="rows that see nothing"),
    case("attend", attention.fused, (2, 70, 2, 20), (2, 140, 2, 20), (2, 140, 2, 33), note="several blocks"),
    case("attend_sums", lambda q, k, v: attention.sums_p.bind([q, k, v], **PLAIN), *QKV, gradient=False),
    *(
        case(
            p.name,
            lambda *x, p=p: p.bind(x, **PLAIN),
            *QKV,
            (2, 7, 4, 2),
            (2, 7, 4),
            (2, 7, 4, 6),
            low=0.5,
            gradient=False,
        )
        for p in (attention.query_p, attention.key_p, attention.value_p)
    ),
    # --- move
    case("reshape", lambda a: ops.reshape(a, (5, 3)) * 2, A),
    case("reshape", lambda a: ops.reshape(ops.exp(a), (2, 6, 2)), (4, 6), note="regrouped"),
    case("transpose", lambda a: ops.transpose(a) * 2, A),
    case("transpose", lambda a: ops.transpose(a), (40, 37), note="blocks"),
    case("transpose", lambda a: ops.transpose(a, (2, 0, 1)), (2, 3, 4), note="three axes"),
    case("broadcast_to", lambda a: ops.broadcast_to(a, (4, 3, 5)), A),
    case("slice", lambda a: ops.slice_(a, (1, 2), (2, 3)), A),
    case("slice", lambda a: ops.flip(a, 1), A, note="flip"),
    case("pad", lambda a: ops.pad(a, [(1, 0), (2, 3)], 0.5), A),
    case("concatenate", lambda a, b: ops.concatenate([a, b * 2], -1), A, (3, 2)),
    case("concatenate", lambda a, b: ops.concatenate([a, b], 0), A, (2, 5), note="rows"),
    case("windows", lambda a: win.windows(a, (2, 3), (1, 2), (2, 1)), (2, 6, 7, 5)),
    case("windows", lambda a: ops.exp(win.windows(a, (2, 3), (2, 3), (1, 1))), (2, 5, 6, 5), note="side by side"),
    case("overlap_add", lambda a: win.overlap_add(ops.exp(a), (6, 8), (1, 2), (2, 1)), (2, 4, 3, 2, 3, 20)),
    case("overlap_add", lambda a: win.overlap_add(a, (9,), (1,), (1,)), (2, 4, 6, 3), note="line"),
    case("window_max", lambda a: ops.max_pool(a, 2), (2, 5, 6, 20)),
    case("window_max", lambda a: ops.max_pool(a, 3, 2, "same"), (2, 5, 6, 5), note="overlapping"),
    case("window_max", lambda a: ops.max_pool(ops.relu(a), (2, 3), (3, 2)), (2, 8, 7, 5), note="of relu, gaps"),
    case("window_max", lambda a: ops.pool(a, 9, "max", 2, "same"), (2, 9, 9, 3), note="large"),
    case("window_max", lambda a: ops.pool(a, 3, dilations=2), (2, 9, 5), note="dilated"),
    case(
        "window_argmax",
        lambda a: ops.cast(win.window_argmax_p.bind([a], **WINDOW, dtype="uint8"), np.float32),
        (2, 5, 6, 5),
        gradient=False,
    ),
    case("window_sum", lambda a: ops.avg_pool(a, 2), (2, 5, 6, 20)),
    case("window_sum", lambda a: ops.avg_pool(a, 3, 2, "same"), (2, 5, 6, 5), note="overlapping"),
    case("window_sum", lambda a: ops.avg_pool(a, 9), (2, 9, 10, 3), note="large"),
    case("window_sum", lambda a: ops.avg_pool(a, (1, 2, 3), 1, 1, "channelsFirst"), (2, 3, 2, 3, 4), note="volume"),
    case("keep", lambda a: win.keep(a * 2) + 1, A),
    case("broadcast_to", lambda a: ops.up_sample(a, 2), (2, 3, 4, 5), note="up_sample"),
    case("matmul", lambda a: ops.resize(a, (7, 3), "bilinear"), (2, 4, 5, 3), note="resize"),
    case("sum", lambda a: ops.add(*ops.moments(a, (0, 1, 2))), (3, 4, 2, 5), note="moments"),
    # --- index
    case("iota", lambda a: a * ops.cast(movement.reshape(indexing.arange(5, symbolic_like=a), (1, 5)), a.dtype), A),
    case("gather", lambda a: ops.gather(a, np.array([2, 0, 2, 1], np.int32)), A),
    case("gather", lambda a: ops.gather(a, np.array([4, 0], np.int32), axis=1), A, note="axis 1"),
    case("scatter_add", lambda a: ops.scatter_add(np.array([1, 1, 0], np.int32), a, 4), A),
    case("named_rows", lambda a: rows.named_rows([ops.cast(ops.abs(a), "int32")], 4, 2), A, gradient=False),
]
