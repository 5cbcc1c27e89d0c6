"""The kernels of training steps beside the machine's peaks: `python -m benchmarks kernels`, see README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from typing import Any

from benchmarks import kernels, layerflow_peer, machine, options, peaks, report, roofline, workloads
from benchmarks.kernels import ATTENTION, DIRECT, GEMM, LOOP, WINOGRAD, Timing
from benchmarks.report import DISTURBED, number, table
from layerflow import config
from layerflow.jit import target

STEPS = ["W2", "W3", "W4", "W6", "W7"]  # those that take long enough to look into
SMALL = 0.01  # share of a step below which a kernel is not counted in the summary


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What one core can do: 1e9 floating-point operations a second, and GB/s read from each level."""

    gflops: float
    rates: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Section:
    """A workload's training step, compiled with Winograd's algorithm where that pays, or without it."""

    workload: str
    winograd: bool
    step: float  # seconds of a whole step
    other_load: float  # share of the core that other processes took meanwhile
    timings: list[Timing]

    @property
    def title(self) -> str:
        return self.workload if self.winograd else f"{self.workload}, Winograd off"

    @property
    def total(self) -> float:
        return sum(t.seconds for t in self.timings)


@dataclasses.dataclass(frozen=True)
class Family:
    """Kernels of one kind, with how fast they are together and the slowest of them, as shares of the FMA peak."""

    name: str
    members: list[Timing]
    peak: float

    def share(self, seconds: str = "seconds", flops: str = "flops") -> float:
        done, spent = (sum(getattr(t, key) for t in self.members) for key in (flops, seconds))
        return done / spent / 1e9 / self.peak

    @property
    def lowest(self) -> float:
        return min(Family("", [t], self.peak).share() for t in self.members)


def family_of(timing: Timing) -> str:
    """The line of the summary that a kernel belongs to; "" for none."""
    if timing.method == GEMM:
        return "GEMM with the update of the weights" if timing.updates else "GEMM without an update"
    if timing.method == DIRECT:
        return "direct 3x3" if timing.sizes.startswith("3x3,") else "direct, other windows"
    return {WINOGRAD: "Winograd F(4x4, 3x3)", LOOP: "loops over time", ATTENTION: "attention"}.get(timing.method, "")


def families(section: Section, peak: float) -> list[Family]:
    found: dict[str, list[Timing]] = {}
    for timing in section.timings:
        if timing.method and timing.seconds >= SMALL * section.total:
            found.setdefault(family_of(timing), []).append(timing)
    return [Family(name, members, peak) for name, members in sorted(found.items())]


# --- measuring --------------------------------------------------------------------------


def measure(name: str, winograd: bool, seconds: float) -> Section:
    spec, before = workloads.get(name), config.winograd()
    config.set_winograd("auto" if winograd else False)
    try:
        model = layerflow_peer.Peer(1).model(spec, workloads.init_weights(spec))
        profiler = kernels.Profiler(model, workloads.batches(spec))
        cpus, start = sorted(os.sched_getaffinity(0)), time.time()
        others = machine.busy_seconds(cpus) - time.process_time()
        step, timings = profiler.step_seconds(seconds / 4), profiler.timings(seconds)
        others = machine.busy_seconds(cpus) - time.process_time() - others
        return Section(name, winograd, step, max(0.0, others / (time.time() - start)), timings)
    finally:
        config.set_winograd(before)


