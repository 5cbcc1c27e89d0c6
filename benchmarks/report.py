"""Results as Markdown: a line for each quantity, a column for each peer, and the ratio to the fastest other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import workloads
from benchmarks.peers import OURS

DISTURBED = 0.08  # share of the CPUs taken by others above which a run counts as disturbed
# Lines for each number of threads, or once.
ONCE = ("cold_s", "warm_s", "train_mb", "warm_train_mb", "process_mb")


@dataclasses.dataclass(frozen=True)
class Line:
    """A quantity of a workload: where it stands in a result."""

    workload: str
    what: str
    unit: str
    path: tuple[str, ...]
    more_is_better: bool = False

    @property
    def title(self) -> str:
        return f"{workloads.WORKLOADS[self.workload]['title']}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A line's ratio: how many times better layerflow is than the best of the others."""

    ratio: float
    other: str


class Book:
    """Results by peer, workload and threads."""

    def __init__(self, book: dict[str, Any]):
        self.machine, self.cells, self.missing = book["machine"], book["cells"], book.get("missing", {})
        keys = [key.split("/") for key in self.cells]
        self.peers = list(dict.fromkeys(peer for peer, _, _ in keys))
        self.threads = sorted({int(threads) for _, _, threads in keys})
        self.workloads = [w for w in workloads.WORKLOADS if any(key[1] == w for key in keys)]

    def runs(self, peer: str, workload: str, threads: int) -> list[dict[str, Any]]:
        return [r for r in self.cells.get(f"{peer}/{workload}/{threads}", []) if "error" not in r]

    def value(self, peer: str, line: Line, threads: int) -> float | None:
        """The median over the processes, None if there is no result."""
        found = []
        for run in self.runs(peer, line.workload, threads):
            value: Any = run
            for key in line.path:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                found.append(value)
        return median(found) if found else None

    def values(self, line: Line, threads: int) -> dict[str, float]:
        found = {peer: self.value(peer, line, threads) for peer in self.peers}
        return {peer: value for peer, value in found.items() if value is not None}

    def compare(self, line: Line, threads: int) -> Comparison | None:
        values = self.values(line, threads)
        ours = values.pop(OURS, None)
        if not values or ours is None:
            return None
        other = (max if line.more_is_better else min)(values, key=lambda peer: values[peer])
        return Comparison(ours / values[other] if line.more_is_better else values[other] / ours, other)

    def lines(self) -> list[Line]:
        """What the workloads measure, in the order of the tables."""
        names, found = self.workloads, []
        found += [Line(w, "train step", "µs", ("train", "median")) for w in names]
        for key, call in (("predict", ""), ("predict_api", ", highest-level call")):
            for w in names:
                for n in workloads.WORKLOADS[w]["predict"]:
                    rows = "1 row" if n == 1 else f"{n} rows"
                    found.append(Line(w, f"predict {rows}{call}", "µs", (key, str(n), "median")))
        fits = [w for w in names if "fit" in workloads.WORKLOADS[w]]
        found += [Line(w, "fit, highest-level call", "rows/s", ("fit",), True) for w in fits]
        found += [Line(w, "fit, fastest loop", "rows/s", ("fit_fast",), True) for w in fits]
        found += [Line(w, "cold start to first step", "s", ("cold_s",)) for w in names]
        found += [Line(w, "warm start to first step", "s", ("warm_s",)) for w in names]
        found += [Line(w, "peak memory of training", "MB", ("train_mb",)) for w in names]
        found += [Line(w, "peak memory of training, warm start", "MB", ("warm_train_mb",)) for w in names]
        found += [Line(w, "peak memory of the process", "MB", ("process_mb",)) for w in names]
        return [line for line in found if any(self.values(line, t) for t in self.threads)]


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= 1.05 else f"{ratio:.2f}x"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, rule, *rows))


def grid(book: Book, threads: int) -> str:
    """All lines of one number of threads; the best value of a line is bold."""
    rows = []
    for line in book.lines():
        values = book.values(line, threads)
        if not values:
            continue
        best = (max if line.more_is_better else min)(values.values())
        shown = [number(values[p]) if p in values else "-" for p in book.peers]
        for at, peer in enumerate(book.peers):
            if values.get(peer) == best and len(values) > 1:
                shown[at] = f"**{shown[at]}**"
        against = book.compare(line, threads)
        ratio = f"{times(against.ratio)} ({against.other})" if against else "-"
        rows.append([f"{line.workload} {line.what}, {line.unit}", *shown, ratio])
    return table(["", *book.peers, f"{OURS} is better"], rows)


def ratios(book: Book) -> str:
    """How many times better than the best of the others: a line for each quantity, a column for each thread count."""
    rows = []
    for line in book.lines():
        if line.path[0] == "predict_api":
            continue
        threads = book.threads[:1] if line.path[0] in ONCE else book.threads
        found = [book.compare(line, t) for t in threads]
        if any(found):
            cells = [f"{times(c.ratio)} ({c.other})" if c else "-" for c in found]
            rows.append([line.title, *cells, *["-"] * (len(book.threads) - len(cells))])
    text = table(["workload", *map(plural, book.threads)], rows)
    return f"{text}\n{provenance(book)}\n"


def plural(threads: int) -> str:
    return f"{threads} thread" + "s" * (threads > 1)


def versions(book: Book) -> str:
    found: dict[str, str] = {}
    for runs in book.cells.values():
        for run in runs:
            found.update(run.get("versions", {}))
    return ", ".join(f"{name} {version}" for name, version in found.items())


