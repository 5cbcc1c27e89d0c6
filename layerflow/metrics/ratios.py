"""Arithmetic of `value`: on NumPy arrays, where 0 / 0 is 0."""

from __future__ import annotations

from typing import Any

import numpy as np


def ratio(a: Any, b: Any) -> Any:
    """a / b, 0 where b is 0."""
    b = np.asarray(b)
    return np.where(b == 0, 0.0, np.asarray(a) / np.where(b == 0, 1.0, b))
