"""Writes docs/layers.md from the docstrings of the layers: `python -m docs.layers_page`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import layerflow as lf

PAGE = Path(__file__).with_name("layers.md")

GROUPS = {
    "Core": "Dense Activation Dropout Flatten Reshape Permute RepeatVector InputLayer Function EinsumDense",
    "Convolution": "Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D "
    "DepthwiseConv2D SeparableConv1D SeparableConv2D ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
    "Cropping3D UpSampling1D UpSampling2D UpSampling3D",
    "Pooling": "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D",
    "Merging": "Add Subtract Multiply Average Maximum Minimum Concatenate Dot",
    "Normalization": "BatchNormalization LayerNormalization GroupNormalization RMSNormalization UnitNormalization",
    "Recurrent": "LSTM GRU SimpleRNN RNN ConvLSTM2D LSTMCell GRUCell SimpleRNNCell StackedRNNCells ConvLSTM2DCell",
    "Embedding and masking": "Embedding Masking PositionEmbedding",
    "Wrappers": "Bidirectional TimeDistributed",
    "Attention": "Attention AdditiveAttention MultiHeadAttention GroupQueryAttention",
    "Activations with parameters": "ReLU ELU LeakyReLU PReLU ThresholdedReLU Softmax",
    "Noise": "GaussianNoise GaussianDropout AlphaDropout SpatialDropout1D SpatialDropout2D SpatialDropout3D",
    "Preprocessing": "Rescaling Resizing CenterCrop RandomWidth CategoryEncoding Normalization Discretization",
}

# Arguments of many layers, by their ends: explained once, at the top of the page.
FAMILIES = ("_initializer", "_regularizer", "_constraint")

TOP = """\
# Layers

Every layer of `lf.layers`, with the function that makes it, its arguments and an example. This page is made from the
docstrings (`python -m docs.layers_page`); the examples run in the tests, after `import numpy as np` and
`import layerflow as lf`.

A layer is made by its function (`lf.layers.dense`) or its class (`lf.layers.Dense`), with arguments in either spelling
(`return_sequences`, `returnSequences`). `layer.apply(x)`, or `layer(x)`, extends a model where `x` is a symbol, and
computes at once where it is an array; it raises a `ShapeError` that names the layer where the input does not fit.
Shapes are written with the batch, [batch, steps, features].

Every layer also takes these arguments:

{base}

and a layer with weights, for each of them (`kernel`, `bias`, `gamma`, ...):

- `<weight>_initializer`: what it starts from, a name or an object of `lf.initializers`; `recurrent_initializer` is that
  of `recurrent_kernel`.
- `<weight>_regularizer`: a penalty on it that is added to the loss, a name or an object of `lf.regularizers`.
- `<weight>_constraint`: what is done to it after each update, a name or an object of `lf.constraints`.

Layers of your own: [the front page](../README.md#a-layer-of-your-own-in-numpy); cells: [sequences](recurrent.md).

{contents}
"""


@dataclass
class Described:
    """A docstring in its parts.

    Attributes:
        text: paragraphs in front of the arguments.
        arguments, errors: (names as written, description).
        example: lines of a doctest.
    """

    text: list[str]
    arguments: list[tuple[str, str]]
    errors: list[tuple[str, str]]
    example: str

    @property
    def documented(self) -> set[str]:
        return {name.strip() for names, _ in self.arguments for name in names.split(",")}


def described(cls: type) -> Described:
    """The parts of a class's docstring."""
    text, mark, example = inspect.cleandoc(cls.__doc__ or "").partition(">>> ")
    sections = re.split(r"^(Args|Raises):\n", text, flags=re.MULTILINE)
    named = dict(zip(sections[1::2], sections[2::2], strict=True))
    paragraphs = [" ".join(p.split()) for p in sections[0].strip().split("\n\n")]
    return Described(paragraphs, _items(named.get("Args", "")), _items(named.get("Raises", "")), mark + example.strip())


def _items(section: str) -> list[tuple[str, str]]:
    """Entries `names: description`, where lines that are indented further go on."""
    entries: list[tuple[str, str]] = []
    for line in textwrap.dedent(section).strip().split("\n"):
        if line.startswith(" ") and entries:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}")
        elif line:
            names, _, description = line.partition(": ")
            entries.append((names, description))
    return entries


