"""The text of `model.summary()`: three columns as in the guides, or the four of TF.js 4.22."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerflow.errors import ShapeError
from layerflow.graph.shapes import text
from layerflow.registry import option

# Line length and ends of columns: (sequential, general).
_LAYOUTS = {
    "guide": ((65, (29, 55, 65)), (98, (29, 55, 65, 98))),
    "tfjs4": ((90, (0.32, 0.61, 0.89, 1.0)), (115, (0.24, 0.48, 0.70, 0.80, 1.0))),
}
_HEADERS = {
    "guide": ["Layer (type)", "Output shape", "Param #"],
    "tfjs4": ["Layer (type)", "Input Shape", "Output shape", "Param #"],
}
# The guides' ends as fractions, for other line lengths.
_GUIDE_FRACTIONS = {3: (29 / 65, 55 / 65, 1.0), 4: (0.30, 0.56, 0.67, 1.0)}


def lines(model: Any, line_length: int | None, positions: Sequence[float] | None, style: str = "guide") -> list[str]:
    """The lines of the summary of a model."""
    style = option("style", style, tuple(_LAYOUTS))
    general = not is_sequential_like(model)
    length, ends = _LAYOUTS[style][general]
    if style == "guide" and line_length is not None:
        ends = _GUIDE_FRACTIONS[len(ends)]
    length = line_length or length
    ends = list(positions if positions is not None else ends)
    if ends[-1] <= 1:
        ends = [length * end for end in ends]
    ends = [math.floor(end) for end in ends]
    headers = _HEADERS[style] + (["Receives inputs"] if general else [])
    out = ["_" * length, row(headers, ends, style), "=" * length]
    layers = model.layers
    for number, layer in enumerate(layers):
        out += _layer_rows(layer, model, ends, style, general)
        out.append(("=" if number == len(layers) - 1 else "_") * length)
    trainable = sum(_sizes(model.trainable_weights))
    frozen = sum(_sizes(model.non_trainable_weights))
    return [
        *out,
        f"Total params: {trainable + frozen}",
        f"Trainable params: {trainable}",
        f"Non-trainable params: {frozen}",
        "_" * length,
    ]


def is_sequential_like(model: Any) -> bool:
    """True if the layers form one chain in which none is used twice."""
    if any(len([n for n in level if not n.is_source]) > 1 or len(level) > 1 for level in model.nodes_by_depth):
        return False
    if any(len({origin.layer for origin in node.origins}) > 1 or len(node.origins) > 1 for node in model.nodes):
        return False
    layers = [node.layer for node in model.nodes]
    return len(set(layers)) == len(layers)


def row(fields: Sequence[str], ends: Sequence[int], style: str) -> str:
    """Fields cut and padded to their columns; a column gives up its last character for a space before the next."""
    line = ""
    for number, entry in enumerate(fields[: len(ends)]):
        if number:
            line = line[:-1] + " "
        line = (line + entry)[: int(ends[number])].ljust(int(ends[number]))
    return line if style == "tfjs4" else line.rstrip()


def _layer_rows(layer: Any, model: Any, ends: Sequence[int], style: str, general: bool) -> list[str]:
    fields = [f"{layer.name} ({layer.get_class_name()})", output_text(layer), str(sum(_sizes(layer.weights)))]
    if style == "tfjs4":
        fields.insert(1, ",".join(_shapes(node.input_shapes) for node in layer.inbound_nodes))
    if not general:
        return [row(fields, ends, style)]
    wanted = set(map(id, model.nodes))
    calls = [node for node in layer.inbound_nodes if id(node) in wanted]
    received = [f"{o.layer.name}[{o.node}][{o.tensor}]" for node in calls for o in node.origins]
    rows = [row([*fields, received[0] if received else ""], ends, style)]
    return rows + [row([*[""] * len(fields), entry], ends, style) for entry in received[1:]]


def _shapes(shapes: Sequence[Any]) -> str:
    return "[" + ",".join(text(s) for s in shapes) + "]"


def output_text(layer: Any) -> str:
    """The output shape as printed; `multiple` if calls of the layer gave several."""
    found = {tuple(node.output_shapes) for node in layer.inbound_nodes}
    if len(found) != 1:
        return "multiple"
    shapes = found.pop()
    return text(shapes[0]) if len(shapes) == 1 else _shapes(shapes)


def _sizes(weights: Sequence[Any]) -> list[int]:
    return [math.prod(w.shape) for w in weights]


def input_mismatch(model: str, name: str, shape: Sequence[Any], wanted: Sequence[Any]) -> ShapeError:
    """The error for data that do not fit an input of a model."""
    return ShapeError(f"{model}: the input {name!r} takes shape {text(wanted)}, got {text(shape)}.")
