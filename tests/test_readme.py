"""The README's examples and the notebooks run as they stand there."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_has_examples_and_commands():
    assert len(EXAMPLES) >= 2
    text = (ROOT / "README.md").read_text()
    assert all(f"<!-- ci: {name} -->\n```sh\n" in text for name in ("demo", "tests"))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook(path, tmp_path, monkeypatch, capsys):
    """Cell by cell; the format itself is checked by whoever opens it."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}:{cell['id']}", "exec"), names)