def measure_all(names: list[str], seconds: float) -> tuple[Peaks, list[Section]]:
    core, sections = peaks.Machine(), []
    levels = {"memory": peaks.MEMORY_BYTES, "L2": target.host().l2_bytes // 2}
    rates = {level: core.read_rate(size) for level, size in levels.items()}
    for name in names:
        has_images = any(described["kind"] == "conv" for described in workloads.WORKLOADS[name]["layers"])
        for winograd in (True, False) if has_images else (True,):
            sections.append(measure(name, winograd, seconds))
            core.refresh()
    return Peaks(core.gflops, rates), sections


# --- as Markdown ------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{share:.0%}"


def summary(found: Peaks, sections: list[Section]) -> str:
    rows = []
    for section in sections:
        for family in families(section, found.gflops):
            direct = percent(family.share(flops="direct_flops")) if family.members[0].method == WINOGRAD else ""
            shares = family.share(), family.lowest, family.share("repeated")
            spent = percent(sum(t.seconds for t in family.members) / section.total)
            rows.append([section.title, family.name, str(len(family.members)), spent, *map(percent, shares), direct])
    head = ["step", "kernels", "number", "of the step", "of FMA peak", "lowest", "repeated", "as if direct"]
    return table(head, rows)


def row(timing: Timing, section: Section, peak: float) -> list[str]:
    rate = timing.flops / timing.seconds / 1e9
    return [
        timing.kernel.split("_")[0],
        f"{timing.method}: {' and '.join(timing.passes)}, {timing.sizes}",
        timing.fused,
        f"{timing.seconds * 1e3:.3f}",
        percent(timing.seconds / section.total),
        f"{timing.direct_flops / 2e6:,.1f}",
        f"{rate:.1f}",
        percent(rate / peak),
        percent(timing.flops / timing.repeated / 1e9 / peak),
        f"{timing.direct_flops / timing.seconds / 1e9:.1f}",
        number(timing.moved / 1e6),
        number(timing.flops / timing.moved),
    ]


HEAD = [
    "", "what", "fused into it", "ms", "of the step", "direct multiply-adds, 1e6", "GFLOP/s", "of FMA peak",
    "repeated", "direct GFLOP/s", "MB", "FLOP/byte",
]  # fmt: skip


def details(section: Section, peak: float) -> str:
    rows = [row(t, section, peak) for t in section.timings if t.method]
    others = [t for t in section.timings if not t.method]
    spent, moved = sum(t.seconds for t in others), sum(t.moved for t in others)
    about = [f"{len(others)} others: maps, sums, copies, transforms of weights, updates", ""]
    rows.append(["", *about, f"{spent * 1e3:.3f}", percent(spent / section.total), *[""] * 5, number(moved / 1e6), ""])
    took = f"Kernels together {section.total * 1e3:.2f} ms, the whole step (CPU time) {section.step * 1e3:.2f} ms."
    return f"## {section.title}\n\n{workloads.WORKLOADS[section.workload]['title']}. {took}\n\n{table(HEAD, rows)}"


NOTES = """
Shares of the peak count the multiply-adds that the method needs; what is fused into a kernel takes time and counts for
nothing, so a product with an update of the weights is no pure product. *Of FMA peak*: in the step, with the caches as
the kernels before leave them. *Repeated*: each call repeated at once, on data that are in the cache if they fit.
*Direct* and *as if direct*: the multiply-adds of the plain algorithm over the same time; Winograd's needs a quarter of
them, so this can be more than the peak. *Lowest*: of the kernels of that kind, in the step. *MB*: every array read or
written, once. Kernels below {small:.0%} of their step are left out of the first table.
Times are sums over calls, each the best of several steps.
"""


def overview(found: Peaks, sections: list[Section], about: dict[str, str]) -> str:
    """What was measured where, and the table of kinds of kernels."""
    rates = ", ".join(f"{rate:.1f} GB/s read from {level}" for level, rate in found.rates.items())
    head = (
        f"Run of {about['date']} on one core of {about['cpu']}, {about['system']}: FMA peak {found.gflops:.1f} GFLOP/s "
        f"(float32), {rates}; measured.\n"
    )
    disturbed = [f"{s.title} ({percent(s.other_load)})" for s in sections if s.other_load > DISTURBED]
    note = f"\nOther processes took a part of the core: {', '.join(disturbed)}.\n" if disturbed else ""
    return f"{head}\n{summary(found, sections)}{NOTES.format(small=SMALL)}{note}"


def markdown(found: Peaks, sections: list[Section], about: dict[str, str]) -> str:
    head = "# Kernels\n\nWritten by `python -m benchmarks kernels`.\n"
    parts = [head, overview(found, sections, about), "![Roofline](kernels.png)\n"]
    return "\n".join([*parts, *(details(section, found.gflops) for section in sections)])


# --- the command ------------------------------------------------------------------------


def parsed(arguments: list[str]) -> argparse.Namespace:
    about = "Times the kernels of layerflow's training steps on one core and compares them with what the core can do."
    parser = argparse.ArgumentParser(prog="python -m benchmarks kernels", description=about)
    names = options.listed("workload", workloads.WORKLOADS)
    parser.add_argument("--workloads", type=names, default=STEPS, help=f"default: {','.join(STEPS)}")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each step that is profiled (default: 5)")
    about = "core to run on (default: the first that is allowed)"
    parser.add_argument("--cpu", type=int, default=min(os.sched_getaffinity(0)), help=about)
    options.add_output(parser, "kernels")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    chosen = parsed(arguments)
    os.sched_setaffinity(0, [chosen.cpu])
    config.set_cache(False)  # modules full of clocks are of no use to anyone else
    found, sections = measure_all(chosen.workloads, chosen.seconds)
    about = machine.description()
    text = markdown(found, sections, about)
    chosen.out.mkdir(parents=True, exist_ok=True)
    book: dict[str, Any] = {"machine": about, "peaks": dataclasses.asdict(found)}
    book["sections"] = [dataclasses.asdict(section) for section in sections]
    (chosen.out / "kernels.json").write_text(json.dumps(book, indent=1))
    (chosen.out / "kernels.md").write_text(text)
    for file in chosen.update:
        report.insert(file, {"kernels": overview(found, sections, about)})
    roofline.draw(found, sections, chosen.out / "kernels.png")
    print(text)
    print(f"wrote {chosen.out / 'kernels.md'}")
