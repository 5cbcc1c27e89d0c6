"""The layers over images and the like through the checker of layers; a file of its own, to run beside the others."""

import pytest
from layers.check import check_layer
from layers.spatial_cases import SPATIAL


@pytest.mark.parametrize("case", SPATIAL, ids=lambda case: case[0].__name__)
def test_layer(case, tmp_path):
    cls, settings, shapes, output, *options = case
    check_layer(cls, settings, *shapes, output=output, tmp_path=tmp_path, **(options[0] if options else {}))
