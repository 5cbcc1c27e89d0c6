"""Compiles a kernel-language source and calls a kernel on arrays."""

import ctypes

import numpy as np

from layerflow.jit import language, native, target

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


class Compiled:
    """The kernels of a source; slots of the context table are the arrays' addresses and integers in order."""

    def __init__(self, source: str, on: target.Target | None = None):
        on = on or target.host()
        self.library = native.load(native.compile_object([language.lower(source, on)], on))

    def __call__(self, name: str, *slots, lo: int = 0, hi: int = 1) -> None:
        table = np.array([s.ctypes.data if isinstance(s, np.ndarray) else int(s) for s in slots], np.int64)
        SIGNATURE(self.library.function(name))(table.ctypes.data, lo, hi)


def apply(
    expression: str, *arrays: np.ndarray, lanes: int = 16, on: target.Target | None = None, result=None
) -> np.ndarray:
    """The expression over v0, v1, ... element by element; `result` is the type of the elements it gives."""
    out = np.zeros(arrays[0].shape, result or arrays[0].dtype)
    lines = ["def k(ctx, lo, hi):", f"    lanes({lanes})"]
    for i, array in enumerate((*arrays, out)):
        lines.append(f"    p{i} = pointer(ctx, {i}, {name_of(array.dtype)})")
    lines.append(f"    for i in range(lo, hi, {lanes}):")
    for i in range(len(arrays)):
        lines.append(f"        v{i} = load(p{i}, i, hi - i)")
    lines.append(f"        store(p{len(arrays)}, i, {expression}, hi - i)")
    Compiled("\n".join(lines), on)("k", *arrays, out, hi=out.size)
    return out


def name_of(dtype: np.dtype) -> str:
    return f"{dtype.kind}{dtype.itemsize * 8}"
