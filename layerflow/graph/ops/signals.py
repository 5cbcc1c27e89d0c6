"""Recurrent cells as functions, colours of images, and signals cut into frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ShapeError
from layerflow.graph import shapes
from layerflow.graph.ops import composite, contraction, indexing, movement, reduction
from layerflow.graph.ops import elementwise as e
from layerflow.graph.tensor import wrap


def basic_lstm_cell(forget_bias: Any, kernel: Any, bias: Any, data: Any, c: Any, h: Any) -> tuple[Any, Any]:
    """One step of an LSTM with the gates in the order i, j, f, o: the new (c, h).

    Args:
        kernel: [inputs + units, 4 * units].
        bias: [4 * units].
        data: [batch, inputs].
        c, h: [batch, units].
    """
    gates = contraction.matmul(movement.concatenate([data, h], 1), kernel) + bias
    i, j, f, o = movement.split(gates, 4, 1)
    new = composite.sigmoid(i) * e.tanh(j) + c * composite.sigmoid(e.add(f, forget_bias))
    return new, e.tanh(new) * composite.sigmoid(o)


def multi_rnn_cell(cells: Sequence[Any], data: Any, c: Sequence[Any], h: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """One step of cells on top of each other; `cells[i](data, c, h)` gives the new (c, h)."""
    states = []
    for cell, ci, hi in zip(cells, c, h, strict=True):
        new = cell(data, ci, hi)
        states.append(new)
        data = new[1]
    return [s[0] for s in states], [s[1] for s in states]


def flip_left_right(image: Any) -> Any:
    """Images [batch, height, width, channels] mirrored along the width."""
    if len(movement._shape(image)) != 4:
        raise ShapeError(f"flip_left_right: images must have rank 4, got {shapes.text(movement._shape(image))}.")
    return movement.flip(image, 2)


def grayscale_to_rgb(image: Any) -> Any:
    """The one channel (last axis) three times."""
    if movement._shape(image)[-1] != 1:
        raise ShapeError(f"grayscale_to_rgb: the last axis must be 1, got {shapes.text(movement._shape(image))}.")
    return movement.repeat(image, 3, -1)


def rgb_to_grayscale(image: Any) -> Any:
    """0.2989 r + 0.587 g + 0.114 b along the last axis, which stays with extent 1."""
    if movement._shape(image)[-1] != 3:
        raise ShapeError(f"rgb_to_grayscale: the last axis must be 3, got {shapes.text(movement._shape(image))}.")
    weights = np.array([0.2989, 0.587, 0.114], np.float32)
    return reduction.sum_(e.multiply(image, weights), -1, keepdims=True)


def cosine_window(length: int, a: float, b: float) -> Any:
    """a - b cos(2 pi i / length), the window of a periodic signal."""
    return wrap((a - b * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32))


def hann_window(length: int) -> Any:
    return cosine_window(length, 0.5, 0.5)


def hamming_window(length: int) -> Any:
    return cosine_window(length, 0.54, 0.46)


def frame(signal: Any, frame_length: int, frame_step: int, pad_end: bool = False, pad_value: float = 0.0) -> Any:
    """The vector cut into pieces of `frame_length`, one every `frame_step` elements: [frames, frame_length]."""
    total = shapes.static(movement._shape(signal)[0])
    count = -(-total // frame_step) if pad_end else max(0, 1 + (total - frame_length) // frame_step)
    if count == 0:
        raise ShapeError(f"frame: {total} elements are fewer than one frame of {frame_length}; set pad_end=True.")
    missing = (count - 1) * frame_step + frame_length - total
    signal = movement.pad(signal, [(0, missing)], pad_value) if missing > 0 else signal
    at = np.arange(count)[:, None] * frame_step + np.arange(frame_length)
    return indexing.gather(signal, at.astype(np.int32))
