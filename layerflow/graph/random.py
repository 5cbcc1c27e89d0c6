"""`lf.random`: the seed of everything random."""

from __future__ import annotations

from layerflow.graph.ops.random import generator, set_seed

__all__ = ["generator", "set_seed"]
