"""The disk cache: what it keeps, and what it refuses."""

import os
import subprocess
import sys

import pytest

from layerflow import config
from layerflow.jit import cache, counts, library

SOURCE = """
def k(ctx, lo, hi):
    y = pointer(ctx, 16, i64)
    y[0] = y[0] + hi

def step(ctx, tid, threads):
    k(ctx, 0, 3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setitem(config._settings, "cache_dir", str(path))
    monkeypatch.setitem(config._settings, "cache", True)
    return path


def entry(folder):
    (found,) = folder.iterdir()
    return found


def test_keeps_and_gives_back(folder):
    key = cache.key_of("a", "b")
    assert cache.get(key) is None
    cache.put(key, b"payload")
    assert cache.get(key) == b"payload"
    assert cache.get(cache.key_of("ab")) is None
    assert cache.info()["entries"] == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.clear() == 1
    assert cache.get(key) is None


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:-1] + b"?", lambda b: b"", lambda b: b"x" + b, lambda b: b + b"x"]
)
def test_damaged_entries_are_ignored(folder, damage):
    cache.put("key", b"payload")
    file = entry(folder)
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get("key") is None


def test_files_that_others_may_write_are_ignored(folder):
    cache.put("key", b"payload")
    entry(folder).chmod(0o666)
    assert cache.get("key") is None
    entry(folder).chmod(0o600)
    assert cache.get("key") == b"payload"
    folder.chmod(0o777)
    assert cache.get("key") is None
    cache.put("other", b"payload")
    assert len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setitem(config._settings, "cache_dir", str(blocked / "cache"))
    cache.put("key", b"payload")
    assert cache.get("key") is None


def test_switched_off(folder, monkeypatch):
    monkeypatch.setitem(config._settings, "cache", False)
    cache.put("key", b"payload")
    assert not folder.exists()
    assert cache.get("key") is None


def test_least_recently_used_entries_go_first(folder, monkeypatch):
    for at, name in enumerate("abc"):
        cache.put(name, b"0" * 1000)
        os.utime(folder / (name + cache.SUFFIX), (at, at))
    cache.get("a")
    monkeypatch.setattr(cache, "MAX_BYTES", 3500)
    monkeypatch.setattr(cache, "PRUNE_CHANCE", 256)
    cache.put("d", b"0" * 1000)
    assert {p.stem for p in folder.iterdir()} == {"a", "c", "d"}


def test_built_once(folder):
    compiled, loaded = counts.compiled, counts.loaded
    library.build(SOURCE)
    library.build(SOURCE)
    assert (counts.compiled - compiled, counts.loaded - loaded) == (1, 1)
    library.build(SOURCE + "\n")
    assert counts.compiled - compiled == 2


def test_an_object_that_does_not_load_is_built_again(folder):
    library.build(SOURCE)
    cache.put(entry(folder).stem, b"no object file")
    assert library.build(SOURCE).function("lf_step")


def test_another_process_compiles_nothing(folder):
    library.build(SOURCE)
    code = (
        f"from layerflow.jit import counts, library; library.build({SOURCE!r}); print(counts.compiled, counts.loaded)"
    )
    environment = {**os.environ, "LAYERFLOW_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0 1\n"
