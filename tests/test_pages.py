"""Memory in large pages."""

import gc
import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from layerflow import pages
from layerflow.graph.variable import Variable

SIZES = [0, 1, 63, 64, 4096, pages.LARGE_PAGE // 2 - 1, pages.LARGE_PAGE // 2, 3 * pages.LARGE_PAGE + 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("whole", [False, True])
def test_zeroed_bytes_that_can_be_written(size, whole):
    block = pages.zeroed(size, whole)
    assert block.dtype == np.uint8
    assert block.shape == (size,)
    assert not block.any()
    block[:] = 7
    assert (block == 7).all()
    assert not size or block.ctypes.data % pages.LINE == 0


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system gives no advice on pages")
def test_large_blocks_begin_on_a_large_page():
    assert pages.zeroed(pages.LARGE_PAGE, whole=True).ctypes.data % pages.LARGE_PAGE == 0


@pytest.mark.parametrize("size", SIZES)
def test_without_large_pages(size, monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    block = pages.zeroed(size)
    assert block.shape == (size,)
    assert not block.any()
    assert not size or block.ctypes.data % pages.LINE == 0


def test_memory_goes_with_its_last_view():
    """Blocks of 64 MiB, one after the other: the address space of the process does not grow with them."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process has")

    def mapped() -> int:
        found = re.search(r"VmSize:\s+(\d+) kB", status.read_text())
        assert found
        return int(found[1])

    pages.zeroed(1 << 26)
    before = mapped()
    for _ in range(8):
        view = pages.zeroed(1 << 26)[100:200].view(np.float32)
        del view
    gc.collect()
    assert mapped() - before < 1 << 16


def test_variables_begin_on_a_cache_line():
    for shape in ((), (3,), (5, 512), (700, 1024)):
        variable = Variable(np.ones(shape, np.float32))
        assert variable._storage.ctypes.data % pages.LINE == 0
        np.testing.assert_array_equal(variable.val, np.ones(shape))
