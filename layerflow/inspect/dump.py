"""Text of every stage of a model's compilation, from layers to assembly."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError
from layerflow.graph import shapes
from layerflow.models.stateful_step import step_of
from layerflow.models.step import signature_of

STAGES = ("layers", "graph", "grad", "simplified", "fused", "schedule", "memory", "source", "llvm", "asm")
SAMPLES = 32  # batch size of the memory plan shown


def dump(model: Any, stage: str, mode: str = "train", kernel: str | None = None) -> str:
    """One stage of the compilation of a model's step.

    Args:
        model: a built model; one that is not compiled is shown in "predict" mode, or trained with plain defaults.
        stage: one of STAGES.
        mode: "train", "test" or "predict".
        kernel: only this kernel, for "source", "llvm" and "asm".

    Raises:
        ArgumentError: unknown stage or mode, or a training mode of a model that was not compiled.
    """
    if stage not in STAGES:
        raise ArgumentError(f"dump: unknown stage {stage!r}; the stages are {', '.join(STAGES)}.")
    if mode not in ("train", "test", "predict"):
        raise ArgumentError(f"dump: unknown mode {mode!r}; use train, test or predict.")
    if stage == "layers":
        return _layers(model)
    if mode != "predict" and model.optimizer is None:
        raise ArgumentError(
            f"dump: model {model.name} is not compiled, so it has no {mode} step; call compile() or use mode 'predict'."
        )
    step = step_of(model, mode)
    arrays = [np.zeros((1, *_known(x.shape[1:])), x.dtype) for x in model.inputs]
    labels = (
        [np.zeros((1, *_known(_label_shape(model, i))), np.float32) for i in range(len(model.outputs))]
        if mode != "predict"
        else []
    )

    def text(signature: Any) -> str:
        if stage == "graph":
            forward = step_of(model, "test" if mode == "train" else mode)
            return forward.graph(arrays, labels, signature=signature).text()
        if stage == "grad":
            return step.graph(arrays, labels, grad_only=mode == "train", signature=signature).text()
        return _compiled(step.graph(arrays, labels, signature=signature), stage, kernel)

    return step.lengths.widest(signature_of(arrays, labels), text)


def _label_shape(model: Any, at: int) -> tuple[int | None, ...]:
    """Trailing shape of the labels of one output: that of the output, or one number for class indices."""
    name = getattr(model.loss_functions[at], "__name__", "")
    shape = model.outputs[at].shape[1:]
    return (*shape[:-1], 1) if name.startswith("sparse") else shape


def _known(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(1 if n is None else n for n in shape)


def _layers(model: Any) -> str:
    """Each layer with the layers it reads from."""
    lines = []
    for layer in model.layers:
        shape = getattr(layer, "output_shape", None)
        sources = sorted({s.name for node in layer.inbound_nodes for s in getattr(node, "inbound_layers", [])})
        weights = ", ".join(f"{w.name} {list(w.shape)}" for w in layer.weights)
        text = shapes.text(shape) if isinstance(shape, tuple) else str(shape)
        lines.append(
            f"{layer.name} ({layer.get_class_name()}) {text}"
            + (f" <- {', '.join(sources)}" if sources else "")
            + (f"  weights: {weights}" if weights else "")
        )
    return "\n".join(lines)


def _compiled(graph: Any, stage: str, kernel: str | None) -> str:
    """Stages that the compiler makes."""
    return importlib.import_module("layerflow.jit.dump").stage_text(graph, stage, kernel, SAMPLES)
