"""`lf.random`: the seed of everything random."""

from __future__ import annotations

from layerflow.graph.ops.random import generator, get_state, set_seed, set_state

__all__ = ["generator", "get_state", "set_seed", "set_state"]
