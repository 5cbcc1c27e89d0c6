"""The examples of README and docs, and the notebooks, run as they stand there."""

import json
import re
from pathlib import Path

import pytest

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


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook(path, tmp_path, monkeypatch, capsys):
    """Cell by cell; the format itself is checked by whoever opens it."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
