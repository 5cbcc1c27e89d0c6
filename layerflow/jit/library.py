"""From generated source to loaded code, through the disk cache.

Cold: kernels are lowered to LLVM IR, the driver goes through Numba's front end, both become one object file.  Warm: the
object file is loaded by llvmlite alone; Numba is not imported.
"""

from __future__ import annotations

import functools
import importlib
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite

from layerflow import config
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


def build(kernels: str, driver: str) -> Any:
    """Loaded code of a generated module."""
    host = target.host()
    key = cache.key_of(_versions(), host.key, kernels, driver)
    code = cache.get(key)
    if code is not None:
        try:
            loaded = native.load(code)
            counts.loaded += 1
            return loaded
        except Exception:  # an object that does not load is as good as none
            pass
    code = native.compile_object(ir_texts(kernels, driver), host)
    cache.put(key, code)
    counts.compiled += 1
    return native.load(code)


@functools.cache
def runtime_code() -> Any:
    """The thread pool's native side."""
    host = target.host()
    text = runtime.pool_text(platform.machine().lower())
    key = cache.key_of(_versions(), host.key, text)
    code = cache.get(key)
    if code is None:
        code = native.compile_object([text], host)
        cache.put(key, code)
    return native.load(code)
