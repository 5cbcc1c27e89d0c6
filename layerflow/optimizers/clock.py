"""What an optimizer counts and its rate, in memory that native code reads and writes between steps."""

from __future__ import annotations

import ctypes


class Clock(ctypes.Structure):
    """`batches`: gradients so far; `rate`: of the next step, where it is a number."""

    _fields_ = (("batches", ctypes.c_int64), ("rate", ctypes.c_double))
    batches: int
    rate: float
