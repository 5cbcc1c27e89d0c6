"""`lf.signal`: windows and frames."""

from __future__ import annotations

from layerflow.graph.ops import frame, hamming_window, hann_window

__all__ = ["frame", "hamming_window", "hann_window"]
