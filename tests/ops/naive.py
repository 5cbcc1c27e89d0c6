"""Convolution and pooling by their definitions, element by element in float64: what the ops are held against."""

from __future__ import annotations

import itertools
import math

import numpy as np


def pads(padding, extents, size, strides, dilations):
    """(before, after) of each axis."""
    if padding == "valid":
        return [(0, 0)] * len(size)
    if padding == "causal":
        return [((size[0] - 1) * dilations[0], 0)]
    if padding == "same":
        out = []
        for n, k, s, d in zip(extents, size, strides, dilations, strict=True):
            total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            out.append((total // 2, total - total // 2))
        return out
    return [(padding, padding)] * len(size) if isinstance(padding, int) else padding


def places(extents, size, strides, dilations, widths):
    """Numbers of windows; for each (o) the places (k, source) of its elements that are not padding."""
    counts = [
        (n + a + b - (k - 1) * d - 1) // s + 1
        for n, k, s, d, (a, b) in zip(extents, size, strides, dilations, widths, strict=True)
    ]
    windows = []
    for o in itertools.product(*map(range, counts)):
        found = []
        for k in itertools.product(*map(range, size)):
            source = tuple(
                i * s + j * d - a for i, s, j, d, (a, _) in zip(o, strides, k, dilations, widths, strict=True)
            )
            if all(0 <= p < n for p, n in zip(source, extents, strict=True)):
                found.append((k, source))
        windows.append((o, found))
    return counts, windows


def conv(x, kernel, strides, padding, dilations, groups):
    size, (inner, filters) = kernel.shape[:-2], kernel.shape[-2:]
    extents = x.shape[1:-1]
    widths = pads(padding, extents, size, strides, dilations)
    counts, windows = places(extents, size, strides, dilations, widths)
    y = np.zeros((len(x), *counts, filters))
    for o, found in windows:
        for f in range(filters):
            c = f // (filters // groups) * inner
            for k, source in found:
                y[(slice(None), *o, f)] += x[(slice(None), *source, slice(c, c + inner))] @ kernel[(*k, slice(None), f)]
    return y


def conv_transpose(x, kernel, strides, padding):
    """Every input element adds its kernel to the output; "same" cuts the rest off, the odd element in front."""
    size, (filters, _) = kernel.shape[:-2], kernel.shape[-2:]
    extents = x.shape[1:-1]
    full = [(n - 1) * s + max(k, s) for n, s, k in zip(extents, strides, size, strict=True)]
    y = np.zeros((len(x), *full, filters))
    for i in itertools.product(*map(range, extents)):
        for k in itertools.product(*map(range, size)):
            at = tuple(p * s + j for p, s, j in zip(i, strides, k, strict=True))
            y[(slice(None), *at)] += x[(slice(None), *i)] @ kernel[k].T
    if padding == "same":
        for axis, (n, s, k) in enumerate(zip(extents, strides, size, strict=True), 1):
            before = max(k - s, 0) // 2
            y = np.take(y, range(before, before + n * s), axis)
    return y


def pool(x, size, method, strides, padding, dilations):
    extents = x.shape[1:-1]
    widths = pads(padding, extents, size, strides, dilations)
    counts, windows = places(extents, size, strides, dilations, widths)
    y = np.zeros((len(x), *counts, x.shape[-1]))
    for o, found in windows:
        values = np.stack([x[(slice(None), *source)] for _, source in found])
        y[(slice(None), *o)] = values.max(0) if method == "max" else values.mean(0)
    return y
