"""What a compilation leaves behind, and when Python looks for it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Python does not search for garbage meanwhile.

    A compilation makes some hundred thousand objects that live as long as it does, and hardly a cycle: going through
    all of them again and again takes a sixth of its time, and more in a process that holds much else.
    """
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


@functools.cache
def _collect() -> None:
    """Frees what imports left behind in cycles."""
    gc.collect()


def give_back() -> None:
    """Returns to the system what a compilation has freed, before the arena is made."""
    _collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
