"""No code block of the guides is without a test."""

import importlib
import os
import re
from pathlib import Path

import pytest

from tests.guides.blocks import GUIDES

FOLDER = Path(os.environ.get("LAYERFLOW_GUIDES", "guides"))


def code_blocks(name):
    return re.findall(r"^```\w*\n(.*?)^```", (FOLDER / name).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_has_a_test(guide):
    for _, tests in GUIDES[guide]:
        for test in tests.split():
            module, name = test.split(":")
            assert callable(getattr(importlib.import_module(module), name)), test


@pytest.mark.skipif(not FOLDER.exists(), reason="LAYERFLOW_GUIDES names no folder with the guides")
@pytest.mark.parametrize("guide", GUIDES)
def test_the_table_has_all_blocks(guide):
    assert [block.split("\n")[0] for block in code_blocks(guide)] == [first for first, _ in GUIDES[guide]]


@pytest.mark.skipif(not FOLDER.exists(), reason="LAYERFLOW_GUIDES names no folder with the guides")
def test_the_portuguese_twin_has_the_same_blocks():
    assert code_blocks("models_and_layers.pt.md") == code_blocks("models_and_layers.md")
