"""Winograd: which convolutions run by Winograd's algorithm, and the operations they become.

A convolution of 3x3 taps becomes a product over the 36 points of transformed tiles: 36 multiplications for 16 outputs
in place of 144.  The gradients use the same transforms backwards, with one transform of the outputs' gradient for both.
"""

from __future__ import annotations

from layerflow import config
from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import PRIMITIVES, Primitive
from layerflow.graph.shapes import Dim, Shape, static
from layerflow.graph.symbolic import Kind, Op, intern, layer_scope
from layerflow.jit.contraction import SHARDS
from layerflow.jit.images import rebuilt
from layerflow.jit.winograd_transforms import OUTPUTS, POINTS, TAPS

ALL = POINTS**2
# Vector instructions to transform one vector of channels of a tile: of inputs, of outputs (loads and stores included).
INPUT_COST, OUTPUT_COST = 280, 260
LANES = 16


class Compiled(Primitive):
    """An operation that exists in compiled code only: no kernel, no gradient, not among PRIMITIVES."""

    def __init__(self, name: str, kind: Kind):
        self.name, self.kind, self.shape_rule, self.rule = name, kind, None, None


kernel_p = Compiled("winograd_kernel", Kind.MOVE)  # [3, 3, C, F] -> [36, C, F], turned: [36, F, C]
convolve_p = Compiled("winograd_convolve", Kind.CONTRACT)  # [B, H, W, C], [36, C, F] -> [B, H-2, W-2, F]
parts_p = Compiled("winograd_kernel_gradient", Kind.CONTRACT)  # [B, H, W, C], [B, H-2, W-2, F] -> [SHARDS, 36, C, F]
fold_p = Compiled("winograd_fold", Kind.MOVE)  # [SHARDS, 36, C, F] -> [SHARDS, 3, 3, C, F]
input_p = Compiled("winograd_input_gradient", Kind.CONTRACT)  # [B, H-2, W-2, F], [36, F, C] -> [B, H, W, C]


def winograd(graph: Graph) -> Graph:
    """The graph with convolutions of 3x3 taps done by Winograd's algorithm where that is less work."""
    if config.winograd() is False:
        return graph
    memo: dict[Op, Op] = {}
    for op in graph.ops:
        inputs = tuple(memo[i] for i in op.inputs)
        with layer_scope(op.layer):
            memo[op] = _rewritten(op, inputs) or rebuilt(op, inputs)
    return graph.with_roots([memo[r] for r in graph.roots])


def _rewritten(op: Op, inputs: tuple[Op, ...]) -> Op | None:
    if op.name not in ("convolve", "convolve_kernel") or op.dtype.kind != "f" or not _is_plain(op):
        return None
    if op.name == "convolve_kernel":
        x, g = inputs
        if not isinstance(x.shape[0], Dim) or not _pays(g.shape, static(x.shape[-1])):
            return None
        channels, filters = op.shape[-2:]
        shape = (SHARDS, ALL, channels, filters)
        parts = intern(parts_p, (x, g), {"shards": (SHARDS,)}, shape, op.dtype)
        folded = intern(fold_p, (parts,), {"shards": (SHARDS,)}, (SHARDS, *op.shape), op.dtype)
        return intern(PRIMITIVES["sum"], (folded,), {"axes": (0,)}, op.shape, op.dtype)
    gradient = _input_gradient(inputs)
    if gradient is not None:
        g, w = gradient
        if _pays(g.shape, static(op.shape[-1])):
            turned = _transformed(w, True)
            return intern(input_p, (g, turned), {}, op.shape, op.dtype)
    if _pays(op.shape, static(inputs[0].shape[-1])):
        return intern(convolve_p, (inputs[0], _transformed(inputs[1], False)), {}, op.shape, op.dtype)
    return None


def _transformed(w: Op, turned: bool) -> Op:
    channels, filters = w.shape[-2:]
    shape = (ALL, filters, channels) if turned else (ALL, channels, filters)
    return intern(kernel_p, (w,), {"turned": turned}, shape, w.dtype)


def _is_plain(op: Op) -> bool:
    attrs = op.attrs
    size = tuple(attrs.get("size") or op.inputs[1].shape[:-2])
    return (
        size == (TAPS, TAPS)
        and set(attrs["strides"]) == {1}
        and set(attrs["dilations"]) == {1}
        and attrs["groups"] == 1
    )


def work(output: Shape, channels: int) -> tuple[int, int]:
    """Vector instructions for one sample of the direct convolution and of Winograd's, about."""
    rows, columns, filters = (static(n) for n in output[1:])
    vectors = -(-filters // LANES)
    tiles = -(-rows // OUTPUTS) * -(-columns // OUTPUTS)
    direct = rows * columns * TAPS**2 * channels * vectors
    transforms = INPUT_COST * -(-channels // LANES) + OUTPUT_COST * vectors
    return direct, tiles * (ALL * channels * vectors + transforms)


def _pays(output: Shape, channels: int) -> bool:
    """Whether a convolution with these outputs is less work by Winograd's algorithm."""
    if min(static(n) for n in output[1:3]) < OUTPUTS:
        return False
    direct, by_points = work(output, channels)
    return config.winograd() is True or by_points < direct


def _input_gradient(inputs: tuple[Op, ...]) -> tuple[Op, Op] | None:
    """(gradient of the outputs, kernel) if the convolution is that of a padded gradient with the kernel turned over."""
    padded, turned = inputs
    around = ((0, 0), (TAPS - 1, TAPS - 1), (TAPS - 1, TAPS - 1), (0, 0))
    if padded.name != "pad" or padded.attrs["widths"] != around or padded.attrs["value"] != 0.0:
        return None
    steps = {"transpose": False, "slice": False}
    w = turned
    while w.name in steps and not steps[w.name]:
        steps[w.name] = True
        fits = w.attrs["perm"] == (0, 1, 3, 2) if w.name == "transpose" else w.attrs["step"] == (-1, -1, 1, 1)
        if not fits or w.shape[:2] != (TAPS, TAPS):
            return None
        w = w.inputs[0]
    return (padded.inputs[0], w) if all(steps.values()) else None


def explain(op: Op) -> str:
    """Why a convolution runs as it does: for the dump of the schedule."""
    if op.name in ("winograd_convolve", "winograd_input_gradient"):
        output = op.shape if op.name == "winograd_convolve" else op.inputs[0].shape
        channels = static((op.inputs[0] if op.name == "winograd_convolve" else op).shape[-1])
    elif op.name == "winograd_kernel_gradient":
        output, channels = op.inputs[1].shape, static(op.inputs[0].shape[-1])
    elif op.name in ("convolve", "convolve_kernel") and _is_plain(op):
        output = op.shape if op.name == "convolve" else op.inputs[1].shape
        channels = static(op.inputs[0].shape[-1])
    else:
        return ""
    direct, by_points = work(output, channels)
    chosen = "Winograd F(4x4, 3x3)" if op.name.startswith("winograd") else "direct"
    return f"{chosen}: direct {direct / 1e3:.0f}k vector instructions a sample, Winograd {by_points / 1e3:.0f}k"
