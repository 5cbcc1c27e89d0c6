"""From generated source to loaded code, through the disk cache.

Cold: kernels are lowered to LLVM IR, the driver goes through Numba's front end, both become one object file.  Warm: the
object file is loaded by llvmlite alone; Numba is not imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import platform
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import llvmlite

from layerflow import config
from layerflow.errors import CompileError
from layerflow.jit import cache, counts, language, native, runtime, target

CODE = ("language*.py", "libm.py", "native.py", "runtime.py", "driver.py", "target.py")  # what turns source into code


@functools.cache
def _versions() -> str:
    here = Path(__file__).parent
    texts = [path.read_text() for pattern in CODE for path in sorted(here.glob(pattern))]
    versions = f"layerflow {config.VERSION} llvmlite {llvmlite.__version__} numba {metadata.version('numba')}"
    return f"{versions} {cache.key_of(*texts)}"


def kernel_names(kernels: str) -> list[str]:
    """Names of the functions of a kernel source."""
    return re.findall(r"^def (\w+)\(ctx, lo, hi\)", kernels, re.M)


def ir_texts(kernels: str, driver: str) -> list[str]:
    """LLVM IR of the kernels with the runtime, and of the driver."""
    machine = platform.machine().lower()
    compiled = importlib.import_module("layerflow.jit.driver").compile_driver(driver, kernel_names(kernels))
    return [language.lower(kernels, target.host()), runtime.barrier_text(machine), compiled]


def _cached(key: str, make_texts: Callable[[], list[str]]) -> tuple[native.Library, bool]:
    """Loaded code of an entry, and whether it had to be compiled because the cache has none that loads."""
    code = cache.get(key)
    if code is not None:
        with contextlib.suppress(CompileError):  # an object that does not load is as good as none
            return native.load(code), False
    code = native.compile_object(make_texts(), target.host())
    cache.put(key, code)
    _give_back()
    return native.load(code), True


def _give_back() -> None:
    """Returns to the system what a compilation leaves behind, before the arena is made."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def build(kernels: str, driver: str) -> native.Library:
    """Loaded code of a generated module."""
    key = cache.key_of(_versions(), target.host().key, kernels, driver)
    loaded, compiled = _cached(key, lambda: ir_texts(kernels, driver))
    if compiled:
        counts.compiled += 1
    else:
        counts.loaded += 1
    return loaded


@functools.cache
def runtime_code() -> native.Library:
    """The thread pool's native side."""
    text = runtime.pool_text(platform.machine().lower())
    return _cached(cache.key_of(_versions(), target.host().key, text), lambda: [text])[0]
