"""Compiled code on disk: one file an entry, named by the hash of everything it was made from.

The folder is private to the user; entries are written whole or not at all, checked when read, and built again when in
doubt.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from layerflow import config

MAGIC = b"layerflow-object-1\n"
SUFFIX = ".lfo"
MAX_BYTES = 512 << 20
PRUNE_CHANCE = 8  # of 256: looking at every entry costs milliseconds, so few writes do it


def key_of(*parts: str) -> str:
    """Name of the entry for code made from these texts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def folder() -> Path:
    """Where entries are kept: LAYERFLOW_CACHE_DIR, or the user's cache folder."""
    return Path(config.cache_dir() or platformdirs.user_cache_dir("layerflow"))


def _private() -> Path | None:
    """The folder if it exists, or can be made, and nobody else can write to it."""
    if not config.cache():
        return None
    path = folder()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if _is_ours(path) else None
    except OSError:
        return None


def _is_ours(path: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def get(key: str) -> bytes | None:
    """The code of an entry; None if there is none that can be trusted."""
    path = _private()
    if path is None:
        return None
    try:
        entry = path / (key + SUFFIX)
        data = entry.read_bytes()
        if not _is_ours(entry):
            return None
    except OSError:
        return None
    head, payload = data[: len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if head[: len(MAGIC)] != MAGIC or hashlib.sha256(payload).digest() != head[len(MAGIC) :]:
        return None
    with contextlib.suppress(OSError):
        os.utime(entry)  # the least recently used entries go first
    return payload


def put(key: str, payload: bytes) -> None:
    """Stores an entry; a folder that cannot be written only means that the code is compiled again next time."""
    path = _private()
    if path is None:
        return
    try:
        handle, name = tempfile.mkstemp(dir=path, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(name, path / (key + SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        if os.urandom(1)[0] < PRUNE_CHANCE:
            _prune(path)
    except OSError:
        return


def _entries(path: Path) -> Iterator[tuple[float, int, Path]]:
    with contextlib.suppress(OSError):
        for entry in path.glob("*" + SUFFIX):
            with contextlib.suppress(OSError):
                found = entry.stat()
                yield found.st_mtime, found.st_size, entry


def _prune(path: Path) -> None:
    """Removes the least recently used entries above the size limit."""
    entries = sorted(_entries(path))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in entries:
        if total <= MAX_BYTES:
            return
        with contextlib.suppress(OSError):
            entry.unlink()
        total -= size


def info() -> dict[str, Any]:
    """Folder, number of entries and bytes."""
    entries = list(_entries(folder()))
    return {
        "folder": str(folder()),
        "enabled": config.cache(),
        "entries": len(entries),
        "bytes": sum(size for _, size, _ in entries),
    }


def clear() -> int:
    """Removes every entry; the number removed."""
    removed = 0
    for _, _, entry in list(_entries(folder())):
        with contextlib.suppress(OSError):
            entry.unlink()
            removed += 1
    return removed
