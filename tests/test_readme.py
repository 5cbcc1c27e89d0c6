"""The examples of README and docs, and the notebooks, run as they stand there."""

import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.jit import target
from tests.guides.test_book_cnn import SUMMARY

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(example, id=f"{page.name}-{number}")
    for page in PAGES
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


def test_readme_has_examples_and_commands():
    text = (ROOT / "README.md").read_text()
    assert text.count("```python\n") >= 2
    assert all(f"<!-- ci: {name} -->\n```sh\n" in text for name in ("demo", "tests"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example, request, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, request.node.callspec.id, "exec"), {"__name__": "__main__"})


def test_dumps_on_the_page_of_the_compiler(capsys, monkeypatch):
    """The page shows excerpts of what its examples print, in their order; "..." stands for lines left out."""
    wide = target.Target("any", "", 64, 32, 48 << 10, 2 << 20, True)
    monkeypatch.setattr(target, "host", lambda: wide)
    page = (ROOT / "docs/compiler.md").read_text()
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(example, "compiler.md", "exec"), {"__name__": "__main__"})
    printed = iter(capsys.readouterr().out.splitlines())
    excerpts = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert len(excerpts) == 5
    for line in "".join(excerpts).splitlines():
        assert line == "..." or line in printed, f"compiler.md shows a line that is not printed there any more: {line}"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder with files as MNIST has them, the digits of the package inside: 8 x 8 pixels made 24 x 24 and framed."""
    for part, (x, y) in zip(("train", "t10k"), lf.datasets.digits.load(), strict=True):
        images = np.pad(np.kron(x, np.full((1, 3, 3), 15, np.uint8)), [(0, 0), (2, 2), (2, 2)])
        for name, magic, array in ((f"{part}-images-idx3", 2051, images), (f"{part}-labels-idx1", 2049, y)):
            header = struct.pack(f">I{array.ndim}I", magic, *array.shape)
            (tmp_path / f"{name}-ubyte").write_bytes(header + array.tobytes())
    monkeypatch.setenv("LAYERFLOW_MNIST", str(tmp_path))


# What a notebook sets in its cell "settings", made small: the test is of the cells, not of what the network learns.
BRIEF = {
    "mnist_cnn.ipynb": {"epochs": 2, "images": 300},
    "char_lstm.ipynb": {"epochs": 2, "characters": 9000},
    "sentiment.ipynb": {"epochs": 2},
    "autoencoder.ipynb": {"epochs": 3},
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook(path, small_mnist, tmp_path, monkeypatch, capsys):
    """Cell by cell; the format itself is checked by whoever opens it."""
    if "import matplotlib" in path.read_text():
        pytest.importorskip("matplotlib", reason="needs the extra `viz`")
        monkeypatch.setenv("MPLBACKEND", "Agg")
    shutil.copytree(ROOT / "notebooks/data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
            names.update(BRIEF.get(path.name, {}) if cell["id"] == "settings" else {})


def test_the_text_of_notebooks_is_small_and_its_origin_is_told():
    told = (ROOT / "notebooks/data/README.md").read_text()
    for path in (ROOT / "notebooks/data").iterdir():
        assert path.stat().st_size < 200_000, path
        assert path.name == "README.md" or f"## {path.name}\n" in told, path


def test_every_notebook_is_named_on_the_front_page():
    page = (ROOT / "README.md").read_text()
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in page, path.name


def test_the_cnn_notebook_shows_the_summary_of_the_guide():
    cells = {cell["id"]: cell for cell in json.loads((ROOT / "notebooks/mnist_cnn.ipynb").read_text())["cells"]}
    shown = "".join(cells["model"]["outputs"][0]["text"]).rstrip().split("\n")
    assert [line.rstrip() for line in shown] == SUMMARY.split("\n")