def layers() -> dict[str, type]:
    """The public classes of layers, by name."""
    found = {name: getattr(lf.layers, name) for name in lf.layers.__all__}
    return {n: c for n, c in found.items() if inspect.isclass(c) and issubclass(c, lf.layers.Layer)}


def factories(cls: type) -> list[str]:
    """Names of the functions that make a layer of this class, the one with its own name first."""
    found = [n for n in lf.layers.__all__ if _makes(getattr(lf.layers, n)) is cls]
    return sorted(found, key=lambda n: (n != getattr(lf.layers, n).__name__, n))


def _makes(function: Callable[..., Any]) -> Any:
    """The class that a factory makes objects of."""
    if function is lf.layers.function:
        return lf.layers.Function
    for cell in getattr(function, "__closure__", None) or ():
        held = cell.cell_contents
        if inspect.isclass(held):
            return held
        if inspect.isfunction(held):  # a factory around a factory, as of the merging layers
            return _makes(held)
    return None


def parameters(cls: type) -> list[inspect.Parameter]:
    """Arguments of the constructor."""
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


def signature(name: str, cls: type) -> str:
    """The call with all arguments and defaults, in lines that are not too long."""
    shown = [str(p.replace(annotation=p.empty)).replace(" = ", "=") for p in parameters(cls)]
    shown = [text.replace("'", '"') for text in shown]
    line = f"lf.layers.{name}({', '.join(shown)})"
    if len(line) <= 100:
        return line
    return (
        f"lf.layers.{name}(\n"
        + textwrap.fill(", ".join(shown), 96, initial_indent="    ", subsequent_indent="    ")
        + "\n)"
    )


def linked(text: str, own: type, anchors: dict[str, str]) -> str:
    """References to other layers ("as for Conv2D") as links."""

    def link(match: re.Match[str]) -> str:
        word = match[0]
        return f"[{word}](#{anchors[word]})" if word in anchors and word != own.__name__ else word

    text = text.replace("*", r"\*")
    return re.sub(r"(?<=as for )\w+|(?<=as in )\w+|(?<= and )[A-Z]\w+", link, text)


def section(cls: type, anchors: dict[str, str]) -> str:
    """What the page says about one layer."""
    name, *others = factories(cls)
    parts = described(cls)
    also = "".join(f", `{other}`" for other in others)
    lines = [f"### {name}", "", f"Class `{cls.__name__}`{'; also' + also[1:] if also else ''}.", ""]
    lines += ["```text", signature(name, cls), "```", ""]
    for paragraph in parts.text:
        lines += [re.sub(r"^Weights\b", "**Weights**", linked(paragraph, cls, anchors)), ""]
    for title, entries in (("Arguments", parts.arguments), ("Errors", parts.errors)):
        if entries:
            lines += [f"**{title}**", ""]
            lines += [f"- {_names(names)}: {linked(text, cls, anchors)}".rstrip(": ") for names, text in entries]
            lines += [""]
    return "\n".join([*lines, "```pycon", parts.example, "```", ""])


def _names(names: str) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names.split(","))


def page() -> str:
    """The whole page."""
    classes = layers()
    grouped = {group: [classes[name] for name in names.split()] for group, names in GROUPS.items()}
    anchors = {cls.__name__: factories(cls)[0] for found in grouped.values() for cls in found}
    base = "\n".join(f"- {_names(names)}: {text}" for names, text in described(lf.layers.Layer).arguments)
    contents = "\n".join(
        f"- {group}: " + ", ".join(f"[{anchors[c.__name__]}](#{anchors[c.__name__]})" for c in found)
        for group, found in grouped.items()
    )
    parts = [TOP.format(base=base, contents=contents)]
    for group, found in grouped.items():
        parts += [f"## {group}\n", *(section(cls, anchors) for cls in found)]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
