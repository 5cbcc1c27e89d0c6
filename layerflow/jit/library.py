"""From generated source to loaded code, through the disk cache.

Cold: the source is lowered to LLVM IR and becomes one object file.  Warm: the object file is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import re
from collections.abc import Callable
from pathlib import Path

import llvmlite

from layerflow import config
from layerflow.errors import CompileError
from layerflow.jit import again_text, cache, counts, entries, garbage, language, native, runtime, target

# What turns source into code.
CODE = ("language*.py", "libm.py", "winograd_transforms.py", "native.py", "runtime.py", "entries.py", "target.py")


@functools.cache
def _versions() -> str:
    here = Path(__file__).parent
    texts = [path.read_text() for pattern in CODE for path in sorted(here.glob(pattern))]
    return f"layerflow {config.VERSION} llvmlite {llvmlite.__version__} {cache.key_of(*texts)}"


def kernel_names(source: str) -> list[str]:
    """Names of the functions of a source but for the driver."""
    return re.findall(r"^def (\w+)\(ctx, lo, hi\)", source, re.M)


def ir_texts(source: str) -> list[str]:
    """LLVM IR of a source with a driver, of the runtime and of the entries."""
    machine = platform.machine().lower()
    return [language.lower(source, target.host()), runtime.barrier_text(machine), entries.entries_text(machine)]


def _cached(key: str, make_texts: Callable[[], list[str]], effort: int = 2) -> tuple[native.Library, bool]:
    """Loaded code of an entry, and whether it had to be compiled because the cache has none that loads."""
    code = cache.get(key)
    if code is not None:
        with contextlib.suppress(CompileError):  # an object that does not load is as good as none
            return native.load(code), False
    code = native.compile_object(make_texts(), target.host(), effort)
    cache.put(key, code)
    garbage.give_back()
    return native.load(code), True


def build(source: str) -> native.Library:
    """Loaded code of a generated module."""
    loaded, compiled = _cached(cache.key_of(_versions(), target.host().key, source), lambda: ir_texts(source))
    if compiled:
        counts.compiled += 1
    else:
        counts.loaded += 1
    return loaded


@functools.cache
def runtime_code() -> native.Library:
    """The native side of the thread pool, and of `again`: little of it runs, so that LLVM is not to take pains."""
    texts = [runtime.pool_text(platform.machine().lower()), again_text.again_text()]
    return _cached(cache.key_of(_versions(), target.host().key, *texts), lambda: texts, effort=0)[0]
