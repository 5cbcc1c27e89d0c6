"""Memory in large pages, where the system has them."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np

LINE = 64  # bytes of a cache line, and of the widest vector
LARGE_PAGE = 1 << 21


def zeroed(size: int, whole: bool = False) -> np.ndarray:
    """So many zeroed bytes that begin on a cache line; if they are many, on a large page, and lie in such pages.

    What lies in one large page lies together in the second-level cache too.  Small pages fall on its sets by chance:
    some runs of a program would be a fifth slower than others.

    Args:
        size: bytes.
        whole: the last page is a large one too, though part of it be unused.
    """
    if size < LARGE_PAGE // 2 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return _from_multiple(np.zeros(size + LINE, np.uint8), LINE, size)
    length = -(-size // LARGE_PAGE) * LARGE_PAGE if whole else size
    pages = mmap.mmap(-1, length + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system built without them
        pages.madvise(mmap.MADV_HUGEPAGE)
    return _from_multiple(np.frombuffer(pages, np.uint8), LARGE_PAGE, size)


def _from_multiple(block: np.ndarray, grain: int, size: int) -> np.ndarray:
    skip = -block.ctypes.data % grain
    return block[skip : skip + size]
