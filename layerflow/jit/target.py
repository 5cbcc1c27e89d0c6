"""The machine that code is made for."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import llvmlite.binding as llvm

from layerflow.errors import CompileError
from layerflow.jit.language_types import type_of

_AVX2 = "+avx,+avx2,+fma,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+bmi,+bmi2,+lzcnt,+f16c,+cx16,+movbe"
# Newer extensions that no kernel needs, where LLVM's choice of instructions is less tried.
_UNUSED = ("amx-", "avx10", "avx512fp16")
_CACHES = {"L1": (32 << 10), "L2": (512 << 10)}


@dataclasses.dataclass(frozen=True)
class Target:
    """A processor as LLVM names it, and what the code generator must know of it."""

    name: str
    features: str
    vector_bytes: int  # of the widest vectors: 64, 32 or 16
    registers: int  # vector registers
    l1_bytes: int
    l2_bytes: int
    has_avx512: bool = False

    def lanes(self, dtype: str) -> int:
        """Elements of a vector of that type (f32, i64, ...)."""
        return self.vector_bytes // type_of(dtype).size

    @property
    def key(self) -> str:
        """What compiled code depends on; part of the key of the disk cache."""
        return f"{llvm.get_default_triple()} {self.name} {self.features} {self.vector_bytes}"

    @property
    def attributes(self) -> str:
        """Attributes of every kernel; without the widths LLVM splits vectors of 64 bytes on some processors."""
        width = self.vector_bytes * 8
        return (
            f'nounwind noinline "no-builtins" "frame-pointer"="none" '
            f'"target-cpu"="{self.name}" "target-features"="{self.features}" '
            f'"min-legal-vector-width"="{width}" "prefer-vector-width"="{width}"'
        )


@functools.cache
def host() -> Target:
    """The machine this process runs on, or the lesser one that LAYERFLOW_TARGET (generic, avx2, avx512) asks for."""
    return named(os.environ.get("LAYERFLOW_TARGET") or "native")


@functools.cache
def named(name: str) -> Target:
    """`native`, or a target that leaves features of the host unused: `generic`, `avx2`, `avx512`.

    Raises:
        CompileError: an unknown name, or features that the host lacks.
    """
    flags = dict(llvm.get_host_cpu_features())
    l1, l2 = cache_size("L1", 1), cache_size("L2", 2)
    if name == "generic":
        # x86-64-v2: without SSE4.1 rounding would be a call of the C library.
        return Target("x86-64-v2" if _is_x86() else "generic", "", 16, 16 if _is_x86() else 32, l1, l2)
    wide = all(flags.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl"))
    middle = bool(flags.get("avx2") and flags.get("fma"))
    if (name == "avx512" and not wide) or (name == "avx2" and not middle):
        raise CompileError(f"LAYERFLOW_TARGET={name}: this processor has no {name}.")
    if name == "avx2":
        return Target("x86-64", _AVX2, 32, 16, l1, l2)
    if name not in ("native", "avx512"):
        raise CompileError(f"LAYERFLOW_TARGET={name}: expected generic, avx2 or avx512.")
    features = ",".join(
        f"{'+' if on else '-'}{f}" for f, on in sorted(flags.items()) if on and not f.startswith(_UNUSED)
    )
    vector_bytes = 64 if wide else 32 if middle else 16
    registers = 32 if wide or not _is_x86() else 16
    return Target(llvm.get_host_cpu_name(), features, vector_bytes, registers, l1, l2, wide)


def _is_x86() -> bool:
    return llvm.get_default_triple().startswith(("x86_64", "i686"))


def cache_size(level: str, number: int) -> int:
    """Bytes of a core's data cache, from sysfs; a usual size where that is missing."""
    try:
        for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
            kind, at = (folder / "type").read_text().strip(), int((folder / "level").read_text())
            if at == number and kind in ("Data", "Unified"):
                text = (folder / "size").read_text().strip()
                return int(text.rstrip("KM")) << (20 if text.endswith("M") else 10)
    except (OSError, ValueError):
        pass
    return _CACHES[level]
