"""What the checks of layers share."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from layerflow import config


def single_or_list(values: Sequence[Any]) -> Any:
    """As layers are called: with one input, or with a list of several."""
    return values[0] if len(values) == 1 else list(values)


def both_ways(net: Any) -> Iterator[bool]:
    """Runs the body of a loop with the model interpreted (False), then compiled (True)."""
    before = config.jit()
    try:
        for jit in (False, True):
            config.set_jit(jit)
            net._forget_steps()
            yield jit
    finally:
        config.set_jit(before)


def joined(x: np.ndarray, more: int) -> np.ndarray:
    """The sequences with their first steps once more at the end."""
    return np.concatenate([x, x[:, :more]], 1)