def provenance(book: Book) -> str:
    """Which run the numbers are from."""
    m = book.machine
    return f"Run of {m['date']} on {m['cpu']}, {m['cores']} cores, {m['system']}; {versions(book)}."


def parity(book: Book) -> str:
    """Whether the peers compute the same: losses of the first steps and predictions against the median peer."""
    rows, wrong = [], 0
    for t, w in ((t, w) for t in book.threads for w in book.workloads):
        for label, limit, series in checked(book, w, t):
            found = deviations(series)
            off = [peer for peer, by in found.items() if by > limit]
            wrong += len(off)
            worst = max(found, key=lambda peer: found[peer])
            shown = f"{found[worst]:.2g} ({worst})"
            rows.append([f"{w} {label}", plural(t), f"{limit:g}", shown, f"**no: {', '.join(off)}**" if off else "yes"])
    head = ["", "", "may differ by", "largest difference", "the same"]
    return f"Relative differences from the median peer; {wrong} out of tolerance.\n\n{table(head, rows)}"


def checked(book: Book, workload: str, threads: int) -> list[tuple[str, float, dict[str, list[float]]]]:
    """(what, how far it may differ, its values by peer) for whatever at least two peers have."""
    spec = workloads.WORKLOADS[workload]
    first: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    for peer in book.peers:
        for run in book.runs(peer, workload, threads)[:1]:
            losses[peer] = run.get("losses", [])[: None if spec["parity"] else 1]
            for size in map(str, spec["predict"][:1]):
                first[peer] = run.get("predict", {}).get(size, {}).get("check", [])
    series = [("losses" if spec["parity"] else "first loss, with dropout", spec["parity"] or 0.05, losses)]
    series.append(("predictions", 1e-3, first))
    values = [(label, limit, {p: v for p, v in found.items() if v}) for label, limit, found in series]
    return [entry for entry in values if len(entry[2]) > 1]


def deviations(series: dict[str, list[float]]) -> dict[str, float]:
    """For each peer the largest relative difference from the median of all, or of two peers from the other one.

    What is no number differs infinitely.
    """
    found = {}
    for peer, own in series.items():
        others = [s for p, s in series.items() if p != peer] if len(series) == 2 else list(series.values())
        found[peer] = 0.0
        for a, *against in zip(own, *others, strict=False):
            middle = median([b for b in against if math.isfinite(b)] or [math.nan])
            off = abs(a - middle) / max(abs(middle), 1e-9)
            found[peer] = max(found[peer], off if math.isfinite(off) else math.inf)
    return found


def troubles(book: Book) -> str:
    notes = [f"- {peer} is left out, it does not start: {why[:300]}" for peer, why in book.missing.items()]
    for key, runs in book.cells.items():
        for run in runs:
            if "error" in run:
                notes.append(f"- {key}: {run['error'].splitlines()[-1][:300]}")
            notes += [f"- {key}, {part}: {text[:300]}" for part, text in run.get("errors", {}).items()]
            if run.get("other_load", 0) > DISTURBED:
                counted = "; CPU time was counted, but caches were shared" if run["clock"] == "cpu" else ""
                notes.append(f"- {key}: other processes took {run['other_load']:.0%} of the CPUs{counted}")
    return "\n".join(dict.fromkeys(notes)) or "None."


def footprint(book: Book) -> str:
    rows = []
    for peer in book.peers:
        runs = [r for w in book.workloads for t in book.threads for r in book.runs(peer, w, t)]
        if runs:
            rows.append([peer, f"{median(r['import_s'] for r in runs):.2f}", number(runs[0].get("disk_mb", 0))])
    return table(["peer", "import, s", "installed, MB"], rows)


def tables(book: Book, heading: str) -> str:
    """Everything that was measured, under headings that begin with `heading`."""
    parts = []
    for t in book.threads:
        counted = any(r["clock"] == "cpu" for p in book.peers for w in book.workloads for r in book.runs(p, w, t))
        note = "Times are CPU time of the pinned process.\n\n" if counted else ""
        parts.append(f"{heading} {plural(t).capitalize()}\n\n{note}{grid(book, t)}")
    parts.append(f"{heading} Footprint\n\n{footprint(book)}")
    parts.append(f"{heading} Do they compute the same?\n\n{parity(book)}")
    parts.append(f"{heading} Failures and disturbed runs\n\n{troubles(book)}\n")
    return "\n".join(parts)


def markdown(book: Book) -> str:
    parts = [
        f"# Results\n\nWritten by `python -m benchmarks`.  {provenance(book)}\n",
        "Medians.  The last column: how many times better layerflow is than the best of the others, which it names.\n",
        "".join(f"- {w}: {workloads.WORKLOADS[w]['title']}\n" for w in book.workloads),
        "![Ratios](results.png)\n",
        tables(book, "##"),
    ]
    return "\n".join(parts)


def insert(path: Path, texts: dict[str, str]) -> None:
    """Puts texts by name between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` that a file has.

    Raises:
        ValueError: the file has such lines for none of the names.
    """
    page, found = path.read_text(), False
    for name, text in texts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, opened, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if opened and closed:
            page, found = f"{before}{begin}{text}{end}{after}", True
    if not found:
        names = " or ".join(f"<!-- {name}: begin --> and <!-- {name}: end -->" for name in texts)
        raise ValueError(f"{path} has no lines {names}")
    path.write_text(page)
