"""Imports point down: the order of the modules is checked, and who may import a compiler."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import layerflow

PACKAGE = Path(layerflow.__file__).parent

# Low to high; modules on one line do not depend on each other except inside one folder.
ORDER: list[list[str]] = [
    ["errors", "config", "pages"],
    ["absent"],
    ["registry"],
    ["graph"],
    ["activations", "initializers", "regularizers", "constraints"],
    ["fused", "image", "linalg", "signal"],
    ["weighted_losses"],
    ["losses"],
    ["metrics"],
    ["optimizers"],
    ["train"],
    ["jit"],
    ["layers"],
    ["io"],
    ["data", "callbacks", "datasets"],
    ["models"],
    ["inspect"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
GRAPH_ORDER = [
    "shapes",
    "symbolic",
    "numerics",
    "tensor",
    "variable",
    "ir",
    "recall",
    "ops",
    "creation",
    "memory",
    "random",
    "trace",
    "autodiff",
    "execution",
    "forms",
    "closures",
]


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    """(dotted name without the package, syntax tree) of every module."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__") or "__init__"
        found.append((name, ast.parse(path.read_text())))
    return found


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of everything imported, functions included; names under TYPE_CHECKING do not count."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            found |= imported(node)
    return found


def within(names: set[str]) -> set[str]:
    """The layerflow modules among the imports, without the package's name; the package itself is "__init__"."""
    own = {name for name in names if name.split(".")[0] == "layerflow"}
    existing = {name for name, _ in modules()}
    found = set()
    for name in own:
        parts = name.split(".")[1:]
        while parts and ".".join(parts) not in existing:
            parts = parts[:-1]
        found.add(".".join(parts) or "__init__")
    return found


def rank(name: str) -> int:
    top = name.split(".")[0]
    ranks = [i for i, level in enumerate(ORDER) if top in level]
    assert ranks, f"layerflow.{name}: not in the order of modules; give it its place in this test"
    return ranks[0]


def test_imports_point_down():
    wrong = []
    for name, tree in modules():
        for other in within(imported(tree)):
            same_folder = other.split(".")[0] == name.split(".")[0]
            if not same_folder and rank(other) >= rank(name):
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_graph_imports_point_down():
    wrong = []
    for name, tree in modules():
        if name.startswith("graph."):
            own = GRAPH_ORDER.index(name.split(".")[1])
            for other in within(imported(tree)):
                if other.startswith("graph.") and GRAPH_ORDER.index(other.split(".")[1]) > own:
                    wrong.append(f"{name} imports {other}")
    assert not wrong


def test_layers_and_nouns_never_import_the_compiler():
    allowed = {"models.step", "models.training", "inspect", "cli", "__init__", "jit"}
    wrong = [
        f"{name} imports {other}"
        for name, tree in modules()
        for other in within(imported(tree))
        if other.split(".")[0] == "jit" and name not in allowed and name.split(".")[0] not in allowed
    ]
    assert not wrong


def test_only_layerflow_jit_imports_a_compiler():
    wrong = [
        name
        for name, tree in modules()
        if {other.split(".")[0] for other in imported(tree)} & {"numba", "llvmlite"} and not name.startswith("jit.")
    ]
    assert not wrong


def test_nothing_imports_scipy_or_a_peer():
    peers = {"scipy", "torch", "jax", "tensorflow", "keras", "sklearn"}
    wrong = [name for name, tree in modules() if {other.split(".")[0] for other in imported(tree)} & peers]
    assert not wrong


def test_import_brings_no_compiler_and_no_progress_bar():
    unwanted = ("numba", "llvmlite", "tqdm", "asyncio", "argparse")
    code = f"import sys, layerflow; print([m for m in {unwanted!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_files_and_functions_stay_small():
    long_files = [str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if p.read_text().count("\n") > 400]
    long_functions = [
        f"{name}.{node.name}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _body_lines(node) > 40
    ]
    assert not long_files
    assert not long_functions


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
