"""docs/layers.md is what the docstrings say, every public layer has arguments and an example, and examples run."""

import doctest
import inspect
import re

import numpy as np
import pytest

import layerflow as lf
from docs import layers_page

LAYERS = layers_page.layers()
SHORT = {name: cls for name, cls in LAYERS.items() if cls is not lf.layers.Layer}


def test_the_page_is_made_from_the_docstrings():
    assert layers_page.PAGE.read_text() == layers_page.page(), "run `python -m docs.layers_page`"


def test_every_public_layer_stands_in_one_group():
    grouped = " ".join(layers_page.GROUPS.values()).split()
    assert sorted(grouped) == sorted(SHORT)


def test_every_factory_is_a_function_on_the_page():
    """A factory that a module of its name hides is none: `lf.layers.resizing` must make layers."""
    lower = {n for n in lf.layers.__all__ if n.islower() and n not in ("input", "deserialize", "reset_names")}
    made = {name for cls in SHORT.values() for name in layers_page.factories(cls)}
    assert made == lower
    assert all(layers_page.factories(cls) for cls in SHORT.values())
    assert not [name for name in made if inspect.ismodule(getattr(lf.layers, name))]


def _explained(cls: type) -> set[str]:
    """Arguments that a docstring explains, itself or by naming the layer whose arguments are the same."""
    parts = layers_page.described(cls)
    found = set(parts.documented)
    for paragraph in parts.text:
        for other in re.findall(r"Arguments (?:and weights )?as for (\w+)", paragraph):
            found |= _explained(LAYERS[other])
    return found


@pytest.mark.parametrize("name", SHORT)
def test_every_argument_is_explained(name):
    ends = layers_page.FAMILIES
    wanted = {p.name for p in layers_page.parameters(SHORT[name]) if not p.name.endswith(ends)}
    assert wanted - {"self", "kwargs", "weights"} <= _explained(SHORT[name])
    assert _explained(SHORT[name]) <= {p.name for p in layers_page.parameters(SHORT[name])} | {
        "input_shape",
        "batch_input_shape",
        "batch_size",
    }


@pytest.mark.parametrize("name", LAYERS)
def test_the_example_of_a_layer_runs(name):
    """Every example shows something: at least one line of output."""
    found = doctest.DocTestParser().get_doctest(
        layers_page.described(LAYERS[name]).example + "\n", {"lf": lf, "np": np}, name, None, 0
    )
    assert any(example.want for example in found.examples)
    assert not doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found).failed


def test_links_within_the_page_lead_somewhere():
    text = layers_page.PAGE.read_text()
    anchors = {line[4:] for line in text.split("\n") if line.startswith("### ")}
    linked = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert linked <= anchors
    assert anchors <= linked  # the contents name every layer
