"""The command line: what it prints, and one clear line for every mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main
from layerflow.inspect import STAGES


@pytest.fixture
def saved(tmp_path):
    model = lf.sequential(
        [
            lf.layers.dense(units=5, activation="relu", input_shape=[4], name="first"),
            lf.layers.dense(units=3, activation="softmax", name="last"),
        ]
    )
    model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
    model.train_on_batch(np.ones((2, 4), np.float32), np.eye(3, dtype=np.float32)[:2])
    model.save(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "mine_for_cli.py").write_text(
        "import layerflow as lf\n"
        "def make():\n"
        "    return lf.sequential([lf.layers.dense(units=2, input_shape=[3], name='made')])\n"
        "model = make()\n"
        "class Box: pass\n"
        "box = Box()\n"
        "box.model = model\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "mine_for_cli"
    sys.modules.pop("mine_for_cli", None)


def test_demo(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "kept")]) == 0
    out, err = capsys.readouterr()
    assert "Layer (type)" in out
    assert "(Conv2D)" in out
    (accuracy,) = re.findall(r"test accuracy ([0-9.]+)", out)
    assert float(accuracy) >= 0.96
    assert "identical" in out
    assert "20/20" in err
    assert json.loads((tmp_path / "kept" / "model.json").read_text())["modelTopology"]


@pytest.mark.parametrize("name", ["", "/model.json"])
def test_summary_of_a_saved_model(saved, name, capsys):
    assert main(["summary", saved + name]) == 0
    out = capsys.readouterr().out
    assert "first (Dense)" in out
    assert "Total params: 43" in out


@pytest.mark.parametrize("attribute", ["model", "make", "box.model"])
def test_summary_of_module_attribute(module, attribute, capsys):
    assert main(["summary", f"{module}:{attribute}"]) == 0
    assert "made (Dense)" in capsys.readouterr().out


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mode", ["train", "predict"])
def test_dump(saved, stage, mode, capsys):
    assert main(["dump", saved, "--stage", stage, "--mode", mode]) == 0
    out = capsys.readouterr().out
    assert len(out) > 40
    if stage in ("layers", "graph", "source"):
        assert "first" in out


def test_cache(tmp_path, monkeypatch, capsys):
    before = lf.config.cache_dir()
    lf.config.set_cache_dir(tmp_path / "cache")
    try:
        assert main(["cache", "info"]) == 0
        assert str(tmp_path / "cache") in capsys.readouterr().out
        assert main(["cache", "clear"]) == 0
        assert "Removed" in capsys.readouterr().out
    finally:
        lf.config.set_cache_dir(before)


MISTAKES = {
    "no such path": (["summary", "no/such/model"], "no saved model"),
    "no such module": (["summary", "no_such_module:model"], "cannot import"),
    "no such attribute": (["summary", "json:model"], 'no "model"'),
    "not a model": (["summary", "json:dumps"], ""),
    "not a model either": (["summary", "math:pi"], "not a model"),
    "an empty folder": (["summary", "."], "model.json"),
    "no such kernel": (["dump", "{saved}", "--stage", "asm", "--kernel", "nothing"], "nothing"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_and_status_2(name, saved, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments, part = MISTAKES[name]
    assert main([argument.replace("{saved}", saved) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("layerflow: ")
    assert err.count("\n") == 1
    assert part in err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["dump", "x"], ["dump", "x", "--stage", "nonsense"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_as_a_module_and_into_a_closed_pipe():
    version = subprocess.run(
        [sys.executable, "-m", "layerflow", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() == f"layerflow {lf.__version__}"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "layerflow", "cache", "info"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr
