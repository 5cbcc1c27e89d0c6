"""Pictures, by matplotlib (extra `viz`); without it a line says so and nothing is drawn."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS
from benchmarks.report import Book, plural

COLORS = {
    OURS: "#202020",
    "torch": "#d1495b",
    "torch-compile": "#e8a0a8",
    "jax": "#2e86ab",
    "keras-jax": "#8fc1d9",
    "keras-tf": "#e59500",
    "keras-tf-xla": "#f2cb82",
}


def pyplot() -> Any:
    """matplotlib.pyplot without a screen, or None."""
    try:
        importlib.import_module("matplotlib").use("agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        print('no picture: matplotlib is missing (pip install -e ".[viz]")')
        return None


def ratios(book: Book, path: Path) -> None:
    """How many times worse than layerflow each peer is, a row of dots for each quantity."""
    plt = pyplot()
    wanted = [line for line in book.lines() if line.path[0] not in ("predict_api", "process_mb")]
    lines = [line for line in wanted if any(book.compare(line, t) for t in book.threads)]
    if plt is None or not lines:
        return
    size = (5.2 * len(book.threads) + 2.5, 0.3 * len(lines) + 1.6)
    figure, axes = plt.subplots(1, len(book.threads), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, threads in zip(axes[0], book.threads, strict=True):
        for peer in book.peers:
            points = []
            for at, line in enumerate(lines):
                values = book.values(line, threads)
                if peer in values and OURS in values:
                    ratio = values[peer] / values[OURS]
                    points.append((1 / ratio if line.more_is_better else ratio, at))
            if points:
                style: dict[str, Any] = {"marker": "|", "s": 90} if peer == OURS else {"s": 30, "alpha": 0.9}
                axis.scatter(*zip(*points, strict=True), color=COLORS[peer], label=peer, zorder=3, **style)
        axis.axvline(1, color=COLORS[OURS], linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}x")
        axis.set_title(plural(threads), fontsize=10)
        axis.grid(axis="both", color="#e4e4e4", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(lines)), [f"{line.workload} {line.what}" for line in lines], fontsize=8)
    axes[0][0].invert_yaxis()
    figure.supxlabel("times as slow (or large) as layerflow", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
