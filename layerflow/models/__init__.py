"""Models: graphs of layers that train, and what reads, writes and copies them."""

from __future__ import annotations

from layerflow.models.cloning import clone_model
from layerflow.models.functional import Model, model
from layerflow.models.saving import load_layers_model
from layerflow.models.sequential import Sequential, sequential
from layerflow.models.topology_json import model_from_json

__all__ = ["Model", "Sequential", "clone_model", "load_layers_model", "model", "model_from_json", "sequential"]
