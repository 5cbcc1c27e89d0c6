"""The roofline picture: how fast each kernel is beside what the core and its memory allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plot
from benchmarks.kernels import ATTENTION, DIRECT, GEMM, LOOP, WINOGRAD

COLORS = {GEMM: "#2e86ab", DIRECT: "#e59500", WINOGRAD: "#d1495b", LOOP: "#6a994e", ATTENTION: "#7b5ea7"}
UPDATES = "#8fc1d9"
WIDE = (0.5, 1000)  # FLOP/byte at least shown
TICKS = (5, 10, 20, 50, 100, 200, 500)


def draw(peaks: Any, sections: list[Any], path: Path) -> None:
    """A panel for each step: filled dots in the step, rings when repeated; the area of a dot is its share of time."""
    plt = plot.pyplot()
    if plt is None or not sections:
        return
    columns = min(3, len(sections))
    rows = -(-len(sections) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.4 * rows), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(sections) :]:
        axis.set_visible(False)
    for axis, section in zip(axes.flat, sections, strict=False):
        _roof(axis, peaks)
        _dots(axis, section)
        axis.set_title(section.title, fontsize=10)
        axis.grid(color="#e4e4e4", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    _legend(figure, plt)
    figure.supxlabel("FLOP per byte of the arrays read and written", fontsize=9)
    figure.supylabel("GFLOP/s", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _roof(axis: Any, peaks: Any) -> None:
    """The FMA peak, and the slopes that memory and the second-level cache allow."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    intensity = np.geomspace(*WIDE, 200)
    for level, rate in peaks.rates.items():
        axis.plot(intensity, np.minimum(peaks.gflops, rate * intensity), color="#909090", linewidth=1, zorder=1)
        at = 1.3 * WIDE[0]
        axis.annotate(level, (at, rate * at), fontsize=7, color="#606060", xytext=(8, -4), textcoords="offset points")
    axis.set_yticks(TICKS, map(str, TICKS), fontsize=8)
    axis.set_yticks([], minor=True)
    axis.set_ylim(top=1.2 * max(peaks.gflops, TICKS[0]))
    axis.axhline(peaks.gflops, color="#202020", linewidth=1, zorder=1)


def _dots(axis: Any, section: Any) -> None:
    for timing in section.timings:
        if timing.method:
            color = UPDATES if timing.updates else COLORS[timing.method]
            at, size = timing.flops / timing.moved, 12 + 300 * timing.seconds / section.total
            axis.scatter(
                at, timing.flops / timing.seconds / 1e9, s=size, color=color, alpha=0.85, zorder=3, linewidth=0
            )
            axis.scatter(at, timing.flops / timing.repeated / 1e9, s=14, facecolor="none", edgecolor=color, zorder=4)


def _legend(figure: Any, plt: Any) -> None:
    kinds = {"GEMM": COLORS[GEMM], "GEMM with update of weights": UPDATES}
    kinds |= {"direct convolution": COLORS[DIRECT], "Winograd (its own multiply-adds)": COLORS[WINOGRAD]}
    kinds |= {"loop over time": COLORS[LOOP], "attention": COLORS[ATTENTION]}
    shape: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6}
    handles = [plt.Line2D([], [], color=color, label=label, **shape) for label, color in kinds.items()]
    handles.append(plt.Line2D([], [], color="#404040", label="repeated at once", fillstyle="none", **shape))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), frameon=False, fontsize=8)
