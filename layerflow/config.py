"""Settings of the process: from LAYERFLOW_* variables of the environment, changeable at run time.

| setting | environment | meaning |
| --- | --- | --- |
| `floatx()` | LAYERFLOW_FLOATX | type of weights and of Python numbers: float32 (default) or float64 |
| `epsilon()` | LAYERFLOW_EPSILON | the small number of losses, optimizers and constraints, 1e-7 |
| `jit()` | LAYERFLOW_JIT | 0: run the uncompiled kernels |
| `cache()` | LAYERFLOW_CACHE | 0: keep no compiled code on disk |
| `cache_dir()` | LAYERFLOW_CACHE_DIR | where compiled code is kept; None: the user's cache folder |
| `num_threads()` | LAYERFLOW_NUM_THREADS | None: as many as the process may use |
| `winograd()` | LAYERFLOW_WINOGRAD | "auto": 3x3 convolutions by Winograd's algorithm where that pays; True, False |
| `fused_attention()` | LAYERFLOW_FUSED_ATTENTION | "auto": large attention scores are not stored; True, False |
| `skip_zeros()` | LAYERFLOW_SKIP_ZEROS | 0: multiply by zeros too, so that nan and inf behind them show |
| `check_numerics()` | LAYERFLOW_CHECK_NUMERICS | 1: the first NaN or infinity is an error that names layer and op |
| `debug()` | LAYERFLOW_DEBUG | 1: verify every stage of the compiler |
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

VERSION = "0.1.0"
_FALSE = {"0", "false", "off", "no", ""}
_FLOATS = ("float32", "float64")


def _flag(variable: str, default: bool) -> bool:
    value = os.environ.get(variable)
    return default if value is None else value.strip().lower() not in _FALSE


def _mode(variable: str) -> bool | str:
    return _flag(variable, True) if os.environ.get(variable) not in (None, "auto") else "auto"


def _number(variable: str, default: Any, kind: type) -> Any:
    value = os.environ.get(variable)
    if not value:
        return default
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{variable}={value!r} is not a number; unset it or give one.") from None


_settings: dict[str, Any] = {
    "floatx": os.environ.get("LAYERFLOW_FLOATX") or "float32",
    "epsilon": _number("LAYERFLOW_EPSILON", 1e-7, float),
    "jit": _flag("LAYERFLOW_JIT", True),
    "cache": _flag("LAYERFLOW_CACHE", True),
    "cache_dir": os.environ.get("LAYERFLOW_CACHE_DIR") or None,
    "num_threads": _number("LAYERFLOW_NUM_THREADS", None, int),
    "winograd": _flag("LAYERFLOW_WINOGRAD", True) and "auto",
    "fused_attention": _mode("LAYERFLOW_FUSED_ATTENTION"),
    "skip_zeros": _flag("LAYERFLOW_SKIP_ZEROS", True),
    "check_numerics": _flag("LAYERFLOW_CHECK_NUMERICS", False),
    "debug": _flag("LAYERFLOW_DEBUG", False),
}
# Grows with every change, here or of a layer, weight or optimizer, after which a compiled step that is called again
# must look at more than its arrays.  Native code reads it too.
changes = ctypes.c_int64()
if _settings["floatx"] not in _FLOATS:
    raise ValueError(f"LAYERFLOW_FLOATX={_settings['floatx']!r}: expected one of {', '.join(_FLOATS)}.")


def floatx() -> str:
    """Name of the default floating type."""
    return _settings["floatx"]


def set_floatx(dtype: str) -> None:
    """Sets the default floating type: "float32" or "float64"."""
    name = str(dtype)
    if name not in _FLOATS:
        raise ValueError(f"floatx must be one of {', '.join(_FLOATS)}, got {dtype!r}.")
    _settings["floatx"] = name


def epsilon() -> float:
    return _settings["epsilon"]


def set_epsilon(value: float) -> None:
    _settings["epsilon"] = float(value)


def jit() -> bool:
    """Whether graphs are compiled; otherwise the uncompiled kernels run them."""
    return _settings["jit"]


def set_jit(on: bool) -> None:
    _settings["jit"] = bool(on)
    changes.value += 1


def cache() -> bool:
    """Whether compiled code is kept on disk."""
    return _settings["cache"]


def set_cache(on: bool) -> None:
    _settings["cache"] = bool(on)


def cache_dir() -> str | None:
    """The folder of compiled code, None for the user's cache folder."""
    return _settings["cache_dir"]


def set_cache_dir(path: str | os.PathLike | None) -> None:
    _settings["cache_dir"] = None if path is None else os.fspath(path)


def num_threads() -> int | None:
    """The wanted number of threads, None for as many as the process may use."""
    return _settings["num_threads"]


def set_num_threads(count: int | None) -> None:
    if count is not None and int(count) < 1:
        raise ValueError(f"num_threads must be at least 1, got {count}.")
    _settings["num_threads"] = None if count is None else int(count)
    changes.value += 1


def winograd() -> bool | str:
    """How 3x3 convolutions of stride 1 are compiled: "auto", True (always by Winograd's algorithm) or False (never)."""
    return _settings["winograd"]


def set_winograd(mode: bool | str) -> None:
    """Sets it for what is compiled from now on."""
    if mode not in (True, False, "auto"):
        raise ValueError(f'winograd must be True, False or "auto", got {mode!r}.')
    _settings["winograd"] = mode


def fused_attention() -> bool | str:
    """Whether attention runs without storing its scores: "auto" (where they are large), True or False."""
    return _settings["fused_attention"]


def set_fused_attention(mode: bool | str) -> None:
    """Sets it for what is traced from now on."""
    if mode not in (True, False, "auto"):
        raise ValueError(f'fused_attention must be True, False or "auto", got {mode!r}.')
    _settings["fused_attention"] = mode


def skip_zeros() -> bool:
    """Whether large products may leave out what is multiplied by zero: 0 * inf and 0 * nan, else nan, are 0 then."""
    return _settings["skip_zeros"]


def set_skip_zeros(on: bool) -> None:
    """Sets it for what is compiled from now on."""
    _settings["skip_zeros"] = bool(on)


def check_numerics() -> bool:
    """Whether the first NaN or infinity of a computation is an error that names the layer and the operation."""
    return _settings["check_numerics"]


def set_check_numerics(on: bool) -> None:
    if bool(on) != _settings["check_numerics"]:
        _settings["check_numerics"] = bool(on)
        _revision[0] += 1
        changes.value += 1


_revision = [0]


def revision() -> int:
    """A number that grows whenever `check_numerics` changes: compiled steps depend on it."""
    return _revision[0]


@contextlib.contextmanager
def numerics_checked(on: bool | None) -> Iterator[None]:
    """Inside, `check_numerics()` is `on`; None leaves it as it is."""
    before = check_numerics()
    set_check_numerics(before if on is None else on)
    try:
        yield
    finally:
        set_check_numerics(before)


def debug() -> bool:
    return _settings["debug"]


def set_debug(on: bool) -> None:
    _settings["debug"] = bool(on)
