"""`lf.image`: images [batch, height, width, channels]."""

from __future__ import annotations

from layerflow.graph.ops import (
    flip_left_right,
    grayscale_to_rgb,
    resize_bilinear,
    resize_nearest_neighbor,
    rgb_to_grayscale,
)

__all__ = ["flip_left_right", "grayscale_to_rgb", "resize_bilinear", "resize_nearest_neighbor", "rgb_to_grayscale"]
