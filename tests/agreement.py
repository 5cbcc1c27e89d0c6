"""What trainings must agree on, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow import config


def assert_interpreter_agrees(trained: Callable[[], Any]) -> None:
    """The model that `trained` makes and trains has the same weights if it is compiled and if it is interpreted."""
    found, before = [], config.jit()
    try:
        for jit in (True, False):
            config.set_jit(jit)
            found.append(trained().get_weights())
    finally:
        config.set_jit(before)
    for compiled, interpreted in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, interpreted, rtol=1e-4, atol=1e-5)
