"""Memory in large pages."""

import gc
import mmap
import weakref

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


def test_large_blocks_begin_on_a_large_page():
    grain = pages.LARGE_PAGE if hasattr(mmap, "MADV_HUGEPAGE") else pages.LINE
    assert pages.zeroed(pages.LARGE_PAGE, whole=True).ctypes.data % grain == 0


@pytest.mark.parametrize("size", SIZES)
def test_without_large_pages(size, monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    block = pages.zeroed(size)
    assert block.shape == (size,)
    assert not block.any()
    assert not size or block.ctypes.data % pages.LINE == 0


def test_memory_goes_with_its_last_view():
    """Nothing but views of a block holds it."""
    block = pages.zeroed(pages.LARGE_PAGE)
    owner = block
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    gone = weakref.ref(owner.obj if isinstance(owner, memoryview) else owner)
    view = block[100:200].view(np.float32)
    del block, owner
    gc.collect()
    assert gone() is not None
    assert not view.any()
    del view
    gc.collect()
    assert gone() is None


def test_variables_begin_on_a_cache_line():
    for shape in ((), (3,), (5, 512), (700, 1024)):
        variable = Variable(np.ones(shape, np.float32))
        assert variable._storage.ctypes.data % pages.LINE == 0
        np.testing.assert_array_equal(variable.val, np.ones(shape))
