"""Checks for tests and for the curious: how often the compiler ran."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from layerflow.jit import counts


@contextlib.contextmanager
def assert_max_compiles(limit: int) -> Iterator[None]:
    """Raises AssertionError if the code inside compiles more than `limit` modules, or loads them from the disk cache.

    >>> with assert_max_compiles(1):
    ...     model.fit(x[:70], y[:70], batch_size=32)
    """
    before = counts.compile_count()
    yield
    compiles = counts.compile_count() - before
    if compiles > limit:
        raise AssertionError(f"{compiles} compiles where at most {limit} were expected.")
